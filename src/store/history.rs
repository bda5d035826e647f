//! How the history is kept.

use anyhow::{Context, Result};
use rusqlite::{Connection, ToSql};

use super::table::{Damage, HISTORY, Puts};

/// The one row of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct History {
    /// How long buckets become when they are a week old.
    pub seconds: u32,
    /// What ages are measured by.
    pub clock: i64,
    /// Live usage of before was deleted; seconds since the epoch.
    pub live_from: Option<i64>,
}

impl History {
    pub(super) fn read(conn: &Connection) -> Result<Self> {
        Ok(History::find(conn)?.0)
    }

    pub(super) fn write(&self, conn: &Connection) -> Result<()> {
        let (before, checksum) = History::find(conn)?;
        if *self != before {
            let mut puts = Puts::new(conn, &HISTORY)?;
            let values: [&dyn ToSql; 4] = [&1, &self.seconds, &self.clock, &self.live_from];
            puts.put(Some(checksum), &values)?;
            puts.seal()?;
        }
        Ok(())
    }

    /// With the row's checksum.
    fn find(conn: &Connection) -> Result<(Self, i64)> {
        let mut found = None;
        HISTORY.scan(conn, |row| {
            let history = History { seconds: row.get(1)?, clock: row.get(2)?, live_from: row.get(3)? };
            found = Some((history, row.get(4)?));
            Ok(())
        })?;
        found.context(Damage("history has no row".to_owned()))
    }
}
