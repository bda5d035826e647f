//! Adding to the database.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::add::{self, FORGOTTEN, Remembered, Source};
use super::history::History;
use super::read;
use super::rows::endpoint;
use super::table::{Damage, ENDPOINT, IMPORT, Mark, NETWORK, TABLES, TOTAL};
use super::{
    Import, LiveTotals, NetworkId, blame, companions, count, coverage, explain, import, log, migrate, resolve, shm,
    totals, wal,
};
use crate::coverage::Observed;
use crate::traffic::{DeltaRow, Directory, Endpoint, Origin, Totals};

/// Before this version SQLite may lose commits in WAL mode.
const SAFE_SQLITE: i32 = 3_051_003;

/// More statements than a commit has: each is prepared once.
const STATEMENTS: usize = 64;

/// The one writer of a database. While it lives no second `serve` or `replay --db` can write there.
///
/// Dropped, it rolls back what is open and closes the database.
#[derive(Debug)]
pub struct Writer {
    pub(super) conn: Connection,
    pub(super) path: PathBuf,
    /// Which files SQLite has open beside the database.
    files: [Option<(u64, u64)>; 2],
    /// Whether a transaction is open and may be committed.
    open: bool,
    /// The origin of what this transaction imports, once it has imported something.
    import: Option<i64>,
    /// Changes whenever row ids that were handed out may be void; never the same in two writers.
    epoch: u64,
    /// As it stands in the database, but for the clock, which may be ahead.
    pub(super) history: History,
    /// The clock as it stands in the database.
    pub(super) saved_clock: i64,
    /// Seconds of this writer's life for which the clock has been moved on.
    pub(super) ticked: i64,
    pub(super) remembered: Remembered,
    /// Whether the file was not there before.
    created: bool,
    /// Holds the lock. Stands last, to be closed after the connection.
    lock: File,
}

impl Writer {
    /// Opens the database at `path`, creates it if it is missing and brings it to the newest schema.
    ///
    /// # Errors
    /// If another writer has it, it is not ztmon's or a newer ztmon's, or it cannot be written.
    pub fn open(path: &Path) -> Result<Writer> {
        Writer::open_kept_by(path, None)
    }

    /// The same, and where it is made, buckets that are a week old become `seconds` long: 900, 1800 or 3600.
    ///
    /// # Errors
    /// As [`Writer::open`]; and if it was made with another length.
    pub fn open_kept_by(path: &Path, seconds: Option<u32>) -> Result<Writer> {
        let verify = |conn: &Connection, _: &Path| TABLES.iter().try_for_each(|table| table.scan(conn, |_| Ok(())));
        Ok(Writer::open_with(path, seconds, verify)?.0)
    }

    /// The same, with the [live totals](Writer::live_totals), for which nothing is read twice; and in less time.
    ///
    /// # Errors
    /// As [`Writer::open_kept_by`].
    pub fn open_with_live_totals(path: &Path, seconds: Option<u32>) -> Result<(Writer, Vec<LiveTotals>)> {
        let of_totals = [ENDPOINT.name, TOTAL.name];
        let mut rest = TABLES.iter().filter(|table| !of_totals.contains(&table.name));
        Writer::open_with(path, seconds, |conn, path| {
            thread::scope(|scope| {
                // The pairs are as much again as all others: for another core, if there is one.
                let rest = scope.spawn(|| {
                    let conn = read::connect(path, false)?;
                    rest.try_for_each(|table| table.scan(&conn, |_| Ok(())))
                });
                let live = live_totals(conn);
                rest.join().unwrap_or_else(|panic| resume_unwind(panic))?;
                live
            })
        })
    }

    /// Opens it and has `verify` read what has to be sound.
    fn open_with<T>(
        path: &Path,
        seconds: Option<u32>,
        verify: impl FnOnce(&Connection, &Path) -> Result<T>,
    ) -> Result<(Writer, T)> {
        ensure!(rusqlite::version_number() >= SAFE_SQLITE, "SQLite {} is too old", rusqlite::version());
        ensure!(!path.exists() || path.is_file(), "{} is not a file: give another --db", path.display());
        log::check_length(path)?;
        let (lock, created) = lock(path)?;
        let path = resolve(path)?;
        let opened = log::check(&path).and_then(|()| {
            let mark = log::mark_without(&path);
            let (conn, found) = connect(&path, mark, seconds, |conn| Ok((verify(conn, &path)?, History::read(conn)?)))?;
            Ok((conn, companions(&path).map(identity), found))
        });
        match opened {
            Ok((conn, files, (found, history))) => {
                let (epoch, saved_clock) = (next_epoch(), history.clock);
                let writer = Writer {
                    conn,
                    path,
                    files,
                    open: false,
                    import: None,
                    epoch,
                    history,
                    saved_clock,
                    ticked: 0,
                    remembered: Remembered::default(),
                    created,
                    lock,
                };
                Ok((writer, found))
            }
            Err(error) => {
                if created {
                    remove(path);
                }
                Err(error)
            }
        }
    }

