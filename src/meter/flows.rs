//! What is known of a flow, found by one look at one place.

use super::pairing::NO_PAIR;
use crate::packet::Flow;

/// Slots at first and at most. What finds no slot takes that of another: the cache only saves time.
const MIN_SLOTS: usize = 1 << 10;
const MAX_SLOTS: usize = 1 << 19;

/// Neighbouring slots that a flow may have.
const WAYS: usize = 4;

/// How the packets of a flow count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// No flow.
    #[default]
    Empty,
    /// Not at all.
    OutOfScope,
    /// They may have a copy.
    Unicast,
    /// They are from or to the observer and have none.
    Own,
    /// Every repeat is a copy.
    Group,
}

/// A flow that has been met. Takes a cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Known {
    flow: Flow,
    /// The pair it counts under, if it has one yet; where the limit of pairs was reached, the one for the near end.
    pub pair: u32,
    /// The pair for the other end then.
    pub second: Option<Second>,
    /// Where the pair's row was when it was last used.
    pub row: u32,
    pub kind: Kind,
    /// Between two other nodes.
    pub teed: bool,
}

/// A pair's number, stored so that none takes no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Second(std::num::NonZeroU32);

impl Second {
    pub(super) fn new(pair: u32) -> Self {
        Second(std::num::NonZeroU32::MIN.saturating_add(pair))
    }

    pub(super) fn pair(self) -> u32 {
        self.0.get() - 1
    }
}

impl Known {
    pub(super) fn new(flow: Flow, kind: Kind, teed: bool) -> Self {
        Known { flow, pair: NO_PAIR, second: None, row: u32::MAX, kind, teed }
    }

    pub(super) fn has_pair(&self) -> bool {
        self.pair != NO_PAIR
    }

    pub(super) fn set_pair(&mut self, pair: u32, second: Option<u32>) {
        (self.pair, self.second) = (pair, second.map(Second::new));
    }
}

/// The cache.
pub(super) struct Flows {
    slots: Vec<Known>,
    used: usize,
    key: [u64; 4],
    /// Whose turn it is to give way.
    turn: usize,
}

impl Flows {
    /// Empty; `key` keeps clients from choosing addresses that share a slot.
    pub(super) fn new(key: [u64; 4]) -> Self {
        Flows { slots: empty(MIN_SLOTS), used: 0, key, turn: 0 }
    }

    /// The place of a flow that has been met.
    #[inline]
    pub(super) fn find(&mut self, flow: &Flow) -> Option<&mut Known> {
        let home = self.home(flow);
        let slots = &mut self.slots[home..home + WAYS];
        slots.iter_mut().find(|known| known.flow == *flow && known.kind != Kind::Empty)
    }

    /// Remembers a flow.
    pub(super) fn insert(&mut self, known: Known) {
        if self.used > self.slots.len() / 2 && self.slots.len() < MAX_SLOTS {
            let larger = empty(2 * self.slots.len());
            self.used = 0;
            for known in std::mem::replace(&mut self.slots, larger) {
                if known.kind != Kind::Empty {
                    self.place(known);
                }
            }
        }
        self.place(known);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.slots = empty(MIN_SLOTS);
        self.used = 0;
    }

    fn place(&mut self, known: Known) {
        let home = self.home(&known.flow);
        let slots = &mut self.slots[home..home + WAYS];
        let free = slots.iter().position(|slot| slot.kind == Kind::Empty);
        self.used += usize::from(free.is_some());
        self.turn = (self.turn + 1) % WAYS;
        slots[free.unwrap_or(self.turn)] = known;
    }

    /// The first of a flow's slots. A keyed sum of products, like the packets' fingerprints.
    #[inline]
    fn home(&self, flow: &Flow) -> usize {
        let [a, b, c, d, e, f] = *flow.words();
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let [k, l, m, n] = self.key;
        let sum =
            product(a ^ k, c ^ l).wrapping_add(product(b.wrapping_add(m), (d ^ e.rotate_left(32) ^ f).wrapping_add(n)));
        let mixed = ((sum >> 64) as u64 ^ sum as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) as usize & (self.slots.len() - WAYS)
    }
}

fn empty(slots: usize) -> Vec<Known> {
    vec![Known::new(Flow::EMPTY, Kind::Empty, false); slots]
}
