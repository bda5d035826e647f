//! Who moved how much: the nouns of the traffic matrix.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::packet::Mac;
use crate::time::{Bucket, SECOND, Timestamp};

/// One end of a counted packet. The order is that of every report: IPv4 before IPv6, numeric, then the pseudo-ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// A client: an address in scope.
    Addr(IpAddr),
    /// An address out of scope, across a gateway or exit node.
    External,
    /// The destination of a packet to a group.
    Multicast,
    /// An address that came after the limit of addresses was reached.
    Other,
    /// The far end of a packet whose pair came after the limit of pairs was reached: the near end still counts, and
    /// the matrix shows `other,other`. Stands on one side of a row only; such a packet makes one row for either end.
    Beyond,
}

impl End {
    /// Whether this is a client's address.
    pub fn is_addr(self) -> bool {
        matches!(self, End::Addr(_))
    }

    /// Whether a row that this end is the source of repeats packets of another row: those from [`End::Beyond`] have one
    /// for either end and count once, for their sender.
    pub fn repeats(self) -> bool {
        self == End::Beyond
    }
}

/// The address as RFC 5952 has it, or the pseudo-end's name.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Addr(addr) => addr.fmt(f),
            End::External => f.write_str("external"),
            End::Multicast => f.write_str("multicast"),
            End::Other => f.write_str("other"),
            End::Beyond => f.write_str("beyond"),
        }
    }
}

impl FromStr for End {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Ok(match s {
            "external" => End::External,
            "multicast" => End::Multicast,
            "other" => End::Other,
            "beyond" => End::Beyond,
            _ => End::Addr(s.parse().map_err(|_| format!("'{s}' is no address"))?),
        })
    }
}

/// An end and the MAC it was seen behind: the MAC names the ZeroTier member that carried the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Who.
    pub end: End,
    /// Behind which MAC; `None` where the link has none or where it does not matter (groups, [`End::Beyond`]).
    pub mac: Option<Mac>,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// IP bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// How many of the packets were unicast and seen with their copy.
    pub copies: u64,
}

impl Counts {
    /// Adds `more`.
    pub fn add(&mut self, more: Counts) {
        self.bytes += more.bytes;
        self.packets += more.packets;
        self.copies += more.copies;
    }
}

/// The times of the first and the last counted packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The earliest packet time.
    pub first: Timestamp,
    /// The latest packet time.
    pub last: Timestamp,
}

impl Seen {
    /// One packet at `time`.
    pub fn at(time: Timestamp) -> Self {
        Seen { first: time, last: time }
    }

    /// Both.
    pub fn merge(&mut self, other: Seen) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// One entry of the traffic matrix over one interval: what one endpoint sent to another.
///
/// Reports are functions over rows, whether these come from a ledger in memory or from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who sent.
    pub src: Endpoint,
    /// To whom.
    pub dst: Endpoint,
    /// How much.
    pub counts: Counts,
    /// When.
    pub seen: Seen,
}

/// What an end ever moved, over all MACs it was seen behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// IP bytes it sent.
    pub sent_bytes: u64,
    /// IP bytes it received.
    pub received_bytes: u64,
    /// Packets it sent.
    pub sent_packets: u64,
    /// Packets it received.
    pub received_packets: u64,
    /// Its first and last packet.
    pub seen: Seen,
}

impl Totals {
    /// Nothing moved, at some time.
    pub fn none(seen: Seen) -> Self {
        Totals { sent_bytes: 0, received_bytes: 0, sent_packets: 0, received_packets: 0, seen }
    }

    /// Adds `more`. A sum beyond 64 bits stops at their end, where the database refuses it.
    pub fn add(&mut self, more: &Totals) {
        self.sent_bytes = self.sent_bytes.saturating_add(more.sent_bytes);
        self.received_bytes = self.received_bytes.saturating_add(more.received_bytes);
        self.sent_packets = self.sent_packets.saturating_add(more.sent_packets);
        self.received_packets = self.received_packets.saturating_add(more.received_packets);
        self.seen.merge(more.seen);
    }
}

/// How traffic came into a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Captured by `serve`: counts in the counters of `/metrics`.
    Live = 0,
    /// From a capture file: shows in reports only.
    Import = 1,
}

/// What becomes of imported packets of a time that was captured live, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// They are left out of the database.
    Skip,
    /// They count beside those captured live.
    Add,
}

/// What became of a frame. Every frame ends in exactly one of these; together they are all frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its packet was counted.
    Counted,
    /// A tee'd copy of a packet that was counted already.
    Copy,
    /// Neither end is a client (with `--both-ends`: not both are).
    OutOfScope,
    /// Something other than IP.
    NotIp,
    /// It says it is IP, and is cut too short or contradicts itself.
    Malformed,
    /// A link type that ztmon does not read.
    UnsupportedLink,
}

impl Outcome {
    /// All of them, in the order of every summary.
    pub const ALL: [Outcome; 6] = [
        Outcome::Counted,
        Outcome::Copy,
        Outcome::OutOfScope,
        Outcome::NotIp,
        Outcome::Malformed,
        Outcome::UnsupportedLink,
    ];

    /// The name in metrics and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Counted => "counted",
            Outcome::Copy => "copy",
            Outcome::OutOfScope => "out_of_scope",
            Outcome::NotIp => "not_ip",
            Outcome::Malformed => "malformed",
            Outcome::UnsupportedLink => "unsupported_link",
        }
    }
}

/// Frames by outcome, indexed by [`Outcome`] in the order of [`Outcome::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes([u64; 6]);

impl Outcomes {
    /// One more.
    pub fn record(&mut self, outcome: Outcome) {
        self.0[outcome as usize] += 1;
    }

