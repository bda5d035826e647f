//! Several capture files as one history.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::file::{CaptureFile, Error};
use super::source::Source;
use crate::frame::Frame;
use crate::time::{Span, Timestamp};

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

/// Why a file's turn ended, and when its next frame is.
enum Turn<B> {
    Over(Timestamp),
    BrokenOff(Timestamp, B),
}

/// Frames of several files in the order of their times: within a file its own order; among files the one whose next
/// frame is earliest, ties by the files' first times, then by name.
pub struct History {
    sources: Vec<Source>,
    files: Vec<Option<CaptureFile>>,
    /// The place of each file among ties.
    ranks: Vec<usize>,
    /// Time of the next frame, rank and place of every file that has one.
    waiting: BinaryHeap<Reverse<(Timestamp, usize, usize)>>,
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

    /// Gives `each` the frames with their files' places among the sources, until it breaks off, with why, or all are
    /// read. The frame at which it breaks off is the first of the next call.
    #[inline]
    pub fn read<B>(&mut self, mut each: impl FnMut(usize, &Frame<'_>) -> ControlFlow<B>) -> Option<B> {
        while let Some(Reverse((_, rank, at))) = self.waiting.pop() {
            if self.files[at].is_none() && self.open_file(at).is_none() {
                continue;
            }
            let Some(file) = self.files[at].as_mut() else { continue };
            // Its turn lasts until another file's next frame comes first; at the same time the lower rank does.
            let last =
                self.waiting.peek().map_or(
                    Timestamp(i128::MAX),
                    |Reverse((time, other, _))| {
                        if *other < rank { *time - Span(1) } else { *time }
                    },
                );
            file.go_ahead();
            let turn = file.read(|frame| {
                if frame.time > last {
                    return ControlFlow::Break(Turn::Over(frame.time));
                }
                match each(at, frame) {
                    ControlFlow::Continue(()) => ControlFlow::Continue(()),
                    ControlFlow::Break(why) => ControlFlow::Break(Turn::BrokenOff(frame.time, why)),
                }
            });
            match turn {
                Ok(Some(Turn::Over(next))) => self.waiting.push(Reverse((next, rank, at))),
                Ok(Some(Turn::BrokenOff(next, why))) => {
                    self.waiting.push(Reverse((next, rank, at)));
                    return Some(why);
                }
                Ok(None) => self.files[at] = None,
                Err(error) => {
                    self.files[at] = None;
                    self.note(at, error);
                }
            }
        }
        None
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

    /// Opens a file and looks at its first frame, whose time it gives.
    fn open_file(&mut self, at: usize) -> Option<Timestamp> {
        let first = self.sources[at].open(&self.read).and_then(|mut file| {
            let first = file.read(|frame| ControlFlow::Break(frame.time))?;
            Ok(first.map(|time| (time, file)))
        });
        match first {
            Ok(Some((time, file))) => {
                self.files[at] = Some(file);
                return Some(time);
            }
            Ok(None) => (),
            Err(error) => self.note(at, error),
        }
        None
    }

    fn note(&mut self, source: usize, error: Error) {
        self.problems.push(Problem { source, error });
    }
}
