//! A disk that fails, hangs or is watched, and a wall clock that jumps: `shim.c`, built and steered.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::support::eventually;
use crate::support::serve::Setup;

/// What an operation may fail with: an I/O error, and no space left.
pub const ERRORS: [u64; 2] = [5, 28];

/// The process is killed halfway through the operation.
pub const KILL: u64 = u64::MAX;

/// The words of the control file, in the order of `shim.c`.
enum Word {
    Operations,
    Failed,
    Error,
    From,
    Until,
    Frozen,
    Waiting,
    Clock,
}

/// Where a word stands in the control file.
fn at(word: Word) -> u64 {
    word as u64 * 8
}

/// What the `serve`s on one database get to feel.
pub struct Shim {
    db: PathBuf,
    control_path: PathBuf,
    control: File,
    log: PathBuf,
}

impl Shim {
    /// For the database at `db`, with files of its own beside it.
    pub fn new(db: &Path) -> Shim {
        let (control_path, log) = (db.with_file_name("faults.control"), db.with_file_name("faults.log"));
        std::fs::write(&control_path, [0; 8 * (Word::Clock as usize + 1)]).unwrap();
        let control = File::options().read(true).write(true).open(&control_path).unwrap();
        Shim { db: db.to_owned(), control_path, control, log }
    }

    /// Makes a `serve` feel it.
    pub fn around<'n>(&self, setup: Setup<'n>) -> Setup<'n> {
        self.environment().into_iter().fold(setup, |setup, (name, value)| setup.env(name, value))
    }

    /// What a program feels it by.
    pub fn environment(&self) -> [(&'static str, &Path); 3] {
        [("LD_PRELOAD", library()), ("FAULTS_DB", &self.db), ("FAULTS_CONTROL", &self.control_path)]
    }

    /// The same, and keeps a log.
    pub fn watching<'n>(&self, setup: Setup<'n>) -> Setup<'n> {
        self.around(setup).env("FAULTS_LOG", &self.log)
    }

    fn get(&self, word: Word) -> u64 {
        let mut value = [0; 8];
        self.control.read_exact_at(&mut value, at(word)).unwrap();
        u64::from_ne_bytes(value)
    }

    fn set(&self, word: Word, value: u64) {
        self.control.write_all_at(&value.to_ne_bytes(), at(word)).unwrap();
    }

    /// Operations on the database's files so far.
    pub fn operations(&self) -> u64 {
        self.get(Word::Operations)
    }

    /// How many of them failed.
    pub fn failed(&self) -> u64 {
        self.get(Word::Failed)
    }

    /// Lets `count` operations fail, after `skip` more that do not.
    pub fn fail(&self, error: u64, skip: u64, count: u64) {
        self.heal();
        let from = self.operations() + skip;
        self.set(Word::From, from);
        self.set(Word::Until, from.saturating_add(count));
        self.set(Word::Error, error);
    }

    /// From now on nothing fails.
    pub fn heal(&self) {
        self.set(Word::Error, 0);
    }

    /// Every operation waits from now on; returns when one does.
    pub fn freeze(&self) {
        self.set(Word::Frozen, 1);
        eventually("an operation on a frozen disk", || (self.get(Word::Waiting) > 0).then_some(()));
    }

    /// They go on.
    pub fn thaw(&self) {
        self.set(Word::Frozen, 0);
    }

    /// Sets the wall clock so many seconds off the machine's.
    pub fn set_clock(&self, seconds: i64) {
        self.set(Word::Clock, (seconds * 1_000_000_000) as u64);
    }

    /// What was logged so far.
    pub fn log(&self) -> Vec<Operation> {
        let bytes = std::fs::read(&self.log).unwrap();
        let mut rest = &bytes[..];
        std::iter::from_fn(|| {
            // The last one may just be being written.
            let (operation, after) = Operation::read(rest)?;
            rest = after;
            Some(operation)
        })
        .collect()
    }
}

/// The library, built once in a run of the tests.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}.so", std::process::id()));
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&library).arg(source);
        let output = cc.args(["-ldl", "-lpthread"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        library
    })
}

/// One of the database's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    Database,
    Wal,
    Journal,
    /// The directory, whose sync makes the others' names safe.
    Directory,
}

impl Name {
    /// What its name has behind the database's.
    pub fn ending(self) -> &'static str {
        match self {
            Name::Database => "",
            Name::Wal => "-wal",
            Name::Journal => "-journal",
            Name::Directory => panic!("no file"),
        }
    }
}

/// What was done to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there, new or not.
    Open,
    Write(u64, Vec<u8>),
    Truncate(u64),
    Sync,
    Unlink,
}

/// A line of the log.
#[derive(Clone)]
pub struct Operation {
    /// When it was over, on the clock of [`monotonic`].
    pub end: Duration,
    pub name: Name,
    pub change: Change,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { name, change, .. } = self;
        match change {
            Change::Write(at, data) => write!(f, "{} bytes to byte {at} of {name:?}", data.len()),
            Change::Open | Change::Truncate(_) | Change::Sync | Change::Unlink => write!(f, "{change:?} of {name:?}"),
        }
    }
}

impl Operation {
    /// The first in `bytes`, if all of it is there, and the bytes behind it. See `struct record` in `shim.c`.
    fn read(bytes: &[u8]) -> Option<(Operation, &[u8])> {
        let (head, rest) = bytes.split_at_checked(40)?;
        let word = |index: usize| u64::from_ne_bytes(head[index * 8..][..8].try_into().unwrap());
        let half = |index: usize| u32::from_ne_bytes(head[index * 4..][..4].try_into().unwrap());
        let (start, end, what, name, at, len) = (word(0), word(1), half(4), half(5), word(3), word(4));
        assert!(start <= end);
        let (data, rest) = rest.split_at_checked(len as usize)?;
        let name = match name {
            1 => Name::Database,
            2 => Name::Wal,
            3 => Name::Journal,
            5 => Name::Directory,
            other => panic!("a file that this test does not know: {other}"),
        };
        let change = match what {
            0 => Change::Open,
            1 => Change::Write(at, data.to_vec()),
            2 => Change::Truncate(at),
            3 => Change::Sync,
            4 => Change::Unlink,
            other => panic!("an operation that this test does not know: {other}"),
        };
        Some((Operation { end: Duration::from_nanos(end), name, change }, rest))
    }
}

/// Now, on the clock of the log.
pub fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
