//! Sorts more increments than memory holds: sorted runs in temporary files, merged as they are read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use crate::metrics::openmetrics::{Increment, Series};

/// Increments that are held in memory: 24 MiB.
const MAX_WAITING: usize = 1 << 20;

/// Runs that are merged into one longer one. So many are read at once for each length there is.
const MAX_RUNS: usize = 64;

/// What is read of a run at once.
const READ_BYTES: usize = 1 << 15;

/// Takes increments in any order; those of the same series and time become one.
pub(super) struct Sorter {
    waiting: Vec<Increment>,
    /// The runs by length: each but the first is merged from many before.
    levels: Vec<Level>,
    max_waiting: usize,
    max_runs: usize,
}

/// Runs of one length, one after the other in a file without a name.
struct Level {
    file: Rc<File>,
    /// Where each ends.
    ends: Vec<u64>,
}

impl Sorter {
    pub(super) fn new() -> Self {
        Sorter::with(MAX_WAITING, MAX_RUNS)
    }

    fn with(max_waiting: usize, max_runs: usize) -> Self {
        Sorter { waiting: Vec::new(), levels: Vec::new(), max_waiting, max_runs }
    }

    pub(super) fn add(&mut self, increment: Increment) -> io::Result<()> {
        if self.waiting.len() == self.max_waiting {
            self.sum_up();
            // What shrinks much has room again.
            if self.waiting.len() > self.max_waiting / 2 {
                let run = std::mem::take(&mut self.waiting);
                self.keep(0, run.iter().copied().map(Ok))?;
                self.waiting = run;
                self.waiting.clear();
            }
        }
        self.waiting.push(increment);
        Ok(())
    }

    /// All of them by series and time.
    pub(super) fn finish(mut self) -> io::Result<Box<dyn Iterator<Item = io::Result<Increment>>>> {
        self.sum_up();
        if self.levels.is_empty() {
            return Ok(Box::new(self.waiting.into_iter().map(Ok)));
        }
        let mut runs: Vec<Run> = vec![Box::new(self.waiting.into_iter().map(Ok))];
        for level in self.levels {
            runs.extend(level.runs());
        }
        Ok(Box::new(Merged::of(runs)?))
    }

    fn sum_up(&mut self) {
        self.waiting.sort_unstable();
        self.waiting.dedup_by(|later, sum| same(sum, later) && add(sum, later));
    }

    /// Adds a run to those of a level.
    fn keep(&mut self, level: usize, run: impl Iterator<Item = io::Result<Increment>>) -> io::Result<()> {
        if level == self.levels.len() {
            self.levels.push(Level { file: Rc::new(tempfile::tempfile()?), ends: Vec::new() });
        }
        if self.levels[level].ends.len() == self.max_runs {
            let merged = Merged::of(self.levels[level].runs().collect())?;
            self.keep(level + 1, merged)?;
            self.levels[level].clear()?;
        }
        self.levels[level].write(run)
    }
}

fn same(one: &Increment, other: &Increment) -> bool {
    (one.series, one.end) == (other.series, other.end)
}

fn add(sum: &mut Increment, more: &Increment) -> bool {
    sum.amount = sum.amount.saturating_add(more.amount);
    true
}

impl Level {
    fn write(&mut self, run: impl Iterator<Item = io::Result<Increment>>) -> io::Result<()> {
        let start = self.ends.last().copied().unwrap_or(0);
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(start))?;
        let mut out = BufWriter::with_capacity(READ_BYTES, file);
        let mut written = 0;
        for increment in run {
            out.write_all(&encoded(&increment?))?;
            written += RECORD as u64;
        }
        out.flush()?;
        self.ends.push(start + written);
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.ends.clear();
        self.file.set_len(0)
    }

    fn runs(&self) -> impl Iterator<Item = Run> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(at, &end)| {
            let part = Part { file: Rc::clone(&self.file), at, end };
            Box::new(Records(BufReader::with_capacity(READ_BYTES, part))) as Run
        })
    }
}

/// Bytes of an increment in a file.
const RECORD: usize = 24;

fn encoded(increment: &Increment) -> [u8; RECORD] {
    let Increment { series: Series { family, owner }, end, amount } = increment;
    let mut record = [0; RECORD];
    record[..4].copy_from_slice(&family.to_le_bytes());
    record[4..8].copy_from_slice(&owner.to_le_bytes());
    record[8..16].copy_from_slice(&end.to_le_bytes());
    record[16..].copy_from_slice(&amount.to_le_bytes());
    record
}

