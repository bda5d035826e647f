//! Quotas, as `serve` keeps them: what was moved is read from the database once, on a thread of its own, and from then on
//! every commit adds what it has. It is read again when a period begins, the file changes, or members become known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::alarm::Alarm;
use super::control::{Shared, lock};
use super::log;
use super::watched::{LOOK_EVERY, Watched};
use crate::commands::quota::{self, Reading};
use crate::metrics::Quota;
use crate::quota::Quotas;
use crate::store::{Reader, Writer};
use crate::time::Timestamp;
use crate::traffic::{DeltaRow, Directory, Origin};
use crate::zerotier::{Members, Roster};

/// How long serving waits at the start for what a small database has.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two readings, if something is known meanwhile; and after one that failed.
const PAUSE: Duration = Duration::from_secs(10);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// The file of quotas, read again when it changes.
pub(super) struct QuotasFile {
    file: Watched,
    tz: Option<String>,
}

impl QuotasFile {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// If it cannot be read, or is not understood.
    pub(super) fn read(path: PathBuf, tz: Option<String>, control: &Shared) -> anyhow::Result<Self> {
        let (file, quotas) = Watched::read(path, "file of quotas", |path| read(path, tz.as_deref()))?;
        *lock(&control.quotas) = Some(quotas);
        Ok(QuotasFile { file, tz })
    }

    /// The directory that it is in.
    pub(super) fn directory(&self) -> &Path {
        self.file.directory()
    }

    /// Looks at it on a thread of its own until it is time to stop.
    pub(super) fn watch(self, control: Shared, alarm: &Alarm) -> anyhow::Result<()> {
        let QuotasFile { mut file, tz } = self;
        alarm.spawn("quotas", move || {
            while !control.stopping() {
                thread::sleep(LOOK_EVERY);
                if let Some(quotas) = file.look(|path| read(path, tz.as_deref())) {
                    *lock(&control.quotas) = Some(quotas);
                }
            }
        })?;
        Ok(())
    }
}

fn read(path: &Path, tz: Option<&str>) -> anyhow::Result<Quotas> {
    quota::quotas(path, tz, Timestamp::now().clamped().0)
}

/// The keeper's quotas.
#[derive(Default)]
pub(super) struct Accounts {
    quotas: Option<Quotas>,
    reading: Option<Receiver<anyhow::Result<Reading>>>,
    /// Whether what is being read is about quotas that are no longer.
    outdated: bool,
    /// The last time that reading began, or failed.
    began: Option<Instant>,
    failed: Option<(Instant, String)>,
    /// What was said of quotas of which nothing can be known.
    said: BTreeMap<String, String>,
}

