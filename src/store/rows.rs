//! The usage as reports take it: by days where they may, by buckets where they must.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;

use anyhow::{Result, bail};
use rusqlite::Connection;

use super::add::{FORGOTTEN, UNLISTED};
use super::history::History;
use super::level::{BUCKETS, DAYS, Interval, Usage};
use super::table::{BUCKET, DAY, Damage, ENDPOINT, NETWORK, PAIR};
use crate::time::{Bucket, Timestamp};
use crate::traffic::{End, Endpoint, Origin, Row};

/// [`Reader::rows`](super::Reader::rows) of a connection with a transaction open; without `next_cut`,
/// [`Reader::buckets`](super::Reader::buckets).
pub(super) fn rows(
    conn: &Connection,
    origin: Option<Origin>,
    range: Range<Option<i64>>,
    mut next_cut: Option<&mut dyn FnMut(i64) -> Option<i64>>,
    mut each: impl FnMut(&str, Bucket, Row) -> Result<()>,
) -> Result<()> {
    let names = Names::read(conn)?;
    let is_asked_for = |interval: &Interval| origin.is_none_or(|origin| origin == interval.came());
    let by_buckets = next_cut.is_none();
    let mut cut_in = |span: Bucket| {
        let next = next_cut.as_mut().and_then(|next_cut| next_cut(span.start));
        let bounds = [range.start, range.end, next];
        bounds.into_iter().flatten().find(|cut| span.start < *cut && *cut < span.end())
    };
    let is_within = |span: Bucket| {
        range.start.is_none_or(|since| span.start >= since) && range.end.is_none_or(|until| span.end() <= until)
    };
    let is_outside = |span: Bucket| {
        range.start.is_some_and(|since| span.end() <= since) || range.end.is_some_and(|until| until <= span.start)
    };
    let mut parts = Vec::new();
    // Whether each day has to be read by its buckets.
    let mut days = BTreeMap::new();
    DAY.scan(conn, |row| {
        let day = Interval::read(row)?;
        let is_cut = *days
            .entry(day.span.start)
            .or_insert_with(|| !is_outside(day.span) && (by_buckets || cut_in(day.span).is_some()));
        if is_asked_for(&day) && !is_cut && is_within(day.span) {
            parts.push((&DAYS, day));
        }
        Ok(())
    })?;
    if days.values().any(|is_cut| *is_cut) {
        BUCKET.scan(conn, |row| {
            let bucket = Interval::read(row)?;
            // What no part of is asked for may be cut anywhere.
            if is_asked_for(&bucket)
                && !is_outside(bucket.span)
                && days.get(&bucket.day().start).is_none_or(|is_cut| *is_cut)
            {
                if let Some(cut) = cut_in(bucket.span) {
                    bail!(KeptAsOne { bucket: bucket.span, cut, seconds: History::read(conn)?.seconds });
                }
                if is_within(bucket.span) {
                    parts.push((&BUCKETS, bucket));
                }
            }
            Ok(())
        })?;
    }
    parts.sort_unstable_by_key(|(_, part)| (part.span, part.origin, part.network));
    let (mut of_day, mut of_bucket) = (DAYS.select(conn)?, BUCKETS.select(conn)?);
    for (level, part) in &parts {
        let network = names.network(part.network)?;
        let select = if level.key == DAYS.key { &mut of_day } else { &mut of_bucket };
        level.scan(select, part, |pair, usage| each(network, part.span, names.row(pair, usage, part.span)?))?;
    }
    Ok(())
}

/// Why usage cannot be read as it was asked for: a bucket that is kept as one has a cut in it. Displays which, and what
/// would help.
#[derive(Debug)]
pub struct KeptAsOne {
    bucket: Bucket,
    cut: i64,
    /// Of the buckets by which the database keeps what is older than a week.
    seconds: u32,
}

impl fmt::Display for KeptAsOne {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [cut, start, end] =
            [self.cut, self.bucket.start, self.bucket.end()].map(|second| Timestamp::new(second, 0));
        write!(f, "{cut} falls inside a bucket that is kept as one: the nearest bounds are {start} and {end}")?;
        if self.bucket.seconds == self.seconds && self.seconds > 900 {
            let minutes = self.seconds / 60;
            write!(
                f,
                "; this database keeps what is older than a week by {minutes} minutes: one that is made with a "
            )?;
            f.write_str("shorter --bucket can be cut there")?;
        }
        Ok(())
    }
}

impl std::error::Error for KeptAsOne {}

/// Who the numbers in the usage are.
struct Names {
    networks: HashMap<i64, String>,
    endpoints: HashMap<i64, Endpoint>,
    pairs: HashMap<i64, (i64, i64)>,
}

impl Names {
    fn read(conn: &Connection) -> Result<Self> {
        let mut names = Names { networks: HashMap::new(), endpoints: HashMap::new(), pairs: HashMap::new() };
        NETWORK.scan(conn, |row| {
            names.networks.insert(row.get(0)?, row.get(1)?);
            Ok(())
        })?;
        ENDPOINT.scan(conn, |row| {
            names.endpoints.insert(row.get(0)?, endpoint(row, 2)?);
            Ok(())
        })?;
        PAIR.scan(conn, |row| {
            names.pairs.insert(row.get(0)?, (row.get(1)?, row.get(2)?));
            Ok(())
        })?;
        Ok(names)
    }

    fn network(&self, id: i64) -> Result<&str> {
        Ok(self.networks.get(&id).ok_or_else(|| Damage(format!("network {id} has no row")))?)
    }

    /// A pair's usage in words.
    fn row(&self, pair: i64, usage: Usage, span: Bucket) -> Result<Row> {
        let &(src, dst) = self.pairs.get(&pair).ok_or_else(|| Damage(format!("pair {pair} has no row")))?;
        let end = |id| self.endpoints.get(&id).ok_or_else(|| Damage(format!("endpoint {id} has no row")));
        Ok(Row { src: *end(src)?, dst: *end(dst)?, counts: usage.counts()?, seen: usage.seen(span) })
    }
}

/// The endpoint whose address and MAC stand in the columns from `index` on.
pub(super) fn endpoint(row: &rusqlite::Row, index: usize) -> Result<Endpoint> {
    let (addr, mac) = (row.get_ref(index)?.as_str()?, row.get_ref(index + 1)?.as_str()?);
    let parse = || -> Result<Endpoint, String> {
        let end = match addr {
            FORGOTTEN | UNLISTED => End::Other,
            addr => addr.parse()?,
        };
        Ok(Endpoint { end, mac: if mac.is_empty() { None } else { Some(mac.parse()?) } })
    };
    Ok(parse().map_err(Damage)?)
}