    /// Closes the database, and takes it away again if this writer made it.
    pub fn discard(self) {
        let Writer { conn, path, created, lock, .. } = self;
        drop(conn);
        if created {
            remove(path);
        }
        drop(lock);
    }

    /// What was captured live, in the order in which the database first met each end. What clients moved while
    /// [unlisted](Writer::add_unlisted) is part of [`End::Other`](crate::traffic::End::Other).
    ///
    /// # Errors
    /// Within a transaction, as what is not committed is not to be shown, or if the database is damaged or cannot be
    /// read.
    pub fn live_totals(&self) -> Result<Vec<LiveTotals>> {
        ensure!(self.conn.is_autocommit(), "a transaction is open on {}", self.path.display());
        live_totals(&self.conn).map_err(|error| self.reading(error))
    }

    /// The network's name as the database has it: known, its id, even while only the device is seen.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn network_name(&self, network: NetworkId) -> Result<String> {
        let read = || -> Result<_> {
            let mut statement = self.conn.prepare(&NETWORK.select("WHERE id = ?1"))?;
            let mut rows = statement.query([network.0])?;
            let Some(row) = rows.next()? else { bail!(Damage(format!("network {} has no row", network.0))) };
            NETWORK.verify(row)?;
            Ok(row.get(1)?)
        };
        read().map_err(|error| self.reading(error))
    }

    /// The network called `name` (16 hex digits, the device while they are unknown, or empty), captured on `device`
    /// (or empty).
    ///
    /// What was stored under the device's name becomes that of the network once its name is known; and while it is
    /// unknown again, the device stands for the network that was last seen there.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn network(&mut self, name: &str, device: &str) -> Result<NetworkId> {
        add::network(&mut self.conn, name, device).map_err(|error| self.writing(error))
    }

    /// Begins a transaction: a flush or an import. One that an error left open is rolled back first.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn begin(&mut self) -> Result<()> {
        // What is written to a file without a name is lost when it is closed.
        let is_whole = is_at(&self.lock, &self.path) && companions(&self.path).map(identity) == self.files;
        ensure!(is_whole, "{}, its -wal or its -shm was deleted, moved away or replaced", self.path.display());
        if self.open || !self.conn.is_autocommit() {
            self.rollback()?;
        }
        self.execute("BEGIN IMMEDIATE")?;
        self.import = None;
        self.open = true;
        Ok(())
    }

    /// Ends the transaction. When this returns, what was added is on the disk.
    ///
    /// # Errors
    /// If it is not; then nothing of the transaction is kept, and it is rolled back.
    pub fn commit(&mut self) -> Result<()> {
        self.check_open()?;
        let clock = self.history.clock;
        let saves_clock = self.is_clock_to_be_saved();
        let advanced = if saves_clock { self.history.write(&self.conn) } else { Ok(()) };
        let advanced = advanced.and_then(|()| Ok(Mark::advance(&self.conn)?)).map_err(|error| self.writing(error));
        let committed = advanced.and_then(|()| self.execute("COMMIT"));
        self.open = false;
        self.or_roll_back(committed)?;
        if saves_clock {
            self.saved_clock = clock;
        }
        Ok(())
    }

    /// Undoes everything since [`Writer::begin`]. Nothing happens if no transaction is open.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn rollback(&mut self) -> Result<()> {
        self.open = false;
        self.forget_rows();
        // After some errors (a full disk) SQLite has rolled back already.
        if !self.conn.is_autocommit() {
            self.execute("ROLLBACK")?;
        }
        Ok(())
    }

    /// Adds `rows`, whose pairs `directory` knows, to the usage and to the totals. All that one transaction imports is one
    /// import.
    ///
    /// # Errors
    /// Outside a transaction, if a count grows beyond 2⁶³ − 1, or if the database cannot be written. Then the whole
    /// transaction is rolled back.
    pub fn add(&mut self, source: &mut Source, directory: &Directory, rows: &[DeltaRow]) -> Result<()> {
        self.check_open()?;
        source.renew(self.epoch);
        let origin = match source.origin() {
            Origin::Live => Origin::Live as i64,
            Origin::Import => self.import_origin()?,
        };
        let added = source
            .find_pairs(&self.conn, directory, rows)
            .and_then(|()| source.add_usage(&self.conn, rows, origin, self.history.clock, &mut self.remembered))
            .and_then(|()| source.add_totals(&self.conn, directory, rows, &mut self.remembered))
            .map_err(|error| self.writing(error));
        self.or_roll_back(added)
    }

    /// Adds what clients moved that `/metrics` had no room for: their own totals have it, too.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn add_unlisted(&mut self, source: &Source, more: Totals) -> Result<()> {
        self.check_open()?;
        let added = source.add_unlisted(&self.conn, more, &mut self.remembered);
        let added = added.map_err(|error| self.writing(error));
        self.or_roll_back(added)
    }

    /// Adds what was seen of a network, by the starts of the five minutes.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn add_observed<'a>(
        &mut self,
        network: NetworkId,
        more: impl IntoIterator<Item = (&'a i64, &'a Observed)>,
    ) -> Result<()> {
        self.check_open()?;
        let added = coverage::add(&self.conn, network, self.history.clock, more).map_err(|error| self.writing(error));
        self.or_roll_back(added)
    }

    /// The import of the file with this hash, if it was imported.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn imported(&self, sha256: &[u8; 32]) -> Result<Option<Import>> {
        let read = || -> Result<_> {
            let mut found = None;
            // All of them: whether one is missing shows in all only.
            IMPORT.scan(&self.conn, |row| {
                if row.get_ref(1)?.as_blob()? == sha256 {
                    found = Some(import(row)?);
                }
                Ok(())
            })?;
            Ok(found)
        };
        read().map_err(|error| self.reading(error))
    }

    /// Notes that a file was imported, in the transaction that added its rows.
    ///
    /// # Errors
    /// Outside a transaction, if the file was imported before, or if the database cannot be written. Then the whole
    /// transaction is rolled back.
    pub fn record_import(&mut self, import: &Import) -> Result<()> {
        self.check_open()?;
        let origin = self.import_origin()?;
        let recorded = add::import(&self.conn, import, origin).map_err(|error| self.writing(error));
        self.or_roll_back(recorded)
    }

    /// What tells the usage that this transaction imports from that of all other imports.
    fn import_origin(&mut self) -> Result<i64> {
        let found = self.import.map_or_else(|| add::next_origin(&self.conn).map_err(|error| self.writing(error)), Ok);
        let origin = self.or_roll_back(found)?;
        self.import = Some(origin);
        Ok(origin)
    }

    /// How many clients' addresses are known, in all networks.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn addresses(&self) -> Result<u64> {
        let sql = "SELECT count(*) FROM (SELECT DISTINCT network, addr FROM endpoint
                   WHERE addr GLOB '[0-9]*' OR addr GLOB '*:*')";
        let counted = self.conn.query_row(sql, [], |row| Ok(count(row, 0)));
        counted.map_err(anyhow::Error::from).flatten().map_err(|error| self.reading(error))
    }

    pub(super) fn check_open(&self) -> Result<()> {
        ensure!(self.open && !self.conn.is_autocommit(), "no transaction is open on {}", self.path.display());
        Ok(())
    }

    /// Forgets which rows there are, and what they hold.
    pub(super) fn forget_rows(&mut self) {
        self.epoch = next_epoch();
        self.remembered = Remembered::default();
    }

    fn execute(&self, sql: &str) -> Result<()> {
        self.conn.execute_batch(sql).map_err(|error| self.writing(error.into()))
    }

    /// After an error nothing of the transaction must be committed. Should the rollback fail too, `begin` tries again.
    pub(super) fn or_roll_back<T>(&mut self, result: Result<T>) -> Result<T> {
        result.inspect_err(|_| drop(self.rollback()))
    }

    pub(super) fn reading(&self, error: anyhow::Error) -> anyhow::Error {
        blame(&self.path, "cannot read", error)
    }

    fn writing(&self, error: anyhow::Error) -> anyhow::Error {
        blame(&self.path, "cannot write to", error)
    }
}

