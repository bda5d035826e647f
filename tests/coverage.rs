//! How much of the time `ztmon serve` says it saw: through restarts, pauses and the ends of rules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;

use support::numbers::Total;
use support::pcap::{Capture, Packet, SECOND};
use support::serve::Setup;
use support::{run, ztmon};
use tempfile::tempdir;

const NOTHING: Total = Total { sent_bytes: 0, received_bytes: 0, sent_packets: 0, received_packets: 0 };

/// 2026-03-28T18:00:00Z
const START: u64 = 1_774_720_800;

/// A packet every ten seconds from one second after [`START`] to another, each with its copy.
fn steady(from: u64, to: u64) -> Capture {
    let mut capture = Capture::default();
    for second in (from..=to).step_by(10) {
        let packet = Packet { src: [10, 0, 0, 1], dst: [10, 0, 0, 2], len: 100, number: second as u32 };
        capture.add_teed((START + second) * SECOND, &packet);
    }
    capture
}

/// Plays it to its end on a database, by a `serve` of its own.
fn serve(db: &Path, capture: &Capture, before: u64, flags: &[&str]) {
    let file = db.with_extension("pcap");
    capture.write(&file);
    let before = Total { sent_packets: before, ..NOTHING };
    let serve = Setup::new(db).source(&file, "max").args(flags).start();
    serve.scrape_at(capture.0.len() as u64, before);
    serve.stop();
}

/// The start of each period and its last four cells, of the first line of each.
fn covered(db: &Path, args: &[&str]) -> Vec<String> {
    let mut command = ztmon();
    command.args(["report", "--quiet", "--format", "csv", "--tz", "UTC", "--top", "0", "--db"]).arg(db).args(args);
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let rows = ended.stdout.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    rows.map(|cells| format!("{} {}", &cells[0][11..16], cells[8..].join(" "))).collect()
}

/// How many seconds were seen in five minutes with copies, as a person asks for them.
fn seconds(db: &Path) -> i64 {
    let sql = "SELECT sum(covered_seconds) FROM coverage WHERE copies_seen";
    rusqlite::Connection::open(db).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

fn is_sound(db: &Path) {
    let ended = run(ztmon().args(["db", "check", "--db"]).arg(db));
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn what_two_captures_left_out_is_not_covered() {
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    serve(&db, &steady(0, 1800), 0, &[]);
    // Nobody looked for the second half of the hour and the first quarter of the next one.
    serve(&db, &steady(4500, 7200), 181, &[]);
    let hours = covered(&db, &["--every", "hour"]);
    // The last hour has a packet at its first moment.
    assert_eq!(hours, ["18:00 0.5000 0.5833 0 0", "19:00 0.7500 0.7500 0 0", "20:00 0.0000 0.0833 0 0"]);
    // Two hours, and 17 of their 24 five minutes.
    assert_eq!(covered(&db, &["--every", "total"]), ["18:00 0.6250 0.7083 0 0"]);
    is_sound(&db);
    assert_eq!(seconds(&db), 1800 + 2700);
}

#[test]
fn restarts_in_the_middle_of_five_minutes_lose_and_double_nothing() {
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    // Each begins where the last one was at: the last of them has seen again what was seen before.
    for (number, (from, to)) in [(0, 120), (121, 131), (131, 290), (100, 300)].into_iter().enumerate() {
        let packets = [0, 13, 15, 31][number];
        serve(&db, &steady(from, to), packets, &[]);
    }
    // A second between the first two, but for what was seen of it in the end.
    assert_eq!(covered(&db, &["--every", "hour"]), ["18:00 0.0833 0.1666 0 0"]);
    assert_eq!(seconds(&db), 300);
    is_sound(&db);
}

#[test]
fn a_rule_that_is_deleted_shows_in_the_copies() {
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let mut capture = steady(0, 1790);
    // What comes after that is the observer's own: 10.0.0.1 is here.
    for second in (1800..3600).step_by(10) {
        let packet = Packet { src: [10, 0, 0, 1], dst: [10, 0, 0, 3], len: 100, number: second };
        let frame = packet.frame();
        let time = (START + u64::from(second)) * SECOND;
        capture.0.push(support::pcap::Frame { time, len: frame.len() as u32, data: frame });
    }
    let others: Vec<_> = capture.0.iter().take(360).cloned().collect();
    assert_eq!(others.len(), 360);
    for frame in &mut capture.0[..360] {
        // Between two others.
        frame.data[6..12].copy_from_slice(&[0xe2, 0x53, 10, 0, 0, 9]);
    }
    serve(&db, &capture, 0, &["--observer-mac", "e2:53:0a:00:00:01"]);
    assert_eq!(covered(&db, &["--every", "hour"]), ["18:00 0.9972 0.5000 0 0"]);
}

#[test]
fn what_was_lost_is_estimated_and_never_added() {
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let mut capture = steady(0, 3590);
    // Every sixth packet lost its copy: 300 pairs, 60 singles.
    let mut number = 0;
    capture.0.retain(|_| {
        number += 1;
        number % 12 != 0
    });
    serve(&db, &capture, 0, &[]);
    // The last one still waits for its copy when serve ends: 59² / 1200.
    assert_eq!(covered(&db, &["--every", "hour"]), ["18:00 0.9972 1.0000 0 3"]);
    let json = run(ztmon().args(["report", "--quiet", "--format", "json", "--db"]).arg(&db)).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["coverage"][0]["estimated_lost"], 3);
    assert_eq!(json["summary"]["packets"], 360);
}

#[test]
fn imports_and_replays_cover_nothing() {
    let dir = tempdir().unwrap();
    let (db, file) = (dir.path().join("ztmon.db"), dir.path().join("file.pcap"));
    steady(0, 100).write(&file);
    let replay = |db: Option<&Path>| {
        let mut command = ztmon();
        command.args(["replay", "--quiet", "--format", "csv", "--tz", "UTC", "--every", "hour"]).arg(&file);
        command.args(db.map(|db| ["--db".as_ref(), db.as_os_str()]).into_iter().flatten());
        run(&mut command).stdout
    };
    let expected = "period_start,addr,sent_bytes,received_bytes,sent_packets,received_packets,first_seen,last_seen,\
                    coverage,copies_seen,dropped_packets,estimated_lost\r\n";
    for db in [None, Some(&*db)] {
        let csv = replay(db);
        assert!(csv.starts_with(expected) && csv.ends_with(",,,,\r\n"), "{csv}");
    }
    assert_eq!(covered(&db, &["--every", "hour"]), ["18:00    "]);
    // What is captured live has its coverage, and an import does not.
    serve(&db, &steady(200, 500), 0, &[]);
    assert_eq!(covered(&db, &["--every", "hour"]), ["18:00 0.0833 0.1666 0 0"]);
    assert_eq!(covered(&db, &["--every", "hour", "--origin", "import"]), ["18:00    "]);
}
