//! The traffic matrix: who sent how much to whom.
//!
//! The first packet of a flow (two addresses behind two MACs) takes the slow way: scope, naming both ends, finding
//! their pair. Every later one costs one lookup in the flow cache and one addition.

use std::hash::{BuildHasher, Hash, Hasher};
use std::net::IpAddr;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use super::index::{Index, Limits};
use super::scope::Scope;
use crate::packet::Packet;
use crate::time::{Bucket, Timestamp};
use crate::traffic::{Counts, Delta, DeltaRow, Directory, End, Seen};

/// Flows remembered. The cache only saves time, so when it is full it starts again.
const MAX_FLOWS: usize = (1 << 18) / 8 * 7;

/// What the slow way found out about a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    OutOfScope,
    /// Counted under this pair, and where the limit of pairs was reached under a second one, for the other end.
    Counted(u32, Option<u32>),
}

/// Two addresses behind two MACs, packed for comparison, and whether the packet went to a group.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct FlowKey([u64; 6]);

impl FlowKey {
    pub(super) fn of(packet: &Packet<'_>) -> Self {
        let (src, dst) = packet.macs.map_or((0, 0), |(src, dst)| (src.bits(), dst.bits()));
        let mark = |bit: bool, at: u32| u64::from(bit) << at;
        let flags = mark(packet.src.is_ipv6(), 63) | mark(packet.to_group, 62) | mark(packet.macs.is_some(), 61);
        let ([a, b], [c, d]) = (words(packet.src), words(packet.dst));
        FlowKey([a, b, c, d, src | flags, dst])
    }
}

/// Two words at a time, which is what the hasher does fastest.
impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f] = self.0.map(u128::from);
        [a << 64 | b, c << 64 | d, e << 64 | f].into_iter().for_each(|words| state.write_u128(words));
    }
}

fn words(addr: IpAddr) -> [u64; 2] {
    match addr {
        IpAddr::V4(v4) => [0, u64::from(v4.to_bits())],
        IpAddr::V6(v6) => [(v6.to_bits() >> 64) as u64, v6.to_bits() as u64],
    }
}

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
    flows: HashTable<(FlowKey, u32, u32)>,
    hasher: DefaultHashBuilder,
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
    end: Timestamp,
    bucket: Bucket,
}

const OUT_OF_SCOPE: u32 = u32::MAX;
const NONE: u32 = u32::MAX;

impl Ledger {
    pub(super) fn new(limits: Limits, scope: Scope, both_ends: bool) -> Self {
        Ledger {
            scope,
            both_ends,
            flows: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            index: Index::new(limits),
            pairs: Vec::new(),
            delta: Delta::default(),
            aside: HashMap::new(),
            told: (0, 0),
            latest: Latest { start: Timestamp(0), end: Timestamp(0), bucket: Timestamp(0).bucket() },
        }
    }

    /// What is known of the flow, if it has been met.
    pub(super) fn flow(&self, key: &FlowKey) -> Option<Flow> {
        let &(_, first, second) = self.flows.find(self.hasher.hash_one(key), |(k, ..)| k == key)?;
        Some(match (first, second) {
            (OUT_OF_SCOPE, _) => Flow::OutOfScope,
            (pair, NONE) => Flow::Counted(pair, None),
            (pair, second) => Flow::Counted(pair, Some(second)),
        })
    }

    /// Whether a packet is counted at all.
    pub(super) fn in_scope(&self, packet: &Packet<'_>) -> bool {
        let (src, dst) = (self.scope.contains(packet.src), !packet.to_group && self.scope.contains(packet.dst));
        if self.both_ends { src && dst } else { src || dst }
    }

    /// Remembers that the flow's packets are not counted.
    pub(super) fn ignore(&mut self, key: FlowKey) -> Flow {
        self.remember(key, Flow::OutOfScope)
    }

