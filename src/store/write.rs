//! Adding to the database.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rusqlite::{Connection, OpenFlags};

use super::add::{self, Source};
use super::{Import, NetworkId, count, explain, migrate, resolve, seen, shm, wal};
use crate::time::Timestamp;
use crate::traffic::{DeltaRow, Directory, End, Origin, Totals};

/// Before this version SQLite may lose commits in WAL mode.
const SAFE_SQLITE: i32 = 3_051_003;

/// The one writer of a database. While it lives no second `serve` or `replay --db` can write there.
///
/// Dropped, it rolls back what is open and closes the database.
#[derive(Debug)]
pub struct Writer {
    pub(super) conn: Connection,
    path: PathBuf,
    /// Whether a transaction is open and may be committed.
    open: bool,
    /// Changes whenever row ids that were handed out may be void; never the same in two writers.
    epoch: u64,
    /// Whether the file was not there before.
    created: bool,
    /// Holds the lock. Stands last, to be closed after the connection.
    _lock: File,
}

impl Writer {
    /// Opens the database at `path`, creates it if it is missing and brings it to the newest schema.
    ///
    /// # Errors
    /// If another writer has it, it is not ztmon's or a newer ztmon's, or it cannot be written.
    pub fn open(path: &Path) -> Result<Writer> {
        ensure!(rusqlite::version_number() >= SAFE_SQLITE, "SQLite {} is too old", rusqlite::version());
        ensure!(!path.exists() || path.is_file(), "{} is not a file: give another --db", path.display());
        let (lock, created) = lock(path)?;
        let path = resolve(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connect = || -> rusqlite::Result<Connection> {
            let conn = Connection::open_with_flags(&path, flags)?;
            conn.busy_timeout(Duration::from_secs(5))?;
            Ok(conn)
        };
        let mut conn = connect().map_err(|error| explain(&path, error))?;
        let version = migrate::version(&conn, &path)?;
        // The size limits: 16 MiB of cache, and 64 MiB of -wal to be kept when a large import is over. Temporary files
        // would be somewhere else, where the process may have no right to write.
        let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
                       PRAGMA cache_size = -16384; PRAGMA journal_size_limit = 67108864;
                       PRAGMA temp_store = MEMORY;";
        conn.execute_batch(pragmas).map_err(|error| explain(&path, error))?;
        let mode: String = conn.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        ensure!(mode == "wal", "{} is on a file system without shared memory: give another --db", path.display());
        if version < migrate::newest() {
            migrate::run(&mut conn, version).with_context(|| format!("cannot set up {}", path.display()))?;
        }
        Ok(Writer { conn, path, open: false, epoch: next_epoch(), created, _lock: lock })
    }

    /// Closes the database, and takes it away again if this writer made it.
    pub fn discard(self) {
        let Writer { conn, path, created, _lock: lock, .. } = self;
        drop(conn);
        if created {
            // Still locked: nobody can have taken it over.
            for file in [wal(&path), shm(&path), path] {
                fs::remove_file(file).ok();
            }
        }
        drop(lock);
    }

    /// The networks of which something was captured live, with their names.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn live_networks(&self) -> Result<Vec<(NetworkId, String)>> {
        let sql =
            "SELECT id, name FROM network WHERE EXISTS (SELECT 1 FROM endpoint JOIN total ON endpoint = endpoint.id
                   WHERE endpoint.network = network.id AND total.origin = ?1) ORDER BY name";
        let read = || -> rusqlite::Result<_> {
            let mut statement = self.conn.prepare(sql)?;
            let rows = statement.query_map([Origin::Live as i64], |row| Ok((NetworkId(row.get(0)?), row.get(1)?)))?;
            rows.collect()
        };
        read().with_context(|| self.reading())
    }

    /// The network's name as the database has it: known, its id, even while only the device is seen.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn network_name(&self, network: NetworkId) -> Result<String> {
        let sql = "SELECT name FROM network WHERE id = ?1";
        self.conn.query_row(sql, [network.0], |row| row.get(0)).with_context(|| self.reading())
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
        add::network(&mut self.conn, name, device).with_context(|| self.writing())
    }

    /// Begins a transaction: a flush or an import. One that an error left open is rolled back first.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn begin(&mut self) -> Result<()> {
        if !self.conn.is_autocommit() {
            self.rollback()?;
        }
        self.execute("BEGIN IMMEDIATE")?;
        self.open = true;
        Ok(())
    }

    /// Ends the transaction. When this returns, what was added is on the disk.
    ///
    /// # Errors
    /// If it is not; then nothing of the transaction is kept, and it is rolled back.
    pub fn commit(&mut self) -> Result<()> {
        self.check_open()?;
        let committed = self.execute("COMMIT");
        self.open = false;
        self.or_roll_back(committed)
    }

    /// Undoes everything since [`Writer::begin`]. Nothing happens if no transaction is open.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn rollback(&mut self) -> Result<()> {
        self.open = false;
        self.epoch = next_epoch();
        // After some errors (a full disk) SQLite has rolled back already.
        if !self.conn.is_autocommit() {
            self.execute("ROLLBACK")?;
        }
        Ok(())
    }

    /// Adds `rows`, whose pairs `directory` knows, to the usage and to the totals.
    ///
    /// # Errors
    /// Outside a transaction, if a count grows beyond 2⁶³ − 1, or if the database cannot be written. Then the whole
    /// transaction is rolled back.
    pub fn add(&mut self, source: &mut Source, directory: &Directory, rows: &[DeltaRow]) -> Result<()> {
        self.check_open()?;
        source.renew(self.epoch);
        let added = source
            .find_pairs(&self.conn, directory, rows)
            .and_then(|()| source.add_usage(&self.conn, rows))
            .and_then(|()| source.add_totals(&self.conn, rows))
            .with_context(|| self.writing());
        self.or_roll_back(added)
    }

    /// The import of the file with this hash, if it was imported.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn imported(&self, sha256: &[u8; 32]) -> Result<Option<Import>> {
        let read = || -> Result<_> {
            let mut statement = self.conn.prepare(
                "SELECT name, size, imported_at, frames, first_seen, first_ns, last_seen, last_ns
                 FROM import WHERE sha256 = ?1",
            )?;
            let mut rows = statement.query([sha256])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            Ok(Some(Import {
                sha256: *sha256,
                name: row.get(0)?,
                size: count(row, 1)?,
                imported_at: Timestamp::new(row.get(2)?, 0),
                frames: count(row, 3)?,
                seen: row.get::<_, Option<i64>>(4)?.map(|_| seen(row, 4)).transpose()?,
            }))
        };
        read().with_context(|| self.reading())
    }

    /// Notes that a file was imported, in the transaction that added its rows.
    ///
    /// # Errors
    /// Outside a transaction, if the file was imported before, or if the database cannot be written. Then the whole
    /// transaction is rolled back.
    pub fn record_import(&mut self, import: &Import) -> Result<()> {
        self.check_open()?;
        let recorded = add::import(&self.conn, import).with_context(|| self.writing());
        self.or_roll_back(recorded)
    }

    /// What every end of a network moved while it was captured live, in the order of [`End`].
    ///
    /// # Errors
    /// Within a transaction, as what is not committed is not to be shown, or if the database cannot be read.
    pub fn live_totals(&self, network: NetworkId) -> Result<Vec<(End, Totals)>> {
        ensure!(self.conn.is_autocommit(), "a transaction is open on {}", self.path.display());
        let read = || -> Result<_> {
            let mut statement = self.conn.prepare(
                "SELECT addr, sent_bytes, received_bytes, sent_packets, received_packets,
                        first_seen, first_ns, last_seen, last_ns
                 FROM total JOIN endpoint ON endpoint.id = total.endpoint WHERE network = ?1 AND origin = ?2",
            )?;
            let mut rows = statement.query([network.0, Origin::Live as i64])?;
            let mut ends: BTreeMap<End, Totals> = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let end = row.get_ref(0)?.as_str()?.parse().map_err(|error| anyhow!("it is damaged: {error}"))?;
                let totals = Totals {
                    sent_bytes: count(row, 1)?,
                    received_bytes: count(row, 2)?,
                    sent_packets: count(row, 3)?,
                    received_packets: count(row, 4)?,
                    seen: seen(row, 5)?,
                };
                ends.entry(end).and_modify(|whole| whole.add(&totals)).or_insert(totals);
            }
            Ok(ends.into_iter().collect())
        };
        read().with_context(|| self.reading())
    }

    /// How many clients' addresses are known, in all networks.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn addresses(&self) -> Result<u64> {
        let sql = "SELECT count(*) FROM (SELECT DISTINCT network, addr FROM endpoint
                   WHERE addr NOT IN ('external', 'multicast', 'other', 'beyond'))";
        let counted = self.conn.query_row(sql, [], |row| Ok(count(row, 0)));
        counted.map_err(anyhow::Error::from).flatten().with_context(|| self.reading())
    }

    fn check_open(&self) -> Result<()> {
        ensure!(self.open && !self.conn.is_autocommit(), "no transaction is open on {}", self.path.display());
        Ok(())
    }

    fn execute(&self, sql: &str) -> Result<()> {
        self.conn.execute_batch(sql).with_context(|| self.writing())
    }

    /// After an error nothing of the transaction must be committed. Should the rollback fail too, `begin` tries again.
    fn or_roll_back(&mut self, result: Result<()>) -> Result<()> {
        result.inspect_err(|_| drop(self.rollback()))
    }

    fn reading(&self) -> String {
        format!("cannot read {}", self.path.display())
    }

    fn writing(&self) -> String {
        format!("cannot write to {}", self.path.display())
    }
}

fn next_epoch() -> u64 {
    static EPOCH: AtomicU64 = AtomicU64::new(1);
    EPOCH.fetch_add(1, Ordering::Relaxed)
}

/// Opens the file, creates it if it is missing, and locks it until it is closed. Says whether it was created.
fn lock(path: &Path) -> Result<(File, bool)> {
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
                bail!(
                    "{} is in use by another ztmon (serve or replay --db): stop it, or give another --db",
                    path.display()
                )
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
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |data: &Metadata| (data.dev(), data.ino());
    matches!((file.metadata(), path.metadata()), (Ok(ref file), Ok(ref path)) if identity(file) == identity(path))
}
