//! Periods, words and chosen ends, from the command line to the bytes. The periods themselves are in testdata/period.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run;
mod support;

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use run::{command, finish, testdata, within, ztmon};
use support::pcap::{Capture, Packet, SECOND};

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 86_400;

/// Host N of 10.0.0.0/24 sends a packet of N × 100 bytes outside, at so many seconds.
fn capture(sent: &[(u8, u64)], path: &str) {
    let mut capture = Capture::default();
    for (number, &(host, time)) in sent.iter().enumerate() {
        let len = u16::from(host) * 100;
        let packet = Packet { src: [10, 0, 0, host], dst: [192, 0, 2, 1], len, number: number as u32 };
        capture.add_teed(time * SECOND, &packet);
    }
    capture.write(Path::new(path));
}

/// The lines of a CSV without the header.
fn rows(csv: &str) -> Vec<&str> {
    csv.lines().skip(1).collect()
}

/// The clients that moved something.
fn clients(csv: &str) -> Vec<String> {
    let lines = rows(csv).into_iter().filter(|line| line.starts_with("10."));
    let mut found: Vec<_> = lines.map(|line| line.split(',').next().unwrap().to_owned()).collect();
    found.sort();
    found
}

#[test]
fn a_database_reports_the_periods_that_replay_printed() {
    for name in
        ["berlin-both", "kathmandu-hours", "month-start-31", "weeks", "pairs-top", "addr", "lord-howe-hours", "total"]
    {
        let folder = tempfile::tempdir().unwrap();
        let db = within(folder.path(), "ztmon.db");
        let file = testdata(&format!("period/{name}.pcap"));
        let args = fs::read_to_string(testdata(&format!("period/{name}.args"))).unwrap();
        let args: Vec<&str> = args.split_whitespace().collect();
        let want = fs::read_to_string(testdata(&format!("period/{name}.csv"))).unwrap();
        assert_eq!(ztmon(&[&["replay", "--db", &db, &file], &args[..]].concat()).ok(), want, "{name}");
        assert_eq!(ztmon(&[&["report", "--db", &db], &args[..]].concat()).ok(), want, "{name}");
        for format in ["json", "table"] {
            let args = [&args[..], &["--format", format, "--quiet"]].concat();
            let [replayed, reported] = [&["replay", &file][..], &["report", "--db", &db]]
                .map(|verb| ztmon(&[verb, &args].concat()).ok().split("\"summary\"").next().unwrap().to_owned());
            assert_eq!(replayed, reported, "{name}");
        }
    }
}

#[test]
fn clients_of_before_the_range_have_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let [db, file] = ["ztmon.db", "old.pcap"].map(|name| within(folder.path(), name));
    let start = 1_774_828_800; // 2026-03-30T00:00:00Z
    capture(&[(1, start), (2, start + DAY), (1, start + 3 * DAY), (3, start + 4 * DAY)], &file);
    ztmon(&["replay", "--quiet", "--db", &db, &file]).ok();
    let report = |args: &[&str]| {
        let args = [&["report", "--db", &db, "--tz", "UTC", "--every", "day"], args].concat();
        ztmon(&args).ok().replace("T00:00:00+00:00", "")
    };
    let shown = |csv: &str| -> Vec<String> {
        rows(csv).iter().map(|line| line.split(',').take(3).collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(
        shown(&report(&["--since", "2026-04-01", "--until", "2026-04-03"])),
        [
            "2026-04-01 10.0.0.1 0",
            "2026-04-01 10.0.0.2 0",
            "2026-04-02 10.0.0.1 100",
            "2026-04-02 10.0.0.2 0",
            "2026-04-02 external 0",
        ]
    );
    // Nobody was there yet; nobody captured live ever was.
    assert_eq!(shown(&report(&["--until", "2026-03-30"])), Vec::<String>::new());
    assert_eq!(
        shown(&report(&["--since", "2026-04-01", "--until", "2026-04-03", "--origin", "live"])),
        Vec::<String>::new()
    );
    assert_eq!(
        shown(&report(&["--since", "2026-04-01", "--until", "2026-04-02", "--addr", "10.0.0.2"])),
        ["2026-04-01 10.0.0.2 0"]
    );
    // A file tells of nobody before.
    let replayed =
        ztmon(&["replay", "--every", "day", "--tz", "UTC", "--since", "2026-04-01", "--until", "2026-04-03", &file]);
    assert_eq!(
        shown(&replayed.ok().replace("T00:00:00+00:00", "")),
        ["2026-04-02 10.0.0.1 100", "2026-04-02 external 0"]
    );
}

#[test]
fn a_chosen_client_has_zeros_until_the_last_period_of_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let [db, file] = ["ztmon.db", "old.pcap"].map(|name| within(folder.path(), name));
    let start = 1_774_828_800; // 2026-03-30T00:00:00Z
    capture(&[(1, start), (2, start + DAY), (1, start + 3 * DAY), (3, start + 4 * DAY)], &file);
    ztmon(&["replay", "--quiet", "--db", &db, &file]).ok();
    for by in [&["--by", "address"][..], &["--by", "pair"], &["--format", "json"], &["--format", "html"]] {
        let args = [&["--quiet", "--tz", "UTC", "--every", "day", "--addr", "10.0.0.2"], by].concat();
        let [replayed, reported] = [&["replay", &file][..], &["report", "--db", &db]]
            .map(|verb| ztmon(&[verb, &args].concat()).ok().split("\"summary\"").next().unwrap().to_owned());
        let days = if by[0] == "--by" { rows(&reported).len() } else { 4 };
        assert_eq!(days, 4, "{reported}");
        // A page names what it was made of.
        assert!(replayed == reported || by.contains(&"html"), "{by:?}: {replayed}{reported}");
        assert!(reported.contains("2026-04-03"), "{reported}");
    }
}

