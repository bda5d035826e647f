//! `ztmon replay`: what capture files hold.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::ensure;
use indicatif::{ProgressBar, ProgressStyle};

use super::import::{Database, Input};
use super::output::{Destination, Sums};
use super::query::{check_members, query};
use super::{Status, place, say, summary};
use crate::capture::{Filter, History, Problem, Source};
use crate::cli;
use crate::frame::Frame;
use crate::meter::Meter;
use crate::report::thousands;
use crate::store;
use crate::time::Timestamp;
use crate::when::When;

/// Rows of the matrix that are gathered before they are summed up: bounds memory, whatever the times are. The fewer, the
/// more often the same pair has one; but a database needs memory for each as well.
const MAX_ROWS: usize = 1 << 18;
const MAX_ROWS_TO_STORE: usize = 1 << 16;

/// Frames between two looks at the progress bar.
const PROGRESS_STEP: u64 = 1 << 14;

pub(super) fn run(args: cli::Replay) -> anyhow::Result<Status> {
    let output = &args.output;
    let query = query(output, When::time)?;
    check_members(&query)?;
    let (since, until) = (query.since, query.until);
    ensure!(args.files.iter().filter(|file| *file == "-").count() < 2, "standard input can be read only once");
    place::allow_many_files();
    let sources: Vec<Source> = args.files.iter().map(|file| Source::from_argument(file)).collect();
    let destination = Destination::open(output)?;
    let mut database =
        args.db.as_deref().map(|db| Database::open(db, args.bucket, args.overlap, &query.named)).transpose()?;
    let totals = Sums::new(output, query)?;
    let companions = args.db.as_deref().map(store::companions).unwrap_or_default();
    let used = sources.iter().filter_map(Source::path).chain(args.db.as_deref());
    destination.must_not_be(used.chain(companions.iter().map(PathBuf::as_path)))?;
    let mut inputs: Vec<Input> = sources.into_iter().map(|source| Input { source, import: None }).collect();
    if let Some(database) = &mut database {
        inputs = database.admit(inputs, output.quiet)?;
    }
    let unread = database.as_mut().map(|database| std::mem::take(&mut database.unread)).unwrap_or_default();
    let mut history = History::open(inputs.iter().map(|input| input.source.clone()).collect());
    let hopeless = history.problems().iter().filter(|problem| is_hopeless(problem)).count() + unread.len();
    if hopeless > 0 && hopeless == inputs.len() + unread.len() {
        complain(&history, &unread);
        return Ok(Status::Nothing);
    }

    let mut reading = Reading {
        is_plain: database.is_none()
            && args.counting.filter.is_none()
            && (since, until) == (None, None)
            && !totals.has_steps(),
        filter: args.counting.filter.clone().map(Filter::new),
        since,
        until,
        meter: Meter::new(args.counting.settings(0)),
        max_rows: if database.is_some() { MAX_ROWS_TO_STORE } else { MAX_ROWS },
        totals,
        database,
        inputs,
        progress: Progress::new(&history, output.quiet),
    };
    let broken_off = history.read(|source, frame| match reading.frame(source, frame) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    });
    if let Some(error) = broken_off {
        return Err(error);
    }
    reading.take()?;
    reading.progress.finish();

    let Reading { mut meter, totals, database, mut inputs, .. } = reading;
    let imports = database.is_some();
    let stats = meter.stats();
    let diagnosis = meter.diagnosis();
    for problem in history.problems().iter().filter(|problem| is_hopeless(problem)) {
        inputs[problem.source].import = None;
    }
    let left_out = database.as_ref().and_then(Database::left_out);
    if let Some(database) = database {
        database.commit(&inputs)?;
    }
    // Else what is printed would be taken for what is in the database.
    if let Some(line) = left_out {
        say(&line);
    }
    complain(&history, &unread);
    match destination.print(totals, output, (since, until), &summary::json(&stats, &diagnosis)) {
        Err(error) if imports => {
            say(&format!("ztmon: {error:#}; the import is done all the same, and report shows it"));
            return Ok(Status::Partly);
        }
        printed => printed?,
    }
    if !output.quiet {
        io::stderr().write_all(summary::text(&stats, &diagnosis, args.counting.tee).as_bytes()).ok();
    }
    Ok(if history.problems().is_empty() && unread.is_empty() { Status::Done } else { Status::Partly })
}

