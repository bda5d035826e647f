//! What `replay` and `report` print and how.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, CommandFactory};

use super::series::{Form, Series};
use super::values::{by, ends, every, format, sort};
use super::{Cli, Who};
use crate::meter::Cidr;
use crate::period::Every;
use crate::report::{By, Sort};
use crate::traffic::End;

/// What is printed and how.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct Output {
    /// Only from this time on: 2026-03-29, '2026-03-29 14:00', RFC 3339, today, 'yesterday 22:00', this-month,
    /// last-week, 7d, 36h (before now)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Lines for every hour, day, week or month, or for all of it in one (total), with where each begins and how
    /// complete it is [default: all of it, without these columns]
    #[arg(long, value_name = "PERIOD", value_parser = every())]
    pub every: Option<Periods>,
    /// The day on which months begin, or a shorter month's last [default: 1]
    #[arg(long, value_name = "DAY", value_parser = clap::value_parser!(u32).range(1..=31))]
    pub month_start: Option<u32>,
    /// Time zone in which dates are read and periods begin (IANA name) [default: the system's]
    #[arg(long, value_name = "ZONE")]
    pub tz: Option<String>,
    /// A row per address, per source and destination, or per member of the ZeroTier network
    #[arg(long, value_name = "WHAT", default_value = "address", value_parser = by())]
    pub by: By,
    /// Only this address or range, or external, multicast or other; by pair as source or destination; repeatable
    #[arg(long, value_name = "ADDR", value_parser = ends)]
    pub addr: Vec<Ends>,
    /// What decides the order
    #[arg(long, value_name = "KEY", default_value = "total", value_parser = sort())]
    pub sort: Sort,
    /// Only the first N addresses or pairs of a period; the others are summed in a last row 'rest'
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// How to print; html is a page to send or print, in one file [default: table on a terminal, csv otherwise]
    #[arg(long, value_name = "FORMAT", value_parser = format())]
    pub format: Option<Form>,
    /// Print to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// No progress, summary or warnings; errors still show, and what --overlap skip left out
    #[arg(long)]
    pub quiet: bool,
    /// What goes with `--format openmetrics`.
    #[command(flatten)]
    pub series: Series,
    /// Only what this member carried: its node id, or its name; repeatable
    #[arg(long, value_name = "NODE-OR-NAME", help_heading = "Members")]
    pub member: Vec<String>,
    /// Who members are.
    #[command(flatten)]
    pub who: Who,
}

impl Output {
    /// How long periods are, if there are any.
    pub fn every(&self) -> Option<Every> {
        match self.every? {
            Periods::Total => None,
            Periods::Every(Every::Month { .. }) => Some(Every::Month { start: self.month_start() }),
            Periods::Every(every) => Some(every),
        }
    }

    /// The day on which months begin.
    pub fn month_start(&self) -> u32 {
        self.month_start.unwrap_or(1)
    }
}

/// That months are what is to begin on some day.
pub(super) fn check(matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some((_, verb)) = matches.subcommand() else { return Ok(()) };
    let months = matches!(verb.try_get_one("every"), Ok(Some(Periods::Every(Every::Month { .. }))));
    match verb.try_get_one::<u32>("month_start") {
        Ok(Some(_)) if !months => {
            Err(Cli::command().error(ErrorKind::MissingRequiredArgument, "--month-start needs --every month"))
        }
        _ => Ok(()),
    }
}

/// The periods of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Periods {
    /// One, which is all.
    Total,
    /// Each of the same kind.
    Every(Every),
}

/// Ends that are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// The addresses of a range.
    Range(Cidr),
    /// One that is no address.
    Pseudo(End),
}
