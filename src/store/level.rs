//! Usage by intervals, on two levels: buckets of minutes or hours, and days. What is said of one holds of the other.

use std::hash::Hash;

use anyhow::{Context, Result, bail};
use hashbrown::hash_map::Entry;
use hashbrown::{DefaultHashBuilder, HashMap};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, Statement, ToSql, params};

use super::table::{self, BUCKET, DAY, Damage, Puts, Seal, Table};
use crate::time::{Bucket, DAY_SECONDS, SECOND, Timestamp};
use crate::traffic::{Counts, Origin, Seen};

/// A table of intervals, and that of what each pair moved in each of them.
pub(super) struct Level {
    pub intervals: &'static Table,
    pub usage: &'static str,
    /// Its column that names the interval.
    pub key: &'static str,
}

pub(super) const BUCKETS: Level = Level { intervals: &BUCKET, usage: "usage", key: "bucket" };
pub(super) const DAYS: Level = Level { intervals: &DAY, usage: "day_usage", key: "day" };

/// The columns of usage that its checksum is over.
const COLUMNS: &str = "pair, bytes, packets, copies, first, last";

/// What a pair moved in an interval. Times are nanoseconds after the interval's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    pub bytes: i64,
    pub packets: i64,
    pub copies: i64,
    pub first: i64,
    pub last: i64,
}

impl Usage {
    /// The columns after `pair`, from `index` on.
    fn read(row: &Row, index: usize) -> rusqlite::Result<Self> {
        let column = |at| row.get(index + at);
        Ok(Usage { bytes: column(0)?, packets: column(1)?, copies: column(2)?, first: column(3)?, last: column(4)? })
    }

    /// As counts.
    pub(super) fn counts(&self) -> Result<Counts> {
        let count = |value: i64| u64::try_from(value).map_err(|_| Damage(format!("it holds a count of {value}")));
        Ok(Counts { bytes: count(self.bytes)?, packets: count(self.packets)?, copies: count(self.copies)? })
    }

    /// The times, in the interval that it is of.
    pub(super) fn seen(&self, span: Bucket) -> Seen {
        Seen { first: span.time(self.first), last: span.time(self.last) }
    }

    pub(super) fn plus(&self, other: Usage) -> Result<Usage> {
        let sum = |a: i64, b: i64| a.checked_add(b).context("a sum is too large for the database");
        Ok(Usage {
            bytes: sum(self.bytes, other.bytes)?,
            packets: sum(self.packets, other.packets)?,
            copies: sum(self.copies, other.copies)?,
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        })
    }

    /// The same in an interval that holds the one it is in.
    pub(super) fn within(self, from: Bucket, into: Bucket) -> Usage {
        let later = (from.start - into.start) * SECOND as i64;
        Usage { first: self.first + later, last: self.last + later, ..self }
    }
}

/// An interval's row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub id: i64,
    pub network: i64,
    /// 0 for what was captured live, else the import's.
    pub origin: i64,
    pub span: Bucket,
    /// What is known of its usage.
    pub usage: Seal,
    /// When it was last written to, by the history's clock.
    pub written: i64,
}

impl Interval {
    /// From a verified row.
    pub(super) fn read(row: &Row) -> Result<Self> {
        Ok(Interval {
            id: row.get(0)?,
            network: row.get(1)?,
            origin: row.get(2)?,
            span: Bucket { start: row.get(3)?, seconds: row.get(4)? },
            usage: Seal { rows: row.get(5)?, checksum: row.get(6)? },
            written: row.get(7)?,
        })
    }

    /// How its usage came into the database.
    pub(super) fn came(&self) -> Origin {
        if self.origin == Origin::Live as i64 { Origin::Live } else { Origin::Import }
    }

    /// The UTC day that it is in.
    pub(super) fn day(&self) -> Bucket {
        self.span.widened(DAY_SECONDS)
    }

    fn damaged(&self) -> Damage {
        Damage(format!("the usage from {} on is not what was written", Timestamp::new(self.span.start, 0)))
    }
}

