//! A new database that is there as a whole or not at all.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::geteuid;

use super::{companion, shm, wal};

/// What is made on the way. Nothing else is ever deleted.
pub(super) const NEW: &str = "new.db";
pub(super) const DAMAGED: &str = "damaged.db";

/// A directory beside the place where the new database is to be, named after it. It goes away with all that was made in
/// it; what a kill has left is taken over by the next one.
pub(super) struct Fresh {
    scratch: PathBuf,
    /// Of the directory, for as long as it is in use.
    _lock: File,
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
        let scratch = companion(into, ".unfinished");
        let writing = || Fresh::writing(into);
        match DirBuilder::new().mode(0o700).create(&scratch) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error).with_context(writing),
            _ => (),
        }
        let is_ours = |file: fs::Metadata| file.is_dir() && file.uid() == geteuid().as_raw();
        let there = scratch.symlink_metadata().with_context(writing)?;
        ensure!(is_ours(there), "{} is in the way: move it away, or give another --output", scratch.display());
        let lock = File::open(&scratch).with_context(writing)?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => bail!("another ztmon is writing {}", into.display()),
            Err(TryLockError::Error(error)) => return Err(error).with_context(writing),
            Ok(()) => (),
        }
        // Whoever had it until now may have removed it.
        let number = |file: fs::Metadata| (file.dev(), file.ino());
        let is_there = number(scratch.symlink_metadata().with_context(writing)?) == number(lock.metadata()?);
        ensure!(is_there, "another ztmon is writing {}", into.display());
        clear(&scratch).with_context(writing)?;
        Ok(Fresh { scratch, _lock: lock, into: into.to_owned() })
    }

    /// Where the new database can be made, under this name.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Puts the database that was made and closed at `new` into its place. Who may read and write `original` may so this
    /// one, and nobody else.
    pub(super) fn keep(&self, new: &Path, original: &File) -> Result<()> {
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

impl Drop for Fresh {
    fn drop(&mut self) {
        clear(&self.scratch).and_then(|()| fs::remove_dir(&self.scratch)).ok();
    }
}

/// Deletes what was made there.
fn clear(scratch: &Path) -> io::Result<()> {
    for entry in fs::read_dir(scratch)? {
        let name = entry?.file_name();
        if [NEW, DAMAGED].iter().any(|ours| name.as_encoded_bytes().starts_with(ours.as_bytes())) {
            fs::remove_file(scratch.join(name))?;
        }
    }
    Ok(())
}

fn beside(into: &Path) -> &Path {
    match into.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
