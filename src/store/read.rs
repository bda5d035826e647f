//! Looking at the database, whoever else uses it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tempfile::TempDir;

use super::add::{FORGOTTEN, UNLISTED, Usage};
use super::table::{BUCKET, Damage, ENDPOINT, IMPORT, NETWORK, PAIR, Seal, TOTAL, USAGE_COLUMNS};
use super::{blame, explain, log, migrate, resolve, seen, time_at, wal};
use crate::time::{Bucket, Timestamp};
use crate::traffic::{Counts, End, Endpoint, Origin, Row, Seen};

/// Reads a database while a [`Writer`](super::Writer) writes it, after it stopped, or after it was killed.
///
/// It never writes the database, nor creates it. In a process that also has the writer, it goes before the writer.
#[derive(Debug)]
pub struct Reader {
    conn: Connection,
    path: PathBuf,
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

    /// Gives `each` the network's name, the bucket and the row for all usage within `since` and `until` (seconds since
    /// the epoch) and of the given origin or of both, by ascending bucket. A pair has one row for each bucket and
    /// origin. All rows are of one moment; their usage is read one at a time. What came before an error is not to be
    /// believed.
    ///
    /// # Errors
    /// If the database cannot be read, is damaged, or keeps a bucket that a bound would cut; and with what `each` returns.
    pub fn rows(
        &self,
        origin: Option<Origin>,
        range: Range<Option<i64>>,
        each: impl FnMut(&str, Bucket, Row) -> Result<()>,
    ) -> Result<()> {
        let now = self.conn.unchecked_transaction()?;
        rows(&now, origin, range, each).map_err(|error| blame(&self.path, "cannot read", error))?;
        self.check_unwritten()
    }

    /// Gives `each` the network's name and when it was first seen for every end that ever moved something, of the given
    /// origin or of both. An end has one for each MAC and origin.
    ///
    /// # Errors
    /// If the database cannot be read or is damaged.
    pub fn first_seen(&self, origin: Option<Origin>, mut each: impl FnMut(&str, End, Timestamp)) -> Result<()> {
        let now = self.conn.unchecked_transaction()?;
        let mut read = || -> Result<()> {
            let mut networks = HashMap::new();
            NETWORK.scan(&now, |row| {
                networks.insert(row.get::<_, i64>(0)?, row.get::<_, String>(1)?);
                Ok(())
            })?;
            let mut ends = HashMap::new();
            ENDPOINT.scan(&now, |row| {
                ends.insert(row.get::<_, i64>(0)?, (row.get::<_, i64>(1)?, endpoint(row, 2)?.end));
                Ok(())
            })?;
            TOTAL.scan(&now, |row| {
                let (id, of): (i64, i64) = (row.get(0)?, row.get(1)?);
                if origin.is_none_or(|origin| origin as i64 == of) {
                    let (network, end) = ends.get(&id).ok_or_else(|| Damage(format!("endpoint {id} has no row")))?;
                    let name = networks.get(network).ok_or_else(|| Damage(format!("network {network} has no row")))?;
                    each(name, *end, seen(row, 6)?.first);
                }
                Ok(())
            })
        };
        read().map_err(|error| blame(&self.path, "cannot read", error))?;
        self.check_unwritten()
    }

    /// Reads everything and verifies it.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn check(&self) -> Result<()> {
        let now = self.conn.unchecked_transaction()?;
        verify(&now).map_err(|error| blame(&self.path, "cannot read", error))?;
        self.check_unwritten()
    }

    /// What was read without SQLite's locks is right only if no writer came meanwhile.
    fn check_unwritten(&self) -> Result<()> {
        let unwritten = !self.immutable || !wal(&self.path).try_exists().unwrap_or(true);
        ensure!(unwritten, "{} is written to just now: try again", self.path.display());
        Ok(())
    }
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
    rows(conn, None, None..None, |_, _, _| Ok(()))?;
    for table in [&TOTAL, &IMPORT] {
        table.scan(conn, |_| Ok(()))?;
    }
    // Rows of usage without a bucket would show nowhere.
    let astray = "SELECT count(*) FROM usage WHERE bucket NOT IN (SELECT id FROM bucket)";
    ensure!(conn.query_row(astray, [], |row| row.get::<_, i64>(0))? == 0, Damage("usage without a bucket".to_owned()));
    migrate::check_schema(conn)?;
    let says: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    ensure!(says == "ok", Damage(says.replace('\n', " ")));
    Ok(())
}

