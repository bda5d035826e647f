//! Files that are read again when they change.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::log;

/// How often to look whether one has changed.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A file, and which state of it was read last.
pub(super) struct Watched {
    path: PathBuf,
    state: Option<State>,
    failed: Option<String>,
}

/// Device, inode, size, and when it was written: seconds and nanoseconds.
type State = (u64, u64, u64, i64, i64);

impl Watched {
    /// Reads `what` it is for the first time.
    ///
    /// # Errors
    /// If it is no file, and with what `read` returns.
    pub(super) fn read<T>(
        path: PathBuf,
        what: &str,
        read: impl FnOnce(&Path) -> anyhow::Result<T>,
    ) -> anyhow::Result<(Self, T)> {
        // Reading from a pipe may take for ever, and what it had is gone.
        let is_pipe = path.metadata().is_ok_and(|data| !data.is_file());
        anyhow::ensure!(!is_pipe, "{} is no file: give a {what}", path.display());
        let state = state(&path);
        let found = read(&path)?;
        Ok((Watched { path, state, failed: None }, found))
    }

    /// The directory that it is in: a file that is put in its place is found there.
    pub(super) fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Reads it again if it has changed. What is wrong with it is said once.
    pub(super) fn look<T>(&mut self, read: impl FnOnce(&Path) -> anyhow::Result<T>) -> Option<T> {
        // Before it is read: what is written meanwhile is seen the next time.
        let state = state(&self.path);
        if state == self.state && (state.is_some() || self.failed.is_some()) {
            return None;
        }
        self.state = state;
        let found = read(&self.path).map_err(|error| format!("{error:#}"));
        if let Err(error) = &found
            && self.failed.as_ref() != Some(error)
        {
            log::warn(&format!("{error}; what it told before stays known"));
        }
        self.failed = found.as_ref().err().cloned();
        found.ok().inspect(|_| log::info(&format!("{}: read again", self.path.display())))
    }
}

fn state(path: &Path) -> Option<State> {
    let data = path.metadata().ok().filter(|data| data.is_file())?;
    Some((data.dev(), data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
}