fn decoded(record: &[u8; RECORD]) -> Increment {
    fn part<const N: usize>(record: &[u8; RECORD], at: usize) -> [u8; N] {
        std::array::from_fn(|i| record[at + i])
    }
    let series = Series { family: u32::from_le_bytes(part(record, 0)), owner: u32::from_le_bytes(part(record, 4)) };
    Increment { series, end: i64::from_le_bytes(part(record, 8)), amount: u64::from_le_bytes(part(record, 16)) }
}

/// Part of a file, whatever else is read of it.
struct Part {
    file: Rc<File>,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..left], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

struct Records(BufReader<Part>);

impl Iterator for Records {
    type Item = io::Result<Increment>;

    fn next(&mut self) -> Option<Self::Item> {
        let part = self.0.get_ref();
        if part.at == part.end && self.0.buffer().is_empty() {
            return None;
        }
        let mut record = [0; RECORD];
        Some(self.0.read_exact(&mut record).map(|()| decoded(&record)))
    }
}

/// Increments by series and time.
type Run = Box<dyn Iterator<Item = io::Result<Increment>>>;

/// Several runs as one.
struct Merged {
    runs: Vec<Run>,
    /// The next one of each run, and which run that is.
    next: BinaryHeap<Reverse<(Increment, usize)>>,
}

impl Merged {
    fn of(runs: Vec<Run>) -> io::Result<Self> {
        let mut merged = Merged { next: BinaryHeap::with_capacity(runs.len()), runs };
        (0..merged.runs.len()).try_for_each(|run| merged.advance(run))?;
        Ok(merged)
    }

    fn advance(&mut self, run: usize) -> io::Result<()> {
        let next = self.runs[run].next().transpose()?;
        self.next.extend(next.map(|increment| Reverse((increment, run))));
        Ok(())
    }

    fn pop(&mut self) -> io::Result<Option<Increment>> {
        let Some(Reverse((increment, run))) = self.next.pop() else { return Ok(None) };
        self.advance(run)?;
        Ok(Some(increment))
    }
}

impl Iterator for Merged {
    type Item = io::Result<Increment>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut sum = match self.pop() {
            Ok(sum) => sum?,
            Err(error) => return Some(Err(error)),
        };
        while self.next.peek().is_some_and(|Reverse((next, _))| same(&sum, next)) {
            match self.pop() {
                Ok(next) => next.is_some_and(|next| add(&mut sum, &next)),
                Err(error) => return Some(Err(error)),
            };
        }
        Some(Ok(sum))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn increment() -> impl Strategy<Value = Increment> {
        (0..3_u32, 0..4_u32, -5..20_i64, 0..5_u64).prop_map(|(family, owner, end, amount)| {
            let amount = if amount == 4 { u64::MAX } else { amount << 40 };
            Increment { series: Series { family, owner }, end, amount }
        })
    }

    proptest! {
        /// Whether nothing, a part or nearly all of it has to go to a file, and those files into others.
        #[test]
        fn what_comes_out_is_sorted_and_sums_up(
            increments in prop::collection::vec(increment(), 0..600),
            max_waiting in 1..40_usize,
            max_runs in 2..5_usize,
        ) {
            let mut want = BTreeMap::new();
            let mut sorters = [Sorter::with(max_waiting, max_runs), Sorter::new()];
            for increment in &increments {
                let sum: &mut u64 = want.entry((increment.series, increment.end)).or_default();
                *sum = sum.saturating_add(increment.amount);
                sorters.iter_mut().for_each(|sorter| sorter.add(*increment).unwrap());
            }
            let want: Vec<_> =
                want.into_iter().map(|((series, end), amount)| Increment { series, end, amount }).collect();
            prop_assert!(sorters[1].levels.is_empty());
            for sorter in sorters {
                let sorted: Vec<_> = sorter.finish().unwrap().collect::<io::Result<_>>().unwrap();
                prop_assert_eq!(&sorted, &want);
            }
        }
    }

    #[test]
    fn runs_become_longer_ones_and_leave_no_more_than_they_are() {
        let mut sorter = Sorter::with(2, 3);
        for end in 0..1000 {
            sorter.add(Increment { end: end * 7919 % 1000, amount: 1, ..Increment::default() }).unwrap();
        }
        assert!(sorter.levels.len() >= 4 && sorter.levels.iter().all(|level| level.ends.len() <= 3));
        let kept: u64 = sorter.levels.iter().map(|level| level.file.metadata().unwrap().len()).sum();
        assert!(kept <= 1000 * RECORD as u64, "{kept}");
        assert_eq!(sorter.finish().unwrap().count(), 1000);
    }
}
