//! Looking at the database, whoever else uses it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction};
use tempfile::TempDir;

use super::history::History;
use super::level::{BUCKETS, DAYS, Level};
use super::rows::{endpoint, rows};
use super::table::{ADDRESS_NAME, ASSIGNMENT, Damage, ENDPOINT, HISTORY, IMPORT, MEMBER, NETWORK, TOTAL};
use super::{Writer, blame, coverage, days, explain, log, migrate, resolve, seen, wal};
use crate::coverage::Observed;
use crate::time::{Bucket, Timestamp};
use crate::traffic::{Endpoint, Origin, Row};

/// Reads a database while a [`Writer`] writes it, after it stopped, or after it was killed.
///
/// It never writes the database, nor creates it. In a process that also has the writer, it goes before the writer, unless
/// that gave it away as a [snapshot](Writer::snapshot).
#[derive(Debug)]
pub struct Reader {
    pub(super) conn: Connection,
    pub(super) path: PathBuf,
    /// Opened as a file that nobody writes; see [`Reader::open`].
    immutable: bool,
    /// Where the copy is that is read, if not in its own place.
    _copy: Option<TempDir>,
}

impl Reader {
    /// Opens the database at `path`.
    ///
    /// # Errors
    /// If there is none, it is not ztmon's, another version of ztmon has to read it, or it may not be read.
    pub fn open(path: &Path) -> Result<Reader> {
        log::check_length(path)?;
        let path = resolve(path)?;
        // What a writer only just does looks different the next time.
        Reader::look(&path).or_else(|_| Reader::look(&path))
    }

    fn look(path: &Path) -> Result<Reader> {
        log::check(path)?;
        let mark = log::mark_without(path);
        let path = path.to_owned();
        let mut copy_of = None;
        let (conn, immutable) = match connect(&path, false) {
            Ok(conn) => (conn, false),
            // To read a database in WAL mode SQLite wants files beside it. Where it cannot make them, one that was
            // cleanly closed can be read without. With a -wal that would hide what has been committed to it.
            Err(error) if is_denied(&error) && !wal(&path).try_exists().unwrap_or(true) => {
                (connect(&path, true).map_err(|_| explain(&path, error))?, true)
            }
            // One that was not cleanly closed is read in a copy.
            Err(error) if is_denied(&error) => {
                let copied = copy(&path).and_then(|copy| Ok((connect(&copy.path().join(COPY), false)?, copy)));
                let (conn, kept) = copied.map_err(|_| explain(&path, error))?;
                copy_of = Some(kept);
                (conn, false)
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
        log::check_mark(&conn, mark).map_err(|error| blame(&path, "cannot read", error))?;
        let reader = Reader { conn, path, immutable, _copy: copy_of };
        reader.check_unwritten()?;
        Ok(reader)
    }

    /// Gives `each` the network's name, the interval and the row for all usage within `range` (seconds since the epoch)
    /// and of the given origin or of both, by ascending start of the interval. A pair has one row for each interval and
    /// import, and one for what was captured live. What is on either side of a cut is never in one row: `next_cut` says which is the first after a second,
    /// if there is one. UTC days without a cut come as one interval, others by the buckets that they are kept in.
    ///
    /// All rows are of one moment; their usage is read one at a time. What came before an error is not to be believed.
    ///
    /// # Errors
    /// If the database cannot be read, is damaged, or keeps a bucket that has a cut in it; and with what `each` returns.
    pub fn rows(
        &self,
        origin: Option<Origin>,
        range: Range<Option<i64>>,
        mut next_cut: impl FnMut(i64) -> Option<i64>,
        each: impl FnMut(&str, Bucket, Row) -> Result<()>,
    ) -> Result<()> {
        self.read(|conn| rows(conn, origin, range, Some(&mut next_cut), each))
    }

    /// The same without cuts, every bucket as it is kept.
    ///
    /// # Errors
    /// As [`Reader::rows`], if a bucket begins before the range and ends within it, or the other way round.
    pub fn buckets(
        &self,
        origin: Option<Origin>,
        range: Range<Option<i64>>,
        each: impl FnMut(&str, Bucket, Row) -> Result<()>,
    ) -> Result<()> {
        self.read(|conn| rows(conn, origin, range, None, each))
    }

    /// Gives `each` the network's name and when it was first seen for every end that ever moved something, of the given
    /// origin or of both. An end has one for each MAC and origin.
    ///
    /// # Errors
    /// If the database cannot be read or is damaged.
    pub fn first_seen(&self, origin: Option<Origin>, each: impl FnMut(&str, Endpoint, Timestamp)) -> Result<()> {
        self.read(|conn| first_seen(conn, origin, each))
    }

    /// The names of all networks: the id, or what they are called as long as nobody knows it.
    ///
    /// # Errors
    /// If the database cannot be read or is damaged.
    pub fn networks(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        self.read(|conn| {
            NETWORK.scan(conn, |row| {
                names.push(row.get(1)?);
                Ok(())
            })
        })?;
        Ok(names)
    }

    /// Gives `each` the network's name, the start and what was seen of all five minutes that `serve` captured in, by
    /// ascending start.
    ///
    /// # Errors
    /// If the database cannot be read or is damaged. What came before is not to be believed then.
    pub fn observed(&self, each: impl FnMut(&str, i64, &Observed)) -> Result<()> {
        self.read(|conn| coverage::scan(conn, each))
    }

    /// Since when there is live usage, if what was before has been deleted.
    ///
    /// # Errors
    /// If the database cannot be read or is damaged.
    pub fn live_from(&self) -> Result<Option<Timestamp>> {
        let history = self.read(History::read)?;
        Ok(history.live_from.map(|seconds| Timestamp::new(seconds, 0)))
    }

    /// Reads everything and verifies it.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn check(&self) -> Result<()> {
        self.read(verify)
    }

    /// What `look` finds, all of one moment: rows and the seal over them are read one after the other.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let _now = self.moment()?;
        let found = look(&self.conn).map_err(|error| blame(&self.path, "cannot read", error))?;
        self.check_unwritten()?;
        Ok(found)
    }

