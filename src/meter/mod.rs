//! Frames in, traffic matrix and outcomes out.
//!
//! The meter reads no clock, opens nothing and takes no lock: the same frames give the same numbers, always. Time comes
//! in with the frames.

mod clock;
mod count;
mod diagnosis;
mod fingerprint;
mod flows;
mod index;
mod ledger;
mod pairing;
mod scope;

pub use diagnosis::{Apart, Diagnosis, Evidence, Warning};
pub use index::Limits;
pub use scope::{Cidr, Scope};

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::hint::black_box;

use clock::{Clock, Step, When};
use count::{Count, Read};
use fingerprint::Fingerprint;
use flows::Flows;

use crate::frame::{Frame, LinkType};
use crate::packet::{Mac, Packet};
use crate::parse;
use crate::time::{Span, Timestamp};
use crate::traffic::{Delta, DeltaRow, Directory, Outcome, Outcomes};

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

/// Packets that are read before they are counted: enough for the processor to work on several at once, and few enough
/// to stay in its nearest cache.
const BATCH: usize = 64;

/// Bytes that stay in a processor's second cache.
const NEAR: usize = 1 << 19;

/// Counts the packets of one device or of one history of files.
pub struct Meter {
    clock: Clock,
    fingerprint: Fingerprint,
    /// Packets that were read and are not counted yet: the first so many.
    batch: Box<[Read; BATCH]>,
    waiting: usize,
    /// What is known of the flows that have been met.
    flows: Flows,
    count: Count,
}