#[test]
fn words_count_from_now() {
    let folder = tempfile::tempdir().unwrap();
    let [db, file] = ["ztmon.db", "now.pcap"].map(|name| within(folder.path(), name));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // Each with an hour or more to the nearest bound below, but for the first.
    let sent = [(1, 10 * MINUTE), (2, 5 * HOUR), (3, 50 * HOUR), (4, 9 * DAY), (5, 800 * DAY)];
    capture(&sent.map(|(host, ago)| (host, now - ago)), &file);
    ztmon(&["replay", "--quiet", "--db", &db, &file]).ok();
    let hosts = |args: &[&str]| {
        let [replayed, reported] = [&["replay", &file][..], &["report", "--db", &db]]
            .map(|verb| clients(&ztmon(&[verb, args, &["--tz", "UTC", "--quiet"]].concat()).ok()));
        assert_eq!(replayed, reported, "{args:?}");
        replayed.iter().map(|addr| addr.trim_start_matches("10.0.0.").to_owned()).collect::<String>()
    };
    assert_eq!(hosts(&["--since", "90m"]), "1");
    assert_eq!(hosts(&["--since", "36h"]), "12");
    assert_eq!(hosts(&["--since", "7d"]), "123");
    assert_eq!(hosts(&["--since", "2w"]), "1234");
    assert_eq!(hosts(&["--since", "2w", "--until", "7d"]), "4");
    assert_eq!(hosts(&["--until", "now"]), "12345");
    assert_eq!(hosts(&["--since", "yesterday", "--until", "3h"]), "2");
    assert_eq!(hosts(&["--until", "last-year"]), "5");
    assert_eq!(hosts(&["--until", "last-month", "--since", "2001-01-01"]), "5");
    // Several words, one argument.
    assert_eq!(hosts(&["--since", "yesterday 00:00"]), hosts(&["--since", "last-day"]));
    assert_eq!(hosts(&["--since", "today 00:00"]), hosts(&["--since", "this-day"]));

    let forgot = ztmon(&["db", "forget", "--db", &db, "--last-seen-before", "100d", "--dry-run"]).ok();
    assert!(forgot.contains("would forget 1 address(es)"), "{forgot}");
}

