//! From a ledger's numbers to rows: who is which row, and adding to them.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use rusqlite::{CachedStatement, Connection, OptionalExtension, ToSql, params};

use super::level::{BUCKETS, Changes, DAYS, Level, REMEMBERED, Recent, Usage, remember};
use super::table::{self, Damage, ENDPOINT, IMPORT, Mark, NETWORK, PAIR, Puts, TOTAL, Table};
use super::{Import, NetworkId, to_sql};
use crate::time::DAY_SECONDS;
use crate::traffic::{DeltaRow, Directory, End, Endpoint, Origin, Totals};

/// The end whose totals are those of clients while `/metrics` had no room for them. It has no usage.
pub(super) const UNLISTED: &str = "unlisted";

/// The end that clients were folded into that the user wanted forgotten. Reports show it as `other`; `/metrics` does
/// not, as nothing of it is captured now.
pub(super) const FORGOTTEN: &str = "forgotten";

/// One meter's traffic on its way into a database: remembers which rows the numbers of the meter's [`Directory`]
/// stand for. It takes 8 bytes a pair and an endpoint.
#[derive(Debug)]
pub struct Source {
    network: NetworkId,
    origin: Origin,
    /// The writer's epoch in which the rest was found.
    epoch: u64,
    /// The ids of the rows, by the numbers in the directory; 0 is none yet.
    endpoints: Vec<i64>,
    pairs: Vec<i64>,
}

impl Source {
    /// The traffic of `network` that one meter counts. Each meter needs its own, as each numbers its pairs itself.
    pub fn new(network: NetworkId, origin: Origin) -> Self {
        Source { network, origin, epoch: 0, endpoints: Vec::new(), pairs: Vec::new() }
    }

    /// Whose traffic it is.
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// Forgets what was found before `epoch`.
    pub(super) fn renew(&mut self, epoch: u64) {
        if self.epoch != epoch {
            *self = Source { epoch, ..Source::new(self.network, self.origin) };
        }
    }

    /// Finds or makes the rows of all pairs that `rows` speak of.
    pub(super) fn find_pairs(&mut self, conn: &Connection, directory: &Directory, rows: &[DeltaRow]) -> Result<()> {
        let mut endpoint = Finder::new(conn, &ENDPOINT)?;
        let mut pair = Finder::new(conn, &PAIR)?;
        let network = self.network.0;
        for row in rows {
            let known = slot(&mut self.pairs, row.pair);
            if *known == 0 {
                let (src, dst) = directory.ends(row.pair);
                for number in [src, dst] {
                    let id = slot(&mut self.endpoints, number);
                    if *id == 0 {
                        let Endpoint { end, mac } = directory.endpoint(number);
                        let mac = mac.map(|mac| mac.to_string()).unwrap_or_default();
                        *id = endpoint.id(&[&network, &end.to_string(), &mac])?;
                    }
                }
                *known = pair.id(&[&self.endpoints[src as usize], &self.endpoints[dst as usize]])?;
            }
        }
        endpoint.puts.seal()?;
        pair.puts.seal()
    }

