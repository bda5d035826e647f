//! A disk that is full, and one that fails now and then.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::tempdir;

use crate::how_much;
use crate::shim::{ERRORS, Shim};
use crate::support::net::Namespace;
use crate::support::numbers::{Totals, report, report_of};
use crate::support::pcap::{Capture, Frame};
use crate::support::serve::{Serve, Setup};
use crate::support::{Ended, KillOnDrop, eventually, skip};
use crate::traffic::{Plan, Sender};
use crate::watch::{ADDRESS, Still, Watch, uncommitted, wait_for};

/// For a disk that fills up: pairs stay new for long, so that every commit needs new pages, and so many that the -wal,
/// which SQLite writes again from its start after a thousand pages, is at its end after a few commits.
const GROWING: Plan = Plan { clients: 2000 };
const GROWING_PAIRS: &str = "4000000";
const GROWING_RATE: u64 = 2000;

/// For a disk with errors: several `serve`s are to keep up with it.
const MODEST: Plan = Plan { clients: 50 };
const MODEST_RATE: u64 = 500;

/// How many run at once where operations fail: each recovers on its own, and that takes a second or more.
const SERVES: u64 = 8;

/// Between two scrapes.
const EVERY: Duration = Duration::from_millis(100);

/// Waits until `serve` says that it cannot commit: its gauge, its readiness, and what it holds in memory.
fn wait_until_down(serve: &Serve) {
    eventually("ztmon_store_up to be 0", || (serve.scrape().float("ztmon_store_up") == 0.0).then_some(()));
    assert_eq!(serve.request("GET", "/-/ready").0, 503);
    let waiting = || uncommitted(&serve.scrape());
    let before = waiting();
    eventually("uncommitted bytes to grow", || (waiting() > before).then_some(()));
}

/// Waits until everything that was sent is committed, once, and `serve` says that all is well.
fn wait_until_all_is_there(serve: &Serve, sent: &Totals) {
    wait_for(serve, sent);
    eventually("ztmon_store_up to be 1", || (serve.scrape().float("ztmon_store_up") == 1.0).then_some(()));
    assert_eq!(serve.request("GET", "/-/ready").0, 200);
    assert_eq!(uncommitted(&serve.scrape()), 0.0);
}

/// A small file system of its own, which only the programs started on it see.
struct SmallDisk {
    /// Holds it.
    keeper: KillOnDrop,
    dir: PathBuf,
}

impl SmallDisk {
    /// One of so many megabytes at `dir`.
    fn new(net: &Namespace, dir: &Path, megabytes: u64) -> Option<SmallDisk> {
        let mut command = net.command("sh");
        let script = "mount -t tmpfs -o size=$1m tmpfs \"$2\" && echo mounted && exec sleep infinity";
        command.args(["-c", script, "sh", &megabytes.to_string()]).arg(dir);
        let mut keeper = KillOnDrop(command.stdout(Stdio::piped()).spawn().unwrap());
        let mut said = [0; 7];
        if keeper.0.stdout.take().unwrap().read_exact(&mut said).is_err() {
            skip("mounting a tmpfs takes CAP_SYS_ADMIN");
            return None;
        }
        Some(SmallDisk { keeper, dir: dir.to_owned() })
    }

    /// ztmon on it, in the same network namespace.
    fn ztmon(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.env_remove("ZTMON_DB").args(["-m", "-n", "-t", &self.keeper.0.id().to_string()]);
        command.arg(env!("CARGO_BIN_EXE_ztmon"));
        command
    }

    /// Where something that fills the disk is, as seen from here.
    fn ballast(&self) -> PathBuf {
        let inside = self.dir.join("ballast");
        Path::new("/proc").join(self.keeper.0.id().to_string()).join("root").join(inside.strip_prefix("/").unwrap())
    }

    /// Leaves not a byte of room.
    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        while ballast.write_all(&[1; 4096]).is_ok() {}
    }

    /// Makes room again.
    fn empty(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

#[test]
fn a_full_disk_loses_nothing() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let rounds = how_much("ZTMON_DISK_ROUNDS", 2);
    // New pairs take some 200 bytes; a round lasts up to a minute.
    let Some(disk) = SmallDisk::new(&net, dir.path(), 16 + rounds * 8) else { return };
    let serve = Setup::by(disk.ztmon(), Some(&net), &db).args(["--max-pairs", GROWING_PAIRS]).listen(ADDRESS).start();
    serve.wait_for_log("capturing on ztone", 1);
    let still = Still::default();
    Sender::during(GROWING, &net, "wire", |sender| {
        Watch::during(
            &net,
            1,
            EVERY,
            |answer| still.check(&answer),
            |_| {
                for _ in 0..rounds {
                    sender.set_rate(GROWING_RATE);
                    disk.fill();
                    wait_until_down(&serve);
                    // Some attempts more, one a second.
                    thread::sleep(Duration::from_secs(3));
                    disk.empty();
                    eventually("commits to succeed again", || {
                        (serve.scrape().float("ztmon_store_up") == 1.0).then_some(())
                    });
                    let sent = sender.pause();
                    wait_until_all_is_there(&serve, &sent);
                    report_of(disk.ztmon(), &db, "live").assert_same(&sent);
                }
            },
        );
        eprintln!("full disk: {rounds} rounds, {} packets, none lost", sender.sent());
    });
    assert_eq!(serve.logged("commits succeed again"), rounds as usize, "{:?}", serve.log());
    serve.stop();
}

