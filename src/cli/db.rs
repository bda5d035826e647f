//! What `ztmon db` takes.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use super::values::{bytes, info_format, overlap};
use crate::meter::Cidr;
use crate::traffic::Overlap;

pub(super) const EXAMPLES: &str = "Examples:
  ztmon db info                                     what is in it; also while serve runs
  ztmon db check                                    verify everything; also while serve runs
  ztmon db repair --output sound.db                 save what is sound
  ztmon db merge office.db home.db --output all.db  one database of several
  ztmon db forget --last-seen-before 2025-01-01     clients that are long gone

Exit status: 0 all well; 1 repair or merge left something out; 2 damaged, or nothing could be done.";

/// `ztmon db`.
#[derive(Debug, Subcommand)]
pub enum Db {
    /// Say what is in the database: its size, networks, history and imports; also while serve runs
    #[command(after_help = "Examples:
  ztmon db info
  ztmon db info --db history.db --imports
  ztmon db info --format json | jq '.networks[].live_bytes'

Exit status: 0 all well; 2 it is damaged, or cannot be read.")]
    Info {
        /// Database file [default: $ZTMON_DB, else /var/lib/ztmon/ztmon.db if it exists, else ./ztmon.db]
        #[arg(long, value_name = "FILE")]
        db: Option<PathBuf>,
        /// A table, or JSON
        #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = info_format())]
        format: InfoFormat,
        /// List the files that were imported; JSON always has them
        #[arg(long)]
        imports: bool,
    },
    /// Read all of the database and verify it; also while serve runs
    #[command(after_help = "Exit status: 0 it is sound; 2 it is damaged, or cannot be read.")]
    Check {
        /// Database file [default: $ZTMON_DB, else /var/lib/ztmon/ztmon.db if it exists, else ./ztmon.db]
        #[arg(long, value_name = "FILE")]
        db: Option<PathBuf>,
    },
    /// Save what is sound of a damaged database into a new file; the old one stays as it is
    #[command(after_help = "Examples:
  ztmon db repair --db /var/lib/ztmon/ztmon.db
  ztmon db repair --db ztmon.db --output sound.db

Exit status: 0 nothing was lost; 1 something was; 2 nothing could be saved.")]
    Repair {
        /// Database file [default: $ZTMON_DB, else /var/lib/ztmon/ztmon.db if it exists, else ./ztmon.db]
        #[arg(long, value_name = "FILE")]
        db: Option<PathBuf>,
        /// The new file [default: the old one's name and '.repaired']
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Make one new database of several, in which nothing counts twice; the old ones stay as they are
    #[command(after_help = "Examples:
  ztmon db merge office.db home.db --output all.db       networks or times of their own add up
  ztmon db merge observer1.db observer2.db --output one.db
  ztmon db merge live.db imports.db --output all.db --overlap skip

Of a network that several captured at one time, each bucket is taken from the one that saw more of it. An import counts
once, whichever have it. serve may run on the old ones meanwhile.

Exit status: 0 all well; 1 files that were imported together with some that another database has are left out;
2 nothing could be done, or one has imported what another has live and --overlap is not given.")]
    Merge {
        /// Database files
        #[arg(required = true, num_args = 2.., value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The new file
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// What to do with imports of times that another database has live, and that would count twice: leave them out,
        /// or add them all the same [default: refuse the merge]
        #[arg(long, value_name = "WHAT", value_parser = overlap())]
        overlap: Option<Overlap>,
    },
    /// Fold clients that nobody needs to tell apart into 'other'; stop serve first
    Forget(Forget),
}

/// How `ztmon db info` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InfoFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// `ztmon db forget`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ztmon db forget --addr 10.9.0.0/16 --less-than 10kB --dry-run   what spoofed addresses left behind
  ztmon db forget --last-seen-before 2025-01-01                   clients that are long gone

What is forgotten keeps its bytes in every report, as those of 'other'. On /metrics its counters disappear.
Exit status: 0 all well; 2 nothing could be done.")]
#[command(group = ArgGroup::new("which").required(true).multiple(true))]
pub struct Forget {
    /// Database file [default: $ZTMON_DB, else /var/lib/ztmon/ztmon.db if it exists, else ./ztmon.db]
    #[arg(long, value_name = "FILE")]
    pub db: Option<PathBuf>,
    /// Only addresses in this range; repeatable
    #[arg(long, value_name = "CIDR", group = "which")]
    pub addr: Vec<Cidr>,
    /// Only clients whose last packet came before this time: a date, or any that report's --since takes
    #[arg(long, value_name = "TIME", group = "which")]
    pub last_seen_before: Option<String>,
    /// Only clients that moved less in all, sent and received: 500, 10kB, 5MB, 1GB
    #[arg(long, value_name = "BYTES", group = "which", value_parser = bytes)]
    pub less_than: Option<u64>,
    /// Time zone in which dates are read (IANA name) [default: the system's]
    #[arg(long, value_name = "ZONE")]
    pub tz: Option<String>,
    /// Only say what would be forgotten
    #[arg(long)]
    pub dry_run: bool,
}
