//! Which time has been captured live: an import of the same would count it again.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Result;
use rusqlite::Connection;

use super::level::Interval;
use super::table::{BUCKET, Damage, NETWORK};
use super::{Writer, coverage};
use crate::time::{BUCKET_SECONDS, Bucket, Timestamp};
use crate::traffic::Origin;

/// The times that networks were captured live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// By the networks' names, in seconds, ascending, without those that touch.
    spans: BTreeMap<String, Vec<Range<i64>>>,
}

impl Live {
    /// Of these buckets, by network.
    pub(super) fn of(networks: BTreeMap<String, Vec<Bucket>>) -> Self {
        let merged = |mut buckets: Vec<Bucket>| {
            buckets.sort_unstable();
            let mut spans: Vec<Range<i64>> = Vec::new();
            for bucket in buckets {
                match spans.last_mut().filter(|last| bucket.start <= last.end) {
                    Some(last) => last.end = last.end.max(bucket.end()),
                    None => spans.push(bucket.start..bucket.end()),
                }
            }
            spans
        };
        Live { spans: networks.into_iter().map(|(name, buckets)| (name, merged(buckets))).collect() }
    }

    /// Of a database: the times for which there is usage or coverage.
    pub(super) fn read(conn: &Connection) -> Result<Self> {
        let mut names = BTreeMap::new();
        NETWORK.scan(conn, |row| {
            names.insert(row.get::<_, i64>(0)?, row.get::<_, String>(1)?);
            Ok(())
        })?;
        let mut found: BTreeMap<String, Vec<Bucket>> = BTreeMap::new();
        BUCKET.scan(conn, |row| {
            let bucket = Interval::read(row)?;
            if bucket.came() == Origin::Live {
                let id = bucket.network;
                let name = names.get(&id).ok_or_else(|| Damage(format!("network {id} has no row")))?;
                found.entry(name.clone()).or_default().push(bucket.span);
            }
            Ok(())
        })?;
        coverage::scan(conn, |name, start, seen| {
            if seen.up.count() > 0 {
                found.entry(name.to_owned()).or_default().push(Bucket { start, seconds: BUCKET_SECONDS });
            }
        })?;
        Ok(Live::of(found))
    }

    /// The network and time that an interval of a network overlaps, if it overlaps any. Where nothing says which network
    /// it is of, it may be any.
    pub fn at(&self, network: &str, span: Bucket) -> Option<(&str, Range<i64>)> {
        let is_meant = |name: &str| network.is_empty() || name == network;
        self.spans.iter().filter(|(name, _)| is_meant(name)).find_map(|(name, spans)| {
            let next = spans.partition_point(|live| live.end <= span.start);
            let live = spans.get(next).filter(|live| live.start < span.end())?;
            Some((name.as_str(), live.clone()))
        })
    }
}

/// Why imports are refused: they may hold what `database` captured live on the network and in the seconds that
/// [`Live::at`] gave. `of_any` says that they may be of any network.
pub fn would_count_twice(database: &str, imports: &str, (network, live): (&str, Range<i64>), of_any: bool) -> String {
    let [start, end] = [live.start, live.end].map(|second| Timestamp::new(second, 0));
    let network = if network.is_empty() { String::new() } else { format!(" of network {network}") };
    let whose = if of_any { " (nothing says which network they are of)" } else { "" };
    format!(
        "{database} has {start} to {end}{network} captured live, and {imports} may hold the same packets{whose}: \
         --overlap skip leaves out what is of such times, --overlap add counts it all the same"
    )
}

impl Writer {
    /// The times at which networks were captured live.
    ///
    /// # Errors
    /// If the database cannot be read or is damaged.
    pub fn captured_live(&self) -> Result<Live> {
        Live::read(&self.conn).map_err(|error| self.reading(error))
    }
}
