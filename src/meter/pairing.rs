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

/// Slots looked at for every packet: a full pass per million packets at the largest size.
const SWEEP_STEP: usize = 2;

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

/// Where a packet stands that waits, or would stand. Good until the table changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One with this fingerprint waits there, within the window of the time asked for.
    Within(usize),
    /// One does, and not within the window.
    Outside(usize),
    /// None does; there is a free slot.
    Free(usize),
}

/// The table. `expired` closures are told the pair of every packet that leaves without a copy. `now` is the latest time
/// seen; unless the table was [restarted](Table::restart), it never falls, and leaps by no more than the window.
pub(super) struct Table {
    slots: Vec<Slot>,
    used: usize,
    sweep_at: usize,
    /// In nanoseconds.
    window: u64,
    overflows: u64,
}

impl Table {
    /// A table whose packets wait for `window`.
    pub(super) fn new(window: Span) -> Self {
        let window = u64::try_from(window.0).unwrap_or(u64::MAX);
        Table { slots: vec![Slot::default(); MIN_SLOTS], used: 0, sweep_at: 0, window, overflows: 0 }
    }

    /// Packets that could not be remembered because the table was full.
    pub(super) fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Forgets everything.
    pub(super) fn restart(&mut self, expired: &mut impl FnMut(u32)) {
        if self.used > 0 {
            self.slots.iter().filter(|slot| slot.fingerprint != 0).for_each(|slot| expired(slot.pair));
            // Small again: what follows a pause may be little.
            self.slots = vec![Slot::default(); MIN_SLOTS];
            self.used = 0;
        }
    }

    /// Makes room for one more, if there is any, and takes a step to take out what has waited too long. To be called
    /// before each look.
    #[inline]
    pub(super) fn tidy(&mut self, now: Timestamp, expired: &mut impl FnMut(u32)) {
        self.sweep(now, SWEEP_STEP, expired);
        if self.used >= self.slots.len() / 4 * 3 {
            self.grow(now, expired);
        }
    }

    /// Looks for the packet that waits under this fingerprint, and whether it does so within the window of `time`,
    /// earlier or later.
    #[inline]
    pub(super) fn look(&self, fingerprint: u64, time: Timestamp, now: Timestamp) -> Place {
        let mut at = self.home(fingerprint);
        loop {
            let slot = self.slots[at];
            match { slot.fingerprint } {
                0 => return Place::Free(at),
                found if found == fingerprint => {
                    let (age, behind) = (self.age(slot, now), u64::try_from(now.0 - time.0).unwrap_or(u64::MAX));
                    let within = age <= self.window && age.abs_diff(behind) <= self.window;
                    return if within { Place::Within(at) } else { Place::Outside(at) };
                }
                _ => at = self.after(at),
            }
        }
    }

    /// Takes the packet out that waits there: its pair and its time.
    #[inline]
    pub(super) fn take(&mut self, at: usize, now: Timestamp) -> (u32, Timestamp) {
        let slot = self.slots[at];
        self.remove_at(at);
        (slot.pair, now - Span(i128::from(self.age(slot, now))))
    }

    /// Lets a packet wait in the place that was found for it. One that waits under the same fingerprint leaves: only
    /// the last one read is remembered.
    #[inline]
    pub(super) fn put(
        &mut self,
        place: Place,
        fingerprint: u64,
        time: Timestamp,
        now: Timestamp,
        pair: u32,
        expired: &mut impl FnMut(u32),
    ) {
        let at = match place {
            Place::Within(at) | Place::Outside(at) => {
                expired(self.slots[at].pair);
                at
            }
            Place::Free(at) => {
                if self.used >= self.slots.len() / 4 * 3 {
                    self.overflows += 1;
                    return;
                }
                self.used += 1;
                at
            }
        };
        self.slots[at] = Slot { fingerprint, time: time.0 as u64, pair };
        if now.0 - time.0 > i128::from(self.window) {
            // Its window has passed before it came.
            expired(pair);
            self.remove_at(at);
        }
    }

    /// Takes out all that waited longer than the window.
    pub(super) fn sweep_all(&mut self, now: Timestamp, expired: &mut impl FnMut(u32)) {
        self.sweep(now, self.slots.len(), expired);
    }

    /// How many packets wait for a pair's sake.
    pub(super) fn pending(&self) -> usize {
        self.slots.iter().filter(|slot| slot.fingerprint != 0 && slot.pair != NO_PAIR).count()
    }

