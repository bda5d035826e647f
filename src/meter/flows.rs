//! What is known of a flow, found by one look at one place.

use super::ledger::NO_ROW;
use super::pairing::NO_PAIR;
use crate::packet::Flow;

/// Places at first and at most. It is at most a quarter full until it is at its largest, so that most flows are in the
/// first place where they are looked for.
const MIN_PLACES: usize = 1 << 11;
const MAX_PLACES: usize = 1 << 19;

/// Places where a flow may be, one behind another. What finds them taken takes that of another: the cache only saves
/// time.
const WAYS: usize = 4;

/// How the packets of a flow count. Teed ones are between two other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Not at all.
    OutOfScope,
    OutOfScopeTeed,
    /// They may have a copy.
    Unicast,
    UnicastTeed,
    /// They are from or to the observer and have none.
    Own,
    /// Every repeat is a copy.
    Group,
}

impl Kind {
    /// How many there are.
    pub(super) const COUNT: usize = Kind::Group as usize + 1;

    #[inline(always)]
    pub(super) fn is_in_scope(self) -> bool {
        self as u8 > Kind::OutOfScopeTeed as u8
    }
}

/// A flow that has been met. Takes a cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Known {
    pub flow: Flow,
    /// The pair it counts under, if it has one yet; where the limit of pairs was reached, the one for the near end.
    pub pair: u32,
    /// The pair for the other end then, or [`NO_PAIR`].
    pub second: u32,
    /// Where the pair's row was when it was last used; no row's place where there is a second pair.
    pub row: u32,
    pub kind: Kind,
}

impl Known {
    pub(super) fn new(flow: Flow, kind: Kind) -> Self {
        Known { flow, pair: NO_PAIR, second: NO_PAIR, row: NO_ROW, kind }
    }
}

/// The cache.
pub(super) struct Flows {
    places: Vec<Known>,
    used: usize,
    /// One for every word of a flow.
    key: [u64; 6],
    /// Whose turn it is to give way.
    turn: usize,
}

impl Flows {
    /// Empty; `key` keeps clients from choosing addresses that share a place.
    pub(super) fn new(key: [u64; 6]) -> Self {
        Flows { places: empty(MIN_PLACES), used: 0, key, turn: 0 }
    }

    /// What is known of a flow that has been met.
    #[inline(always)]
    pub(super) fn find(&mut self, hash: usize, flow: &Flow) -> Option<&mut Known> {
        let last = self.places.len() - 1;
        let place = (hash..hash + WAYS).map(|place| place & last).find(|&place| self.places[place].flow == *flow)?;
        Some(&mut self.places[place])
    }

    /// What stands where a flow is looked for first.
    #[inline(always)]
    pub(super) fn touch(&self, hash: usize) -> &Known {
        &self.places[hash & (self.places.len() - 1)]
    }

    /// Remembers a flow.
    pub(super) fn insert(&mut self, hash: usize, known: Known) -> &mut Known {
        if self.used >= self.places.len() / 4 && self.places.len() < MAX_PLACES {
            let larger = empty(2 * self.places.len());
            self.used = 0;
            for known in std::mem::replace(&mut self.places, larger) {
                if known.flow != Flow::NONE {
                    self.place(self.hash(&known.flow), known);
                }
            }
        }
        self.place(hash, known)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.places = empty(MIN_PLACES);
        self.used = 0;
    }

    fn place(&mut self, hash: usize, known: Known) -> &mut Known {
        let last = self.places.len() - 1;
        let mut ways = (hash..hash + WAYS).map(|place| place & last);
        self.turn = (self.turn + 1) % WAYS;
        let place = match ways.find(|&place| self.places[place].flow == Flow::NONE) {
            Some(free) => {
                self.used += 1;
                free
            }
            None => (hash + self.turn) & last,
        };
        self.places[place] = known;
        &mut self.places[place]
    }

    /// Tells where a flow is looked for first: a keyed sum of products, like the packets' fingerprints.
    #[inline(always)]
    pub(super) fn hash(&self, flow: &Flow) -> usize {
        let [a, b, c, d, e, f] = flow.words();
        let [i, j, k, l, m, n] = self.key;
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let mut sum = product(a.wrapping_add(i), c.wrapping_add(j)).wrapping_add(product(b, k));
        if flow.is_ipv6() {
            sum = sum.wrapping_add(product(d.wrapping_add(l), e.wrapping_add(m))).wrapping_add(product(f, n));
        }
        (((sum >> 64) as u64 ^ sum as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
    }
}

fn empty(places: usize) -> Vec<Known> {
    vec![Known::new(Flow::NONE, Kind::OutOfScope); places]
}
