//! Packets that wait for their copy, and those to groups whose repeats are copies.
//!
//! A flat table from fingerprint to time: open addressing with linear probing, and deletion that closes the gap.
//! Packets enter and leave it all the time; those whose window has passed are swept out a few slots at a time, so that
//! no packet ever pays for a whole pass.

use std::ops::Range;

use super::clock::When;
use crate::time::{Span, Timestamp};

/// The first and the largest size. The table is at most three quarters full, so that at its largest there is room for
/// the million unpaired packets it promises and half a million more before the next full pass.
const MIN_SLOTS: usize = 1 << 12;
const MAX_SLOTS: usize = 1 << 21;

/// After so many packets so many slots are swept: packets share what the step costs, and it is over quickly.
const SWEEP_EVERY: usize = 256;
const SWEEP_STEP: usize = 64;

/// The pair of a packet that waits for no pair's sake.
pub(super) const NO_PAIR: u32 = u32::MAX;

/// Packed, because there may be two million.
#[derive(Clone, Copy, Default)]
#[repr(C, packed(4))]
struct Slot {
    /// 0: empty.
    fingerprint: u64,
    /// As [`When::time`]. Enough: what is in the table is never older than the window and what has not been swept since.
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

/// The table. `expired` closures are told the pair of every packet that leaves without a copy. The latest time seen never
/// falls, and leaps by no more than the window, unless the table was [restarted](Table::restart).
pub(super) struct Table {
    slots: Vec<Slot>,
    used: usize,
    /// So many are too many.
    full: usize,
    /// Where the next step of sweeping begins, and how many packets come before it.
    sweep_at: usize,
    sweep_after: usize,
    /// Packets since the last pass over the whole table.
    since_pass: usize,
    /// In nanoseconds.
    window: u64,
    overflows: u64,
}

impl Table {
    /// A table whose packets wait for `window`.
    pub(super) fn new(window: Span) -> Self {
        // Less than whatever lies so far behind that nobody knows how far.
        let window = u64::try_from(window.0).map_or(u64::MAX / 4, |window| window.min(u64::MAX / 4));
        Table {
            slots: vec![Slot::default(); MIN_SLOTS],
            used: 0,
            full: full(MIN_SLOTS),
            sweep_at: 0,
            sweep_after: SWEEP_EVERY,
            since_pass: 0,
            window,
            overflows: 0,
        }
    }

    /// Packets that could not be remembered because the table was full.
    pub(super) fn overflows(&self) -> u64 {
        self.overflows
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.slots.as_slice())
    }

    /// Forgets everything.
    pub(super) fn restart(&mut self, expired: &mut impl FnMut(u32)) {
        if self.used > 0 {
            self.slots.iter().filter(|slot| slot.fingerprint != 0).for_each(|slot| expired(slot.pair));
            // Small again: what follows a pause may be little.
            self.slots = vec![Slot::default(); MIN_SLOTS];
            self.full = full(MIN_SLOTS);
            self.used = 0;
        }
    }

    /// Takes a step to take out what has waited too long, every so often. To be called before each look.
    #[inline(always)]
    pub(super) fn tidy(&mut self, when: When, expired: &mut impl FnMut(u32)) {
        self.sweep_after -= 1;
        if self.sweep_after == 0 {
            self.step(when, expired);
        }
    }

    /// Fetches what a look will need.
    #[inline(always)]
    pub(super) fn touch(&self, fingerprint: u64) -> u32 {
        self.slots[self.home(fingerprint)].pair
    }

    /// Looks for the packet that waits under this fingerprint, and whether it does so within the window of a time,
    /// earlier or later.
    #[inline(always)]
    pub(super) fn look(&self, fingerprint: u64, when: When) -> Place {
        let mut at = self.home(fingerprint);
        loop {
            let slot = &self.slots[at];
            let found = slot.fingerprint;
            if found == 0 {
                return Place::Free(at);
            }
            if found == fingerprint {
                let age = now(when).wrapping_sub(slot.time);
                let within = age <= self.window && age.abs_diff(when.behind) <= self.window;
                return if within { Place::Within(at) } else { Place::Outside(at) };
            }
            at = self.after(at);
        }
    }

    /// Takes the packet out that waits there, within the window: its pair, and how much earlier it came in nanoseconds.
    #[inline(always)]
    pub(super) fn take(&mut self, at: usize, when: When) -> (u32, i64) {
        let Slot { time, pair, .. } = self.slots[at];
        self.remove_at(at);
        (pair, when.time.wrapping_sub(time) as i64)
    }

