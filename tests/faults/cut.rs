//! What a disk may hold of the database's files when the power goes, by the log of all that was done to them.

use std::collections::BTreeMap;

use crate::Random;
use crate::shim::{Change, Name, Operation};

/// Which of the changes so far are on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All of them: the cache was written back just in time. A kill leaves the same.
    AllWritten,
    /// All of them, and half of the write that came next.
    HalfAWrite,
    /// What had been synced.
    SyncedOnly,
    /// What had been synced, and some of the rest, in any order, writes torn in half among it.
    SyncedAndSome,
}

/// The database's files by name.
pub type Files = BTreeMap<Name, Vec<u8>>;

/// The files as the program sees them, and what of it is safe.
#[derive(Default)]
pub struct Disk {
    /// All that there ever were.
    inodes: Vec<Inode>,
    names: BTreeMap<Name, usize>,
    /// The names as the directory had them when it was last synced.
    safe_names: BTreeMap<Name, usize>,
}

#[derive(Default)]
struct Inode {
    bytes: Vec<u8>,
    /// As it was last synced.
    safe: Vec<u8>,
    /// What was done to it since.
    changes: Vec<Change>,
}

impl Disk {
    /// Does what the program did.
    pub fn apply(&mut self, Operation { name, change, .. }: &Operation) {
        match (change, name) {
            (Change::Sync, Name::Directory) => self.safe_names = self.names.clone(),
            (Change::Open, _) => {
                self.names.entry(*name).or_insert_with(|| {
                    self.inodes.push(Inode::default());
                    self.inodes.len() - 1
                });
            }
            (Change::Unlink, _) => {
                self.names.remove(name);
            }
            (Change::Sync, _) => {
                let inode = &mut self.inodes[self.names[name]];
                inode.safe.clone_from(&inode.bytes);
                inode.changes.clear();
            }
            (Change::Write(..) | Change::Truncate(_), _) => {
                let inode = &mut self.inodes[self.names[name]];
                change_bytes(&mut inode.bytes, change);
                inode.changes.push(change.clone());
            }
        }
    }

    /// What is left of the files if the power goes before `next`, or during it.
    pub fn files(&self, cut: Cut, next: Option<&Operation>, random: &mut Random) -> Files {
        let all = |names: &BTreeMap<Name, usize>, bytes: &mut dyn FnMut(&Inode) -> Vec<u8>| -> Files {
            names.iter().map(|(name, inode)| (*name, bytes(&self.inodes[*inode]))).collect()
        };
        match cut {
            Cut::AllWritten => all(&self.names, &mut |inode| inode.bytes.clone()),
            Cut::HalfAWrite => {
                let mut files = all(&self.names, &mut |inode| inode.bytes.clone());
                if let Some(Operation { name, change: Change::Write(at, data), .. }) = next {
                    let half = Change::Write(*at, data[..data.len() / 2].to_vec());
                    change_bytes(files.get_mut(name).unwrap(), &half);
                }
                files
            }
            Cut::SyncedOnly => all(&self.safe_names, &mut |inode| inode.safe.clone()),
            Cut::SyncedAndSome => {
                let names = if random.below(2) == 0 { &self.names } else { &self.safe_names };
                all(names, &mut |inode| inode.some(random))
            }
        }
    }
}

impl Inode {
    fn some(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.safe.clone();
        for change in &self.changes {
            match (random.below(4), change) {
                (0, _) => (),
                (1, Change::Write(at, data)) => {
                    change_bytes(&mut bytes, &Change::Write(*at, data[..data.len() / 2].to_vec()));
                }
                _ => change_bytes(&mut bytes, change),
            }
        }
        bytes
    }
}

/// Writes to a file, or cuts or extends it.
fn change_bytes(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(at, data) => {
            let end = *at as usize + data.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[*at as usize..end].copy_from_slice(data);
        }
        Change::Truncate(len) => bytes.resize(*len as usize, 0),
        Change::Open | Change::Sync | Change::Unlink => (),
    }
}
