//! Folding clients that nobody wants to tell apart, such as those of a flood of spoofed addresses.

use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::Result;
use rusqlite::{Connection, params};

use super::add::{FORGOTTEN, KnownTotals, add_totals};
use super::level::{BUCKETS, DAYS};
use super::read;
use super::rows::endpoint;
use super::table::{ENDPOINT, TOTAL};
use super::{Writer, blame, migrate, totals};
use crate::traffic::{End, Origin, Totals};

/// What was folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// How many addresses, in all networks.
    pub addresses: u64,
    /// What they had sent and received: bytes.
    pub sent_bytes: u64,
    /// Bytes.
    pub received_bytes: u64,
}

/// A client of one network, with all its endpoints.
#[derive(Default)]
struct Client {
    endpoints: Vec<i64>,
    totals: Vec<(Origin, Totals)>,
}

impl Writer {
    /// Folds the clients that `which` chooses by address and lifetime totals into one that reports show as `other`.
    /// Every sum stays. Their counters leave `/metrics` and no other moves. A dry run changes
    /// nothing.
    ///
    /// # Errors
    /// If the database is damaged, as what is written anew would be believed, or if it cannot be
    /// written.
    pub fn forget(&mut self, which: impl Fn(IpAddr, &Totals) -> bool, dry_run: bool) -> Result<Forgotten> {
        // To look for what refers to each row that goes would take a pass over all usage, each time.
        self.conn.pragma_update(None, "foreign_keys", false)?;
        let forgotten = self.fold(which, dry_run);
        let restored = self.conn.pragma_update(None, "foreign_keys", true);
        let forgotten = forgotten?;
        restored?;
        Ok(forgotten)
    }

    fn fold(&mut self, which: impl Fn(IpAddr, &Totals) -> bool, dry_run: bool) -> Result<Forgotten> {
        self.begin()?;
        self.forget_rows();
        let folded = fold(&self.conn, which, dry_run).map_err(|error| blame(&self.path, "cannot write to", error));
        let folded = self.or_roll_back(folded)?;
        if dry_run || folded.addresses == 0 {
            self.rollback()?;
            return Ok(folded);
        }
        self.commit()?;
        Ok(folded)
    }

    /// Gives the disk back what the database has no use for.
    ///
    /// # Errors
    /// If there is no room for a copy meanwhile; then the database is as it was.
    pub fn shrink(&mut self) -> Result<()> {
        let sql = "PRAGMA temp_store = FILE; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);";
        self.conn.execute_batch(sql).map_err(|error| blame(&self.path, "cannot shrink", error.into()))
    }
}

fn fold(conn: &Connection, which: impl Fn(IpAddr, &Totals) -> bool, dry_run: bool) -> Result<Forgotten> {
    read::verify(conn)?;
    let mut owners = HashMap::new();
    let mut clients: HashMap<(i64, IpAddr), Client> = HashMap::new();
    ENDPOINT.scan(conn, |row| {
        if let End::Addr(addr) = endpoint(row, 2)?.end {
            let (id, key) = (row.get(0)?, (row.get(1)?, addr));
            owners.insert(id, key);
            clients.entry(key).or_default().endpoints.push(id);
        }
        Ok(())
    })?;
    TOTAL.scan(conn, |row| {
        let origin = if row.get::<_, i64>(1)? == Origin::Live as i64 { Origin::Live } else { Origin::Import };
        if let Some(client) = owners.get(&row.get(0)?).and_then(|key| clients.get_mut(key)) {
            client.totals.push((origin, totals(row, 2)?));
        }
        Ok(())
    })?;
    let mut folded = Forgotten::default();
    let mut sums: HashMap<(i64, Origin), Totals> = HashMap::new();
    let mut endpoints = Vec::new();
    for ((network, addr), client) in clients {
        let Some(all) = client.totals.iter().map(|(_, totals)| *totals).reduce(|mut all, more| {
            all.add(&more);
            all
        }) else {
            continue;
        };
        if which(addr, &all) {
            folded.addresses += 1;
            folded.sent_bytes += all.sent_bytes;
            folded.received_bytes += all.received_bytes;
            for (origin, totals) in client.totals {
                sums.entry((network, origin)).and_modify(|sum| sum.add(&totals)).or_insert(totals);
            }
            endpoints.extend(client.endpoints.into_iter().map(|id| (id, network)));
        }
    }
    if dry_run || endpoints.is_empty() {
        return Ok(folded);
    }
    let mut place = HashMap::new();
    conn.execute_batch("CREATE TEMP TABLE folded (endpoint INTEGER PRIMARY KEY, place INTEGER NOT NULL)")?;
    for (id, network) in endpoints {
        let place = match place.get(&network) {
            Some(place) => *place,
            None => {
                let at = params![network, FORGOTTEN];
                conn.execute("INSERT OR IGNORE INTO endpoint (network, addr, mac) VALUES (?1, ?2, '')", at)?;
                let sql = "SELECT id FROM endpoint WHERE network = ?1 AND addr = ?2 AND mac = ''";
                *place.entry(network).or_insert(conn.query_row(sql, at, |row| row.get(0))?)
            }
        };
        conn.execute("INSERT INTO folded (endpoint, place) VALUES (?1, ?2)", [id, place])?;
    }
    conn.execute_batch(
        "CREATE TEMP TABLE ends AS
         SELECT pair.id, coalesce(s.place, pair.src) AS src, coalesce(d.place, pair.dst) AS dst
         FROM pair LEFT JOIN folded AS s ON s.endpoint = pair.src LEFT JOIN folded AS d ON d.endpoint = pair.dst
         WHERE s.place IS NOT NULL OR d.place IS NOT NULL;
         INSERT OR IGNORE INTO pair (src, dst) SELECT DISTINCT src, dst FROM ends;
         CREATE TEMP TABLE moved (pair INTEGER PRIMARY KEY, place INTEGER NOT NULL);
         INSERT INTO moved SELECT ends.id, pair.id FROM ends JOIN pair ON pair.src = ends.src AND pair.dst = ends.dst;",
    )?;
    for level in [&BUCKETS, &DAYS] {
        let (usage, key, add) = (level.usage, level.key, level.add_sql("sums"));
        conn.execute_batch(&format!(
            "CREATE TEMP TABLE sums AS
             SELECT {key}, moved.place AS pair, bytes, packets, copies, first, last
             FROM {usage} JOIN moved ON moved.pair = {usage}.pair;
             DELETE FROM {usage} WHERE pair IN (SELECT pair FROM moved);
             {add}
             DROP TABLE sums;"
        ))?;
    }
    conn.execute_batch(
        "DELETE FROM pair WHERE id IN (SELECT pair FROM moved);
         DELETE FROM total WHERE endpoint IN (SELECT endpoint FROM folded);
         DELETE FROM endpoint WHERE id IN (SELECT endpoint FROM folded);
         DROP TABLE folded; DROP TABLE ends; DROP TABLE moved;",
    )?;
    migrate::seal(conn)?;
    for origin in [Origin::Live, Origin::Import] {
        let sums = sums.iter().filter(|((_, of), _)| *of == origin);
        add_totals(
            conn,
            origin,
            sums.map(|((network, _), totals)| (place[network], *totals)),
            &mut KnownTotals::new(),
        )?;
    }
    Ok(folded)
}
