//! Flags and help: strings become values here. Nothing acts.

mod db;
mod members;
mod output;
mod quotas;
mod series;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::meter::{Cidr, Limits, Scope, Settings, Tee};
use crate::packet::Mac;
use crate::time::Span;
use crate::traffic::{Origin, Overlap};
use crate::web::client::Url;
use crate::zerotier::{NodeId, rules};
use values::{bucket, buffer, idle, limit, origin, overlap, retain, rules_format, sides, speed, tee, window};

pub use db::{Db, Forget, InfoFormat};
pub use members::Who;
pub use output::{Ends, Output, Periods};
pub use quotas::{QuotaCheck, QuotaFile, QuotaVerb};
pub use series::{Form, Series};

/// Counts what every client of a ZeroTier network sends and receives, from one observer's tee'd packets.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  ztmon rules --observer 89e92ceee5         the flow rule that sends copies to this node
  ztmon serve                               capture, count, and serve http://localhost:9123/metrics
  ztmon replay capture.pcap                 what capture files hold
  ztmon report --top 10                     what the database holds
  ztmon quota check --quotas quotas.toml    whether somebody has moved too much";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Capture on the observer, count, and serve the totals to Prometheus
    Serve(Box<Serve>),
    /// Count what capture files hold
    Replay(Box<Replay>),
    /// Print totals from the database
    Report(Report),
    /// Say how quotas stand
    #[command(subcommand, arg_required_else_help = false)]
    Quota(QuotaVerb),
    /// Print the flow rule that sends copies to the observer
    Rules(Rules),
    /// Look after the database: info, check, repair, merge, forget
    #[command(subcommand, arg_required_else_help = false, after_help = db::EXAMPLES)]
    Db(Db),
}

/// What counts, and what is a copy.
#[derive(Debug, Args)]
#[command(next_help_heading = "Counting")]
pub struct Counting {
    /// Copies that the tee rule sends: of sender and receiver, of one of them, or no tee at all
    #[arg(long, value_name = "SIDES", default_value = "both", value_parser = tee())]
    pub tee: Tee,
    /// The tee rule's length in bytes
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..))]
    pub tee_bytes: u16,
    /// How far apart the copies of a packet may be: 2s, 500ms, at most an hour
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = window)]
    pub pair_window: Span,
    /// Addresses that are clients; repeatable [default: private, shared and link-local ranges]
    #[arg(long, value_name = "CIDR")]
    pub scope: Vec<Cidr>,
    /// Count a packet only if both its ends are clients
    #[arg(long)]
    pub both_ends: bool,
    /// The observer's own MAC, whose traffic is not tee'd [serve: the device's, on Linux]
    #[arg(long, value_name = "MAC")]
    pub observer_mac: Option<Mac>,
    /// Look only at frames that match this libpcap filter (pcap-filter(7))
    #[arg(long, value_name = "BPF")]
    pub filter: Option<String>,
    /// Addresses told apart; later ones count as 'other'
    #[arg(long, value_name = "N", default_value_t = Limits::default().addresses as u32, value_parser = limit())]
    pub max_addresses: u32,
    /// Pairs told apart; later ones count as 'other,other'
    #[arg(long, value_name = "N", default_value_t = Limits::default().pairs as u32, value_parser = limit())]
    pub max_pairs: u32,
}

impl Counting {
    /// The meter's settings; `seed` is the key of its fingerprints.
    pub fn settings(&self, seed: u64) -> Settings {
        Settings {
            tee: self.tee,
            tee_bytes: self.tee_bytes,
            window: self.pair_window,
            scope: Scope::new(self.scope.clone()),
            both_ends: self.both_ends,
            observer: self.observer_mac,
            limits: Limits { addresses: self.max_addresses as usize, pairs: self.max_pairs as usize },
            seed,
        }
    }
}

