//! Packets that wait for their copy, and those to groups whose repeats are copies.
//!
//! A flat table from fingerprint to time: open addressing with linear probing, and deletion that closes the gap.
//! Packets enter and leave it all the time; those whose window has passed are swept out a few slots at a time, so that
//! no packet ever pays for a whole pass.

use crate::time::{Span, Timestamp};

/// The first and the largest size. The table is at most three quarters full, so that at its largest it holds the
/// million unpaired packets it promises and half a million more that have expired and are not swept yet.
const MIN_SLOTS: usize = 1 << 10;
const MAX_SLOTS: usize = 1 << 21;

/// Slots looked at for every packet that enters: a full pass per half a million packets at the largest size.
const SWEEP_STEP: usize = 4;

/// The pair of a packet that waits for no pair's sake.
pub(super) const NO_PAIR: u32 = u32::MAX;

/// Packed, because there may be two million.
#[derive(Clone, Copy, Default)]
#[repr(C, packed(4))]
struct Slot {
    /// 0: empty.
    fingerprint: u64,
    /// The low 64 bits of the packet's time in nanoseconds. Enough: what is in the table is never older than the
    /// window and what has not been swept since.
    time: u64,
    /// The pair that the packet was counted under.
    pair: u32,
}

/// A packet that waited and found its copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub time: Timestamp,
    pub pair: u32,
}

/// The table. `expired` closures are told the pair of every packet that leaves without a copy.
pub(super) struct Table {
    slots: Vec<Slot>,
    used: usize,
    sweep_at: usize,
    window: Span,
    now: Timestamp,
    overflows: u64,
}

impl Table {
    /// A table whose packets wait for `window`.
    pub(super) fn new(window: Span) -> Self {
        Table {
            slots: vec![Slot::default(); MIN_SLOTS],
            used: 0,
            sweep_at: 0,
            window,
            now: Timestamp(i128::MIN / 2),
            overflows: 0,
        }
    }

    /// Packets that could not be remembered because the table was full.
    pub(super) fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Moves the latest time seen forward; earlier times change nothing.
    pub(super) fn advance(&mut self, time: Timestamp, expired: &mut impl FnMut(u32)) {
        if time <= self.now {
            return;
        }
        if time.0 - self.now.0 > self.window.0 {
            // Nothing in the table can be younger than the window now. This also keeps 64 bits of time enough.
            self.restart(time, expired);
        }
        self.now = time;
    }

    /// Forgets everything, and takes `time` for the latest time seen.
    pub(super) fn restart(&mut self, time: Timestamp, expired: &mut impl FnMut(u32)) {
        if self.used > 0 {
            self.slots.iter().filter(|slot| slot.fingerprint != 0).for_each(|slot| expired(slot.pair));
            // Small again: what follows a pause may be little.
            self.slots = vec![Slot::default(); MIN_SLOTS];
            self.used = 0;
        }
        self.now = time;
    }

    /// The waiting packet with this fingerprint within the window of `time`, earlier or later; it stays.
    pub(super) fn find(&self, fingerprint: u64, time: Timestamp) -> Option<Waiting> {
        let slot = self.slots[self.position(fingerprint)?];
        let age = self.age(slot);
        let waiting = Waiting { time: self.now - Span(i128::from(age)), pair: slot.pair };
        let within = i128::from(age) <= self.window.0 && waiting.time.distance(time) <= self.window;
        within.then_some(waiting)
    }

    /// Takes the packet with this fingerprint out, whatever its time.
    pub(super) fn remove(&mut self, fingerprint: u64) -> Option<u32> {
        let at = self.position(fingerprint)?;
        let pair = self.slots[at].pair;
        self.remove_at(at);
        Some(pair)
    }

    /// Lets a packet wait. One that waits under the same fingerprint leaves: only the last one read is remembered.
    pub(super) fn insert(&mut self, fingerprint: u64, time: Timestamp, pair: u32, expired: &mut impl FnMut(u32)) {
        if let Some(displaced) = self.remove(fingerprint) {
            expired(displaced);
        }
        if self.now.0 - time.0 > self.window.0 {
            return expired(pair);
        }
        self.sweep(SWEEP_STEP, expired);
        if self.used >= self.slots.len() / 4 * 3 && !self.grow(expired) {
            self.overflows += 1;
            return;
        }
        self.place(Slot { fingerprint, time: time.0 as u64, pair });
    }

    /// Takes out all that waited longer than the window.
    pub(super) fn sweep_all(&mut self, expired: &mut impl FnMut(u32)) {
        self.sweep(self.slots.len(), expired);
    }

    /// How many packets wait for a pair's sake.
    pub(super) fn pending(&self) -> usize {
        self.slots.iter().filter(|slot| slot.fingerprint != 0 && slot.pair != NO_PAIR).count()
    }

    fn age(&self, slot: Slot) -> u64 {
        (self.now.0 as u64).wrapping_sub(slot.time)
    }

