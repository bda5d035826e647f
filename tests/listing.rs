//! Which clients `/metrics` shows, and that no counter falls or leaps for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use support::numbers::{Metrics, Total, report};
use support::pcap::{Capture, Packet, SECOND};
use support::serve::Setup;
use support::{eventually, run, ztmon};
use tempfile::tempdir;

const NOTHING: Total = Total { sent_bytes: 0, received_bytes: 0, sent_packets: 0, received_packets: 0 };

/// Clients 1 to 9 send a packet each to client 200, after `start` seconds.
fn nine_clients(start: u64, path: &Path) {
    let mut capture = Capture::default();
    for host in 1..10 {
        let packet = Packet { src: [10, 0, 0, host], dst: [10, 0, 0, 200], len: 1000, number: u32::from(host) };
        capture.add_teed(start * SECOND + 10_000 * u64::from(host), &packet);
    }
    capture.write(path);
}

/// The clients that have counters.
fn listed(metrics: &Metrics) -> Vec<String> {
    let of = metrics.samples.iter().filter(|sample| sample.name == "zerotier_host_sent_bytes_total");
    of.map(|sample| sample.labels["addr"].clone()).collect()
}

#[test]
fn those_that_come_first_are_listed_and_the_rest_is_other() {
    let dir = tempdir().unwrap();
    let (db, file) = (dir.path().join("ztmon.db"), dir.path().join("nine.pcap"));
    nine_clients(1_700_000_000, &file);
    let flags = ["--metrics-max-addresses", "4"];
    let mut before = NOTHING;
    let first = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.200"];
    for round in 1..=3 {
        let serve = Setup::new(&db).source(&file, "max").args(flags).start();
        let metrics = serve.scrape_at(18, before);
        assert_eq!(listed(&metrics), first, "the same after every restart");
        let totals = metrics.totals();
        totals.assert_balanced();
        assert_eq!(totals.of("", "other").sent_bytes, round * 6 * 1000);
        assert_eq!(totals.of("", "10.0.0.1").sent_bytes, round * 1000);
        assert_eq!(totals.of("", "10.0.0.200").received_bytes, round * 9 * 1000);
        before = totals.sum();
        serve.stop();
    }
    // The report knows them all.
    assert_eq!(report(&db, "live").of("", "10.0.0.9").sent_bytes, 3 * 1000);
    assert_eq!(report(&db, "live").of("", "other"), NOTHING);
}

#[test]
fn a_higher_limit_shows_whole_totals_and_other_stays() {
    let dir = tempdir().unwrap();
    let (db, file) = (dir.path().join("ztmon.db"), dir.path().join("nine.pcap"));
    nine_clients(1_700_000_000, &file);
    let serve = Setup::new(&db).source(&file, "max").args(["--metrics-max-addresses", "4"]).start();
    let before = serve.scrape_at(18, NOTHING).totals();
    serve.stop();
    let empty = dir.path().join("empty.pcap");
    Capture::default().write(&empty);
    for (limit, other) in [("100", 6000), ("1", 6000), ("100", 6000)] {
        let serve = Setup::new(&db).source(&empty, "max").args(["--metrics-max-addresses", limit]).start();
        let metrics = serve.scrape();
        assert_eq!(listed(&metrics).len(), limit.parse::<usize>().unwrap().min(10));
        assert_eq!(metrics.totals().of("", "other").sent_bytes, other);
        assert_eq!(metrics.totals().of("", "10.0.0.1"), before.of("", "10.0.0.1"));
        serve.stop();
    }
}

