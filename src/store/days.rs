//! The sums of each day: made from the buckets, and compared with them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anyhow::{Result, bail, ensure};
use rusqlite::Connection;

use super::level::{BUCKETS, Changes, DAYS, Interval, Usage};
use super::table::{BUCKET, DAY, Damage};
use crate::time::{Bucket, Timestamp};

/// A day of a network by its buckets.
struct Day {
    network: i64,
    origin: i64,
    span: Bucket,
    written: i64,
    /// What each pair moved, by its number.
    usage: HashMap<i64, Usage>,
}

/// Gives `each` the days of these buckets, one at a time. The usage of the buckets is verified on the way.
fn each_day(conn: &Connection, mut buckets: Vec<Interval>, mut each: impl FnMut(Day) -> Result<()>) -> Result<()> {
    buckets.sort_unstable_by_key(key);
    let mut select = BUCKETS.select(conn)?;
    for buckets in buckets.chunk_by(|one, other| key(one) == key(other)) {
        let (span, origin, network) = key(&buckets[0]);
        let written = buckets.iter().map(|bucket| bucket.written).max().unwrap_or_default();
        let mut day = Day { network, origin, span, written, usage: HashMap::new() };
        for bucket in buckets {
            BUCKETS.scan(&mut select, bucket, |pair, usage| {
                let more = usage.within(bucket.span, span);
                match day.usage.entry(pair) {
                    Entry::Vacant(entry) => drop(entry.insert(more)),
                    Entry::Occupied(mut entry) => *entry.get_mut() = entry.get().plus(more)?,
                }
                Ok(())
            })?;
        }
        each(day)?;
    }
    Ok(())
}

/// What tells days apart.
fn key(interval: &Interval) -> (Bucket, i64, i64) {
    (interval.day(), interval.origin, interval.network)
}

/// Makes the days of these buckets; there are none yet.
pub(super) fn make(conn: &Connection, buckets: Vec<Interval>) -> Result<()> {
    DAY.seal_anew(conn)?;
    let mut days = Changes::new(conn, &DAYS)?;
    each_day(conn, buckets, |Day { network, origin, span, written, usage }| {
        let mut rows: Vec<_> = usage.into_iter().map(|(pair, usage)| (span, pair, usage)).collect();
        days.add_all(network, origin, written, &mut rows)
    })?;
    days.seal()
}

/// Reads all usage and verifies it.
///
/// # Errors
/// If some is not what was written, or a day is not the sum of its buckets.
pub(super) fn check(conn: &Connection) -> Result<()> {
    let mut buckets = Vec::new();
    BUCKET.scan(conn, |row| {
        buckets.push(Interval::read(row)?);
        Ok(())
    })?;
    let mut days = HashMap::new();
    DAY.scan(conn, |row| {
        let day = Interval::read(row)?;
        days.insert(key(&day), day);
        Ok(())
    })?;
    let differs = |span: Bucket| Damage(format!("the day from {} on is not the sum of its buckets", time(span)));
    let mut select = DAYS.select(conn)?;
    each_day(conn, buckets, |Day { network, origin, span, mut usage, .. }| {
        let Some(day) = days.remove(&(span, origin, network)) else { bail!(differs(span)) };
        DAYS.scan(&mut select, &day, |pair, sum| {
            ensure!(usage.remove(&pair) == Some(sum), differs(span));
            Ok(())
        })?;
        ensure!(usage.is_empty(), differs(span));
        Ok(())
    })?;
    match days.into_values().next() {
        Some(day) => bail!(differs(day.span)),
        None => Ok(()),
    }
}

fn time(span: Bucket) -> Timestamp {
    Timestamp::new(span.start, 0)
}