    /// How many ended so.
    pub fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize]
    }

    /// Both.
    pub fn plus(&self, other: &Outcomes) -> Outcomes {
        Outcomes(std::array::from_fn(|at| self.0[at] + other.0[at]))
    }

    /// All frames.
    pub fn frames(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// What a ledger gathered since it was last asked. Endpoints and pairs are numbered from 0 in the order in which the
/// ledger first met them; a delta brings the new ones, its rows may speak of all.
#[derive(Debug, Default)]
pub struct Delta {
    /// Endpoints met since the last delta.
    pub endpoints: Vec<Endpoint>,
    /// Pairs met since the last delta: the numbers of source and destination.
    pub pairs: Vec<(u32, u32)>,
    /// What was counted since the last delta. A pair may have several rows for one bucket.
    pub rows: Vec<DeltaRow>,
}

/// What one pair moved in one bucket since the last delta. It fills a line of a processor's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub struct DeltaRow {
    /// The number of the pair.
    pub pair: u32,
    /// When, as far as history tells.
    pub bucket: Bucket,
    /// How much.
    pub counts: Counts,
    /// When the first and the last packet came, in nanoseconds after the bucket's start.
    pub first: u64,
    /// See [`first`](DeltaRow::first).
    pub last: u64,
}

impl DeltaRow {
    /// A row of packets that were seen in the bucket.
    pub fn new(pair: u32, bucket: Bucket, counts: Counts, seen: Seen) -> Self {
        DeltaRow { pair, bucket, counts, first: bucket.offset(seen.first), last: bucket.offset(seen.last) }
    }

    /// When the first and the last packet came.
    pub fn seen(&self) -> Seen {
        Seen { first: self.bucket.time(self.first), last: self.bucket.time(self.last) }
    }

    /// The same in the bucket of `seconds`, if its own is shorter.
    pub fn widened(mut self, seconds: u32) -> Self {
        if self.bucket.seconds < seconds {
            let bucket = self.bucket.widened(seconds);
            let later = self.bucket.start.abs_diff(bucket.start) * SECOND as u64;
            (self.bucket, self.first, self.last) = (bucket, self.first + later, self.last + later);
        }
        self
    }

    /// One more packet, so many nanoseconds after the bucket's start.
    #[inline(always)]
    pub fn count(&mut self, len: u32, offset: u64) {
        self.counts.bytes += u64::from(len);
        self.counts.packets += 1;
        // Nearly always the latest so far.
        if offset > self.last {
            self.last = offset;
        } else if offset < self.first {
            self.first = offset;
        }
    }
}

/// Everything a ledger has named so far: turns its numbers back into endpoints.
#[derive(Debug, Default)]
pub struct Directory {
    endpoints: Vec<Endpoint>,
    pairs: Vec<(u32, u32)>,
}

impl Delta {
    /// Puts rows into buckets of `seconds`, where theirs are shorter, and merges them. What remains exact is every sum,
    /// and when the first and last packet came.
    pub fn widen(&mut self, seconds: u32) {
        self.rows.iter_mut().for_each(|row| *row = row.widened(seconds));
        self.merge();
    }

    /// Sums up the rows of the same pair and bucket.
    pub fn merge(&mut self) {
        self.rows.sort_unstable_by_key(|row| (row.pair, row.bucket));
        self.rows.dedup_by(|later, row| {
            let same = (row.pair, row.bucket) == (later.pair, later.bucket);
            if same {
                row.counts.add(later.counts);
                (row.first, row.last) = (row.first.min(later.first), row.last.max(later.last));
            }
            same
        });
        self.rows.shrink_to_fit();
    }
}

impl Directory {
    /// Takes in what is new in `delta`.
    pub fn extend(&mut self, delta: &Delta) {
        self.endpoints.extend_from_slice(&delta.endpoints);
        self.pairs.extend_from_slice(&delta.pairs);
    }

    /// A new endpoint's number.
    pub fn add_endpoint(&mut self, endpoint: Endpoint) -> u32 {
        self.endpoints.push(endpoint);
        self.endpoints.len() as u32 - 1
    }

    /// A new pair's number.
    pub fn add_pair(&mut self, src: u32, dst: u32) -> u32 {
        self.pairs.push((src, dst));
        self.pairs.len() as u32 - 1
    }

    /// All endpoints, by their numbers.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The numbers of source and destination of all pairs, by their own.
    pub fn pairs(&self) -> &[(u32, u32)] {
        &self.pairs
    }

    /// An endpoint, by its number.
    pub fn endpoint(&self, endpoint: u32) -> Endpoint {
        self.endpoints[endpoint as usize]
    }

    /// The numbers of a pair's source and destination, by the pair's.
    pub fn ends(&self, pair: u32) -> (u32, u32) {
        self.pairs[pair as usize]
    }

    /// Source and destination of a pair, by its number.
    pub fn pair(&self, pair: u32) -> (Endpoint, Endpoint) {
        let (src, dst) = self.ends(pair);
        (self.endpoint(src), self.endpoint(dst))
    }

    /// What all packets in the rows moved.
    pub fn moved(&self, rows: &[DeltaRow]) -> Counts {
        let mut sum = Counts::default();
        let once = rows.iter().filter(|row| !self.pair(row.pair).0.end.repeats());
        once.for_each(|row| sum.add(row.counts));
        sum
    }

    /// The bytes of all packets in the rows.
    pub fn bytes(&self, rows: &[DeltaRow]) -> u64 {
        self.moved(rows).bytes
    }

    /// The row with its endpoints in full.
    pub fn row(&self, row: &DeltaRow) -> Row {
        let (src, dst) = self.pair(row.pair);
        Row { src, dst, counts: row.counts, seen: row.seen() }
    }
}
