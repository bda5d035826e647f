//! The tables, and the checksums that tell whether they still hold what was written.
//!
//! Of 3,000 single-bit flips in a small database 1,720 changed a total, and SQLite's own check saw 11 of them. So every
//! row has a checksum, every table a [seal](Table::seal) over its rows, and every bucket one over its usage. A row that
//! changed, vanished or came from nowhere is found when it is read.

use std::fmt;

use anyhow::{Result, bail};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, ToSql, params};
use twox_hash::XxHash3_64;

/// Something in the database is not what was written. Displays what.
#[derive(Debug)]
pub(super) struct Damage(pub String);

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Damage {}

/// A table whose rows have checksums.
pub(super) struct Table {
    pub name: &'static str,
    /// Those that tell its rows apart.
    key: &'static str,
    /// All but the checksum, the key first.
    pub columns: &'static [&'static str],
}

pub(super) const NETWORK: Table = Table { name: "network", key: "id", columns: &["id", "name", "device"] };
pub(super) const ENDPOINT: Table = Table { name: "endpoint", key: "id", columns: &["id", "network", "addr", "mac"] };
pub(super) const PAIR: Table = Table { name: "pair", key: "id", columns: &["id", "src", "dst"] };
pub(super) const BUCKET: Table = Table { name: "bucket", key: "id", columns: &INTERVAL };
pub(super) const DAY: Table = Table { name: "day", key: "id", columns: &INTERVAL };
const INTERVAL: [&str; 8] = ["id", "network", "origin", "start", "seconds", "usage_rows", "usage_checksum", "written"];
/// As it was in version 2.
pub(super) const BUCKET_2: Table = Table { name: "bucket", key: "id", columns: INTERVAL.split_at(7).0 };
pub(super) const HISTORY: Table =
    Table { name: "history", key: "id", columns: &["id", "seconds", "clock", "live_from"] };
pub(super) const TOTAL: Table = Table {
    name: "total",
    key: "endpoint, origin",
    columns: &[
        "endpoint",
        "origin",
        "sent_bytes",
        "received_bytes",
        "sent_packets",
        "received_packets",
        "first_seen",
        "first_ns",
        "last_seen",
        "last_ns",
    ],
};
pub(super) const IMPORT: Table = Table {
    name: "import",
    key: "id",
    columns: &[
        "id",
        "sha256",
        "name",
        "size",
        "imported_at",
        "frames",
        "first_seen",
        "first_ns",
        "last_seen",
        "last_ns",
        "origin",
    ],
};
/// As it was in version 2.
pub(super) const IMPORT_2: Table = Table { name: "import", key: "id", columns: IMPORT.columns.split_at(10).0 };

pub(super) const MEMBER: Table = Table {
    name: "member",
    key: "id",
    columns: &["id", "network", "node", "name", "told", "authorized", "sent_bytes", "received_bytes"],
};
pub(super) const ASSIGNMENT: Table = Table { name: "assignment", key: "id", columns: &["id", "member", "addr"] };
pub(super) const ADDRESS_NAME: Table = Table { name: "address_name", key: "id", columns: &["id", "addr", "name"] };

pub(super) const OBSERVED: Table = Table {
    name: "observed",
    key: "start, network",
    columns: &["start", "network", "seconds", "which", "frames", "teed", "dropped", "pairs", "singles", "written"],
};

/// All that have a seal.
pub(super) const TABLES: [&Table; 12] = [
    &NETWORK,
    &ENDPOINT,
    &PAIR,
    &BUCKET,
    &DAY,
    &TOTAL,
    &IMPORT,
    &HISTORY,
    &OBSERVED,
    &MEMBER,
    &ASSIGNMENT,
    &ADDRESS_NAME,
];

/// Those that had one in version 2.
pub(super) const TABLES_2: [&Table; 6] = [&NETWORK, &ENDPOINT, &PAIR, &BUCKET_2, &TOTAL, &IMPORT_2];

/// The bytes that a row's checksum is over, as `migrations/0002_checksums.sql` has them.
struct RowBytes(Vec<u8>);

impl RowBytes {
    fn new(table: &str) -> Self {
        let mut bytes = RowBytes(Vec::with_capacity(128));
        bytes.push(ValueRef::Text(table.as_bytes()));
        bytes
    }

    fn push(&mut self, value: ValueRef) {
        let (kind, text) = match value {
            ValueRef::Integer(number) => {
                self.0.push(b'i');
                self.0.extend_from_slice(&number.to_le_bytes());
                return;
            }
            ValueRef::Text(text) => (b't', text),
            ValueRef::Blob(blob) => (b'b', blob),
            // No column holds a real number.
            ValueRef::Null | ValueRef::Real(_) => {
                self.0.push(b'n');
                return;
            }
        };
        self.0.push(kind);
        self.0.extend_from_slice(&(text.len() as u64).to_le_bytes());
        self.0.extend_from_slice(text);
    }

    fn checksum(&self) -> i64 {
        XxHash3_64::oneshot(&self.0).cast_signed()
    }
}