    /// Lets a packet wait in the place that was found for it. One that waits under the same fingerprint leaves: only
    /// the last one read is remembered.
    #[inline(always)]
    pub(super) fn put(&mut self, place: Place, fingerprint: u64, when: When, pair: u32, expired: &mut impl FnMut(u32)) {
        let slot = Slot { fingerprint, time: when.time, pair };
        let at = match place {
            Place::Within(at) | Place::Outside(at) => {
                expired(self.slots[at].pair);
                at
            }
            Place::Free(_) if self.used >= self.full => return self.put_in_full(slot, when, expired),
            Place::Free(at) => {
                self.used += 1;
                at
            }
        };
        // Field by field: as a whole it would be put together in memory first, and read from there too early.
        let place = &mut self.slots[at];
        (place.fingerprint, place.time, place.pair) = (slot.fingerprint, slot.time, slot.pair);
        if when.behind > self.window {
            // Its window has passed before it came.
            expired(pair);
            self.remove_at(at);
        } else if self.used >= self.full {
            self.make_room(when, expired);
        }
    }

    #[cold]
    fn put_in_full(&mut self, slot: Slot, when: When, expired: &mut impl FnMut(u32)) {
        if when.behind > self.window {
            return expired(slot.pair);
        }
        self.make_room(when, expired);
        if self.used >= self.full {
            self.overflows += 1;
        } else {
            self.place(slot);
        }
    }

    /// Takes out all that waited longer than the window.
    pub(super) fn sweep_all(&mut self, latest: Timestamp, expired: &mut impl FnMut(u32)) {
        self.sweep_all_at(latest.0 as u64, expired);
    }

    fn sweep_all_at(&mut self, now: u64, expired: &mut impl FnMut(u32)) {
        self.sweep(0..self.slots.len(), now, expired);
        self.since_pass = 0;
    }

