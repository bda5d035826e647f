//! `ztmon serve` on capture files: what it counts, what it keeps, and what it shows meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;

use rustix::process::Signal;
use support::numbers::{Total, Totals, replay, report};
use support::pcap::{Capture, Packet, SECOND};
use support::serve::Setup;
use support::{OBSERVER, real, run, ztmon};
use tempfile::tempdir;
use ztmon::store::Reader;
use ztmon::traffic::Row;

const MAC: [&str; 2] = ["--observer-mac", OBSERVER];

/// Frames in tee-both.pcap.
const FRAMES: u64 = 3398;

const NOTHING: Total = Total { sent_bytes: 0, received_bytes: 0, sent_packets: 0, received_packets: 0 };

/// Every name that monitoring may rely on.
const NAMES: [&str; 27] = [
    "zerotier_host_received_bytes_total",
    "zerotier_host_sent_bytes_total",
    "zerotier_host_received_packets_total",
    "zerotier_host_sent_packets_total",
    "zerotier_other_end_sent_bytes_total",
    "zerotier_other_end_received_bytes_total",
    "zerotier_other_end_sent_packets_total",
    "zerotier_other_end_received_packets_total",
    "ztmon_frames_total",
    "ztmon_tee_pairs_total",
    "ztmon_tee_singles_total",
    "ztmon_tee_frames_total",
    "ztmon_tee_table_overflows_total",
    "ztmon_capture_up",
    "ztmon_capture_packets_received_total",
    "ztmon_capture_packets_dropped_total",
    "ztmon_capture_last_frame_timestamp_seconds",
    "ztmon_store_last_commit_timestamp_seconds",
    "ztmon_store_up",
    "ztmon_store_uncommitted_bytes",
    "ztmon_build_info",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
];

/// Two packets each way between two clients, all with their copies, after `start` seconds.
fn small(start: u64, bytes: u16) -> Capture {
    let mut capture = Capture::default();
    for number in 0..4 {
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let (src, dst) = if number % 2 == 0 { (a, b) } else { (b, a) };
        let time = start * SECOND + u64::from(number) * 10_000;
        capture.add_teed(time, &Packet { src, dst, len: bytes, number });
    }
    capture
}

fn written(capture: &Capture, path: &Path) -> Totals {
    capture.write(path);
    replay(path, &MAC)
}