/// The checksum of a row.
pub(super) fn checksum<'a>(table: &str, values: impl IntoIterator<Item = ValueRef<'a>>) -> i64 {
    let mut bytes = RowBytes::new(table);
    values.into_iter().for_each(|value| bytes.push(value));
    bytes.checksum()
}

/// The same of integers alone, of which there are many, and of a table whose name has at most 16 bytes.
pub(super) fn checksum_of_integers(table: &str, values: [i64; 6]) -> i64 {
    let mut bytes = [0; 9 + 16 + 6 * 9];
    let (name, rest) = bytes.split_at_mut(9 + table.len());
    name[0] = b't';
    name[1..9].copy_from_slice(&(table.len() as u64).to_le_bytes());
    name[9..].copy_from_slice(table.as_bytes());
    for (place, value) in rest.chunks_exact_mut(9).zip(values) {
        place[0] = b'i';
        place[1..].copy_from_slice(&value.to_le_bytes());
    }
    XxHash3_64::oneshot(&bytes[..9 + table.len() + 6 * 9]).cast_signed()
}

impl Table {
    /// Selects the rows, checksum last, with the rest of the statement behind it.
    pub(super) fn select(&self, rest: &str) -> String {
        format!("SELECT {}, checksum FROM {} {rest}", self.columns.join(", "), self.name)
    }

    /// The checksum of a row of [`Table::select`].
    ///
    /// # Errors
    /// If it is not that of the other columns: then the row is damaged.
    pub(super) fn verify(&self, row: &Row) -> Result<i64> {
        let stands: i64 = row.get(self.columns.len())?;
        let mut bytes = RowBytes::new(self.name);
        for at in 0..self.columns.len() {
            bytes.push(row.get_ref(at)?);
        }
        if bytes.checksum() != stands {
            let key: i64 = row.get(0)?;
            bail!(Damage(format!("row {key} of {} is not what was written", self.name)));
        }
        Ok(stands)
    }

    /// Gives `each` every row of the table, verified, in the order of its key.
    ///
    /// # Errors
    /// If a row is damaged, missing or too many, and with what `each` returns.
    pub(super) fn scan(&self, conn: &Connection, mut each: impl FnMut(&Row) -> Result<()>) -> Result<()> {
        let mut statement = conn.prepare(&self.select(&format!("ORDER BY {}", self.key)))?;
        let mut rows = statement.query([])?;
        let mut found = Seal::NONE;
        while let Some(row) = rows.next()? {
            found = found.plus(1, self.verify(row)?);
            each(row)?;
        }
        if found != self.seal(conn)? {
            bail!(Damage(format!("rows of {} are missing or too many", self.name)));
        }
        Ok(())
    }

    /// SQL that is true of the row whose key are the first values.
    fn has_key(&self) -> String {
        let columns = self.key.split(", ").zip(1..).map(|(column, at)| format!("{column} = ?{at}"));
        columns.collect::<Vec<_>>().join(" AND ")
    }

    /// What is known of all rows together.
    pub(super) fn seal(&self, conn: &Connection) -> Result<Seal> {
        let sql = "SELECT rows, checksum FROM seal WHERE name = ?1";
        let mut select = conn.prepare_cached(sql)?;
        let seal = select.query_row([self.name], |row| Ok(Seal { rows: row.get(0)?, checksum: row.get(1)? }));
        match seal.optional()? {
            Some(seal) => Ok(seal),
            None => bail!(Damage(format!("the seal of {} is missing", self.name))),
        }
    }

    /// Writes what is known of all rows together.
    pub(super) fn set_seal(&self, conn: &Connection, seal: Seal) -> Result<()> {
        let sql = "INSERT INTO seal (name, rows, checksum) VALUES (?1, ?2, ?3)
                   ON CONFLICT DO UPDATE SET rows = excluded.rows, checksum = excluded.checksum";
        conn.prepare_cached(sql)?.execute(params![self.name, seal.rows, seal.checksum])?;
        Ok(())
    }

    /// Gives every row its checksum and the table its seal, whatever stands there.
    pub(super) fn seal_anew(&self, conn: &Connection) -> Result<()> {
        let mut statement = conn.prepare(&self.select(""))?;
        let mut rows = statement.query([])?;
        let mut seal = Seal::NONE;
        let key = self.key.split(", ").count();
        let mut changed = Vec::new();
        while let Some(row) = rows.next()? {
            let values = (0..self.columns.len()).map(|at| row.get_ref(at)).collect::<Result<Vec<_>, _>>()?;
            let checksum = checksum(self.name, values);
            seal = seal.plus(1, checksum);
            let of = (0..key).map(|at| row.get::<_, i64>(at)).collect::<Result<Vec<_>, _>>()?;
            changed.push((of, checksum));
        }
        let sql = format!("UPDATE {} SET checksum = ?{} WHERE {}", self.name, key + 1, self.has_key());
        let mut update = conn.prepare(&sql)?;
        for (mut values, checksum) in changed {
            values.push(checksum);
            update.execute(rusqlite::params_from_iter(values))?;
        }
        self.set_seal(conn, seal)
    }
}

