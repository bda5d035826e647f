//! Rows become sums.

use std::collections::BTreeMap;
use std::fmt;

use super::coverage::Coverage;
use super::members::NetworkMembers;
use super::sums::{Ends, Parties, Sums};
use super::{Amount, By, Party, Query, Report, Sort};
use crate::coverage::Observed;
use crate::period::{Calendar, Every, Period};
use crate::time::{Bucket, Timestamp};
use crate::traffic::{DeltaRow, Directory, End, Endpoint, Row, Seen};

/// Sums rows as they come. Holds one sum for each address or pair that moved something in a period, however many rows
/// there are.
pub struct Builder {
    pub(super) query: Query,
    pub(super) calendar: Option<Calendar>,
    pub(super) parties: Parties,
    /// Networks by name, in the order in which they came.
    pub(super) networks: BTreeMap<String, u32>,
    /// The sums of a network in a period, in the order in which they came.
    pub(super) parts: Vec<Part>,
    /// Their numbers, by network and by when they begin.
    by_start: BTreeMap<(u32, i64), u32>,
    /// The network, bucket and part of the last row: its neighbours' are nearly always the same.
    latest: Option<(String, Bucket, u32)>,
    /// The sums of deltas' rows, by the number of the endpoint, or by that of the pair.
    places: Vec<Place>,
    /// Ends that were there before.
    pub(super) known: Vec<Known>,
    /// All pairs, for a page.
    pub(super) pairs: Option<Box<Builder>>,
    /// How long the periods of a page were to be, if that was asked for.
    pub(super) asked: Option<Every>,
    /// The first and the last second that a bucket of a page begins with.
    pub(super) reached: Option<(i64, i64)>,
    /// The members of networks, by their numbers.
    pub(super) members: Vec<NetworkMembers>,
    pub(super) coverage: Coverage,
}

/// The sums of a network in a period.
pub(super) struct Part {
    pub(super) start: i64,
    pub(super) network: u32,
    pub(super) sums: Sums,
}

/// Somebody who moved something, and the start of the first period in which that was.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) network: u32,
    pub(super) who: Ends,
    pub(super) since: i64,
}

/// Where a sum was found last.
#[derive(Clone, Copy)]
struct Place {
    part: u32,
    number: u32,
}

/// The number of no sum, or of no part.
const NONE: u32 = u32::MAX;

const NOWHERE: Place = Place { part: NONE, number: NONE };

/// All that a report without periods is about.
pub(super) const ALWAYS: Period = Period { start: i64::MIN, end: i64::MAX };

impl Builder {
    /// Nothing counted yet.
    pub fn new(query: impl Into<Query>) -> Self {
        let query = query.into();
        let asked = query.every.filter(|_| !query.fits);
        let pairs = query.page.then(|| Builder::new(query.of_pairs()));
        let calendar = query.every.map(|every| Calendar::new(query.zone, every));
        Builder {
            coverage: Coverage::new(&query, calendar),
            calendar,
            query,
            parties: Parties::default(),
            networks: BTreeMap::new(),
            parts: Vec::new(),
            by_start: BTreeMap::new(),
            latest: None,
            places: Vec::new(),
            known: Vec::new(),
            pairs: pairs.map(Box::new),
            asked,
            reached: None,
            members: Vec::new(),
        }
    }

    /// How the time is cut, if it is.
    pub fn calendar(&self) -> Option<Calendar> {
        self.calendar
    }

    /// Whether a network's row is about somebody who is shown.
    pub fn shows(&mut self, network: &str, row: &Row) -> bool {
        let network = self.network(network);
        let shown = Shown { query: &self.query, members: &self.members[network as usize] };
        [row.src, row.dst].into_iter().any(|endpoint| shown.shows(endpoint))
    }

    /// Counts what a network's `row` moved in `bucket`.
    ///
    /// # Errors
    /// If a period begins or ends within the bucket.
    pub fn add(&mut self, network: &str, bucket: Bucket, row: &Row) -> Result<(), Cut> {
        if let Some(pairs) = &mut self.pairs {
            pairs.add(network, bucket, row)?;
        }
        let part = match &self.latest {
            Some((name, latest, part)) if *latest == bucket && name == network => *part,
            _ => {
                let part = self.part(network, bucket)?;
                self.latest = Some((network.to_owned(), bucket, part));
                part
            }
        };
        let Builder { query, parties, parts, members, .. } = self;
        let Part { network, sums, .. } = &mut parts[part as usize];
        let shown = Shown { query, members: &members[*network as usize] };
        let (src, dst) = (row.src, row.dst);
        let (amount, nothing) = (Amount::of(row.counts), Amount::default());
        match query.by {
            By::Address | By::Member => {
                let places = [src, dst].map(|endpoint| shown.place_of_address(parties, sums, endpoint, row.seen));
                sums.add(places[0], amount, nothing, row.seen);
                sums.add(places[1], nothing, amount, row.seen);
            }
            By::Pair => {
                let place = shown.place_of_pair(parties, sums, src, dst, row.seen);
                sums.add(place, amount, nothing, row.seen);
            }
        }
        Ok(())
    }