    /// The slow way: names the ends of a packet in scope and finds their pair.
    pub(super) fn open(&mut self, key: FlowKey, packet: &Packet<'_>) -> Flow {
        let (src_mac, dst_mac) = packet.macs.unzip();
        let src = self.index.name(packet.src, &self.scope);
        let src = self.index.endpoint(src, src_mac);
        let dst = if packet.to_group {
            self.index.endpoint(End::Multicast, None)
        } else {
            let dst = self.index.name(packet.dst, &self.scope);
            self.index.endpoint(dst, dst_mac)
        };
        let (pair, second) = self.index.pair(src, dst);
        self.pairs.resize(self.index.directory().pairs().len(), Pair::default());
        let flow = Flow::Counted(pair, second);
        self.remember(key, flow)
    }

    /// Counts a packet of a flow.
    pub(super) fn count(&mut self, pair: u32, second: Option<u32>, len: u32, time: Timestamp) {
        let counts = Counts { bytes: u64::from(len), packets: 1, copies: 0 };
        for pair in std::iter::once(pair).chain(second) {
            self.add(pair, counts, time);
        }
    }

    /// Notes that a packet counted at `time` under `pair` has been seen with its copy.
    pub(super) fn copied(&mut self, pair: u32, time: Timestamp) {
        self.pairs[pair as usize].paired = true;
        self.add(pair, Counts { copies: 1, ..Counts::default() }, time);
    }

    pub(super) fn pair_mut(&mut self, pair: u32) -> &mut Pair {
        &mut self.pairs[pair as usize]
    }

    /// All pairs, by number.
    pub(super) fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// Everything named so far.
    pub(super) fn directory(&self) -> &Directory {
        self.index.directory()
    }

    /// Rows gathered since the last delta.
    pub(super) fn rows(&self) -> usize {
        self.delta.rows.len()
    }

    /// Hands over what was gathered since the last delta.
    pub(super) fn take(&mut self) -> Delta {
        self.aside.clear();
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

    fn add(&mut self, pair: u32, counts: Counts, time: Timestamp) {
        let bucket = self.bucket(time);
        let row = self.row(pair, bucket, time);
        row.counts.add(counts);
        if counts.packets > 0 {
            row.seen.merge(Seen::at(time));
        }
    }

    fn row(&mut self, pair: u32, bucket: Bucket, time: Timestamp) -> &mut DeltaRow {
        let (rows, entry) = (&mut self.delta.rows, &mut self.pairs[pair as usize]);
        if let Some(current) = rows.get(entry.row as usize).filter(|row| row.pair == pair) {
            if current.bucket == bucket {
                return &mut rows[entry.row as usize];
            }
            self.aside.insert((pair, current.bucket), entry.row);
            if let Some(&row) = self.aside.get(&(pair, bucket)) {
                entry.row = row;
                return &mut rows[row as usize];
            }
        }
        entry.row = rows.len() as u32;
        rows.push(DeltaRow { pair, bucket, counts: Counts::default(), seen: Seen::at(time) });
        &mut rows[entry.row as usize]
    }

    fn bucket(&mut self, time: Timestamp) -> Bucket {
        if time < self.latest.start || time >= self.latest.end {
            let bucket = time.bucket();
            let (start, end) = (Timestamp::new(bucket.start, 0), Timestamp::new(bucket.end(), 0));
            self.latest = Latest { start, end, bucket };
        }
        self.latest.bucket
    }

    fn remember(&mut self, key: FlowKey, flow: Flow) -> Flow {
        let (first, second) = match flow {
            Flow::OutOfScope => (OUT_OF_SCOPE, NONE),
            Flow::Counted(pair, second) => (pair, second.unwrap_or(NONE)),
        };
        if self.flows.len() == MAX_FLOWS {
            self.flows.clear();
        }
        let hasher = &self.hasher;
        self.flows.insert_unique(hasher.hash_one(key), (key, first, second), |(key, ..)| hasher.hash_one(key));
        flow
    }
}
