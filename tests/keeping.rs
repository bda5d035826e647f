//! What `serve` makes of history that grows older.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rusqlite::Connection;
use support::numbers::history;
use support::pcap::{Capture, Packet, SECOND};
use support::serve::{Serve, Setup};
use support::{Ended, eventually, real, run, skip, ztmon};
use tempfile::tempdir;
use ztmon::store::{Reader, Source, Writer};
use ztmon::time::{Span, Timestamp};
use ztmon::traffic::{Counts, Delta, DeltaRow, Directory, Endpoint, Origin, Seen};

/// A day in 2020, which begins there.
const LONG_AGO: i64 = 18_500 * 86_400;

fn ask(db: &Path, sql: &str) -> i64 {
    Connection::open(db).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

fn report(db: &Path, args: &[&str]) -> Ended {
    let mut report = ztmon();
    report.args(["report", "--tz", "UTC", "--db"]).arg(db).args(args);
    run(&mut report)
}

/// A `serve` that has nothing to capture, and so all the time there is.
fn idle(db: &Path, args: &[&str]) -> Serve<'static> {
    let nothing = db.with_extension("nothing.pcap");
    Capture::default().write(&nothing);
    Setup::new(db).args(args).source(&nothing, "max").start()
}

/// A capture of long ago: a packet each minute for some hours.
fn capture(hours: u64, path: &Path) {
    let mut capture = Capture::default();
    for number in 0..60 * hours {
        let (src, dst) = ([10, 0, 0, 1], [10, 0, 0, 2 + (number % 3) as u8]);
        let time = (LONG_AGO as u64 + 60 * number) * SECOND;
        capture.add_teed(time, &Packet { src, dst, len: 100, number: number as u32 });
    }
    capture.write(path);
}

#[test]
fn serve_keeps_old_history_by_longer_buckets_and_replay_does_not() {
    let dir = tempdir().unwrap();
    for (flag, seconds) in [(&[][..], 3600), (&["--bucket", "30m"], 1800)] {
        let (file, db) = (dir.path().join("old.pcap"), dir.path().join(format!("{seconds}.db")));
        capture(5, &file);
        run(ztmon().args(["replay", "--quiet", "--db"]).arg(&db).args(flag).arg(&file));
        let rows = || ask(&db, "SELECT count(*) FROM usage");
        let short = || ask(&db, "SELECT count(*) FROM bucket WHERE seconds = 300");
        assert_eq!((rows(), short()), (5 * 12 * 3, 5 * 12));
        let reports = || [&["--by", "pair"], &["--since", "2020-08-26T02:00:00Z"]].map(|args| report(&db, args).stdout);
        let before = reports();
        assert_eq!(short(), 60, "a report changes nothing");
        let serve = idle(&db, flag);
        eventually("longer buckets", || (short() == 0).then_some(()));
        assert_eq!(ask(&db, &format!("SELECT count(*) FROM bucket WHERE seconds = {seconds}")), 5 * 3600 / seconds);
        assert_eq!(rows(), 3 * 5 * 3600 / seconds);
        assert_eq!(run(ztmon().args(["db", "check", "--db"]).arg(&db)).code, Some(0));
        serve.stop();
        assert_eq!(reports(), before);
        let cut = ztmon().args(["report", "--since", "2020-08-26T02:15:00Z", "--db"]).arg(&db).output().unwrap();
        let says = String::from_utf8(cut.stderr).unwrap();
        assert!(cut.status.code() == Some(2) && says.contains("one that is made with a shorter --bucket"), "{says}");
    }
}

#[test]
fn a_database_says_what_it_was_made_with() {
    let dir = tempdir().unwrap();
    let (file, db) = (dir.path().join("old.pcap"), dir.path().join("z.db"));
    capture(1, &file);
    run(ztmon().args(["replay", "--quiet", "--bucket", "15m", "--db"]).arg(&db).arg(&file));
    capture(2, &file);
    let mut replay = ztmon();
    replay.args(["replay", "--bucket", "30m", "--db"]).arg(&db).arg(&file);
    let serve = Setup::new(&db).args(["--bucket", "60m"]).command();
    for mut refused in [replay, serve] {
        let refused = refused.output().unwrap();
        let says = String::from_utf8(refused.stderr).unwrap();
        assert_eq!((refused.status.code(), says.lines().count()), (Some(2), 1), "{says}");
        assert!(says.contains("was made with --bucket 15m: leave the flag out, or give another --db"), "{says}");
    }
    idle(&db, &["--bucket", "15m"]).stop();
}

/// Live traffic of a pair, 0.
fn two_clients(writer: &mut Writer) -> (Source, Directory) {
    let source = Source::new(writer.network("", "").unwrap(), Origin::Live);
    let client = |last: u8| Endpoint { end: format!("10.0.0.{last}").parse().unwrap(), mac: None };
    let delta = Delta { endpoints: vec![client(1), client(2)], pairs: vec![(0, 1)], rows: Vec::new() };
    let mut directory = Directory::default();
    directory.extend(&delta);
    (source, directory)
}