    /// How long it has waited, in nanoseconds.
    fn age(&self, slot: Slot, now: Timestamp) -> u64 {
        (now.0 as u64).wrapping_sub(slot.time)
    }

    fn home(&self, fingerprint: u64) -> usize {
        // The low bit of a fingerprint is always set.
        (fingerprint >> 1) as usize & (self.slots.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
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

    #[inline]
    fn sweep(&mut self, now: Timestamp, steps: usize, expired: &mut impl FnMut(u32)) {
        for _ in 0..steps {
            self.sweep_at &= self.slots.len() - 1;
            // Removing may bring another slot here.
            loop {
                let slot = self.slots[self.sweep_at];
                if slot.fingerprint == 0 || self.age(slot, now) <= self.window {
                    break;
                }
                expired(slot.pair);
                self.remove_at(self.sweep_at);
            }
            self.sweep_at += 1;
        }
    }

    /// Makes room, if there is any.
    #[cold]
    fn grow(&mut self, now: Timestamp, expired: &mut impl FnMut(u32)) {
        if self.slots.len() == MAX_SLOTS {
            return;
        }
        self.sweep_all(now, expired);
        if self.used >= self.slots.len() / 8 * 3 {
            self.double();
        }
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

    /// Lets a packet wait, and says which pairs left for it.
    fn put(table: &mut Table, fingerprint: u64, time: Timestamp, now: Timestamp, pair: u32) -> Vec<u32> {
        let mut expired = vec![];
        table.tidy(now, &mut |pair| expired.push(pair));
        let place = table.look(fingerprint, time, now);
        table.put(place, fingerprint, time, now, pair, &mut |pair| expired.push(pair));
        expired
    }

    #[test]
    fn the_limit_of_the_window_is_inside_both_ways() {
        let mut table = Table::new(WINDOW);
        let now = later(WINDOW.0);
        assert!(put(&mut table, 9, now, now, 1).is_empty());
        let within = |time, now| matches!(table.look(9, time, now), Place::Within(_));
        assert!(within(T, now) && !within(later(-1), now));
        assert!(within(later(2 * WINDOW.0), later(2 * WINDOW.0)));
        assert!(!within(later(2 * WINDOW.0 + 1), later(2 * WINDOW.0 + 1)));
    }

    #[test]
    fn a_packet_is_forgotten_once_the_latest_time_is_beyond_its_window() {
        let mut table = Table::new(WINDOW);
        put(&mut table, 9, T, T, 1);
        let now = later(WINDOW.0 + 1);
        assert!(matches!(table.look(9, later(1), now), Place::Outside(_)));
        let mut singles = vec![];
        table.sweep_all(now, &mut |pair| singles.push(pair));
        assert_eq!((singles, table.pending()), (vec![1], 0));
        assert_eq!(put(&mut table, 9, later(-1), later(WINDOW.0), 2), [2], "its window has passed before it came");
        assert_eq!(table.pending(), 0);
    }

    #[test]
    fn only_the_last_one_read_waits() {
        let mut table = Table::new(WINDOW);
        put(&mut table, 9, T, T, 1);
        assert_eq!(put(&mut table, 9, later(1), later(1), 2), [1]);
        let Place::Within(at) = table.look(9, later(2), later(2)) else { panic!() };
        assert_eq!(table.take(at, later(2)), (2, later(1)));
        assert_eq!(table.pending(), 0);
    }

    #[test]
    fn a_million_wait_and_no_more_than_it_can_hold() {
        let mut table = Table::new(WINDOW);
        let fingerprint = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for i in 0..1_048_576 {
            put(&mut table, fingerprint(i), T, T, i as u32);
        }
        assert_eq!((table.overflows(), table.pending()), (0, 1_048_576));
        for i in 0..1_048_576 {
            let Place::Within(at) = table.look(fingerprint(i), T, T) else { panic!("{i}") };
            assert_eq!({ table.slots[at].pair }, i as u32);
        }
        for i in 1_048_576..2_000_000 {
            put(&mut table, fingerprint(i), T, T, i as u32);
        }
        assert!(table.overflows() > 0 && table.slots.len() == MAX_SLOTS);
        assert_eq!(table.pending() + table.overflows() as usize, 2_000_000);
    }
}
