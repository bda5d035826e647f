//! `--format openmetrics` and what goes with it: counters over time, in place of a report.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory};

use super::Cli;
use super::values::{label, step};
use crate::report::Format;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A report.
    Report(Format),
    /// The clients' counters over time, for Prometheus.
    OpenMetrics,
}

/// What `--format openmetrics` takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output as openmetrics")]
pub struct Series {
    /// Time from sample to sample, 1s to 1d [default: replay 15s; report as fine as the database is]
    #[arg(long, value_name = "TIME", value_parser = step)]
    pub step: Option<i64>,
    /// A label for all series, like job=ztmon; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
}

/// What series have no use for, and what nothing else has.
const OF_REPORTS: [&str; 7] = ["every", "month_start", "by", "addr", "member", "sort", "top"];
const OF_SERIES: [&str; 2] = ["step", "label"];

/// That no flag was given that the format does not know.
pub(super) fn check(matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some((_, verb)) = matches.subcommand() else { return Ok(()) };
    let is_series = matches!(verb.try_get_one("format"), Ok(Some(Form::OpenMetrics)));
    let (others, relation) = if is_series { (&OF_REPORTS[..], "does not go with") } else { (&OF_SERIES[..], "needs") };
    let given =
        |flag: &&&str| verb.ids().any(|id| id == **flag) && verb.value_source(flag) == Some(ValueSource::CommandLine);
    match others.iter().find(given) {
        None => Ok(()),
        Some(flag) => {
            let flag = flag.replace('_', "-");
            let text = format!("--{flag} {relation} --format openmetrics");
            Err(Cli::command().error(ErrorKind::ArgumentConflict, text))
        }
    }
}
