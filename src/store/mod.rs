//! The database: what every pair moved in every five minutes, and what every endpoint ever moved.
//!
//! One SQLite file in WAL mode, plain rows that anyone can query; `migrations/` says what each column means. One
//! [`Writer`] adds to it, any number of [`Reader`]s look at it meanwhile. What holds:
//!
//! - **One writer.** Two would count the same traffic twice: the second is refused while the first lives.
//! - **All or nothing.** A flush, or the import of all files that are given at once, is one transaction. Once
//!   [`Writer::commit`] returns it survives kill -9 and a power cut (`synchronous=FULL`); before that nothing of it is
//!   seen.
//! - **Every packet counts for both its ends.** The totals are the sums of the usage, by endpoint and origin; so all
//!   that was sent was received. [`End::Beyond`](crate::traffic::End::Beyond) has usage and no total, what is unlisted a total and no usage; of
//!   usage that was deleted by age or that a repair lost, the totals still have it.
//! - **Numbers never wrap.** A count above 2⁶³ − 1 is an error, whether it comes in or grows there by adding.
//! - **Live and imported stay apart** ([`Origin`](crate::traffic::Origin)): an import must not show in a counter.
//! - **Nothing damaged is believed.** What is read is verified by checksums of ztmon's own (`table`).
//! - Times outside the years 0000 to 9999 are kept as the nearest within ([`Timestamp::clamped`]).
//!
//! SQLite's locks belong to the process and fall when it closes *any* descriptor of the file. Hence the rule here:
//! what else opens the database (the writer's lock, copies of it) does so before SQLite, or is closed after it.

mod add;
mod age;
mod coverage;
mod days;
mod forget;
mod fresh;
mod history;
mod info;
mod level;
mod live;
mod log;
mod members;
mod merge;
mod migrate;
mod read;
mod repair;
mod rows;
mod table;
#[cfg(test)]
mod tests;
mod write;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use rusqlite::ErrorCode;

use crate::time::Timestamp;
use crate::traffic::{Endpoint, Seen, Totals};
use table::Damage;

pub use add::Source;
pub use forget::Forgotten;
pub use info::{Info, NetworkInfo, is_in_use};
pub use live::{Live, would_count_twice};
pub use members::KeptMember;
pub use merge::{Merged, Part, merge};
pub use read::Reader;
pub use repair::{Repaired, repair};
pub use rows::KeptAsOne;
pub use write::Writer;

/// A network in one database. Void if it came from a transaction that was rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(i64);

/// What an end of a network ever moved while it was captured live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveTotals {
    /// The network.
    pub network: NetworkId,
    /// Who, and the first MAC that was seen with it.
    pub endpoint: Endpoint,
    /// How much, behind whatever MAC.
    pub totals: Totals,
}

/// A capture file that was taken into the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// SHA-256 of the file's bytes: the same file is known by it under any name.
    pub sha256: [u8; 32],
    /// Its name when it was imported.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was imported; kept to the second.
    pub imported_at: Timestamp,
    /// How many frames it had.
    pub frames: u64,
    /// The first and last packet counted, if any was.
    pub seen: Option<Seen>,
}

/// A count as SQLite can hold it.
fn to_sql(count: u64) -> Result<i64> {
    i64::try_from(count).with_context(|| format!("a count of {count} is too large for the database"))
}

/// A count as it stands in column `index`.
fn count(row: &rusqlite::Row, index: usize) -> Result<u64> {
    let value: i64 = row.get(index)?;
    Ok(u64::try_from(value).map_err(|_| Damage(format!("it holds a count of {value}")))?)
}

/// The times that stand in the four columns from `index` on: seconds and nanoseconds of the first and the last packet.
fn seen(row: &rusqlite::Row, index: usize) -> Result<Seen> {
    let time = |index| -> rusqlite::Result<Timestamp> {
        let (seconds, nanos): (i64, u32) = (row.get(index)?, row.get(index + 1)?);
        Ok(Timestamp::new(seconds, nanos.into()))
    };
    Ok(Seen { first: time(index)?, last: time(index + 2)? })
}

/// The import that stands in the columns of its table.
fn import(row: &rusqlite::Row) -> Result<Import> {
    Ok(Import {
        sha256: row.get(1)?,
        name: row.get(2)?,
        size: count(row, 3)?,
        imported_at: Timestamp::new(row.get(4)?, 0),
        frames: count(row, 5)?,
        seen: row.get::<_, Option<i64>>(6)?.map(|_| seen(row, 6)).transpose()?,
    })
}

