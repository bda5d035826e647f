//! Taking capture files into a database: all of a set, or none.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use super::say;
use crate::capture::Source;
use crate::report::{Named, thousands};
use crate::store::{self, Import, Live, Writer};
use crate::time::Timestamp;
use crate::traffic::{Counts, DeltaRow, Directory, Origin, Outcome, Overlap, Seen};

/// One of the files given.
pub(super) struct Input {
    /// Where it is read from.
    pub source: Source,
    /// What a database will know of it; there for every file that is taken in.
    pub import: Option<Import>,
}

impl Input {
    /// Notes a frame of this file.
    pub(super) fn record(&mut self, outcome: Outcome, time: Timestamp) {
        if let Some(import) = &mut self.import {
            import.frames += 1;
            if outcome == Outcome::Counted {
                import.seen.get_or_insert(Seen::at(time)).merge(Seen::at(time));
            }
        }
    }
}

/// A database in the middle of an import. Dropped before [`Database::commit`] it is as it was before, and gone if it
/// was not there.
pub(super) struct Database {
    /// There until it is committed.
    writer: Option<Writer>,
    source: store::Source,
    /// The times that are not to be added to, if there are any.
    live: Live,
    /// The network that the files are of; empty if nothing says which.
    network: String,
    /// What is of them is left out.
    skips: bool,
    /// What was taken in, and what was left out.
    added: Counts,
    skipped: Counts,
    /// What is to be said of the files that could not be read.
    pub unread: Vec<String>,
}

impl Database {
    /// Opens the database, or makes it, with older buckets of so many seconds. What was told of members is kept there, too.
    pub(super) fn open(
        path: &Path,
        bucket: Option<u32>,
        overlap: Option<Overlap>,
        named: &Named,
    ) -> anyhow::Result<Self> {
        let mut writer = Writer::open_kept_by(path, bucket)?;
        let mut begin = || {
            writer.begin()?;
            let name = named.network.map(|network| network.to_string()).unwrap_or_default();
            let network = writer.network(&name, "")?;
            if named.network.is_some() {
                writer.tell(network, &named.roster.of(named.network))?;
            }
            let live = if overlap == Some(Overlap::Add) { Live::default() } else { writer.captured_live()? };
            anyhow::Ok((network, name, live))
        };
        let (id, network, live) = match begin() {
            Ok(begun) => begun,
            Err(error) => {
                writer.discard();
                return Err(error);
            }
        };
        let source = store::Source::new(id, Origin::Import);
        let skips = overlap == Some(Overlap::Skip);
        Ok(Database {
            writer: Some(writer),
            source,
            live,
            network,
            skips,
            added: Counts::default(),
            skipped: Counts::default(),
            unread: Vec::new(),
        })
    }

    /// The files that are new to the database, by their bytes. The others are named.
    pub(super) fn admit(&mut self, inputs: Vec<Input>, quiet: bool) -> anyhow::Result<Vec<Input>> {
        let mut admitted: Vec<Input> = Vec::new();
        for Input { source, .. } in inputs {
            let Fingerprint { sha256, size, bytes } = match Fingerprint::of(&source) {
                Ok(fingerprint) => fingerprint,
                // What has no fingerprint is not read: nothing could tell that it was taken in before.
                Err(Failure::Reading(error)) => {
                    self.unread.push(format!("ztmon: {source}: {error}"));
                    continue;
                }
                Err(Failure::Copying(error)) => {
                    return Err(error).with_context(|| format!("cannot keep a copy of {source} in $TMPDIR or /tmp"));
                }
            };
            let source = source.held_in(bytes).up_to(size);
            let in_set = admitted.iter().filter_map(|other| other.import.as_ref()).find(|other| other.sha256 == sha256);
            let twin = match in_set {
                Some(import) => Some(format!("the same as those of {}", import.name)),
                None => self
                    .writer()?
                    .imported(&sha256)?
                    .map(|import| format!("already imported at {} as {}", import.imported_at, import.name)),
            };
            match twin {
                Some(twin) if !quiet => say(&format!("ztmon: {source}: left out, its bytes are {twin}")),
                Some(_) => (),
                None => {
                    let name = source.to_string();
                    let import = Import { sha256, name, size, imported_at: Timestamp::now(), frames: 0, seen: None };
                    admitted.push(Input { source, import: Some(import) });
                }
            }
        }
        Ok(admitted)
    }

