//! A finished report, line by line.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::iter;

use hashbrown::{HashMap, HashSet};

use super::builder::{ALWAYS, Builder, Known};
use super::coverage::{Coverage, Covered};
use super::members::{self, Forwarded};
use super::page::Page;
use super::sums::{Ends, Parties, Sum};
use super::{By, Line, Party, Query, Sort, Tally, Who};
use crate::period::{Calendar, Period};
use crate::plain;
use crate::time::Timestamp;
use crate::traffic::End;
use crate::zerotier::Members;

/// A finished report. It names the networks only if there is more than one.
pub struct Report {
    /// What it is about.
    pub(super) query: Query,
    sort: Sort,
    pub(super) top: usize,
    /// There if it has periods.
    calendar: Option<Calendar>,
    /// The first period and the last.
    ends: Option<(Period, Period)>,
    parties: Parties,
    /// Ordered by name.
    networks: Vec<Network>,
    /// What a page shows beside the periods, if it becomes one.
    pub(super) page: Option<Box<Page>>,
    coverage: Coverage,
}

#[derive(Default)]
struct Network {
    name: String,
    /// What was counted, by the start of the period; each in order.
    sums: BTreeMap<i64, Vec<Sum>>,
    /// Who its members are.
    members: Members,
    /// What each forwarded, by the start of the period and the number of the member.
    forwarded: BTreeMap<(i64, u32), Forwarded>,
    /// Who has a line in all periods from some on, moved or not; ordered by who they are. Nobody if there are no periods.
    known: Vec<(Ends, i64)>,
}

impl Report {
    pub(super) fn new(builder: Builder, sort: Sort, top: Option<usize>) -> Self {
        let Builder {
            query, calendar, mut parties, networks: names, mut parts, mut known, mut members, coverage, ..
        } = builder;
        let forwarded = match query.by {
            By::Member => members::fold(&mut parties, &mut parts, &mut known, &mut members),
            By::Address | By::Pair => BTreeMap::new(),
        };
        let mut networks: Vec<_> = names.iter().map(|_| Network::default()).collect();
        for (name, number) in names {
            networks[number as usize].name = name;
        }
        for (network, of) in networks.iter_mut().zip(members) {
            network.members = of.members;
        }
        for ((network, start, line), bytes) in forwarded {
            networks[network as usize].forwarded.insert((start, line), bytes);
        }
        for part in parts {
            let sums = part.sums.sorted(query.by, &parties, sort);
            networks[part.network as usize].sums.insert(part.start, sums);
        }
        let top = top.unwrap_or(usize::MAX);
        let ends = Some((ALWAYS, ALWAYS));
        let mut report = Report { query, sort, top, calendar, ends, parties, networks, page: None, coverage };
        report.make_known(known);
        if let Some(calendar) = calendar {
            report.ends = report.find_ends(&calendar);
            report.networks.retain(|network| !network.sums.is_empty() || !network.known.is_empty());
        }
        report.networks.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        report
    }

    /// Finds out who has lines of zeros from which period on: clients, and pairs that one of them is in.
    fn make_known(&mut self, known: Vec<Known>) {
        let Report { query, calendar, parties, networks, .. } = self;
        let mut since: Vec<HashMap<Ends, i64>> = networks.iter().map(|_| HashMap::new()).collect();
        let mut note = |network: usize, who, start: i64| {
            since[network].entry(who).and_modify(|first| *first = start.min(*first)).or_insert(start);
        };
        known.iter().for_each(|known| note(known.network as usize, known.who, known.since));
        for (network, Network { sums, .. }) in networks.iter().enumerate().filter(|_| calendar.is_some()) {
            for (start, sums) in sums {
                let clients = sums.iter().filter(|sum| parties.who(query.by, sum.who).has_client());
                clients.for_each(|sum| note(network, sum.who, *start));
            }
        }
        for (network, since) in networks.iter_mut().zip(since) {
            network.known = since.into_iter().collect();
            network.known.sort_unstable_by_key(|(who, _)| parties.who(query.by, *who));
        }
    }

    /// The range's first period, or the first with traffic, but none before somebody has a line; and the range's last
    /// one, or the last with traffic. Who comes later is forgotten.
    fn find_ends(&mut self, calendar: &Calendar) -> Option<(Period, Period)> {
        let seconds = |time: Timestamp| time.clamped().0;
        let counted = || self.networks.iter().flat_map(|network| network.sums.keys().copied());
        let first = self.query.since.map(seconds).or_else(|| counted().min())?;
        let last = self.query.until.map(|until| seconds(Timestamp(until.0 - 1))).or_else(|| counted().max())?;
        let (first, last) = (calendar.period(first)?, calendar.period(last)?);
        let starts = self.networks.iter().flat_map(|network| network.known.iter().map(|(_, since)| *since));
        let first = calendar.period(starts.chain(counted()).min()?.max(first.start))?;
        self.networks.iter_mut().for_each(|network| network.known.retain(|(_, since)| *since <= last.start));
        (first <= last).then_some((first, last))
    }

    /// How complete the figures of a network in a period are, or in all of the report; none where nothing is known.
    pub(super) fn covered(&self, network: &str, period: Option<Period>) -> Option<Covered> {
        self.coverage.of(network, period)
    }

    /// The names of the networks that have lines.
    pub(super) fn networks(&self) -> impl Iterator<Item = &str> {
        self.networks.iter().map(|network| network.name.as_str())
    }

    /// Whether the lines say which network they are of.
    pub(super) fn shows_networks(&self) -> bool {
        self.networks.len() > 1
    }