    /// How the traffic comes in.
    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// Adds to the usage of `origin` (0 or the import's), of buckets and of days; `written` is the time by the history's
    /// clock. The pairs must have been found.
    pub(super) fn add_usage(
        &self,
        conn: &Connection,
        rows: &[DeltaRow],
        origin: i64,
        written: i64,
        recent: &mut Remembered,
    ) -> Result<()> {
        let usage = |row: &DeltaRow| -> Result<_> {
            let usage = Usage {
                bytes: to_sql(row.counts.bytes)?,
                packets: to_sql(row.counts.packets)?,
                copies: to_sql(row.counts.copies)?,
                first: to_sql(row.first)?,
                last: to_sql(row.last)?,
            };
            Ok((row.bucket, self.pairs[row.pair as usize], usage))
        };
        let add = |level: &'static Level, recent, rows: &mut [_]| {
            let mut changes = Changes::recalling(conn, level, recent)?;
            changes.add_all(self.network.0, origin, written, rows)?;
            changes.seal()
        };
        let mut usage: Vec<_> = rows.iter().map(usage).collect::<Result<_>>()?;
        add(&BUCKETS, &mut recent.buckets, &mut usage)?;
        for (bucket, _, usage) in &mut usage {
            let day = bucket.widened(DAY_SECONDS);
            *usage = usage.within(*bucket, day);
            *bucket = day;
        }
        add(&DAYS, &mut recent.days, &mut usage)
    }

    /// Adds to the totals of both ends. The pairs must have been found.
    pub(super) fn add_totals(
        &self,
        conn: &Connection,
        directory: &Directory,
        rows: &[DeltaRow],
        recent: &mut Remembered,
    ) -> Result<()> {
        let mut sums: BTreeMap<i64, Totals> = BTreeMap::new();
        let mut sum = |endpoint: u32, more: Totals| {
            if directory.endpoint(endpoint).end != End::Beyond {
                let id = self.endpoints[endpoint as usize];
                sums.entry(id).and_modify(|sum| sum.add(&more)).or_insert(more);
            }
        };
        for row in rows {
            let (src, dst) = directory.ends(row.pair);
            let none = Totals::none(row.seen());
            sum(src, Totals { sent_bytes: row.counts.bytes, sent_packets: row.counts.packets, ..none });
            sum(dst, Totals { received_bytes: row.counts.bytes, received_packets: row.counts.packets, ..none });
        }
        add_totals(conn, self.origin, sums, &mut recent.totals)
    }

    /// Adds to the totals of the clients that `/metrics` has no room for.
    pub(super) fn add_unlisted(&self, conn: &Connection, more: Totals, recent: &mut Remembered) -> Result<()> {
        let mut endpoint = Finder::new(conn, &ENDPOINT)?;
        let id = endpoint.id(&[&self.network.0, &UNLISTED, &""])?;
        endpoint.puts.seal()?;
        add_totals(conn, self.origin, [(id, more)], &mut recent.totals)
    }
}

/// The place for a number.
fn slot(ids: &mut Vec<i64>, number: u32) -> &mut i64 {
    let number = number as usize;
    if ids.len() <= number {
        ids.resize(number + 1, 0);
    }
    &mut ids[number]
}

/// What was written last, as it stands in the database, so that it need not be read before it is added to. To be
/// forgotten when anything else changes it, and when a transaction is rolled back.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    buckets: Recent,
    days: Recent,
    totals: KnownTotals,
}

/// Rows of totals with their checksums, by endpoint and origin.
pub(super) type KnownTotals = HashMap<(i64, i64), (Totals, i64)>;

/// Adds to the totals of endpoints, given by their ids.
pub(super) fn add_totals(
    conn: &Connection,
    origin: Origin,
    sums: impl IntoIterator<Item = (i64, Totals)>,
    known: &mut KnownTotals,
) -> Result<()> {
    let mut select = conn.prepare_cached(&TOTAL.select("WHERE endpoint = ?1 AND origin = ?2"))?;
    let mut puts = Puts::new(conn, &TOTAL)?;
    for (endpoint, mut sum) in sums {
        let key = (endpoint, origin as i64);
        let has_room = known.len() < REMEMBERED;
        let known = known.entry(key);
        let before = match &known {
            Entry::Occupied(known) => Some(*known.get()),
            Entry::Vacant(_) => {
                let mut found = select.query(params![endpoint, origin as i64])?;
                found.next()?.map(|row| anyhow::Ok((super::totals(row, 2)?, TOTAL.verify(row)?))).transpose()?
            }
        };
        if let Some((totals, _)) = &before {
            sum.add(totals);
        }
        let (first, last) = (sum.seen.first.clamped(), sum.seen.last.clamped());
        let counts = [sum.sent_bytes, sum.received_bytes, sum.sent_packets, sum.received_packets];
        let [sent_bytes, received_bytes, sent_packets, received_packets] = counts.map(to_sql);
        let checksum = puts.put(
            before.map(|(_, checksum)| checksum),
            &[
                &endpoint,
                &(origin as i64),
                &sent_bytes?,
                &received_bytes?,
                &sent_packets?,
                &received_packets?,
                &first.0,
                &first.1,
                &last.0,
                &last.1,
            ],
        )?;
        remember(known, has_room, (sum, checksum));
    }
    puts.seal()
}

/// Finds the id of a row that never changes, or makes the row.
pub(super) struct Finder<'c> {
    table: &'static Table,
    find: CachedStatement<'c>,
    get: CachedStatement<'c>,
    next: i64,
    pub puts: Puts<'c>,
}

