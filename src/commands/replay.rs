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
use crate::meter::Meter;
use crate::report::thousands;
use crate::store;
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
    let mut totals = Sums::new(output, query)?;
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

    let mut filter = args.counting.filter.clone().map(Filter::new);
    let mut meter = Meter::new(args.counting.settings(0));
    let mut progress = Progress::new(&history, output.quiet);
    let imports = database.is_some();
    let max_rows = if imports { MAX_ROWS_TO_STORE } else { MAX_ROWS };
    let selects = filter.is_some() || since.is_some() || until.is_some();
    // A loop of its own for what nearly every replay is.
    let is_plain = !selects && !imports && !totals.has_steps();
    let broken_off = if is_plain {
        history.read(|_, frame| {
            meter.defer(frame);
            if progress.frame()
                && meter.rows() >= max_rows
                && let Err(error) = take(&mut meter, &mut totals, None)
            {
                return ControlFlow::Break(error);
            }
            ControlFlow::Continue(())
        })
    } else {
        history.read(|source, frame| {
            progress.frame();
            if selects {
                // The filter first: where it cannot be compiled, that is an error even if no frame is in time.
                match filter.as_mut().map_or(Ok(true), |filter| filter.accepts(frame)) {
                    Ok(true) => (),
                    Ok(false) => return ControlFlow::Continue(()),
                    Err(error) => return ControlFlow::Break(error),
                }
                if since.is_some_and(|since| frame.time < since) || until.is_some_and(|until| frame.time >= until) {
                    return ControlFlow::Continue(());
                }
            }
            if totals.leaves_step(frame.time) {
                if let Err(error) = take(&mut meter, &mut totals, database.as_mut()) {
                    return ControlFlow::Break(error);
                }
                totals.enter_step(frame.time);
            }
            if imports {
                inputs[source].record(meter.frame(frame), frame.time);
            } else {
                meter.defer(frame);
            }
            if meter.rows() >= max_rows
                && let Err(error) = take(&mut meter, &mut totals, database.as_mut())
            {
                return ControlFlow::Break(error);
            }
            ControlFlow::Continue(())
        })
    };
    if let Some(error) = broken_off {
        return Err(error);
    }
    take(&mut meter, &mut totals, database.as_mut())?;
    progress.finish();

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

/// Moves what was counted into the report, and into the database if there is one.
fn take(meter: &mut Meter, totals: &mut Sums, database: Option<&mut Database>) -> anyhow::Result<()> {
    meter.show(|directory, rows| {
        totals.add_delta(directory, rows)?;
        database.map_or(Ok(()), |database| database.add(directory, rows))
    })
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