impl Accounts {
    /// Those of the file, about what the database has; what it takes little time to read is known then.
    pub(super) fn new<'a>(
        control: &Shared,
        writer: &Writer,
        roster: &Roster,
        networks: impl Iterator<Item = &'a String>,
    ) -> Self {
        let mut accounts = Accounts::default();
        accounts.take(control, roster);
        for network in networks {
            accounts.know(network, roster.of(network.parse().ok()));
        }
        accounts.begin(writer);
        accounts.settle(PATIENCE);
        accounts
    }

    /// Says who the members of a network are.
    pub(super) fn know(&mut self, network: &str, members: Members) {
        if let Some(quotas) = &mut self.quotas {
            quotas.know(network, members);
        }
    }

    /// Adds what a commit has put into the database.
    pub(super) fn add(&mut self, network: &str, directory: &Directory, rows: &[DeltaRow]) {
        if let Some(quotas) = &mut self.quotas {
            rows.iter().for_each(|row| quotas.add(network, row.bucket, &directory.row(row)));
            quotas.heed_news();
        }
    }

    /// To be called often: takes in a file that has changed, goes to the period that is now, and takes in what was read.
    pub(super) fn turn(&mut self, control: &Shared, roster: &Roster) {
        self.take(control, roster);
        let (now, _) = Timestamp::now().clamped();
        for (name, why) in self.quotas.iter_mut().flat_map(|quotas| quotas.enter(now)) {
            say(&mut self.said, name, why);
        }
        self.settle(Duration::ZERO);
    }

    /// Takes in the file's quotas if they are new.
    fn take(&mut self, control: &Shared, roster: &Roster) {
        let Some(mut quotas) = lock(&control.quotas).take() else { return };
        if let Some(before) = &self.quotas {
            quotas.succeed(before);
        }
        if let Err(error) = quota::check_members(&quotas, roster) {
            log::warn(&format!("{error:#}; until then it counts nothing of it"));
        }
        // What is being read is about the ones before. It is waited for all the same: each reading keeps the database's
        // log from being emptied, and there must not be one for every change of the file.
        let (reading, began) = (self.reading.take(), self.began);
        *self = Accounts { quotas: Some(quotas), outdated: reading.is_some(), reading, began, ..Accounts::default() };
    }

    /// Begins to read what has to be, in a database without an open transaction.
    pub(super) fn begin(&mut self, writer: &Writer) {
        let Some(quotas) = &mut self.quotas else { return };
        let paused = |since: Option<Instant>, pause| since.is_some_and(|since| since.elapsed() < pause);
        let is_known = quotas.uses().all(|one| one.used.is_some() || self.said.contains_key(&one.quota.name));
        if self.reading.is_some()
            || (is_known && paused(self.began, PAUSE))
            || paused(self.failed.as_ref().map(|(at, _)| *at), PAUSE_AFTER_FAILURE)
        {
            return;
        }
        let Some(reading) = quotas.reading() else { return };
        self.began = Some(Instant::now());
        let (sender, receiver) = sync_channel(1);
        let spawned = writer.snapshot().and_then(|snapshot| {
            thread::Builder::new().name("quotas".to_owned()).spawn(move || {
                sender.send(sum_up(&snapshot, reading)).ok();
            })?;
            Ok(())
        });
        match spawned {
            Ok(()) => self.reading = Some(receiver),
            Err(error) => self.fail(format!("{error:#}")),
        }
    }

    /// Takes in what was read, waiting so long for it.
    fn settle(&mut self, at_most: Duration) {
        let (Some(reading), Some(quotas)) = (&self.reading, &mut self.quotas) else { return };
        let read = reading.recv_timeout(at_most);
        if let Err(RecvTimeoutError::Timeout) = read {
            return;
        }
        self.reading = None;
        if std::mem::take(&mut self.outdated) {
            return;
        }
        let failed = match read {
            Ok(Ok(Reading { known, unknown })) => {
                known.into_iter().for_each(|known| quotas.settle(known));
                for (name, why) in unknown {
                    quotas.lose(&name);
                    say(&mut self.said, name, why);
                }
                None
            }
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => Some("reading failed".to_owned()),
        };
        match failed {
            None => self.failed = None,
            Some(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: String) {
        if self.failed.as_ref().is_none_or(|(_, before)| *before != error) {
            log::warn(&format!("quotas: {error}; what was moved may be more or less than is shown"));
        }
        self.failed = Some((Instant::now(), error));
        self.quotas.iter_mut().for_each(Quotas::doubt);
    }

    /// As `/metrics` shows them.
    pub(super) fn shown(&self) -> Vec<Quota> {
        let uses = self.quotas.iter().flat_map(Quotas::uses);
        uses.map(|one| Quota {
            name: one.quota.name.clone(),
            used_bytes: one.used,
            limit_bytes: one.quota.limit,
            period_end: one.period.end,
        })
        .collect()
    }
}

/// Says why nothing can be known of a quota, once.
fn say(said: &mut BTreeMap<String, String>, name: String, why: String) {
    if said.get(&name) != Some(&why) {
        log::warn(&why);
        said.insert(name, why);
    }
}

/// Counts what the database has.
fn sum_up(snapshot: &Reader, mut quotas: Quotas) -> anyhow::Result<Reading> {
    if quotas.members().next().is_some() {
        // Before anything is counted: an address may show who is a member.
        snapshot.first_seen(None, |network, endpoint, _| quotas.note(network, endpoint))?;
    }
    quota::read_by_periods(quotas, |quotas| {
        snapshot.rows(Some(Origin::Live), quotas.range(), quotas.cuts(), |network, bucket, row| {
            quotas.add(network, bucket, &row);
            Ok(())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::QuotaFile;
    use crate::zone::Zone;

    fn quotas(limit: u64) -> Quotas {
        let text = format!("[[quota]]\nname = \"q\"\nclient = \"10.0.0.1\"\nbytes = {limit}\nperiod = \"month\"\n");
        let QuotaFile { quotas, .. } = QuotaFile::parse(&text).unwrap();
        Quotas::new(quotas, Zone::UTC, Timestamp::now().clamped().0).unwrap()
    }

    #[test]
    fn a_file_that_changes_often_is_read_for_once_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, _) = Writer::open_with_live_totals(&dir.path().join("ztmon.db"), None).unwrap();
        let (control, roster) = (Shared::default(), Roster::default());
        *lock(&control.quotas) = Some(quotas(1));
        let mut accounts = Accounts::default();
        accounts.turn(&control, &roster);
        // A reading that takes long.
        let (sender, receiver) = sync_channel(1);
        accounts.reading = Some(receiver);
        for limit in [2, 3] {
            *lock(&control.quotas) = Some(quotas(limit));
            accounts.turn(&control, &roster);
            accounts.begin(&writer);
        }
        let unknown = [("q".to_owned(), "of the file before".to_owned())].into();
        sender.send(Ok(Reading { known: Vec::new(), unknown })).expect("no other has begun");
        accounts.turn(&control, &roster);
        assert!(accounts.said.is_empty(), "it was about quotas that are no longer");
        accounts.begin(&writer);
        accounts.settle(Duration::from_secs(60));
        let [Quota { used_bytes, limit_bytes, .. }] = &accounts.shown()[..] else { panic!() };
        assert_eq!((*used_bytes, *limit_bytes), (Some(0), 3));
    }
}
