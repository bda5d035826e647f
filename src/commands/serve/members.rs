//! Who members are, as `serve` comes to know it: from names files and from a controller, each on a thread of its own,
//! which may take any time. The keeper asks what is new when it commits.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use super::control::{Shared, lock};
use super::log;
use crate::commands::names;
use crate::zerotier::{Members, NetworkId, Roster};

/// How often to look whether a names file has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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

/// A names file, and which state of it was read last.
struct Watched {
    path: PathBuf,
    state: Option<State>,
    failed: Option<String>,
}

/// Device, inode, size, and when it was written: seconds and nanoseconds.
type State = (u64, u64, u64, i64, i64);

/// Names files that are read again when they change.
pub(super) struct NamesFiles(Vec<Watched>);

impl NamesFiles {
    /// Reads them for the first time.
    ///
    /// # Errors
    /// If one cannot be read, is no file, or is not understood.
    pub(super) fn read(paths: Vec<PathBuf>, known: &Known) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        for (at, path) in paths.into_iter().enumerate() {
            // Reading from a pipe may take for ever, and what it had is gone.
            let is_pipe = path.metadata().is_ok_and(|data| !data.is_file());
            anyhow::ensure!(!is_pipe, "{} is no file: give a names file", path.display());
            let state = state(&path);
            known.by_file(at, names::read(&path)?);
            files.push(Watched { path, state, failed: None });
        }
        Ok(NamesFiles(files))
    }

    /// The directories that they are in: a file that is put in another's place is found there.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|file| match file.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        })
    }

    /// Looks at them on a thread of its own until it is time to stop.
    pub(super) fn watch(mut self, control: Shared) -> anyhow::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        thread::Builder::new().name("names".to_owned()).spawn(move || {
            while !control.stopping() {
                thread::sleep(LOOK_EVERY);
                self.0.iter_mut().enumerate().for_each(|(at, file)| file.look(at, &control.known));
            }
        })?;
        Ok(())
    }
}

impl Watched {
    fn look(&mut self, at: usize, known: &Known) {
        // Before it is read: what is written meanwhile is seen the next time.
        let state = state(&self.path);
        if state == self.state && (state.is_some() || self.failed.is_some()) {
            return;
        }
        self.state = state;
        match names::read(&self.path) {
            Ok(roster) => {
                log::info(&format!("{}: read again, {} entries", self.path.display(), roster.len()));
                known.by_file(at, roster);
                self.failed = None;
            }
            Err(error) => {
                let error = format!("{error:#}");
                if self.failed.as_ref() != Some(&error) {
                    log::warn(&format!("{error}; what it told before stays known"));
                }
                self.failed = Some(error);
            }
        }
    }
}

fn state(path: &Path) -> Option<State> {
    let data = path.metadata().ok().filter(|data| data.is_file())?;
    Some((data.dev(), data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
}
