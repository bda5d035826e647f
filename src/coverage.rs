//! How much of the time was seen.

use std::ops::Range;

use crate::time::{BUCKET_SECONDS, SECOND, Timestamp};

/// What was seen of a network in five minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// When capture was up and the network fine.
    pub up: Seconds,
    /// Frames that arrived.
    pub frames: u64,
    /// Those between two other nodes: there are some only while a tee rule is at work.
    pub teed: u64,
    /// Frames that the kernel had no room for.
    pub dropped: u64,
    /// Packets seen with their copy.
    pub pairs: u64,
    /// Packets whose copy did not come, of members that send copies.
    pub singles: u64,
}

impl Observed {
    /// Adds `more` of the same five minutes. Time that both have counts once.
    pub fn add(&mut self, more: &Observed) {
        self.up.add(more.up);
        self.frames = self.frames.saturating_add(more.frames);
        self.teed = self.teed.saturating_add(more.teed);
        self.dropped = self.dropped.saturating_add(more.dropped);
        self.pairs = self.pairs.saturating_add(more.pairs);
        self.singles = self.singles.saturating_add(more.singles);
    }
}

/// Bytes that have a bit for each second of five minutes.
const BYTES: usize = (BUCKET_SECONDS as usize).div_ceil(8);

/// A set of seconds of five minutes. Something covers a second if it covers its middle: so what is cut into pieces
/// anywhere covers as much as the whole, and a clock that is set back covers nothing twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds([u8; BYTES]);

/// None of them.
impl Default for Seconds {
    fn default() -> Self {
        Seconds([0; BYTES])
    }
}

impl Seconds {
    /// All of them.
    pub fn all() -> Self {
        let mut all = Seconds::default();
        all.mark(0..BUCKET_SECONDS);
        all
    }

    /// By their bits, the lowest of the first byte first, if there are as many as there have to be.
    pub fn from_bits(bits: &[u8]) -> Option<Self> {
        let seconds = Seconds(bits.try_into().ok()?);
        (seconds == seconds.within(0..BUCKET_SECONDS)).then_some(seconds)
    }

    /// The bits.
    pub fn bits(&self) -> &[u8] {
        &self.0
    }

    /// Puts these seconds in.
    pub fn mark(&mut self, seconds: Range<u32>) {
        for second in seconds.start..seconds.end.min(BUCKET_SECONDS) {
            self.0[second as usize / 8] |= 1 << (second % 8);
        }
    }

    /// Puts in what `more` has.
    pub fn add(&mut self, more: Seconds) {
        self.0.iter_mut().zip(more.0).for_each(|(byte, more)| *byte |= more);
    }

    /// Those that are among `seconds`.
    pub fn within(&self, seconds: Range<u32>) -> Seconds {
        let mut among = Seconds::default();
        among.mark(seconds);
        among.0.iter_mut().zip(self.0).for_each(|(byte, own)| *byte &= own);
        among
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|byte| byte.count_ones()).sum()
    }

    /// The first and the last of them.
    pub fn ends(&self) -> Option<(u32, u32)> {
        let holds = |second: &u32| self.0[*second as usize / 8] >> (second % 8) & 1 == 1;
        Some(((0..BUCKET_SECONDS).find(holds)?, (0..BUCKET_SECONDS).rev().find(holds)?))
    }
}

/// The seconds that begin in a stretch of time by their middles: since the epoch, from the first on, before the second.
pub fn seconds(from: Timestamp, to: Timestamp) -> Range<i64> {
    let middle = |time: Timestamp| {
        let (seconds, nanos) = time.clamped();
        seconds + i64::from(i128::from(nanos) > SECOND / 2)
    };
    middle(from)..middle(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    #[test]
    fn pieces_cover_what_the_whole_does() {
        let from = Timestamp::new(1_700_000_000, 0);
        let whole = seconds(from, from + Span::seconds(1000));
        for step in [1, 99_999_999, 500_000_000, 700_000_001, 1_000_000_000, 7_777_777_777_i128] {
            // Beginning anywhere: no second twice, none left out.
            let mut next = whole.start;
            let mut at = from;
            for _ in 0..2000 {
                let piece = seconds(at, at + Span(step));
                assert!(piece.start == next && piece.end >= next, "{step}");
                (next, at) = (piece.end, at + Span(step));
            }
        }
        assert_eq!(whole, 1_700_000_000..1_700_001_000);
        assert_eq!(seconds(from + Span(SECOND / 2 + 1), from + Span::seconds(1)).count(), 0);
        assert_eq!(seconds(from + Span(SECOND / 2), from + Span::seconds(1)).count(), 1);
        assert!(seconds(from + Span::seconds(9), from).is_empty());
    }

    #[test]
    fn bits_come_back_and_too_many_are_none() {
        let mut some = Seconds::default();
        some.mark(290..400);
        assert_eq!((some.count(), some.ends(), Seconds::default().ends()), (10, Some((290, 299)), None));
        assert_eq!(Seconds::from_bits(some.bits()), Some(some));
        assert_eq!((Seconds::all().count(), Seconds::all().within(100..103).count()), (300, 3));
        assert_eq!(Seconds::from_bits(&[0xff; BYTES]), None);
        assert_eq!(Seconds::from_bits(&[]), None);
        some.add(Seconds::all().within(0..5));
        assert_eq!(some.count(), 15);
    }
}