/// [`Writer::live_totals`] of a connection without a transaction.
fn live_totals(conn: &Connection) -> Result<Vec<LiveTotals>> {
    let now = conn.unchecked_transaction()?;
    // By the number of the endpoint, as they come.
    let mut ends: Vec<(i64, i64, Endpoint)> = Vec::new();
    ENDPOINT.scan(&now, |row| {
        // What was forgotten shows in reports only.
        if row.get_ref(2)?.as_str()? != FORGOTTEN {
            ends.push((row.get(0)?, row.get(1)?, endpoint(row, 2)?));
        }
        Ok(())
    })?;
    let mut found = Vec::new();
    let mut known = HashMap::with_capacity(ends.len());
    TOTAL.scan(&now, |row| {
        let (id, origin): (i64, i64) = (row.get(0)?, row.get(1)?);
        let place = ends.binary_search_by_key(&id, |(id, ..)| *id);
        let (Ok(at), true) = (place, origin == Origin::Live as i64) else { return Ok(()) };
        let (_, network, endpoint) = ends[at];
        let totals = totals(row, 2)?;
        let at = *known.entry((network, endpoint.end)).or_insert(found.len());
        if at == found.len() {
            found.push(LiveTotals { network: NetworkId(network), endpoint, totals });
        } else {
            found[at].totals.add(&totals);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Opens the database with all that a writer needs, and the newest schema; by itself it has come as far as `mark`. All
/// but the usage, which may be long, and is verified when it is read, is for `verify`.
fn connect<T>(
    path: &Path,
    mark: Option<Mark>,
    seconds: Option<u32>,
    verify: impl FnOnce(&Connection) -> Result<T>,
) -> Result<(Connection, T)> {
    let open = || -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(Duration::from_secs(5))?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(conn)
    };
    let mut conn = open().map_err(|error| explain(path, error))?;
    // A database that is refused stays as it is, and its log beside it.
    let keeps_log = |conn: &Connection, keeps| conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keeps);
    keeps_log(&conn, true).map_err(|error| explain(path, error))?;
    let version = migrate::version(&conn, path)?;
    // 16 MiB of cache; 64 MiB of -wal to be kept when a large import is over; no temporary files elsewhere, where the
    // process may have no right to write.
    let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
                   PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;
                   PRAGMA journal_size_limit = 67108864;";
    conn.execute_batch(pragmas).map_err(|error| explain(path, error))?;
    let mode: String =
        conn.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(|error| explain(path, error))?;
    ensure!(mode == "wal", "{} is on a file system without shared memory: give another --db", path.display());
    let prepare = |conn: &mut Connection| -> Result<T> {
        // Before anything is written: what is refused stays as it is.
        log::check_mark(conn, mark)?;
        if version < migrate::newest() {
            migrate::run(conn, version, seconds.unwrap_or(3600))?;
            // From here on a database without a schema has never had anything in it, whatever is in its log.
            conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
        }
        let kept_by = History::read(conn)?.seconds;
        ensure!(
            seconds.is_none_or(|seconds| seconds == kept_by),
            "{} was made with --bucket {}m: leave the flag out, or give another --db",
            path.display(),
            kept_by / 60
        );
        verify(conn)
    };
    let found = prepare(&mut conn).map_err(|error| blame(path, "cannot set up", error))?;
    keeps_log(&conn, false).map_err(|error| explain(path, error))?;
    Ok((conn, found))
}

/// Takes a database away. Still locked: nobody can have taken it over.
fn remove(path: PathBuf) {
    for file in [wal(&path), shm(&path), path] {
        fs::remove_file(file).ok();
    }
}

fn next_epoch() -> u64 {
    static EPOCH: AtomicU64 = AtomicU64::new(1);
    EPOCH.fetch_add(1, Ordering::Relaxed)
}

/// Opens the file, creates it if it is missing, and locks it until it is closed. Says whether it was created.
pub(super) fn lock(path: &Path) -> Result<(File, bool)> {
    loop {
        let open =
            |new: bool| File::options().read(true).write(true).create(true).truncate(false).create_new(new).open(path);
        let (file, created) = match open(true) {
            Ok(file) => (file, true),
            Err(_) => (open(false).with_context(|| cannot_write(path))?, false),
        };
        match file.try_lock() {
            // One that gave up its new database may have taken the file away in between.
            Ok(()) if !is_at(&file, path) => (),
            Ok(()) => return Ok((file, created)),
            Err(TryLockError::WouldBlock) => {
                // Closing it would drop SQLite's own locks if the other writer is in this process.
                std::mem::forget(file);
                bail!("{} is in use by another ztmon: stop it, or give another --db", path.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write the database {}: check it and its directory", path.display())
}

/// Whether the open file is the one that the path leads to.
fn is_at(file: &File, path: impl AsRef<Path>) -> bool {
    file.metadata().is_ok_and(|data| identity(path) == Some((data.dev(), data.ino())))
}

/// Which file the path leads to, if to one.
fn identity(path: impl AsRef<Path>) -> Option<(u64, u64)> {
    path.as_ref().metadata().ok().map(|data| (data.dev(), data.ino()))
}
