//! `ztmon quota`, and `ztmon report --quotas`: how quotas stand by the database.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use serde_json::json;

use super::output::Destination;
use super::report::origin;
use super::{Status, names, place, query};
use crate::cli::{self, Form, Origins, QuotaCheck, QuotaFile, QuotaVerb, Who};
use crate::quota::Quotas;
use crate::report;
use crate::store::{self, Reader};
use crate::time::Timestamp;
use crate::zerotier::Roster;
use crate::zone::Zone;

/// A file of quotas may not be longer.
const MAX_BYTES: u64 = 1 << 20;

pub(super) fn run(args: QuotaVerb) -> anyhow::Result<Status> {
    let QuotaVerb::Check(QuotaCheck { quotas, db, origin, tz, format, who }) = args;
    let asked = Asked { file: &quotas, db: db.as_deref(), origin, tz: tz.as_deref(), who: &who, format };
    let exceeded = asked.print(Destination::of(None, format)?)?;
    Ok(if exceeded { Status::Partly } else { Status::Done })
}

pub(super) fn report(args: &cli::Report, file: &Path) -> anyhow::Result<Status> {
    let cli::Output { tz, who, format, .. } = &args.output;
    let (db, tz, format) = (args.db.as_deref(), tz.as_deref(), *format);
    Asked { file, db, origin: args.origin, tz, who, format }.print(Destination::open(&args.output)?)?;
    Ok(Status::Done)
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
    /// Prints how the quotas stand now, and says whether one is exceeded.
    fn print(&self, destination: Destination) -> anyhow::Result<bool> {
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
        let mut roster = reader.roster()?;
        roster.merge(&told);
        check_members(&quotas, &roster).map_err(|error| anyhow!("{}: {error:#}", self.file.display()))?;

        let (origin, origin_name) = origin(self.origin);
        query::check_network(&reader, self.who.network_id)?;
        let (mut networks, mut unnamed) = (BTreeSet::new(), false);
        // Before anything is counted: an address may show who is a member.
        reader.first_seen(None, |name, endpoint, _| {
            if networks.insert(name.to_owned()) {
                let network = name.parse().ok().or(network);
                unnamed |= network.is_none();
                quotas.know(name, roster.of(network));
            }
            quotas.note(name, endpoint);
        })?;
        ensure!(
            !unnamed || quotas.members().next().is_none(),
            "which member a MAC is depends on the network: give --network-id"
        );
        if let Some(mut reading) = quotas.reading() {
            reader.rows(origin, reading.range(), reading.cuts(), |network, bucket, row| {
                reading.add(network, bucket, &row);
                Ok(())
            })?;
            quotas.settle(reading);
        }
        let summary = json!({ "database": database.path.display().to_string(), "origin": origin_name });
        destination.print_by(|out, format, style| report::write_quotas(out, &quotas, now, format, &summary, style))?;
        Ok(quotas.uses().any(|one| one.is_exceeded()))
    }
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
