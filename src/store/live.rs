//! Which time has been captured live: an import of the same would count it again.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Result;

use super::level::Interval;
use super::table::{BUCKET, Damage, NETWORK};
use super::{NetworkId, Writer, coverage};
use crate::time::{BUCKET_SECONDS, Bucket};
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

    /// The network and time that an interval overlaps, if it overlaps any.
    pub fn at(&self, span: Bucket) -> Option<(&str, Range<i64>)> {
        self.spans.iter().find_map(|(name, spans)| {
            let next = spans.partition_point(|live| live.end <= span.start);
            let live = spans.get(next).filter(|live| live.start < span.end())?;
            Some((name.as_str(), live.clone()))
        })
    }
}

impl Writer {
    /// The times at which a network, or any, was captured live: for which there is usage or coverage.
    ///
    /// # Errors
    /// If the database cannot be read or is damaged.
    pub fn captured_live(&self, network: Option<NetworkId>) -> Result<Live> {
        let read = || -> Result<Live> {
            let mut names = BTreeMap::new();
            NETWORK.scan(&self.conn, |row| {
                names.insert(row.get::<_, i64>(0)?, row.get::<_, String>(1)?);
                Ok(())
            })?;
            let mut found: BTreeMap<String, Vec<Bucket>> = BTreeMap::new();
            BUCKET.scan(&self.conn, |row| {
                let bucket = Interval::read(row)?;
                if bucket.came() == Origin::Live && network.is_none_or(|network| network.0 == bucket.network) {
                    let id = bucket.network;
                    let name = names.get(&id).ok_or_else(|| Damage(format!("network {id} has no row")))?;
                    found.entry(name.clone()).or_default().push(bucket.span);
                }
                Ok(())
            })?;
            coverage::scan(&self.conn, |name, start, seen| {
                if seen.up.count() > 0
                    && network.is_none_or(|network| names.get(&network.0).is_some_and(|of| of == name))
                {
                    found.entry(name.to_owned()).or_default().push(Bucket { start, seconds: BUCKET_SECONDS });
                }
            })?;
            Ok(Live::of(found))
        };
        read().map_err(|error| self.reading(error))
    }
}
