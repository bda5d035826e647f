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

/// Stands for a flow: 128 bits of a keyed sum of products, as the [fingerprints](super::fingerprint) are made. Two flows
/// share one with a chance of 2⁻⁶⁴, under a key that is drawn at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag([u64; 2]);

impl Tag {
    /// That of no flow.
    pub(super) const NONE: Tag = Tag([0, 0]);

    /// Where it is looked for first.
    #[inline(always)]
    fn home(self) -> usize {
        ((self.0[0] ^ self.0[1]).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
    }
}

/// A flow that has been met. Two are in a cache line.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub(super) struct Known {
    pub tag: Tag,
    /// The pair it counts under, if it has one yet; where the limit of pairs was reached, the one for the near end.
    pub pair: u32,
    /// The pair for the other end then, or [`NO_PAIR`].
    pub second: u32,
    /// Where the pair's row was when it was last used; no row's place where there is a second pair.
    pub row: u32,
    pub kind: Kind,
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
    /// Empty; with a random `key` no client can choose addresses that share a tag or a place.
    pub(super) fn new(key: [u64; 6]) -> Self {
        Flows { places: empty(MIN_PLACES), used: 0, key, turn: 0 }
    }

    /// The tag of a flow.
    #[inline(always)]
    pub(super) fn tag(&self, flow: &Flow) -> Tag {
        let [a, b, c, d, e, f] = flow.words();
        let [i, j, k, l, m, n] = self.key;
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let mut sum = product(a.wrapping_add(i), c.wrapping_add(j)).wrapping_add(product(b, k));
        if flow.is_ipv6() {
            sum = sum.wrapping_add(product(d.wrapping_add(l), e.wrapping_add(m))).wrapping_add(product(f, n));
        }
        // The lowest bit keeps it apart from none.
        Tag([sum as u64 | 1, (sum >> 64) as u64])
    }

    /// What is known of a flow that has been met.
    #[inline(always)]
    pub(super) fn find(&mut self, tag: Tag) -> Option<&mut Known> {
        let (home, last) = (tag.home(), self.places.len() - 1);
        let place = (home..home + WAYS).map(|place| place & last).find(|&place| self.places[place].tag == tag)?;
        Some(&mut self.places[place])
    }

    /// What stands where a flow is looked for first.
    #[inline(always)]
    pub(super) fn touch(&self, tag: Tag) -> &Known {
        &self.places[tag.home() & (self.places.len() - 1)]
    }

    /// Remembers that the packets of a flow count so.
    pub(super) fn insert(&mut self, tag: Tag, kind: Kind) -> &mut Known {
        if self.used >= self.places.len() / 4 && self.places.len() < MAX_PLACES {
            let larger = empty(2 * self.places.len());
            self.used = 0;
            for known in std::mem::replace(&mut self.places, larger) {
                if known.tag != Tag::NONE {
                    self.place(known);
                }
            }
        }
        self.place(Known { tag, pair: NO_PAIR, second: NO_PAIR, row: NO_ROW, kind })
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.places.as_slice())
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.places = empty(MIN_PLACES);
        self.used = 0;
    }

    fn place(&mut self, known: Known) -> &mut Known {
        let (home, last) = (known.tag.home(), self.places.len() - 1);
        let mut ways = (home..home + WAYS).map(|place| place & last);
        self.turn = (self.turn + 1) % WAYS;
        let place = match ways.find(|&place| self.places[place].tag == Tag::NONE) {
            Some(free) => {
                self.used += 1;
                free
            }
            None => (home + self.turn) & last,
        };
        self.places[place] = known;
        &mut self.places[place]
    }
}

fn empty(places: usize) -> Vec<Known> {
    vec![Known { tag: Tag::NONE, pair: NO_PAIR, second: NO_PAIR, row: NO_ROW, kind: Kind::OutOfScope }; places]
}
