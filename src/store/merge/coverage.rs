//! Who saw how much, and what that decides.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use anyhow::Result;
use rusqlite::Connection;

use super::old::Old;
use crate::coverage::Observed;
use crate::store::history::History;
use crate::store::{NetworkId, coverage};
use crate::time::BUCKET_SECONDS;

/// What decides whose buckets are taken.
#[derive(Default)]
pub struct Quality {
    /// What was seen of the time, if that is known.
    pub seen: Option<Seen>,
    /// Packets that were counted.
    pub packets: i64,
}

/// How much of a time was seen. The greater is the better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// Seconds in five minutes with copies from others: a deleted rule is no coverage.
    with_copies: u32,
    seconds: u32,
    dropped: Reverse<u64>,
}

/// The one that saw the most, of equals the first. Coverage decides where it is known of all, else the packets.
pub fn best(of: &[(usize, Quality)]) -> Option<usize> {
    let is_known = of.iter().all(|(_, quality)| quality.seen.is_some());
    let better = |one: &Quality, other: &Quality| {
        let rank = |quality: &Quality| (quality.seen.filter(|_| is_known), quality.packets);
        rank(one) > rank(other)
    };
    let best = of.iter().reduce(|best, next| if better(&next.1, &best.1) { next } else { best });
    best.map(|(database, _)| *database)
}

/// What all of them saw, and whose usage was taken.
pub struct Coverage<'a> {
    /// By network, start and database.
    seen: BTreeMap<(&'a str, i64, usize), Observed>,
    /// By network and start of the time: its end, and the database.
    taken: BTreeMap<(&'a str, i64), (i64, usize)>,
}

impl<'a> Coverage<'a> {
    pub fn read(olds: &'a [Old<'a>]) -> Result<Self> {
        let mut seen = BTreeMap::new();
        for (at, old) in olds.iter().enumerate() {
            let names: BTreeMap<&str, &str> = old.networks.values().map(|(name, _)| (&**name, &**name)).collect();
            coverage::scan(old.conn, |name, start, observed| {
                if let Some(name) = names.get(name) {
                    seen.insert((*name, start, at), *observed);
                }
            })?;
        }
        Ok(Coverage { seen, taken: BTreeMap::new() })
    }

    /// What a database saw of a network in a time.
    pub fn of(&self, network: &'a str, database: usize, time: &Range<i64>) -> Option<Seen> {
        let mut sum: Option<Seen> = None;
        for (_, observed) in
            self.seen.range((network, time.start, 0)..(network, time.end, 0)).filter(|((.., of), _)| *of == database)
        {
            let seconds = observed.up.count();
            let with_copies = if observed.teed > 0 { seconds } else { 0 };
            let before = sum.unwrap_or(Seen { with_copies: 0, seconds: 0, dropped: Reverse(0) });
            sum = Some(Seen {
                with_copies: before.with_copies + with_copies,
                seconds: before.seconds + seconds,
                dropped: Reverse(before.dropped.0.saturating_add(observed.dropped)),
            });
        }
        sum
    }

    /// The usage of a time was taken from this database.
    pub fn taken(&mut self, network: &'a str, database: usize, time: Range<i64>) {
        self.taken.insert((network, time.start), (time.end, database));
    }

    /// Writes what was seen by those whose usage was taken; where they do not know, or there was none, by the best.
    pub fn write(&self, conn: &Connection, id: impl Fn(&str) -> Result<i64>) -> Result<()> {
        let mut rows: BTreeMap<&str, Vec<(i64, Observed)>> = BTreeMap::new();
        let times: BTreeSet<(&str, i64)> = self.seen.keys().map(|(network, start, _)| (*network, *start)).collect();
        for (network, start) in times {
            let time = start..start + i64::from(BUCKET_SECONDS);
            let there = self.seen.range((network, start, 0)..=(network, start, usize::MAX));
            let there: BTreeMap<usize, &Observed> = there.map(|((.., database), seen)| (*database, seen)).collect();
            let taken = self.taken.range(..=(network, start)).next_back();
            let taken = taken.filter(|((of, _), (end, _))| *of == network && start < *end).map(|(_, (_, at))| *at);
            let quality = |at: usize| Quality { seen: self.of(network, at, &time), packets: 0 };
            let qualities: Vec<_> = there.keys().map(|at| (*at, quality(*at))).collect();
            let from = taken.filter(|at| there.contains_key(at)).or_else(|| best(&qualities));
            rows.entry(network).or_default().extend(from.map(|at| (start, *there[&at])));
        }
        let clock = History::read(conn)?.clock;
        for (network, rows) in rows {
            coverage::add(conn, NetworkId(id(network)?), clock, rows.iter().map(|(start, seen)| (start, seen)))?;
        }
        Ok(())
    }
}