impl<'c> Finder<'c> {
    pub(super) fn new(conn: &'c Connection, table: &'static Table) -> Result<Self> {
        let equal: Vec<_> =
            table.columns[1..].iter().zip(1..).map(|(column, at)| format!("{column} = ?{at}")).collect();
        let find = conn.prepare_cached(&format!("SELECT id FROM {} WHERE {}", table.name, equal.join(" AND ")))?;
        let get = conn.prepare_cached(&table.select("WHERE id = ?1"))?;
        let puts = Puts::new(conn, table)?;
        Ok(Finder { table, find, get, next: puts.next_id()?, puts })
    }

    /// `values` are those of all columns but the id.
    pub(super) fn id(&mut self, values: &[&dyn ToSql]) -> Result<i64> {
        let Some(id) = self.find.query_row(values, |row| row.get(0)).optional()? else {
            let id = self.next;
            self.next += 1;
            let mut all: Vec<&dyn ToSql> = vec![&id];
            all.extend(values);
            self.puts.put(None, &all)?;
            return Ok(id);
        };
        // The index found it; only the row itself can be believed.
        let mut rows = self.get.query([id])?;
        let same = match rows.next()? {
            None => false,
            Some(row) => {
                self.table.verify(row)?;
                let mut same = true;
                for (at, value) in values.iter().enumerate() {
                    same &= table::value_of(&value.to_sql()?)? == row.get_ref(at + 1)?;
                }
                same
            }
        };
        if !same {
            bail!(Damage(format!("the index of {} leads to another row than {id}", self.table.name)));
        }
        Ok(id)
    }
}

/// The network's row, found or made as [`Writer::network`](super::Writer::network) says.
pub(super) fn network(conn: &mut Connection, name: &str, device: &str) -> Result<NetworkId> {
    struct Network {
        id: i64,
        name: String,
        device: String,
        checksum: i64,
    }
    let tx = conn.savepoint()?;
    let mut known = Vec::new();
    NETWORK.scan(&tx, |row| {
        known.push(Network { id: row.get(0)?, name: row.get(1)?, device: row.get(2)?, checksum: row.get(3)? });
        Ok(())
    })?;
    let on_device = |network: &&Network| !device.is_empty() && network.device == device;
    let by_name = || known.iter().find(|network| network.name == name);
    let found = if name == device {
        // It keeps its name when its device comes back without one.
        known.iter().find(on_device).or_else(by_name)
    } else {
        // What has the device's name while it has none of its own gets it now.
        by_name().or_else(|| known.iter().find(|network| on_device(network) && network.name == device))
    };
    let mut puts = Puts::new(&tx, &NETWORK)?;
    let id = match found {
        Some(network) => network.id,
        None => puts.next_id()?,
    };
    let name = found.filter(|_| name == device).map_or(name, |network| &network.name);
    // A device stands for one network, the last one seen there.
    for other in known.iter().filter(|other| !device.is_empty() && other.device == device && other.id != id) {
        puts.put(Some(other.checksum), &[&other.id, &other.name, &""])?;
    }
    let device = found.filter(|_| device.is_empty()).map_or(device, |network| &network.device);
    if found.is_none_or(|found| (found.name.as_str(), found.device.as_str()) != (name, device)) {
        puts.put(found.map(|found| found.checksum), &[&id, &name, &device])?;
    }
    let changed = puts.changed;
    puts.seal()?;
    if changed {
        Mark::advance(&tx)?;
    }
    tx.commit()?;
    Ok(NetworkId(id))
}

/// The origin for an import's usage that no other import has.
pub(super) fn next_origin(conn: &Connection) -> Result<i64> {
    let sql = "SELECT max(0, coalesce((SELECT max(origin) FROM bucket), 0), coalesce((SELECT max(origin) FROM import), 0)) + 1";
    Ok(conn.query_row(sql, [], |row| row.get(0))?)
}

/// Notes an import, whose usage has this origin.
pub(super) fn import(conn: &Connection, import: &Import, origin: i64) -> Result<()> {
    let (first, last) = (import.seen.map(|seen| seen.first.clamped()), import.seen.map(|seen| seen.last.clamped()));
    let mut puts = Puts::new(conn, &IMPORT)?;
    let values: [&dyn ToSql; 11] = [
        &puts.next_id()?,
        &import.sha256,
        &import.name,
        &to_sql(import.size)?,
        &import.imported_at.clamped().0,
        &to_sql(import.frames)?,
        &first.map(|time| time.0),
        &first.map(|time| time.1),
        &last.map(|time| time.0),
        &last.map(|time| time.1),
        &origin,
    ];
    puts.put(None, &values)?;
    puts.seal()
}