#[test]
fn errors_of_the_disk_lose_nothing() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    // They all see the same traffic, and each has another operation that fails.
    let errors = how_much("ZTMON_DISK_ERRORS", SERVES);
    let dirs: Vec<_> = (0..SERVES).map(|_| tempdir().unwrap()).collect();
    let dbs: Vec<_> = dirs.iter().map(|dir| dir.path().join("ztmon.db")).collect();
    let shims: Vec<_> = dbs.iter().map(|db| Shim::new(db)).collect();
    let serves: Vec<_> =
        shims.iter().zip(&dbs).map(|(shim, db)| shim.around(Setup::within(&net, db)).start()).collect();
    for serve in &serves {
        serve.wait_for_log("capturing on ztone", 1);
    }
    Sender::during(MODEST, &net, "wire", |sender| {
        // Each operation once, and then each and all that come after it.
        let firsts = (0..errors).step_by(SERVES as usize);
        for (first, count) in firsts.flat_map(|first| [(first, 1), (first, u64::MAX)]) {
            sender.set_rate(MODEST_RATE);
            let before: Vec<_> = shims.iter().map(Shim::failed).collect();
            for (shim, skip) in shims.iter().zip(first..) {
                shim.fail(ERRORS[skip as usize % 2], skip, count);
            }
            for ((shim, serve), before) in shims.iter().zip(&serves).zip(before) {
                eventually("an error", || {
                    serve.scrape();
                    (shim.failed() > before).then_some(())
                });
            }
            if count > 1 {
                serves.iter().for_each(wait_until_down);
                // Some attempts more, one a second.
                thread::sleep(Duration::from_secs(2));
            }
            shims.iter().for_each(Shim::heal);
            let sent = sender.pause();
            for (serve, db) in serves.iter().zip(&dbs) {
                wait_until_all_is_there(serve, &sent);
                report(db, "live").assert_same(&sent);
            }
        }
        let failed: u64 = shims.iter().map(Shim::failed).sum();
        eprintln!("disk errors: {failed} operations failed; {} packets, none lost", sender.sent());
    });
    serves.into_iter().for_each(|serve| drop(serve.stop()));
}

/// Plays a file to its end and stops, if it comes so far.
fn play(shim: &Shim, db: &Path, file: &Path) -> Ended {
    let log = db.with_file_name("log");
    let mut command = shim.around(Setup::new(db)).source(file, "max").command();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
    let mut serve = KillOnDrop(command.spawn().unwrap());
    let said = || std::fs::read_to_string(&log).unwrap();
    eventually("the end of the file", || {
        (said().contains("all there are") || serve.0.try_wait().unwrap().is_some()).then_some(())
    });
    if serve.0.try_wait().unwrap().is_none() {
        kill_process(Pid::from_child(&serve.0), Signal::TERM).unwrap();
    }
    let status = eventually("the end of serve", || serve.0.try_wait().unwrap());
    Ended { code: status.code(), stdout: String::new(), stderr: said() }
}

#[test]
fn errors_from_the_first_operation_to_the_last_lose_nothing_unsaid() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("file.pcap");
    let packets = (0..100).map(|number| (number, MODEST.frame(number)));
    let frames = packets.map(|(time, data)| Frame { time, len: data.len() as u32, data });
    Capture(frames.collect()).write(&file);
    let once = MODEST.totals(0..100);
    // Once with a database that has to be made, and once with one that is there.
    for is_there in [false, true] {
        let mut outcomes = [0; 3];
        for first in 0.. {
            let mut last = true;
            for count in [1, u64::MAX] {
                let dir = tempdir().unwrap();
                let db = dir.path().join("ztmon.db");
                let shim = Shim::new(&db);
                let before = if is_there {
                    assert_eq!(play(&shim, &db, &file).code, Some(0));
                    once.clone()
                } else {
                    Totals::default()
                };
                shim.fail(ERRORS[first as usize % 2], first, count);
                let ended = play(&shim, &db, &file);
                last &= shim.failed() == 0;
                shim.heal();
                let code = ended.code.unwrap_or_else(|| panic!("operation {first}: {ended:?}"));
                outcomes[code as usize] += 1;
                let kept = if is_there || code < 2 { report(&db, "live") } else { Totals::default() };
                match code {
                    0 => kept.assert_same(&before.plus(&once)),
                    // It says that the last commit failed, and it may be right.
                    1 => assert!(kept == before || kept == before.plus(&once), "operation {first}: {ended:?}"),
                    _ => kept.assert_same(&before),
                }
                // Whatever it left, the next one goes on from there.
                let ended = play(&shim, &db, &file);
                assert_eq!(ended.code, Some(0), "after operation {first}: {ended:?}");
                report(&db, "live").assert_same(&kept.plus(&once));
            }
            if last {
                break;
            }
        }
        eprintln!("errors from start to end: {outcomes:?} ended with 0, 1 and 2");
    }
}
