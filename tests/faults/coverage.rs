//! What `serve` says it saw of the time: second by second, whatever happens to devices, disks and clocks.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::tempdir;
use ztmon::coverage::{Observed, seconds};
use ztmon::store::Reader;
use ztmon::time::{Span, Timestamp};

use crate::shim::{ERRORS, Shim};
use crate::support::net::Namespace;
use crate::support::numbers::{Metrics, report};
use crate::support::serve::{Serve, Setup};
use crate::support::{eventually, run, ztmon};
use crate::traffic::{Plan, Sender};
use crate::watch::ADDRESS;

const PLAN: Plan = Plan { clients: 20 };

const YEAR: i64 = 365 * 86_400 + 1;

/// How long before a device was lost somebody had looked, on the slowest of machines.
const LOOKED: Span = Span::seconds(3);

/// What was seen in all five minutes of the one network.
fn observed(db: &Path) -> Vec<(i64, Observed)> {
    let reader = Reader::open(db).unwrap();
    reader.check().unwrap();
    let mut all = Vec::new();
    reader.observed(|_, start, seen| all.push((start, *seen))).unwrap();
    all
}

/// All seconds that were seen.
fn covered(db: &Path) -> BTreeSet<i64> {
    let of = |(start, seen): (i64, Observed)| {
        (0..300_u32).filter(move |at| seen.up.within(*at..at + 1).count() > 0).map(move |at| start + i64::from(at))
    };
    observed(db).into_iter().flat_map(of).collect()
}

fn is_up(serve: &Serve, up: u8) {
    let line = format!("ztmon_capture_up {up}");
    eventually(&line, || serve.scrape().text.lines().any(|found| found == line).then_some(()));
}

#[test]
fn seconds_without_a_device_or_a_serve_are_not_covered_and_all_others_are() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let now = Timestamp::now;
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let serve = Setup::within(&net, &db).start();
        is_up(&serve, 1);
        let from = now();
        thread::sleep(Duration::from_secs(5));
        up.push((from, now() - LOOKED));
        net.ip(&["link", "set", "ztone", "down"]);
        is_up(&serve, 0);
        let from = now();
        thread::sleep(Duration::from_millis(2500));
        down.push((from, now()));
        net.ip(&["link", "set", "ztone", "up"]);
        is_up(&serve, 1);
        let from = now();
        thread::sleep(Duration::from_millis(1500));
        // Until it was told to stop.
        up.push((from, now()));
        serve.stop();
        let from = now();
        thread::sleep(Duration::from_millis(2500));
        down.push((from, now()));
    }
    let covered = covered(&db);
    for (from, to) in up {
        assert!(seconds(from, to).all(|second| covered.contains(&second)), "{from} to {to}: {covered:?}");
    }
    for (from, to) in down {
        let mut within = seconds(from, to);
        assert!(within.end - within.start >= 2 && within.all(|second| !covered.contains(&second)), "{from} to {to}");
    }
}

#[test]
fn a_disk_that_fails_for_a_while_loses_no_second() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let shim = Shim::new(&db);
    let serve = shim.around(Setup::within(&net, &db)).start();
    is_up(&serve, 1);
    let from = Timestamp::now();
    let store_up = |up: f64| {
        eventually("ztmon_store_up", || (serve.scrape().float("ztmon_store_up") == up).then_some(()));
    };
    for error in ERRORS {
        // Nothing moves: the time that is seen is enough for a commit.
        shim.fail(error, 0, u64::MAX);
        store_up(0.0);
        thread::sleep(Duration::from_secs(2));
        shim.heal();
        store_up(1.0);
    }
    let to = Timestamp::now();
    serve.stop();
    let covered = covered(&db);
    assert!(seconds(from, to).all(|second| covered.contains(&second)), "{from} to {to}: {covered:?}");
}

#[test]
fn clocks_that_jump_cover_no_more_than_has_passed() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let shim = Shim::new(&db);
    let begun = Instant::now();
    let serve = shim.around(Setup::within(&net, &db)).listen(ADDRESS).start();
    is_up(&serve, 1);
    // A year ahead, where a day passed; back by a day; and in small steps.
    let jumps = [0, YEAR, -86_400, 0, 3, 0, 200, 0];
    let mut stays = Vec::new();
    Sender::during(PLAN, &net, "wire", |sender| {
        sender.set_rate(500);
        for jump in jumps {
            shim.set_clock(jump);
            thread::sleep(Duration::from_millis(300));
            let from = Timestamp::now() + Span::seconds(jump);
            thread::sleep(Duration::from_millis(2500));
            stays.push((from, Timestamp::now() + Span::seconds(jump)));
        }
        sender.pause();
    });
    serve.stop();
    let covered = covered(&db);
    let passed = begun.elapsed().as_secs() + 1;
    // And a second for each jump.
    assert!(covered.len() as u64 <= passed + jumps.len() as u64, "{} seconds in {passed}", covered.len());
    // But for the looks on either side of a jump.
    for (from, to) in stays {
        let mut within = seconds(from + Span::seconds(1), to - Span::seconds(1));
        assert!(within.all(|second| covered.contains(&second)), "{from} to {to}: {covered:?}");
    }
    let copies = observed(&db).iter().filter(|(_, seen)| seen.teed > 0).count();
    assert!((3..=8).contains(&copies), "five minutes with copies: {copies}");
}

#[test]
fn frames_that_the_kernel_dropped_stand_beside_what_was_counted() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let serve = Setup::within(&net, &db).args(["--buffer", "512KiB"]).listen(ADDRESS).start();
    is_up(&serve, 1);
    // Coverage is told of whole seconds: there has to be one.
    thread::sleep(Duration::from_millis(2100));
    let dropped = |metrics: &Metrics| metrics.sum("ztmon_capture_packets_dropped_total");
    Sender::during(PLAN, &net, "wire", |sender| {
        // It has no time for frames, and the kernel no room.
        serve.signal(Signal::STOP);
        sender.set_rate(20_000);
        eventually("many packets", || (sender.sent() > 20_000).then_some(()));
        serve.signal(Signal::CONT);
        sender.pause();
        eventually("drops", || (dropped(&serve.scrape()) > 0).then_some(()));
    });
    let before = dropped(&serve.scrape());
    serve.stop();
    let of_all: u64 = observed(&db).iter().map(|(_, seen)| seen.dropped).sum();
    assert!(of_all >= before, "{of_all} of {before}");
    let counted = report(&db, "live").sum().sent_packets;
    let mut command = ztmon();
    command.args(["report", "--quiet", "--format", "json", "--every", "day", "--top", "0", "--db"]).arg(&db);
    let json: serde_json::Value = serde_json::from_str(&run(&mut command).stdout).unwrap();
    assert_eq!(json["coverage"][0]["dropped_packets"], of_all, "{json}");
    let of_days = json["rows"].as_array().unwrap().iter().map(|row| row["dropped_packets"].as_u64().unwrap());
    assert_eq!(of_days.sum::<u64>(), of_all);
    // Not a byte of it is added.
    assert_eq!(json["summary"]["packets"], counted);
}
