//! `ztmon replay`: what capture files hold.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::output::Destination;
use super::{Status, place, summary};
use crate::capture::{Filter, History, Problem, Source};
use crate::cli;
use crate::meter::Meter;
use crate::report::{Builder, thousands};
use crate::store::{self, Import, Origin, Writer};
use crate::time::Timestamp;
use crate::traffic::{Directory, Outcome, Seen};

/// Rows of the matrix that are gathered before they are summed up: bounds memory, whatever the times are.
const MAX_ROWS: usize = 1 << 16;

/// Frames between two looks at the progress bar.
const PROGRESS_STEP: u64 = 1 << 14;

pub(super) fn run(args: cli::Replay) -> anyhow::Result<Status> {
    let output = &args.output;
    let (since, until) = place::bounds(output.since.as_deref(), output.until.as_deref(), output.tz.as_deref())?;
    let destination = Destination::open(output)?;
    let mut inputs = args.files.iter().map(|file| Input::new(Source::from_argument(file))).collect::<Vec<_>>();
    let mut database = args.db.as_deref().map(Database::open).transpose()?;
    if let Some(database) = &mut database {
        inputs = database.admit(inputs, output.quiet)?;
    }
    let mut history = History::open(inputs.iter().map(|input| input.source.clone()).collect());
    if !inputs.is_empty() && history.problems().iter().filter(|problem| is_hopeless(problem)).count() == inputs.len() {
        complain(&history, &inputs);
        return Ok(Status::Nothing);
    }

    let mut filter = args.counting.filter.clone().map(Filter::new);
    let mut meter = Meter::new(args.counting.settings(0));
    let mut totals = Totals { directory: Directory::default(), builder: Builder::new(output.by) };
    let progress = Progress::new(&history, output.quiet);
    let mut frames = 0;
    while history.advance() {
        let Some((source, frame)) = history.frame() else { break };
        frames += 1;
        progress.show(frames);
        let in_time = since.is_none_or(|since| frame.time >= since) && until.is_none_or(|until| frame.time < until);
        if !in_time {
            continue;
        }
        if let Some(filter) = &mut filter
            && !filter.accepts(&frame)?
        {
            continue;
        }
        let outcome = meter.frame(&frame);
        inputs[source].record(outcome, frame.time);
        if meter.rows() >= MAX_ROWS {
            totals.take(&mut meter, database.as_mut())?;
        }
    }
    totals.take(&mut meter, database.as_mut())?;
    progress.finish();

    let stats = meter.stats();
    let diagnosis = meter.diagnosis();
    for problem in history.problems().iter().filter(|problem| is_hopeless(problem)) {
        inputs[problem.source].import = None;
    }
    if let Some(database) = database {
        database.commit(&inputs)?;
    }
    destination.print(totals.builder, output, &summary::json(&stats, &diagnosis))?;
    complain(&history, &inputs);
    if !output.quiet {
        io::stderr().write_all(summary::text(&stats, &diagnosis, args.counting.tee).as_bytes()).ok();
    }
    Ok(if history.problems().is_empty() { Status::Done } else { Status::Partly })
}

/// One of the files given.
struct Input {
    /// As it was given; the source may be a copy of it.
    name: String,
    source: Source,
    /// What the database will know of it.
    import: Option<Import>,
}

impl Input {
    fn new(source: Source) -> Self {
        Input { name: source.to_string(), source, import: None }
    }

    fn record(&mut self, outcome: Outcome, time: Timestamp) {
        if let Some(import) = &mut self.import {
            import.frames += 1;
            if outcome == Outcome::Counted {
                import.seen.get_or_insert(Seen::at(time)).merge(Seen::at(time));
            }
        }
    }
}

/// Whether nothing at all came of a file.
fn is_hopeless(problem: &Problem) -> bool {
    !problem.error.is_damage()
}

fn complain(history: &History, inputs: &[Input]) {
    for Problem { source, error } in history.problems() {
        say(format_args!("ztmon: {}: {error}", inputs[*source].name));
    }
}

/// A line on standard error; `eprintln!` would panic where nobody reads it.
fn say(line: fmt::Arguments<'_>) {
    writeln!(io::stderr(), "{line}").ok();
}

