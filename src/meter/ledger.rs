//! The traffic matrix: who sent how much to whom.
//!
//! The first packet of a flow takes the slow way: scope, naming both ends, finding their pair. Every later one is known
//! by [`flows`](super::flows) and costs one addition.

use hashbrown::HashMap;

use super::clock::era;
use super::index::{Index, Limits};
use super::scope::Scope;
use crate::packet::Flow;
use crate::time::{Bucket, SECOND, Span, Timestamp};
use crate::traffic::{Counts, Delta, DeltaRow, Directory, End, Seen};

/// What is kept of a pair besides who it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pair {
    /// Unicast packets that waited for their copy in vain.
    pub singles: u64,
    /// Where its current row in the delta stands, if that is its own.
    row: u32,
    /// Some unicast packet was seen with its copy.
    pub paired: bool,
    /// A packet longer than the tee rule's length came whole: it was not tee'd.
    pub whole: bool,
}

pub(super) struct Ledger {
    scope: Scope,
    both_ends: bool,
    index: Index,
    /// By number.
    pairs: Vec<Pair>,
    /// What is to be handed over. Its names are those since [`Ledger::told`], and come in when it is.
    delta: Delta,
    /// Rows of pairs that have several buckets in this delta.
    aside: HashMap<(u32, Bucket), u32>,
    /// Endpoints and pairs that deltas have told of.
    told: (usize, usize),
    /// Of the times that come without their upper bits.
    era: i64,
    latest: Latest,
}

/// The bucket of the latest packet, so that its neighbours need no division.
#[derive(Clone, Copy)]
struct Latest {
    /// The low 64 bits of its start, and its length, in nanoseconds. Nothing is in a bucket without length.
    start: u64,
    len: u64,
    bucket: Bucket,
}

/// The place of no row.
pub(super) const NO_ROW: u32 = u32::MAX;

impl Ledger {
    pub(super) fn new(limits: Limits, scope: Scope, both_ends: bool) -> Self {
        Ledger {
            scope,
            both_ends,
            index: Index::new(limits),
            pairs: Vec::new(),
            delta: Delta::default(),
            aside: HashMap::new(),
            told: (0, 0),
            era: 0,
            latest: Latest::at(Timestamp(0)),
        }
    }

    /// The upper bits of the times that come without them.
    #[inline(always)]
    pub(super) fn era(&self) -> i64 {
        self.era
    }

    /// Times are of this era from here on.
    pub(super) fn enter(&mut self, era: i64) {
        self.era = era;
        self.latest.len = 0;
    }

    /// Whether packets of a flow are counted at all.
    pub(super) fn in_scope(&self, flow: &Flow) -> bool {
        let (src, dst) = (self.scope.contains(flow.src()), !flow.to_group() && self.scope.contains(flow.dst()));
        if self.both_ends { src && dst } else { src || dst }
    }

    /// The slow way: names the ends of a flow in scope and finds their pair. Where the limit of pairs was reached there
    /// is a second one, for the other end.
    pub(super) fn open(&mut self, flow: &Flow) -> (u32, Option<u32>) {
        let (src_mac, dst_mac) = flow.macs().unzip();
        let src = self.index.address(flow.src(), src_mac, &self.scope);
        let dst = match flow.to_group() {
            true => self.index.endpoint(End::Multicast, None),
            false => self.index.address(flow.dst(), dst_mac, &self.scope),
        };
        let pairs = self.index.pair(src, dst);
        self.pairs.resize(self.index.directory().pairs().len(), Pair::default());
        pairs
    }

    /// Fetches a row.
    #[inline(always)]
    pub(super) fn touch_row(&self, row: u32) -> u32 {
        self.delta.rows.get(row as usize).map_or(0, |row| row.pair)
    }

    /// Fetches what names the ends of a flow.
    #[inline(always)]
    pub(super) fn touch_ends(&self, flow: &Flow) -> u32 {
        self.index.touch(flow.src()) ^ self.index.touch(flow.dst())
    }

    /// Counts a packet of a pair, if the pair's row for its time stands where it stood last time.
    #[inline(always)]
    pub(super) fn count_at(&mut self, pair: u32, row: u32, len: u32, time: u64) -> bool {
        self.row_at(pair, row, time).map(|(row, offset)| row.count(len, offset)).is_some()
    }

    /// Counts a packet of a pair wherever its row is: says where.
    pub(super) fn count(&mut self, pair: u32, len: u32, time: u64) -> u32 {
        let time = self.full(time);
        let at = self.find_row(pair, time);
        let row = &mut self.delta.rows[at as usize];
        row.count(len, row.bucket.offset(time));
        at
    }

    /// Notes that a packet counted under `pair`, so many nanoseconds `earlier` than `time`, has been seen with its copy.
    /// The pair's row may stand where it stood last time.
    #[inline(always)]
    pub(super) fn copied(&mut self, pair: u32, row: u32, time: u64, earlier: i64) {
        match time.checked_sub_signed(earlier).and_then(|counted_at| self.row_at(pair, row, counted_at)) {
            Some((row, _)) => row.counts.copies += 1,
            None => self.copied_elsewhere(pair, time, earlier),
        }
    }