impl Level {
    pub(super) fn checksum(&self, pair: i64, usage: &Usage) -> i64 {
        let Usage { bytes, packets, copies, first, last } = *usage;
        table::checksum_of_integers(self.usage, [pair, bytes, packets, copies, first, last])
    }

    /// Selects an interval's usage for [`Level::scan`].
    pub(super) fn select<'c>(&self, conn: &'c Connection) -> Result<Statement<'c>> {
        Ok(conn.prepare(&format!("SELECT {COLUMNS} FROM {} WHERE {} = ?1 ORDER BY pair", self.usage, self.key))?)
    }

    /// Gives `each` the usage of all pairs in an interval, by ascending pair. What came before an error is not to be
    /// believed.
    ///
    /// # Errors
    /// If it is not what was written, and with what `each` returns.
    pub(super) fn scan(
        &self,
        select: &mut Statement,
        interval: &Interval,
        mut each: impl FnMut(i64, Usage) -> Result<()>,
    ) -> Result<()> {
        let mut rows = select.query([interval.id])?;
        let mut found = Seal::NONE;
        while let Some(row) = rows.next()? {
            let (pair, usage) = (row.get(0)?, Usage::read(row, 1)?);
            found = found.plus(1, self.checksum(pair, &usage));
            each(pair, usage)?;
        }
        if found != interval.usage {
            bail!(interval.damaged());
        }
        Ok(())
    }

    /// Gives every interval the seal of its usage, whatever stands there.
    pub(super) fn seal_usage(&self, conn: &Connection) -> Result<()> {
        let Level { intervals, usage, key } = self;
        conn.execute_batch(&format!("UPDATE {} SET usage_rows = 0, usage_checksum = 0", intervals.name))?;
        let mut select = conn.prepare(&format!("SELECT {key}, {COLUMNS} FROM {usage} ORDER BY {key}"))?;
        let sql = format!("UPDATE {} SET usage_rows = ?2, usage_checksum = ?3 WHERE id = ?1", intervals.name);
        let mut update = conn.prepare(&sql)?;
        let mut rows = select.query([])?;
        let mut current: Option<(i64, Seal)> = None;
        loop {
            let row = rows.next()?;
            let id = row.map(|row| row.get(0)).transpose()?;
            if let Some((last, seal)) = current.filter(|(last, _)| Some(*last) != id) {
                update.execute([last, seal.rows, seal.checksum])?;
                current = None;
            }
            let (Some(row), Some(id)) = (row, id) else { return Ok(()) };
            let (_, seal) = current.get_or_insert((id, Seal::NONE));
            *seal = seal.plus(1, self.checksum(row.get(1)?, &Usage::read(row, 2)?));
        }
    }

    /// SQL that turns the rows of the table `from`, which has an interval and a pair in each, into usage; what a pair
    /// has already is added to.
    pub(super) fn add_sql(&self, from: &str) -> String {
        let Level { usage, key, .. } = self;
        format!(
            "INSERT INTO {usage} ({key}, {COLUMNS})
             SELECT {key}, pair, sum(bytes), sum(packets), sum(copies), min(first), max(last)
             FROM {from} WHERE true GROUP BY {key}, pair
             ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes, packets = packets + excluded.packets,
                 copies = copies + excluded.copies, first = min(first, excluded.first), last = max(last, excluded.last);"
        )
    }
}

/// Rows that are remembered of one kind: some 2 MiB.
pub(super) const REMEMBERED: usize = 16_384;

/// Remembers a row as it stands now: any that was remembered before, and another if there is room.
pub(super) fn remember<K: Hash, V>(known: Entry<'_, K, V, DefaultHashBuilder>, has_room: bool, now: V) {
    match known {
        Entry::Occupied(mut known) => *known.get_mut() = now,
        Entry::Vacant(place) if has_room => _ = place.insert(now),
        Entry::Vacant(_) => (),
    }
}

/// The interval of each network that was added to last, as it stands in the database.
#[derive(Debug, Default)]
pub(super) struct Recent(HashMap<i64, Open>);