    /// Counts the rows of a delta of the network without a name. Its numbers are those of `directory`, the same for all
    /// deltas of a builder: whose sums are where is found out once in each period.
    ///
    /// # Errors
    /// If a period begins or ends within the bucket of a row.
    pub fn add_delta(&mut self, directory: &Directory, rows: &[DeltaRow]) -> Result<(), Cut> {
        if let Some(pairs) = &mut self.pairs {
            pairs.add_delta(directory, rows)?;
        }
        let one_period = self.calendar.is_none();
        // Rows come as their first packets did: those of a bucket stand together.
        for rows in rows.chunk_by(|row, next| one_period || row.bucket == next.bucket) {
            let part = self.part("", rows[0].bucket)?;
            self.add_rows(directory, rows, part);
        }
        Ok(())
    }

    /// Counts rows that all belong to a part.
    fn add_rows(&mut self, directory: &Directory, rows: &[DeltaRow], part: u32) {
        let Builder { query, parties, parts, places, members, .. } = self;
        let Part { network, sums, .. } = &mut parts[part as usize];
        let shown = Shown { query, members: &members[*network as usize] };
        let nothing = Amount::default();
        match query.by {
            By::Address | By::Member => {
                places.resize(directory.endpoints().len(), NOWHERE);
                for row in rows {
                    let seen = row.seen();
                    let mut place = |endpoint: u32| {
                        let place = &mut places[endpoint as usize];
                        if place.part != part {
                            let endpoint = directory.endpoint(endpoint);
                            *place = Place { part, number: shown.place_of_address(parties, sums, endpoint, seen) };
                        }
                        place.number
                    };
                    let (src, dst) = directory.ends(row.pair);
                    let (src, dst) = (place(src), place(dst));
                    sums.add(src, Amount::of(row.counts), nothing, seen);
                    sums.add(dst, nothing, Amount::of(row.counts), seen);
                }
            }
            By::Pair => {
                places.resize(directory.pairs().len(), NOWHERE);
                for row in rows {
                    let seen = row.seen();
                    let place = &mut places[row.pair as usize];
                    if place.part != part {
                        let (src, dst) = directory.pair(row.pair);
                        *place = Place { part, number: shown.place_of_pair(parties, sums, src, dst, seen) };
                    }
                    sums.add(place.number, Amount::of(row.counts), nothing, seen);
                }
            }
        }
    }

    /// Notes that an end of a network was first seen at a time, however little of its traffic is in the rows: it shows
    /// in all periods from then on.
    pub fn know(&mut self, network: &str, endpoint: Endpoint, first: Timestamp) {
        let comes_later = self.query.until.is_some_and(|until| first >= until);
        let has_line = self.query.by != By::Pair && endpoint.end.is_addr();
        let Some(calendar) = self.calendar.filter(|_| has_line && !comes_later) else { return };
        let network = self.network(network);
        if !(Shown { query: &self.query, members: &self.members[network as usize] }).shows(endpoint) {
            return;
        }
        let number = self.parties.number(self.query.party(endpoint));
        let since = calendar.period(first.clamped().0).map_or(i64::MIN, |period| period.start);
        self.known.push(Known { network, who: (number, number), since });
    }

    /// Takes in what was seen of a network in the five minutes from `start` on. They have to come by ascending start.
    pub fn see(&mut self, network: &str, start: i64, seen: &Observed) {
        self.coverage.add(network, start, seen);
    }

    /// Says what time it is: what is still to come was not missed.
    pub fn set_now(&mut self, now: Timestamp) {
        self.coverage.set_now(now);
    }

    /// The number of the sums of a network in the period that a bucket belongs to.
    fn part(&mut self, network: &str, bucket: Bucket) -> Result<u32, Cut> {
        if self.query.page {
            self.reach(bucket);
        }
        if let Some(cut) = self.cut(bucket) {
            return Err(cut);
        }
        let (network, start) = (self.network(network), self.start_of(bucket.start));
        Ok(self.part_from(network, start))
    }

