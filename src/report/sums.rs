//! The sums of one network in one period, in little space: there may be more than a million.

use std::cmp::Reverse;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{Amount, By, Line, Party, Sort, Tally, Who};
use crate::time::Timestamp;
use crate::traffic::Seen;

/// Everybody who was met, by number: the same for all networks and periods.
#[derive(Clone, Default)]
pub(super) struct Parties {
    hasher: DefaultHashBuilder,
    list: Vec<Party>,
    numbers: HashTable<u32>,
}

/// Source and destination by their numbers, or an address twice.
pub(super) type Ends = (u32, u32);

/// Sums by address or by pair, numbered in the order in which they came.
#[derive(Default)]
pub(super) struct Sums {
    hasher: DefaultHashBuilder,
    sums: Vec<Sum>,
    numbers: HashTable<u32>,
}

pub(super) struct Sum {
    pub(super) who: Ends,
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

impl Parties {
    /// The number of a party, which it gets if it has none.
    pub(super) fn number(&mut self, party: Party) -> u32 {
        let Parties { hasher, list, numbers } = self;
        let hash = hasher.hash_one(party);
        if let Some(&number) = numbers.find(hash, |&number| list[number as usize] == party) {
            return number;
        }
        let number = list.len() as u32;
        numbers.insert_unique(hash, number, |&number| hasher.hash_one(list[number as usize]));
        list.push(party);
        number
    }

    /// The party with this number.
    pub(super) fn party(&self, number: u32) -> Party {
        self.list[number as usize]
    }

    /// Whose line it is.
    pub(super) fn who(&self, by: By, (src, dst): Ends) -> Who {
        let (src, dst) = (self.list[src as usize], self.list[dst as usize]);
        match by {
            By::Address | By::Member => Who::Address(src),
            By::Pair => Who::Pair(src, dst),
        }
    }

    /// The line of a sum.
    pub(super) fn line(&self, by: By, sum: &Sum) -> Line {
        let seen = Seen { first: sum.first.time(), last: sum.last.time() };
        let tally = Tally { sent: sum.sent, received: sum.received, forwarded: [0; 2], seen: Some(seen) };
        Line { who: self.who(by, sum.who), tally }
    }
}

impl Sums {
    /// The number of a sum. Something at that time is to be [added](Sums::add).
    pub(super) fn place(&mut self, who: Ends, seen: Seen) -> u32 {
        let Sums { hasher, sums, numbers } = self;
        let hash = hasher.hash_one(who);
        if let Some(&number) = numbers.find(hash, |&number| sums[number as usize].who == who) {
            return number;
        }
        let number = sums.len() as u32;
        numbers.insert_unique(hash, number, |&number| hasher.hash_one(sums[number as usize].who));
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

    /// Whose the sums are: their sources.
    pub(super) fn firsts(&self) -> impl Iterator<Item = u32> {
        self.sums.iter().map(|sum| sum.who.0)
    }

    /// The sums of those that `line` of an address, with its bytes sent and received, says: none where it says nobody.
    pub(super) fn regrouped(self, mut line: impl FnMut(u32, [u64; 2]) -> Option<u32>) -> Sums {
        let mut sums = Sums::default();
        for Sum { who: (address, _), sent, received, first, last } in self.sums {
            if let Some(number) = line(address, [sent.bytes, received.bytes]) {
                let seen = Seen { first: first.time(), last: last.time() };
                let place = sums.place((number, number), seen);
                sums.add(place, sent, received, seen);
            }
        }
        sums
    }

    /// Adds all sums of another period.
    pub(super) fn merge(&mut self, more: &Sums) {
        for &Sum { who, sent, received, first, last } in &more.sums {
            let seen = Seen { first: first.time(), last: last.time() };
            let place = self.place(who, seen);
            self.add(place, sent, received, seen);
        }
    }

    /// All sums in the order of their lines, where the ones that stand apart come last.
    pub(super) fn sorted(self, by: By, parties: &Parties, sort: Sort) -> Vec<Sum> {
        let mut sums = self.sums;
        sums.sort_unstable_by_key(|sum| {
            let who = parties.who(by, sum.who);
            (who.is_pseudo(), Reverse(who.rank(sort, sum.sent, sum.received)), who)
        });
        sums
    }
}
