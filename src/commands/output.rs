//! Where a report goes, and what it looks like there.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::backfill::{Backfill, Ready};
use crate::cli::{Form, Output};
use crate::report::{self, Builder, Format, Query, Report, Style};
use crate::store::Reader;
use crate::time::{Bucket, Timestamp};
use crate::traffic::{DeltaRow, Directory, Endpoint, Row};

/// Columns of a table where nothing says how wide it may be.
const DEFAULT_WIDTH: usize = 100;

/// What becomes of all that is counted.
pub(super) enum Sums {
    /// Sums, for a report.
    Report(Box<Builder>),
    /// Counters over time.
    Series(Box<Backfill>),
}

enum Content {
    Report(Box<Report>),
    Series(Box<Ready>),
}

impl Sums {
    /// What the arguments ask for; nothing is counted yet.
    pub(super) fn new(output: &Output, query: Query) -> anyhow::Result<Self> {
        Ok(match output.format {
            Some(Form::OpenMetrics) => Sums::Series(Box::new(Backfill::new(&output.series, &query.named)?)),
            _ => Sums::Report(Box::new(Builder::new(query))),
        })
    }

    /// Whether a network's row is about somebody who is shown.
    pub(super) fn shows(&mut self, network: &str, row: &Row) -> bool {
        match self {
            Sums::Report(builder) => builder.shows(network, row),
            Sums::Series(_) => true,
        }
    }

    /// Where rows of a report must be cut: says for a second which is the first cut behind it, if there is one.
    pub(super) fn cuts(&self) -> impl Fn(i64) -> Option<i64> + use<> {
        let calendar = match self {
            Sums::Report(builder) => builder.calendar(),
            Sums::Series(_) => None,
        };
        move |second| Some(calendar?.period(second)?.end)
    }

    /// Notes when an end of a network was first seen.
    pub(super) fn know(&mut self, network: &str, endpoint: Endpoint, first: Timestamp) {
        match self {
            Sums::Report(builder) => builder.know(network, endpoint, first),
            Sums::Series(backfill) => backfill.know(network, endpoint),
        }
    }

    /// Says that all was counted until now, and nothing behind that.
    pub(super) fn set_now(&mut self, now: Timestamp) {
        match self {
            Sums::Report(builder) => builder.set_now(now),
            Sums::Series(backfill) => backfill.set_now(now),
        }
    }

    /// Takes in what a database knows of how much of the time was seen.
    pub(super) fn see(&mut self, reader: &Reader) -> anyhow::Result<()> {
        if let Sums::Report(builder) = self {
            reader.observed(|network, start, seen| builder.see(network, start, seen))?;
        }
        Ok(())
    }

    /// Counts a row of a database.
    pub(super) fn add(&mut self, network: &str, bucket: Bucket, row: &Row) -> anyhow::Result<()> {
        match self {
            Sums::Report(builder) => builder.add(network, bucket, row)?,
            Sums::Series(backfill) => backfill.add(network, bucket, row)?,
        }
        Ok(())
    }

    /// Counts rows of a capture.
    pub(super) fn add_delta(&mut self, directory: &Directory, rows: &[DeltaRow]) -> anyhow::Result<()> {
        match self {
            Sums::Report(builder) => builder.add_delta(directory, rows)?,
            Sums::Series(backfill) => backfill.add_delta(directory, rows)?,
        }
        Ok(())
    }

    /// Whether rows may ever have to be taken before a packet is counted.
    pub(super) fn has_steps(&self) -> bool {
        matches!(self, Sums::Series(_))
    }

    /// Whether rows have to be taken before a packet of this time is counted.
    #[inline(always)]
    pub(super) fn leaves_step(&self, time: Timestamp) -> bool {
        matches!(self, Sums::Series(backfill) if backfill.leaves(time))
    }

    /// Rows that follow are of this packet's step.
    pub(super) fn enter_step(&mut self, time: Timestamp) {
        if let Sums::Series(backfill) = self {
            backfill.enter(time);
        }
    }
}

