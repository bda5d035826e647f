//! How much of a period was seen.

use std::collections::BTreeMap;
use std::fmt;

use super::builder::ALWAYS;
use super::{Query, thousands};
use crate::copies::Copies;
use crate::coverage::Observed;
use crate::period::{Calendar, Period};
use crate::time::{BUCKET_SECONDS, Timestamp};

/// Seconds after which what was seen is committed, if it can be.
const COMMITTED_AFTER: i64 = 60;

/// What was seen of all networks.
pub(super) struct Coverage {
    calendar: Option<Calendar>,
    /// What the report is about, in seconds.
    since: Option<i64>,
    until: Option<i64>,
    /// What is still to come is not missing.
    now: Option<i64>,
    /// The end of the last second that was seen, of any network.
    latest: i64,
    /// The period of the last row: its neighbours' is nearly always the same.
    period: Period,
    networks: BTreeMap<String, Network>,
}

struct Network {
    /// Where the first five minutes begin: nothing is known of what was before.
    first: i64,
    /// The first second that was seen, and the end of the last one.
    seen: Option<(i64, i64)>,
    all: Sum,
    /// By the starts of the periods.
    sums: BTreeMap<i64, Sum>,
}

/// What was seen in a period.
#[derive(Clone, Copy, Default)]
struct Sum {
    seconds: u64,
    /// Five minutes with copies from others.
    teed: u64,
    dropped: u64,
    pairs: u64,
    singles: u64,
}

/// A share of a whole in ten-thousandths, rounded down: it is 1 only if nothing is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

/// How complete the figures of a network in a period are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    /// The share of the time in which capture was up and the network fine.
    pub coverage: Share,
    /// The share of the five minutes that begin in that time in which copies from others came; none if none begin.
    pub copies_seen: Option<Share>,
    /// Frames that the kernel had no room for.
    pub dropped_packets: u64,
    /// An estimate of the packets of which no copy arrived; none where it cannot be told.
    pub estimated_lost: Option<u64>,
}

impl Coverage {
    /// Nothing was seen.
    pub(super) fn new(query: &Query, calendar: Option<Calendar>) -> Self {
        let seconds = |time: Timestamp| time.clamped().0;
        Coverage {
            calendar,
            since: query.since.map(seconds),
            until: query.until.map(seconds),
            now: None,
            latest: i64::MIN,
            period: Period { start: 0, end: 0 },
            networks: BTreeMap::new(),
        }
    }

    /// Says what time it is.
    pub(super) fn set_now(&mut self, now: Timestamp) {
        self.now = Some(now.clamped().0);
    }

    /// Takes in what was seen of a network in the five minutes from `start` on, by ascending start. Where they are cut,
    /// their seconds go with either part, and the rest with the first.
    pub(super) fn add(&mut self, name: &str, start: i64, seen: &Observed) {
        let end = start + i64::from(BUCKET_SECONDS);
        if !self.networks.contains_key(name) {
            let network = Network { first: start, seen: None, all: Sum::default(), sums: BTreeMap::new() };
            self.networks.insert(name.to_owned(), network);
        }
        if let (Some(network), Some((first, last))) = (self.networks.get_mut(name), seen.up.ends()) {
            let (first, end) = (start + i64::from(first), start + i64::from(last) + 1);
            network.seen = Some((network.seen.map_or(first, |(first, _)| first), end));
            self.latest = self.latest.max(end);
        }
        let mut from = start.max(self.since.unwrap_or(start));
        let to = end.min(self.until.unwrap_or(end));
        while from < to {
            let period = self.period_of(from);
            let part_end = to.min(period.end);
            let up = match (from, part_end) {
                part if part == (start, end) => seen.up,
                _ => seen.up.within((from - start) as u32..(part_end - start) as u32),
            };
            let mut sum = Sum { seconds: up.count().into(), ..Sum::default() };
            if from == start {
                let Observed { teed, dropped, pairs, singles, .. } = *seen;
                sum = Sum { teed: u64::from(teed > 0), dropped, pairs, singles, ..sum };
            }
            if let Some(network) = self.networks.get_mut(name) {
                network.all.add(sum);
                network.sums.entry(period.start).or_default().add(sum);
            }
            from = part_end;
        }
    }

