//! Where a report goes, and what it looks like there.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use anyhow::Context;

use crate::cli::Output;
use crate::report::{self, Builder, Format, Style};

/// Columns of a table where nothing says how wide it may be.
const DEFAULT_WIDTH: usize = 100;

/// An open destination, so that what cannot be written is known before the work begins.
pub(super) struct Destination {
    file: Option<File>,
    name: String,
    format: Format,
    style: Style,
}

impl Destination {
    /// Opens `--output`, or standard output.
    pub(super) fn open(output: &Output) -> anyhow::Result<Self> {
        let file = output.output.as_deref().map(open).transpose()?;
        let terminal = file.is_none() && io::stdout().is_terminal();
        Ok(Destination {
            file,
            name: output.output.as_ref().map_or("standard output".to_owned(), |path| path.display().to_string()),
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
            printed => printed.with_context(|| format!("cannot write to {}", self.name)),
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