    /// The number of the sums of a network in the period with this start.
    pub(super) fn part_from(&mut self, network: u32, start: i64) -> u32 {
        let Builder { parts, by_start, .. } = self;
        *by_start.entry((network, start)).or_insert_with(|| {
            parts.push(Part { start, network, sums: Sums::default() });
            parts.len() as u32 - 1
        })
    }

    /// Puts all that was counted into longer periods, or into one.
    pub(super) fn regroup(&mut self, every: Option<Every>) {
        self.query.every = every;
        self.calendar = every.map(|every| Calendar::new(self.query.zone, every));
        (self.latest, self.by_start) = (None, BTreeMap::new());
        self.places.clear();
        self.coverage.regroup(self.calendar);
        for part in std::mem::take(&mut self.parts) {
            let number = self.part_from(part.network, self.start_of(part.start));
            self.parts[number as usize].sums.merge(&part.sums);
        }
        for i in 0..self.known.len() {
            self.known[i].since = self.start_of(self.known[i].since);
        }
    }

    /// Why a bucket belongs to no period, if it does not.
    pub(super) fn cut(&self, bucket: Bucket) -> Option<Cut> {
        let calendar = self.calendar?;
        let end = calendar.period(bucket.start).unwrap_or(ALWAYS).end;
        let cut = || Cut { bucket, boundary: calendar.label(end), zone: self.query.zone.to_string() };
        (bucket.end() > end).then(cut)
    }

    /// Where the period of a second begins.
    fn start_of(&self, second: i64) -> i64 {
        match self.calendar {
            Some(calendar) => calendar.period(second).unwrap_or(ALWAYS).start,
            None => ALWAYS.start,
        }
    }

    pub(super) fn network(&mut self, name: &str) -> u32 {
        let next = self.networks.len() as u32;
        match self.networks.get(name) {
            Some(&network) => network,
            None => {
                self.members.push(self.query.named.of(name));
                *self.networks.entry(name.to_owned()).or_insert(next)
            }
        }
    }

    /// Sorts what was counted. With `top`, only so many addresses or pairs of each period and network get a line of
    /// their own.
    pub fn finish(mut self, sort: Sort, top: Option<usize>) -> Report {
        let page = self.take_page(sort, top);
        let mut report = Report::new(self, sort, top);
        report.page = page;
        report
    }
}

/// Whose lines are shown, on one network.
struct Shown<'a> {
    query: &'a Query,
    members: &'a NetworkMembers,
}

impl Shown<'_> {
    fn shows(&self, endpoint: Endpoint) -> bool {
        // By member, who that is shows in the end.
        self.query.shows(endpoint.end) && (self.query.by == By::Member || self.members.shows(endpoint))
    }

    fn place_of_address(&self, parties: &mut Parties, sums: &mut Sums, endpoint: Endpoint, seen: Seen) -> u32 {
        if endpoint.end == End::Beyond || !self.shows(endpoint) {
            return NONE;
        }
        let number = parties.number(self.query.party(endpoint));
        sums.place((number, number), seen)
    }

    fn place_of_pair(&self, parties: &mut Parties, sums: &mut Sums, src: Endpoint, dst: Endpoint, seen: Seen) -> u32 {
        let ends = match (src.end, dst.end) {
            // A packet beyond the limit of pairs has a row for either end: the sender's stands for it here.
            (End::Beyond, _) => return NONE,
            (_, End::Beyond) => (End::Other, End::Other),
            pair => pair,
        };
        let shows = |end, endpoint: Endpoint| self.shows(Endpoint { end, ..endpoint });
        if !shows(ends.0, src) && !shows(ends.1, dst) {
            return NONE;
        }
        let who = (parties.number(Party::End(ends.0)), parties.number(Party::End(ends.1)));
        sums.place(who, seen)
    }
}

/// Why a bucket belongs to no period: it is kept as one, and a period begins within it.
#[derive(Debug)]
pub struct Cut {
    bucket: Bucket,
    boundary: String,
    zone: String,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [start, end] = [self.bucket.start, self.bucket.end()].map(|second| Timestamp::new(second, 0));
        let Cut { boundary, zone, .. } = self;
        write!(f, "what moved from {start} to {end} is kept as one, and {boundary} falls inside it, where a period ")?;
        write!(f, "begins in {zone}: give another --tz or --every, or a database made with a smaller --bucket")
    }
}

impl std::error::Error for Cut {}
