//! The changes of a device, told without flooding the log.

use std::time::{Duration, Instant};

use super::log;

/// Changes of one thing that are told one by one. Where there are more, one line a minute says how it is then.
const TOLD: u32 = 30;

/// Without a line held back for so long, changes are told one by one again.
const CALM: Duration = Duration::from_secs(60);

/// The changes of something that may change all the time.
pub(super) struct Changes {
    since: Instant,
    told: u32,
    held_back: u32,
    /// The last one held back.
    latest: Option<String>,
}

impl Changes {
    pub(super) fn new() -> Self {
        Changes { since: Instant::now(), told: 0, held_back: 0, latest: None }
    }

    /// Says it, now or later.
    pub(super) fn info(&mut self, message: String) {
        self.look();
        if let Some(message) = self.change(message) {
            log::info(&message);
        }
    }

    /// To be called now and then: says what is due.
    pub(super) fn look(&mut self) {
        if let Some(message) = self.due(Instant::now()) {
            log::info(&message);
        }
    }

    fn change(&mut self, message: String) -> Option<String> {
        self.told += 1;
        if self.told < TOLD {
            return Some(message);
        }
        if self.told == TOLD {
            return Some(format!("{message} (so many changes: from here on one line a minute)"));
        }
        self.held_back += 1;
        self.latest = Some(message);
        None
    }

    fn due(&mut self, now: Instant) -> Option<String> {
        if now.duration_since(self.since) < CALM {
            return None;
        }
        self.since = now;
        let held_back = std::mem::take(&mut self.held_back);
        if held_back == 0 {
            self.told = 0;
        }
        self.latest.take().map(|latest| format!("{latest} (the last of {held_back} changes)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_all_the_time_is_told_once_a_minute() {
        let mut changes = Changes::new();
        let start = changes.since;
        let minutes = |n| start + n * CALM;
        let mut told = 0;
        for _ in 0..1000 {
            told += u32::from(changes.change("up".to_owned()).is_some());
        }
        assert_eq!(told, TOLD);
        assert_eq!(changes.due(start + CALM / 2), None);
        let held_back = 1000 - TOLD;
        assert_eq!(changes.due(minutes(1)), Some(format!("up (the last of {held_back} changes)")));
        assert_eq!(changes.change("down".to_owned()), None, "a minute is not calm because it has begun");
        assert_eq!(changes.due(minutes(2)).unwrap(), "down (the last of 1 changes)");
        assert_eq!(changes.due(minutes(3)), None);
        assert_eq!(changes.change("up".to_owned()).unwrap(), "up");
    }
}
