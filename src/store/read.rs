//! Looking at the database, whoever else uses it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{count, explain, migrate, resolve, time_at, wal};
use crate::traffic::{Counts, Endpoint, Origin, Row, Seen};

/// Reads a database while a [`Writer`](super::Writer) writes it, after it stopped, or after it was killed.
///
/// It never writes the database, nor creates it. In a process that also has the writer, it goes before the writer.
#[derive(Debug)]
pub struct Reader {
    conn: Connection,
    path: PathBuf,
    /// Opened as a file that nobody writes; see [`Reader::open`].
    immutable: bool,
}

impl Reader {
    /// Opens the database at `path`.
    ///
    /// # Errors
    /// If there is none, it is not ztmon's, another version of ztmon has to read it, or it may not be read.
    pub fn open(path: &Path) -> Result<Reader> {
        let path = resolve(path)?;
        let (conn, immutable) = match connect(&path, false) {
            Ok(conn) => (conn, false),
            // To read a database in WAL mode SQLite wants files beside it. Where it cannot make them, one that was
            // cleanly closed can be read without. With a -wal that would hide what has been committed to it.
            Err(error) if is_denied(&error) && !wal(&path).try_exists().unwrap_or(true) => {
                (connect(&path, true).map_err(|_| explain(&path, error))?, true)
            }
            Err(error) => return Err(explain(&path, error)),
        };
        let version = migrate::version(&conn, &path)?;
        ensure!(version > 0, "{} is empty: let serve or replay --db fill it first", path.display());
        ensure!(
            version == migrate::newest(),
            "{} was written by an older ztmon: start serve or replay --db on it once",
            path.display()
        );
        let reader = Reader { conn, path, immutable };
        reader.check_unwritten()?;
        Ok(reader)
    }

    /// Gives `each` the network's name, the bucket's start and the row for all usage with `since <= bucket < until`
    /// (seconds since the epoch) and of the given origin or of both, by ascending bucket. A pair has one row for
    /// each bucket and origin. All rows are of one moment; they are read one at a time.
    ///
    /// # Errors
    /// If the database cannot be read, and with what `each` returns.
    pub fn rows(
        &self,
        origin: Option<Origin>,
        Range { start: since, end: until }: Range<Option<i64>>,
        mut each: impl FnMut(&str, i64, Row) -> Result<()>,
    ) -> Result<()> {
        // CROSS: the usage leads, so that its order is that of its key and nothing is sorted.
        let sql = "SELECT usage.bucket, usage.bytes, usage.packets, usage.copies, usage.first, usage.last,
                          s.addr, s.mac, d.addr, d.mac, network.name
                   FROM usage
                   CROSS JOIN pair ON pair.id = usage.pair
                   CROSS JOIN endpoint AS s ON s.id = pair.src
                   CROSS JOIN endpoint AS d ON d.id = pair.dst
                   CROSS JOIN network ON network.id = s.network
                   WHERE usage.bucket >= ?1 AND usage.bucket < ?2 AND (?3 IS NULL OR usage.origin = ?3)
                   ORDER BY usage.bucket, usage.origin, usage.pair";
        let reading = || format!("cannot read {}", self.path.display());
        let mut statement = self.conn.prepare(sql).with_context(reading)?;
        let bounds = (since.unwrap_or(i64::MIN), until.unwrap_or(i64::MAX), origin.map(|origin| origin as i64));
        let mut rows = statement.query(bounds).with_context(reading)?;
        while let Some(row) = rows.next().with_context(reading)? {
            let (bucket, usage) = usage(row).with_context(reading)?;
            each(row.get_ref(10)?.as_str()?, bucket, usage)?;
        }
        self.check_unwritten()
    }

    /// The names of all networks, sorted.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn networks(&self) -> Result<Vec<String>> {
        let read = || -> rusqlite::Result<_> {
            self.conn.prepare("SELECT name FROM network ORDER BY name")?.query_map([], |row| row.get(0))?.collect()
        };
        let networks = read().with_context(|| format!("cannot read {}", self.path.display()))?;
        self.check_unwritten()?;
        Ok(networks)
    }

    /// What was read without SQLite's locks is right only if no writer came meanwhile.
    fn check_unwritten(&self) -> Result<()> {
        let unwritten = !self.immutable || !wal(&self.path).try_exists().unwrap_or(true);
        ensure!(unwritten, "{} is written to just now: try again", self.path.display());
        Ok(())
    }
}

/// Opens the database and reads its first page, as only then SQLite opens the files beside it.
fn connect(path: &Path, immutable: bool) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = if immutable {
        Connection::open_with_flags(immutable_uri(path), flags | OpenFlags::SQLITE_OPEN_URI)?
    } else {
        Connection::open_with_flags(path, flags)?
    };
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(conn)
}

fn is_denied(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied))
}

/// The URI of a file that nobody writes. Every byte that is not plainly part of a path is escaped.
fn immutable_uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(byte.into()),
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri + "?immutable=1"
}

/// The bucket and the row that stand in the first ten columns.
fn usage(row: &rusqlite::Row) -> Result<(i64, Row)> {
    let bucket = row.get(0)?;
    let counts = Counts { bytes: count(row, 1)?, packets: count(row, 2)?, copies: count(row, 3)? };
    let seen = Seen { first: time_at(bucket, row.get(4)?), last: time_at(bucket, row.get(5)?) };
    Ok((bucket, Row { src: endpoint(row, 6)?, dst: endpoint(row, 8)?, counts, seen }))
}

/// The endpoint whose address and MAC stand in the columns from `index` on.
fn endpoint(row: &rusqlite::Row, index: usize) -> Result<Endpoint> {
    let (addr, mac) = (row.get_ref(index)?.as_str()?, row.get_ref(index + 1)?.as_str()?);
    let parse = || -> Result<Endpoint, String> {
        Ok(Endpoint { end: addr.parse()?, mac: if mac.is_empty() { None } else { Some(mac.parse()?) } })
    };
    parse().map_err(|error| anyhow!("it is damaged: {error}"))
}
