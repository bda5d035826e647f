//! One database of several: what each of them knows counts once.
//!
//! Networks, clients and pairs are the same where their names and addresses are. What was captured live of one network
//! at one time is taken from the database that saw more of it ([`best`]): two observers saw the same packets. An
//! import counts once, whichever of them have it; other imports add, but for what another database captured live.

mod beyond;
mod coverage;
mod imports;
mod members;
mod old;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rusqlite::types::Value;
use rusqlite::{Connection, ToSql};

use super::add::{Finder, KnownTotals, add_totals};
use super::days;
use super::fresh::{self, Fresh};
use super::history::History;
use super::level::{BUCKETS, Changes, Interval};
use super::read::verify;
use super::table::{BUCKET, ENDPOINT, IMPORT, NETWORK, PAIR, Puts};
use super::{Reader, Writer, blame};
use crate::traffic::{Counts, Origin, Overlap, Totals};
use beyond::Rests;
use coverage::{Coverage, Quality, best};
use imports::Set;
use old::Old;

/// What a merge did.
#[derive(Debug, Default)]
pub struct Merged {
    /// Of each database, in the order given.
    pub parts: Vec<Part>,
    /// What none of them has in a form that could be taken, in words.
    pub left_out: Vec<String>,
}

/// What was taken from one of the databases.
#[derive(Debug, Default)]
pub struct Part {
    /// The database.
    pub path: PathBuf,
    /// Buckets of live usage that were taken.
    pub live: u64,
    /// Those that another database had seen better.
    pub seen_better: u64,
    /// Imported files that were taken.
    pub imports: u64,
    /// Those that another database had, too.
    pub imported_twice: u64,
    /// What was left out of them, as another database captured that time live.
    pub live_elsewhere: Counts,
}

/// Writes what these databases know into a new one at `into`; they stay as they are.
///
/// # Errors
/// If one of them cannot be read or is damaged, two are the same file, or there is something at `into`; or if one imported
/// what another captured live, and `overlap` does not say what to do about it. Then nothing is written.
pub fn merge(paths: &[PathBuf], into: &Path, overlap: Option<Overlap>) -> Result<Merged> {
    let fresh = Fresh::new(into)?;
    let readers = paths.iter().map(|path| Reader::open(path)).collect::<Result<Vec<_>>>()?;
    let mut files = HashSet::new();
    for reader in &readers {
        let file = reader.path().metadata()?;
        ensure!(files.insert((file.dev(), file.ino())), "{} is given twice", reader.path().display());
    }
    // One moment of each, kept while it is read twice.
    let moments = readers.iter().map(Reader::moment).collect::<Result<Vec<_>>>()?;
    let mut olds = Vec::new();
    for (reader, path) in readers.iter().zip(paths) {
        let old = verify(&reader.conn).and_then(|()| Old::read(&reader.conn, path));
        olds.push(old.map_err(|error| blame(path, "cannot read", error))?);
    }
    let part = |path: &PathBuf| Part { path: path.clone(), ..Part::default() };
    let mut merged = Merged { parts: paths.iter().map(part).collect(), ..Merged::default() };
    let imports = imports::choose(&olds, overlap, &mut merged)?;
    let new = fresh.path(fresh::NEW);
    let seconds = olds.iter().map(|old| old.history.seconds).min();
    let mut writer = Writer::open_kept_by(&new, seconds)?;
    writer.begin()?;
    let run = Merge::run(&olds, imports, merged, &writer.conn);
    let merged = run.map_err(|error| blame(&new, "cannot write to", error))?;
    writer.commit()?;
    drop(writer);
    drop(olds);
    drop(moments);
    readers.iter().try_for_each(Reader::check_unwritten)?;
    Reader::open(&new)?.check().context("what was merged does not verify")?;
    let original = File::open(&paths[0]).with_context(|| format!("cannot read {}", paths[0].display()))?;
    fresh.keep(&new, &original)?;
    Ok(merged)
}

/// A bucket and the number of its database.
type Place<'a> = (usize, &'a Interval);

/// A merge at work.
struct Merge<'a, 'c> {
    olds: &'a [Old<'a>],
    /// The new numbers of networks by their names, and of ends and pairs by database and old number.
    networks: HashMap<String, i64>,
    endpoints: HashMap<(usize, i64), i64>,
    pairs: HashMap<(usize, i64), i64>,
    endpoint: Finder<'c>,
    pair: Finder<'c>,
    changes: Changes<'c>,
    clock: i64,
    sums: BTreeMap<(i64, Origin), Totals>,
    rests: Rests,
    coverage: Coverage<'a>,
    merged: Merged,
}

