//! The database as it was at one moment, while its writer goes on.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use rusqlite::Connection;

use super::{Writer, blame, read, rows};
use crate::time::{Bucket, Timestamp};
use crate::traffic::{Endpoint, Origin, Row};

/// What had been committed at one moment, for another thread. As long as it lives, the log beside the database grows.
#[derive(Debug)]
pub struct Snapshot {
    conn: Connection,
    path: PathBuf,
}

impl Writer {
    /// All that is committed now.
    ///
    /// # Errors
    /// Within a transaction, or if the database cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot> {
        ensure!(self.conn.is_autocommit(), "a transaction is open on {}", self.path.display());
        // By SQLite alone: closing a file that it has open in this process would give up the locks that it holds.
        let open = || -> Result<Connection> {
            let conn = read::connect(&self.path, false)?;
            conn.execute_batch("BEGIN")?;
            // It begins with the first look.
            conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            Ok(conn)
        };
        let conn = open().map_err(|error| blame(&self.path, "cannot read", error))?;
        Ok(Snapshot { conn, path: self.path.clone() })
    }
}

impl Snapshot {
    /// As [`Reader::rows`](super::Reader::rows).
    ///
    /// # Errors
    /// If the database cannot be read, is damaged, or keeps a bucket that has a cut in it; and with what `each` returns.
    pub fn rows(
        &self,
        origin: Option<Origin>,
        range: Range<Option<i64>>,
        next_cut: impl FnMut(i64) -> Option<i64>,
        each: impl FnMut(&str, Bucket, Row) -> Result<()>,
    ) -> Result<()> {
        rows::rows(&self.conn, origin, range, next_cut, each).map_err(|error| blame(&self.path, "cannot read", error))
    }

    /// As [`Reader::first_seen`](super::Reader::first_seen).
    ///
    /// # Errors
    /// If the database cannot be read or is damaged.
    pub fn first_seen(&self, origin: Option<Origin>, each: impl FnMut(&str, Endpoint, Timestamp)) -> Result<()> {
        read::first_seen(&self.conn, origin, each).map_err(|error| blame(&self.path, "cannot read", error))
    }
}
