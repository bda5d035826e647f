//! From a ledger's numbers to rows: who is which row, and adding to them.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, Statement, params};

use super::{Import, NetworkId, offset, to_sql};
use crate::traffic::{DeltaRow, Directory, End, Endpoint, Origin, Totals};

/// One meter's traffic on its way into a database: remembers which rows the numbers of the meter's [`Directory`]
/// stand for. It takes 24 bytes a pair and some 70 an endpoint.
#[derive(Debug)]
pub struct Source {
    network: NetworkId,
    origin: Origin,
    /// The writer's epoch in which the rest was found.
    epoch: u64,
    endpoints: HashMap<Endpoint, i64>,
    /// By the pair's number.
    pairs: Vec<Ids>,
}

/// The row ids of a pair, and of its ends that have totals. 0 is none.
#[derive(Clone, Copy, Debug, Default)]
struct Ids {
    pair: i64,
    src: i64,
    dst: i64,
}

impl Source {
    /// The traffic of `network` that one meter counts. Each meter needs its own, as each numbers its pairs itself.
    pub fn new(network: NetworkId, origin: Origin) -> Self {
        Source { network, origin, epoch: 0, endpoints: HashMap::new(), pairs: Vec::new() }
    }

    /// Forgets what was found before `epoch`.
    pub(super) fn renew(&mut self, epoch: u64) {
        if self.epoch != epoch {
            *self = Source { epoch, ..Source::new(self.network, self.origin) };
        }
    }

    /// Finds or makes the rows of all pairs that `rows` speak of.
    pub(super) fn find_pairs(&mut self, conn: &Connection, directory: &Directory, rows: &[DeltaRow]) -> Result<()> {
        let mut endpoint = Finder::new(
            conn,
            "INSERT INTO endpoint (network, addr, mac) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            "SELECT id FROM endpoint WHERE network = ?1 AND addr = ?2 AND mac = ?3",
        )?;
        let mut pair = Finder::new(
            conn,
            "INSERT INTO pair (src, dst) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            "SELECT id FROM pair WHERE src = ?1 AND dst = ?2",
        )?;
        let network = self.network.0;
        let mut endpoint_id = |endpoints: &mut HashMap<Endpoint, i64>, who: Endpoint| -> Result<i64> {
            if let Some(&id) = endpoints.get(&who) {
                return Ok(id);
            }
            let mac = who.mac.map(|mac| mac.to_string()).unwrap_or_default();
            let id = endpoint.id(conn, params![network, who.end.to_string(), mac])?;
            endpoints.insert(who, id);
            Ok(id)
        };
        for row in rows {
            let number = row.pair as usize;
            if self.pairs.len() <= number {
                self.pairs.resize(number + 1, Ids::default());
            }
            if self.pairs[number].pair == 0 {
                let (src, dst) = directory.pair(row.pair);
                let src_id = endpoint_id(&mut self.endpoints, src)?;
                let dst_id = endpoint_id(&mut self.endpoints, dst)?;
                let with_total = |who: Endpoint, id| if who.end == End::Beyond { 0 } else { id };
                self.pairs[number] = Ids {
                    pair: pair.id(conn, params![src_id, dst_id])?,
                    src: with_total(src, src_id),
                    dst: with_total(dst, dst_id),
                };
            }
        }
        Ok(())
    }

    /// Adds to the usage. The pairs must have been found.
    pub(super) fn add_usage(&self, conn: &Connection, rows: &[DeltaRow]) -> Result<()> {
        let mut upsert = conn.prepare(
            "INSERT INTO usage (bucket, origin, pair, bytes, packets, copies, first, last)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO UPDATE SET
                 bytes = bytes + excluded.bytes,
                 packets = packets + excluded.packets,
                 copies = copies + excluded.copies,
                 first = min(first, excluded.first),
                 last = max(last, excluded.last)",
        )?;
        // In the order of the key, each page is visited once.
        let mut keyed: Vec<(i64, i64, &DeltaRow)> =
            rows.iter().map(|row| (row.bucket, self.pairs[row.pair as usize].pair, row)).collect();
        keyed.sort_unstable_by_key(|&(bucket, pair, _)| (bucket, pair));
        for (bucket, pair, row) in keyed {
            upsert.execute(params![
                bucket,
                self.origin as i64,
                pair,
                to_sql(row.counts.bytes)?,
                to_sql(row.counts.packets)?,
                to_sql(row.counts.copies)?,
                offset(bucket, row.seen.first),
                offset(bucket, row.seen.last),
            ])?;
        }
        Ok(())
    }