/// Whether nothing at all came of a file.
fn is_hopeless(problem: &Problem) -> bool {
    !problem.error.is_damage()
}

fn complain(history: &History, unread: &[String]) {
    unread.iter().for_each(|line| say(line));
    for Problem { source, error } in history.problems() {
        say(&format!("ztmon: {}: {error}", history.sources()[*source]));
    }
}

/// A replay at work.
struct Reading {
    meter: Meter,
    totals: Sums,
    /// Rows that are gathered.
    max_rows: usize,
    progress: Progress,
    /// Whether every frame counts, and nothing has to be done about it but that.
    is_plain: bool,
    filter: Option<Filter>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    database: Option<Database>,
    inputs: Vec<Input>,
}

impl Reading {
    /// Takes in the next frame, which is of this input.
    #[inline(always)]
    fn frame(&mut self, source: usize, frame: &Frame<'_>) -> anyhow::Result<()> {
        if self.progress.frame() && self.meter.rows() >= self.max_rows {
            self.take()?;
        }
        if self.is_plain {
            self.meter.defer(frame);
            return Ok(());
        }
        self.chosen_frame(source, frame)
    }

    /// The same where not all frames count, or more has to be done about those that do.
    #[inline(never)]
    fn chosen_frame(&mut self, source: usize, frame: &Frame<'_>) -> anyhow::Result<()> {
        // The filter first: where it cannot be compiled, that is an error even if no frame is in time.
        if !self.filter.as_mut().map_or(Ok(true), |filter| filter.accepts(frame))? {
            return Ok(());
        }
        if self.since.is_some_and(|since| frame.time < since) || self.until.is_some_and(|until| frame.time >= until) {
            return Ok(());
        }
        if self.totals.leaves_step(frame.time) {
            self.take()?;
            self.totals.enter_step(frame.time);
        }
        if self.database.is_some() {
            self.inputs[source].record(self.meter.frame(frame), frame.time);
        } else {
            self.meter.defer(frame);
        }
        Ok(())
    }

    /// Moves what was counted into the report, and into the database if there is one.
    #[inline(never)]
    fn take(&mut self) -> anyhow::Result<()> {
        let Reading { meter, totals, database, .. } = self;
        meter.show(|directory, rows| {
            totals.add_delta(directory, rows)?;
            database.as_mut().map_or(Ok(()), |database| database.add(directory, rows))
        })
    }
}

/// A bar on a terminal: bytes, packets per second, time left.
struct Progress {
    bar: ProgressBar,
    read: Arc<AtomicU64>,
    /// At the last look.
    frames: u64,
    /// Frames before the next one.
    until_look: u64,
}

impl Progress {
    fn new(history: &History, quiet: bool) -> Self {
        let sizes = history.sources().iter().map(Source::size).collect::<Option<Vec<_>>>();
        let bar = match sizes {
            _ if quiet || !io::stderr().is_terminal() => ProgressBar::hidden(),
            Some(sizes) => ProgressBar::new(sizes.iter().sum()),
            None => ProgressBar::no_length(),
        };
        let template = match bar.length() {
            Some(_) => "{wide_bar} {decimal_bytes}/{decimal_total_bytes}  {msg}  {eta} left",
            None => "{spinner} {decimal_bytes}  {msg}  {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Progress { bar, read: history.bytes_read(), frames: 0, until_look: PROGRESS_STEP }
    }

    /// One more frame. Says whether so many have come that it is time to look at other things as well.
    #[inline(always)]
    fn frame(&mut self) -> bool {
        self.until_look -= 1;
        let looks = self.until_look == 0;
        if looks {
            self.look();
        }
        looks
    }

    #[cold]
    fn look(&mut self) {
        self.until_look = PROGRESS_STEP;
        self.frames += PROGRESS_STEP;
        if !self.bar.is_hidden() {
            let rate = self.frames as f64 / self.bar.elapsed().as_secs_f64().max(0.001);
            self.bar.set_message(format!("{} packets/s", thousands(rate as u64)));
            self.bar.set_position(self.read.load(Ordering::Relaxed));
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
