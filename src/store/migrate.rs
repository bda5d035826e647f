//! Brings a database to the newest schema. Migrations are only ever appended; `PRAGMA user_version` says how many a
//! database has had, `PRAGMA application_id` that it is ztmon's.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rusqlite::Connection;

use super::add::Usage;
use super::explain;
use super::table::{Seal, TABLES, USAGE_COLUMNS};

/// The SQL of a step, and what else has to be done.
type Migration = (&'static str, fn(&Connection) -> Result<()>);

const MIGRATIONS: &[Migration] = &[
    (include_str!("../../migrations/0001_start.sql"), |_| Ok(())),
    (include_str!("../../migrations/0002_checksums.sql"), seal),
];

/// "ztmo" in ASCII.
const APPLICATION_ID: i64 = 0x7a74_6d6f;

/// How many migrations the database has had: fewer than [`newest`] if it is older, 0 if it is empty.
///
/// Refuses what is not ztmon's and what a newer ztmon wrote. Writes nothing.
pub fn version(conn: &Connection, path: &Path) -> Result<u32> {
    let sql = "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
               FROM pragma_application_id, pragma_user_version";
    let (id, version, tables): (i64, u32, i64) = conn
        .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .map_err(|error| explain(path, error))?;
    match id {
        APPLICATION_ID if version > newest() => {
            bail!("{} was written by a newer ztmon: upgrade this one, or give another --db", path.display())
        }
        APPLICATION_ID => Ok(version),
        0 if tables == 0 => Ok(0),
        _ => bail!("{} is the database of another program: give another --db", path.display()),
    }
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
    Ok(tx.commit()?)
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
