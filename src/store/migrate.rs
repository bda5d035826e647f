//! Brings a database to the newest schema. Migrations are only ever appended; `PRAGMA user_version` says how many a
//! database has had, `PRAGMA application_id` that it is ztmon's.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rusqlite::Connection;

use super::history::History;
use super::level::{BUCKETS, DAYS, Interval};
use super::table::{BUCKET, BUCKET_2, Damage, IMPORT_2, Mark, TABLES, TABLES_2, Table};
use super::{blame, days, explain};

/// The SQL of a step, and what else has to be done.
type Migration = (&'static str, fn(&Connection) -> Result<()>);

const MIGRATIONS: &[Migration] = &[
    (include_str!("../../migrations/0001_start.sql"), |_| Ok(())),
    (include_str!("../../migrations/0002_checksums.sql"), seal_first),
    (include_str!("../../migrations/0003_history.sql"), begin_history),
];

/// The first version that has buckets of a length chosen.
const WITH_HISTORY: u32 = 3;

/// "ztmo" in ASCII.
const APPLICATION_ID: i64 = 0x7a74_6d6f;

/// How many migrations the database has had: fewer than [`newest`] if it is older, 0 if it is empty.
///
/// Refuses what is not ztmon's and what a newer ztmon wrote. Writes nothing.
pub fn version(conn: &Connection, path: &Path) -> Result<u32> {
    let sql = "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema),
                      (SELECT count(*) FROM sqlite_schema WHERE name IN ('endpoint', 'pair', 'usage', 'seal'))
               FROM pragma_application_id, pragma_user_version";
    let (id, version, tables, ours): (i64, i64, i64, i64) = conn
        .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .map_err(|error| explain(path, error))?;
    // What the tables are tells more than two numbers in the header.
    let expected = match version {
        0 => 0,
        1 => 3,
        _ => 4,
    };
    if ours >= 3 && (id != APPLICATION_ID || ours != expected) {
        return Err(blame(path, "", Damage("its header is not that of its tables".to_owned()).into()));
    }
    match id {
        APPLICATION_ID if version > newest().into() => {
            bail!("{} was written by a newer ztmon: upgrade this one, or give another --db", path.display())
        }
        APPLICATION_ID => Ok(version as u32),
        0 if tables == 0 => Ok(0),
        _ => bail!("{} is the database of another program: give another --db", path.display()),
    }
}

/// How many migrations the database says it has had, whoever made it.
pub fn version_of(conn: &Connection) -> Result<u32> {
    Ok(conn.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))? as u32)
}

/// The version that this ztmon reads and writes.
pub const fn newest() -> u32 {
    MIGRATIONS.len() as u32
}

