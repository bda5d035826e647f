//! Several capture files as one history.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::file::{CaptureFile, Error};
use super::source::Source;
use crate::frame::Frame;
use crate::time::Timestamp;

/// Above so many files, those whose turn has not come are closed again. Those that overlap are open together.
const OPEN_AT_ONCE: usize = 64;

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
            if history.sources.len() > OPEN_AT_ONCE && history.sources[at].can_be_read_again() {
                history.files[at] = None;
            }
        }
        let name = |at: usize| history.sources[at].name();
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