#[test]
fn idle_clients_leave_and_return_with_their_total() {
    let dir = tempdir().unwrap();
    let (db, file) = (dir.path().join("ztmon.db"), dir.path().join("two.pcap"));
    // The second client is silent for four of five seconds.
    let mut capture = Capture::default();
    for number in 0..50_u32 {
        let src = if number % 40 == 0 { [10, 0, 0, 2] } else { [10, 0, 0, 1] };
        let packet = Packet { src, dst: [192, 0, 2, 1], len: 100, number };
        capture.add_teed(1_700_000_000 * SECOND + u64::from(number) * SECOND / 10, &packet);
    }
    capture.write(&file);
    let serve = Setup::new(&db).source(&file, "1").args(["--metrics-idle", "1s"]).start();
    let sent = || serve.scrape().totals().of("", "10.0.0.2").sent_packets;
    eventually("the second client", || (sent() == 1).then_some(()));
    eventually("its absence", || (sent() == 0).then_some(()));
    eventually("its return", || (sent() == 2).then_some(()));
    assert_eq!(report(&db, "live").of("", "10.0.0.2").sent_packets, 2);
    serve.stop();
}

#[test]
fn what_is_forgotten_moves_no_other_counter() {
    let dir = tempdir().unwrap();
    let (db, file) = (dir.path().join("ztmon.db"), dir.path().join("nine.pcap"));
    nine_clients(1_700_000_000, &file);
    let serve = Setup::new(&db).source(&file, "max").args(["--metrics-max-addresses", "6"]).start();
    let before = serve.scrape_at(18, NOTHING).totals();
    let refused = run(ztmon().args(["db", "forget", "--less-than", "1MB", "--db"]).arg(&db));
    assert!(refused.refusal().contains("is in use by another ztmon"));
    serve.stop();
    // One that had a counter and one that had none.
    let forgot = run(ztmon().args(["db", "forget", "--addr", "10.0.0.2", "--addr", "10.0.0.9", "--db"]).arg(&db));
    assert!(forgot.stdout.contains("forgot 2 address(es)"), "{forgot:?}");
    let empty = dir.path().join("empty.pcap");
    Capture::default().write(&empty);
    let serve = Setup::new(&db).source(&empty, "max").args(["--metrics-max-addresses", "6"]).start();
    let after = serve.scrape().totals();
    assert_eq!(after.of("", "10.0.0.2"), NOTHING);
    for end in ["10.0.0.1", "10.0.0.200", "other", "external"] {
        assert_eq!(after.of("", end), before.of("", end), "{end}");
    }
    serve.stop();
    assert_eq!(report(&db, "live").of("", "other").sent_bytes, 2000);
}

#[test]
fn a_database_that_is_taken_away_is_noticed() {
    let dir = tempdir().unwrap();
    let (db, file) = (dir.path().join("ztmon.db"), dir.path().join("nine.pcap"));
    let mut capture = Capture::default();
    for number in 0..600_u32 {
        let packet = Packet { src: [10, 0, 0, 1], dst: [10, 0, 0, 2], len: 100, number };
        capture.add_teed(1_700_000_000 * SECOND + u64::from(number) * SECOND / 20, &packet);
    }
    capture.write(&file);
    let serve = Setup::new(&db).source(&file, "1").args(["--metrics-idle", "2s"]).start();
    let sent = |metrics: &Metrics| metrics.totals().of("", "10.0.0.1").sent_packets;
    eventually("something on the disk", || (sent(&serve.scrape()) > 0).then_some(()));
    let away = dir.path().join("away.db");
    fs::rename(&db, &away).unwrap();
    let down =
        eventually("the alarm", || Some(serve.scrape()).filter(|metrics| metrics.float("ztmon_store_up") == 0.0));
    assert_eq!(serve.request("GET", "/-/ready").0, 503);
    // Longer than a client may be idle; but it is not: nothing can be committed for it.
    thread::sleep(Duration::from_secs(4));
    let later = serve.scrape();
    assert!(sent(&down) > 0);
    assert_eq!(sent(&later), sent(&down));
    assert!(later.float("ztmon_store_uncommitted_bytes") > 0.0);
    fs::rename(&away, &db).unwrap();
    eventually("everything", || (sent(&serve.scrape()) > sent(&down)).then_some(()));
    assert_eq!(serve.logged("was deleted, moved away or replaced"), 1);
    serve.stop();
}