/// Applies what is missing from `version` on, all of it or nothing. Buckets of a week ago will be `seconds` long, where
/// that is not settled yet.
pub fn run(conn: &mut Connection, version: u32, seconds: u32) -> Result<()> {
    let tx = conn.transaction()?;
    apply(&tx, version, newest())?;
    if version < WITH_HISTORY {
        History { seconds, ..History::read(&tx)? }.write(&tx)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", newest())?;
    Mark::advance(&tx)?;
    Ok(tx.commit()?)
}

/// The steps from one version to another.
fn apply(conn: &Connection, from: u32, to: u32) -> Result<()> {
    for (index, (sql, rest)) in MIGRATIONS.iter().enumerate().take(to as usize).skip(from as usize) {
        let step = conn.execute_batch(sql).map_err(anyhow::Error::from).and_then(|()| rest(conn));
        step.with_context(|| format!("migration {} failed", index + 1))?;
    }
    Ok(())
}

/// What usage sums to by endpoint and origin, times in whole seconds; of every version that has buckets. What is beyond has
/// no totals.
pub const MOVED: &str = "
    SELECT endpoint, origin, sum(sent * bytes) AS sent_bytes, sum((1 - sent) * bytes) AS received_bytes,
           sum(sent * packets) AS sent_packets, sum((1 - sent) * packets) AS received_packets,
           min(start + first / 1000000000) AS first_seen, max(start + last / 1000000000) AS last_seen
    FROM (SELECT pair.src AS endpoint, 1 AS sent, usage.*, bucket.start, min(bucket.origin, 1) AS origin
          FROM usage JOIN pair ON pair.id = usage.pair JOIN bucket ON bucket.id = usage.bucket
          UNION ALL
          SELECT pair.dst, 0, usage.*, bucket.start, min(bucket.origin, 1)
          FROM usage JOIN pair ON pair.id = usage.pair JOIN bucket ON bucket.id = usage.bucket)
    WHERE endpoint NOT IN (SELECT id FROM endpoint WHERE addr = 'beyond')
    GROUP BY endpoint, origin";

/// What those of its columns that are exact have to be in `total`.
const SUMS: &str = "endpoint, origin, sent_bytes, received_bytes, sent_packets, received_packets";

/// The first checksums make everything believed that stands there: only if it fits together.
fn seal_first(conn: &Connection) -> Result<()> {
    let says: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    let moved = format!("SELECT {SUMS} FROM ({MOVED})");
    let totals = format!("SELECT {SUMS} FROM total");
    let sql = format!(
        "SELECT count(*) FROM (SELECT * FROM ({moved} EXCEPT {totals}) UNION ALL SELECT * FROM ({totals} EXCEPT {moved}))"
    );
    let astray: i64 = conn.query_row(&sql, [], |row| row.get(0))?;
    if says != "ok" || astray > 0 {
        // Not the words for damage: there are no checksums by which a repair could tell what is sound.
        bail!(
            "{} is damaged, and of a version without checksums: {astray} totals are not the sums of the usage ({}); \
             restore a backup, or give another --db",
            conn.path().unwrap_or_default(),
            says.replace('\n', " ")
        );
    }
    BUCKETS.seal_usage(conn)?;
    TABLES_2.iter().try_for_each(|table| table.seal_anew(conn))
}

/// Tells the imports of the past apart, where no day has some of both, and makes the days of the usage that there is: it
/// has to be what was written.
fn begin_history(conn: &Connection) -> Result<()> {
    [&BUCKET_2, &IMPORT_2].iter().try_for_each(|table| table.scan(conn, |_| Ok(())))?;
    conn.execute_batch("INSERT INTO history (id, seconds, clock, checksum) VALUES (1, 3600, 0, 0)")?;
    conn.execute_batch(APART)?;
    begin_clock(conn)?;
    let as_before = |table: &Table| TABLES_2.iter().any(|old| (old.name, old.columns) == (table.name, table.columns));
    TABLES.iter().filter(|table| !as_before(table)).try_for_each(|table| table.seal_anew(conn))?;
    let mut buckets = Vec::new();
    BUCKET.scan(conn, |row| {
        buckets.push(Interval::read(row)?);
        Ok(())
    })?;
    days::make(conn, buckets)
}

const APART: &str = "
    CREATE TABLE apart AS
    SELECT id, since, until, sum(since >= before OR before IS NULL) OVER (ORDER BY since, id) AS origin
    FROM (SELECT id, since, until,
                 max(until) OVER (ORDER BY since, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
          FROM (SELECT id, first_seen - (first_seen % 86400 + 86400) % 86400 AS since,
                       last_seen - (last_seen % 86400 + 86400) % 86400 + 86400 AS until
                FROM import WHERE first_seen IS NOT NULL));
    UPDATE import SET origin = apart.origin FROM apart WHERE apart.id = import.id;
    CREATE TABLE days_apart AS SELECT origin, min(since) AS since, max(until) AS until FROM apart WHERE origin > 1 GROUP BY origin;
    UPDATE bucket SET origin = days_apart.origin
    FROM days_apart WHERE bucket.origin = 1 AND bucket.start >= days_apart.since AND bucket.start < days_apart.until;
    DROP TABLE apart;
    DROP TABLE days_apart;
";

/// All buckets, and what was seen, count as written when the last live one was, and from then on they grow older. Nothing is sealed.
pub fn begin_clock(conn: &Connection) -> Result<()> {
    let sql = "UPDATE history SET clock = coalesce((SELECT max(start + seconds) FROM bucket WHERE origin = 0), 0);
               UPDATE bucket SET written = (SELECT clock FROM history);
               UPDATE observed SET written = (SELECT clock FROM history);";
    Ok(conn.execute_batch(sql)?)
}

/// Gives everything its checksums, as it stands.
pub fn seal(conn: &Connection) -> Result<()> {
    [&BUCKETS, &DAYS].iter().try_for_each(|level| level.seal_usage(conn))?;
    TABLES.iter().try_for_each(|table| table.seal_anew(conn))
}

/// The tables, indexes and views of a version's schema: type, name and SQL.
pub fn schema(version: u32) -> Result<Vec<(String, String, String)>> {
    let fresh = Connection::open_in_memory()?;
    apply(&fresh, 0, version)?;
    objects(&fresh)
}

fn objects(conn: &Connection) -> Result<Vec<(String, String, String)>> {
    let sql = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// An error if the schema is not the newest one, or has triggers. Views and indexes that somebody added are welcome.
pub fn check_schema(conn: &Connection) -> Result<()> {
    let found = objects(conn)?;
    if let Some((_, name, _)) = schema(newest())?.iter().find(|object| !found.contains(object)) {
        bail!(Damage(format!("the definition of {name} is not what was written")));
    }
    if let Some((_, name, _)) = found.iter().find(|(kind, ..)| kind == "trigger") {
        bail!(Damage(format!("there is a trigger, {name}")));
    }
    Ok(())
}
