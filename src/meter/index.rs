//! Numbers for endpoints and pairs, and the limits of both.
//!
//! The tables hold numbers alone: who is meant stands in the [`Directory`].

use std::hash::BuildHasher;
use std::net::IpAddr;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::scope::Scope;
use crate::packet::Mac;
use crate::traffic::{Directory, End, Endpoint};

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

/// MACs remembered for one end. An address behind more of them is spoofed or broken.
const MACS_PER_END: u32 = 256;

/// MACs are told apart until there are so many more endpoints than addresses may be, and so many more pairs.
const SPARE_ENDPOINTS: usize = 1 << 16;
const SPARE_PAIRS: usize = 1 << 19;

/// Finds the number of an endpoint or a pair, or gives it one. Who comes first is in, and stays in.
pub(super) struct Index {
    limits: Limits,
    hasher: DefaultHashBuilder,
    directory: Directory,
    /// Client addresses let in.
    addresses: usize,
    /// The first endpoint of every end, by the end.
    ends: HashTable<u32>,
    /// All other endpoints: ends behind further MACs.
    endpoints: HashTable<u32>,
    /// For every endpoint: the first one of its end, and for that one, how many there are.
    kin: Vec<Kin>,
    /// The first pair of every two ends, by the ends: what the limit counts.
    end_pairs: HashTable<u32>,
    /// All other pairs: between further endpoints of the same ends, and those that the limit does not count.
    pairs: HashTable<u32>,
}

#[derive(Clone, Copy)]
struct Kin {
    first: u32,
    endpoints: u32,
}

impl Index {
    pub(super) fn new(limits: Limits) -> Self {
        Index {
            limits,
            hasher: DefaultHashBuilder::default(),
            directory: Directory::default(),
            addresses: 0,
            ends: HashTable::new(),
            endpoints: HashTable::new(),
            kin: Vec::new(),
            end_pairs: HashTable::new(),
            pairs: HashTable::new(),
        }
    }

    /// Who is behind the numbers.
    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The end that an address is reported as. A new client is let in here while there is room.
    pub(super) fn name(&mut self, addr: IpAddr, scope: &Scope) -> End {
        let end = End::Addr(addr);
        if self.first(end).is_some() {
            end
        } else if !scope.contains(addr) {
            End::External
        } else if self.addresses < self.limits.addresses {
            self.addresses += 1;
            end
        } else {
            End::Other
        }
    }

    /// The number of an endpoint. Where MACs run into their limits it is the one without a MAC.
    pub(super) fn endpoint(&mut self, end: End, mac: Option<Mac>) -> u32 {
        let Index { limits, hasher, directory, ends, endpoints, kin, .. } = self;
        let endpoint = Endpoint { end, mac };
        let named = directory.endpoints();
        let (by_end, by_both) = (hasher.hash_one(end), hasher.hash_one(endpoint));
        let first = ends.find(by_end, |&number| named[number as usize].end == end).copied();
        if let Some(first) = first.filter(|&first| named[first as usize] == endpoint) {
            return first;
        }
        if let Some(&number) = endpoints.find(by_both, |&number| named[number as usize] == endpoint) {
            return number;
        }
        let macs = first.map_or(0, |first| kin[first as usize].endpoints);
        if mac.is_some() && (macs >= MACS_PER_END || named.len() >= limits.addresses + SPARE_ENDPOINTS) {
            return self.endpoint(end, None);
        }
        let number = directory.add_endpoint(endpoint);
        let named = directory.endpoints();
        match first {
            None => ends.insert_unique(by_end, number, |&number| hasher.hash_one(named[number as usize].end)),
            Some(_) => endpoints.insert_unique(by_both, number, |&number| hasher.hash_one(named[number as usize])),
        };
        let first = first.unwrap_or(number);
        kin.push(Kin { first, endpoints: 0 });
        kin[first as usize].endpoints += 1;
        number
    }

    /// The number of a pair. Beyond the limit of pairs there are two: one for either end.
    pub(super) fn pair(&mut self, src: u32, dst: u32) -> (u32, Option<u32>) {
        let first = self.first_pair(src, dst);
        if first.is_some() || self.end_pairs.len() < self.limits.pairs || self.takes_no_place(src, dst) {
            return (self.find_pair(src, dst, first), None);
        }
        let beyond = self.endpoint(End::Beyond, None);
        (self.find_pair(src, beyond, None), Some(self.find_pair(beyond, dst, None)))
    }

    /// Finds the pair whose ends have this first one, or makes it. Where MACs have made too many pairs it is the one
    /// without MACs.
    fn find_pair(&mut self, src: u32, dst: u32, first: Option<u32>) -> u32 {
        if let Some(first) = first.filter(|&first| self.directory.pairs()[first as usize] == (src, dst)) {
            return first;
        }
        let by_both = self.hasher.hash_one((src, dst));
        let known = self.directory.pairs();
        if let Some(&number) = self.pairs.find(by_both, |&number| known[number as usize] == (src, dst)) {
            return number;
        }
        if known.len() >= self.limits.pairs + SPARE_PAIRS {
            let plain = (self.without_mac(src), self.without_mac(dst));
            if plain != (src, dst) {
                return self.find_pair(plain.0, plain.1, first);
            }
        }
        let takes_place = first.is_none() && !self.takes_no_place(src, dst);
        let Index { hasher, directory, kin, end_pairs, pairs, .. } = self;
        let number = directory.add_pair(src, dst);
        let known = directory.pairs();
        if takes_place {
            let hash = |&number: &u32| hasher.hash_one(ends_of(kin, known[number as usize]));
            end_pairs.insert_unique(hash(&number), number, hash);
        } else {
            pairs.insert_unique(by_both, number, |&number| hasher.hash_one(known[number as usize]));
        }
        number
    }

    /// Whether the pair is one that the limit does not count.
    fn takes_no_place(&self, src: u32, dst: u32) -> bool {
        let end = |number: u32| self.directory.endpoints()[number as usize].end;
        let ends = (end(src), end(dst));
        ends.0 == End::Beyond || ends.1 == End::Beyond || ends == (End::Other, End::Other)
    }

    fn without_mac(&mut self, endpoint: u32) -> u32 {
        self.endpoint(self.directory.endpoints()[endpoint as usize].end, None)
    }

    /// The first endpoint of an end.
    fn first(&self, end: End) -> Option<u32> {
        let named = self.directory.endpoints();
        self.ends.find(self.hasher.hash_one(end), |&number| named[number as usize].end == end).copied()
    }

    /// The first pair between the ends of these two endpoints, if it takes a place.
    fn first_pair(&self, src: u32, dst: u32) -> Option<u32> {
        let ends = ends_of(&self.kin, (src, dst));
        let known = self.directory.pairs();
        let same = |&number: &u32| ends_of(&self.kin, known[number as usize]) == ends;
        self.end_pairs.find(self.hasher.hash_one(ends), same).copied()
    }
}

/// The ends of a pair, by the first endpoint of each.
fn ends_of(kin: &[Kin], (src, dst): (u32, u32)) -> (u32, u32) {
    (kin[src as usize].first, kin[dst as usize].first)
}