    /// Adds to the totals of both ends. The pairs must have been found.
    pub(super) fn add_totals(&self, conn: &Connection, rows: &[DeltaRow]) -> Result<()> {
        let mut sums: BTreeMap<i64, Totals> = BTreeMap::new();
        let mut sum = |endpoint: i64, more: Totals| {
            if endpoint != 0 {
                sums.entry(endpoint).and_modify(|sum| sum.add(&more)).or_insert(more);
            }
        };
        for row in rows {
            let Ids { src, dst, .. } = self.pairs[row.pair as usize];
            let none = Totals::none(row.seen);
            sum(src, Totals { sent_bytes: row.counts.bytes, sent_packets: row.counts.packets, ..none });
            sum(dst, Totals { received_bytes: row.counts.bytes, received_packets: row.counts.packets, ..none });
        }
        let mut upsert = conn.prepare(
            "INSERT INTO total (endpoint, origin, sent_bytes, received_bytes, sent_packets, received_packets,
                                first_seen, first_ns, last_seen, last_ns)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT DO UPDATE SET
                 sent_bytes = sent_bytes + excluded.sent_bytes,
                 received_bytes = received_bytes + excluded.received_bytes,
                 sent_packets = sent_packets + excluded.sent_packets,
                 received_packets = received_packets + excluded.received_packets,
                 first_seen = min(first_seen, excluded.first_seen),
                 first_ns = CASE WHEN (excluded.first_seen, excluded.first_ns) < (first_seen, first_ns)
                                 THEN excluded.first_ns ELSE first_ns END,
                 last_seen = max(last_seen, excluded.last_seen),
                 last_ns = CASE WHEN (excluded.last_seen, excluded.last_ns) > (last_seen, last_ns)
                                THEN excluded.last_ns ELSE last_ns END",
        )?;
        for (endpoint, sum) in sums {
            let (first, last) = (sum.seen.first.clamped(), sum.seen.last.clamped());
            upsert.execute(params![
                endpoint,
                self.origin as i64,
                to_sql(sum.sent_bytes)?,
                to_sql(sum.received_bytes)?,
                to_sql(sum.sent_packets)?,
                to_sql(sum.received_packets)?,
                first.0,
                first.1,
                last.0,
                last.1,
            ])?;
        }
        Ok(())
    }
}

/// Finds the id of a row, or makes the row.
struct Finder<'c> {
    insert: Statement<'c>,
    select: Statement<'c>,
}

impl<'c> Finder<'c> {
    /// `insert` does nothing if the row is there; `select` takes the same values and gives its id.
    fn new(conn: &'c Connection, insert: &str, select: &str) -> Result<Self> {
        Ok(Finder { insert: conn.prepare(insert)?, select: conn.prepare(select)? })
    }

    fn id(&mut self, conn: &Connection, values: &[&dyn rusqlite::ToSql]) -> Result<i64> {
        match self.insert.execute(values)? {
            0 => Ok(self.select.query_row(values, |row| row.get(0))?),
            _ => Ok(conn.last_insert_rowid()),
        }
    }
}

/// The network's row, found or made as [`Writer::network`](super::Writer::network) says.
pub(super) fn network(conn: &mut Connection, name: &str, device: &str) -> Result<NetworkId> {
    let tx = conn.savepoint()?;
    let find = |sql, value: &str| tx.query_row(sql, [value], |row| row.get(0)).optional();
    let mut id: Option<i64> = find("SELECT id FROM network WHERE name = ?1", name)?;
    if id.is_none() && !device.is_empty() {
        id = if name == device {
            find("SELECT id FROM network WHERE device = ?1", device)?
        } else {
            find("SELECT id FROM network WHERE device = ?1 AND name = ?1", device)?
        };
    }
    let id = match id {
        Some(id) => id,
        None => tx.query_row("INSERT INTO network (name) VALUES (?1) RETURNING id", [name], |row| row.get(0))?,
    };
    // A network keeps its name when its device comes back without one.
    if name != device {
        tx.execute("UPDATE network SET name = ?2 WHERE id = ?1 AND name <> ?2", params![id, name])?;
    }
    // A device stands for one network, the last one seen there.
    if !device.is_empty() {
        tx.execute("UPDATE network SET device = '' WHERE device = ?2 AND id <> ?1", params![id, device])?;
        tx.execute("UPDATE network SET device = ?2 WHERE id = ?1 AND device <> ?2", params![id, device])?;
    }
    tx.commit()?;
    Ok(NetworkId(id))
}

/// Notes an import.
pub(super) fn import(conn: &Connection, import: &Import) -> Result<()> {
    let (first, last) = (import.seen.map(|seen| seen.first.clamped()), import.seen.map(|seen| seen.last.clamped()));
    let values = params![
        import.sha256,
        import.name,
        to_sql(import.size)?,
        import.imported_at.clamped().0,
        to_sql(import.frames)?,
        first.map(|time| time.0),
        first.map(|time| time.1),
        last.map(|time| time.0),
        last.map(|time| time.1),
    ];
    let sql = "INSERT INTO import (sha256, name, size, imported_at, frames, first_seen, first_ns, last_seen, last_ns)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    conn.execute(sql, values)?;
    Ok(())
}
