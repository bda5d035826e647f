//! What a page needs beside the lines of its periods: all of them in one, all pairs, and no more periods than can be
//! drawn.

use super::builder::{ALWAYS, Builder};
use super::sums::Parties;
use super::{By, Query, Report, Sort};
use crate::period::Every;
use crate::time::{Bucket, DAY_SECONDS, Timestamp};

/// The most periods of a page.
const MAX_PERIODS: i64 = 1000;

const DAY: i64 = DAY_SECONDS as i64;

/// What a page shows beside the periods.
pub(super) struct Page {
    /// All periods in one.
    pub(super) total: Report,
    /// What each source sent to each destination.
    pub(super) pairs: Report,
    /// How long the periods were to be, if that was asked for.
    pub(super) asked: Option<Every>,
}

/// The periods that show best what moved in that time: hours of up to three days, days of up to three months, or months.
pub fn fitting(first: Timestamp, last: Timestamp) -> Every {
    let [first, last] = [first, last].map(|time| time.clamped().0);
    let mut every = Every::Hour;
    while let Some(longer) = every.longer().filter(|_| last - first > every.most(true)) {
        every = longer;
    }
    every
}

impl Every {
    /// Those that these can be put together to.
    fn longer(self) -> Option<Every> {
        match self {
            Every::Hour => Some(Every::Day),
            Every::Day => Some(Every::Month { start: 1 }),
            Every::Month { start: 1 } => Some(Every::Year),
            Every::Month { .. } | Every::Week | Every::Year => None,
        }
    }

    /// The longest time, in seconds, that a page cuts into these.
    fn most(self, fits: bool) -> i64 {
        let length = match self {
            Every::Hour if fits => return 3 * DAY,
            Every::Day if fits => return 92 * DAY,
            Every::Hour => 3600,
            Every::Day => DAY,
            Every::Week => 7 * DAY,
            Every::Month { .. } => 30 * DAY,
            Every::Year => 365 * DAY,
        };
        MAX_PERIODS * length
    }
}

impl Query {
    /// The same by pair, without periods.
    pub(super) fn of_pairs(&self) -> Query {
        Query { by: By::Pair, ..self.of_all() }
    }

    /// The same without periods.
    fn of_all(&self) -> Query {
        Query { every: None, page: false, fits: false, ..self.clone() }
    }
}

impl Builder {
    /// Makes the periods longer where this bucket would make them too many, or where it is cut and nobody asked for that.
    pub(super) fn reach(&mut self, bucket: Bucket) {
        let (first, last) = self.reached.unwrap_or((bucket.start, bucket.start));
        let (first, last) = (first.min(bucket.start), last.max(bucket.start));
        self.reached = Some((first, last));
        self.fit(first, last);
        while self.query.fits && self.cut(bucket).is_some() {
            self.regroup(self.query.every.and_then(Every::longer));
        }
    }

    /// Makes the periods so long that they are not too many, or one.
    fn fit(&mut self, first: i64, last: i64) {
        while let Some(every) =
            self.query.every.filter(|every| last.saturating_sub(first) > every.most(self.query.fits))
        {
            self.regroup(every.longer());
        }
    }

    /// What a page shows beside the periods, if it is to become one.
    pub(super) fn take_page(&mut self, sort: Sort, top: Option<usize>) -> Option<Box<Page>> {
        let pairs = self.pairs.take()?;
        let second = |time: Timestamp| time.clamped().0;
        let starts = self.known.iter().map(|known| known.since).chain(self.reached.map(|(first, _)| first));
        if let (Some(start), Some((first, last))) = (starts.min(), self.reached) {
            let first = self.query.since.map_or(first, second).max(start);
            self.fit(first, self.query.until.map_or(last, second));
        }
        let total = Report::new(self.total(), sort, top);
        Some(Box::new(Page { total, pairs: Report::new(*pairs, Sort::Total, None), asked: self.asked }))
    }

    /// All periods in one. Who was quiet has a line as well.
    fn total(&self) -> Builder {
        let mut total = Builder::new(self.query.of_all());
        total.parties = Parties::clone(&self.parties);
        let mut networks: Vec<_> = self.networks.iter().collect();
        networks.sort_unstable_by_key(|(_, number)| **number);
        for (name, _) in networks {
            total.network(name);
        }
        for part in &self.parts {
            let number = total.part_from(part.network, ALWAYS.start);
            total.parts[number as usize].sums.merge(&part.sums);
        }
        total.known = self.known.clone();
        total.known.iter_mut().for_each(|known| known.since = ALWAYS.start);
        total
    }
}
