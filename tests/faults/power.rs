//! The power goes: after every single thing that was done to the database's files.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::tempdir;
use ztmon::store::{Reader, Writer, companions};
use ztmon::traffic::{End, Origin};

use crate::cut::{Cut, Disk, Files};
use crate::shim::{Change, Name, Operation, Shim};
use crate::support::eventually;
use crate::support::net::Namespace;
use crate::support::numbers::{Totals, report};
use crate::support::serve::Setup;
use crate::traffic::{Plan, Sender};
use crate::watch::{ADDRESS, Answer, Watch};
use crate::{Random, how_much};

/// So many pairs that a commit changes some hundred pages.
const PLAN: Plan = Plan { clients: 64 };

/// Packets a second: every pair has some in every commit.
const RATE: u64 = 5000;

/// One state in so many is also opened for writing, which repairs it, and one in so many by the program itself.
const WRITER_EVERY: usize = 20;
const PROGRAM_EVERY: usize = 200;

/// What one answer had shown, and when it had arrived.
type Shown = Vec<(Duration, Totals)>;

#[test]
fn a_power_cut_takes_back_nothing_that_was_seen() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let shim = Shim::new(&db);
    let start = || {
        let serve = shim.watching(Setup::within(&net, &db)).listen(ADDRESS).start();
        serve.wait_for_log("capturing on ztone", 1);
        serve
    };
    let shown = Mutex::new(Shown::new());
    let note = |answer: Answer| {
        let mut shown = shown.lock().unwrap();
        if shown.last().is_none_or(|(_, last)| *last != answer.totals) {
            shown.push((answer.arrived, answer.totals));
        }
    };
    Sender::during(PLAN, &net, "wire", |sender| {
        sender.set_rate(RATE);
        Watch::during(&net, 1, Duration::from_millis(10), note, |_| {
            let two_commits = || {
                let seen = || shown.lock().unwrap().len();
                let before = seen();
                eventually("two commits", || (seen() >= before + 2).then_some(()));
            };
            // Until the -wal has been taken over into the database, not only at its making, and is written from its start again.
            let serve = start();
            eventually("a checkpoint", || starts_of_the_wal(&shim.log()).gt(&2).then_some(()));
            two_commits();
            serve.signal(Signal::KILL);
            serve.end();
            assert_eq!(files_there(&db), files_by(&shim.log()), "the log does not have everything");
            // What the kill left is taken over, too, and everything when it stops.
            let serve = start();
            two_commits();
            serve.stop();
        });
    });

    let log = shim.log();
    let shown = shown.into_inner().unwrap();
    assert!(log.iter().filter(|operation| operation.name == Name::Database).count() > 100, "no checkpoint");
    assert_eq!(files_there(&db), files_by(&log), "the log does not have everything");

    let step = how_much("ZTMON_POWER_STEP", 32) as usize;
    let seed = Random::new("power").0;
    let start = Instant::now();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let states: usize = thread::scope(|scope| {
        let share = |worker| {
            let (log, shown, dir) = (&log, &shown, dir.path());
            scope.spawn(move || {
                let mut lab = Lab { dir: dir.join(format!("cut-{worker}")), random: Random(seed), opened: 0 };
                std::fs::create_dir(&lab.dir).unwrap();
                lab.cut_everywhere(log, shown, |at| at / step % workers == worker && is_worth(log, at, step));
                lab.opened
            })
        };
        let all: Vec<_> = (0..workers).map(share).collect();
        all.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    let (all, seen, took) = (log.len(), shown.len(), start.elapsed());
    eprintln!("power: {all} operations, {seen} totals seen, {states} states opened in {took:.0?}");
}

/// The database's files as they are now.
fn files_there(db: &Path) -> Files {
    let all = [Name::Database, Name::Wal, Name::Journal].into_iter();
    all.filter_map(|name| Some((name, std::fs::read(path(db, name)).ok()?))).collect()
}

/// The database's files by the log of all that was done to them.
fn files_by(log: &[Operation]) -> Files {
    let mut disk = Disk::default();
    log.iter().for_each(|operation| disk.apply(operation));
    disk.files(Cut::AllWritten, None, &mut Random(0))
}

/// Where one of the database's files is.
fn path(db: &Path, name: Name) -> PathBuf {
    let mut path = db.as_os_str().to_owned();
    path.push(name.ending());
    path.into()
}

/// How often the -wal was begun.
fn starts_of_the_wal(log: &[Operation]) -> usize {
    let is_start =
        |operation: &&Operation| operation.name == Name::Wal && matches!(operation.change, Change::Write(0, _));
    log.iter().filter(is_start).count()
}

/// Whether to cut before operation `at`: always around one that is no write, and before one in `step`.
fn is_worth(log: &[Operation], at: usize, step: usize) -> bool {
    let around = &log[at.saturating_sub(1)..log.len().min(at + 1)];
    let writes = around.iter().all(|operation| matches!(operation.change, Change::Write(..)));
    at.is_multiple_of(step) || !writes
}

/// Where the states after a cut are opened.
struct Lab {
    dir: PathBuf,
    random: Random,
    opened: usize,
}

impl Lab {
    /// Cuts the power before each operation that is wanted, in all ways.
    fn cut_everywhere(&mut self, log: &[Operation], shown: &Shown, wanted: impl Fn(usize) -> bool) {
        let mut disk = Disk::default();
        let mut shown = shown.iter().peekable();
        let mut floor = Totals::default();
        for at in 0..=log.len() {
            // An answer may have arrived at any time before the next operation was over.
            let next = log.get(at);
            while let Some((_, totals)) = shown.next_if(|(arrived, _)| next.is_none_or(|next| *arrived <= next.end)) {
                floor.raise(totals);
            }
            if wanted(at) {
                let next_said = next.map_or("the end".to_owned(), |next| next.to_string());
                for cut in [Cut::AllWritten, Cut::HalfAWrite, Cut::SyncedOnly, Cut::SyncedAndSome] {
                    let files = disk.files(cut, next, &mut self.random);
                    self.open(&files, &floor, &format!("{cut:?} before operation {at}, {next_said}"));
                }
            }
            next.inspect(|next| disk.apply(next));
        }
    }

    /// That the files can be opened, and that nothing is below `floor`.
    fn open(&mut self, files: &Files, floor: &Totals, what: &str) {
        let db = self.dir.join("ztmon.db");
        self.write(files, &db);
        match read(&db) {
            Ok(kept) => assert_keeps(&kept, floor, what),
            // Before anything was shown there may be no database yet, or an empty one.
            Err(error) => assert_eq!(*floor, Totals::default(), "{what}: {error:#}"),
        }
        self.opened += 1;
        if *floor != Totals::default() && self.opened.is_multiple_of(PROGRAM_EVERY) {
            assert_keeps(&report(&db, "live"), floor, what);
        }
        if self.opened.is_multiple_of(WRITER_EVERY) {
            drop(Writer::open(&db).unwrap_or_else(|error| panic!("{what}: {error:#}")));
            let kept = read(&db).unwrap_or_else(|error| panic!("{what}: {error:#}"));
            assert_keeps(&kept, floor, what);
        }
    }

    fn write(&self, files: &Files, db: &Path) {
        for name in [Name::Database, Name::Wal, Name::Journal] {
            match files.get(&name) {
                Some(bytes) => std::fs::write(path(db, name), bytes).unwrap(),
                None => drop(std::fs::remove_file(path(db, name))),
            }
        }
        let [_, shm] = companions(db);
        std::fs::remove_file(shm).ok();
    }
}

fn assert_keeps(kept: &Totals, floor: &Totals, what: &str) {
    let sum = kept.sum();
    assert_eq!((sum.sent_bytes, sum.sent_packets), (sum.received_bytes, sum.received_packets), "{what}");
    if let Some((who, total)) = floor.above(kept) {
        panic!("{what}: {who:?} had {total:?}, and now {:?}", kept.of(&who.0, &who.1));
    }
}

/// The totals that the rows of the database sum up to.
fn read(db: &Path) -> anyhow::Result<Totals> {
    let reader = Reader::open(db)?;
    let mut ends: std::collections::HashMap<End, crate::support::numbers::Total> = Default::default();
    reader.rows(
        Some(Origin::Live),
        None..None,
        |_| None,
        |_, _, row| {
            let sent = ends.entry(row.src.end).or_default();
            sent.sent_bytes += row.counts.bytes;
            sent.sent_packets += row.counts.packets;
            let received = ends.entry(row.dst.end).or_default();
            received.received_bytes += row.counts.bytes;
            received.received_packets += row.counts.packets;
            Ok(())
        },
    )?;
    Ok(Totals(ends.into_iter().map(|(end, total)| ((String::new(), end.to_string()), total)).collect()))
}