/// Captured live by a `serve` that has been running since: five days, of long ago.
fn five_days(db: &Path) {
    let mut writer = Writer::open(db).unwrap();
    let (mut source, directory) = two_clients(&mut writer);
    for day in 0..5 {
        let time = Timestamp::new(LONG_AGO + day * 86_400, 0);
        writer.tick(time, Duration::from_secs(day as u64 * 86_400));
        writer.begin().unwrap();
        let counts = Counts { bytes: 1000, packets: 1, copies: 0 };
        let row = DeltaRow::new(0, time.bucket(), counts, Seen::at(time));
        writer.add(&mut source, &directory, &[row]).unwrap();
        writer.commit().unwrap();
    }
    let now = Timestamp::now();
    writer.tick(now, Duration::from_secs((now.clamped().0 - LONG_AGO) as u64));
    // Its clock is kept, and one bucket of the five is longer than it was.
    assert!(writer.upkeep(now, None).unwrap());
}

#[test]
fn serve_deletes_what_is_too_old_and_no_total() {
    let dir = tempdir().unwrap();
    let (file, db) = (dir.path().join("old.pcap"), dir.path().join("z.db"));
    five_days(&db);
    capture(1, &file);
    run(ztmon().args(["replay", "--quiet", "--db"]).arg(&db).arg(&file));
    let (live, imported) = (report(&db, &["--origin", "live"]), report(&db, &["--origin", "import"]));
    assert!(live.stdout.contains("10.0.0.1,5000,0,5,0,") && !live.stderr.contains("deleted"), "{live:?}");
    let days = |db: &Path| ask(db, "SELECT count(*) FROM day WHERE origin = 0");
    let serve = idle(&db, &["--retain", "forever"]);
    eventually("longer buckets", || (ask(&db, "SELECT min(seconds) FROM bucket") == 3600).then_some(()));
    assert_eq!(days(&db), 5);
    let shown = serve.scrape().totals();
    serve.stop();
    let serve = idle(&db, &[]);
    eventually("no days", || (days(&db) == 0).then_some(()));
    assert_eq!(serve.scrape().totals(), shown);
    assert_eq!(run(ztmon().args(["db", "check", "--db"]).arg(&db)).code, Some(0));
    serve.stop();
    assert_eq!(shown.sum().sent_bytes, 5000);
    assert_eq!(report(&db, &["--origin", "import"]).stdout, imported.stdout);
    let live = report(&db, &["--origin", "live"]);
    assert_eq!(live.stdout.lines().count(), 1);
    let says = "live history from 2020-08-31T00:00:00Z on; what was before is deleted";
    assert!(live.stderr.contains(says), "{live:?}");
    assert!(!report(&db, &["--since", "2020-08-31"]).stderr.contains("deleted"));
    let json = run(ztmon().args(["report", "--format", "json", "--db"]).arg(&db));
    assert!(json.stdout.contains(r#""live_from":"2020-08-31T00:00:00Z""#), "{json:?}");
    assert_eq!(Reader::open(&db).unwrap().live_from().unwrap(), Some(Timestamp::new(LONG_AGO + 5 * 86_400, 0)));
}

/// Before that nothing is known, and zeros would be wrong.
#[test]
fn series_begin_where_live_history_does() {
    let dir = tempdir().unwrap();
    let (file, db) = (dir.path().join("old.pcap"), dir.path().join("z.db"));
    let at = |day: i64, hour: i64| LONG_AGO + day * 86_400 + hour * 3600;
    let mut writer = Writer::open(&db).unwrap();
    let (mut source, directory) = two_clients(&mut writer);
    for day in 0..5 {
        let time = Timestamp::new(at(day, 6), 0);
        writer.tick(time, Duration::from_secs((at(day, 6) - LONG_AGO) as u64));
        writer.begin().unwrap();
        let counts = Counts { bytes: 1000, packets: 1, copies: 0 };
        let row = DeltaRow::new(0, time.bucket(), counts, Seen::at(time));
        writer.add(&mut source, &directory, &[row]).unwrap();
        writer.commit().unwrap();
    }
    let samples = |flags: &[&str]| {
        let text = report(&db, &[&["--quiet", "--format", "openmetrics", "--step", "1h"], flags].concat()).stdout;
        let sent = history(&text).into_iter().find(|series| series.name == "zerotier_host_sent_bytes_total").unwrap();
        (sent.samples[0], sent.samples[sent.samples.len() - 1])
    };
    assert_eq!(samples(&["--since", "2020-08-20"]).0, (LONG_AGO - 6 * 86_400 - 3600, 0));
    assert_eq!(samples(&[]), ((at(0, 5), 0), (at(4, 7), 5000)));
    let now = at(4, 7);
    writer.tick(Timestamp::new(now, 0), Duration::from_secs((now - LONG_AGO) as u64));
    while writer.upkeep(Timestamp::new(now, 0), Some(Span::seconds(2 * 86_400))).unwrap() {}
    drop(writer);
    assert_eq!(Reader::open(&db).unwrap().live_from().unwrap(), Some(Timestamp::new(at(2, 0), 0)));
    let want = ((at(2, -1), 0), (at(4, 7), 3000));
    for flags in [&[][..], &["--origin", "live"], &["--since", "2020-08-20"]] {
        assert_eq!(samples(flags), want, "{flags:?}");
    }
    assert_eq!(samples(&["--since", "2020-08-29"]), ((at(3, -1), 0), (at(4, 7), 2000)));
    // Imports are never deleted.
    capture(1, &file);
    run(ztmon().args(["replay", "--quiet", "--db"]).arg(&db).arg(&file));
    assert_eq!(samples(&["--origin", "import"]), ((at(0, -1), 0), (at(0, 1), 6000)));
    assert_eq!(samples(&[]), ((at(0, -1), 0), (at(4, 7), 9000)));
}

/// A year of 200 clients of which 1,000 pairs are active in every hour takes less than 400 MB: here a few days of it.
#[test]
fn history_takes_the_room_that_the_documents_say() {
    let days: i64 = std::env::var("ZTMON_HISTORY_DAYS").map_or(3, |days| days.parse().unwrap());
    let dir = tempdir().unwrap();
    let db = dir.path().join("z.db");
    let mut writer = Writer::open(&db).unwrap();
    let mut source = Source::new(writer.network("8056c2e21c000001", "").unwrap(), Origin::Live);
    let client = |n: u32| Endpoint {
        end: format!("10.147.20.{n}").parse().unwrap(),
        mac: Some(format!("e2:53:1a:4b:b7:{n:02x}").parse().unwrap()),
    };
    let pairs = (0..1000).map(|pair| (pair % 200, (pair % 200 + 1 + pair / 200) % 200)).collect();
    let delta = Delta { endpoints: (0..200).map(client).collect(), pairs, rows: Vec::new() };
    let mut directory = Directory::default();
    directory.extend(&delta);
    let mut live = |now: i64, rows: &[DeltaRow]| {
        let time = Timestamp::new(now, 0);
        writer.tick(time, Duration::from_secs((now - LONG_AGO) as u64));
        while writer.upkeep(time, None).unwrap() {}
        writer.begin().unwrap();
        writer.add(&mut source, &directory, rows).unwrap();
        writer.commit().unwrap();
    };
    for hour in 0..24 * days {
        let start = LONG_AGO + 3600 * hour;
        let row = |pair: u32| {
            let any = (u64::from(pair) << 32 | hour as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
            let bucket = Timestamp::new(start + 300 * (any % 12) as i64, 0).bucket();
            let first = Timestamp::new(bucket.start, any % 150_000_000_000);
            let last = Timestamp::new(bucket.start, 150_000_000_000 + any % 149_000_000_000);
            let counts = Counts { bytes: any % 100_000_000, packets: any % 100_000, copies: any % 99_999 };
            DeltaRow::new(pair, bucket, counts, Seen { first, last })
        };
        live(start, &(0..1000).map(row).collect::<Vec<_>>());
    }
    for day in days..days + 9 {
        live(LONG_AGO + 86_400 * day, &[]);
    }
    assert_eq!(ask(&db, "SELECT count(*) FROM usage"), 24_000 * days);
    drop(writer);
    let size = db.metadata().unwrap().len();
    println!("{days} days: {size} bytes");

    assert!(size < 200_000 + 400_000_000 / 365 * days as u64, "{size}");
}

/// Every command of the document runs as it stands there, and the database is sound afterwards.
#[test]
fn the_documents_queries_run() {
    if Command::new("sqlite3").arg("--version").output().is_err() {
        return skip("sqlite3 is not installed");
    }
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/database.md")).unwrap();
    let commands: Vec<_> = document.split("\n\n").filter(|text| text.starts_with("    sqlite3 ")).collect();
    assert!(commands.len() > 5, "{commands:?}");
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    run(ztmon().args(["replay", "--quiet", "--db"]).args([&db, &real("tee-both.pcap")]));
    let mut said = String::new();
    for command in commands {
        let done = Command::new("sh").args(["-c", command]).current_dir(dir.path()).output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{command}: {done:?}");
        said += &String::from_utf8(done.stdout).unwrap();
    }
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(report(&db, &[]).stdout.contains("\n10.147.20.12,452181,688165,"));
    assert!(lines.contains(&vec!["2026-11", "10.147.20.12", "452181", "688165"]), "{said}");
    assert!(lines.contains(&vec!["2026-11", "5", "2", "24"]), "{said}");
    assert!(lines.contains(&vec!["24|24"]), "{said}");
    assert_eq!(run(ztmon().args(["db", "check", "--db"]).arg(&db)).code, Some(0));
}
