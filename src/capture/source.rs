//! Where captures come from.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::file::{CaptureFile, Error};
use crate::plain;

/// A capture to be read, under the name it was given.
#[derive(Clone, Debug)]
pub struct Source {
    name: OsString,
    input: Input,
    /// How many of its bytes are read.
    size: Option<u64>,
}

#[derive(Clone, Debug)]
enum Input {
    Stdin,
    Path(PathBuf),
    /// An open file, read from its beginning each time.
    Held(Arc<File>),
}

impl Source {
    /// A file, pipe or device node by its path; `-` is standard input.
    pub fn from_argument(argument: &OsStr) -> Self {
        let input = if argument == "-" { Input::Stdin } else { Input::Path(argument.into()) };
        Source { name: argument.to_owned(), input, size: None }
    }

    /// The same capture, of which no more than its first `size` bytes are read: a file may grow meanwhile.
    pub fn up_to(self, size: u64) -> Self {
        Source { size: Some(size), ..self }
    }

    /// The same capture, whose bytes are those of an open file.
    pub fn held_in(self, file: File) -> Self {
        Source { input: Input::Held(Arc::new(file)), ..self }
    }

    /// As it was given.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Its path, unless it is standard input or an open file.
    pub fn path(&self) -> Option<&Path> {
        match &self.input {
            Input::Path(path) => Some(path),
            Input::Stdin | Input::Held(_) => None,
        }
    }

    /// Whether its bytes can be read again and again: those of a file can, those of a pipe cannot.
    pub fn can_be_read_again(&self) -> bool {
        match &self.input {
            Input::Stdin => false,
            Input::Path(path) => path.is_file(),
            Input::Held(_) => true,
        }
    }

    /// The bytes that are to be read, where that is known.
    pub fn size(&self) -> Option<u64> {
        let on_disk = || self.path()?.metadata().ok().filter(|data| data.is_file()).map(|data| data.len());
        self.size.or_else(on_disk)
    }

    /// Its bytes from the first one on.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn reader(&self) -> io::Result<Box<dyn Read + Send>> {
        let size = self.size.unwrap_or(u64::MAX);
        Ok(match &self.input {
            Input::Stdin => Box::new(io::stdin().take(size)),
            Input::Path(path) => Box::new(File::open(path)?.take(size)),
            Input::Held(file) => Box::new(Held { file: Arc::clone(file), at: 0 }.take(size)),
        })
    }

    pub(super) fn open(&self, read: &Arc<AtomicU64>) -> Result<CaptureFile, Error> {
        CaptureFile::new(Counted { reader: self.reader().map_err(Error::Io)?, read: Arc::clone(read) })
    }
}

/// The name in one line, whatever is in it.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name == "-" {
            return f.write_str("standard input");
        }
        f.write_str(&plain::escaped(&self.name.to_string_lossy()))
    }
}

/// Reads a file that others hold, too, from a place of its own.
struct Held {
    file: Arc<File>,
    at: u64,
}

impl Read for Held {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(out, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Counts the bytes that pass, for progress.
struct Counted<R> {
    reader: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(out)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