    fn home(&self, fingerprint: u64) -> usize {
        // The low bit of a fingerprint is always set.
        (fingerprint >> 1) as usize & (self.slots.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    fn position(&self, fingerprint: u64) -> Option<usize> {
        let mut at = self.home(fingerprint);
        loop {
            let found = self.slots[at].fingerprint;
            match found {
                0 => return None,
                _ if found == fingerprint => return Some(at),
                _ => at = self.after(at),
            }
        }
    }

    fn place(&mut self, slot: Slot) {
        let mut at = self.home(slot.fingerprint);
        while self.slots[at].fingerprint != 0 {
            at = self.after(at);
        }
        self.slots[at] = slot;
        self.used += 1;
    }

    /// Empties a slot and moves back those behind it that probing would no longer find.
    fn remove_at(&mut self, mut hole: usize) {
        let mask = self.slots.len() - 1;
        let mut at = hole;
        loop {
            at = self.after(at);
            let slot = self.slots[at];
            if slot.fingerprint == 0 {
                break;
            }
            let from_home = at.wrapping_sub(self.home(slot.fingerprint)) & mask;
            let from_hole = at.wrapping_sub(hole) & mask;
            if from_home >= from_hole {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = Slot::default();
        self.used -= 1;
    }

    fn sweep(&mut self, steps: usize, expired: &mut impl FnMut(u32)) {
        for _ in 0..steps {
            self.sweep_at &= self.slots.len() - 1;
            // Removing may bring another slot here.
            loop {
                let slot = self.slots[self.sweep_at];
                if slot.fingerprint == 0 || i128::from(self.age(slot)) <= self.window.0 {
                    break;
                }
                expired(slot.pair);
                self.remove_at(self.sweep_at);
            }
            self.sweep_at += 1;
        }
    }

    /// Makes room; says whether there is any.
    fn grow(&mut self, expired: &mut impl FnMut(u32)) -> bool {
        if self.slots.len() == MAX_SLOTS {
            return false;
        }
        self.sweep_all(expired);
        if self.used >= self.slots.len() / 8 * 3 {
            self.double();
        }
        true
    }

    /// Doubles the table where it stands, so that there never are an old and a new one. Slots move in the order of
    /// their chains, the first one behind a gap: each finds a place at or before its old one, in its half or the new
    /// one, and never passes a slot that has yet to move.
    fn double(&mut self) {
        let old = self.slots.len();
        let gap = self.slots.iter().position(|slot| slot.fingerprint == 0).unwrap_or(0);
        self.slots.resize(2 * old, Slot::default());
        self.used = 0;
        for at in (gap..old).chain(0..gap) {
            let slot = std::mem::take(&mut self.slots[at]);
            if slot.fingerprint != 0 {
                self.place(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timestamp = Timestamp(1_700_000_000_000_000_000);
    const WINDOW: Span = Span::seconds(2);

    fn later(nanos: i128) -> Timestamp {
        Timestamp(T.0 + nanos)
    }

    #[test]
    fn the_limit_of_the_window_is_inside_both_ways() {
        let mut table = Table::new(WINDOW);
        let mut singles = vec![];
        table.advance(later(WINDOW.0), &mut |p| singles.push(p));
        table.insert(9, later(WINDOW.0), 1, &mut |p| singles.push(p));
        assert!(table.find(9, T).is_some());
        assert!(table.find(9, later(-1)).is_none());
        assert!(table.find(9, later(2 * WINDOW.0)).is_some());
        assert!(table.find(9, later(2 * WINDOW.0 + 1)).is_none());
        assert!(singles.is_empty());
    }

    #[test]
    fn a_packet_is_forgotten_once_the_latest_time_is_beyond_its_window() {
        let mut table = Table::new(WINDOW);
        let mut singles = vec![];
        table.advance(T, &mut |p| singles.push(p));
        table.insert(9, T, 1, &mut |p| singles.push(p));
        table.advance(later(WINDOW.0 / 2), &mut |p| singles.push(p));
        table.advance(later(WINDOW.0 + 1), &mut |p| singles.push(p));
        assert!(table.find(9, later(1)).is_none());
        table.sweep_all(&mut |p| singles.push(p));
        assert_eq!((singles, table.pending()), (vec![1], 0));
    }

    #[test]
    fn a_leap_of_centuries_empties_the_table() {
        let mut table = Table::new(WINDOW);
        let mut singles = vec![];
        table.advance(T, &mut |p| singles.push(p));
        table.insert(9, T, 1, &mut |p| singles.push(p));
        // A whole turn of the 64 bits that a slot keeps of the time.
        table.advance(later(1 << 64), &mut |p| singles.push(p));
        assert!(table.find(9, later(1 << 64)).is_none());
        assert_eq!(singles, [1]);
    }

    #[test]
    fn a_million_wait_and_no_more_than_it_can_hold() {
        let mut table = Table::new(WINDOW);
        table.advance(T, &mut |_| {});
        let fingerprint = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for i in 0..1_048_576 {
            table.insert(fingerprint(i), T, i as u32, &mut |_| {});
        }
        assert_eq!((table.overflows(), table.pending()), (0, 1_048_576));
        assert!((0..1_048_576).all(|i| table.find(fingerprint(i), T).is_some_and(|w| w.pair == i as u32)));
        for i in 1_048_576..2_000_000 {
            table.insert(fingerprint(i), T, i as u32, &mut |_| {});
        }
        assert!(table.overflows() > 0 && table.slots.len() == MAX_SLOTS);
        assert_eq!(table.pending() + table.overflows() as usize, 2_000_000);
    }
}