    /// The name of whoever a line is of; empty if there is none.
    pub(super) fn name(&self, network: &str, party: Party) -> &str {
        let at = self.networks.binary_search_by(|of| of.name.as_str().cmp(network));
        let Some(members) = at.ok().map(|at| &self.networks[at].members) else { return "" };
        match party {
            Party::Member(node) => members.name(node),
            Party::End(End::Addr(addr)) => members.address_name(addr),
            _ => "",
        }
    }

    /// What a table calls whoever a line is of: a member by its name, too.
    pub(super) fn label(&self, network: &str, party: Party) -> String {
        const MAX_NAME: usize = 32;
        let name = if self.query.by == By::Member { self.name(network, party) } else { "" };
        let mut shown: String = plain::replaced(name).chars().take(MAX_NAME).collect();
        if name.chars().nth(MAX_NAME).is_some() {
            shown.push('…');
        }
        format!("{party} {shown}").trim_end().to_owned()
    }

    /// All periods without a gap; the one that holds everything if there are none.
    pub(super) fn periods(&self) -> impl Iterator<Item = Period> {
        let (first, last) = self.ends.unzip();
        let next = |period: &Period| self.calendar.as_ref()?.period(period.end);
        iter::successors(first, next).take_while(move |period| last.is_some_and(|last| period.start <= last.start))
    }

    /// The calendar and the period, unless the report has none.
    pub(super) fn calendar(&self) -> Option<&Calendar> {
        self.calendar.as_ref()
    }

    /// Whether lines say where their period begins, and how complete it is.
    pub(super) fn shows_periods(&self) -> bool {
        self.calendar.is_some() || self.query.total
    }

    /// The zone's offset from UTC where the report begins; none if nothing says where.
    pub(super) fn offset(&self) -> Option<String> {
        let start = match self.calendar {
            Some(_) => self.ends.map(|(first, _)| first.start),
            None => self.start_of_all(),
        };
        self.query.zone.offset(start?)
    }

    /// Where a period begins, as RFC 3339 has it: that of everything with the range, or else with the first packet.
    pub(super) fn label_of_start(&self, period: Period) -> Option<String> {
        let start = if self.calendar.is_some() { Some(period.start) } else { self.start_of_all() };
        start.map(|start| self.query.zone.label(start))
    }

    fn start_of_all(&self) -> Option<i64> {
        self.query.since.or_else(|| self.first_seen()).map(|time| time.clamped().0)
    }

    fn first_seen(&self) -> Option<Timestamp> {
        self.lines().filter_map(|(_, line)| Some(line.tally.seen?.first)).min()
    }

    /// All lines, each with its network.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&str, Line)> {
        self.periods().flat_map(|period| self.lines_of(period))
    }

    /// What was counted in a period, each with its network: neither sorted, nor without those that `top` leaves out.
    pub(super) fn moved(&self, period: Period) -> impl Iterator<Item = (&str, Line)> {
        self.networks.iter().flat_map(move |network| {
            let sums = network.sums.get(&period.start).into_iter().flatten();
            sums.map(|sum| (network.name.as_str(), self.parties.line(self.query.by, sum)))
        })
    }

    /// The lines of a period, each with its network.
    pub(super) fn lines_of(&self, period: Period) -> impl Iterator<Item = (&str, Line)> {
        self.networks.iter().flat_map(move |network| {
            self.lines_of_network(network, period.start).map(|line| (network.name.as_str(), line))
        })
    }

    fn lines_of_network(&self, network: &Network, start: i64) -> impl Iterator<Item = Line> {
        let Report { parties, query: Query { by, .. }, sort, .. } = self;
        let line = move |sum: &Sum| {
            let mut line = parties.line(*by, sum);
            line.tally.forwarded = network.forwarded.get(&(start, sum.who.0)).copied().unwrap_or_default();
            line
        };
        let sums = network.sums.get(&start).map_or(&[][..], Vec::as_slice);
        let moved: HashSet<Ends> = match network.known[..] {
            [] => HashSet::new(),
            _ => sums.iter().map(|sum| sum.who).collect(),
        };
        let quiet = network.known.iter().filter(move |(who, since)| *since <= start && !moved.contains(who));
        let quiet = quiet.map(|(who, _)| Line { who: parties.who(*by, *who), tally: Tally::default() });
        let (ranked, apart) = sums.split_at(sums.partition_point(|sum| !parties.who(*by, sum.who).is_pseudo()));
        let rank = |line: &Line| (Reverse(line.who.rank(*sort, line.tally.sent, line.tally.received)), line.who);
        let mut ranked = merged(ranked.iter().map(line), quiet, rank);
        let mut apart = apart.iter();
        let mut left = self.top;
        let mut rest: Option<Tally> = None;
        iter::from_fn(move || {
            for line in ranked.by_ref() {
                if left > 0 {
                    left -= 1;
                    return Some(line);
                }
                rest.get_or_insert_default().add(line.tally);
            }
            apart.next().map(line).or_else(|| Some(Line { who: by.rest(), tally: rest.take()? }))
        })
    }
}

impl By {
    /// The line of those that were left out.
    fn rest(self) -> Who {
        match self {
            By::Address | By::Member => Who::Address(Party::Rest),
            By::Pair => Who::Pair(Party::Rest, Party::Rest),
        }
    }
}

/// Both in one order, if each has it.
fn merged<T, K: Ord>(
    some: impl Iterator<Item = T>,
    others: impl Iterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> impl Iterator<Item = T> {
    let (mut some, mut others) = (some.peekable(), others.peekable());
    iter::from_fn(move || match (some.peek(), others.peek()) {
        (Some(one), Some(other)) if key(other) < key(one) => others.next(),
        (None, _) => others.next(),
        _ => some.next(),
    })
}
