//! Frames in, traffic matrix and outcomes out.
//!
//! The meter reads no clock, opens nothing and takes no lock: the same frames give the same numbers, always. Time comes
//! in with the frames.

mod diagnosis;
mod fingerprint;
mod flows;
mod index;
mod ledger;
mod pairing;
mod scope;

pub use diagnosis::{Apart, Diagnosis, Warning};
pub use index::Limits;
pub use scope::{Cidr, Scope};

use diagnosis::Cuts;
use fingerprint::Fingerprint;
use flows::{Flows, Kind, Known};
use ledger::Ledger;
use pairing::{NO_PAIR, Place, Table};

use crate::frame::Frame;
use crate::packet::{Mac, Packet};
use crate::parse::{self, Reject};
use crate::time::{Span, Timestamp};
use crate::traffic::{Delta, Directory, Outcome, Outcomes};

/// Which copies of a packet arrive at the observer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tee {
    /// The sender's and the receiver's: every unicast packet arrives twice.
    #[default]
    Both,
    /// One side's: a unicast packet arrives once, one to a group once per receiver.
    One,
    /// The capture is not from a tee rule: every packet arrives once.
    None,
}

/// What to count and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which copies arrive.
    pub tee: Tee,
    /// The tee rule's length in bytes of Ethernet payload.
    pub tee_bytes: u16,
    /// How far apart two copies may be.
    pub window: Span,
    /// Whose addresses are clients.
    pub scope: Scope,
    /// Count a packet only if both its ends are clients.
    pub both_ends: bool,
    /// The observer's own MAC, if known: its traffic is not tee'd.
    pub observer: Option<Mac>,
    /// How much is told apart.
    pub limits: Limits,
    /// Key of the packets' fingerprints: random where clients must not be able to predict it.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            tee: Tee::default(),
            tee_bytes: 128,
            window: Span::seconds(2),
            scope: Scope::default(),
            both_ends: false,
            observer: None,
            limits: Limits::default(),
            seed: 0,
        }
    }
}

/// What the meter has seen since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames by outcome.
    pub outcomes: Outcomes,
    /// Bytes of the packets that were counted.
    pub bytes: u64,
    /// Unicast packets that were seen with their copy.
    pub pairs: u64,
    /// Unicast packets whose window passed without a copy. Neither groups nor the observer's own traffic.
    pub singles: u64,
    /// Unicast frames with packets in scope, the observer's own left out.
    pub unicast: u64,
    /// Unicast frames between two other nodes: there are some only while a tee rule is at work.
    pub teed: u64,
    /// Packets that could not be remembered until their copy, because too many waited.
    pub overflows: u64,
    /// The latest time that any frame had.
    pub last_frame: Option<Timestamp>,
}

impl Stats {
    /// Of two meters.
    pub fn plus(&self, other: &Stats) -> Stats {
        Stats {
            outcomes: self.outcomes.plus(&other.outcomes),
            bytes: self.bytes + other.bytes,
            pairs: self.pairs + other.pairs,
            singles: self.singles + other.singles,
            unicast: self.unicast + other.unicast,
            teed: self.teed + other.teed,
            overflows: self.overflows + other.overflows,
            last_frame: self.last_frame.max(other.last_frame),
        }
    }
}

/// One key in so many is paired in the shadow under `--tee one`.
const SHADOW_SHARE: u64 = 64;

/// Counts the packets of one device or of one history of files.
pub struct Meter {
    /// What is known of the flows that have been met.
    flows: Flows,
    count: Count,
}

/// All of a meter but the cache of its flows.
struct Count {
    settings: Settings,
    fingerprint: Fingerprint,
    /// Packets that wait for their copy, and those to groups that are remembered.
    waiting: Table,
    ledger: Ledger,
    stats: Stats,
    /// The latest time seen, of frames or told.
    latest: Timestamp,
    cuts: Cuts,
    shadow: Shadow,
}

/// Before any frame: earlier than any capture can say, and far enough from the end of the numbers to subtract.
const LONG_AGO: Timestamp = Timestamp(i128::MIN / 2);

/// Pairs that a one-sided rule should not bring, looked for among a sample of the keys.
struct Shadow {
    frames: u64,
    pairs: u64,
}

