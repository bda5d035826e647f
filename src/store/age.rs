//! What becomes of usage as it grows older: after a week it is kept by longer buckets, and live usage ends some day.
//!
//! Both are done in transactions of a few rows, after each of which everything fits together. No sum changes but those
//! of the days that are deleted.
//!
//! A clock that jumps must not cost anything. So age is measured by two: the machine's, and one that is kept in the
//! database and never jumps. Only what is old by both is touched.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use rusqlite::{Connection, params};

use super::add::Remembered;
use super::history::History;
use super::level::{BUCKETS, Changes, DAYS, Interval};
use super::table::Damage;
use super::{Writer, blame, coverage};
use crate::time::{DAY_SECONDS, FINE_FOR, Span, Timestamp};
use crate::traffic::Origin;

/// Rows that are moved or deleted in one transaction: few enough that nobody has to wait for it.
const AT_ONCE: usize = 1000;

/// Buckets in one transaction.
const BUCKETS_AT_ONCE: usize = 100;

/// How often the clock is written where nothing else is.
const CLOCK_EVERY: i64 = 600;

/// What there is to be done.
enum Due {
    /// Buckets to be merged into longer ones.
    Merge(Vec<i64>),
    /// A day to be deleted.
    Delete(i64),
    /// What was seen of the time, whether anything moved or not.
    Forget,
    Nothing,
}

/// Times before which something is old: by the machine's clock and by the history's.
#[derive(Clone, Copy)]
struct Limits {
    wall: i64,
    clock: i64,
}

impl Limits {
    /// Merged is what is older than a week. What came from old files was a week old when it was written. A whole day at
    /// once, so that longer buckets stand together: their pages would be half empty where they end.
    fn merges(self, bucket: &Interval, seconds: u32) -> bool {
        let end = bucket.day().end();
        bucket.span.seconds < seconds && end <= self.wall && end.min(bucket.written) <= self.clock
    }

    /// Deleted is what was both captured and written so long ago.
    fn deletes(self, day: &Interval) -> bool {
        day.origin == Origin::Live as i64 && day.span.end() <= self.wall && day.written <= self.clock
    }
}

impl Writer {
    /// Moves the history's clock on: `uptime` is the time since this writer was opened.
    ///
    /// It goes as fast as time passes while this runs, and up to twice as fast until it has caught up with the machine's.
    pub fn tick(&mut self, wall: Timestamp, uptime: Duration) {
        let (wall, uptime) = (wall.clamped().0, i64::try_from(uptime.as_secs()).unwrap_or(i64::MAX));
        let passed = (uptime - self.ticked).max(0);
        self.ticked = self.ticked.max(uptime);
        let clock = &mut self.history.clock;
        *clock = match *clock {
            0 => wall.max(1),
            clock => clock.saturating_add((wall - clock).clamp(passed, passed.saturating_mul(2))),
        };
    }

    /// Does a little of what has to be done with history that grew older, in a transaction of its own. Says whether
    /// there is more to do. Live usage and coverage older than `retain` are deleted by whole UTC days; totals stay.
    ///
    /// # Errors
    /// If the database is damaged or cannot be written; then nothing is changed.
    pub fn upkeep(&mut self, wall: Timestamp, retain: Option<Span>) -> Result<bool> {
        self.upkeep_of(AT_ONCE, wall, retain)
    }

    /// The same with at most so many rows.
    pub(super) fn upkeep_of(&mut self, rows: usize, wall: Timestamp, retain: Option<Span>) -> Result<bool> {
        let History { seconds, clock, .. } = self.history;
        let limits = |age: i64| Limits { wall: wall.clamped().0.saturating_sub(age), clock: clock.saturating_sub(age) };
        let (old, too_old) = (limits(FINE_FOR.as_seconds()), retain.map(|retain| limits(retain.as_seconds())));
        let due = find(&self.conn, seconds, old, too_old).map_err(|error| blame(&self.path, "cannot read", error))?;
        if matches!(due, Due::Nothing) && !self.is_clock_to_be_saved() {
            return Ok(false);
        }
        self.begin()?;
        self.remembered = Remembered::default();
        let before = self.history;
        let done = match (&due, too_old) {
            (Due::Delete(day), Some(too_old)) => delete(&self.conn, *day, too_old, rows).and_then(|end| {
                self.history.live_from = before.live_from.max(Some(end));
                self.history.write(&self.conn)
            }),
            (Due::Forget, Some(Limits { wall, clock })) => coverage::forget(&self.conn, day_of(wall), clock, rows),
            (Due::Merge(buckets), _) => merge(&self.conn, buckets, seconds, old, rows),
            _ => Ok(()),
        };
        let done = done.map_err(|error| blame(&self.path, "cannot write to", error));
        let done = self.or_roll_back(done).and_then(|()| self.commit());
        done.inspect_err(|_| self.history = before)?;
        Ok(!matches!(due, Due::Nothing))
    }

