//! The sums of one network, in little space: there may be more than a million.

use std::cmp::Reverse;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{Amount, By, Line, NONE, Party, Sort, Tally, Who};
use crate::time::Timestamp;
use crate::traffic::{End, Seen};

/// Sums by address or by pair. The tables hold numbers: of parties in `parties`, of sums in `sums`.
#[derive(Debug)]
pub(super) struct Sums {
    by: By,
    hasher: DefaultHashBuilder,
    parties: Vec<Party>,
    by_party: HashTable<u32>,
    sums: Vec<Sum>,
    by_who: HashTable<u32>,
}

#[derive(Debug)]
struct Sum {
    /// Source and destination, or an address twice.
    who: (u32, u32),
    sent: Amount,
    received: Amount,
    first: Moment,
    last: Moment,
}

/// A time as it prints: clamped to whole seconds and nanoseconds. Packed, or it would take sixteen bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C, packed(4))]
struct Moment(i64, u32);

impl Moment {
    fn of(time: Timestamp) -> Self {
        let (seconds, nanos) = time.clamped();
        Moment(seconds, nanos)
    }

    fn time(self) -> Timestamp {
        Timestamp::new(self.0, u64::from(self.1))
    }
}

impl Sum {
    fn add(&mut self, more: &Sum) {
        self.sent.add(more.sent);
        self.received.add(more.received);
        self.first = self.first.min(more.first);
        self.last = self.last.max(more.last);
    }
}

impl Sums {
    pub(super) fn new(by: By) -> Self {
        Sums {
            by,
            hasher: DefaultHashBuilder::default(),
            parties: Vec::new(),
            by_party: HashTable::new(),
            sums: Vec::new(),
            by_who: HashTable::new(),
        }
    }

    /// The number of the sum of what an address sends and receives. Something at that time is to be [added](Sums::add).
    pub(super) fn place_of_address(&mut self, addr: End, seen: Seen) -> u32 {
        if addr == End::Beyond { NONE } else { self.place((addr, addr), seen) }
    }

    /// The number of the sum of what one sends to another.
    pub(super) fn place_of_pair(&mut self, src: End, dst: End, seen: Seen) -> u32 {
        match (src, dst) {
            // A packet beyond the limit of pairs has a row for either end: the sender's stands for it here.
            (End::Beyond, _) => NONE,
            (_, End::Beyond) => self.place((End::Other, End::Other), seen),
            pair => self.place(pair, seen),
        }
    }

    fn place(&mut self, (src, dst): (End, End), seen: Seen) -> u32 {
        let who = (self.number(Party::End(src)), self.number(Party::End(dst)));
        let Sums { hasher, sums, by_who, .. } = self;
        let hash = hasher.hash_one(who);
        if let Some(&number) = by_who.find(hash, |&number| sums[number as usize].who == who) {
            return number;
        }
        let number = sums.len() as u32;
        by_who.insert_unique(hash, number, |&number| hasher.hash_one(sums[number as usize].who));
        let nothing = Amount::default();
        let (first, last) = (Moment::of(seen.first), Moment::of(seen.last));
        sums.push(Sum { who, sent: nothing, received: nothing, first, last });
        number
    }

    /// Adds to the sum with this number, if it is one.
    pub(super) fn add(&mut self, number: u32, sent: Amount, received: Amount, seen: Seen) {
        let Some(sum) = self.sums.get_mut(number as usize) else { return };
        sum.sent.add(sent);
        sum.received.add(received);
        sum.first = sum.first.min(Moment::of(seen.first));
        sum.last = sum.last.max(Moment::of(seen.last));
    }

    fn number(&mut self, party: Party) -> u32 {
        let Sums { hasher, parties, by_party, .. } = self;
        let hash = hasher.hash_one(party);
        if let Some(&number) = by_party.find(hash, |&number| parties[number as usize] == party) {
            return number;
        }
        let number = parties.len() as u32;
        by_party.insert_unique(hash, number, |&number| hasher.hash_one(parties[number as usize]));
        parties.push(party);
        number
    }

    /// Sorts the lines. With `top`, only so many addresses or pairs have one of their own.
    pub(super) fn sort(&mut self, sort: Sort, top: Option<usize>) {
        let mut sums = std::mem::take(&mut self.sums);
        sums.sort_unstable_by_key(|sum| {
            let who = self.who(sum);
            (who.is_pseudo(), Reverse(who.rank(sort, sum.sent, sum.received)), who)
        });
        let ranked = sums.partition_point(|sum| !self.who(sum).is_pseudo());
        let kept = top.map_or(ranked, |top| top.min(ranked));
        let rest = sums.drain(kept..ranked).reduce(|mut sum, more| {
            sum.add(&more);
            sum
        });
        let nobody = self.number(Party::Rest);
        sums.extend(rest.map(|sum| Sum { who: (nobody, nobody), ..sum }));
        self.sums = sums;
    }

    /// All lines, in order.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line> {
        self.sums.iter().map(|sum| self.line(sum))
    }

    fn line(&self, sum: &Sum) -> Line {
        let seen = Seen { first: sum.first.time(), last: sum.last.time() };
        Line { who: self.who(sum), tally: Tally { sent: sum.sent, received: sum.received, seen } }
    }

    fn who(&self, sum: &Sum) -> Who {
        let (src, dst) = (self.parties[sum.who.0 as usize], self.parties[sum.who.1 as usize]);
        match self.by {
            By::Address => Who::Address(src),
            By::Pair => Who::Pair(src, dst),
        }
    }
}
