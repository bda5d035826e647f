//! Where a report goes, and what it looks like there.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::cli::Output;
use crate::report::{self, Builder, Format, Style};

/// Columns of a table where nothing says how wide it may be.
const DEFAULT_WIDTH: usize = 100;

/// An open destination, so that what cannot be written is known before the work begins.
pub(super) struct Destination {
    file: Option<File>,
    /// A file that was not there before, until something is in it.
    made: Option<Made>,
    name: String,
    format: Format,
    style: Style,
}

impl Destination {
    /// Opens `--output`, or standard output. The output must not be one of the files that are `used`.
    pub(super) fn open<'a>(output: &Output, used: impl IntoIterator<Item = &'a Path>) -> anyhow::Result<Self> {
        let path = output.output.as_deref();
        if let Some(path) = path {
            let same = |used: &Path| matches!((used.canonicalize(), path.canonicalize()), (Ok(a), Ok(b)) if a == b);
            ensure!(!used.into_iter().any(same), "--output {} would replace what is read", path.display());
        }
        let made = path.and_then(Made::unless_there);
        let file = path.map(open).transpose()?;
        let terminal = file.is_none() && io::stdout().is_terminal();
        Ok(Destination {
            file,
            made,
            name: path.map_or("standard output".to_owned(), |path| path.display().to_string()),
            format: output.format.unwrap_or(if terminal { Format::Table } else { Format::Csv }),
            style: Style { width: if terminal { terminal_width() } else { DEFAULT_WIDTH }, ansi: terminal },
        })
    }

    /// Prints the report. A reader that has gone away is no error.
    pub(super) fn print(self, builder: Builder, output: &Output, summary: &serde_json::Value) -> anyhow::Result<()> {
        let report = builder.finish(output.sort, output.top);
        let print = |out: &mut dyn Write| {
            report::write(out, &report, self.format, summary, self.style)?;
            out.flush()
        };
        let printed = match self.file {
            None => print(&mut BufWriter::new(io::stdout().lock())),
            Some(file) => truncate(&file).and_then(|()| print(&mut BufWriter::new(file))),
        };
        match printed {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            printed => {
                printed.with_context(|| format!("cannot write to {}", self.name))?;
                if let Some(made) = self.made {
                    made.keep();
                }
                Ok(())
            }
        }
    }
}

/// A file that this run makes, and takes away again unless it is kept.
pub(super) struct Made(PathBuf);

impl Made {
    /// Nothing, if there is something at `path` already.
    pub(super) fn unless_there(path: &Path) -> Option<Self> {
        (!path.exists()).then(|| Made(path.to_owned()))
    }

    /// There is something in it: it stays.
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
        // SQLite's companions, if it is a database.
        for companion in ["-wal", "-shm"] {
            let mut path = self.0.clone().into_os_string();
            path.push(companion);
            std::fs::remove_file(path).ok();
        }
    }
}

/// What the file held stays until there is something to put in its place.
fn open(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("cannot write to {}", path.display()))
}

fn truncate(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { file.set_len(0) } else { Ok(()) }
}

fn terminal_width() -> usize {
    let columns = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { DEFAULT_WIDTH } else { columns }
}
