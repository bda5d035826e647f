//! `--format openmetrics`: what was counted when, as series for a Prometheus that was not there.

mod sort;

use std::io::{self, Write};

use anyhow::{Context, ensure};

use crate::cli;
use crate::metrics::openmetrics::{History, Increment};
use crate::report::Named;
use crate::time::{Bucket, SECOND, Span, Timestamp};
use crate::traffic::{DeltaRow, Directory, Endpoint, Row};
use sort::Sorter;

/// Seconds from sample to sample where nothing was said and captures are read.
const DEFAULT_STEP: i64 = 15;

/// Where sorting may fail.
const SORTING: &str = "cannot sort in a temporary file in $TMPDIR or /tmp";

/// Gathers what is counted.
pub(super) struct Backfill {
    history: History,
    sorter: Sorter,
    labels: Vec<(String, String)>,
    /// As it was asked for.
    step: Option<i64>,
    /// When the last step ends, if it is not over.
    until_now: Option<Timestamp>,
    /// The interval that packets are counted in now, where captures are read, and the same in nanoseconds.
    now: Bucket,
    now_nanos: std::ops::Range<i128>,
    /// Seconds that every interval of the history fits into.
    finest: i64,
    /// The longest interval so far, the earliest of those.
    longest: Option<Bucket>,
}

/// All that is to be printed.
pub(super) struct Ready {
    history: History,
    labels: Vec<(String, String)>,
    step: i64,
    increments: Box<dyn Iterator<Item = io::Result<Increment>>>,
}

impl Backfill {
    /// Nothing is counted yet.
    pub(super) fn new(args: &cli::Series, named: &Named) -> anyhow::Result<Self> {
        let labels = args.label.clone();
        for (at, (name, _)) in labels.iter().enumerate() {
            ensure!(labels[..at].iter().all(|(other, _)| other != name), "--label {name} is given twice");
        }
        Ok(Backfill {
            history: History::new(named.roster.clone(), named.network),
            sorter: Sorter::new(),
            labels,
            step: args.step,
            until_now: None,
            now: Bucket { start: 0, seconds: 0 },
            now_nanos: 0..0,
            finest: 1,
            longest: None,
        })
    }

    /// Whether a packet of this time belongs to another step than those before it: what these were counted as has to be
    /// [added](Backfill::add_delta) first, and then the step [entered](Backfill::enter).
    #[inline(always)]
    pub(super) fn leaves(&self, time: Timestamp) -> bool {
        !self.now_nanos.contains(&time.0)
    }

    /// Goes to the step of a packet's time.
    pub(super) fn enter(&mut self, time: Timestamp) {
        let step = self.step.unwrap_or(DEFAULT_STEP);
        let start = time.clamped().0.div_euclid(step) * step;
        self.now = Bucket { start, seconds: step as u32 };
        self.now_nanos = i128::from(start) * SECOND..i128::from(start + step) * SECOND;
    }

    /// Adds what was counted in the step that was entered last.
    pub(super) fn add_delta(&mut self, directory: &Directory, rows: &[DeltaRow]) -> anyhow::Result<()> {
        rows.iter().try_for_each(|row| self.add("", self.now, &directory.row(row)))
    }

    /// What a database has was counted until now.
    pub(super) fn set_now(&mut self, now: Timestamp) {
        self.until_now = Some(now);
    }

    /// Takes note of somebody whose rows are still to come.
    pub(super) fn know(&mut self, network: &str, endpoint: Endpoint) {
        self.history.know(network, endpoint);
    }

    /// Adds what was counted in an interval.
    pub(super) fn add(&mut self, network: &str, bucket: Bucket, row: &Row) -> anyhow::Result<()> {
        if row.counts.packets == 0 {
            // Copies of packets that were counted before.
            return Ok(());
        }
        let seconds = i64::from(bucket.seconds);
        self.finest = self.finest / greatest_common_divisor(self.finest, seconds) * seconds;
        if self.longest.is_none_or(|longest| longest.seconds < bucket.seconds) {
            self.longest = Some(bucket);
        }
        for increment in self.history.count(network, bucket, row) {
            self.sorter.add(increment).context(SORTING)?;
        }
        Ok(())
    }

    /// All is added; `since` and `until` bounded it.
    ///
    /// # Errors
    /// If the step or a label does not fit what was added, or it cannot be sorted.
    pub(super) fn finish(mut self, since: Option<Timestamp>, until: Option<Timestamp>) -> anyhow::Result<Ready> {
        let step = self.step.unwrap_or(self.finest);
        if let Some(longest) = self.longest {
            let (from, fits) = (Timestamp::new(longest.start, 0), duration(self.finest));
            ensure!(
                step % self.finest == 0,
                "--step {}: from {from} on the database keeps sums of {}; give --step {fits} or a multiple of it",
                duration(step),
                duration(longest.seconds.into())
            );
        }
        let name = self.labels.iter().find(|(name, _)| name == "network" && self.history.has_networks());
        ensure!(name.is_none(), "--label network: these series are of several networks and have it already");
        // What is still to come is not known to be nothing.
        let until = until.map(|until| until.min(self.until_now.unwrap_or_else(Timestamp::now)));
        let up = |time: Timestamp| (time + Span(SECOND - 1)).clamped().0;
        self.history.extend(since.map(|since| since.clamped().0), until.map(up));
        if let Some(now) = self.until_now {
            self.history.end_step(now.clamped().0);
        }
        let increments = self.sorter.finish().context(SORTING)?;
        Ok(Ready { history: self.history, labels: self.labels, step, increments })
    }
}

impl Ready {
    pub(super) fn write(self, out: &mut dyn Write) -> io::Result<()> {
        let sorting = |error: io::Error| io::Error::new(error.kind(), format!("{SORTING}: {error}"));
        let increments = self.increments.map(|increment| increment.map_err(sorting));
        self.history.write(out, self.step, &self.labels, increments)
    }
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Seconds as `--step` reads them.
fn duration(seconds: i64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(length, _)| seconds % length == 0);
    let (length, name) = unit.unwrap_or((1, "s"));
    format!("{}{name}", seconds / length)
}