/// [`Reader::rows`] of a connection with a transaction open.
fn rows(
    conn: &Connection,
    origin: Option<Origin>,
    range: Range<Option<i64>>,
    mut each: impl FnMut(&str, Bucket, Row) -> Result<()>,
) -> Result<()> {
    let names = Names::read(conn)?;
    let mut buckets = Vec::new();
    BUCKET.scan(conn, |row| {
        let kept = KeptBucket::read(row)?;
        if origin.is_none_or(|origin| origin as i64 == kept.origin) && is_within(kept.bucket, &range)? {
            buckets.push(kept);
        }
        Ok(())
    })?;
    buckets.sort_unstable_by_key(|kept| (kept.bucket, kept.origin, kept.network));
    let mut statement = conn.prepare(&format!("SELECT {USAGE_COLUMNS} FROM usage WHERE bucket = ?1 ORDER BY pair"))?;
    for kept in &buckets {
        let network = names.network(kept.network)?;
        let mut rows = statement.query([kept.id])?;
        let mut found = Seal { rows: 0, checksum: 0 };
        while let Some(row) = rows.next()? {
            let (checksum, row) = names.usage(row, kept.bucket)?;
            found = found.plus(1, checksum);
            each(network, kept.bucket, row)?;
        }
        if found != kept.usage {
            let from = Timestamp::new(kept.bucket.start, 0);
            bail!(Damage(format!("the usage from {from} on is not what was written")));
        }
    }
    Ok(())
}

/// A bucket's row.
struct KeptBucket {
    id: i64,
    network: i64,
    origin: i64,
    bucket: Bucket,
    usage: Seal,
}

impl KeptBucket {
    fn read(row: &rusqlite::Row) -> Result<Self> {
        Ok(KeptBucket {
            id: row.get(0)?,
            network: row.get(1)?,
            origin: row.get(2)?,
            bucket: Bucket { start: row.get(3)?, seconds: row.get(4)? },
            usage: Seal { rows: row.get(5)?, checksum: row.get(6)? },
        })
    }
}

/// Whether the whole bucket is within the range.
///
/// # Errors
/// If only a part of it is.
fn is_within(bucket: Bucket, range: &Range<Option<i64>>) -> Result<bool> {
    for bound in [range.start, range.end].into_iter().flatten() {
        if bucket.start < bound && bound < bucket.end() {
            let time = |seconds| Timestamp::new(seconds, 0);
            bail!(
                "{} falls inside a bucket that is kept as one: the nearest bounds are {} and {}",
                time(bound),
                time(bucket.start),
                time(bucket.end())
            );
        }
    }
    Ok(range.start.is_none_or(|since| bucket.start >= since) && range.end.is_none_or(|until| bucket.end() <= until))
}

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

    /// A row of usage with its checksum.
    fn usage(&self, row: &rusqlite::Row, bucket: Bucket) -> Result<(i64, Row)> {
        let pair = row.get(0)?;
        let usage = Usage::read(row, 1)?;
        let &(src, dst) = self.pairs.get(&pair).ok_or_else(|| Damage(format!("pair {pair} has no row")))?;
        let end = |id| self.endpoints.get(&id).ok_or_else(|| Damage(format!("endpoint {id} has no row")));
        let count = |value: i64| u64::try_from(value).map_err(|_| Damage(format!("it holds a count of {value}")));
        let counts =
            Counts { bytes: count(usage.bytes)?, packets: count(usage.packets)?, copies: count(usage.copies)? };
        let seen = Seen { first: time_at(bucket, usage.first), last: time_at(bucket, usage.last) };
        Ok((usage.checksum(pair), Row { src: *end(src)?, dst: *end(dst)?, counts, seen }))
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