#[test]
fn only_chosen_ends_are_shown_and_summed_up() {
    let folder = tempfile::tempdir().unwrap();
    let [db, file] = ["ztmon.db", "file.pcap"].map(|name| within(folder.path(), name));
    capture(&[(1, 1_774_828_800), (2, 1_774_828_900), (9, 1_774_829_000)], &file);
    ztmon(&["replay", "--quiet", "--db", &db, &file]).ok();
    for verb in [&["replay", &file][..], &["report", "--db", &db]] {
        let shown = |args: &[&str]| {
            let csv = ztmon(&[verb, args, &["--quiet"]].concat()).ok();
            rows(&csv).iter().map(|line| line.split(',').take(3).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(
            shown(&["--addr", "10.0.0.0/30", "--addr", "external"]),
            ["10.0.0.2 200 0", "10.0.0.1 100 0", "external 0 1200"]
        );
        assert_eq!(shown(&["--addr", "10.0.0.9", "--by", "pair"]), ["10.0.0.9 external 900"]);
        assert_eq!(shown(&["--addr", "multicast", "--addr", "other"]), [""; 0]);
    }
    let json = ztmon(&["report", "--db", &db, "--addr", "10.0.0.8/29", "--format", "json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["summary"]["bytes"], 900);
}

#[test]
fn zone_and_offset_stand_on_every_report() {
    let file = testdata("period/berlin-spring.pcap");
    for (every, offset) in [("total", "+05:45"), ("day", "+05:45"), ("month", "+05:45")] {
        let args = ["replay", "--quiet", "--every", every, "--tz", "Asia/Kathmandu", &file];
        let json = ztmon(&[&args[..], &["--format", "json"]].concat()).ok();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let said = ["every", "time_zone", "utc_offset"].map(|name| json[name].as_str().unwrap().to_owned());
        assert_eq!(said, [every, "Asia/Kathmandu", offset]);
        let table = ztmon(&[&args[..], &["--format", "table"]].concat()).ok();
        assert_eq!(table.lines().last().unwrap(), "time zone: Asia/Kathmandu (+05:45)");
    }
    // The system's, where none is given; and where it has none that can be used and none is needed, UTC's.
    for (tz, shown) in [("America/Caracas", "America/Caracas (-04:00)"), ("EST5EDT4,M3", "UTC (+00:00)")] {
        let mut replay = command(&["replay", "--quiet", "--format", "table", &file]);
        replay.env("TZ", tz);
        assert_eq!(finish(replay).ok().lines().last().unwrap(), format!("time zone: {shown}"));
    }
}

#[test]
fn wrong_usage_takes_one_line() {
    let file = testdata("period/berlin-spring.pcap");
    for (args, said) in [
        (&["--every", "fortnight"][..], "[possible values: hour, day, week, month, total] (see --help)"),
        (&["--month-start", "14"], "ztmon: --month-start needs --every month (see --help)"),
        (&["--month-start", "14", "--every", "week"], "--month-start needs --every month"),
        (&["--month-start", "32", "--every", "month"], "32 is not in 1..=31"),
        (&["--month-start", "0", "--every", "month"], "0 is not in 1..=31"),
        (&["--addr", "somebody"], "give an address or range like 10.147.20.0/24, or external, multicast or other"),
        (&["--addr", "10.0.0.1/8"], "the network meant is 10.0.0.0/8"),
        (&["--since", "tomorrow", "--tz", "UTC"], "--since 'tomorrow': give a date (2026-03-29), "),
        (&["--until", "today 25:00", "--tz", "UTC"], "--until 'today 25:00': give a date (2026-03-29), "),
        (&["--every", "day", "--tz", "Mars/Olympus"], "'Mars/Olympus' is no time zone"),
    ] {
        let err = ztmon(&[&["replay", &file], args].concat()).nothing();
        assert!(err.contains(said) && err.lines().count() == 1, "{args:?}: {err}");
    }
    let mut replay = command(&["replay", "--every", "day", &file]);
    replay.env("TZ", "EST5EDT4,M3");
    let err = finish(replay).nothing();
    assert!(err.contains("the system's time zone cannot be used: give --tz"), "{err}");
}

#[test]
fn of_a_range_that_ends_before_it_begins_nothing_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (within(folder.path(), "ztmon.db"), testdata("period/berlin-spring.pcap"));
    ztmon(&["replay", "--quiet", "--db", &db, &file]).ok();
    for verb in [&["replay", &file][..], &["report", "--db", &db]] {
        for (since, until, from, to) in [
            ("2026-03-30", "2026-03-29", "2026-03-29T22:00:00Z", "2026-03-28T23:00:00Z"),
            ("2026-03-29 12:00", "2026-03-29T10:00:00Z", "2026-03-29T10:00:00Z", "2026-03-29T10:00:00Z"),
        ] {
            let args = [verb, &["--tz", "Europe/Berlin", "--since", since, "--until", until]].concat();
            let said = format!(
                "ztmon: --since is {from} and --until is {to}: there is no time in between, and nothing counts\n"
            );
            let ended = ztmon(&args);
            assert!(ended.code == Some(0) && ended.err.starts_with(&said), "{args:?}: {ended:?}");
            assert_eq!(rows(&ended.out), [""; 0], "{args:?}");
            assert_eq!(ztmon(&[&args[..], &["--quiet"]].concat()).err, "");
            for more in
                [&["--every", "day"][..], &["--format", "html"], &["--format", "openmetrics"], &["--by", "pair"]]
            {
                let ended = ztmon(&[&args[..], more].concat());
                assert!(ended.code == Some(0) && ended.err.starts_with(&said), "{args:?} {more:?}: {ended:?}");
            }
        }
    }
}

#[test]
fn all_in_one_period_says_where_it_begins() {
    let file = testdata("period/berlin-spring.pcap");
    let first = |args: &[&str]| {
        let csv = ztmon(&[&["replay", "--quiet", "--tz", "Asia/Kathmandu", &file], args].concat()).ok();
        rows(&csv).iter().map(|line| line.split(',').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(first(&["--every", "total", "--since", "2026-03-20"]), ["2026-03-20T00:00:00+05:45"; 4]);
    assert_eq!(first(&["--every", "total", "--addr", "external"]), ["2026-03-29T04:45:01+05:45"]);
    assert_eq!(first(&["--every", "total", "--until", "2026-01-01"]), [""; 0]);
    assert_eq!(first(&["--top", "0"]), ["external", "rest"]);
    let mut replay = command(&["replay", "--quiet", "--every", "total", &file]);
    replay.env("TZ", "EST5EDT4,M3");
    assert!(finish(replay).nothing().contains("the system's time zone cannot be used: give --tz"));
}

/// A packet of 1970 and one of 2026: half a million hours, of which two are in memory.
#[test]
fn quiet_decades_are_printed_as_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let [file, out] = ["far.pcap", "out.csv"].map(|name| within(folder.path(), name));
    capture(&[(1, 0), (1, 1_774_828_800)], &file);
    ztmon(&["replay", "--quiet", "--every", "hour", "--tz", "UTC", "--output", &out, &file]).ok();
    let csv = fs::read_to_string(&out).unwrap();
    assert_eq!(csv.lines().count(), 1 + 1_774_828_800 / 3600 + 1 + 2, "the header, the hours, external twice");
}
