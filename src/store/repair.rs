//! Saving what is sound of a damaged database.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::add::FORGOTTEN;
use super::fresh::{self, Fresh};
use super::level::{BUCKETS, Interval, Usage};
use super::migrate::MOVED;
use super::read::connect;
use super::table::{BUCKET, DAY, HISTORY, Seal, TABLES, TABLES_2, Table};
use super::{Reader, Writer, days, log, migrate, resolve, shm, wal};
use crate::time::Timestamp;

/// What every database of ztmon begins with: SQLite's magic, pages of 4 KiB, WAL mode and fixed values. Behind it are
/// mended: the number of pages (0 is as many as there are), the schema's format, and the encoding, UTF-8.
const HEADER: &[u8; 24] = b"SQLite format 3\0\x10\0\x02\x02\0\x40\x20\x20";

/// What a repair did.
#[derive(Debug, Default)]
pub struct Repaired {
    /// Rows that were saved, by table.
    pub kept: Vec<(&'static str, u64)>,
    /// What was not, in words.
    pub lost: Vec<String>,
}

/// Writes what verifies of the database at `path` into a new one at `into`. The old one stays as it is.
///
/// Where a source or a destination is lost, its usage is kept as that of other addresses. Lifetime totals that are lost are
/// those of the usage that is kept.
///
/// # Errors
/// If a writer has the database, nothing of it can be read, or there is something at `into`.
pub fn repair(path: &Path, into: &Path) -> Result<Repaired> {
    let path = resolve(path)?;
    let fresh = Fresh::new(into)?;
    let original = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(original.try_lock_shared().is_ok(), "{} is in use by another ztmon: stop it first", path.display());
    let writing = || Fresh::writing(into);
    let damaged = fresh.path(fresh::DAMAGED);
    fs::copy(&path, &damaged).with_context(writing)?;
    if wal(&path).try_exists()? {
        fs::copy(wal(&path), wal(&damaged)).with_context(writing)?;
    }
    let file = fs::OpenOptions::new().write(true).open(&damaged)?;
    for (offset, bytes) in [(0, &HEADER[..]), (28, &[0; 4]), (44, &[0, 0, 0, 4]), (56, &[0, 0, 0, 1])] {
        file.write_all_at(bytes, offset)?;
    }
    drop(file);
    let mark = log::mark_without(&damaged);
    // Read only: another connection would take the log over when it is closed.
    let stale = connect(&damaged, false).is_ok_and(|conn| log::check_mark(&conn, mark).is_err());
    if stale {
        [wal(&damaged), shm(&damaged)].iter().for_each(|file| drop(fs::remove_file(file)));
    }
    let nothing = || format!("nothing of {} can be saved", path.display());
    let open = || -> Result<Connection> {
        let conn = Connection::open(&damaged)?;
        // Lets SQLite pass over what it cannot read.
        conn.pragma_update(None, "writable_schema", true)?;
        Ok(conn)
    };
    let version = open().and_then(|conn| migrate::version_of(&conn)).with_context(nothing)?;
    ensure!(
        version != 1,
        "{} is of a version without checksums: restore a backup, or give another --db",
        path.display()
    );
    // A version that is far off is no version.
    let newer = (migrate::newest() + 1..migrate::newest() + 1000).contains(&version);
    ensure!(!newer, "{} was written by a newer ztmon: repair it with that one", path.display());
    let version = if (2..migrate::newest()).contains(&version) { version } else { migrate::newest() };
    open().and_then(|conn| mend_schema(&conn, version)).with_context(nothing)?;
    let old = open().with_context(nothing)?;
    let new = fresh.path(fresh::NEW);
    let mut writer = Writer::open(&new)?;
    let mut repaired = save(&old, version, &mut writer).with_context(nothing)?;
    if let Some(frame) = log::gap(&path)? {
        repaired.lost.push(format!("what was committed after frame {frame} of {}", wal(&path).display()));
    } else if stale {
        repaired.lost.push(format!("{}: it is of an earlier time, or another database's", wal(&path).display()));
    }
    drop(writer);
    Reader::open(&new)?.check().context("what was saved does not verify")?;
    fresh.keep(&new, &original)?;
    Ok(repaired)
}

/// The schema is the same in every database: where its text is damaged, and its name is not, it is written anew.
fn mend_schema(conn: &Connection, version: u32) -> Result<()> {
    let sql = "UPDATE sqlite_schema SET type = ?1, tbl_name = CASE ?1 WHEN 'index' THEN tbl_name ELSE ?2 END, sql = ?3
               WHERE name = ?2 AND (type, sql) IS NOT (?1, ?3)";
    for (kind, name, text) in migrate::schema(version)? {
        conn.execute(sql, [kind, name, text])?;
    }
    Ok(())
}

fn save(old: &Connection, version: u32, writer: &mut Writer) -> Result<Repaired> {
    let mut repaired = Repaired::default();
    // What hangs in the air is seen to before the end.
    writer.conn.pragma_update(None, "foreign_keys", false)?;
    let new = writer.conn.transaction()?;
    // Days are made of the buckets that are kept.
    let tables = if version == 2 { &TABLES_2[..] } else { &TABLES };
    for table in tables.iter().filter(|table| table.name != DAY.name) {
        if table.name == HISTORY.name {
            new.execute_batch("DELETE FROM history")?;
        }
        let kept = copy(old, &new, table)?;
        if !table.seal(old).is_ok_and(|seal| seal == kept) {
            let rows = kept.rows;
            repaired.lost.push(match table.name {
                "import" => "imports: a file that was imported may be imported again".to_owned(),
                "history" => "since when there is live usage, and how long each is to be kept".to_owned(),
                name => format!("rows of {name}: {rows} are kept, others may be lost, or of an earlier time"),
            });
        }
        repaired.kept.push((table.name, kept.rows as u64));
    }
    let usage = copy_usage(old, &new, &mut repaired.lost)?;
    repaired.kept.push(("usage", usage));
    let sql = "INSERT OR IGNORE INTO history (id, seconds, clock, checksum)
               SELECT 1, coalesce(min(seconds), 3600), 0, 0 FROM bucket WHERE seconds IN (900, 1800, 3600)";
    if new.execute(sql, [])? > 0 || version == 2 {
        migrate::begin_clock(&new)?;
    }
    adopt_orphans(&new)?;
    BUCKETS.seal_usage(&new)?;
    days::make(&new, buckets(&new)?)?;
    migrate::seal(&new)?;
    new.commit()?;
    Ok(repaired)
}

/// The buckets that have been saved, as they stand.
fn buckets(new: &Connection) -> Result<Vec<Interval>> {
    let mut select = new.prepare(&BUCKET.select("ORDER BY start"))?;
    let mut rows = select.query([])?;
    let mut buckets = Vec::new();
    while let Some(row) = rows.next()? {
        buckets.push(Interval::read(row)?);
    }
    Ok(buckets)
}

/// Copies the rows that verify, as far as they can be reached from either end of the table. Says how many, and the sum
/// of their checksums.
fn copy(old: &Connection, new: &Connection, table: &Table) -> Result<Seal> {
    let columns = table.columns.len() + 1;
    let places: Vec<_> = (1..=columns).map(|at| format!("?{at}")).collect();
    let names = table.columns.join(", ");
    let sql = format!("INSERT OR IGNORE INTO {} ({names}, checksum) VALUES ({})", table.name, places.join(", "));
    let mut insert = new.prepare(&sql)?;
    let mut kept = Seal { rows: 0, checksum: 0 };
    for order in ["", "DESC"] {
        // What cannot be read ends a scan; what lies behind it is met from the other end.
        let Ok(mut statement) = old.prepare(&table.select(&format!("ORDER BY {} {order}", table.columns[0]))) else {
            continue;
        };
        let Ok(mut rows) = statement.query([]) else { continue };
        while let Ok(Some(row)) = rows.next() {
            if let Ok(checksum) = table.verify(row) {
                let values = (0..columns).map(|at| row.get::<_, Value>(at)).collect::<Result<Vec<_>, _>>()?;
                if insert.execute(params_from_iter(values))? > 0 {
                    kept = kept.plus(1, checksum);
                }
            }
        }
    }
    Ok(kept)
}

/// Copies the usage of the buckets that verify, and takes the others out. Says how many rows.
fn copy_usage(old: &Connection, new: &Connection, lost: &mut Vec<String>) -> Result<u64> {
    let sql =
        "INSERT INTO usage (bucket, pair, bytes, packets, copies, first, last) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let mut insert = new.prepare(sql)?;
    let mut select = BUCKETS.select(old)?;
    let mut remove = new.prepare("DELETE FROM bucket WHERE id = ?1")?;
    let mut kept = 0;
    for bucket in buckets(new)? {
        let mut found = Vec::new();
        let scanned = BUCKETS.scan(&mut select, &bucket, |pair, usage| {
            found.push((pair, usage));
            Ok(())
        });
        if scanned.is_ok() {
            for (pair, Usage { bytes, packets, copies, first, last }) in found {
                insert.execute([bucket.id, pair, bytes, packets, copies, first, last])?;
                kept += 1;
            }
        } else {
            let (from, until) = (Timestamp::new(bucket.span.start, 0), Timestamp::new(bucket.span.end(), 0));
            lost.push(format!("the usage from {from} to {until} ({} rows)", bucket.usage.rows));
            remove.execute([bucket.id])?;
        }
    }
    Ok(kept)
}

/// Gives what refers to lost rows something to refer to. Totals that are lost, or of an earlier time, become the sums of
/// the usage; none is ever below them.
fn adopt_orphans(new: &Connection) -> Result<()> {
    let sql = format!(
        "INSERT INTO network (id, name)
         SELECT DISTINCT network, 'network-' || network FROM (SELECT network FROM endpoint UNION SELECT network FROM bucket
                                         UNION SELECT network FROM observed)
         WHERE network NOT IN (SELECT id FROM network);
         DELETE FROM total WHERE endpoint NOT IN (SELECT id FROM endpoint);
         DELETE FROM member WHERE network NOT IN (SELECT id FROM network);
         DELETE FROM assignment WHERE member NOT IN (SELECT id FROM member);
         CREATE TEMP TABLE orphan AS
         SELECT bucket.network, src.id AS src, dst.id AS dst, usage.*
         FROM usage JOIN bucket ON bucket.id = usage.bucket
         LEFT JOIN pair ON pair.id = usage.pair
         LEFT JOIN endpoint src ON src.id = pair.src LEFT JOIN endpoint dst ON dst.id = pair.dst
         WHERE src.id IS NULL OR dst.id IS NULL;
         INSERT OR IGNORE INTO endpoint (network, addr, mac) SELECT DISTINCT network, '{FORGOTTEN}', '' FROM orphan;
         UPDATE orphan SET src = coalesce(src, stranger.id), dst = coalesce(dst, stranger.id)
         FROM endpoint stranger WHERE stranger.network = orphan.network AND stranger.addr = '{FORGOTTEN}';
         DELETE FROM usage WHERE (bucket, pair) IN (SELECT bucket, pair FROM orphan);
         DELETE FROM pair WHERE src NOT IN (SELECT id FROM endpoint) OR dst NOT IN (SELECT id FROM endpoint);
         INSERT OR IGNORE INTO pair (src, dst) SELECT DISTINCT src, dst FROM orphan;
         CREATE TEMP TABLE adopted AS
         SELECT bucket, pair.id AS pair, bytes, packets, copies, first, last
         FROM orphan JOIN pair ON pair.src = orphan.src AND pair.dst = orphan.dst;
         {}
         DROP TABLE adopted;
         DROP TABLE orphan;
         INSERT INTO total (endpoint, origin, sent_bytes, received_bytes, sent_packets, received_packets,
                            first_seen, first_ns, last_seen, last_ns)
         SELECT endpoint, origin, sent_bytes, received_bytes, sent_packets, received_packets, first_seen, 0, last_seen, 0
         FROM ({MOVED}) WHERE true
         ON CONFLICT DO UPDATE SET
             sent_bytes = max(sent_bytes, excluded.sent_bytes),
             received_bytes = max(received_bytes, excluded.received_bytes),
             sent_packets = max(sent_packets, excluded.sent_packets),
             received_packets = max(received_packets, excluded.received_packets);",
        BUCKETS.add_sql("adopted")
    );
    Ok(new.execute_batch(&sql)?)
}