    /// Adds what was counted.
    ///
    /// # Errors
    /// If it is of a time that was captured live, and not to be left out.
    pub(super) fn add(&mut self, directory: &Directory, rows: &[DeltaRow]) -> anyhow::Result<()> {
        let writer = self.writer.as_mut().context("the import is over")?;
        let live_at = |row: &DeltaRow| self.live.at(&self.network, row.bucket);
        let Some((name, live)) = rows.iter().find_map(live_at) else {
            self.added.add(directory.moved(rows));
            return writer.add(&mut self.source, directory, rows);
        };
        if !self.skips {
            bail!("{}", store::would_count_twice("the database", "these files", (name, live), self.network.is_empty()));
        }
        let (twice, new): (Vec<DeltaRow>, Vec<DeltaRow>) = rows.iter().partition(|row| live_at(row).is_some());
        self.added.add(directory.moved(&new));
        self.skipped.add(directory.moved(&twice));
        writer.add(&mut self.source, directory, &new)
    }

    /// What to say where not all that was counted is in the database.
    pub(super) fn left_out(&self) -> Option<String> {
        let words =
            |counts: Counts| format!("{} packets ({} bytes)", thousands(counts.packets), thousands(counts.bytes));
        (self.skipped.packets > 0).then(|| {
            format!(
                "ztmon: left out of the database, as their time was captured live: {}; added: {}; what is printed is of both",
                words(self.skipped),
                words(self.added)
            )
        })
    }

    /// Keeps all of it, and what it came from.
    pub(super) fn commit(mut self, inputs: &[Input]) -> anyhow::Result<()> {
        let mut record_all = || {
            let writer = self.writer.as_mut().context("the import is over")?;
            for import in inputs.iter().filter_map(|input| input.import.as_ref()) {
                writer.record_import(import)?;
            }
            writer.commit()
        };
        record_all()?;
        self.writer = None;
        Ok(())
    }

    fn writer(&self) -> anyhow::Result<&Writer> {
        self.writer.as_ref().context("the import is over")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.discard();
        }
    }
}

/// What a file is known by, and the bytes that it was taken from: these are counted, whatever becomes of the name.
struct Fingerprint {
    sha256: [u8; 32],
    size: u64,
    bytes: File,
}

/// Why a file has none.
enum Failure {
    Reading(io::Error),
    Copying(io::Error),
}

impl Fingerprint {
    fn of(source: &Source) -> Result<Self, Failure> {
        let mut hasher = Sha256::new();
        let (mut bytes, keep_copy) = match source.path().filter(|_| source.can_be_read_again()) {
            Some(path) => (File::open(path).map_err(Failure::Reading)?, false),
            // Without a name: whatever ends this run, nothing of it stays.
            None => (tempfile::tempfile().map_err(Failure::Copying)?, true),
        };
        let mut reader: Box<dyn Read> = match keep_copy {
            true => source.reader().map_err(Failure::Reading)?,
            false => Box::new(bytes.try_clone().map_err(Failure::Reading)?),
        };
        let mut buffer = vec![0; 1 << 18];
        let mut size = 0;
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => return Ok(Fingerprint { sha256: hasher.finalize().into(), size, bytes }),
                Ok(read) => &buffer[..read],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Reading(error)),
            };
            hasher.update(read);
            size += read.len() as u64;
            if keep_copy {
                bytes.write_all(read).map_err(Failure::Copying)?;
            }
        }
    }
}
