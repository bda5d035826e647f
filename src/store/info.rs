//! What a database holds, in figures.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::Result;
use rusqlite::Connection;

use super::history::History;
use super::level::{DAYS, Interval};
use super::rows::endpoint;
use super::table::{BUCKET, DAY, Damage, ENDPOINT, IMPORT, NETWORK, PAIR};
use super::{Import, Reader, import, migrate, shm, wal};
use crate::time::Timestamp;
use crate::traffic::{Counts, End, Origin, Seen};

/// A database in figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Bytes of the file and of those beside it.
    pub size: u64,
    /// Of these, bytes that nothing is kept in.
    pub free: u64,
    /// How many migrations it has had.
    pub version: u32,
    /// How long buckets become when they are a week old: seconds.
    pub seconds: u32,
    /// Live usage of before was deleted, if any was.
    pub live_from: Option<Timestamp>,
    /// By name.
    pub networks: Vec<NetworkInfo>,
    /// How many buckets there are, by their length in seconds.
    pub buckets: BTreeMap<u32, u64>,
    /// Rows of usage in buckets.
    pub usage_rows: u64,
    /// UTC days for which there are sums.
    pub days: u64,
    /// Rows of usage in these.
    pub day_rows: u64,
    /// What was imported, in that order.
    pub imports: Vec<Import>,
}

/// A network in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkInfo {
    /// Its id, or the device while it is unknown, or empty.
    pub name: String,
    /// Where it was last captured; empty if never live.
    pub device: String,
    /// Addresses in scope.
    pub clients: u64,
    /// Directions of traffic, each from an address behind a MAC to another.
    pub pairs: u64,
    /// Captured live: what is in the usage.
    pub live: Counts,
    /// Imported, likewise.
    pub imported: Counts,
    /// The first and last packet in the usage.
    pub seen: Option<Seen>,
}

/// Whether a `serve`, or another that writes it, has the database at `path` open. To be asked before this process opens
/// it: closing the file drops SQLite's locks.
pub fn is_in_use(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

impl Reader {
    /// What the database holds, all of one moment. Only days are read, not the buckets they are made of.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn info(&self) -> Result<Info> {
        self.read(|now| self.read_info(now))
    }

    fn read_info(&self, now: &Connection) -> Result<Info> {
        let History { seconds, live_from, .. } = History::read(now)?;
        let len = |path: &Path| path.metadata().map_or(0, |data| data.len());
        let path = self.path();
        let pragma = |name: &str| now.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
        let mut info = Info {
            size: len(path) + len(&wal(path)) + len(&shm(path)),
            free: u64::try_from(pragma("freelist_count")? * pragma("page_size")?)?,
            version: migrate::version_of(now)?,
            seconds,
            live_from: live_from.map(|seconds| Timestamp::new(seconds, 0)),
            networks: Vec::new(),
            buckets: BTreeMap::new(),
            usage_rows: 0,
            days: 0,
            day_rows: 0,
            imports: Vec::new(),
        };
        let mut networks = BTreeMap::new();
        NETWORK.scan(now, |row| {
            let (name, device) = (row.get(1)?, row.get(2)?);
            networks.insert(row.get::<_, i64>(0)?, NetworkInfo { name, device, ..NetworkInfo::default() });
            Ok(())
        })?;
        let missing = |what: &str, id: i64| Damage(format!("{what} {id} has no row"));
        let mut ends = BTreeMap::new();
        let mut clients = Vec::new();
        ENDPOINT.scan(now, |row| {
            let (id, network, end): (i64, i64, End) = (row.get(0)?, row.get(1)?, endpoint(row, 2)?.end);
            ends.insert(id, (network, end));
            if end.is_addr() {
                clients.push((network, end));
            }
            Ok(())
        })?;
        clients.sort_unstable();
        clients.dedup();
        for (network, _) in clients {
            networks.get_mut(&network).ok_or_else(|| missing("network", network))?.clients += 1;
        }
        // Whether the packets of a pair count: those beyond the limit of pairs have another one.
        let mut counts = BTreeMap::new();
        PAIR.scan(now, |row| {
            let (id, src): (i64, i64) = (row.get(0)?, row.get(1)?);
            let (network, end) = *ends.get(&src).ok_or_else(|| missing("endpoint", src))?;
            networks.get_mut(&network).ok_or_else(|| missing("network", network))?.pairs += 1;
            counts.insert(id, !end.repeats());
            Ok(())
        })?;
        BUCKET.scan(now, |row| {
            let bucket = Interval::read(row)?;
            *info.buckets.entry(bucket.span.seconds).or_default() += 1;
            info.usage_rows += u64::try_from(bucket.usage.rows)?;
            Ok(())
        })?;
        let mut days = Vec::new();
        DAY.scan(now, |row| {
            days.push(Interval::read(row)?);
            Ok(())
        })?;
        info.days = days.iter().map(|day| day.span).collect::<BTreeSet<_>>().len() as u64;
        let mut select = DAYS.select(now)?;
        for day in &days {
            let network = networks.get_mut(&day.network).ok_or_else(|| missing("network", day.network))?;
            info.day_rows += u64::try_from(day.usage.rows)?;
            DAYS.scan(&mut select, day, |pair, usage| {
                let seen = usage.seen(day.span);
                network.seen.get_or_insert(seen).merge(seen);
                if *counts.get(&pair).ok_or_else(|| missing("pair", pair))? {
                    let sum = if day.came() == Origin::Live { &mut network.live } else { &mut network.imported };
                    sum.add(usage.counts()?);
                }
                Ok(())
            })?;
        }
        info.networks = networks.into_values().collect();
        info.networks.sort_by(|one, other| one.name.cmp(&other.name));
        IMPORT.scan(now, |row| {
            info.imports.push(import(row)?);
            Ok(())
        })?;
        Ok(info)
    }
}
