//! Numbers for endpoints and pairs, and the limits of both.
//!
//! Nearly all tables hold numbers alone: who is meant stands in the [`Directory`].

use std::hash::BuildHasher;
use std::net::IpAddr;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

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
    /// The first endpoint of every end, which is asked for so often that it stands here as well.
    ends: HashMap<End, u32>,
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
            ends: HashMap::new(),
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

    /// The number of the endpoint that an address behind a MAC is counted under. A new client is let in here while there
    /// is room.
    pub(super) fn address(&mut self, addr: IpAddr, mac: Option<Mac>, scope: &Scope) -> u32 {
        let end = End::Addr(addr);
        if let Some(first) = self.first(end) {
            return self.endpoint_like(first, Endpoint { end, mac });
        }
        if !scope.contains(addr) {
            self.endpoint(End::External, mac)
        } else if self.addresses < self.limits.addresses {
            self.addresses += 1;
            self.add_first(Endpoint { end, mac })
        } else {
            self.endpoint(End::Other, mac)
        }
    }

    /// The number of an endpoint that is no client.
    pub(super) fn endpoint(&mut self, end: End, mac: Option<Mac>) -> u32 {
        match self.first(end) {
            Some(first) => self.endpoint_like(first, Endpoint { end, mac }),
            None => self.add_first(Endpoint { end, mac }),
        }
    }

    /// Fetches what tells the number of an address.
    pub(super) fn touch(&self, addr: IpAddr) -> u32 {
        self.first(End::Addr(addr)).unwrap_or_default()
    }

    fn add_first(&mut self, endpoint: Endpoint) -> u32 {
        let Index { directory, ends, kin, .. } = self;
        let number = directory.add_endpoint(endpoint);
        ends.insert(endpoint.end, number);
        kin.push(Kin { first: number, endpoints: 1 });
        number
    }

    /// The number of an endpoint whose end has been met, with `first`. Where MACs run into their limits it is the one
    /// without a MAC.
    fn endpoint_like(&mut self, first: u32, endpoint: Endpoint) -> u32 {
        let Index { hasher, directory, endpoints, kin, .. } = self;
        if directory.endpoint(first) == endpoint {
            return first;
        }
        let hash = hasher.hash_one(endpoint);
        if let Some(&number) = endpoints.find(hash, |&number| directory.endpoint(number) == endpoint) {
            return number;
        }
        let behind = &mut kin[first as usize].endpoints;
        if endpoint.mac.is_some() && (*behind >= MACS_PER_END || endpoints.len() >= FURTHER_ENDPOINTS) {
            return self.endpoint_like(first, Endpoint { mac: None, ..endpoint });
        }
        *behind += 1;
        let number = directory.add_endpoint(endpoint);
        endpoints.insert_unique(hash, number, |&number| hasher.hash_one(directory.endpoint(number)));
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
        self.ends.get(&end).copied()
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const MULTICAST: u8 = 6;

    fn addr(n: u32) -> IpAddr {
        IpAddr::from((10 << 24 | n).to_be_bytes())
    }

    fn mac(n: u32) -> Option<Mac> {
        Some(Mac::from_bits(u64::from(n)))
    }

    fn index(addresses: usize, pairs: usize) -> Index {
        Index::new(Limits { addresses, pairs })
    }

    fn endpoint(index: &mut Index, n: u8, mac: Option<Mac>) -> u32 {
        let outside = IpAddr::from([203, 0, 113, 7]);
        match n {
            MULTICAST => index.endpoint(End::Multicast, mac),
            5 => index.address(outside, mac, &Scope::default()),
            n => index.address(addr(n.into()), mac, &Scope::default()),
        }
    }

    proptest! {
        /// Against the rule in its own words: lists of those who are in.
        #[test]
        fn who_comes_first_is_in_and_stays_in(
            addresses in 0..4_usize, pairs in 0..5_usize, packets in vec(((0..6_u8, 0..3_u32), (0..=6_u8, 0..3_u32)), 0..60),
        ) {
            let mut index = index(addresses, pairs);
            let (mut known, mut told): (Vec<u8>, Vec<(End, End)>) = Default::default();
            let mut numbers = HashMap::new();
            for packet in packets {
                let mut number = |(n, behind): (u8, u32)| {
                    let number = endpoint(&mut index, n, mac(behind));
                    if n < 5 && !known.contains(&n) && known.len() < addresses {
                        known.push(n);
                    }
                    let expected = match n {
                        MULTICAST => End::Multicast,
                        5 => End::External,
                        n if known.contains(&n) => End::Addr(addr(n.into())),
                        _ => End::Other,
                    };
                    (index.directory().endpoint(number).end == expected).then_some(number)
                };
                let (Some(src), Some(dst)) = (number(packet.0), number(packet.1)) else { panic!("{packet:?}") };
                let (one, two) = (index.directory().endpoint(src), index.directory().endpoint(dst));
                prop_assert_eq!((one.mac, two.mac), (mac(packet.0.1), mac(packet.1.1)));

                let found = index.pair(src, dst);
                let ends = (one.end, two.end);
                let is_in = ends == (End::Other, End::Other) || told.contains(&ends) || told.len() < pairs;
                if is_in && ends != (End::Other, End::Other) && !told.contains(&ends) {
                    told.push(ends);
                }
                let beyond = Endpoint { end: End::Beyond, mac: None };
                let named = |number| index.directory().pair(number);
                if is_in {
                    prop_assert_eq!((named(found.0), found.1), ((one, two), None));
                } else {
                    prop_assert_eq!((named(found.0), found.1.map(named)), ((one, beyond), Some((beyond, two))));
                }
                prop_assert_eq!(*numbers.entry((src, dst)).or_insert(found), found);
            }
        }
    }

    /// However many MACs: bounded numbers, and whatever has one speaks of the ends that were meant.
    #[test]
    fn spoofed_macs_run_into_limits_and_never_change_the_ends() {
        let (addresses, pairs) = (1_000, 2_000);
        let mut index = index(addresses as usize, pairs);
        let mut endpoints = HashMap::new();
        for n in 0..addresses {
            for behind in 0..MACS_PER_END + 2 {
                let number = index.address(addr(n), mac(n << 16 | behind), &Scope::default());
                let named = index.directory().endpoint(number);
                assert_eq!(named.end, End::Addr(addr(n)));
                assert!(named.mac.is_none() || named.mac == mac(n << 16 | behind), "{n} {behind}: {named:?}");
                // The first MAC is always known.
                assert!(behind > 0 || named.mac.is_some());
                endpoints.entry(n).or_insert_with(Vec::new).push(number);
            }
        }
        let most = addresses as usize * 2 + FURTHER_ENDPOINTS;
        assert!(index.directory().endpoints().len() <= most, "{}", index.directory().endpoints().len());
        assert_eq!(index.endpoint(End::External, mac(1)), index.endpoint(End::External, mac(1)));

        // Each of two addresses behind all its MACs, then all addresses.
        let many: Vec<(u32, u32)> = (0..6)
            .flat_map(|n| endpoints[&n].iter().flat_map(|src| endpoints[&9].iter().map(|dst| (*src, *dst))))
            .chain(
                (0..addresses)
                    .flat_map(|n| (0..3).map(move |to| (n, to)))
                    .map(|(n, to)| (endpoints[&n][1], endpoints[&to][2])),
            )
            .collect();
        let end = |index: &Index, number: u32| index.directory().endpoint(number).end;
        for (src, dst) in many {
            let (pair, second) = index.pair(src, dst);
            let ends = (end(&index, src), end(&index, dst));
            let (one, two) = index.directory().pair(pair);
            match second.map(|second| index.directory().pair(second)) {
                None => assert_eq!((one.end, two.end), ends),
                Some(second) => {
                    assert_eq!((one.end, two.end), (ends.0, End::Beyond));
                    assert_eq!((second.0.end, second.1.end), (End::Beyond, ends.1));
                }
            }
        }
        assert_eq!(index.counted_pairs, pairs);
        let most = pairs + 2 * addresses as usize + FURTHER_PAIRS;
        assert!(index.directory().pairs().len() <= most, "{}", index.directory().pairs().len());
        assert!(index.pairs.len() == FURTHER_PAIRS && index.endpoints.len() >= FURTHER_ENDPOINTS);
    }
}