impl Meter {
    /// A meter that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        let flows = Flows::new(fingerprint::key(settings.seed));
        let count = Count {
            fingerprint: Fingerprint::new(settings.seed, usize::from(settings.tee_bytes)),
            waiting: Table::new(settings.window),
            ledger: Ledger::new(settings.limits, settings.scope.clone(), settings.both_ends),
            stats: Stats::default(),
            latest: LONG_AGO,
            cuts: Cuts::default(),
            shadow: Shadow { frames: 0, pairs: 0 },
            settings,
        };
        Meter { flows, count }
    }

    /// Takes one frame in.
    #[inline]
    pub fn frame(&mut self, frame: &Frame<'_>) -> Outcome {
        let count = &mut self.count;
        count.advance(frame.time);
        if count.stats.last_frame.is_none_or(|last| frame.time > last) {
            count.stats.last_frame = Some(frame.time);
        }
        let outcome = match parse::packet(frame) {
            Ok(packet) => match self.flows.find(&packet.flow) {
                Some(known) => count.known(&packet, known, frame.time),
                None => self.new_flow(&packet, frame.time),
            },
            Err(reject) => count.reject(reject),
        };
        self.count.stats.outcomes.record(outcome);
        outcome
    }

    /// The slow way: what holds for all packets of a flow is found out once.
    #[cold]
    fn new_flow(&mut self, packet: &Packet<'_>, time: Timestamp) -> Outcome {
        let count = &mut self.count;
        let macs = packet.flow.macs();
        let own = macs.is_some_and(|(src, dst)| [src, dst].map(Some).contains(&count.settings.observer));
        let kind = match () {
            () if !count.ledger.in_scope(&packet.flow) => Kind::OutOfScope,
            () if packet.flow.to_group() => Kind::Group,
            () if own => Kind::Own,
            () => Kind::Unicast,
        };
        let teed = macs.is_some() && !own && !packet.flow.to_group();
        let mut known = Known::new(packet.flow, kind, teed);
        let outcome = count.known(packet, &mut known, time);
        // A copy tells nothing of its pair.
        if outcome != Outcome::Copy {
            self.flows.insert(known);
        }
        outcome
    }

    /// Tells the meter what time it is, when no frame has. Packets whose window has passed become singles.
    pub fn advance(&mut self, time: Timestamp) {
        self.count.advance(time);
    }

    /// Whether a packet of this time would be forgotten at once, as its window has passed already.
    pub fn is_past(&self, time: Timestamp) -> bool {
        self.count.latest.0 - time.0 > self.count.settings.window.0
    }

    /// Takes `time` for the latest from here on: the clock that stamps the packets was set back. Those that wait for
    /// their copies are given up.
    pub fn clock_set_back(&mut self, time: Timestamp) {
        self.count.give_up();
        self.count.latest = time;
    }

    /// Changes the observer's own MAC: a device may come back with another.
    pub fn set_observer(&mut self, mac: Option<Mac>) {
        self.count.settings.observer = mac;
        // They know what is the observer's own.
        self.flows.clear();
    }

    /// Rows that the next delta would have.
    pub fn rows(&self) -> usize {
        self.count.ledger.rows()
    }

    /// Merges the rows that wait into buckets of `seconds`: fewer of them, with less to tell of when. For where nobody
    /// takes them and memory runs out.
    pub fn widen(&mut self, seconds: u32) {
        self.count.ledger.widen(seconds);
    }

    /// Hands over what was counted since the last time.
    pub fn take(&mut self) -> Delta {
        self.count.ledger.take()
    }

    /// Everything that has been named, by the numbers of the deltas.
    pub fn directory(&self) -> &Directory {
        self.count.ledger.directory()
    }

    /// What has been seen, singles up to the latest time included.
    pub fn stats(&mut self) -> Stats {
        let Count { waiting, ledger, stats, latest, .. } = &mut self.count;
        waiting.sweep_all(*latest, &mut |pair| single(ledger, stats, pair));
        Stats { overflows: waiting.overflows(), ..*stats }
    }

    /// What the copies say about the capture: what was missed, and whether the settings fit it.
    pub fn diagnosis(&mut self) -> Diagnosis {
        let stats = self.stats();
        let Count { settings, waiting, ledger, cuts, shadow, .. } = &self.count;
        let pairs = (ledger.directory(), ledger.pairs());
        Diagnosis::new(settings, &stats, waiting.pending() as u64, pairs, cuts, (shadow.pairs, shadow.frames))
    }
}

impl Count {
    #[inline]
    fn advance(&mut self, time: Timestamp) {
        if time > self.latest {
            if time.0 - self.latest.0 > self.settings.window.0 {
                // Whatever waits has waited too long now. This also keeps 64 bits of time enough.
                self.give_up();
            }
            self.latest = time;
        }
    }

    #[cold]
    fn give_up(&mut self) {
        let Count { waiting, ledger, stats, .. } = self;
        waiting.restart(&mut |pair| single(ledger, stats, pair));
    }

    #[cold]
    fn reject(&mut self, reject: Reject) -> Outcome {
        if let Reject::CutShort { captured_len, ipv6 } = reject {
            self.cuts.before_addresses(captured_len, ipv6);
        }
        reject.outcome()
    }