/// An open destination, so that what cannot be written is known before the work begins.
pub(super) struct Destination {
    file: Option<OutputFile>,
    format: Format,
    style: Style,
}

/// The file of `--output`. One that this run made goes away again unless something is printed to it.
struct OutputFile {
    path: PathBuf,
    file: File,
    made: bool,
}

impl Destination {
    /// Opens `--output`, or standard output.
    pub(super) fn open(output: &Output) -> anyhow::Result<Self> {
        Destination::of(output.output.as_deref(), output.format)
    }

    /// Opens the file, or standard output.
    pub(super) fn of(file: Option<&Path>, format: Option<Form>) -> anyhow::Result<Self> {
        let file = file.map(OutputFile::open).transpose()?;
        let terminal = file.is_none() && io::stdout().is_terminal();
        Ok(Destination {
            file,
            format: match format {
                Some(Form::Report(format)) => format,
                _ if terminal => Format::Table,
                _ => Format::Csv,
            },
            style: Style { width: if terminal { terminal_width() } else { DEFAULT_WIDTH }, ansi: terminal },
        })
    }

    /// An error if the output is one of the files that are `used`, under whatever name, or standard input.
    pub(super) fn must_not_be<'a>(&self, used: impl IntoIterator<Item = &'a Path>) -> anyhow::Result<()> {
        let Some(OutputFile { path, file, .. }) = &self.file else { return Ok(()) };
        let data = file.metadata()?;
        let same = |used: Metadata| data.is_file() && (used.dev(), used.ino()) == (data.dev(), data.ino());
        let stdin = io::stdin().as_fd().try_clone_to_owned().map(File::from);
        let mut used = used.into_iter().map(Path::metadata).chain([stdin.and_then(|stdin| stdin.metadata())]);
        ensure!(!used.any(|used| used.is_ok_and(same)), "--output {} would replace what is read", path.display());
        Ok(())
    }

    /// Prints it all; `since` and `until` bounded it. A reader that has gone away is no error.
    pub(super) fn print(
        self,
        sums: Sums,
        output: &Output,
        (since, until): (Option<Timestamp>, Option<Timestamp>),
        summary: &serde_json::Value,
    ) -> anyhow::Result<()> {
        let content = match sums {
            Sums::Report(builder) => Content::Report(Box::new(builder.finish(output.sort, output.top))),
            Sums::Series(backfill) => Content::Series(Box::new(backfill.finish(since, until)?)),
        };
        self.print_by(|out, format, style| match content {
            Content::Report(report) => report::write(out, &report, format, summary, style),
            Content::Series(ready) => ready.write(out),
        })
    }

    /// Prints what `write` writes. A reader that has gone away is no error.
    pub(super) fn print_by(
        mut self,
        write: impl FnOnce(&mut dyn Write, Format, Style) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let print = |out: &mut dyn Write| {
            write(out, self.format, self.style)?;
            out.flush()
        };
        let (printed, name) = match &mut self.file {
            None => (print(&mut BufWriter::new(io::stdout().lock())), "standard output".to_owned()),
            Some(OutputFile { path, file, made }) => {
                *made = false;
                let printed = truncate(file).and_then(|()| print(&mut BufWriter::new(file)));
                (printed, path.display().to_string())
            }
        };
        match printed {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            printed => printed.with_context(|| format!("cannot write to {name}")),
        }
    }
}

impl OutputFile {
    /// What the file held stays until there is something to put in its place.
    fn open(path: &Path) -> anyhow::Result<Self> {
        let open = |new: bool| OpenOptions::new().write(true).create(true).create_new(new).truncate(false).open(path);
        let (file, made) = match open(true) {
            Ok(file) => (file, true),
            Err(_) => (open(false).with_context(|| format!("cannot write to {}", path.display()))?, false),
        };
        Ok(OutputFile { path: path.to_owned(), file, made })
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if self.made {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

fn truncate(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { file.set_len(0) } else { Ok(()) }
}

fn terminal_width() -> usize {
    let columns = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { DEFAULT_WIDTH } else { columns }
}
