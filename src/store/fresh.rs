//! A new database that is there as a whole or not at all.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::{shm, wal};

/// A directory beside the place where the new database is to be. It goes away with all that is in it.
pub(super) struct Fresh {
    scratch: TempDir,
    into: PathBuf,
}

impl Fresh {
    /// For a database at `into`.
    ///
    /// # Errors
    /// If there is something at `into`, or nothing can be written there.
    pub(super) fn new(into: &Path) -> Result<Self> {
        for file in [into, &wal(into), &shm(into)] {
            let is_there = file.symlink_metadata().is_ok();
            ensure!(!is_there, "{} is there already: move it away, or give another --output", file.display());
        }
        let scratch = tempfile::tempdir_in(beside(into)).with_context(|| Fresh::writing(into))?;
        Ok(Fresh { scratch, into: into.to_owned() })
    }

    /// Where the new database can be made, under this name.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Puts the database that was made and closed at `new` into its place. Who may read and write `original` may so this
    /// one, and nobody else.
    pub(super) fn keep(self, new: &Path, original: &File) -> Result<()> {
        let writing = || Fresh::writing(&self.into);
        let owner = original.metadata()?;
        fs::set_permissions(new, owner.permissions()).with_context(writing)?;
        std::os::unix::fs::chown(new, Some(owner.uid()), Some(owner.gid())).ok();
        File::open(new).and_then(|file| file.sync_all()).with_context(writing)?;
        // Unlike a rename, a link never takes the place of another file. Some file systems have none.
        match fs::hard_link(new, &self.into) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => fs::rename(new, &self.into),
            linked => linked,
        }
        .and_then(|()| File::open(beside(&self.into))?.sync_all())
        .with_context(writing)
    }

    /// What to say before the reason.
    pub(super) fn writing(into: &Path) -> String {
        format!("cannot write to {}", beside(into).display())
    }
}

fn beside(into: &Path) -> &Path {
    match into.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