/// Changes usage, interval by interval, and what each interval and the table of them say about it.
pub(super) struct Changes<'c> {
    level: &'static Level,
    find: CachedStatement<'c>,
    get: CachedStatement<'c>,
    select: CachedStatement<'c>,
    upsert: CachedStatement<'c>,
    update: CachedStatement<'c>,
    select_many: CachedStatement<'c>,
    delete: CachedStatement<'c>,
    puts: Puts<'c>,
    recent: Option<&'c mut Recent>,
}

/// An interval that is being changed.
#[derive(Debug)]
pub(super) struct Open {
    pub interval: Interval,
    /// The checksum of its row, if it has one.
    before: Option<i64>,
    /// What is remembered of its usage, by pair.
    usage: HashMap<i64, Usage>,
}

impl<'c> Changes<'c> {
    pub(super) fn new(conn: &'c Connection, level: &'static Level) -> Result<Self> {
        let Level { intervals, usage, key } = level;
        let find = format!(
            "SELECT id FROM {} WHERE start = ?1 AND seconds = ?2 AND origin = ?3 AND network = ?4",
            intervals.name
        );
        let select = format!("SELECT bytes, packets, copies, first, last FROM {usage} WHERE {key} = ?1 AND pair = ?2");
        let upsert = format!(
            "INSERT INTO {usage} ({key}, {COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET bytes = excluded.bytes, packets = excluded.packets,
                 copies = excluded.copies, first = excluded.first, last = excluded.last"
        );
        let update = format!(
            "UPDATE {usage} SET bytes = ?3, packets = ?4, copies = ?5, first = ?6, last = ?7
             WHERE {key} = ?1 AND pair = ?2"
        );
        let select_many =
            format!("SELECT {COLUMNS} FROM {usage} WHERE {key} = ?1 AND pair <= ?2 ORDER BY pair LIMIT ?3");
        let delete = format!("DELETE FROM {usage} WHERE {key} = ?1 AND pair <= ?2");
        Ok(Changes {
            level,
            find: conn.prepare_cached(&find)?,
            get: conn.prepare_cached(&intervals.select("WHERE id = ?1"))?,
            select: conn.prepare_cached(&select)?,
            upsert: conn.prepare_cached(&upsert)?,
            update: conn.prepare_cached(&update)?,
            select_many: conn.prepare_cached(&select_many)?,
            delete: conn.prepare_cached(&delete)?,
            puts: Puts::new(conn, intervals)?,
            recent: None,
        })
    }

    /// The same, which remembers in `recent` what it adds to.
    pub(super) fn recalling(conn: &'c Connection, level: &'static Level, recent: &'c mut Recent) -> Result<Self> {
        Ok(Changes { recent: Some(recent), ..Changes::new(conn, level)? })
    }

    /// Adds rows of (interval, pair, usage), in any order.
    pub(super) fn add_all(
        &mut self,
        network: i64,
        origin: i64,
        written: i64,
        rows: &mut [(Bucket, i64, Usage)],
    ) -> Result<()> {
        // In the order of the key each page is visited once, and so is each pair.
        rows.sort_unstable_by_key(|&(span, pair, _)| (span, pair));
        for rows in rows.chunk_by(|(one, ..), (other, ..)| one == other) {
            let mut open = self.open(network, origin, rows[0].0, written)?;
            for rows in rows.chunk_by(|(_, one, _), (_, other, _)| one == other) {
                let (_, pair, mut sum) = rows[0];
                for (.., more) in &rows[1..] {
                    sum = sum.plus(*more)?;
                }
                self.add(&mut open, pair, sum)?;
            }
            self.close(open)?;
        }
        Ok(())
    }

    /// Finds an interval or makes it; at `written` it is written to. One may be made at a time: it has no row before it
    /// is closed.
    pub(super) fn open(&mut self, network: i64, origin: i64, span: Bucket, written: i64) -> Result<Open> {
        let recent = self.recent.as_mut().and_then(|recent| recent.0.remove(&network));
        if let Some(mut open) = recent.filter(|open| (open.interval.origin, open.interval.span) == (origin, span)) {
            open.interval.written = open.interval.written.max(written);
            return Ok(open);
        }
        let key = params![span.start, span.seconds, origin, network];
        let found = self.find.query_row(key, |row| row.get(0)).optional()?;
        let Some(id) = found else {
            let id = self.puts.next_id()?;
            return Ok(Open {
                interval: Interval { id, network, origin, span, usage: Seal::NONE, written },
                before: None,
                usage: HashMap::new(),
            });
        };
        let mut open = self.open_id(id)?;
        if (open.interval.network, open.interval.origin, open.interval.span) != (network, origin, span) {
            bail!(Damage(format!("the index of {} leads to another row than {id}", self.level.intervals.name)));
        }
        open.interval.written = open.interval.written.max(written);
        Ok(open)
    }