    /// How many packets wait for a pair's sake.
    pub(super) fn pending(&self) -> usize {
        self.slots.iter().filter(|slot| slot.fingerprint != 0 && slot.pair != NO_PAIR).count()
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

    /// Empties a slot.
    #[inline(always)]
    fn remove_at(&mut self, hole: usize) {
        self.slots[hole] = Slot::default();
        self.used -= 1;
        if self.slots[self.after(hole)].fingerprint != 0 {
            self.fill(hole);
        }
    }

    /// Moves those back that stand behind a slot which is free now, and that probing would no longer find.
    fn fill(&mut self, mut hole: usize) {
        let mask = self.slots.len() - 1;
        let mut at = hole;
        loop {
            at = self.after(at);
            let fingerprint = self.slots[at].fingerprint;
            if fingerprint == 0 {
                break;
            }
            let from_home = at.wrapping_sub(self.home(fingerprint)) & mask;
            let from_hole = at.wrapping_sub(hole) & mask;
            if from_home >= from_hole {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
        }
        self.slots[hole] = Slot::default();
    }

    #[cold]
    fn step(&mut self, when: When, expired: &mut impl FnMut(u32)) {
        self.sweep_after = SWEEP_EVERY;
        if when.behind > self.window {
            // It may be so far behind that it does not tell what time it is.
            return;
        }
        let start = self.sweep_at & (self.slots.len() - 1);
        self.sweep_at = start + SWEEP_STEP;
        self.sweep(start..self.sweep_at, now(when), expired);
        self.since_pass += SWEEP_EVERY;
    }

    fn sweep(&mut self, slots: Range<usize>, now: u64, expired: &mut impl FnMut(u32)) {
        let window = self.window;
        let has_expired = |slot: &Slot| slot.fingerprint != 0 && now.wrapping_sub(slot.time) > window;
        let mut at = slots.start;
        while let Some(found) = self.slots[at..slots.end].iter().position(has_expired) {
            at += found;
            expired(self.slots[at].pair);
            // This may bring another one here, which is looked at next.
            self.remove_at(at);
        }
    }

    /// Makes room, if there is any: takes out what has waited too long, and doubles the table if that was not much.
    #[cold]
    fn make_room(&mut self, when: When, expired: &mut impl FnMut(u32)) {
        if self.slots.len() < MAX_SLOTS {
            self.sweep_all_at(now(when), expired);
            if self.used >= self.full / 2 {
                self.double();
            }
        } else if self.since_pass >= MAX_SLOTS / 8 {
            self.sweep_all_at(now(when), expired);
        }
    }

    /// Doubles the table where it stands, so that there never are an old and a new one. Slots move in the order of
    /// their chains, the first one behind a gap: each finds a place at or before its old one, in its half or the new
    /// one, and never passes a slot that has yet to move.
    fn double(&mut self) {
        let old = self.slots.len();
        let gap = self.slots.iter().position(|slot| slot.fingerprint == 0).unwrap_or(0);
        self.slots.resize(2 * old, Slot::default());
        self.full = full(2 * old);
        self.used = 0;
        for at in (gap..old).chain(0..gap) {
            let slot = std::mem::take(&mut self.slots[at]);
            if slot.fingerprint != 0 {
                self.place(slot);
            }
        }
    }
}

/// The low 64 bits of the latest time seen, unless a packet lies too far behind to tell.
#[inline(always)]
fn now(when: When) -> u64 {
    when.time.wrapping_add(when.behind)
}

/// When a table of so many slots is full: at three quarters, chains are still short.
fn full(slots: usize) -> usize {
    slots / 4 * 3
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timestamp = Timestamp(1_700_000_000_000_000_000);
    const WINDOW: Span = Span::seconds(2);

    fn later(nanos: i128) -> Timestamp {
        Timestamp(T.0 + nanos)
    }

    fn when(time: Timestamp, now: Timestamp) -> When {
        When { time: time.0 as u64, behind: (now.0 - time.0) as u64 }
    }

    fn look(table: &Table, fingerprint: u64, time: Timestamp, now: Timestamp) -> Place {
        table.look(fingerprint, when(time, now))
    }

    /// Lets a packet wait, and says which pairs left for it.
    fn put(table: &mut Table, fingerprint: u64, time: Timestamp, now: Timestamp, pair: u32) -> Vec<u32> {
        let mut expired = vec![];
        table.tidy(when(time, now), &mut |pair| expired.push(pair));
        let place = look(table, fingerprint, time, now);
        table.put(place, fingerprint, when(time, now), pair, &mut |pair| expired.push(pair));
        expired
    }

    #[test]
    fn the_limit_of_the_window_is_inside_both_ways() {
        let mut table = Table::new(WINDOW);
        let now = later(WINDOW.0);
        assert!(put(&mut table, 9, now, now, 1).is_empty());
        let within = |time, now| matches!(look(&table, 9, time, now), Place::Within(_));
        assert!(within(T, now) && !within(later(-1), now));
        assert!(within(later(2 * WINDOW.0), later(2 * WINDOW.0)));
        assert!(!within(later(2 * WINDOW.0 + 1), later(2 * WINDOW.0 + 1)));
    }

    #[test]
    fn a_packet_is_forgotten_once_the_latest_time_is_beyond_its_window() {
        let mut table = Table::new(WINDOW);
        put(&mut table, 9, T, T, 1);
        let now = later(WINDOW.0 + 1);
        assert!(matches!(look(&table, 9, later(1), now), Place::Outside(_)));
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
        let Place::Within(at) = look(&table, 9, later(2), later(2)) else { panic!() };
        assert_eq!(table.take(at, when(later(2), later(2))), (2, 1));
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
            let Place::Within(at) = look(&table, fingerprint(i), T, T) else { panic!("{i}") };
            assert_eq!({ table.slots[at].pair }, i as u32);
        }
        for i in 1_048_576..2_000_000 {
            put(&mut table, fingerprint(i), T, T, i as u32);
        }
        assert!(table.overflows() > 0 && table.slots.len() == MAX_SLOTS);
        assert_eq!(table.pending() + table.overflows() as usize, 2_000_000);
    }

    #[test]
    fn those_that_waited_too_long_take_no_room_from_a_million() {
        let mut table = Table::new(WINDOW);
        let fingerprint = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut expired = 0;
        for i in 0..1_500_000 {
            put(&mut table, fingerprint(i), T, T, 0);
        }
        let now = later(WINDOW.0 + 1);
        for i in 1_500_000..1_500_000 + 1_048_576 {
            expired += put(&mut table, fingerprint(i), now, now, 1).len();
        }
        table.sweep_all(now, &mut |_| expired += 1);
        assert_eq!((expired, table.pending(), table.overflows()), (1_500_000, 1_048_576, 0));
    }
}
