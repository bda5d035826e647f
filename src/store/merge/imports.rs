//! Which imports are taken: each file once, and nothing that another database captured live unless that is wanted.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

use anyhow::{Result, bail};

use super::Merged;
use super::old::{Old, OldImport};
use crate::store::level::Interval;
use crate::store::live::{Live, would_count_twice};
use crate::time::Bucket;
use crate::traffic::{Counts, Overlap};

/// Files that were taken in together: one history, of which all counts or nothing.
pub struct Set<'a> {
    /// The number of its database.
    pub database: usize,
    pub files: &'a [OldImport],
    pub buckets: Vec<&'a Interval>,
    packets: i64,
}

impl<'a> Set<'a> {
    /// The same files are the same import.
    fn key(&self) -> Vec<&'a [u8]> {
        let mut key: Vec<&[u8]> = self.files.iter().map(|file| &*file.sha256).collect();
        key.sort_unstable();
        key
    }
}

/// Chooses them, and notes in `merged` what they are and what is left out.
///
/// # Errors
/// If another database captured live what one of them holds, and `overlap` does not say what to do about it.
pub fn choose<'a>(olds: &'a [Old<'a>], overlap: Option<Overlap>, merged: &mut Merged) -> Result<Vec<Set<'a>>> {
    let mut sets = sets(olds);
    let overlaps = Overlaps::read(olds, &sets)?;
    // The larger ones first, as they may hold others.
    sets.sort_by_key(|set| (usize::MAX - set.files.len(), i64::MAX - set.packets, set.database));
    let mut from: HashMap<&[u8], &Path> = HashMap::new();
    let mut chosen = Vec::new();
    for mut set in sets {
        let old = &olds[set.database];
        let part = &mut merged.parts[set.database];
        let known: Vec<_> = set.files.iter().filter(|file| from.contains_key(&*file.sha256)).collect();
        part.imported_twice += known.len() as u64;
        if let Some(first) = known.first() {
            if known.len() < set.files.len() {
                let others: Vec<_> = set.files.iter().filter(|file| !from.contains_key(&*file.sha256)).collect();
                merged.left_out.push(left_out(&old.path, &others, &first.name, from[&*first.sha256]));
            }
            continue;
        }
        part.imports += set.files.len() as u64;
        from.extend(set.files.iter().map(|file| (&*file.sha256, &*old.path)));
        let mut kept = Vec::new();
        for bucket in &set.buckets {
            let twice = match overlap {
                Some(Overlap::Add) => None,
                _ => overlaps.at(&set, old.network(bucket.network)?, bucket.span),
            };
            match twice {
                None => kept.push(*bucket),
                Some(_) if overlap == Some(Overlap::Skip) => part.live_elsewhere.add(counts(old, bucket)?),
                Some((of, name, live)) => {
                    let (of, imports) = (of.display().to_string(), format!("imports of {}", old.path.display()));
                    let of_any = old.network(bucket.network)?.is_empty();
                    bail!(would_count_twice(&of, &imports, (name, live), of_any));
                }
            }
        }
        set.buckets = kept;
        chosen.push(set);
    }
    Ok(chosen)
}

/// All imports of all databases.
fn sets<'a>(olds: &'a [Old<'a>]) -> Vec<Set<'a>> {
    let mut all = Vec::new();
    for (database, old) in olds.iter().enumerate() {
        let mut buckets: HashMap<i64, Vec<&Interval>> = HashMap::new();
        for bucket in &old.buckets {
            buckets.entry(bucket.origin).or_default().push(bucket);
        }
        all.extend(old.imports.iter().map(|(origin, files)| Set {
            database,
            files,
            buckets: buckets.remove(origin).unwrap_or_default(),
            packets: old.packets.get(origin).copied().unwrap_or_default(),
        }));
    }
    all
}

/// What was moved in a bucket.
fn counts(old: &Old, bucket: &Interval) -> Result<Counts> {
    let mut sum = Counts::default();
    old.scan(bucket, |pair, usage| {
        if !old.repeats(pair)? {
            sum.add(usage.counts()?);
        }
        Ok(())
    })?;
    Ok(sum)
}

/// What the databases captured live, and what they imported of that all the same.
struct Overlaps<'a> {
    olds: &'a [Old<'a>],
    live: Vec<Live>,
    /// By the files: when they were imported into a database that has that time live. Somebody wanted it so.
    wanted: HashMap<Vec<&'a [u8]>, Live>,
}

impl<'a> Overlaps<'a> {
    fn read(olds: &'a [Old<'a>], sets: &[Set<'a>]) -> Result<Self> {
        let live = olds.iter().map(|old| Live::read(old.conn)).collect::<Result<Vec<_>>>()?;
        let mut wanted: HashMap<Vec<&[u8]>, BTreeMap<String, Vec<Bucket>>> = HashMap::new();
        for set in sets {
            for bucket in &set.buckets {
                let network = olds[set.database].network(bucket.network)?;
                if live[set.database].at(network, bucket.span).is_some() {
                    wanted.entry(set.key()).or_default().entry(network.to_owned()).or_default().push(bucket.span);
                }
            }
        }
        let wanted = wanted.into_iter().map(|(files, networks)| (files, Live::of(networks))).collect();
        Ok(Overlaps { olds, live, wanted })
    }

    /// The database, network and time that were captured live and that a bucket of an import overlaps.
    fn at(&self, set: &Set, network: &str, span: Bucket) -> Option<(&Path, &str, Range<i64>)> {
        let is_wanted = |live: &Live| live.at(network, span).is_some();
        if is_wanted(&self.live[set.database]) || self.wanted.get(&set.key()).is_some_and(is_wanted) {
            return None;
        }
        self.olds.iter().zip(&self.live).find_map(|(old, live)| {
            let (name, live) = live.at(network, span)?;
            Some((&*old.path, name, live))
        })
    }
}

/// What to say of files that were imported together with one that another database has.
fn left_out(path: &Path, files: &[&OldImport], twin: &str, from: &Path) -> String {
    let some: Vec<_> = files.iter().take(3).map(|file| file.name.as_str()).collect();
    let others = if files.len() > 3 { format!(" and {} others", files.len() - 3) } else { String::new() };
    format!(
        "{}: {}{others}: imported together with {twin}, which {} has with other files; import again what is not in the \
         new database",
        path.display(),
        some.join(", "),
        from.display()
    )
}
