//! The traffic matrix: who sent how much to whom.
//!
//! The first packet of a flow (two addresses behind two MACs) takes the slow way: scope, naming both ends, finding
//! their pair. Every later one costs one lookup in the flow cache and one addition.

use std::net::IpAddr;

use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};
use std::hash::BuildHasher;

use super::scope::Scope;
use crate::packet::{Mac, Packet};
use crate::time::{Bucket, Timestamp};
use crate::traffic::{Counts, Delta, DeltaRow, End, Endpoint, Seen};

/// How many addresses and pairs are told apart. What comes later is `other`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Client addresses.
    pub addresses: usize,
    /// Pairs of source and destination.
    pub pairs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { addresses: 262_144, pairs: 1_048_576 }
    }
}

/// MACs remembered for one address (or pseudo-end). An address behind more of them is spoofed or broken.
const MACS_PER_END: u32 = 256;

/// Flows remembered. The cache only saves time, so when it is full it starts again.
const MAX_FLOWS: usize = (1 << 20) / 8 * 7;

/// What the slow way found out about a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    OutOfScope,
    /// Counted under this pair, and where the limit of pairs was reached under a second one, for the other end.
    Counted(u32, Option<u32>),
}

/// Two addresses behind two MACs, packed for comparison, and whether the packet went to a group.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FlowKey([u64; 6]);

impl FlowKey {
    pub(super) fn of(packet: &Packet<'_>) -> Self {
        let (src, dst) = packet.macs.unwrap_or((Mac(0), Mac(0)));
        let mark = |bit: bool, at: u32| u64::from(bit) << at;
        let flags = mark(packet.src.is_ipv6(), 63) | mark(packet.to_group, 62) | mark(packet.macs.is_some(), 61);
        let ([a, b], [c, d]) = (words(packet.src), words(packet.dst));
        FlowKey([a, b, c, d, src.0 | flags, dst.0])
    }
}

fn words(addr: IpAddr) -> [u64; 2] {
    match addr {
        IpAddr::V4(v4) => [0, u64::from(v4.to_bits())],
        IpAddr::V6(v6) => [(v6.to_bits() >> 64) as u64, v6.to_bits() as u64],
    }
}

/// A pair of endpoints.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub src: u32,
    pub dst: u32,
    /// Its current row in the delta, if `delta` is the ledger's.
    row: u32,
    delta: u32,
    /// Unicast packets that were seen with their copy, and that waited for one in vain.
    pub copies: u64,
    pub singles: u64,
    /// A packet longer than the tee rule's length came whole: it was not tee'd.
    pub whole: bool,
}

