//! Brings a database to the newest schema. Migrations are only ever appended; `PRAGMA user_version` says how many a
//! database has had, `PRAGMA application_id` that it is ztmon's.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rusqlite::Connection;

use super::add::Usage;
use super::table::{Damage, Mark, Seal, TABLES, USAGE_COLUMNS};
use super::{blame, explain};

/// The SQL of a step, and what else has to be done.
type Migration = (&'static str, fn(&Connection) -> Result<()>);

const MIGRATIONS: &[Migration] = &[
    (include_str!("../../migrations/0001_start.sql"), |_| Ok(())),
    (include_str!("../../migrations/0002_checksums.sql"), seal_first),
];

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

/// Applies what is missing from `version` on, all of it or nothing.
pub fn run(conn: &mut Connection, version: u32) -> Result<()> {
    let tx = conn.transaction()?;
    for (index, (sql, rest)) in MIGRATIONS.iter().enumerate().skip(version as usize) {
        let step = tx.execute_batch(sql).map_err(anyhow::Error::from).and_then(|()| rest(&tx));
        step.with_context(|| format!("migration {} failed", index + 1))?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", newest())?;
    Mark::advance(&tx)?;
    Ok(tx.commit()?)
}

/// The first checksums make everything believed that stands there: only if it fits together.
fn seal_first(conn: &Connection) -> Result<()> {
    let says: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    let moved = "SELECT endpoint, origin, sum(sent * bytes) AS sent_bytes, sum((1 - sent) * bytes) AS received_bytes,
                        sum(sent * packets) AS sent_packets, sum((1 - sent) * packets) AS received_packets
                 FROM (SELECT pair.src AS endpoint, 1 AS sent, bucket.origin, usage.bytes, usage.packets
                       FROM usage JOIN pair ON pair.id = usage.pair JOIN bucket ON bucket.id = usage.bucket
                       UNION ALL
                       SELECT pair.dst, 0, bucket.origin, usage.bytes, usage.packets
                       FROM usage JOIN pair ON pair.id = usage.pair JOIN bucket ON bucket.id = usage.bucket)
                 WHERE endpoint NOT IN (SELECT id FROM endpoint WHERE addr = 'beyond')
                 GROUP BY endpoint, origin";
    let totals = "SELECT endpoint, origin, sent_bytes, received_bytes, sent_packets, received_packets FROM total";
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
    seal(conn)
}

/// Gives everything its checksums, as it stands.
pub fn seal(conn: &Connection) -> Result<()> {
    conn.execute_batch("UPDATE bucket SET usage_rows = 0, usage_checksum = 0")?;
    let mut usage = conn.prepare(&format!("SELECT bucket, {USAGE_COLUMNS} FROM usage ORDER BY bucket"))?;
    let mut update = conn.prepare("UPDATE bucket SET usage_rows = ?2, usage_checksum = ?3 WHERE id = ?1")?;
    let mut rows = usage.query([])?;
    let mut current: Option<(i64, Seal)> = None;
    loop {
        let row = rows.next()?;
        let id = row.map(|row| row.get(0)).transpose()?;
        if let Some((last, seal)) = current.filter(|(last, _)| Some(*last) != id) {
            update.execute([last, seal.rows, seal.checksum])?;
            current = None;
        }
        let (Some(row), Some(id)) = (row, id) else { break };
        let (_, seal) = current.get_or_insert((id, Seal { rows: 0, checksum: 0 }));
        *seal = seal.plus(1, Usage::read(row, 2)?.checksum(row.get(1)?));
    }
    TABLES.iter().try_for_each(|table| table.seal_anew(conn))
}

/// The tables, indexes and views of the newest schema: type, name and SQL.
pub fn schema() -> Result<Vec<(String, String, String)>> {
    let mut fresh = Connection::open_in_memory()?;
    run(&mut fresh, 0)?;
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
    if let Some((_, name, _)) = schema()?.iter().find(|object| !found.contains(object)) {
        bail!(Damage(format!("the definition of {name} is not what was written")));
    }
    if let Some((_, name, _)) = found.iter().find(|(kind, ..)| kind == "trigger") {
        bail!(Damage(format!("there is a trigger, {name}")));
    }
    Ok(())
}