    /// Puts all that was seen into longer periods, or into one.
    pub(super) fn regroup(&mut self, calendar: Option<Calendar>) {
        self.calendar = calendar;
        let start = |start| calendar.and_then(|calendar| calendar.period(start)).unwrap_or(ALWAYS).start;
        for network in self.networks.values_mut() {
            for (of, sum) in std::mem::take(&mut network.sums) {
                network.sums.entry(start(of)).or_default().add(sum);
            }
        }
        self.period = Period { start: 0, end: 0 };
    }

    fn period_of(&mut self, second: i64) -> Period {
        if !(self.period.start..self.period.end).contains(&second) {
            self.period = self.calendar.and_then(|calendar| calendar.period(second)).unwrap_or(ALWAYS);
        }
        self.period
    }

    /// Of a network in a period, or in all that the report is about; none where nothing is known.
    pub(super) fn of(&self, name: &str, period: Option<Period>) -> Option<Covered> {
        let network = self.networks.get(name)?;
        // Without bounds all is from the first second to the last that was seen.
        let (first, last) = network.seen?;
        let (start, end, sum) = match period {
            None => (self.since.unwrap_or(first), self.until.unwrap_or(last), network.all),
            Some(Period { start, end }) => {
                let sum = network.sums.get(&start).copied().unwrap_or_default();
                (
                    self.since.map_or(start, |since| since.max(start)),
                    self.until.map_or(end, |until| until.min(end)),
                    sum,
                )
            }
        };
        let end = end.min(self.now());
        // Then the five minutes in which that first second is belong to it.
        let within = if period.is_none() && self.since.is_none() { start.rem_euclid(BUCKET_SECONDS.into()) } else { 0 };
        (end > start && end > network.first).then(|| sum.covered(start, end, within))
    }

    /// Before it all is known: what has only just been seen may not be committed yet.
    fn now(&self) -> i64 {
        match self.now {
            Some(now) if now >= self.latest && now - self.latest < COMMITTED_AFTER => self.latest,
            Some(now) => now,
            None => i64::MAX,
        }
    }
}

impl Sum {
    fn add(&mut self, more: Sum) {
        self.seconds += more.seconds;
        self.teed += more.teed;
        self.dropped = self.dropped.saturating_add(more.dropped);
        self.pairs = self.pairs.saturating_add(more.pairs);
        self.singles = self.singles.saturating_add(more.singles);
    }

    /// As the figures of the time from `start` on and before `end`, and of the five minutes that begin in it or up to
    /// so many seconds before.
    fn covered(self, start: i64, end: i64, before: i64) -> Covered {
        let whole = (end - start).unsigned_abs();
        let begun_before = |second: i64| (second + i64::from(BUCKET_SECONDS) - 1).div_euclid(BUCKET_SECONDS.into());
        let begin = (begun_before(end) - begun_before(start - before)).unsigned_abs();
        Covered {
            coverage: Share::of(self.seconds, whole),
            copies_seen: (begin > 0).then(|| Share::of(self.teed, begin)),
            dropped_packets: self.dropped,
            estimated_lost: self.lost(),
        }
    }

    fn lost(self) -> Option<u64> {
        if self.singles == 0 {
            // Copies of which none is one of two: nothing waits for a second one.
            return (self.pairs > 0 || self.teed == 0).then_some(0);
        }
        Copies { pairs: self.pairs, singles: self.singles }.lost()
    }
}

impl Share {
    fn of(part: u64, whole: u64) -> Share {
        let shares = u128::from(part.min(whole)) * 10_000;
        Share(shares.checked_div(whole.into()).unwrap_or(0) as u32)
    }

    /// For a person.
    pub(super) fn percent(self) -> String {
        format!("{}.{:02}%", self.0 / 100, self.0 % 100)
    }
}

/// From 0.0000 to 1.0000.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:04}", self.0 / 10_000, self.0 % 10_000)
    }
}

/// A line for a person.
impl fmt::Display for Covered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "covered {}", self.coverage.percent())?;
        if let Some(copies_seen) = self.copies_seen {
            write!(f, ", copies seen {}", copies_seen.percent())?;
        }
        write!(f, ", {} packets dropped", thousands(self.dropped_packets))?;
        match self.estimated_lost {
            Some(lost) => write!(f, ", about {} lost", thousands(lost)),
            None => f.write_str(", lost cannot be told"),
        }
    }
}
