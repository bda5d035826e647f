//! Clocks that jump: the machine's while `serve` captures, and that of the packets of a file.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tempfile::tempdir;
use ztmon::store::Reader;
use ztmon::time::{Span, Timestamp};

use crate::shim::Shim;
use crate::support::net::Namespace;
use crate::support::numbers::{Totals, replay, report};
use crate::support::pcap::{Capture, Frame, SECOND};
use crate::support::serve::Setup;
use crate::support::{eventually, run, ztmon};
use crate::traffic::{Plan, Sender};
use crate::watch::{ADDRESS, Watch, wait_for};

const PLAN: Plan = Plan { clients: 20 };

/// Seconds. The year is not a multiple of the five minutes of a bucket.
const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY + 1;

/// How many buckets a database has.
fn buckets(db: &Path) -> usize {
    let mut buckets = BTreeSet::new();
    let each = |_: &str, bucket, _| {
        buckets.insert(bucket);
        Ok(())
    };
    Reader::open(db)
        .unwrap()
        .rows(None, None..None, |second| Some(Timestamp::new(second, 0).bucket().end()), each)
        .unwrap();
    buckets.len()
}

/// What a report says of what came before or after a time, which begins a bucket.
fn report_of_time(db: &Path, flag: &str, time: Timestamp) -> Totals {
    let mut report = ztmon();
    report.args(["report", "--quiet", "--format", "csv", flag, &time.to_string(), "--db"]).arg(db);
    Totals::from_csv(&run(&mut report).stdout)
}

#[test]
fn a_wall_clock_that_jumps_changes_no_total() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let shim = Shim::new(&db);
    let serve = shim.around(Setup::within(&net, &db)).listen(ADDRESS).start();
    serve.wait_for_log("capturing on ztone", 1);
    // Back a day, forth a year, and by little more and little less than the pairing window.
    let jumps = [0, -DAY, YEAR, 0, 3, 0, 1, 0, -DAY - 3, YEAR, YEAR - 3, -DAY];
    let (mut past, mut future) = (Totals::default(), Totals::default());
    Sender::during(PLAN, &net, "wire", |sender| {
        Watch::during(
            &net,
            1,
            Duration::from_millis(50),
            |_| (),
            |_| {
                for jump in jumps {
                    shim.set_clock(jump);
                    let before = sender.sent();
                    // As it comes, and once the idle meter has been told of the new time.
                    for pause in [0, 700] {
                        thread::sleep(Duration::from_millis(pause));
                        let before = sender.sent();
                        sender.set_rate(1000);
                        eventually("packets", || (sender.sent() > before + 100).then_some(()));
                        // All of it before the next jump: a packet waits for its copy by the clock that jumps.
                        wait_for(&serve, &sender.pause());
                    }
                    let moved = PLAN.totals(before..sender.sent());
                    if jump <= -DAY {
                        past = past.plus(&moved);
                    } else if jump >= YEAR - DAY {
                        future = future.plus(&moved);
                    }
                }
            },
        );
        let now = Timestamp::new(Timestamp::now().bucket().start, 0);
        report(&db, "live").assert_same(&sender.pause());
        report_of_time(&db, "--until", now - Span::seconds(DAY / 2)).assert_same(&past);
        report_of_time(&db, "--since", now + Span::seconds(YEAR / 2)).assert_same(&future);
    });
    // The jumps lead to three times, and each may fall on the end of a bucket.
    let buckets = buckets(&db);
    assert!((3..=6).contains(&buckets), "{buckets} buckets");
    serve.stop();
}

#[test]
fn a_wall_clock_that_jumps_under_traffic_splits_no_more_than_a_pair() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let shim = Shim::new(&db);
    let serve = shim.around(Setup::within(&net, &db)).listen(ADDRESS).start();
    serve.wait_for_log("capturing on ztone", 1);
    let jumps = [-DAY, YEAR, 0, YEAR, -DAY, 0, 3, 0, -3, 0];
    Sender::during(PLAN, &net, "wire", |sender| {
        Watch::during(
            &net,
            1,
            Duration::from_millis(50),
            |_| (),
            |_| {
                sender.set_rate(2000);
                for jump in jumps {
                    thread::sleep(Duration::from_millis(300));
                    shim.set_clock(jump);
                }
                let sent = sender.pause();
                let frames = 2 * sent.sum().sent_packets;
                eventually("all frames", || (serve.scrape().sum("ztmon_frames_total") == frames).then_some(()));
            },
        );
        serve.stop();
        let (sent, counted) = (sender.pause(), report(&db, "live"));
        // The two copies of a packet may stand on either side of a jump.
        sent.assert_at_most(&counted);
        let (sent, counted) = (sent.sum().sent_packets, counted.sum().sent_packets);
        assert!(counted <= sent + jumps.len() as u64, "{counted} of {sent}");
    });
}

/// Seconds of the first moment of 1970, of 2026, the last ones of 2106 and 9999, and as far as a file's stamps go,
/// which counts as the end of 9999, too.
const TIMES: [u64; 5] = [0, 1_795_000_000, u32::MAX as u64, 253_402_300_799, u64::MAX / SECOND - 10];

/// Packets before the time jumps.
const STAY: u64 = 20;

#[test]
fn packets_from_any_year_are_counted_once() {
    let dir = tempdir().unwrap();
    // From each time to each other one, and back.
    let jumps = TIMES.iter().flat_map(|&from| TIMES.iter().flat_map(move |&to| [from, to]));
    let (mut single, mut teed) = (Capture::default(), Capture::default());
    for (jump, seconds) in (0..).zip(jumps) {
        for number in jump * STAY..(jump + 1) * STAY {
            let data = PLAN.frame(number);
            let frame = Frame { time: seconds * SECOND + number % STAY, len: data.len() as u32, data };
            single.0.push(frame.clone());
            teed.0.extend([frame.clone(), frame]);
        }
    }
    let sent = PLAN.totals(0..single.0.len() as u64);
    for (name, capture, tee) in [("none", &single, "none"), ("one", &single, "one"), ("teed", &teed, "both")] {
        let (file, db) = (dir.path().join(name).with_extension("pcapng"), dir.path().join(name).with_extension("db"));
        capture.write_pcapng(&file);
        // Under a two-sided rule what is older than the window has no copy any more, in `replay`, too.
        let expected = replay(&file, &["--tee", tee]);
        if tee != "both" {
            expected.assert_same(&sent);
        }
        let serve = Setup::new(&db).source(&file, "max").args(["--tee", tee]).start();
        wait_for(&serve, &expected);
        serve.stop();
        report(&db, "live").assert_same(&expected);
        assert_eq!(buckets(&db), TIMES.len() - 1);
    }
}