/// What this run counts, for the report and the database.
struct Totals {
    directory: Directory,
    builder: Builder,
}

impl Totals {
    fn take(&mut self, meter: &mut Meter, database: Option<&mut Database>) -> anyhow::Result<()> {
        let delta = meter.take();
        self.directory.extend(&delta);
        for row in &delta.rows {
            self.builder.add("", &self.directory.row(row));
        }
        match database {
            Some(database) => database.writer.add(&mut database.source, &self.directory, &delta.rows),
            None => Ok(()),
        }
    }
}

/// A database that takes all files in, or none.
struct Database {
    writer: Writer,
    source: store::Source,
    /// Copies of what cannot be read twice; deleted when dropped.
    spooled: Vec<NamedTempFile>,
}

impl Database {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let mut writer = Writer::open(path)?;
        writer.begin()?;
        let network = writer.network("", "")?;
        Ok(Database { writer, source: store::Source::new(network, Origin::Import), spooled: Vec::new() })
    }

    /// The files that are new to the database, by their bytes. The others are named.
    fn admit(&mut self, inputs: Vec<Input>, quiet: bool) -> anyhow::Result<Vec<Input>> {
        let mut admitted: Vec<Input> = Vec::new();
        for input in inputs {
            // A file that cannot be read is told of when it is opened as a capture.
            let Ok((source, sha256, size)) = self.fingerprint(&input.source) else {
                admitted.push(input);
                continue;
            };
            let in_set = admitted.iter().filter_map(|other| other.import.as_ref()).find(|other| other.sha256 == sha256);
            let twin = match in_set {
                Some(import) => Some(format!("the same as {}", import.name)),
                None => self
                    .writer
                    .imported(&sha256)?
                    .map(|import| format!("already imported at {} as {}", import.imported_at, import.name)),
            };
            match twin {
                Some(twin) if !quiet => say(format_args!("{}: left out, its bytes are {twin}", input.name)),
                Some(_) => (),
                None => {
                    let name = input.name.clone();
                    let import = Import { sha256, name, size, imported_at: Timestamp::now(), frames: 0, seen: None };
                    admitted.push(Input { name: input.name, source, import: Some(import) });
                }
            }
        }
        Ok(admitted)
    }

    /// The SHA-256 of a file's bytes, and their number. What can be read only once is copied aside on the way.
    fn fingerprint(&mut self, source: &Source) -> io::Result<(Source, [u8; 32], u64)> {
        let mut hasher = Sha256::new();
        let (source, size) = match source {
            Source::Path(path) if path.is_file() => {
                (source.clone(), copy(File::open(path)?, &mut hasher, &mut io::sink())?)
            }
            once => {
                let mut spool = NamedTempFile::new()?;
                let size = match once {
                    Source::Stdin => copy(io::stdin(), &mut hasher, &mut spool)?,
                    Source::Path(path) => copy(File::open(path)?, &mut hasher, &mut spool)?,
                };
                let path = spool.path().to_owned();
                self.spooled.push(spool);
                (Source::Path(path), size)
            }
        };
        Ok((source, hasher.finalize().into(), size))
    }

    fn commit(mut self, inputs: &[Input]) -> anyhow::Result<()> {
        for import in inputs.iter().filter_map(|input| input.import.as_ref()) {
            self.writer.record_import(import)?;
        }
        self.writer.commit()
    }
}

fn copy(mut from: impl Read, hasher: &mut Sha256, to: &mut impl Write) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 18];
    let mut size = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                to.write_all(&buffer[..read])?;
                size += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
}

/// A bar on a terminal: bytes, packets per second, time left.
struct Progress {
    bar: ProgressBar,
    read: Arc<AtomicU64>,
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
        Progress { bar, read: history.bytes_read() }
    }

    fn show(&self, frames: u64) {
        if frames.is_multiple_of(PROGRESS_STEP) && !self.bar.is_hidden() {
            let rate = frames as f64 / self.bar.elapsed().as_secs_f64().max(0.001);
            self.bar.set_message(format!("{} packets/s", thousands(rate as u64)));
            self.bar.set_position(self.read.load(Ordering::Relaxed));
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
