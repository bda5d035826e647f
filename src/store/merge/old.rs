//! A database that is merged, as it was at one moment.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::Result;
use rusqlite::Connection;
use rusqlite::types::Value;

use crate::store::history::History;
use crate::store::level::{BUCKETS, DAYS, Interval, Usage};
use crate::store::table::{BUCKET, DAY, Damage, ENDPOINT, IMPORT, NETWORK, PAIR, TOTAL};
use crate::store::{count, totals};
use crate::traffic::{End, Origin, Totals};

/// An end as its row has it.
#[derive(Clone, Debug)]
pub struct OldEnd {
    pub network: i64,
    pub addr: String,
    pub mac: String,
}

impl OldEnd {
    /// Whether it stands for the far end of packets that count for their near end only.
    pub fn is_beyond(&self) -> bool {
        self.addr == End::Beyond.to_string()
    }
}

/// A file that was imported: its hash, and its row.
#[derive(Debug)]
pub struct OldImport {
    pub sha256: Vec<u8>,
    pub name: String,
    pub row: Vec<Value>,
}

/// What an end's totals have and no usage: that has been deleted, or there never was any.
#[derive(Clone, Copy, Debug)]
pub struct Beyond {
    pub endpoint: i64,
    pub origin: Origin,
    pub totals: Totals,
}

/// A database with all but its usage in memory.
pub struct Old<'c> {
    pub conn: &'c Connection,
    pub path: PathBuf,
    pub history: History,
    /// Name and device by the network's number.
    pub networks: BTreeMap<i64, (String, String)>,
    pub endpoints: HashMap<i64, OldEnd>,
    pub pairs: HashMap<i64, (i64, i64)>,
    pub buckets: Vec<Interval>,
    /// By their origin.
    pub imports: BTreeMap<i64, Vec<OldImport>>,
    /// Packets of each origin.
    pub packets: HashMap<i64, i64>,
    pub beyond: Vec<Beyond>,
    /// From the first to the last packet that totals know, in seconds, by network and origin.
    pub spans: HashMap<(i64, Origin), (i64, i64)>,
}

impl<'c> Old<'c> {
    /// Of a database that has been verified.
    pub fn read(conn: &'c Connection, path: &Path) -> Result<Self> {
        let mut old = Old {
            conn,
            path: path.to_owned(),
            history: History::read(conn)?,
            networks: BTreeMap::new(),
            endpoints: HashMap::new(),
            pairs: HashMap::new(),
            buckets: Vec::new(),
            imports: BTreeMap::new(),
            packets: HashMap::new(),
            beyond: Vec::new(),
            spans: HashMap::new(),
        };
        NETWORK.scan(conn, |row| {
            old.networks.insert(row.get(0)?, (row.get(1)?, row.get(2)?));
            Ok(())
        })?;
        ENDPOINT.scan(conn, |row| {
            old.endpoints.insert(row.get(0)?, OldEnd { network: row.get(1)?, addr: row.get(2)?, mac: row.get(3)? });
            Ok(())
        })?;
        PAIR.scan(conn, |row| {
            old.pairs.insert(row.get(0)?, (row.get(1)?, row.get(2)?));
            Ok(())
        })?;
        BUCKET.scan(conn, |row| {
            old.buckets.push(Interval::read(row)?);
            Ok(())
        })?;
        let columns = IMPORT.columns.len();
        IMPORT.scan(conn, |row| {
            let values = (0..columns).map(|at| row.get::<_, Value>(at)).collect::<Result<Vec<_>, _>>()?;
            let import = OldImport { sha256: row.get(1)?, name: row.get(2)?, row: values };
            old.imports.entry(row.get(columns - 1)?).or_default().push(import);
            Ok(())
        })?;
        old.buckets.iter().filter(|bucket| bucket.origin > 0).for_each(|bucket| {
            old.imports.entry(bucket.origin).or_default();
        });
        old.find_beyond()?;
        Ok(old)
    }

    /// What totals have beyond the usage.
    fn find_beyond(&mut self) -> Result<()> {
        let mut moved: HashMap<(i64, Origin), [u64; 4]> = HashMap::new();
        let mut days = Vec::new();
        DAY.scan(self.conn, |row| {
            days.push(Interval::read(row)?);
            Ok(())
        })?;
        let mut select = DAYS.select(self.conn)?;
        for day in &days {
            DAYS.scan(&mut select, day, |pair, usage| {
                let (src, dst) = self.ends(pair)?;
                if !self.repeats(pair)? {
                    let packets = self.packets.entry(day.origin).or_default();
                    *packets = packets.saturating_add(usage.packets);
                }
                let (bytes, packets) = (usage.bytes as u64, usage.packets as u64);
                let sent = moved.entry((src, day.came())).or_default();
                (sent[0], sent[2]) = (sent[0] + bytes, sent[2] + packets);
                let received = moved.entry((dst, day.came())).or_default();
                (received[1], received[3]) = (received[1] + bytes, received[3] + packets);
                Ok(())
            })?;
        }
        TOTAL.scan(self.conn, |row| {
            let endpoint = row.get(0)?;
            let origin = if row.get::<_, i64>(1)? == Origin::Live as i64 { Origin::Live } else { Origin::Import };
            let total = totals(row, 2)?;
            let network = self.end(endpoint)?.network;
            let (first, last) = (total.seen.first.clamped().0, total.seen.last.clamped().0);
            let span = self.spans.entry((network, origin)).or_insert((first, last));
            *span = (span.0.min(first), span.1.max(last));
            let [sent_bytes, received_bytes, sent_packets, received_packets] =
                moved.get(&(endpoint, origin)).copied().unwrap_or_default();
            let rest = Totals {
                sent_bytes: count(row, 2)?.saturating_sub(sent_bytes),
                received_bytes: count(row, 3)?.saturating_sub(received_bytes),
                sent_packets: count(row, 4)?.saturating_sub(sent_packets),
                received_packets: count(row, 5)?.saturating_sub(received_packets),
                ..total
            };
            if rest.sent_packets | rest.received_packets | rest.sent_bytes | rest.received_bytes > 0 {
                self.beyond.push(Beyond { endpoint, origin, totals: rest });
            }
            Ok(())
        })
    }

    /// Gives `each` the usage of a bucket: the pair's ends, and what it moved.
    pub fn scan(&self, bucket: &Interval, mut each: impl FnMut(i64, Usage) -> Result<()>) -> Result<()> {
        BUCKETS.scan(&mut BUCKETS.select(self.conn)?, bucket, &mut each)
    }

    pub fn ends(&self, pair: i64) -> Result<(i64, i64)> {
        Ok(*self.pairs.get(&pair).ok_or_else(|| Damage(format!("pair {pair} has no row")))?)
    }

    /// Whether the packets of a pair are those of other pairs, too: [`End::repeats`].
    pub fn repeats(&self, pair: i64) -> Result<bool> {
        Ok(self.end(self.ends(pair)?.0)?.is_beyond())
    }

    pub fn end(&self, endpoint: i64) -> Result<&OldEnd> {
        Ok(self.endpoints.get(&endpoint).ok_or_else(|| Damage(format!("endpoint {endpoint} has no row")))?)
    }

    pub fn network(&self, id: i64) -> Result<&str> {
        let (name, _) = self.networks.get(&id).ok_or_else(|| Damage(format!("network {id} has no row")))?;
        Ok(name)
    }
}