    /// Before the clock is kept, nothing must be that was written by it. Afterwards it may fall behind a little.
    pub(super) fn is_clock_to_be_saved(&self) -> bool {
        self.history.clock != 0 && (self.saved_clock == 0 || self.history.clock - self.saved_clock >= CLOCK_EVERY)
    }
}

fn find(conn: &Connection, seconds: u32, old: Limits, too_old: Option<Limits>) -> Result<Due> {
    if let Some(Limits { wall, clock }) = too_old {
        let sql =
            "SELECT id FROM day WHERE start + seconds <= ?1 AND origin = ?2 AND written <= ?3 ORDER BY start LIMIT 1";
        let mut select = conn.prepare(sql)?;
        let mut rows = select.query(params![wall, Origin::Live as i64, clock])?;
        if let Some(row) = rows.next()? {
            return Ok(Due::Delete(row.get(0)?));
        }
        if coverage::is_seen(conn, day_of(wall), clock)? {
            return Ok(Due::Forget);
        }
    }
    let sql = "SELECT id FROM bucket WHERE start < ?1 AND seconds < ?2 AND (start < ?3 OR written <= ?4)
               ORDER BY start LIMIT ?5";
    let mut select = conn.prepare(sql)?;
    let values = params![day_of(old.wall), seconds, day_of(old.clock), old.clock, BUCKETS_AT_ONCE as i64];
    let found = select.query_map(values, |row| row.get(0))?;
    let found: Vec<_> = found.collect::<rusqlite::Result<_>>()?;
    Ok(if found.is_empty() { Due::Nothing } else { Due::Merge(found) })
}

/// The start of a time's UTC day: the days of what starts before have ended by then.
fn day_of(time: i64) -> i64 {
    time - time.rem_euclid(DAY_SECONDS.into())
}

/// Moves usage of these buckets into longer ones.
fn merge(conn: &Connection, buckets: &[i64], seconds: u32, old: Limits, rows: usize) -> Result<()> {
    let mut changes = Changes::new(conn, &BUCKETS)?;
    let mut left = rows;
    // What goes into a longer bucket at once is summed up first: it is written once.
    let mut moved: BTreeMap<_, (i64, Vec<_>)> = BTreeMap::new();
    for id in buckets {
        let mut from = changes.open_id(*id)?;
        let Interval { network, origin, span, written, .. } = from.interval;
        ensure!(old.merges(&from.interval, seconds), Damage(format!("bucket {id} is not in its place")));
        let into = span.widened(seconds);
        let usage = changes.take(&mut from, i64::MAX, left)?;
        let all = usage.len() < left;
        left -= usage.len();
        let (latest, rows) = moved.entry((network, origin)).or_default();
        *latest = written.max(*latest);
        rows.extend(usage.into_iter().map(|(pair, usage)| (into, pair, usage.within(span, into))));
        if !all {
            changes.close(from)?;
            break;
        }
        changes.remove(&from)?;
    }
    for ((network, origin), (written, mut rows)) in moved {
        changes.add_all(network, origin, written, &mut rows)?;
    }
    changes.seal()
}

/// Deletes usage of a day and of its buckets, by pairs: of each pair all or nothing. Says when the day ends.
fn delete(conn: &Connection, id: i64, too_old: Limits, rows: usize) -> Result<i64> {
    let (mut days, mut buckets) = (Changes::new(conn, &DAYS)?, Changes::new(conn, &BUCKETS)?);
    let mut day = days.open_id(id)?;
    let Interval { network, origin, span, .. } = day.interval;
    ensure!(too_old.deletes(&day.interval), Damage(format!("day {id} is not in its place")));
    let sql = "SELECT id FROM bucket WHERE start >= ?1 AND start < ?2 AND origin = ?3 AND network = ?4";
    let mut select = conn.prepare(sql)?;
    let ids = select.query_map(params![span.start, span.end(), origin, network], |row| row.get(0))?;
    let ids: Vec<i64> = ids.collect::<rusqlite::Result<_>>()?;
    let pairs = (rows / (ids.len() + 1)).max(1);
    let deleted = days.take(&mut day, i64::MAX, pairs)?;
    let rest = deleted.last().filter(|_| deleted.len() == pairs);
    for id in ids {
        let mut bucket = buckets.open_id(id)?;
        buckets.take(&mut bucket, rest.map_or(i64::MAX, |(pair, _)| *pair), usize::MAX)?;
        match rest {
            Some(_) => buckets.close(bucket)?,
            None => buckets.remove(&bucket)?,
        }
    }
    match rest {
        Some(_) => days.close(day)?,
        None => days.remove(&day)?,
    }
    buckets.seal()?;
    days.seal()?;
    Ok(span.end())
}
