//! Several capture files as one history.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::file::{CaptureFile, Error};
use crate::frame::Frame;
use crate::time::Timestamp;

/// Above so many files, those whose turn has not come are closed again.
const OPEN_AT_ONCE: usize = 64;

/// Where a capture comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard input.
    Stdin,
    /// A file, pipe or device node.
    Path(PathBuf),
}

impl Source {
    /// `-` is standard input.
    pub fn from_argument(argument: &std::ffi::OsStr) -> Self {
        if argument == "-" { Source::Stdin } else { Source::Path(argument.into()) }
    }

    /// The size in bytes, where it is a file with one.
    pub fn size(&self) -> Option<u64> {
        match self {
            Source::Stdin => None,
            Source::Path(path) => path.metadata().ok().filter(|data| data.is_file()).map(|data| data.len()),
        }
    }

    fn open(&self, read: &Arc<AtomicU64>) -> Result<CaptureFile, Error> {
        let counted = Arc::clone(read);
        match self {
            Source::Stdin => CaptureFile::new(Counted { reader: io::stdin(), read: counted }),
            Source::Path(path) => {
                CaptureFile::new(Counted { reader: File::open(path).map_err(Error::Io)?, read: counted })
            }
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Stdin => f.write_str("standard input"),
            Source::Path(path) => path.display().fmt(f),
        }
    }
}

/// A file that gave no frames, or not all of them.
#[derive(Debug)]
pub struct Problem {
    /// Its place among the sources.
    pub source: usize,
    /// Why.
    pub error: Error,
}

/// Frames of several files in the order of their times: within a file its own order; among files the one whose next
/// frame is earliest, ties by the files' first times, then by name.
pub struct History {
    sources: Vec<Source>,
    files: Vec<Option<CaptureFile>>,
    /// The place of each file among ties.
    ranks: Vec<usize>,
    waiting: BinaryHeap<Reverse<(Timestamp, usize, usize)>>,
    current: Option<usize>,
    problems: Vec<Problem>,
    read: Arc<AtomicU64>,
}

impl History {
    /// Opens all files and looks at their first frames. Files that are none become [`History::problems`].
    pub fn open(sources: Vec<Source>) -> Self {
        let mut history = History {
            files: sources.iter().map(|_| None).collect(),
            ranks: vec![0; sources.len()],
            waiting: BinaryHeap::new(),
            current: None,
            problems: Vec::new(),
            read: Arc::new(AtomicU64::new(0)),
            sources,
        };
        let mut firsts = Vec::new();
        for at in 0..history.sources.len() {
            if let Some(time) = history.open_file(at) {
                firsts.push((time, at));
            }
            if history.sources.len() > OPEN_AT_ONCE && history.sources[at].size().is_some() {
                history.files[at] = None;
            }
        }
        let name = |at: usize| match &history.sources[at] {
            Source::Stdin => std::ffi::OsStr::new("-"),
            Source::Path(path) => path.as_os_str(),
        };
        firsts.sort_by(|a, b| (a.0, name(a.1), a.1).cmp(&(b.0, name(b.1), b.1)));
        for (rank, &(time, at)) in firsts.iter().enumerate() {
            history.ranks[at] = rank;
            history.waiting.push(Reverse((time, rank, at)));
        }
        history
    }

    /// Moves to the next frame; `false` at the end.
    pub fn advance(&mut self) -> bool {
        if let Some(at) = self.current.take()
            && let Some(time) = self.advance_file(at)
        {
            let next = (time, self.ranks[at], at);
            match self.waiting.peek() {
                Some(Reverse(earliest)) if *earliest < next => self.waiting.push(Reverse(next)),
                // The same file goes on, and the heap is not touched.
                _ => {
                    self.current = Some(at);
                    return true;
                }
            }
        }
        while let Some(Reverse((_, _, at))) = self.waiting.pop() {
            if self.files[at].is_some() || self.open_file(at).is_some() {
                self.current = Some(at);
                return true;
            }
        }
        false
    }

    /// The frame that [`History::advance`] moved to, and the place of its file among the sources.
    pub fn frame(&self) -> Option<(usize, Frame<'_>)> {
        let at = self.current?;
        Some((at, self.files[at].as_ref()?.frame()?))
    }

    /// The files that failed so far, wholly or from some byte on.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The sources, in the order given.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// A counter of the bytes read from all files, compressed as they are.
    pub fn bytes_read(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.read)
    }

    /// Opens a file and moves to its first frame, whose time it gives.
    fn open_file(&mut self, at: usize) -> Option<Timestamp> {
        match self.sources[at].open(&self.read) {
            Ok(file) => {
                self.files[at] = Some(file);
                self.advance_file(at)
            }
            Err(error) => {
                self.note(at, error);
                None
            }
        }
    }

    fn advance_file(&mut self, at: usize) -> Option<Timestamp> {
        let file = self.files[at].as_mut()?;
        match file.advance() {
            Ok(true) => return file.frame().map(|frame| frame.time),
            Ok(false) => (),
            Err(error) => self.note(at, error),
        }
        self.files[at] = None;
        None
    }

    fn note(&mut self, source: usize, error: Error) {
        self.problems.push(Problem { source, error });
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