    /// What is read while this lives is of one moment, that of the first look; of a snapshot all is. As long as it lives,
    /// the log beside the database grows.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn moment(&self) -> Result<Option<Transaction<'_>>> {
        Ok(self.conn.is_autocommit().then(|| self.conn.unchecked_transaction()).transpose()?)
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What was read without SQLite's locks is right only if no writer came meanwhile.
    pub(super) fn check_unwritten(&self) -> Result<()> {
        let unwritten = !self.immutable || !wal(&self.path).try_exists().unwrap_or(true);
        ensure!(unwritten, "{} is written to just now: try again", self.path.display());
        Ok(())
    }
}

impl Writer {
    /// All that is committed now, for another thread. As long as it lives, the log beside the database grows.
    ///
    /// # Errors
    /// Within a transaction, or if the database cannot be read.
    pub fn snapshot(&self) -> Result<Reader> {
        ensure!(self.conn.is_autocommit(), "a transaction is open on {}", self.path.display());
        // By SQLite alone: closing a file that it has open in this process would give up the locks that it holds.
        let open = || -> Result<Connection> {
            let conn = connect(&self.path, false)?;
            conn.execute_batch("BEGIN")?;
            // It begins with the first look.
            conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            Ok(conn)
        };
        let conn = open().map_err(|error| self.reading(error))?;
        Ok(Reader { conn, path: self.path.clone(), immutable: false, _copy: None })
    }
}

/// [`Reader::first_seen`] of a connection with a transaction open.
fn first_seen(
    conn: &Connection,
    origin: Option<Origin>,
    mut each: impl FnMut(&str, Endpoint, Timestamp),
) -> Result<()> {
    let mut networks = HashMap::new();
    NETWORK.scan(conn, |row| {
        networks.insert(row.get::<_, i64>(0)?, row.get::<_, String>(1)?);
        Ok(())
    })?;
    let mut ends = HashMap::new();
    ENDPOINT.scan(conn, |row| {
        ends.insert(row.get::<_, i64>(0)?, (row.get::<_, i64>(1)?, endpoint(row, 2)?));
        Ok(())
    })?;
    TOTAL.scan(conn, |row| {
        let (id, of): (i64, i64) = (row.get(0)?, row.get(1)?);
        if origin.is_none_or(|origin| origin as i64 == of) {
            let (network, endpoint) = ends.get(&id).ok_or_else(|| Damage(format!("endpoint {id} has no row")))?;
            let name = networks.get(network).ok_or_else(|| Damage(format!("network {network} has no row")))?;
            each(name, *endpoint, seen(row, 6)?.first);
        }
        Ok(())
    })
}

/// Opens the database and reads its first page, as only then SQLite opens the files beside it; or, `immutable`, without
/// them.
pub(super) fn connect(path: &Path, immutable: bool) -> rusqlite::Result<Connection> {
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

/// Whether SQLite failed to open what it wants beside the database: it may not, or the disk is full.
fn is_denied(error: &rusqlite::Error) -> bool {
    use ErrorCode::{CannotOpen, DiskFull, PermissionDenied, ReadOnly, SystemIoFailure};
    let code = error.sqlite_error_code();
    matches!(code, Some(CannotOpen | DiskFull | PermissionDenied | ReadOnly | SystemIoFailure))
}

/// The name of a copy in its directory.
const COPY: &str = "copy.db";

/// Copies a database that nobody writes, with its log, to `$TMPDIR` or /tmp.
fn copy(path: &Path) -> Result<TempDir> {
    let original = File::open(path)?;
    original.try_lock_shared()?;
    let place = tempfile::tempdir()?;
    let copy = place.path().join(COPY);
    fs::copy(path, &copy)?;
    fs::copy(wal(path), wal(&copy))?;
    Ok(place)
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

/// Reads everything and verifies it, by ztmon's checksums and by SQLite's rules.
pub(super) fn verify(conn: &Connection) -> Result<()> {
    rows(conn, None, None..None, Some(&mut |_| None), |_, _, _| Ok(()))?;
    days::check(conn)?;
    coverage::scan(conn, |_, _, _| ())?;
    for table in [&TOTAL, &IMPORT, &HISTORY, &MEMBER, &ASSIGNMENT, &ADDRESS_NAME] {
        table.scan(conn, |_| Ok(()))?;
    }
    // Rows of usage without a bucket would show nowhere.
    for Level { intervals, usage, key } in [&BUCKETS, &DAYS] {
        let astray = format!("SELECT count(*) FROM {usage} WHERE {key} NOT IN (SELECT id FROM {})", intervals.name);
        let astray: i64 = conn.query_row(&astray, [], |row| row.get(0))?;
        ensure!(astray == 0, Damage(format!("{usage} without a {key}")));
    }
    migrate::check_schema(conn)?;
    let says: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    ensure!(says == "ok", Damage(says.replace('\n', " ")));
    Ok(())
}
