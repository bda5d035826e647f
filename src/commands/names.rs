//! Names files: who members are, as somebody wrote it down.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use crate::zerotier::{Roster, names};

/// What a names file tells.
pub(super) fn read(path: &Path) -> anyhow::Result<Roster> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(names::MAX_BYTES as u64 + 1).read_to_end(&mut bytes));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    names::parse(&bytes).map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// What several tell; the later ones are right where they differ.
pub(super) fn read_all(paths: &[PathBuf]) -> anyhow::Result<Roster> {
    let mut all = Roster::default();
    for path in paths {
        all.merge(&read(path)?);
    }
    Ok(all)
}