/// `ztmon serve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ztmon serve                                            the first ZeroTier device
  ztmon serve --zerotier-device ztvaq2ysom --tee one     one device, a one-sided rule
  ztmon serve --source capture.pcap --speed max          a capture instead of a device; needs no privileges
  ztmon serve --controller https://api.zerotier.com --controller-token-file token
                                                         members' names from ZeroTier Central

Exit status: 0 stopped by SIGTERM or SIGINT, everything is committed; 1 something is not; 2 cannot start.")]
pub struct Serve {
    /// Where to serve HTTP; ':9123' is all addresses, IPv4 and IPv6
    #[arg(long, value_name = "ADDRESS", default_value = ":9123")]
    pub listen_address: String,
    /// Device to capture on; repeatable; 'all' for every ZeroTier device [default: the first]
    #[arg(long, value_name = "NAME", conflicts_with = "source")]
    pub zerotier_device: Vec<String>,
    /// Database file [default: $ZTMON_DB, else /var/lib/ztmon/ztmon.db if it exists, else ./ztmon.db]
    #[arg(long, value_name = "FILE")]
    pub db: Option<PathBuf>,
    /// Capture file that takes the device's place
    #[arg(long, value_name = "FILE")]
    pub source: Option<OsString>,
    /// How fast to play the source: times real time, or 'max'
    #[arg(long, value_name = "N", default_value = "1", value_parser = speed, requires = "source")]
    pub speed: Speed,
    /// What the kernel may buffer for each device: 64MiB, 512KiB, 1GiB
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = buffer, conflicts_with = "source")]
    pub buffer: i32,
    /// How long live history is kept: 400d, or 'forever'. Totals stay, and so does what was imported
    #[arg(long, value_name = "TIME", default_value = "400d", value_parser = retain)]
    pub retain: Retain,
    /// By how long history older than a week is kept: 15m, 30m or 60m; for good, when the database is made [default: 60m]
    #[arg(long, value_name = "LENGTH", value_parser = bucket())]
    pub bucket: Option<u32>,
    /// Addresses with counters of their own on /metrics; what others move meanwhile counts under end="other"
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub metrics_max_addresses: usize,
    /// Addresses without traffic for so long leave /metrics until they have some: 30d, 12h, 90m, 30s
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = idle)]
    pub metrics_idle: Span,
    /// Who members are.
    #[command(flatten)]
    pub who: Who,
    /// Ask a self-hosted controller, or ZeroTier Central, each minute who members are
    #[arg(long, value_name = "URL", requires = "controller_token_file", help_heading = "Members")]
    pub controller: Option<Url>,
    /// File with the token that the controller wants to hear
    #[arg(long, value_name = "FILE", requires = "controller", help_heading = "Members")]
    pub controller_token_file: Option<PathBuf>,
    /// Quotas, a TOML file, whose use shows on /metrics; read again when it changes (ztmon quota check --help)
    #[arg(long, value_name = "FILE", help_heading = "Quotas")]
    pub quotas: Option<PathBuf>,
    /// Time zone in which periods of quotas begin (IANA name) [default: the file's tz, else the system's]
    #[arg(long, value_name = "ZONE", requires = "quotas", help_heading = "Quotas")]
    pub tz: Option<String>,
    /// What counts.
    #[command(flatten)]
    pub counting: Counting,
}

/// `ztmon replay`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ztmon replay capture.pcap                               a table on a terminal, CSV in a pipe
  ztmon replay --by pair --top 20 day1.pcap.gz day2.pcap  several files are one history
  zstdcat old.zst | ztmon replay --format json -          from standard input
  ztmon replay --format openmetrics old.pcap > old.om      counters over time, to fill a Prometheus with
  ztmon replay --db /var/lib/ztmon/ztmon.db old*.pcap     add history to a database
  ztmon replay --db ztmon.db --overlap skip gap.pcap      only what serve did not see