    #[cold]
    fn copied_elsewhere(&mut self, pair: u32, time: u64, earlier: i64) {
        let at = self.find_row(pair, self.full(time) - Span(earlier.into()));
        self.delta.rows[at as usize].counts.copies += 1;
    }

    /// With its upper bits.
    #[inline(always)]
    fn full(&self, time: u64) -> Timestamp {
        Timestamp(i128::from(self.era) << 64 | i128::from(time))
    }

    pub(super) fn pair_mut(&mut self, pair: u32) -> &mut Pair {
        &mut self.pairs[pair as usize]
    }

    /// Everything named so far, and all pairs, by number.
    pub(super) fn named_and_pairs(&mut self) -> (&Directory, &[Pair]) {
        self.note_copies();
        (self.index.directory(), &self.pairs)
    }

    /// Notes in the pairs what the rows know: with each copy it would be one more look at memory that is far.
    fn note_copies(&mut self) {
        for row in self.delta.rows.iter().filter(|row| row.counts.copies > 0) {
            self.pairs[row.pair as usize].paired = true;
        }
    }

    /// Everything named so far.
    pub(super) fn directory(&self) -> &Directory {
        self.index.directory()
    }

    /// Rows gathered since the last delta.
    pub(super) fn rows(&self) -> usize {
        self.delta.rows.len()
    }

    /// Shows what was gathered since the last time, and keeps its room for what comes next.
    pub(super) fn show<T>(&mut self, to: impl FnOnce(&Directory, &[DeltaRow]) -> T) -> T {
        self.aside.clear();
        self.note_copies();
        let shown = to(self.index.directory(), &self.delta.rows);
        self.delta.rows.clear();
        shown
    }

    /// Hands over what was gathered since the last delta.
    pub(super) fn take(&mut self) -> Delta {
        self.aside.clear();
        self.note_copies();
        let (endpoints, pairs) = (self.index.directory().endpoints(), self.index.directory().pairs());
        let (told_endpoints, told_pairs) = std::mem::replace(&mut self.told, (endpoints.len(), pairs.len()));
        Delta {
            endpoints: endpoints[told_endpoints..].to_vec(),
            pairs: pairs[told_pairs..].to_vec(),
            rows: std::mem::take(&mut self.delta.rows),
        }
    }

    /// Merges what waits to be handed over into wider buckets.
    pub(super) fn widen(&mut self, seconds: u32) {
        self.delta.widen(seconds);
        // The rows have moved.
        self.aside.clear();
    }

    /// The row that stands there, if it is the pair's for that time, and how far into its bucket that is.
    #[inline(always)]
    fn row_at(&mut self, pair: u32, row: u32, time: u64) -> Option<(&mut DeltaRow, u64)> {
        let Latest { start, len, bucket } = self.latest;
        let offset = time.wrapping_sub(start);
        let row = self.delta.rows.get_mut(row as usize)?;
        // One that starts here and was widened holds this time, too.
        (offset < len && row.pair == pair && row.bucket.start == bucket.start).then_some((row, offset))
    }

    /// The place of the pair's row for a time, which it gets if it has none.
    fn find_row(&mut self, pair: u32, time: Timestamp) -> u32 {
        let known = self.latest.bucket(time.0 as u64).filter(|_| era(time) == self.era);
        let bucket = known.unwrap_or_else(|| time.bucket());
        if known.is_none() && era(time) == self.era {
            self.latest = Latest::at(time);
        }
        let entry = &mut self.pairs[pair as usize];
        if let Some(current) = self.delta.rows.get(entry.row as usize).filter(|row| row.pair == pair) {
            if current.bucket == bucket {
                return entry.row;
            }
            self.aside.insert((pair, current.bucket), entry.row);
            if let Some(&row) = self.aside.get(&(pair, bucket)) {
                entry.row = row;
                return row;
            }
        }
        entry.row = self.delta.rows.len() as u32;
        self.delta.rows.push(DeltaRow::new(pair, bucket, Counts::default(), Seen::at(time)));
        entry.row
    }
}

impl Latest {
    fn at(time: Timestamp) -> Self {
        let bucket = time.bucket();
        let (start, len) = (Timestamp::new(bucket.start, 0).0 as u64, u64::from(bucket.seconds) * SECOND as u64);
        // One that an era ends in, or that time was only brought into, is looked for each time.
        let is_whole = start.checked_add(len).is_some() && bucket.time(bucket.offset(time)) == time;
        Latest { start, len: if is_whole { len } else { 0 }, bucket }
    }

    /// The bucket, if it is that of this time. What lies beyond the years that buckets reach finds none.
    #[inline(always)]
    fn bucket(&self, time: u64) -> Option<Bucket> {
        (time.wrapping_sub(self.start) < self.len).then_some(self.bucket)
    }
}