    /// Opens one that there is.
    pub(super) fn open_id(&mut self, id: i64) -> Result<Open> {
        let table = self.level.intervals;
        let mut rows = self.get.query([id])?;
        let Some(row) = rows.next()? else { bail!(Damage(format!("row {id} of {} is missing", table.name))) };
        let before = Some(table.verify(row)?);
        Ok(Open { interval: Interval::read(row)?, before, usage: HashMap::new() })
    }

    /// Adds a pair's usage to an open interval: once while it is open.
    pub(super) fn add(&mut self, open: &mut Open, pair: i64, more: Usage) -> Result<()> {
        let Interval { id, usage: seal, .. } = open.interval;
        let has_room = self.recent.is_some() && open.usage.len() < REMEMBERED;
        let known = open.usage.entry(pair);
        let before = match (&known, open.before) {
            (Entry::Occupied(known), _) => Some(*known.get()),
            // One that is only being made has none.
            (Entry::Vacant(_), None) => None,
            (Entry::Vacant(_), Some(_)) => self.select.query_row([id, pair], |row| Usage::read(row, 0)).optional()?,
        };
        let usage = before.map_or(Ok(more), |before| before.plus(more))?;
        let Usage { bytes, packets, copies, first, last } = usage;
        let write = if before.is_some() { &mut self.update } else { &mut self.upsert };
        if write.execute([id, pair, bytes, packets, copies, first, last])? != 1 {
            bail!(open.interval.damaged());
        }
        remember(known, has_room, usage);
        let checksum = self.level.checksum(pair, &usage);
        open.interval.usage = match before {
            None => seal.plus(1, checksum),
            Some(before) => seal.plus(0, checksum.wrapping_sub(self.level.checksum(pair, &before))),
        };
        Ok(())
    }

    /// Takes out the usage of pairs up to `last`, of at most so many.
    pub(super) fn take(&mut self, open: &mut Open, last: i64, at_most: usize) -> Result<Vec<(i64, Usage)>> {
        let Interval { id, usage: seal, .. } = &mut open.interval;
        let mut taken = Vec::new();
        let mut rows = self.select_many.query(params![*id, last, i64::try_from(at_most).unwrap_or(i64::MAX)])?;
        while let Some(row) = rows.next()? {
            let (pair, usage) = (row.get(0)?, Usage::read(row, 1)?);
            *seal = seal.plus(-1, self.level.checksum(pair, &usage).wrapping_neg());
            taken.push((pair, usage));
        }
        drop(rows);
        if let Some((last, _)) = taken.last() {
            self.delete.execute([*id, *last])?;
        }
        Ok(taken)
    }

    /// Writes what the interval has now.
    pub(super) fn close(&mut self, open: Open) -> Result<()> {
        let Interval { id, network, origin, span, usage, written } = open.interval;
        let values: [&dyn ToSql; 8] =
            [&id, &network, &origin, &span.start, &span.seconds, &usage.rows, &usage.checksum, &written];
        let checksum = self.puts.put(open.before, &values)?;
        if let Some(recent) = &mut self.recent {
            recent.0.insert(network, Open { before: Some(checksum), ..open });
        }
        Ok(())
    }

    /// Takes out an interval that has no usage left.
    ///
    /// # Errors
    /// If what was taken out of it is not what was written.
    pub(super) fn remove(&mut self, open: &Open) -> Result<()> {
        match open.before {
            Some(before) if open.interval.usage == Seal::NONE => self.puts.remove(before, &[open.interval.id]),
            _ => bail!(open.interval.damaged()),
        }
    }

    pub(super) fn seal(self) -> Result<()> {
        self.puts.seal()
    }
}