impl<'a> Merge<'a, '_> {
    fn run(olds: &'a [Old<'a>], imports: Vec<Set<'a>>, merged: Merged, conn: &Connection) -> Result<Merged> {
        let clock = olds.iter().map(|old| old.history.clock).max().unwrap_or_default();
        // Of before there is not all that there was.
        let live_from = olds.iter().filter_map(|old| old.history.live_from).max();
        History { clock, live_from, ..History::read(conn)? }.write(conn)?;
        let mut merge = Merge {
            olds,
            networks: HashMap::new(),
            endpoints: HashMap::new(),
            pairs: HashMap::new(),
            endpoint: Finder::new(conn, &ENDPOINT)?,
            pair: Finder::new(conn, &PAIR)?,
            changes: Changes::new(conn, &BUCKETS)?,
            clock,
            sums: BTreeMap::new(),
            rests: Rests::new(olds)?,
            coverage: Coverage::read(olds)?,
            merged,
        };
        merge.add_networks(Puts::new(conn, &NETWORK)?)?;
        merge.take_live()?;
        merge.take_imports(imports, Puts::new(conn, &IMPORT)?)?;
        merge.find_rests()?;
        let Merge { endpoint, pair, changes, mut sums, rests, merged, networks, coverage, .. } = merge;
        endpoint.puts.seal()?;
        pair.puts.seal()?;
        changes.seal()?;
        let number = |name: &str| networks.get(name).copied().context("a network has no number");
        coverage.write(conn, number)?;
        members::write(conn, olds, number)?;
        for (whose, more) in rests.finish() {
            sums.entry(whose).and_modify(|sum| sum.add(&more)).or_insert(more);
        }
        for origin in [Origin::Live, Origin::Import] {
            let sums = sums.iter().filter(|((_, of), _)| *of == origin);
            add_totals(conn, origin, sums.map(|((endpoint, _), sum)| (*endpoint, *sum)), &mut KnownTotals::new())?;
        }
        let mut buckets = Vec::new();
        BUCKET.scan(conn, |row| {
            buckets.push(Interval::read(row)?);
            Ok(())
        })?;
        days::make(conn, buckets)?;
        Ok(merged)
    }

    /// All networks. A device is that of the first network that was captured there.
    fn add_networks(&mut self, mut puts: Puts) -> Result<()> {
        let mut devices = HashSet::new();
        let names: BTreeSet<&str> =
            self.olds.iter().flat_map(|old| old.networks.values()).map(|(name, _)| &**name).collect();
        for (name, id) in names.into_iter().zip(1..) {
            let of_name = self.olds.iter().flat_map(|old| old.networks.values()).filter(|(of, _)| of == name);
            let device = of_name.map(|(_, device)| device).find(|device| !device.is_empty());
            let device = device.filter(|device| devices.insert(*device)).map_or("", |device| device);
            puts.put(None, &[&id, &name, &device])?;
            self.networks.insert(name.to_owned(), id);
        }
        puts.seal()
    }

    /// What was captured live.
    fn take_live(&mut self) -> Result<()> {
        let olds = self.olds;
        let mut by_network: BTreeMap<&'a str, Vec<Place>> = BTreeMap::new();
        for (at, old) in olds.iter().enumerate() {
            for bucket in old.buckets.iter().filter(|bucket| bucket.came() == Origin::Live) {
                by_network.entry(old.network(bucket.network)?).or_default().push((at, bucket));
            }
        }
        for (network, places) in &mut by_network {
            places.sort_by_key(|(at, bucket)| (bucket.span.start, u32::MAX - bucket.span.seconds, *at));
            // All that overlap: shorter buckets are within the longer ones.
            let mut rest = &places[..];
            while let Some((_, first)) = rest.first() {
                let mut end = first.span.end();
                let overlaps = |(_, bucket): &&Place| {
                    let overlaps = bucket.span.start < end;
                    end = end.max(bucket.span.end());
                    overlaps
                };
                let (same_time, later) = rest.split_at(rest.iter().take_while(overlaps).count());
                self.take_best(network, first.span.start..end, same_time)?;
                rest = later;
            }
        }
        Ok(())
    }

    /// Of buckets of one network and time those of one database.
    fn take_best(&mut self, network: &'a str, time: Range<i64>, places: &[Place]) -> Result<()> {
        let databases: BTreeSet<usize> = places.iter().map(|(at, _)| *at).collect();
        let only = databases.first().copied().filter(|_| databases.len() == 1);
        let taken = match only {
            Some(only) => only,
            None => {
                let quality = |at| Ok((at, self.quality(at, network, &time, places)?));
                let qualities = databases.into_iter().map(quality).collect::<Result<Vec<_>>>()?;
                best(&qualities).context("there is no bucket")?
            }
        };
        self.coverage.taken(network, taken, time);
        for (at, bucket) in places {
            if *at == taken {
                self.take(*at, bucket, Origin::Live as i64)?;
                self.merged.parts[*at].live += 1;
            } else {
                self.merged.parts[*at].seen_better += 1;
            }
        }
        Ok(())
    }

    /// How much a database saw of a time, of which it has some of these buckets.
    fn quality(&self, at: usize, network: &'a str, time: &Range<i64>, places: &[Place]) -> Result<Quality> {
        let old = &self.olds[at];
        let mut quality = Quality { seen: self.coverage.of(network, at, time), packets: 0 };
        for (_, bucket) in places.iter().filter(|(of, _)| *of == at) {
            old.scan(bucket, |pair, usage| {
                if !old.repeats(pair)? {
                    quality.packets = quality.packets.saturating_add(usage.packets);
                }
                Ok(())
            })?;
        }
        Ok(quality)
    }

    /// The imports that were chosen.
    fn take_imports(&mut self, sets: Vec<Set>, mut puts: Puts) -> Result<()> {
        let mut id = 0_i64;
        for (set, new_origin) in sets.iter().zip(1_i64..) {
            for file in set.files {
                id += 1;
                let mut row = file.row.clone();
                let columns = row.len();
                (row[0], row[columns - 1]) = (Value::Integer(id), Value::Integer(new_origin));
                let values: Vec<&dyn ToSql> = row.iter().map(|value| value as &dyn ToSql).collect();
                puts.put(None, &values)?;
            }
            set.buckets.iter().try_for_each(|bucket| self.take(set.database, bucket, new_origin))?;
        }
        puts.seal()
    }

    /// Takes a bucket's usage.
    fn take(&mut self, at: usize, bucket: &Interval, new_origin: i64) -> Result<()> {
        let old = &self.olds[at];
        let name = old.network(bucket.network)?;
        let origin = bucket.came();
        let windows = self.rests.windows(at, name, origin, bucket.span);
        let mut rows = Vec::new();
        old.scan(bucket, |pair, usage| {
            let (src, dst) = old.ends(pair)?;
            let (new_src, new_dst) = (self.end(at, src)?, self.end(at, dst)?);
            let new_pair = match self.pairs.get(&(at, pair)) {
                Some(known) => *known,
                None => {
                    let found = self.pair.id(&[&new_src, &new_dst])?;
                    *self.pairs.entry((at, pair)).or_insert(found)
                }
            };
            rows.push((bucket.span, new_pair, usage));
            let (Counts { bytes, packets, .. }, none) = (usage.counts()?, Totals::none(usage.seen(bucket.span)));
            let sent = Totals { sent_bytes: bytes, sent_packets: packets, ..none };
            let received = Totals { received_bytes: bytes, received_packets: packets, ..none };
            for (old_end, new, more) in [(src, new_src, sent), (dst, new_dst, received)] {
                if !old.end(old_end)?.is_beyond() {
                    self.sums.entry((new, origin)).and_modify(|sum| sum.add(&more)).or_insert(more);
                    windows.iter().for_each(|window| self.rests.taken(new, origin, *window, &more));
                }
            }
            Ok(())
        })?;
        let network = *self.networks.get(name).context("a network has no number")?;
        // As old as it was.
        let written = bucket.written + (self.clock - old.history.clock);
        self.changes.add_all(network, new_origin, written, &mut rows)
    }

    /// The new number of an end.
    fn end(&mut self, at: usize, id: i64) -> Result<i64> {
        if let Some(known) = self.endpoints.get(&(at, id)) {
            return Ok(*known);
        }
        let old = &self.olds[at];
        let end = old.end(id)?;
        let network = *self.networks.get(old.network(end.network)?).context("a network has no number")?;
        let found = self.endpoint.id(&[&network, &end.addr, &end.mac])?;
        self.endpoints.insert((at, id), found);
        Ok(found)
    }

    /// What totals have beyond usage.
    fn find_rests(&mut self) -> Result<()> {
        for (at, old) in self.olds.iter().enumerate() {
            for beyond in &old.beyond {
                let name = old.network(old.end(beyond.endpoint)?.network)?;
                let endpoint = self.end(at, beyond.endpoint)?;
                self.rests.beyond(endpoint, name, at, beyond.origin, beyond.totals);
            }
        }
        Ok(())
    }
}