Exit status: 0 all well; 1 damaged input, or some of the files failed; 2 nothing could be done.")]
pub struct Replay {
    /// Capture files: pcap or pcapng, plain, gzip or zstd; '-' is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<OsString>,
    /// Add what the files hold to this database
    #[arg(long, value_name = "FILE")]
    pub db: Option<PathBuf>,
    /// By how long history older than a week is kept: 15m, 30m or 60m; for good, when the database is made [default: 60m]
    #[arg(long, value_name = "LENGTH", value_parser = bucket(), requires = "db")]
    pub bucket: Option<u32>,
    /// What to do with times that the database has live already, and that would count twice: leave them out, or add
    /// them all the same [default: refuse the import]
    #[arg(long, value_name = "WHAT", value_parser = overlap(), requires = "db")]
    pub overlap: Option<Overlap>,
    /// What counts.
    #[command(flatten)]
    pub counting: Counting,
    /// What is printed.
    #[command(flatten)]
    pub output: Output,
}

/// `ztmon report`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ztmon report                                            all that was captured and imported
  ztmon report --origin live --since 2026-11-01 --tz UTC  captured live, from a date on
  ztmon report --every day --since this-month            day by day, quiet clients included
  ztmon report --every month --month-start 14 --tz Asia/Shanghai
  ztmon report --by pair --format csv > pairs.csv
  ztmon report --since 7d --format html --output week.html
  ztmon report --quotas quotas.toml                       how each quota stands (ztmon quota check --help)

Exit status: 0 all well; 1 of a quota nobody can tell; 2 nothing could be done.")]
pub struct Report {
    /// Database file [default: $ZTMON_DB, else /var/lib/ztmon/ztmon.db if it exists, else ./ztmon.db]
    #[arg(long, value_name = "FILE")]
    pub db: Option<PathBuf>,
    /// Captured live, imported by replay, or both
    #[arg(long, value_name = "ORIGIN", default_value = "all", value_parser = origin())]
    pub origin: Origins,
    /// How the quotas of this TOML file stand now, and where they lead, in place of totals
    #[arg(long, value_name = "FILE", conflicts_with_all = NOT_OF_QUOTAS)]
    pub quotas: Option<PathBuf>,
    /// What is printed.
    #[command(flatten)]
    pub output: Output,
}

/// A quota says itself who is meant and when.
const NOT_OF_QUOTAS: [&str; 10] =
    ["since", "until", "every", "month_start", "by", "addr", "member", "sort", "top", "step"];

/// `ztmon rules`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ztmon rules --observer 89e92ceee5
  ztmon rules --observer 89e92ceee5 --sides sender --format json

The JSON is a controller's whole rule set: posting it replaces the network's rules.")]
pub struct Rules {
    /// The observer's node id, ten hex digits (zerotier-cli info)
    #[arg(long, value_name = "NODE")]
    pub observer: NodeId,
    /// Who sends copies
    #[arg(long, value_name = "SIDES", default_value = "both", value_parser = sides())]
    pub sides: rules::Sides,
    /// How many bytes of each packet, 40 to 1381 [default: 128 for both sides, 64 for one]
    #[arg(long, value_name = "N")]
    pub bytes: Option<u32>,
    /// Rules language, or a self-hosted controller's JSON
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = rules_format())]
    pub format: rules::Format,
}

/// The origins of traffic to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origins {
    /// One of them.
    Only(Origin),
    /// All.
    All,
}

/// How fast `serve` plays a capture file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many times as fast as it was captured.
    Times(f64),
    /// As fast as it can be read.
    Max,
}

/// How long live history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    /// So long.
    Time(Span),
    /// Nothing is deleted.
    Forever,
}

/// What the arguments ask for.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Usage> {
    let arguments = with_two_dashes(arguments.into_iter().collect());
    let first = arguments.get(1).map(|first| first.to_string_lossy().into_owned());
    match first.as_deref() {
        None => Err(Usage::NoVerb(try_serve(&[]))),
        Some(flag) if flag.starts_with('-') && !["-h", "--help", "-V", "--version"].contains(&flag) => {
            Err(Usage::NoVerb(try_serve(&arguments[1..])))
        }
        Some(_) => checked(arguments).map_err(Usage::Clap),
    }
}

