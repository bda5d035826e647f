//! `--format openmetrics` where it is to go: a Prometheus that is filled by promtool, and VictoriaMetrics. Both answer
//! the difference of two moments with what the reports have for the time between them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use support::numbers::{Total, Totals, history};
use support::pcap::{Capture, Packet, SECOND};
use support::prometheus::{Prometheus, create_blocks, is_there};
use support::serve::Setup;
use support::{OBSERVER, eventually, real, run, ztmon};
use tempfile::{TempDir, tempdir};

/// 2023-11-14T00:00:00Z, and so many days from then on.
const START: i64 = 1_699_920_000;
const DAYS: i64 = 4;
const DAY: i64 = 86_400;

/// The range in full.
const RANGE: [&str; 4] = ["--since=2023-11-14", "--until", "2023-11-18", "--tz=UTC"];

/// Four days in a capture, and in a database. Client 1 is there all the time, client 2 at the start alone, client 3 comes on
/// the third day; on the last one there is nothing.
struct Days {
    dir: TempDir,
    capture: PathBuf,
    db: PathBuf,
}

impl Days {
    fn new() -> Days {
        let dir = tempdir().unwrap();
        let mut capture = Capture::default();
        let mut random = 1_u64;
        let mut time = (START + 1000) as u64 * SECOND;
        for number in 0.. {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let draw = random >> 33;
            // Some together, some an hour apart.
            time += if draw.is_multiple_of(8) { draw % 3600 } else { draw % 20 } * SECOND + draw % SECOND;
            let day = (time / SECOND) as i64 / DAY - START / DAY;
            if day == DAYS - 1 {
                break;
            }
            let other = match day {
                0 => 2,
                1 => 9,
                _ => 3,
            };
            let (src, dst) = match draw % 5 {
                0 => ([10, 0, 0, 1], [8, 8, 8, 8]),
                1 | 2 => ([10, 0, 0, other], [10, 0, 0, 1]),
                _ => ([10, 0, 0, 1], [10, 0, 0, other]),
            };
            capture.add_teed(time, &Packet { src, dst, len: 40 + (draw % 1400) as u16, number });
        }
        assert!(capture.0.len() > 1000);
        let file = dir.path().join("days.pcap");
        capture.write(&file);
        let db = dir.path().join("days.db");
        let ended = run(ztmon().args(["replay", "--quiet", "--db"]).args([&db, &file]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        Days { dir, capture: file, db }
    }

    /// What one of the two verbs writes.
    fn openmetrics(&self, verb: &str, flags: &[&str]) -> String {
        let mut command = ztmon();
        command.args([verb, "--quiet", "--format", "openmetrics", "--label", "job=ztmon"]).args(RANGE).args(flags);
        match verb {
            "replay" => command.arg(&self.capture),
            _ => command.arg("--db").arg(&self.db),
        };
        let ended = run(&mut command);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        ended.stdout
    }

    /// The report's numbers of some days.
    fn report(&self, days: std::ops::Range<i64>) -> Totals {
        let date = |day: i64| format!("2023-11-{}", 14 + day);
        let mut command = ztmon();
        command.args(["report", "--quiet", "--format", "csv", "--tz", "UTC", "--db"]).arg(&self.db);
        let ended = run(command.args(["--since", &date(days.start), "--until", &date(days.end)]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        Totals::from_csv(&ended.stdout)
    }

    /// That the differences are the report's numbers: of each day, of two, and of all; zeros too.
    fn assert_answered_by(&self, server: &Prometheus) {
        let all = self.report(0..DAYS);
        assert!(all.0.len() == 5, "{all:?}");
        let periods = (0..DAYS).map(|day| day..day + 1).chain([1..3, 0..DAYS]);
        for period in periods {
            let report = self.report(period.clone());
            let length = period.end - period.start;
            let mut answers: BTreeMap<String, Total> = BTreeMap::new();
            for (family, label) in [("zerotier_host", "addr"), ("zerotier_other_end", "end")] {
                for counter in ["sent_bytes", "received_bytes", "sent_packets", "received_packets"] {
                    let series = format!("{family}_{counter}_total{{job='ztmon'}}");
                    let query = format!("{series} - {series} offset {length}d");
                    for result in server.query_at(&query, START + period.end * DAY) {
                        let owner = result["metric"][label].as_str().unwrap().to_owned();
                        let value: f64 = result["value"][1].as_str().unwrap().parse().unwrap();
                        let total = answers.entry(owner).or_default();
                        *match counter {
                            "sent_bytes" => &mut total.sent_bytes,
                            "received_bytes" => &mut total.received_bytes,
                            "sent_packets" => &mut total.sent_packets,
                            _ => &mut total.received_packets,
                        } = value as u64;
                    }
                }
            }
            for (_, end) in all.0.keys() {
                let answer = answers.get(end).unwrap_or_else(|| panic!("{end} is missing in {period:?}: {answers:?}"));
                assert_eq!(*answer, report.of("", end), "{end} in {period:?}");
            }
        }
    }

    fn file(&self, openmetrics: &str) -> PathBuf {
        let file = self.dir.path().join("days.om");
        std::fs::write(&file, openmetrics).unwrap();
        file
    }
}

#[test]
fn a_replay_fills_prometheus() {
    if !is_there("promtool") || !is_there("prometheus") {
        return;
    }
    let days = Days::new();
    days.assert_answered_by(&Prometheus::filled_with(&days.file(&days.openmetrics("replay", &[])), None));
}

#[test]
fn a_report_fills_prometheus() {
    if !is_there("promtool") || !is_there("prometheus") {
        return;
    }
    let days = Days::new();
    let file = days.file(&days.openmetrics("report", &["--step", "1h"]));
    days.assert_answered_by(&Prometheus::filled_with(&file, None));
}

#[test]
fn a_replay_fills_victoria_metrics() {
    if !is_there("victoria-metrics") {
        return;
    }
    let days = Days::new();
    days.assert_answered_by(&Prometheus::victoria_metrics(&days.openmetrics("replay", &[])));
}

#[test]
fn a_report_fills_victoria_metrics() {
    if !is_there("victoria-metrics") {
        return;
    }
    let days = Days::new();
    days.assert_answered_by(&Prometheus::victoria_metrics(&days.openmetrics("report", &[])));
}

/// What members moved themselves, and their names, are there for the past as for the present.
#[test]
fn members_fill_prometheus() {
    if !is_there("promtool") || !is_there("prometheus") {
        return;
    }
    let dir = tempdir().unwrap();
    let (file, names) = (dir.path().join("members.om"), dir.path().join("names.csv"));
    std::fs::write(&names, "6df5629e82,Ann\n").unwrap();
    let who = ["--network-id", "460cacee2d00a7e1", "--names", names.to_str().unwrap(), "--observer-mac", OBSERVER];
    let mut command = ztmon();
    command.args(["replay", "--quiet", "--format", "openmetrics", "--output"]).arg(&file).args(who);
    assert_eq!(run(command.arg(real("tee-both.pcap"))).code, Some(0));
    let by_member = run(ztmon()
        .args(["replay", "--quiet", "--by", "member", "--format", "csv"])
        .args(who)
        .arg(real("tee-both.pcap")));
    let server = Prometheus::filled_with(&file, None);
    // 2026-11-22T11:20:30Z: after the last packet.
    let end = 1_795_346_430;
    let value = |query: &str| {
        let found = server.query_at(query, end);
        assert_eq!(found.len(), 1, "{query}: {found:?}");
        found[0]["value"][1].as_str().unwrap().to_owned()
    };
    let rows: Vec<Vec<&str>> = by_member.stdout.lines().skip(1).map(|row| row.split(',').collect()).collect();
    let members = rows.iter().filter(|row| row[0].len() == 10);
    assert_eq!(members.clone().count(), 4, "{by_member:?}");
    for row in members {
        for (counter, column) in [("sent", 2), ("received", 3)] {
            let series = format!("zerotier_member_{counter}_bytes_total{{node='{}'}}", row[0]);
            assert_eq!(value(&format!("{series} - {series} offset 1m")), row[column], "{row:?}");
        }
    }
    let joined =
        "sum by (name) (zerotier_host_sent_bytes_total * on(addr) group_left(name) zerotier_host_info{name='Ann'})";
    let own = rows.iter().find(|row| row[1] == "Ann").unwrap()[2];
    assert_eq!(
        (server.query_at(joined, end)[0]["metric"]["name"].as_str(), value(joined).as_str()),
        (Some("Ann"), own)
    );
}

#[test]
fn what_was_cut_off_is_no_history() {
    if !is_there("promtool") {
        return;
    }
    let days = Days::new();
    let text = days.openmetrics("report", &[]);
    let file = days.file(text.strip_suffix("# EOF\n").unwrap());
    let ended = create_blocks(&file, &days.dir.path().join("blocks"));
    assert!(ended.code == Some(1) && ended.stderr.contains("# EOF"), "{ended:?}");
}

#[test]
fn what_is_scraped_continues_what_was_filled_in() {
    if !is_there("promtool") || !is_there("prometheus") {
        return;
    }
    let dir = tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let capture = |name: &str, time: u64| {
        let mut capture = Capture::default();
        capture.add_teed(time * SECOND, &Packet { src: [10, 0, 0, 1], dst: [10, 0, 0, 2], len: 500, number: 1 });
        capture.write(&file(name));
        file(name)
    };
    let long_ago = capture("old.pcap", START as u64);
    let serve = Setup::new(&file("ztmon.db")).source(&capture("new.pcap", START as u64), "max").start();
    let instance = format!("instance={}", serve.address());
    let mut command = ztmon();
    command.args(["replay", "--quiet", "--format", "openmetrics", "--label", "job=ztmon", "--label", &instance]);
    let ended = run(command.arg("--output").args([&file("old.om"), &long_ago]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let prometheus = Prometheus::filled_with(&file("old.om"), Some(serve.address()));
    let series = "zerotier_host_sent_bytes_total{addr='10.0.0.1'}";
    prometheus.wait_for(series, 500.0);
    let first = eventually("both in one series", || {
        let values = prometheus.scraped(series, "99y");
        (values.len() >= 5).then(|| values[..3].to_vec())
    });
    let filled = history(&std::fs::read_to_string(file("old.om")).unwrap());
    let filled = filled.iter().find(|series| series.name == "zerotier_host_sent_bytes_total").unwrap();
    assert_eq!(filled.samples.iter().map(|(time, value)| (*time as f64, *value as f64)).collect::<Vec<_>>(), first);
    serve.stop();
}

/// The database that a capture at these times fills, and what `report` makes of it.
fn report(db: &Path, times: &[i64], flags: &[&str]) -> support::Ended {
    let mut capture = Capture::default();
    for (number, time) in times.iter().enumerate() {
        let packet = Packet { src: [10, 0, 0, 1], dst: [10, 0, 0, 2], len: 100, number: number as u32 };
        capture.add_teed(*time as u64 * SECOND, &packet);
    }
    let file = db.with_extension("pcap");
    capture.write(&file);
    let ended = run(ztmon().args(["replay", "--quiet", "--db"]).args([db, &file]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    run(ztmon().args(["report", "--quiet", "--format", "openmetrics", "--db"]).arg(db).args(flags))
}

#[test]
fn the_database_says_which_steps_there_are() {
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let of = |flags: &[&str]| report(&db, &[START + 10, START + 400, START + 1000], flags);
    let from_start = |(at, sum): (i64, u64)| (START + at, sum);
    let samples = |ended: support::Ended| {
        let series = history(&ended.stdout).into_iter().find(|series| series.name.contains("host_sent_bytes"));
        series.unwrap().samples
    };
    let five_minutes = [(-300, 0), (0, 0), (300, 100), (600, 200), (900, 200), (1200, 300)].map(from_start);
    assert_eq!(samples(of(&[])), five_minutes);
    assert_eq!(samples(of(&["--step", "10m"])), [(-600, 0), (0, 0), (600, 200), (1200, 300)].map(from_start));
    for step in ["15s", "7m"] {
        let wrong = of(&["--step", step]);
        let line = format!(
            "ztmon: --step {step}: from 2023-11-14T00:00:00Z on the database keeps sums of 5m; give --step 5m or a \
             multiple of it"
        );
        assert_eq!(wrong.refusal(), line);
    }
}
