//! What becomes of a packet that was read: counted, a copy, or out of scope.

use super::clock::{Clock, When};
use super::diagnosis::Cuts;
use super::flows::{Flows, Kind, Known, Tag};
use super::ledger::Ledger;
use super::pairing::{NO_PAIR, Place, Table};
use super::{Settings, Stats, Tee};
use crate::packet::Flow;
use crate::parse::Reject;
use crate::traffic::Outcome;

/// One key in so many is paired in the shadow under `--tee one`.
const SHADOW_SHARE: u64 = 64;

/// All that counting needs of a packet, once its bytes are gone.
#[derive(Clone, Copy)]
pub(super) struct Read {
    pub flow: Flow,
    /// Of the flow.
    pub tag: Tag,
    /// Of the bytes; any where there are no copies.
    pub fingerprint: u64,
    pub when: When,
    pub len: u32,
    pub captured_len: u32,
    pub is_cut: bool,
}

impl Read {
    /// Stands where no packet does.
    pub(super) const NOTHING: Read = Read {
        flow: Flow::NONE,
        tag: Tag::NONE,
        fingerprint: 0,
        when: When { time: 0, behind: 0 },
        len: 0,
        captured_len: 0,
        is_cut: false,
    };
}

/// The sums, and what is remembered of the packets in them.
pub(super) struct Count {
    pub settings: Settings,
    /// Packets that wait for their copy, and those to groups that are remembered.
    pub waiting: Table,
    pub ledger: Ledger,
    stats: Stats,
    /// Frames with packets, by the kind of their flow.
    frames: [u64; Kind::COUNT],
    pub cuts: Cuts,
    pub shadow: Shadow,
}

/// Pairs that a one-sided rule should not bring, looked for among a sample of the keys.
pub(super) struct Shadow {
    pub frames: u64,
    pub pairs: u64,
}

impl Count {
    pub(super) fn new(settings: Settings) -> Self {
        Count {
            waiting: Table::new(settings.window),
            ledger: Ledger::new(settings.limits, settings.scope.clone(), settings.both_ends),
            stats: Stats::default(),
            frames: [0; Kind::COUNT],
            cuts: Cuts::default(),
            shadow: Shadow { frames: 0, pairs: 0 },
            settings,
        }
    }

    /// What has been seen, singles up to the latest time included.
    pub(super) fn stats(&mut self, clock: &Clock) -> Stats {
        let Count { waiting, ledger, stats, frames, .. } = self;
        waiting.sweep_all(clock.now(), &mut |pair| single(ledger, stats, pair));
        Stats {
            unicast: frames[Kind::Unicast as usize] + frames[Kind::UnicastTeed as usize],
            teed: frames[Kind::OutOfScopeTeed as usize] + frames[Kind::UnicastTeed as usize],
            overflows: waiting.overflows(),
            last_frame: clock.last_frame(),
            ..*stats
        }
    }

    /// Gives up all that wait for their copies.
    pub(super) fn give_up(&mut self) {
        let Count { waiting, ledger, stats, .. } = self;
        waiting.restart(&mut |pair| single(ledger, stats, pair));
    }

    #[cold]
    pub(super) fn reject(&mut self, reject: Reject) -> Outcome {
        if let Reject::CutShort { captured_len, ipv6 } = reject {
            self.cuts.before_addresses(captured_len, ipv6);
        }
        self.ended(reject.outcome())
    }

    /// Finds out what holds for all packets of a flow.
    fn kind_of(&self, flow: &Flow) -> Kind {
        let macs = flow.macs();
        let own = macs.is_some_and(|(src, dst)| [src, dst].map(Some).contains(&self.settings.observer));
        let teed = macs.is_some() && !own && !flow.to_group();
        match self.ledger.in_scope(flow) {
            false if teed => Kind::OutOfScopeTeed,
            false => Kind::OutOfScope,
            true if flow.to_group() => Kind::Group,
            true if own => Kind::Own,
            true if teed => Kind::UnicastTeed,
            true => Kind::Unicast,
        }
    }

    /// Takes a packet.
    #[inline(always)]
    pub(super) fn packet(&mut self, read: &Read, flows: &mut Flows) -> Outcome {
        match flows.find(read.tag) {
            Some(known) => self.known(read, known),
            None => self.unknown(read, flows),
        }
    }

    /// Takes a packet of a flow that has not been met, or not lately: the slow way.
    #[cold]
    #[inline(never)]
    fn unknown(&mut self, read: &Read, flows: &mut Flows) -> Outcome {
        let known = flows.insert(read.tag, self.kind_of(&read.flow));
        self.known(read, known)
    }

    /// Takes a packet of a flow whose kind is known.
    #[inline(always)]
    fn known(&mut self, read: &Read, known: &mut Known) -> Outcome {
        self.frames[known.kind as usize] += 1;
        if !known.kind.is_in_scope() {
            return self.ended(Outcome::OutOfScope);
        }
        if read.is_cut {
            self.cuts.record(read.captured_len, self.settings.tee_bytes);
        }
        if self.settings.tee == Tee::None || known.kind == Kind::Own {
            return self.count(read, known);
        }
        let mut fingerprint = read.fingerprint;
        if known.kind == Kind::Group {
            fingerprint ^= GROUPS;
        } else if self.settings.tee == Tee::One {
            self.look_in_shadow(read);
            return self.count(read, known);
        }
        let when = read.when;
        let Count { waiting, ledger, stats, .. } = self;
        waiting.tidy(when, &mut |pair| single(ledger, stats, pair));
        let place = waiting.look(fingerprint, when);
        if let Place::Within(at) = place {
            if known.kind != Kind::Group {
                let (pair, earlier) = waiting.take(at, when);
                // The row is good for this pair only, which is that of the flow nearly always.
                ledger.copied(pair, known.row, when.time, earlier);
                stats.pairs += 1;
            }
            return self.ended(Outcome::Copy);
        }
        let outcome = self.count(read, known);
        let pair = if known.kind == Kind::Group { NO_PAIR } else { known.pair };
        let Count { waiting, ledger, stats, .. } = self;
        waiting.put(place, fingerprint, when, pair, &mut |pair| single(ledger, stats, pair));
        outcome
    }

    /// Counts a packet.
    #[inline(always)]
    fn count(&mut self, read: &Read, known: &mut Known) -> Outcome {
        if !self.ledger.count_at(known.pair, known.row, read.len, read.when.time) {
            self.find_and_count(&read.flow, known, read.len, read.when.time);
        }
        self.stats.bytes += u64::from(read.len);
        if read.captured_len > u32::from(self.settings.tee_bytes) && known.kind != Kind::Group {
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
    fn find_and_count(&mut self, flow: &Flow, known: &mut Known, len: u32, time: u64) {
        if known.pair == NO_PAIR {
            // Only a packet that counts may name new ends.
            let (pair, second) = self.ledger.open(flow);
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
    fn look_in_shadow(&mut self, read: &Read) {
        if !(read.fingerprint >> 1).is_multiple_of(SHADOW_SHARE) {
            return;
        }
        self.shadow.frames += 1;
        // Nobody is told of those that leave.
        self.waiting.tidy(read.when, &mut |_| ());
        match self.waiting.look(read.fingerprint, read.when) {
            Place::Within(at) => {
                self.waiting.take(at, read.when);
                self.shadow.pairs += 1;
            }
            place => self.waiting.put(place, read.fingerprint, read.when, NO_PAIR, &mut |_| ()),
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