pub(super) struct Ledger {
    limits: Limits,
    scope: Scope,
    both_ends: bool,
    flows: HashTable<(FlowKey, u32, u32)>,
    hasher: DefaultHashBuilder,
    endpoints: Vec<Endpoint>,
    endpoint_ids: HashMap<Endpoint, u32>,
    /// For every end: the number of its first endpoint, and how many MACs it has.
    ends: HashMap<End, (u32, u32)>,
    addresses: usize,
    pairs: Vec<Pair>,
    pair_ids: HashMap<(u32, u32), u32>,
    /// Pairs of ends, by the first endpoint of each: what the limit of pairs counts.
    end_pairs: HashSet<(u32, u32)>,
    delta: Delta,
    delta_number: u32,
    /// Rows of pairs that have several buckets in this delta.
    aside: HashMap<(u32, Bucket), u32>,
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
            limits,
            scope,
            both_ends,
            flows: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            endpoints: Vec::new(),
            endpoint_ids: HashMap::new(),
            ends: HashMap::new(),
            addresses: 0,
            pairs: Vec::new(),
            pair_ids: HashMap::new(),
            end_pairs: HashSet::new(),
            delta: Delta::default(),
            delta_number: 0,
            aside: HashMap::new(),
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
        let macs = packet.macs;
        let src = self.name(packet.src);
        let src = self.endpoint(src, macs.map(|(src, _)| src));
        let dst = if packet.to_group { End::Multicast } else { self.name(packet.dst) };
        let dst = self.endpoint(dst, if packet.to_group { None } else { macs.map(|(_, dst)| dst) });
        let flow = if self.has_room(src, dst) {
            Flow::Counted(self.pair(src, dst), None)
        } else {
            let beyond = self.endpoint(End::Beyond, None);
            Flow::Counted(self.pair(src, beyond), Some(self.pair(beyond, dst)))
        };
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
        self.pairs[pair as usize].copies += 1;
        self.add(pair, Counts { copies: 1, ..Counts::default() }, time);
    }

    pub(super) fn pair_mut(&mut self, pair: u32) -> &mut Pair {
        &mut self.pairs[pair as usize]
    }

    /// All pairs with the MACs of their ends.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&Pair, Option<Mac>, Option<Mac>)> + Clone {
        let mac = |endpoint: u32| self.endpoints[endpoint as usize].mac;
        self.pairs.iter().map(move |pair| (pair, mac(pair.src), mac(pair.dst)))
    }

    /// Rows gathered since the last delta.
    pub(super) fn rows(&self) -> usize {
        self.delta.rows.len()
    }

    /// Hands over what was gathered since the last delta: a swap, whatever its size.
    pub(super) fn take(&mut self) -> Delta {
        self.delta_number = self.delta_number.wrapping_add(1);
        self.aside.clear();
        std::mem::take(&mut self.delta)
    }

    /// Merges what waits to be handed over into wider buckets.
    pub(super) fn widen(&mut self, seconds: u32) {
        self.delta.widen(seconds);
        // The rows have moved: no pair has one now.
        self.delta_number = self.delta_number.wrapping_add(1);
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
        let entry = &mut self.pairs[pair as usize];
        if entry.delta == self.delta_number {
            let current = self.delta.rows[entry.row as usize].bucket;
            if current == bucket {
                return &mut self.delta.rows[entry.row as usize];
            }
            self.aside.insert((pair, current), entry.row);
            if let Some(&row) = self.aside.get(&(pair, bucket)) {
                entry.row = row;
                return &mut self.delta.rows[row as usize];
            }
        }
        entry.row = self.delta.rows.len() as u32;
        entry.delta = self.delta_number;
        self.delta.rows.push(DeltaRow { pair, bucket, counts: Counts::default(), seen: Seen::at(time) });
        &mut self.delta.rows[entry.row as usize]
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

    /// The end that an address is reported as. A new client is let in here while there is room.
    fn name(&mut self, addr: IpAddr) -> End {
        let end = End::Addr(addr);
        if self.ends.contains_key(&end) {
            end
        } else if !self.scope.contains(addr) {
            End::External
        } else if self.addresses < self.limits.addresses {
            self.addresses += 1;
            end
        } else {
            End::Other
        }
    }

    /// The number of an endpoint. Where MACs run into their limits it is the one without a MAC.
    fn endpoint(&mut self, end: End, mac: Option<Mac>) -> u32 {
        if let Some(&id) = self.endpoint_ids.get(&Endpoint { end, mac }) {
            return id;
        }
        let id = self.endpoints.len() as u32;
        let (_, macs) = self.ends.entry(end).or_insert((id, 0));
        let crowded =
            *macs >= MACS_PER_END || (*macs > 0 && self.endpoints.len() >= self.limits.addresses.saturating_mul(2));
        if mac.is_some() && crowded {
            return self.endpoint(end, None);
        }
        *macs += 1;
        let endpoint = Endpoint { end, mac };
        self.endpoints.push(endpoint);
        self.endpoint_ids.insert(endpoint, id);
        self.delta.endpoints.push(endpoint);
        id
    }

    /// Whether the pair of these two ends is within the limit of pairs; takes its place there if it is.
    fn has_room(&mut self, src: u32, dst: u32) -> bool {
        let is_other = |endpoint: u32| self.endpoints[endpoint as usize].end == End::Other;
        if is_other(src) && is_other(dst) {
            return true;
        }
        let heads = (self.head(src), self.head(dst));
        self.end_pairs.contains(&heads) || (self.end_pairs.len() < self.limits.pairs && self.end_pairs.insert(heads))
    }

    /// The first endpoint of the same end.
    fn head(&self, endpoint: u32) -> u32 {
        self.ends.get(&self.endpoints[endpoint as usize].end).map_or(endpoint, |&(head, _)| head)
    }

    /// The number of a pair. Where MACs have made too many of them it is the one without MACs.
    fn pair(&mut self, src: u32, dst: u32) -> u32 {
        if let Some(&id) = self.pair_ids.get(&(src, dst)) {
            return id;
        }
        let (mut src, mut dst) = (src, dst);
        if self.pairs.len() >= self.limits.pairs.saturating_mul(2) {
            src = self.endpoint(self.endpoints[src as usize].end, None);
            dst = self.endpoint(self.endpoints[dst as usize].end, None);
            if let Some(&id) = self.pair_ids.get(&(src, dst)) {
                return id;
            }
        }
        let id = self.pairs.len() as u32;
        let delta = self.delta_number.wrapping_sub(1);
        self.pairs.push(Pair { src, dst, row: 0, delta, copies: 0, singles: 0, whole: false });
        self.pair_ids.insert((src, dst), id);
        self.delta.pairs.push((src, dst));
        id
    }
}