    /// Takes a packet of a flow whose kind is known.
    #[inline]
    fn known(&mut self, packet: &Packet<'_>, known: &mut Known, time: Timestamp) -> Outcome {
        self.stats.teed += u64::from(known.teed);
        if known.kind == Kind::OutOfScope {
            return Outcome::OutOfScope;
        }
        if packet.is_cut() {
            self.cuts.record(packet.captured_len, self.settings.tee_bytes);
        }
        let wait = match self.sighting(packet, known, time) {
            Sighting::Copy => return Outcome::Copy,
            Sighting::First(wait) => wait,
        };
        if !known.has_pair() {
            // Only a packet that counts may name new ends.
            let (pair, second) = self.ledger.open(&packet.flow);
            known.set_pair(pair, second);
        }
        self.ledger.count(known.pair, &mut known.row, packet.len, time);
        if let Some(second) = known.second {
            let mut anywhere = u32::MAX;
            self.ledger.count(second.pair(), &mut anywhere, packet.len, time);
        }
        self.stats.bytes += u64::from(packet.len);
        if packet.captured_len > usize::from(self.settings.tee_bytes) && known.kind != Kind::Group {
            self.ledger.pair_mut(known.pair).whole = true;
        }
        if let Some((place, fingerprint)) = wait {
            let pair = if known.kind == Kind::Group { NO_PAIR } else { known.pair };
            let Count { waiting, ledger, stats, latest, .. } = self;
            waiting.put(place, fingerprint, time, *latest, pair, &mut |pair| single(ledger, stats, pair));
        }
        Outcome::Counted
    }

    /// Whether the packet is a copy of one that was counted; if not, where it has to wait for its own.
    #[inline]
    fn sighting(&mut self, packet: &Packet<'_>, known: &mut Known, time: Timestamp) -> Sighting {
        let kind = known.kind;
        self.stats.unicast += u64::from(kind == Kind::Unicast);
        if self.settings.tee == Tee::None || kind == Kind::Own {
            return Sighting::First(None);
        }
        let rule_len = usize::from(self.settings.tee_bytes).saturating_sub(packet.tag_bytes);
        let mut fingerprint = self.fingerprint.of(&packet.bytes[..packet.bytes.len().min(rule_len)]);
        if kind == Kind::Group {
            fingerprint ^= GROUPS;
        } else if self.settings.tee == Tee::One && !self.shadow.is_sampled(fingerprint) {
            return Sighting::First(None);
        }
        let Count { waiting, ledger, stats, latest, .. } = self;
        waiting.tidy(*latest, &mut |pair| single(ledger, stats, pair));
        let place = waiting.look(fingerprint, time, *latest);
        match (place, kind) {
            (Place::Within(_), Kind::Group) => Sighting::Copy,
            (_, Kind::Group) => Sighting::First(Some((place, fingerprint))),
            _ if self.settings.tee == Tee::One => {
                self.shadow.look(waiting, place, fingerprint, time, *latest);
                Sighting::First(None)
            }
            (Place::Within(at), _) => {
                let (pair, counted_at) = waiting.take(at, *latest);
                let mut anywhere = u32::MAX;
                let row = if pair == known.pair { &mut known.row } else { &mut anywhere };
                ledger.copied(pair, row, counted_at);
                stats.pairs += 1;
                Sighting::Copy
            }
            _ => Sighting::First(Some((place, fingerprint))),
        }
    }
}

/// What a look for the packet's copy found.
enum Sighting {
    Copy,
    /// Where it waits, if it does, and under which fingerprint.
    First(Option<(Place, u64)>),
}

/// Keeps the fingerprints of packets to groups apart from those of unicast; the low bit stays as it is.
const GROUPS: u64 = 0x6772_6f75_7073_0000;

fn single(ledger: &mut Ledger, stats: &mut Stats, pair: u32) {
    if pair != NO_PAIR {
        ledger.pair_mut(pair).singles += 1;
        stats.singles += 1;
    }
}

impl Shadow {
    fn is_sampled(&self, fingerprint: u64) -> bool {
        (fingerprint >> 1).is_multiple_of(SHADOW_SHARE)
    }

    fn look(&mut self, waiting: &mut Table, place: Place, fingerprint: u64, time: Timestamp, now: Timestamp) {
        self.frames += 1;
        match place {
            Place::Within(at) => {
                waiting.take(at, now);
                self.pairs += 1;
            }
            place => waiting.put(place, fingerprint, time, now, NO_PAIR, &mut |_| ()),
        }
    }
}

#[cfg(test)]
mod tests;
