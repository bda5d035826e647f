//! Frames in, traffic matrix and outcomes out.
//!
//! The meter reads no clock, opens nothing and takes no lock: the same frames give the same numbers, always. Time comes
//! in with the frames.

mod diagnosis;
mod fingerprint;
mod index;
mod ledger;
mod pairing;
mod scope;

pub use diagnosis::{Apart, Diagnosis, Warning};
pub use index::Limits;
pub use scope::{Cidr, Scope};

use diagnosis::Cuts;
use fingerprint::Fingerprint;
use ledger::{Flow, FlowKey, Ledger};
use pairing::{NO_PAIR, Table};

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
    settings: Settings,
    fingerprint: Fingerprint,
    /// Packets that wait for their copy, and those to groups that are remembered.
    waiting: Table,
    ledger: Ledger,
    stats: Stats,
    /// The latest time seen, of frames or told.
    latest: Option<Timestamp>,
    cuts: Cuts,
    shadow: Shadow,
}

/// Pairs that a one-sided rule should not bring, looked for among a sample of the keys.
struct Shadow {
    frames: u64,
    pairs: u64,
}

impl Meter {
    /// A meter that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        Meter {
            fingerprint: Fingerprint::new(settings.seed, usize::from(settings.tee_bytes)),
            waiting: Table::new(settings.window),
            ledger: Ledger::new(settings.limits, settings.scope.clone(), settings.both_ends),
            stats: Stats::default(),
            latest: None,
            cuts: Cuts::default(),
            shadow: Shadow { frames: 0, pairs: 0 },
            settings,
        }
    }

    /// Takes one frame in.
    pub fn frame(&mut self, frame: &Frame<'_>) -> Outcome {
        self.advance(frame.time);
        self.stats.last_frame = self.stats.last_frame.max(Some(frame.time));
        let outcome = match parse::packet(frame) {
            Ok(packet) => self.packet(&packet, frame.time),
            Err(reject) => {
                if let Reject::CutShort { captured_len, ipv6 } = reject {
                    self.cuts.before_addresses(captured_len, ipv6);
                }
                reject.outcome()
            }
        };
        self.stats.outcomes.record(outcome);
        outcome
    }

    /// Tells the meter what time it is, when no frame has. Packets whose window has passed become singles.
    pub fn advance(&mut self, time: Timestamp) {
        if self.latest.is_some_and(|latest| time <= latest) {
            return;
        }
        self.latest = Some(time);
        let Meter { waiting, ledger, stats, .. } = self;
        waiting.advance(time, &mut |pair| single(ledger, stats, pair));
    }

    /// Whether a packet of this time would be forgotten at once, as its window has passed already.
    pub fn is_past(&self, time: Timestamp) -> bool {
        self.latest.is_some_and(|latest| latest.0 - time.0 > self.settings.window.0)
    }

    /// Takes `time` for the latest from here on: the clock that stamps the packets was set back. Those that wait for
    /// their copies are given up.
    pub fn clock_set_back(&mut self, time: Timestamp) {
        self.latest = Some(time);
        let Meter { waiting, ledger, stats, .. } = self;
        waiting.restart(time, &mut |pair| single(ledger, stats, pair));
    }

    /// Changes the observer's own MAC: a device may come back with another.
    pub fn set_observer(&mut self, mac: Option<Mac>) {
        self.settings.observer = mac;
    }

    /// Rows that the next delta would have.
    pub fn rows(&self) -> usize {
        self.ledger.rows()
    }

    /// Merges the rows that wait into buckets of `seconds`: fewer of them, with less to tell of when. For where nobody
    /// takes them and memory runs out.
    pub fn widen(&mut self, seconds: u32) {
        self.ledger.widen(seconds);
    }

    /// Hands over what was counted since the last time.
    pub fn take(&mut self) -> Delta {
        self.ledger.take()
    }

    /// Everything that has been named, by the numbers of the deltas.
    pub fn directory(&self) -> &Directory {
        self.ledger.directory()
    }

    /// What has been seen, singles up to the latest time included.
    pub fn stats(&mut self) -> Stats {
        let Meter { waiting, ledger, stats, .. } = self;
        waiting.sweep_all(&mut |pair| single(ledger, stats, pair));
        Stats { overflows: self.waiting.overflows(), ..self.stats }
    }

    /// What the copies say about the capture: what was missed, and whether the settings fit it.
    pub fn diagnosis(&mut self) -> Diagnosis {
        let stats = self.stats();
        let pending = self.waiting.pending() as u64;
        let shadow = (self.shadow.pairs, self.shadow.frames);
        let pairs = (self.ledger.directory(), self.ledger.pairs());
        Diagnosis::new(&self.settings, &stats, pending, pairs, &self.cuts, shadow)
    }

    fn packet(&mut self, packet: &Packet<'_>, time: Timestamp) -> Outcome {
        let own = packet.macs.is_some_and(|(src, dst)| {
            self.settings.observer.is_some_and(|observer| src == observer || dst == observer)
        });
        if !packet.to_group && !own && packet.macs.is_some() {
            self.stats.teed += 1;
        }
        let key = FlowKey::of(packet);
        let flow = match self.ledger.flow(&key) {
            Some(flow) => Some(flow),
            None if self.ledger.in_scope(packet) => None,
            None => Some(self.ledger.ignore(key)),
        };
        if flow == Some(Flow::OutOfScope) {
            return Outcome::OutOfScope;
        }
        if packet.is_cut() {
            self.cuts.record(packet.captured_len, self.settings.tee_bytes);
        }
        let wait = match self.copy_of(packet, own, time) {
            Sighting::Copy => return Outcome::Copy,
            Sighting::First(wait) => wait,
        };
        // Only a packet that counts may name new ends.
        let flow = flow.unwrap_or_else(|| self.ledger.open(key, packet));
        if let Flow::Counted(pair, second) = flow {
            self.ledger.count(pair, second, packet.len, time);
            self.stats.bytes += u64::from(packet.len);
            let whole = packet.captured_len > usize::from(self.settings.tee_bytes);
            if whole && !packet.to_group {
                self.ledger.pair_mut(pair).whole = true;
            }
            self.remember(wait, time, pair);
        }
        Outcome::Counted
    }

    /// Whether the packet is a copy of one that was counted; if not, where it has to wait for its own.
    fn copy_of(&mut self, packet: &Packet<'_>, own: bool, time: Timestamp) -> Sighting {
        let tee = self.settings.tee;
        if !packet.to_group && !own {
            self.stats.unicast += 1;
        }
        if tee == Tee::None || (own && !packet.to_group) {
            return Sighting::First(None);
        }
        let rule_len = usize::from(self.settings.tee_bytes).saturating_sub(packet.tag_bytes);
        let fingerprint = self.fingerprint.of(&packet.bytes[..packet.bytes.len().min(rule_len)]);
        if packet.to_group {
            let fingerprint = fingerprint ^ GROUPS;
            return match self.waiting.find(fingerprint, time) {
                Some(_) => Sighting::Copy,
                None => Sighting::First(Some(Wait::Group(fingerprint))),
            };
        }
        if tee == Tee::One {
            self.shadow.look(&mut self.waiting, fingerprint, time);
            return Sighting::First(None);
        }
        match self.waiting.find(fingerprint, time) {
            Some(twin) => {
                self.waiting.remove(fingerprint);
                self.ledger.copied(twin.pair, twin.time);
                self.stats.pairs += 1;
                Sighting::Copy
            }
            None => Sighting::First(Some(Wait::Unicast(fingerprint))),
        }
    }

    fn remember(&mut self, wait: Option<Wait>, time: Timestamp, pair: u32) {
        let (fingerprint, pair) = match wait {
            Some(Wait::Unicast(fingerprint)) => (fingerprint, pair),
            Some(Wait::Group(fingerprint)) => (fingerprint, NO_PAIR),
            None => return,
        };
        let Meter { waiting, ledger, stats, .. } = self;
        waiting.insert(fingerprint, time, pair, &mut |pair| single(ledger, stats, pair));
    }
}

/// What a look for the packet's copy found.
enum Sighting {
    Copy,
    First(Option<Wait>),
}

/// Whether a packet waits for its copy, or is remembered for all repeats, and under which fingerprint.
enum Wait {
    Unicast(u64),
    Group(u64),
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
    fn look(&mut self, waiting: &mut Table, fingerprint: u64, time: Timestamp) {
        if !(fingerprint >> 1).is_multiple_of(SHADOW_SHARE) {
            return;
        }
        self.frames += 1;
        if waiting.find(fingerprint, time).is_some() {
            waiting.remove(fingerprint);
            self.pairs += 1;
        } else {
            waiting.insert(fingerprint, time, NO_PAIR, &mut |_| ());
        }
    }
}

#[cfg(test)]
mod tests;