/// The totals that stand in the eight columns from `index` on.
fn totals(row: &rusqlite::Row, index: usize) -> Result<Totals> {
    Ok(Totals {
        sent_bytes: count(row, index)?,
        received_bytes: count(row, index + 1)?,
        sent_packets: count(row, index + 2)?,
        received_packets: count(row, index + 3)?,
        seen: seen(row, index + 4)?,
    })
}

/// The file behind `path`, without links: beside it stand the `-wal` and `-shm`, and SQLite takes no part of an
/// absolute path for a `file:` URI.
fn resolve(path: &Path) -> Result<PathBuf> {
    let real = path.canonicalize().map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!("there is no {}: give the --db of serve or replay", path.display()),
        _ => anyhow!(error).context(format!("cannot open the database {}", path.display())),
    })?;
    ensure!(real.is_file(), "{} is not a file: give another --db", path.display());
    Ok(real)
}

/// The files that may stand beside the database at `path`, and are part of it.
pub fn companions(path: &Path) -> [PathBuf; 2] {
    [wal(path), shm(path)]
}

/// The write-ahead log that belongs to the database at `path`.
fn wal(path: &Path) -> PathBuf {
    companion(path, "-wal")
}

/// The index of that log.
fn shm(path: &Path) -> PathBuf {
    companion(path, "-shm")
}

fn companion(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Says which database failed to open and what to do about it.
fn explain(path: &Path, error: rusqlite::Error) -> anyhow::Error {
    let path_of = path;
    let path = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            anyhow!("{path} is not a database, or its beginning is damaged: {}", ways_on(path_of))
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            anyhow!("cannot open {path}: check who may use it, its -wal, its -shm and its directory")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            anyhow!("another program keeps {path} locked: close it and try again")
        }
        Some(ErrorCode::SystemIoFailure | ErrorCode::DiskFull) => {
            anyhow!("cannot open {path}: its disk is full or fails ({error})")
        }
        _ => blame(path_of, "cannot open", error.into()),
    }
}

/// Puts what failed before an error; or that the database is damaged and what to do about it, if it says so.
fn blame(path: &Path, doing: &str, error: anyhow::Error) -> anyhow::Error {
    use rusqlite::Error;
    let path_of = path;
    let path = path.display();
    let damage = error.chain().any(|cause| {
        cause.is::<Damage>()
            || match cause.downcast_ref::<Error>() {
                Some(Error::SqliteFailure(failure, _)) => {
                    // What this program asks is always the same: an error in it is one in the schema.
                    matches!(
                        failure.code,
                        ErrorCode::DatabaseCorrupt
                            | ErrorCode::NotADatabase
                            | ErrorCode::TypeMismatch
                            | ErrorCode::ConstraintViolation
                            | ErrorCode::SchemaChanged
                    ) || failure.extended_code == rusqlite::ffi::SQLITE_ERROR
                }
                Some(
                    Error::SqlInputError { .. }
                    | Error::FromSqlConversionFailure(..)
                    | Error::IntegralValueOutOfRange(..)
                    | Error::Utf8Error(..)
                    | Error::InvalidColumnType(..)
                    | Error::QueryReturnedNoRows,
                ) => true,
                _ => false,
            }
    });
    if !damage {
        // What the caller of a reader said, or is to be told of its own request, needs no more words.
        let ours = error.chain().any(|cause| cause.is::<Error>() || cause.is::<std::io::Error>());
        return if ours { error.context(format!("{doing} {path}")) } else { error };
    }
    anyhow!("{path} is damaged: {}; {}", in_one_line(&error), ways_on(path_of))
}

/// What to do about a damaged database.
fn ways_on(path: &Path) -> String {
    format!("save what is sound into a new file (ztmon db repair --db {}) or give another --db", path.display())
}

/// What SQLite says may have several lines, and in it bytes of the file.
fn in_one_line(error: &anyhow::Error) -> String {
    let said = error.chain().find_map(|cause| match cause.downcast_ref::<rusqlite::Error>() {
        Some(rusqlite::Error::SqlInputError { msg, .. }) => Some(msg.clone()),
        Some(error) => Some(error.to_string()),
        None => cause.downcast_ref::<Damage>().map(ToString::to_string),
    });
    let said = said.unwrap_or_else(|| error.to_string());
    said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}
