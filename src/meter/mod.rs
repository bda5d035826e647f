//! Frames in, traffic matrix and outcomes out.
//!
//! The meter reads no clock, opens nothing and takes no lock: the same frames give the same numbers, always. Time comes
//! in with the frames.

mod clock;
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

use clock::{Clock, Step};
use diagnosis::Cuts;
use fingerprint::Fingerprint;
use flows::{Flows, Kind, Known};
use ledger::Ledger;
use pairing::{NO_PAIR, Place, Table};

use crate::frame::{Frame, LinkType};
use crate::packet::{Flow, Mac, Packet};
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
    /// Frames with packets, by the kind of their flow.
    frames: [u64; Kind::COUNT],
    clock: Clock,
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
        let flows = Flows::new(fingerprint::key(settings.seed));
        let count = Count {
            fingerprint: Fingerprint::new(settings.seed, usize::from(settings.tee_bytes)),
            waiting: Table::new(settings.window),
            ledger: Ledger::new(settings.limits, settings.scope.clone(), settings.both_ends),
            stats: Stats::default(),
            frames: [0; Kind::COUNT],
            clock: Clock::new(settings.window),
            cuts: Cuts::default(),
            shadow: Shadow { frames: 0, pairs: 0 },
            settings,
        };
        Meter { flows, count }
    }

    /// Takes one frame in.
    #[inline(always)]
    pub fn frame(&mut self, frame: &Frame<'_>) -> Outcome {
        let step = self.count.clock.frame(frame.time);
        let behind = self.count.advance(step);
        match parse::plain_ipv4(frame) {
            Some(packet) => self.packet(&packet, frame.time, behind),
            // Part by part: handed over as a whole, every frame would have to stand in memory.
            None => self.any_frame(frame.time, frame.link, frame.original_len, frame.data, behind),
        }
    }

    /// Any frame: apart from those that nearly all are, whose way is all the shorter for it.
    #[inline(never)]
    fn any_frame(&mut self, time: Timestamp, link: LinkType, original_len: u32, data: &[u8], behind: u64) -> Outcome {
        match parse::packet(&Frame { time, link, original_len, data }) {
            Ok(packet) => self.packet(&packet, time, behind),
            Err(reject) => self.count.reject(reject),
        }
    }

    #[inline(always)]
    fn packet(&mut self, packet: &Packet<'_>, time: Timestamp, behind: u64) -> Outcome {
        let known = match self.flows.find(&packet.flow) {
            Some(known) => known,
            None => {
                // Word by word, for the same reason.
                let [a, b, c, d, e, f] = packet.flow.words();
                self.flows.insert(self.count.meet((a, b), (c, d), (e, f)))
            }
        };
        self.count.known(packet, known, time, behind)
    }

    /// Tells the meter what time it is, when no frame has. Packets whose window has passed become singles.
    pub fn advance(&mut self, time: Timestamp) {
        let step = self.count.clock.tell(time);
        self.count.advance(step);
    }

    /// Whether a packet of this time would be forgotten at once, as its window has passed already.
    pub fn is_past(&self, time: Timestamp) -> bool {
        self.count.clock.is_past(time)
    }

    /// Takes `time` for the latest from here on: the clock that stamps the packets was set back. Those that wait for
    /// their copies are given up.
    pub fn clock_set_back(&mut self, time: Timestamp) {
        self.count.give_up();
        self.count.clock.set(time);
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
        let Count { waiting, ledger, stats, clock, frames, .. } = &mut self.count;
        waiting.sweep_all(clock.now(), &mut |pair| single(ledger, stats, pair));
        Stats {
            unicast: frames[Kind::Unicast as usize] + frames[Kind::UnicastTeed as usize],
            teed: frames[Kind::OutOfScopeTeed as usize] + frames[Kind::UnicastTeed as usize],
            overflows: waiting.overflows(),
            last_frame: clock.last_frame(),
            ..*stats
        }
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
    /// Says how far behind the latest time this one is, in nanoseconds.
    #[inline(always)]
    fn advance(&mut self, step: Step) -> u64 {
        match step {
            Step::Behind(nanos) => nanos,
            Step::Leap => {
                self.give_up();
                0
            }
        }
    }

    /// The slow way: what holds for all packets of a flow is found out once.
    #[cold]
    #[inline(never)]
    fn meet(&self, link: (u64, u64), src: (u64, u64), dst: (u64, u64)) -> Known {
        let flow = Flow::from_words([link.0, link.1, src.0, src.1, dst.0, dst.1]);
        let macs = flow.macs();
        let own = macs.is_some_and(|(src, dst)| [src, dst].map(Some).contains(&self.settings.observer));
        let teed = macs.is_some() && !own && !flow.to_group();
        let kind = match self.ledger.in_scope(&flow) {
            false if teed => Kind::OutOfScopeTeed,
            false => Kind::OutOfScope,
            true if flow.to_group() => Kind::Group,
            true if own => Kind::Own,
            true if teed => Kind::UnicastTeed,
            true => Kind::Unicast,
        };
        Known::new(flow, kind)
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
        self.ended(reject.outcome())
    }

    /// Takes a packet of a flow whose kind is known.
    #[inline(always)]
    fn known(&mut self, packet: &Packet<'_>, known: &mut Known, time: Timestamp, behind: u64) -> Outcome {
        self.frames[known.kind as usize] += 1;
        if !known.kind.is_in_scope() {
            return self.ended(Outcome::OutOfScope);
        }
        if packet.is_cut() {
            self.cuts.record(packet.captured_len, self.settings.tee_bytes);
        }
        if self.settings.tee == Tee::None || known.kind == Kind::Own {
            return self.count(packet, known, time);
        }
        let rule_len = usize::from(self.settings.tee_bytes).saturating_sub(packet.tag_bytes);
        let mut fingerprint = self.fingerprint.of(packet.bytes.get(..rule_len).unwrap_or(packet.bytes));
        if known.kind == Kind::Group {
            fingerprint ^= GROUPS;
        } else if self.settings.tee == Tee::One {
            self.look_in_shadow(fingerprint, behind);
            return self.count(packet, known, time);
        }
        let now = self.clock.now();
        let Count { waiting, ledger, stats, .. } = self;
        waiting.tidy(now, &mut |pair| single(ledger, stats, pair));
        let place = waiting.look(fingerprint, (now, behind));
        if let Place::Within(at) = place {
            if known.kind != Kind::Group {
                let (pair, counted_at) = waiting.take(at, now);
                // The row is good for this pair only, which is that of the flow nearly always.
                ledger.copied(pair, known.row, counted_at);
                stats.pairs += 1;
            }
            return self.ended(Outcome::Copy);
        }
        let outcome = self.count(packet, known, time);
        let pair = if known.kind == Kind::Group { NO_PAIR } else { known.pair };
        let Count { waiting, ledger, stats, .. } = self;
        waiting.put(place, fingerprint, (now, behind), pair, &mut |pair| single(ledger, stats, pair));
        outcome
    }

    /// Counts a packet.
    #[inline(always)]
    fn count(&mut self, packet: &Packet<'_>, known: &mut Known, time: Timestamp) -> Outcome {
        if !self.ledger.count_at(known.pair, known.row, packet.len, time) {
            self.find_and_count(known, packet.len, time);
        }
        self.stats.bytes += u64::from(packet.len);
        if packet.captured_len > usize::from(self.settings.tee_bytes) && known.kind != Kind::Group {
            self.ledger.pair_mut(known.pair).whole = true;
        }
        self.ended(Outcome::Counted)
    }

    #[inline(always)]
    fn ended(&mut self, outcome: Outcome) -> Outcome {
        self.stats.outcomes.record(outcome);
        outcome
    }

    /// Counts a packet whose pair or row is not known.
    #[cold]
    #[inline(never)]
    fn find_and_count(&mut self, known: &mut Known, len: u32, time: Timestamp) {
        if known.pair == NO_PAIR {
            // Only a packet that counts may name new ends.
            let (pair, second) = self.ledger.open(&known.flow);
            (known.pair, known.second) = (pair, second.unwrap_or(NO_PAIR));
        }
        let row = self.ledger.count(known.pair, len, time);
        if known.second == NO_PAIR {
            known.row = row;
        } else {
            self.ledger.count(known.second, len, time);
        }
    }

    /// Looks for a copy that a one-sided rule should not bring, if the packet is in the sample.
    fn look_in_shadow(&mut self, fingerprint: u64, behind: u64) {
        if !(fingerprint >> 1).is_multiple_of(SHADOW_SHARE) {
            return;
        }
        let when = (self.clock.now(), behind);
        self.shadow.frames += 1;
        // Nobody is told of those that leave.
        self.waiting.tidy(when.0, &mut |_| ());
        match self.waiting.look(fingerprint, when) {
            Place::Within(at) => {
                self.waiting.take(at, when.0);
                self.shadow.pairs += 1;
            }
            place => self.waiting.put(place, fingerprint, when, NO_PAIR, &mut |_| ()),
        }
    }
}

/// Keeps the fingerprints of packets to groups apart from those of unicast; the low bit stays as it is.
const GROUPS: u64 = 0x6772_6f75_7073_0000;

fn single(ledger: &mut Ledger, stats: &mut Stats, pair: u32) {
    if pair != NO_PAIR {
        ledger.pair_mut(pair).singles += 1;
        stats.singles += 1;
    }
}

#[cfg(test)]
mod tests;
