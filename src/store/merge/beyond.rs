//! What totals have beyond the usage: it was deleted as it was too old, was lost, or never had any (`unlisted`).
//!
//! Of such traffic it is known only within which time it was. Where other databases show usage of the same time, that is
//! taken for the same traffic, and only what exceeds it is added; where two know nothing but totals of the same time,
//! the larger one counts. So nothing counts twice, and no more is missing than has to be.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use anyhow::Result;

use super::old::Old;
use crate::time::Bucket;
use crate::traffic::{Origin, Seen, Totals};

/// A network in words, and how its traffic came in.
type Whose = (String, Origin);

/// Which seconds of a network one of the databases has only totals of.
struct Window {
    database: usize,
    seconds: Range<i64>,
    /// The same for all whose time overlaps.
    group: usize,
}

/// What is known of an end in one window.
#[derive(Default)]
struct Known {
    beyond: Option<Totals>,
    /// What was taken from other databases for that time.
    taken: [u64; 4],
}

/// All of it.
pub struct Rests {
    windows: HashMap<Whose, Vec<Window>>,
    /// By the end's number in the new database, origin, group and database.
    known: BTreeMap<(i64, Origin, usize, usize), Known>,
}

impl Rests {
    /// Of these databases.
    pub fn new(olds: &[Old]) -> Result<Self> {
        let mut windows: HashMap<Whose, Vec<Window>> = HashMap::new();
        for (database, old) in olds.iter().enumerate() {
            for beyond in &old.beyond {
                let network = old.end(beyond.endpoint)?.network;
                let windows = windows.entry((old.network(network)?.to_owned(), beyond.origin)).or_default();
                if windows.iter().all(|window| window.database != database) {
                    let (first, last) = old.spans.get(&(network, beyond.origin)).copied().unwrap_or_default();
                    let live_from = old.history.live_from.filter(|_| beyond.origin == Origin::Live);
                    let end = live_from.map_or(last + 1, |from| from.min(last + 1));
                    windows.push(Window { database, seconds: first..end.max(first + 1), group: 0 });
                }
            }
        }
        for windows in windows.values_mut() {
            windows.sort_by_key(|window| window.seconds.start);
            let (mut group, mut end) = (0, i64::MIN);
            for window in windows {
                group += usize::from(window.seconds.start >= end);
                end = end.max(window.seconds.end);
                window.group = group;
            }
        }
        Ok(Rests { windows, known: BTreeMap::new() })
    }

    /// The windows that usage of `span` from `database` may be in.
    pub fn windows(&self, database: usize, network: &str, origin: Origin, span: Bucket) -> Vec<(usize, usize)> {
        let windows = self.windows.get(&(network.to_owned(), origin)).map_or(&[][..], Vec::as_slice);
        let others = windows.iter().filter(|window| window.database != database);
        let hit = others.filter(|window| span.start < window.seconds.end && window.seconds.start < span.end());
        hit.map(|window| (window.group, window.database)).collect()
    }

    /// Usage of an end was taken for the time of a window.
    pub fn taken(&mut self, endpoint: i64, origin: Origin, (group, database): (usize, usize), more: &Totals) {
        let known = self.known.entry((endpoint, origin, group, database)).or_default();
        known.taken = std::array::from_fn(|at| known.taken[at].saturating_add(counts(more)[at]));
    }

    /// An end has totals beyond its usage in a database.
    pub fn beyond(&mut self, endpoint: i64, network: &str, database: usize, origin: Origin, totals: Totals) {
        let windows = self.windows.get(&(network.to_owned(), origin));
        let window = windows.and_then(|windows| windows.iter().find(|window| window.database == database));
        if let Some(Window { group, seconds, .. }) = window {
            // What was deleted came before what was kept.
            let Seen { first, last } = totals.seen;
            let seen = Seen { first, last: last.min(crate::time::Timestamp::new(seconds.end, 0)).max(first) };
            self.known.entry((endpoint, origin, *group, database)).or_default().beyond =
                Some(Totals { seen, ..totals });
        }
    }

    /// What is to be added to the sums of the usage.
    pub fn finish(self) -> HashMap<(i64, Origin), Totals> {
        let mut largest: BTreeMap<(i64, Origin, usize), Totals> = BTreeMap::new();
        for ((endpoint, origin, group, _), Known { beyond, taken }) in self.known {
            let Some(beyond) = beyond else { continue };
            let rest: [u64; 4] = std::array::from_fn(|at| counts(&beyond)[at].saturating_sub(taken[at]));
            if rest != [0; 4] {
                let seen = largest.get(&(endpoint, origin, group)).map_or(beyond.seen, |known| {
                    let mut seen = known.seen;
                    seen.merge(beyond.seen);
                    seen
                });
                let most = largest.get(&(endpoint, origin, group)).map(counts).unwrap_or_default();
                let [sent_bytes, received_bytes, sent_packets, received_packets] =
                    std::array::from_fn(|at| rest[at].max(most[at]));
                let sum = Totals { sent_bytes, received_bytes, sent_packets, received_packets, seen };
                largest.insert((endpoint, origin, group), sum);
            }
        }
        let mut sums: HashMap<(i64, Origin), Totals> = HashMap::new();
        for ((endpoint, origin, _), more) in largest {
            sums.entry((endpoint, origin)).and_modify(|sum| sum.add(&more)).or_insert(more);
        }
        sums
    }
}

fn counts(totals: &Totals) -> [u64; 4] {
    [totals.sent_bytes, totals.received_bytes, totals.sent_packets, totals.received_packets]
}
