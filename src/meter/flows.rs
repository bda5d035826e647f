//! What is known of a flow, found by one look at one place.

use super::ledger::NO_ROW;
use super::pairing::NO_PAIR;
use crate::packet::Flow;

/// Sets at first and at most. What finds its set full takes the place of another: the cache only saves time.
const MIN_SETS: usize = 1 << 8;
const MAX_SETS: usize = 1 << 17;

/// Flows in a set: those that a look may have to compare.
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

/// The cache: sets of flows that share the lower bits of a hash.
pub(super) struct Flows {
    sets: Vec<[Known; WAYS]>,
    used: usize,
    /// One for every word of a flow.
    key: [u64; 6],
    /// Whose turn it is to give way.
    turn: usize,
}

impl Flows {
    /// Empty; `key` keeps clients from choosing addresses that share a set.
    pub(super) fn new(key: [u64; 6]) -> Self {
        Flows { sets: empty(MIN_SETS), used: 0, key, turn: 0 }
    }

    /// The place of a flow that has been met.
    #[inline(always)]
    pub(super) fn find(&mut self, flow: &Flow) -> Option<&mut Known> {
        let home = self.home(flow);
        self.sets[home].iter_mut().find(|known| known.flow == *flow)
    }

    /// Remembers a flow; where.
    pub(super) fn insert(&mut self, known: Known) -> &mut Known {
        if self.used > self.sets.len() * WAYS / 2 && self.sets.len() < MAX_SETS {
            let larger = empty(2 * self.sets.len());
            self.used = 0;
            for known in std::mem::replace(&mut self.sets, larger).as_flattened() {
                if known.flow != Flow::NONE {
                    self.place(*known);
                }
            }
        }
        self.place(known)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.sets = empty(MIN_SETS);
        self.used = 0;
    }

    fn place(&mut self, known: Known) -> &mut Known {
        let home = self.home(&known.flow);
        let set = &mut self.sets[home];
        let free = set.iter().position(|known| known.flow == Flow::NONE);
        self.used += usize::from(free.is_some());
        self.turn = (self.turn + 1) % WAYS;
        let slot = &mut set[free.unwrap_or(self.turn)];
        *slot = known;
        slot
    }

    /// The set of a flow. A keyed sum of products, like the packets' fingerprints.
    #[inline(always)]
    fn home(&self, flow: &Flow) -> usize {
        let [a, b, c, d, e, f] = flow.words();
        let [i, j, k, l, m, n] = self.key;
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let mut sum = product(a.wrapping_add(i), c.wrapping_add(j)).wrapping_add(product(b, k));
        if flow.is_ipv6() {
            sum = sum.wrapping_add(product(d.wrapping_add(l), e.wrapping_add(m))).wrapping_add(product(f, n));
        }
        let mixed = ((sum >> 64) as u64 ^ sum as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) as usize & (self.sets.len() - 1)
    }
}

fn empty(sets: usize) -> Vec<[Known; WAYS]> {
    vec![[Known::new(Flow::NONE, Kind::OutOfScope); WAYS]; sets]
}