impl Meter {
    /// A meter that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        Meter {
            clock: Clock::new(settings.window),
            fingerprint: Fingerprint::new(settings.seed, usize::from(settings.tee_bytes)),
            batch: Box::new([Read::NOTHING; BATCH]),
            waiting: 0,
            // Random whatever the seed is: it decides how long a look takes, and no count.
            flows: Flows::new(fingerprint::key(RandomState::new().hash_one(settings.seed))),
            count: Count::new(settings),
        }
    }

    /// Takes one frame in and says what became of it.
    #[inline(always)]
    pub fn frame(&mut self, frame: &Frame<'_>) -> Outcome {
        let when = self.when(frame.time);
        self.settle();
        match parse::packet(frame) {
            Ok(packet) => {
                let read = self.read(&packet, when);
                self.count.packet(&read, &mut self.flows)
            }
            Err(reject) => self.count.reject(reject),
        }
    }

    /// Takes one frame in, for less time where nobody asks what became of it: it is counted together with its
    /// neighbours, at the latest when somebody asks for sums.
    #[inline(always)]
    pub fn defer(&mut self, frame: &Frame<'_>) {
        let when = self.when(frame.time);
        match parse::plain_ipv4(frame) {
            Some(packet) => self.defer_packet(&packet, when),
            // Part by part: handed over as a whole, every frame would have to stand in memory.
            None => self.defer_any(frame.time, when.behind, frame.link, frame.original_len, frame.data),
        }
    }

    /// Any frame: apart from those that nearly all are, whose way is all the shorter for it.
    #[inline(never)]
    fn defer_any(&mut self, time: Timestamp, behind: u64, link: LinkType, original_len: u32, data: &[u8]) {
        match parse::packet(&Frame { time, link, original_len, data }) {
            Ok(packet) => self.defer_packet(&packet, When { time: time.0 as u64, behind }),
            Err(reject) => {
                self.count.reject(reject);
            }
        }
    }

    #[inline(always)]
    fn defer_packet(&mut self, packet: &Packet<'_>, when: When) {
        let read = self.read(packet, when);
        self.batch[self.waiting % BATCH] = read;
        self.waiting += 1;
        if self.waiting == BATCH {
            self.settle();
        }
    }

    /// All that counting needs of a packet.
    #[inline(always)]
    fn read(&self, packet: &Packet<'_>, when: When) -> Read {
        let Settings { tee, tee_bytes, .. } = self.count.settings;
        let rule_len = usize::from(tee_bytes).saturating_sub(packet.tag_bytes);
        Read {
            flow: packet.flow,
            tag: self.flows.tag(&packet.flow),
            fingerprint: match tee {
                Tee::None => 0,
                _ => self.fingerprint.of(packet.bytes.get(..rule_len).unwrap_or(packet.bytes)),
            },
            when,
            len: packet.len,
            captured_len: packet.captured_len as u32,
            is_cut: packet.is_cut(),
        }
    }

    /// Counts the packets that wait to be.
    #[inline(never)]
    fn settle(&mut self) {
        let Meter { flows, count, .. } = self;
        let batch = &self.batch[..self.waiting];
        // Memory that is far brings much in the time of one thing, if it is asked for together: first of all where flows
        // and copies are, then what flows lead to.
        if flows.bytes() + count.waiting.bytes() > NEAR {
            let first = |read: &Read| flows.touch(read.tag).pair ^ count.waiting.touch(read.fingerprint);
            let then = |read: &Read| match flows.touch(read.tag) {
                known if known.tag == read.tag => count.ledger.touch_row(known.row),
                _ => count.ledger.touch_ends(&read.flow),
            };
            black_box(batch.iter().fold(0, |all, read| all ^ first(read)));
            black_box(batch.iter().fold(0, |all, read| all ^ then(read)));
        }
        for read in batch {
            count.packet(read, flows);
        }
        self.waiting = 0;
    }

    /// What time it is now that a frame has this one.
    #[inline(always)]
    fn when(&mut self, time: Timestamp) -> When {
        When { time: time.0 as u64, behind: if self.clock.next(time) { 0 } else { self.behind(time) } }
    }

    /// How far a frame's time lies behind the latest, whatever it is.
    #[inline(never)]
    fn behind(&mut self, time: Timestamp) -> u64 {
        let step = self.clock.frame(time);
        if step == Step::Leap {
            self.give_up();
        }
        if clock::era(time) != self.count.ledger.era() {
            self.settle();
            self.count.ledger.enter(clock::era(time));
        }
        if let Step::Behind(behind) = step { behind } else { 0 }
    }

    /// Whatever waits for its copy has waited too long.
    #[cold]
    fn give_up(&mut self) {
        self.settle();
        self.count.give_up();
    }

    /// Tells the meter what time it is, when no frame has. Packets whose window has passed become singles.
    pub fn advance(&mut self, time: Timestamp) {
        self.settle();
        if self.clock.tell(time) == Step::Leap {
            self.give_up();
        }
    }

    /// Whether a packet of this time would be forgotten at once, as its window has passed already.
    pub fn is_past(&self, time: Timestamp) -> bool {
        self.clock.is_past(time)
    }

    /// Takes `time` for the latest from here on: the clock that stamps the packets was set back. Those that wait for
    /// their copies are given up.
    pub fn clock_set_back(&mut self, time: Timestamp) {
        self.give_up();
        self.clock.set(time);
    }

    /// Changes the observer's own MAC: a device may come back with another.
    pub fn set_observer(&mut self, mac: Option<Mac>) {
        self.settle();
        self.count.settings.observer = mac;
        // They know what is the observer's own.
        self.flows.clear();
    }

    /// Rows that the next delta has at least.
    pub fn rows(&self) -> usize {
        self.count.ledger.rows()
    }

    /// Merges the rows that wait into buckets of `seconds`: fewer of them, with less to tell of when. For where nobody
    /// takes them and memory runs out.
    pub fn widen(&mut self, seconds: u32) {
        self.count.ledger.widen(seconds);
    }

    /// Shows what was counted since the last time to somebody who is done with it at once.
    pub fn show<T>(&mut self, to: impl FnOnce(&Directory, &[DeltaRow]) -> T) -> T {
        self.settle();
        self.count.ledger.show(to)
    }

    /// Hands over what was counted since the last time.
    pub fn take(&mut self) -> Delta {
        self.settle();
        self.count.ledger.take()
    }

    /// Everything that has been named, by the numbers of the deltas.
    pub fn directory(&self) -> &Directory {
        self.count.ledger.directory()
    }

    /// What has been seen, singles up to the latest time included.
    pub fn stats(&mut self) -> Stats {
        self.settle();
        self.count.stats(&self.clock)
    }

    /// What the copies say about the capture: what was missed, and whether the settings fit it.
    pub fn diagnosis(&mut self) -> Diagnosis {
        self.diagnosis_since(&mut Evidence::default())
    }

    /// The same, but whether the settings fit by what came since they were judged last, once that is enough: sums of a
    /// month would hide for as long that the rule is another now.
    pub fn diagnosis_since(&mut self, judged: &mut Evidence) -> Diagnosis {
        let stats = self.stats();
        let Count { settings, waiting, ledger, cuts, shadow, .. } = &mut self.count;
        let (directory, pairs) = ledger.named_and_pairs();
        let shadow = (shadow.pairs, shadow.frames);
        Diagnosis::new(settings, &stats, waiting.pending() as u64, (directory, pairs), cuts, shadow, judged)
    }
}

#[cfg(test)]
mod tests;
