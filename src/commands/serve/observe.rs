//! What a feed has seen of the time, on its way to the keeper.

use std::collections::BTreeMap;
#[cfg(any(feature = "live", test))]
use std::time::{Duration, Instant};

use crate::coverage::{self, Observed};
use crate::frame::Statistics;
use crate::meter::{Diagnosis, Stats};
use crate::time::{BUCKET_SECONDS, Span, Timestamp};

/// What was seen, by the starts of the five minutes.
pub(super) type Coverage = BTreeMap<i64, Observed>;

/// So many of them are handed over, and committed, whoever asked: bounds memory, whatever the frames' times are.
pub(super) const MAX_COVERAGE: usize = 1 << 12;

/// How much of a silence in a file counts as seen.
const SILENCE: Span = Span::seconds(BUCKET_SECONDS as i64);

/// How much more the machine's clock may have moved than time has passed, and not have jumped.
#[cfg(any(feature = "live", test))]
const SLACK: Span = Span::seconds(1);

/// Adds up what one feed sees.
#[derive(Default)]
pub(super) struct Watch {
    /// Until when it has been noted that frames can arrive; none while they cannot.
    seen: Option<Timestamp>,
    /// The same by a clock that never jumps.
    #[cfg(any(feature = "live", test))]
    at: Option<Instant>,
    /// The five minutes that it is now.
    now: Option<i64>,
    /// Noted, and not handed over.
    coverage: Coverage,
    /// As it was counted up to here.
    stats: Stats,
    capture: Statistics,
    /// Pairs, and singles with and without those that say nothing about loss.
    copies: [u64; 3],
}

impl Watch {
    /// Whether `time` is in other five minutes than it was: what was counted belongs to those.
    pub(super) fn leaves(&self, time: Timestamp) -> bool {
        self.now.is_some_and(|now| now != time.bucket().start)
    }

    /// A frame of a file has this time.
    pub(super) fn frame(&mut self, time: Timestamp) {
        self.note(time, SILENCE);
    }

    fn note(&mut self, time: Timestamp, at_most: Span) {
        let from = self.seen.replace(time).unwrap_or(time).max(time - at_most);
        let mut left = coverage::seconds(from, time);
        while !left.is_empty() {
            let bucket = Timestamp::new(left.start, 0).bucket();
            let end = left.end.min(bucket.end());
            let up = &mut self.coverage.entry(bucket.start).or_default().up;
            up.mark((left.start - bucket.start) as u32..(end - bucket.start) as u32);
            left.start = end;
        }
        self.now = Some(time.bucket().start);
    }

    /// Counts what came since the last time.
    pub(super) fn count(&mut self, stats: &Stats, capture: Statistics) {
        let Some(now) = self.now else { return };
        let more = Observed {
            frames: stats.outcomes.frames() - self.stats.outcomes.frames(),
            teed: stats.teed - self.stats.teed,
            dropped: capture.dropped.saturating_sub(self.capture.dropped),
            ..Observed::default()
        };
        (self.stats, self.capture) = (*stats, capture);
        self.add(now, more);
    }

    /// Counts pairs and singles since the last time. What has said nothing about loss for long may do so from now on:
    /// then only what is new counts.
    pub(super) fn diagnosed(&mut self, diagnosis: &Diagnosis, singles: u64) {
        let Some(now) = self.now else { return };
        let copies = [diagnosis.pairs, diagnosis.singles, singles];
        let [pairs, lost, all] = std::array::from_fn(|at| copies[at].saturating_sub(self.copies[at]));
        self.copies = copies;
        self.add(now, Observed { pairs, singles: lost.min(all), ..Observed::default() });
    }

    fn add(&mut self, now: i64, more: Observed) {
        if more != Observed::default() {
            self.coverage.entry(now).or_default().add(&more);
        }
    }

    /// Whether so much is noted that it has to be handed over.
    pub(super) fn is_full(&self) -> bool {
        self.coverage.len() >= MAX_COVERAGE
    }

    /// Hands over what was noted.
    pub(super) fn take(&mut self) -> Coverage {
        std::mem::take(&mut self.coverage)
    }
}

/// Of a device.
#[cfg(any(feature = "live", test))]
impl Watch {
    /// Frames can arrive on a device from now on.
    pub(super) fn begin(&mut self, time: Timestamp) {
        (self.seen, self.at) = (Some(time), Some(Instant::now()));
        self.now = Some(time.bucket().start);
    }

    /// Frames can arrive no longer.
    pub(super) fn end(&mut self) {
        (self.seen, self.at) = (None, None);
    }

    /// They could until `time`, by the machine's clock. Where that has jumped, only as long counts as has passed.
    pub(super) fn went_on(&mut self, time: Timestamp) {
        let passed = self.at.replace(Instant::now()).map_or(Duration::ZERO, |at| at.elapsed());
        self.note(time, Span(passed.as_nanos() as i128 + SLACK.0));
    }
}

/// Adds all of it.
pub(super) fn merge(coverage: &mut Coverage, more: Coverage) {
    for (start, more) in more {
        coverage.entry(start).or_default().add(&more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(watch: &mut Watch) -> Vec<(i64, u32)> {
        watch.take().into_iter().map(|(start, observed)| (start, observed.up.count())).collect()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::new(seconds, 0)
    }

    #[test]
    fn a_clock_that_jumps_covers_no_more_than_has_passed() {
        let mut watch = Watch::default();
        watch.begin(at(1000));
        // A year ahead, back, and back by a little: next to no time has passed.
        for time in [32_000_000, 1001, 1000, 1000, -86_400, 500] {
            watch.went_on(at(time));
        }
        let covered: u32 = covered(&mut watch).iter().map(|(_, seconds)| seconds).sum();
        assert!(covered <= 6, "{covered} seconds");
    }

    #[test]
    fn of_a_files_silence_five_minutes_count_and_nothing_twice() {
        let mut watch = Watch::default();
        for time in [100, 250, 350, 200, 400] {
            watch.frame(at(time));
        }
        assert_eq!(covered(&mut watch), [(0, 200), (300, 100)]);
        watch.frame(at(10_000));
        assert_eq!(covered(&mut watch), [(9600, 200), (9900, 100)]);
        watch.frame(Timestamp(i128::MAX / 4));
        watch.frame(Timestamp(i128::MIN / 4));
        assert!(watch.take().len() <= 2);
    }

    #[test]
    fn while_frames_cannot_arrive_nothing_is_covered() {
        let mut watch = Watch::default();
        watch.begin(at(0));
        watch.end();
        watch.begin(at(1000));
        watch.went_on(at(1000));
        assert_eq!(covered(&mut watch), []);
    }

    #[test]
    fn counts_belong_to_the_five_minutes_in_which_they_came() {
        let mut watch = Watch::default();
        let stats = |teed, pairs| Stats { teed, pairs, ..Stats::default() };
        let dropped = |dropped| Statistics { received: 0, dropped };
        watch.count(&stats(1, 0), dropped(1));
        watch.frame(at(10));
        watch.count(&stats(3, 0), dropped(2));
        assert!(!watch.leaves(at(299)) && watch.leaves(at(300)) && watch.leaves(at(-1)));
        watch.frame(at(310));
        watch.count(&stats(4, 0), dropped(7));
        let coverage = watch.take();
        let counts: Vec<_> = coverage.values().map(|observed| (observed.teed, observed.dropped)).collect();
        assert_eq!(counts, [(3, 2), (1, 5)]);
        watch.count(&stats(4, 0), dropped(7));
        assert_eq!(watch.take(), Coverage::new());
    }
}
