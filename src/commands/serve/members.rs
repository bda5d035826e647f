//! Who members are, as `serve` comes to know it: from names files and from a controller, each on a thread of its own,
//! which may take any time. The keeper asks what is new when it commits.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use super::alarm::Alarm;
use super::control::{Shared, lock};
use super::watched::{LOOK_EVERY, Watched};
use crate::commands::names;
use crate::zerotier::{Members, NetworkId, Roster};

/// What has been told, and of which networks a controller is to be asked.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    /// Changes with the rest.
    version: u64,
    controller: Roster,
    /// By their place on the command line.
    files: Vec<Roster>,
    networks: BTreeSet<NetworkId>,
}

impl Known {
    /// All that was told, unless it is of this `version` still; and its version.
    pub(super) fn since(&self, version: u64) -> Option<(u64, Roster)> {
        let told = lock(&self.0);
        (told.version != version).then(|| {
            let mut all = told.controller.clone();
            told.files.iter().for_each(|file| all.merge(file));
            (told.version, all)
        })
    }

    /// The network that all of it is about, if that is one.
    pub(super) fn only_network(&self) -> Option<NetworkId> {
        self.since(0).and_then(|(_, roster)| roster.only_network())
    }

    /// A network that this process captures on.
    pub(super) fn capturing(&self, network: NetworkId) {
        lock(&self.0).networks.insert(network);
    }

    /// The networks that this process captures on.
    pub(super) fn networks(&self) -> BTreeSet<NetworkId> {
        lock(&self.0).networks.clone()
    }

    /// What a controller tells. What it told before stays known: an address that it gives to another was somebody's.
    pub(super) fn by_controller(&self, roster: &Roster) {
        let mut told = lock(&self.0);
        let mut all = told.controller.clone();
        all.merge(roster);
        if all != told.controller {
            told.controller = all;
            told.version += 1;
        }
    }

    fn by_file(&self, at: usize, roster: Roster) {
        let mut told = lock(&self.0);
        if told.files.len() <= at {
            told.files.resize(at + 1, Roster::default());
        }
        told.files[at] = roster;
        told.version += 1;
    }
}

/// All that the keeper has taken in, what the database knew before included.
pub(super) struct Learned {
    version: u64,
    pub roster: Roster,
    /// Whether the database has it.
    pub kept: bool,
}

impl Learned {
    /// What the database knew, and what has been told since.
    pub(super) fn before(roster: Roster, known: &Known) -> Self {
        let mut learned = Learned { version: 0, roster, kept: true };
        learned.look(known);
        learned
    }

    /// Takes in what is new, and says whether anything is.
    pub(super) fn look(&mut self, known: &Known) -> bool {
        let Some((version, told)) = known.since(self.version) else { return false };
        self.version = version;
        self.roster.merge(&told);
        self.kept = false;
        true
    }

    /// The members of the network with this name, if that is its id.
    pub(super) fn of(&self, network: &str) -> Members {
        self.roster.of(network.parse().ok())
    }
}

/// Names files that are read again when they change.
pub(super) struct NamesFiles(Vec<Watched>);

impl NamesFiles {
    /// Reads them for the first time.
    ///
    /// # Errors
    /// If one cannot be read, is no file, or is not understood; or if all tell of other networks than the one `given`.
    pub(super) fn read(paths: Vec<PathBuf>, given: Option<NetworkId>, known: &Known) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        for (at, path) in paths.into_iter().enumerate() {
            let (file, roster) = Watched::read(path, "names file", names::read)?;
            known.by_file(at, roster);
            files.push(file);
        }
        if let Some((_, told)) = known.since(0) {
            names::check(&told, given, &[])?;
        }
        Ok(NamesFiles(files))
    }

    /// The directories that they are in: a file that is put in another's place is found there.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(Watched::directory)
    }

    /// Looks at them on a thread of its own until it is time to stop.
    pub(super) fn watch(mut self, control: Shared, alarm: &Alarm) -> anyhow::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        alarm.spawn("names", move || {
            while !control.stopping() {
                thread::sleep(LOOK_EVERY);
                for (at, file) in self.0.iter_mut().enumerate() {
                    if let Some(roster) = file.look(names::read) {
                        control.known.by_file(at, roster);
                    }
                }
            }
        })?;
        Ok(())
    }
}
