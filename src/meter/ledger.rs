//! The traffic matrix: who sent how much to whom.
//!
//! The first packet of a flow takes the slow way: scope, naming both ends, finding their pair. Every later one is known
//! by [`flows`](super::flows) and costs one addition.

use hashbrown::HashMap;

use super::index::{Index, Limits};
use super::scope::Scope;
use crate::packet::Flow;
use crate::time::{Bucket, SECOND, Timestamp};
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
    latest: Latest,
}

/// The bucket of the latest packet, so that its neighbours need no division.
#[derive(Clone, Copy)]
struct Latest {
    start: Timestamp,
    /// In nanoseconds.
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
            latest: Latest::at(Timestamp(0)),
        }
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
    pub(super) fn touch(&self, row: u32) -> u32 {
        // A row lies in two cache lines, its ends in one each.
        self.delta.rows.get(row as usize).map_or(0, |row| row.pair ^ row.seen.first.0 as u32)
    }

    /// Counts a packet of a pair, if the pair's row for its time stands where it stood last time.
    #[inline(always)]
    pub(super) fn count_at(&mut self, pair: u32, row: u32, len: u32, time: Timestamp) -> bool {
        self.row_at(pair, row, time).map(|row| add(row, len, time)).is_some()
    }

    /// Counts a packet of a pair wherever its row is: says where.
    pub(super) fn count(&mut self, pair: u32, len: u32, time: Timestamp) -> u32 {
        let at = self.find_row(pair, time);
        add(&mut self.delta.rows[at as usize], len, time);
        at
    }

    /// Notes that a packet counted at `time` under `pair` has been seen with its copy. The pair's row may stand where it
    /// stood last time.
    #[inline(always)]
    pub(super) fn copied(&mut self, pair: u32, row: u32, time: Timestamp) {
        match self.row_at(pair, row, time) {
            Some(row) => row.counts.copies += 1,
            None => self.copied_elsewhere(pair, time),
        }
    }

    #[cold]
    fn copied_elsewhere(&mut self, pair: u32, time: Timestamp) {
        let at = self.find_row(pair, time);
        self.delta.rows[at as usize].counts.copies += 1;
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

    /// The row that stands there, if it is the pair's for that time.
    #[inline(always)]
    fn row_at(&mut self, pair: u32, row: u32, time: Timestamp) -> Option<&mut DeltaRow> {
        let start = self.latest.bucket(time)?.start;
        // One that starts here and was widened holds this time, too.
        self.delta.rows.get_mut(row as usize).filter(|row| row.pair == pair && row.bucket.start == start)
    }

    /// The place of the pair's row for a time, which it gets if it has none.
    fn find_row(&mut self, pair: u32, time: Timestamp) -> u32 {
        let bucket = self.latest.bucket(time).unwrap_or_else(|| {
            self.latest = Latest::at(time);
            self.latest.bucket
        });
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
        self.delta.rows.push(DeltaRow { pair, bucket, counts: Counts::default(), seen: Seen::at(time) });
        entry.row
    }
}

#[inline(always)]
fn add(row: &mut DeltaRow, len: u32, time: Timestamp) {
    row.counts.bytes += u64::from(len);
    row.seen.note(time);
    row.counts.packets += 1;
}

impl Latest {
    fn at(time: Timestamp) -> Self {
        let bucket = time.bucket();
        Latest { start: Timestamp::new(bucket.start, 0), len: u64::from(bucket.seconds) * SECOND as u64, bucket }
    }

    /// The bucket, if it is that of this time. What lies beyond the years that buckets reach finds none.
    #[inline(always)]
    fn bucket(&self, time: Timestamp) -> Option<Bucket> {
        let since = u64::try_from(time.0 - self.start.0).ok()?;
        (since < self.len).then_some(self.bucket)
    }
}