#[test]
fn replay_serve_and_report_count_the_same() {
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let expected = replay(&real("tee-both.pcap"), &MAC);
    let serve = Setup::new(&db).source(&real("tee-both.pcap"), "max").args(MAC).start();
    let metrics = serve.scrape_at(FRAMES, NOTHING);
    assert_eq!(metrics.totals(), expected);
    metrics.totals().assert_balanced();
    assert_eq!(report(&db, "live"), expected);
    // The true bytes that the clients sent, as their own devices saw them.
    let sent = |end| expected.of("", end).sent_bytes;
    assert_eq!(
        ["10.147.20.11", "10.147.20.12", "10.147.20.13", "10.147.20.20"].map(sent),
        [919_017, 452_181, 128_435, 34_572]
    );
    for name in NAMES {
        assert!(metrics.has(name), "{name} is missing");
        assert!(metrics.text.contains(&format!("# TYPE {name} ")), "{name} has no type");
        assert!(metrics.text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
    assert_eq!(metrics.sum("ztmon_tee_pairs_total"), 1555);
    assert_eq!(metrics.sum("ztmon_tee_singles_total"), 0);
    assert_eq!(metrics.sum_where("ztmon_frames_total", "outcome", "not_ip"), 37);
    assert!(metrics.float("ztmon_store_last_commit_timestamp_seconds") > 1.7e9);
    let last_frame = Capture::read(&real("tee-both.pcap")).0.iter().map(|frame| frame.time).max().unwrap() as f64 / 1e6;
    assert!((metrics.float("ztmon_capture_last_frame_timestamp_seconds") - last_frame).abs() < 1e-3);
    serve.stop();
    assert_eq!(report(&db, "live"), expected);
}

#[test]
fn the_first_exporters_published_sample_comes_out() {
    let dir = tempdir().unwrap();
    let (file, db) = (dir.path().join("sample.pcap"), dir.path().join("ztmon.db"));
    let [hub, idle, busy] = [251, 252, 253].map(|host| [192, 168, 124, host]);
    let mut capture = Capture::default();
    for (src, dst, bytes) in
        [(hub, busy, 199_582_121_u32), (busy, hub, 6_282_618), (hub, idle, 1_346), (idle, hub, 1_260)]
    {
        let mut left = bytes;
        while left > 0 {
            // What is left in the end is enough for a header.
            let len = if left > 65_535 + 100 { 65_535 } else { left.min(65_000) };
            let number = capture.0.len() as u32;
            capture.add_teed(
                1_700_000_000 * SECOND + u64::from(number) * 500,
                &Packet { src, dst, len: len as u16, number },
            );
            left -= len;
        }
    }
    capture.0.sort_by_key(|frame| frame.time);
    capture.write(&file);
    let serve = Setup::new(&db).source(&file, "max").start();
    let metrics = serve.scrape_at(capture.0.len() as u64, NOTHING);
    let mut lines: Vec<_> = metrics
        .text
        .lines()
        .filter(|line| line.starts_with("zerotier_host_") && line.contains("_bytes_total{"))
        .collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            r#"zerotier_host_received_bytes_total{addr="192.168.124.251"} 6283878"#,
            r#"zerotier_host_received_bytes_total{addr="192.168.124.252"} 1346"#,
            r#"zerotier_host_received_bytes_total{addr="192.168.124.253"} 199582121"#,
            r#"zerotier_host_sent_bytes_total{addr="192.168.124.251"} 199583467"#,
            r#"zerotier_host_sent_bytes_total{addr="192.168.124.252"} 1260"#,
            r#"zerotier_host_sent_bytes_total{addr="192.168.124.253"} 6282618"#,
        ]
    );
    assert_eq!(metrics.sum("ztmon_tee_pairs_total"), capture.0.len() as u64 / 2);
}

#[test]
fn a_stop_in_the_middle_loses_and_doubles_nothing() {
    let dir = tempdir().unwrap();
    let path = |name| dir.path().join(name);
    let capture = Capture::read(&real("tee-both.pcap"));
    let pause = capture.longest_pause();
    // So long a pause that the stop is in it.
    let paused = capture.with_pause(pause, 1_000_000);
    let whole = written(&paused, &path("whole.pcap"));
    let (first, second) = paused.split(pause);
    let first = written(&first, &path("first.pcap"));
    second.write(&path("second.pcap"));

    let db = path("ztmon.db");
    let serve = Setup::new(&db).source(&path("whole.pcap"), "50").args(MAC).start();
    assert_eq!(serve.scrape_at(pause as u64, NOTHING).totals(), first);
    let ended = serve.stop();
    assert!(ended.stderr.contains(&format!("played {pause} frames\n")), "{ended:?}");
    assert!(ended.stderr.ends_with("everything is committed; bye"), "{ended:?}");
    assert_eq!(report(&db, "live"), first);

    let serve = Setup::new(&db).source(&path("second.pcap"), "max").args(MAC).start();
    assert_eq!(serve.scrape_at(FRAMES - pause as u64, first.sum()).totals(), whole);
    serve.stop();
    assert_eq!(report(&db, "live"), whole);
}

