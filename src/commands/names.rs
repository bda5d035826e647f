//! Names files: who members are, as somebody wrote it down.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};

use crate::zerotier::{NetworkId, Roster, names};

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

/// An error if what names files tell is of no use: all of other networks than the one that was given and `others`.
pub(super) fn check(told: &Roster, given: Option<NetworkId>, others: &[NetworkId]) -> anyhow::Result<()> {
    let Some(given) = given else { return Ok(()) };
    let networks = told.networks();
    let is_used = networks.iter().any(|network| *network == given || others.contains(network));
    match networks.first() {
        Some(first) if !is_used => bail!(
            "--names tells of members of {first} and of none of --network-id {given}: give names of that network, or leave \
             the flag out"
        ),
        _ => Ok(()),
    }
}