/// How many rows there are, and the sum of their checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    pub rows: i64,
    pub checksum: i64,
}

impl Seal {
    /// Of no rows.
    pub(super) const NONE: Seal = Seal { rows: 0, checksum: 0 };

    /// With so many more rows, and with this much more in the sum.
    pub(super) fn plus(self, rows: i64, checksum: i64) -> Seal {
        Seal { rows: self.rows.wrapping_add(rows), checksum: self.checksum.wrapping_add(checksum) }
    }
}

/// Which database this is, and how far it has come. Kept among the seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Grows with every commit.
    commits: i64,
    /// Drawn at random when the database was made.
    identity: i64,
}

/// Its name there.
const MARK: &str = "commits";

impl Mark {
    /// None if none has been set yet.
    pub(super) fn read(conn: &Connection) -> Result<Option<Mark>> {
        let sql = "SELECT rows, checksum FROM seal WHERE name = ?1";
        let mark = conn.query_row(sql, [MARK], |row| Ok(Mark { commits: row.get(0)?, identity: row.get(1)? }));
        Ok(mark.optional()?)
    }

    /// Notes that there is one more commit, within it.
    pub(super) fn advance(conn: &Connection) -> rusqlite::Result<()> {
        let sql = "INSERT INTO seal (name, rows, checksum) VALUES (?1, 1, random())
                   ON CONFLICT DO UPDATE SET rows = rows + 1";
        conn.prepare_cached(sql)?.execute([MARK]).map(|_| ())
    }

    /// Whether it is of the same database, and no earlier.
    pub(super) fn follows(self, earlier: Mark) -> bool {
        self.identity == earlier.identity && self.commits >= earlier.commits
    }
}

/// Writes rows of a table with their checksums, and its seal when all are written.
pub(super) struct Puts<'c> {
    table: &'static Table,
    conn: &'c Connection,
    put: CachedStatement<'c>,
    seal: Seal,
    /// Whether anything was written or taken out.
    pub changed: bool,
}

impl<'c> Puts<'c> {
    /// For rows of `table`.
    pub(super) fn new(conn: &'c Connection, table: &'static Table) -> Result<Self> {
        let columns = || table.columns.iter().chain([&"checksum"]);
        // If its key was set, to what it is, SQLite would look through all rows that refer to it.
        let rest = || columns().filter(|column| table.key.split(", ").all(|key| key != **column));
        let sql = format!(
            "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {}",
            table.name,
            columns().copied().collect::<Vec<_>>().join(", "),
            columns().zip(1..).map(|(_, at)| format!("?{at}")).collect::<Vec<_>>().join(", "),
            table.key,
            rest().map(|column| format!("{column} = excluded.{column}")).collect::<Vec<_>>().join(", "),
        );
        Ok(Puts { table, conn, put: conn.prepare_cached(&sql)?, seal: table.seal(conn)?, changed: false })
    }

    /// Writes a row, whose checksum it returns; `before` is that of the one in its place.
    pub(super) fn put(&mut self, before: Option<i64>, values: &[&dyn ToSql]) -> Result<i64> {
        let mut bytes = RowBytes::new(self.table.name);
        for (value, at) in values.iter().zip(1..) {
            let output = value.to_sql()?;
            bytes.push(value_of(&output)?);
            self.put.raw_bind_parameter(at, output)?;
        }
        let checksum = bytes.checksum();
        self.put.raw_bind_parameter(values.len() + 1, checksum)?;
        self.put.raw_execute()?;
        self.seal = match before {
            None => self.seal.plus(1, checksum),
            Some(before) => self.seal.plus(0, checksum.wrapping_sub(before)),
        };
        self.changed = true;
        Ok(checksum)
    }

    /// Takes out the row with this key; `before` is its checksum.
    pub(super) fn remove(&mut self, before: i64, key: &[i64]) -> Result<()> {
        let sql = format!("DELETE FROM {} WHERE {}", self.table.name, self.table.has_key());
        self.conn.execute(&sql, rusqlite::params_from_iter(key))?;
        self.seal = self.seal.plus(-1, before.wrapping_neg());
        self.changed = true;
        Ok(())
    }

    /// The number for a new row of a table with an id.
    pub(super) fn next_id(&self) -> Result<i64> {
        let sql = format!("SELECT coalesce(max(id), 0) + 1 FROM {}", self.table.name);
        Ok(self.conn.prepare_cached(&sql)?.query_row([], |row| row.get(0))?)
    }

    /// Writes the seal.
    pub(super) fn seal(self) -> Result<()> {
        if self.changed { self.table.set_seal(self.conn, self.seal) } else { Ok(()) }
    }
}

/// The value that will be written.
pub(super) fn value_of<'a>(output: &'a ToSqlOutput<'_>) -> Result<ValueRef<'a>> {
    match output {
        ToSqlOutput::Borrowed(value) => Ok(*value),
        ToSqlOutput::Owned(value) => Ok(value.into()),
        _ => bail!("no such value is kept"),
    }
}
