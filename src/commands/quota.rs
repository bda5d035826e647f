//! `ztmon quota`, and `ztmon report --quotas`: how quotas stand by the database.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use serde_json::json;

use super::output::Destination;
use super::report::origin;
use super::{Status, names, place, query, say};
use crate::cli::{self, Form, Origins, QuotaCheck, QuotaFile, QuotaVerb, Who};
use crate::quota::Quotas;
use crate::report;
use crate::store::{self, KeptAsOne, Reader};
use crate::time::Timestamp;
use crate::zerotier::Roster;
use crate::zone::Zone;

/// A file of quotas may not be longer.
const MAX_BYTES: u64 = 1 << 20;

pub(super) fn run(args: QuotaVerb) -> anyhow::Result<Status> {
    let QuotaVerb::Check(QuotaCheck { quotas, db, origin, tz, format, who }) = args;
    let asked = Asked { file: &quotas, db: db.as_deref(), origin, tz: tz.as_deref(), who: &who, format };
    Ok(match asked.print(Destination::of(None, format)?)? {
        Stand::Within => Status::Done,
        Stand::Exceeded => Status::Partly,
        Stand::Unknown => Status::Nothing,
    })
}

pub(super) fn report(args: &cli::Report, file: &Path) -> anyhow::Result<Status> {
    let cli::Output { tz, who, format, .. } = &args.output;
    let (db, tz, format) = (args.db.as_deref(), tz.as_deref(), *format);
    let asked = Asked { file, db, origin: args.origin, tz, who, format };
    Ok(match asked.print(Destination::open(&args.output)?)? {
        Stand::Within | Stand::Exceeded => Status::Done,
        Stand::Unknown => Status::Partly,
    })
}

/// How all quotas stand; the worst counts.
enum Stand {
    Within,
    Exceeded,
    /// Of one at least nobody can tell.
    Unknown,
}

/// Which quotas, and by what.
struct Asked<'a> {
    file: &'a Path,
    db: Option<&'a Path>,
    origin: Origins,
    tz: Option<&'a str>,
    who: &'a Who,
    format: Option<Form>,
}

impl Asked<'_> {
    /// Prints how the quotas stand now.
    fn print(&self, destination: Destination) -> anyhow::Result<Stand> {
        let has_quotas = !matches!(self.format, Some(Form::OpenMetrics | Form::Report(report::Format::Html)));
        ensure!(has_quotas, "quotas come as table, csv or json: give one as --format");
        let (now, _) = Timestamp::now().clamped();
        let mut quotas = quotas(self.file, self.tz, now)?;
        let told = names::read_all(&self.who.names)?;
        let database = place::database(self.db);
        database.must_exist()?;
        let reader = Reader::open(&database.path)?;
        let [wal, shm] = store::companions(&database.path);
        destination.must_not_be([database.path.as_path(), &wal, &shm, self.file])?;
        let network = self.who.network_id.or_else(|| told.only_network());
        let moment = reader.moment()?;
        let mut roster = reader.roster()?;
        roster.merge(&told);
        check_members(&quotas, &roster).map_err(|error| anyhow!("{}: {error:#}", self.file.display()))?;

        let (origin, origin_name) = origin(self.origin);
        query::check_network(&reader, self.who.network_id, &told)?;
        let (mut networks, mut has_id) = (BTreeSet::new(), false);
        // Before anything is counted: an address may show who is a member.
        reader.first_seen(None, |name, endpoint, _| {
            if networks.insert(name.to_owned()) {
                let network = name.parse().ok().or(network);
                has_id |= network.is_some();
                quotas.know(name, roster.of(network));
            }
            quotas.note(name, endpoint);
        })?;
        ensure!(has_id || networks.is_empty() || quotas.members().next().is_none(), "{}", query::WHICH_NETWORK);
        let mut unknown = BTreeMap::new();
        if let Some(reading) = quotas.reading() {
            let read = read_by_periods(reading, |quotas| {
                reader.rows(origin, quotas.range(), quotas.cuts(), |network, bucket, row| {
                    quotas.add(network, bucket, &row);
                    Ok(())
                })
            })?;
            read.known.into_iter().for_each(|known| quotas.settle(known));
            unknown = read.unknown;
        }
        drop(moment);
        let summary = json!({ "database": database.path.display().to_string(), "origin": origin_name });
        destination.print_by(|out, format, style| report::write_quotas(out, &quotas, now, format, &summary, style))?;
        unknown.values().for_each(|why| say(&format!("ztmon: {why}")));
        Ok(match quotas.uses().any(|one| one.is_exceeded()) {
            _ if !unknown.is_empty() => Stand::Unknown,
            true => Stand::Exceeded,
            false => Stand::Within,
        })
    }
}

/// What was read, as far as it can be.
pub(super) struct Reading {
    /// Of different quotas each.
    pub known: Vec<Quotas>,
    /// Those whose periods cut what is kept as one, by name, and a line about each.
    pub unknown: BTreeMap<String, String>,
}

/// Has `read` add what there is to a reading. Where a period cuts what is kept as one, those of each period are read
/// apart: such a quota takes no other along.
pub(super) fn read_by_periods(
    reading: Quotas,
    mut read: impl FnMut(&mut Quotas) -> anyhow::Result<()>,
) -> anyhow::Result<Reading> {
    let mut all = Reading { known: Vec::new(), unknown: BTreeMap::new() };
    let mut parts = vec![reading];
    while let Some(part) = parts.pop() {
        let mut sums = part.clone();
        let Err(error) = read(&mut sums) else {
            all.known.push(sums);
            continue;
        };
        ensure!(error.is::<KeptAsOne>(), error);
        match part.by_periods() {
            smaller if smaller.len() > 1 => parts = smaller,
            _ => {
                let names = part.uses().filter(|one| one.used.is_some()).map(|one| one.quota.name.clone());
                let line = |name: String| {
                    let why = format!("quota '{name}': what it used is unknown until its next period: {error}");
                    (name, why)
                };
                all.unknown.extend(names.map(line));
            }
        }
    }
    Ok(all)
}

/// The quotas of a file, in the periods of now (seconds since the epoch).
pub(super) fn quotas(file: &Path, tz: Option<&str>, now: i64) -> anyhow::Result<Quotas> {
    let QuotaFile { tz: own, quotas } = read(file)?;
    let zone: Zone = match (tz, own) {
        (None, Some(zone)) => zone,
        (tz, _) => place::Clock::new(tz, 1)?.zone()?,
    };
    Quotas::new(quotas, zone, now).map_err(|error| anyhow!("{}: {error}", file.display()))
}

fn read(path: &Path) -> anyhow::Result<QuotaFile> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        bytes.len() as u64 <= MAX_BYTES,
        "{} is longer than {MAX_BYTES} bytes: give a file of quotas",
        path.display()
    );
    let text = String::from_utf8(bytes)
        .map_err(|_| anyhow!("{} is no text in UTF-8: give a file of quotas", path.display()))?;
    QuotaFile::parse(&text).map_err(|error| anyhow!("{}:{error}", path.display()))
}

/// An error if nobody goes by a name that stands for a member.
pub(super) fn check_members(quotas: &Quotas, roster: &Roster) -> anyhow::Result<()> {
    match quotas.members().find(|(_, name)| !roster.knows(name)) {
        None => Ok(()),
        Some((quota, name)) => Err(anyhow!(
            "quota '{}': no member is called '{name}': give the node id, ten hex digits, or --names",
            quota.name
        )),
    }
}