#[test]
fn either_signal_commits_all_that_was_counted() {
    // Ctrl-C may come twice: from the terminal, and from a script that passes it on.
    for signals in [&[Signal::TERM][..], &[Signal::INT], &[Signal::INT, Signal::TERM, Signal::INT]] {
        let dir = tempdir().unwrap();
        let db = dir.path().join("ztmon.db");
        let serve = Setup::new(&db).source(&real("tee-both.pcap"), "4").args(MAC).start();
        support::eventually("some frames", || (serve.scrape().sum("ztmon_frames_total") > 500).then_some(()));
        signals.iter().for_each(|signal| serve.signal(*signal));
        let ended = serve.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let played = ended.stderr.split_once(": played ").expect("no count").1.split(' ').next().unwrap();
        let (played, _) = Capture::read(&real("tee-both.pcap")).split(played.parse().unwrap());
        assert!(played.0.len() < FRAMES as usize, "it was over before it was stopped");
        assert_eq!(report(&db, "live"), written(&played, &dir.path().join("played.pcap")));
    }
}

#[test]
fn a_signal_right_at_the_start_ends_it_well() {
    for signal in [Signal::TERM, Signal::INT].into_iter().cycle().take(20) {
        let dir = tempdir().unwrap();
        let serve = Setup::new(&dir.path().join("ztmon.db")).source(&real("tee-both.pcap"), "1").start();
        serve.signal(signal);
        let ended = serve.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn a_source_that_is_played_again_counts_again() {
    let dir = tempdir().unwrap();
    let (file, db) = (dir.path().join("small.pcap"), dir.path().join("ztmon.db"));
    let once = written(&small(1_700_000_000, 500), &file);
    let mut so_far = Totals::default();
    for _ in 0..3 {
        let serve = Setup::new(&db).source(&file, "max").start();
        let expected = so_far.plus(&once);
        assert_eq!(serve.scrape_at(8, so_far.sum()).totals(), expected);
        serve.stop();
        so_far = expected;
    }
    assert_eq!(so_far.of("", "10.0.0.1").sent_bytes, 3 * 2 * 500);
    assert_eq!(report(&db, "live"), so_far);
}

#[test]
fn no_scrape_is_ahead_of_the_database() {
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let serve = Setup::new(&db).source(&real("tee-both.pcap"), "5").args(MAC).start();
    let mut last = Totals::default();
    let mut steps = 0;
    while serve.logged("all there are") == 0 {
        let shown = serve.scrape().totals();
        last.assert_at_most(&shown);
        shown.assert_at_most(&report(&db, "live"));
        steps += usize::from(shown != last);
        last = shown;
    }
    assert!(steps >= 2, "nothing was seen on the way");

    serve.stop();

    // Nor after a kill, which gives no time to commit what was shown before.
    let serve = Setup::new(&db).source(&real("tee-both.pcap"), "1").args(MAC).start();
    let mut changes = 0;
    support::eventually("totals that grow", || {
        let shown = serve.scrape().totals();
        changes += usize::from(shown != last);
        last = shown;
        (changes == 3).then_some(())
    });
    serve.signal(Signal::KILL);
    assert_eq!(serve.end().code, None);
    let kept = report(&db, "live");
    last.assert_at_most(&kept);
    let none = dir.path().join("none.pcap");
    Capture::default().write(&none);
    let serve = Setup::new(&db).source(&none, "max").start();
    support::eventually("what the database holds", || (serve.scrape().totals() == kept).then_some(()));
    serve.stop();
}

#[test]
fn a_long_report_delays_neither_commits_nor_scrapes() {
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let source = real("tee-both.pcap");
    let serve = Setup::new(&db).source(&source, "max").args(MAC).start();
    serve.scrape_at(FRAMES, NOTHING);
    serve.stop();
    let before = report(&db, "live").sum();

    // It has read one row, and the rest when the same has been played again.
    let reader = Reader::open(&db).unwrap();
    let (mut serve, mut read) = (None, 0);
    let each = |_: &str, _, row: Row| {
        let serve = serve.get_or_insert_with(|| {
            let serve = Setup::new(&db).source(&source, "max").args(MAC).start();
            let after = serve.scrape_at(FRAMES, before).totals();
            assert_eq!(after.sum().sent_bytes, 2 * before.sent_bytes);
            after.assert_same(&report(&db, "live"));
            serve
        });
        assert_eq!(serve.scrape().float("ztmon_store_up"), 1.0);
        read += row.counts.bytes;
        Ok(())
    };
    reader.rows(None, None..None, |_| None, each).unwrap();
    assert_eq!(read, before.sent_bytes, "what was there when it began");
    serve.unwrap().stop();
}

#[test]
fn an_import_never_shows_in_metrics() {
    let dir = tempdir().unwrap();
    let path = |name| dir.path().join(name);
    let live = written(&small(1_700_000_000, 500), &path("live.pcap"));
    Capture::default().write(&path("none.pcap"));
    let db = path("ztmon.db");
    let serve = Setup::new(&db).source(&path("live.pcap"), "max").start();
    assert_eq!(serve.scrape_at(8, NOTHING).totals(), live);
    serve.stop();

    // History of the same addresses, and of others.
    let old = written(&small(1_600_000_000, 1500), &path("old.pcap"));
    let other = replay(&real("tee-both.pcap"), &MAC);
    let mut import = ztmon();
    import.args(["replay", "--db"]).arg(&db).args(MAC).arg(path("old.pcap")).arg(real("tee-both.pcap"));
    let ended = run(&mut import);
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let serve = Setup::new(&db).source(&path("none.pcap"), "max").start();
    support::eventually("the totals of before", || (serve.scrape().totals() == live).then_some(()));
    let imported = old.plus(&other);
    for (origin, expected) in [("live", &live), ("import", &imported), ("all", &live.plus(&imported))] {
        assert_eq!(&report(&db, origin), expected, "--origin {origin}");
    }
    assert_eq!(serve.scrape().totals(), live);
    serve.stop();
}

#[test]
fn a_database_has_one_writer_and_any_number_of_readers() {
    let dir = tempdir().unwrap();
    let (file, db) = (dir.path().join("small.pcap"), dir.path().join("ztmon.db"));
    let once = written(&small(1_700_000_000, 500), &file);
    let serve = Setup::new(&db).source(&file, "max").start();
    serve.scrape_at(8, NOTHING);
    let in_use = "is in use by another ztmon: stop it, or give another --db";
    let import = run(ztmon().args(["replay", "--db"]).arg(&db).arg(real("tee-both.pcap")));
    assert!(import.refusal().ends_with(in_use), "{import:?}");
    let second = run(&mut Setup::new(&db).source(&file, "max").command());
    assert!(second.refusal().ends_with(in_use), "{second:?}");
    assert_eq!(report(&db, "live"), once);
    assert_eq!(serve.scrape().totals(), once);
    serve.stop();
    assert_eq!(report(&db, "all"), once);
}

#[test]
fn http_answers_what_it_has_and_refuses_the_rest() {
    let dir = tempdir().unwrap();
    let serve = Setup::new(&dir.path().join("ztmon.db")).source(&real("tee-both.pcap"), "max").start();
    let status = |method, path| serve.request(method, path).0;
    let (code, page) = serve.request("GET", "/");
    assert!(code == 200 && page.contains("/metrics"), "{page}");
    support::eventually("readiness", || (status("GET", "/-/ready") == 200).then_some(()));
    assert_eq!(status("GET", "/-/healthy"), 200);
    assert_eq!(status("GET", "/metrics?a=b"), 200);
    assert_eq!(serve.request("HEAD", "/metrics"), (200, String::new()));
    for path in ["/metric", "/metrics/", "/-/", "/favicon.ico"] {
        assert_eq!(status("GET", path), 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        assert_eq!(status(method, "/metrics"), 405, "{method}");
    }
    serve.stop();
}

#[test]
fn what_cannot_start_says_why_in_one_line() {
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let source = real("tee-both.pcap");

    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let ended = run(&mut Setup::new(&db).source(&source, "max").listen(taken).command());
    assert!(ended.refusal().contains(&format!("cannot listen on \"{taken}\": the port is in use")), "{ended:?}");

    let missing = dir.path().join("missing/ztmon.db");
    let ended = run(&mut Setup::new(&missing).source(&source, "max").command());
    assert!(ended.refusal().contains(&missing.display().to_string()), "{ended:?}");
    let mut from_environment = ztmon();
    from_environment.args(["serve", "--listen-address", "127.0.0.1:0", "--source"]).arg(&source);
    let ended = run(from_environment.env("ZTMON_DB", &missing));
    assert!(ended.refusal().contains(&format!("(tried {} ($ZTMON_DB))", missing.display())), "{ended:?}");

    let text = dir.path().join("text.pcap");
    std::fs::write(&text, "this is no capture, however it is called\n").unwrap();
    for file in [&text, &dir.path().join("missing.pcap"), &dir.path().to_owned()] {
        let ended = run(&mut Setup::new(&db).source(file, "max").command());
        assert!(ended.refusal().contains(&file.display().to_string()), "{ended:?}");
    }

    #[cfg(feature = "live")]
    let ended = run(&mut Setup::new(&db).source(&source, "max").args(["--filter", "host and"]).command());
    #[cfg(feature = "live")]
    assert!(ended.refusal().contains("--filter 'host and'"), "{ended:?}");
    assert!(!db.exists(), "a serve that cannot start makes no database");
}

#[test]
#[cfg(feature = "live")]
fn a_filter_decides_what_is_counted() {
    let dir = tempdir().unwrap();
    let filter = ["--filter", "udp", MAC[0], MAC[1]];
    let expected = replay(&real("tee-both.pcap"), &filter);
    assert_ne!(expected, replay(&real("tee-both.pcap"), &MAC));
    let serve = Setup::new(&dir.path().join("ztmon.db")).source(&real("tee-both.pcap"), "max").args(filter).start();
    serve.wait_for_log("all there are", 1);
    support::eventually("the filtered totals", || (serve.scrape().totals() == expected).then_some(()));
    serve.stop();
}

#[test]
fn a_source_is_played_at_its_own_pace() {
    let dir = tempdir().unwrap();
    let path = |name| dir.path().join(name);
    let (mut capture, second) = (small(1_700_000_000, 500), small(1_700_000_600, 1200));
    let half = written(&capture, &path("half.pcap"));
    capture.0.extend(second.0);
    let whole = written(&capture, &path("whole.pcap"));
    let start = std::time::Instant::now();
    let serve = Setup::new(&path("ztmon.db")).source(&path("whole.pcap"), "100").start();
    assert_eq!(serve.scrape_at(8, NOTHING).totals(), half);
    assert_eq!(serve.scrape().float("ztmon_capture_up"), 1.0);
    serve.wait_for_log("all there are", 1);
    assert!(start.elapsed().as_secs() >= 6);
    assert_eq!(serve.scrape_at(16, NOTHING).totals(), whole);
    assert_eq!(serve.scrape().float("ztmon_capture_up"), 0.0);
    serve.stop();
}

#[test]
fn the_first_scrape_after_a_restart_has_all_totals() {
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let source = real("tee-both.pcap");
    let serve = Setup::new(&db).source(&source, "max").start();
    let before = replay(&source, &[]);
    assert_eq!(serve.scrape_at(3398, Default::default()).totals(), before);
    serve.stop();
    for _ in 0..5 {
        // A source that has nothing more to add for a long time.
        let serve = Setup::new(&db).source(&source, "0.000001").start();
        assert_eq!(serve.scrape().totals(), before);
        serve.stop();
    }
}

#[test]
fn a_pipe_is_no_source() {
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    for source in ["-", "/dev/stdin", "/dev/zero"] {
        let ended = run(&mut Setup::new(&db).source(std::path::Path::new(source), "max").command());
        assert!(ended.refusal().contains("give a file"), "{ended:?}");
    }
}