fn checked(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches_from(arguments)?;
    series::check(&matches)?;
    output::check(&matches)?;
    Cli::from_arg_matches(&matches)
}

/// What clap says of an error in several lines.
pub fn in_one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let said = text.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let said: Vec<&str> = said.map(str::trim).filter(|line| !line.is_empty()).collect();
    format!("{} (see --help)", said.join(" ").trim_start_matches("error: ").replace(" tip: ", "; "))
}

/// Why the arguments cannot be followed.
#[derive(Debug)]
pub enum Usage {
    /// No verb stands first; the line to try.
    NoVerb(String),
    /// Anything else, help and version included.
    Clap(clap::Error),
}

/// The exporter that ztmon succeeds took its flags with one dash.
fn with_two_dashes(arguments: Vec<OsString>) -> Vec<OsString> {
    let command = Cli::command();
    let flags: Vec<String> = command
        .get_subcommands()
        .flat_map(|verb| verb.get_subcommands().chain([verb]))
        .flat_map(|verb| verb.get_arguments())
        .filter_map(|argument| argument.get_long().map(str::to_owned))
        .chain(["help".to_owned(), "version".to_owned()])
        .collect();
    let mut literal = false;
    arguments
        .into_iter()
        .map(|argument| {
            literal |= argument == "--";
            let name = argument.to_str().and_then(|text| text.strip_prefix('-')).map(|text| text.split('=').next());
            match name {
                Some(Some(name)) if !literal && flags.iter().any(|flag| flag == name) => {
                    let mut longer = OsString::from("-");
                    longer.push(&argument);
                    longer
                }
                _ => argument,
            }
        })
        .collect()
}

fn try_serve(arguments: &[OsString]) -> String {
    let quoted = |argument: &OsString| {
        let text = argument.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@%+".contains(c);
        if !text.is_empty() && text.chars().all(plain) {
            text.into_owned()
        } else {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
    };
    let words = ["ztmon".to_owned(), "serve".to_owned()].into_iter().chain(arguments.iter().map(quoted));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Cli, Usage> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn long_flags_work_with_one_dash_too() {
        let cli = parsed("ztmon serve -listen-address :1 -zerotier-device=zt0 -both-ends").unwrap();
        let Command::Serve(serve) = cli.command else { panic!() };
        assert_eq!((serve.listen_address.as_str(), serve.counting.both_ends), (":1", true));
        assert_eq!(serve.zerotier_device, ["zt0"]);
    }

    #[test]
    fn what_follows_two_dashes_is_a_file() {
        let Command::Replay(replay) = parsed("ztmon replay -- -quiet -").unwrap().command else { panic!() };
        assert_eq!(replay.files, ["-quiet", "-"]);
    }

    #[test]
    fn a_call_without_a_verb_is_told_what_to_try() {
        let try_line = |line| match parsed(line) {
            Err(Usage::NoVerb(try_line)) => try_line,
            other => panic!("{other:?}"),
        };
        assert_eq!(try_line("ztmon"), "ztmon serve");
        assert_eq!(
            try_line("ztmon -listen-address :9123 --filter it's"),
            r"ztmon serve --listen-address :9123 --filter 'it'\''s'"
        );
        assert!(matches!(parsed("ztmon --help"), Err(Usage::Clap(_))));
    }

    #[test]
    fn errors_take_one_line() {
        let line = |arguments| match parsed(arguments) {
            Err(Usage::Clap(error)) => in_one_line(&error),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            line("ztmon replay --scope 10.0.0.1/8 x"),
            "invalid value '10.0.0.1/8' for '--scope <CIDR>': has host bits set; the network meant is 10.0.0.0/8 (see --help)"
        );
        assert_eq!(line("ztmon replay"), "the following required arguments were not provided: <FILE>... (see --help)");
        assert_eq!(
            line("ztmon replay --forma csv x"),
            "unexpected argument '--forma' found; a similar argument exists: '--format' (see --help)"
        );
    }
}
