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

/// MACs told apart behind one end. An address behind more of them is spoofed or broken.
const MACS_PER_END: u32 = 256;

/// Endpoints and pairs that differ from others by their MACs alone.
const FURTHER_ENDPOINTS: usize = 1 << 16;
const FURTHER_PAIRS: usize = 1 << 18;

/// Finds the number of an endpoint or a pair, or gives it one. Who comes first is in, and stays in.
pub(super) struct Index {
    limits: Limits,
    hasher: DefaultHashBuilder,
    directory: Directory,
    /// Client addresses let in, and pairs of ends.
    addresses: usize,
    counted_pairs: usize,
    /// The first endpoint of every end.
    ends: HashTable<u32>,
    /// Further endpoints of known ends, behind other MACs.
    endpoints: HashTable<u32>,
    /// For every endpoint: the first one of its end, and for that one, how many there are.
    kin: Vec<Kin>,
    /// The first pair of every two ends.
    end_pairs: HashTable<u32>,
    /// Further pairs of the same ends.
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
            counted_pairs: 0,
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
        let endpoint = Endpoint { end, mac };
        let first = self.first(end);
        let Index { hasher, directory, ends, endpoints, kin, .. } = self;
        let of = |directory: &Directory, number: &u32| directory.endpoint(*number);
        let Some(first) = first else {
            let number = directory.add_endpoint(endpoint);
            ends.insert_unique(hasher.hash_one(end), number, |number| hasher.hash_one(of(directory, number).end));
            kin.push(Kin { first: number, endpoints: 1 });
            return number;
        };
        let hash = hasher.hash_one(endpoint);
        if directory.endpoint(first) == endpoint {
            return first;
        }
        if let Some(&number) = endpoints.find(hash, |number| of(directory, number) == endpoint) {
            return number;
        }
        let behind = &mut kin[first as usize].endpoints;
        if mac.is_some() && (*behind >= MACS_PER_END || endpoints.len() >= FURTHER_ENDPOINTS) {
            return self.endpoint(end, None);
        }
        *behind += 1;
        let number = directory.add_endpoint(endpoint);
        endpoints.insert_unique(hash, number, |number| hasher.hash_one(of(directory, number)));
        kin.push(Kin { first, endpoints: 0 });
        number
    }

    /// The number of a pair. Beyond the limit of pairs there are two: one for either end.
    pub(super) fn pair(&mut self, src: u32, dst: u32) -> (u32, Option<u32>) {
        if let Some(first) = self.first_pair(src, dst) {
            return (self.pair_like(first, src, dst), None);
        }
        // What is `other` on both sides takes no place.
        let counts = [src, dst].into_iter().any(|number| self.directory.endpoint(number).end != End::Other);
        if !counts || self.counted_pairs < self.limits.pairs {
            self.counted_pairs += usize::from(counts);
            return (self.add_first_pair(src, dst), None);
        }
        let beyond = self.endpoint(End::Beyond, None);
        let mut half = |src, dst| match self.first_pair(src, dst) {
            Some(first) => self.pair_like(first, src, dst),
            None => self.add_first_pair(src, dst),
        };
        (half(src, beyond), Some(half(beyond, dst)))
    }

    /// The pair between the ends of `first` behind the MACs of these endpoints. Where MACs have made too many it is
    /// `first`, whose sums are those of the same ends.
    fn pair_like(&mut self, first: u32, src: u32, dst: u32) -> u32 {
        let Index { hasher, directory, pairs, .. } = self;
        if directory.ends(first) == (src, dst) {
            return first;
        }
        let hash = hasher.hash_one((src, dst));
        if let Some(&number) = pairs.find(hash, |&number| directory.ends(number) == (src, dst)) {
            return number;
        }
        if pairs.len() >= FURTHER_PAIRS {
            return first;
        }
        let number = directory.add_pair(src, dst);
        pairs.insert_unique(hash, number, |&number| hasher.hash_one(directory.ends(number)));
        number
    }

    fn add_first_pair(&mut self, src: u32, dst: u32) -> u32 {
        let Index { hasher, directory, kin, end_pairs, .. } = self;
        let number = directory.add_pair(src, dst);
        let hash = |&number: &u32| hasher.hash_one(ends_of(kin, directory.ends(number)));
        end_pairs.insert_unique(hash(&number), number, hash);
        number
    }

    /// The first endpoint of an end.
    fn first(&self, end: End) -> Option<u32> {
        self.ends.find(self.hasher.hash_one(end), |&number| self.directory.endpoint(number).end == end).copied()
    }

    /// The first pair between the ends of these two endpoints.
    fn first_pair(&self, src: u32, dst: u32) -> Option<u32> {
        let ends = ends_of(&self.kin, (src, dst));
        let same = |&number: &u32| ends_of(&self.kin, self.directory.ends(number)) == ends;
        self.end_pairs.find(self.hasher.hash_one(ends), same).copied()
    }
}

/// The ends of a pair, by the first endpoint of each.
fn ends_of(kin: &[Kin], (src, dst): (u32, u32)) -> (u32, u32) {
    (kin[src as usize].first, kin[dst as usize].first)
}
