//! What time it is, by the frames and by those who know without one.

use crate::time::{Span, Timestamp};

/// A packet's time among those of all frames, in nanoseconds.
#[derive(Clone, Copy)]
pub(super) struct When {
    /// The low 64 bits. The upper ones are those of the [era].
    pub time: u64,
    /// How far it lies behind the latest one seen; the most there are if it is further.
    pub behind: u64,
}

/// The upper 64 bits of a time: 0 from 1970 to 2554, so that what counts packets need not know them.
pub(super) fn era(time: Timestamp) -> i64 {
    (time.0 >> 64) as i64
}

/// The latest time seen.
pub(super) struct Clock {
    latest: Timestamp,
    /// A frame no further ahead needs no second look: as long as the window, or nothing where the latest time is of
    /// another era than the last frame's, or no frame's.
    step: u64,
    /// The latest time was told, and no frame's.
    told: bool,
    /// The latest time that any frame had before the latest of all.
    frames_before: Timestamp,
    /// In nanoseconds.
    window: u64,
}

/// Before any frame: earlier than any capture can say, and far enough from the end of the numbers to subtract.
const LONG_AGO: Timestamp = Timestamp(i128::MIN / 2);

/// How a time stands to the latest before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many nanoseconds behind; 0 where it is the latest.
    Behind(u64),
    /// Further ahead than the window: whatever waits has waited too long now.
    Leap,
}

impl Clock {
    /// Before any time, for packets that wait for `window`.
    pub(super) fn new(window: Span) -> Self {
        let window = u64::try_from(window.0).unwrap_or(u64::MAX);
        Clock { latest: LONG_AGO, step: 0, told: true, frames_before: LONG_AGO, window }
    }

    /// The latest time.
    pub(super) fn now(&self) -> Timestamp {
        self.latest
    }

    /// The latest time that any frame had.
    pub(super) fn last_frame(&self) -> Option<Timestamp> {
        let latest = if self.told { LONG_AGO } else { self.latest };
        Some(latest.max(self.frames_before)).filter(|time| *time > LONG_AGO)
    }

    /// Whether the window of a packet of this time has passed.
    pub(super) fn is_past(&self, time: Timestamp) -> bool {
        self.latest.0 - time.0 > self.window.into()
    }

    /// Takes a frame's time if it is what nearly all are: a little later than the latest, and of the era of the frame
    /// before.
    #[inline(always)]
    pub(super) fn next(&mut self, time: Timestamp) -> bool {
        let ahead = (time.0 as u64).checked_sub(self.latest.0 as u64);
        let is_next = era(time) == era(self.latest) && ahead.is_some_and(|ahead| ahead.wrapping_sub(1) < self.step);
        if is_next {
            self.latest = time;
        }
        is_next
    }

    /// A frame's time, whatever it is.
    pub(super) fn frame(&mut self, time: Timestamp) -> Step {
        let step = if time > self.latest {
            let step = self.tell(time);
            self.told = false;
            step
        } else {
            self.frames_before = self.frames_before.max(time);
            Step::Behind(u64::try_from(self.latest.0 - time.0).unwrap_or(u64::MAX))
        };
        let is_next = !self.told && era(time) == era(self.latest);
        self.step = if is_next { self.window } else { 0 };
        step
    }

    /// A time that somebody knows without a frame.
    pub(super) fn tell(&mut self, time: Timestamp) -> Step {
        let ahead = time.0 - self.latest.0;
        if ahead > 0 {
            self.set(time);
        }
        if ahead > self.window.into() { Step::Leap } else { Step::Behind(0) }
    }

    /// Takes a time for the latest, whatever was before.
    pub(super) fn set(&mut self, time: Timestamp) {
        self.frames_before = self.last_frame().unwrap_or(LONG_AGO);
        (self.latest, self.step, self.told) = (time, 0, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_frame_is_no_time_that_was_told() {
        let mut clock = Clock::new(Span(10));
        assert_eq!((clock.last_frame(), clock.is_past(Timestamp(i128::MIN / 4))), (None, false));
        clock.tell(Timestamp(50));
        assert_eq!((clock.last_frame(), clock.now()), (None, Timestamp(50)));
        let steps = [
            (45, Step::Behind(5), 45),
            (50, Step::Behind(0), 50),
            (60, Step::Behind(0), 60),
            (71, Step::Leap, 71),
            (60, Step::Behind(11), 71),
        ];
        for (time, step, last) in steps {
            assert_eq!(clock.frame(Timestamp(time)), step, "{time}");
            assert_eq!(clock.last_frame(), Some(Timestamp(last)), "{time}");
        }
        assert!(clock.is_past(Timestamp(60)) && !clock.is_past(Timestamp(61)));
        clock.tell(Timestamp(80));
        clock.frame(Timestamp(75));
        assert_eq!((clock.last_frame(), clock.now()), (Some(Timestamp(75)), Timestamp(80)));
        clock.set(Timestamp(-7));
        assert_eq!(clock.frame(Timestamp(-6)), Step::Behind(0));
        assert_eq!((clock.last_frame(), clock.now()), (Some(Timestamp(75)), Timestamp(-6)));
    }
}
