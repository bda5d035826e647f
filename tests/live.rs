//! `ztmon serve` on devices, in network namespaces that these tests make. They take root and iproute2.
#![cfg(all(target_os = "linux", feature = "live"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use rustix::process::Signal;
use support::net::Namespace;
use support::numbers::{Total, Totals, replay, report};
use support::pcap::{Capture, Packet, SECOND};
use support::serve::{Serve, Setup};
use support::{OBSERVER, eventually, real, run};
use tempfile::tempdir;

const NOTHING: Total = Total { sent_bytes: 0, received_bytes: 0, sent_packets: 0, received_packets: 0 };

/// `packets` from one client to another, each of `bytes` and with its copy. `batch` makes them unlike any others.
fn batch(batch: u32, packets: u32, bytes: u16) -> Capture {
    let mut capture = Capture::default();
    for number in 0..packets {
        let packet = Packet { src: [10, 0, 0, 1], dst: [10, 0, 0, 2], len: bytes, number: batch * 10_000 + number };
        capture.add_teed(SECOND + u64::from(number) * 10_000, &packet);
    }
    capture
}

/// What the two clients of `batch` moved together so far.
fn totals(network: &str, packets: u64, bytes: u64) -> Totals {
    let sent = Total { sent_bytes: bytes, sent_packets: packets, ..NOTHING };
    let received = Total { received_bytes: bytes, received_packets: packets, ..NOTHING };
    let who = |end: &str| (network.to_owned(), end.to_owned());
    Totals([(who("10.0.0.1"), sent), (who("10.0.0.2"), received)].into())
}

#[test]
fn a_device_gives_the_numbers_of_its_recording() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztvaq2ysom", "wire", Some(OBSERVER));
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let serve = Setup::within(&net, &db).start();
    let line = serve.wait_for_log("capturing on ztvaq2ysom", 1);
    assert!(line.ends_with(&format!("link type 1, own MAC {OBSERVER}")), "{line}");

    let recording = Capture::read(&real("tee-both.pcap"));
    let frames = recording.0.len() as u64;
    net.play("wire", &recording);
    let expected = replay(&real("tee-both.pcap"), &["--observer-mac", OBSERVER]);
    let metrics = serve.scrape_at(frames, NOTHING);
    assert_eq!(metrics.totals(), expected);
    assert_eq!(report(&db, "live"), expected);
    assert_eq!(metrics.sum("ztmon_tee_pairs_total"), 1555);
    // The observer's own traffic, which is not tee'd, waits for no copy.
    assert_eq!(metrics.sum("ztmon_tee_singles_total"), 0);
    assert_eq!(metrics.float("ztmon_capture_up"), 1.0);
    let metrics = eventually("libpcap's count", || {
        let metrics = serve.scrape();
        (metrics.sum("ztmon_capture_packets_received_total") == frames).then_some(metrics)
    });
    assert_eq!(metrics.sum("ztmon_capture_packets_dropped_total"), 0);
    serve.stop();
    assert_eq!(report(&db, "live"), expected);
}

#[test]
fn networks_with_the_same_addresses_are_kept_apart() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "one", None);
    net.add_device("zttwo", "two", None);
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let devices = ["--zerotier-device", "ztone", "--zerotier-device", "zttwo"];
    let serve = Setup::within(&net, &db).args(devices).start();
    serve.wait_for_log("capturing on ztone", 1);
    serve.wait_for_log("capturing on zttwo", 1);
    // The same packets in both: no copies of each other, either.
    net.play("one", &batch(1, 10, 100));
    net.play("two", &batch(1, 10, 100));
    net.play("two", &batch(2, 5, 1000));
    let expected = totals("ztone", 10, 1000).plus(&totals("zttwo", 15, 6000));
    let metrics = serve.scrape_at(50, NOTHING);
    assert_eq!(metrics.totals(), expected);
    assert_eq!(metrics.sum_where("ztmon_frames_total", "network", "ztone"), 20);
    assert_eq!(metrics.sum_where("ztmon_tee_pairs_total", "network", "zttwo"), 15);
    assert_eq!(report(&db, "live"), expected);
    let csv = run(support::ztmon().args(["report", "--format", "csv", "--by", "pair", "--db"]).arg(&db)).stdout;
    let lines: Vec<_> = csv.lines().map(|line| line.split(',').take(5).collect::<Vec<_>>().join(",")).collect();
    assert_eq!(
        lines,
        ["network,src,dst,bytes,packets", "ztone,10.0.0.1,10.0.0.2,1000,10", "zttwo,10.0.0.1,10.0.0.2,6000,15"]
    );
    serve.stop();

    // One of them alone goes on where it was; what the database knows of the other one stays to be seen.
    let serve = Setup::within(&net, &db).args(&devices[2..]).start();
    serve.wait_for_log("capturing on zttwo", 1);
    net.play("two", &batch(3, 1, 500));
    let before = expected.sum();
    let expected = expected.plus(&totals("zttwo", 1, 500));
    assert_eq!(serve.scrape_at(2, before).totals(), expected);
    serve.stop();
    assert_eq!(report(&db, "live"), expected);
}

#[test]
fn without_a_name_the_first_device_is_taken() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("eth0", "uplink", None);
    net.add_device("ztone", "one", None);
    net.add_device("zttwo", "two", None);
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let serve = Setup::within(&net, &db).start();
    let line = serve.wait_for_log("WARN", 1);
    assert!(line.ends_with("capturing on ztone only; there are also zttwo (--zerotier-device all)"), "{line}");
    serve.wait_for_log("capturing on ztone,", 1);
    net.play("two", &batch(1, 5, 1000));
    net.play("uplink", &batch(2, 5, 1000));
    net.play("one", &batch(3, 10, 100));
    assert_eq!(serve.scrape_at(20, NOTHING).totals(), totals("", 10, 1000));
    assert_eq!(serve.stop().stderr.matches("WARN").count(), 1);
}

#[test]
fn all_takes_every_zerotier_device_and_later_ones() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("eth0", "uplink", None);
    net.add_device("ztone", "one", None);
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let serve = Setup::within(&net, &db).args(["--zerotier-device", "all"]).start();
    serve.wait_for_log("capturing on ztone", 1);
    net.play("one", &batch(1, 10, 100));
    assert_eq!(serve.scrape_at(20, NOTHING).totals(), totals("", 10, 1000));
    net.add_device("zttwo", "two", None);
    serve.wait_for_log("capturing on zttwo", 1);
    net.play("uplink", &batch(2, 5, 1000));
    net.play("two", &batch(3, 3, 200));
    let expected = totals("ztone", 10, 1000).plus(&totals("zttwo", 3, 600));
    assert_eq!(serve.scrape_at(26, NOTHING).totals(), expected);
    let log = serve.stop().stderr;
    assert!(!log.contains("eth0") && !log.contains("WARN"), "{log}");
    assert_eq!(report(&db, "live"), expected);
}

/// Sends ten new packets, and waits until they count on top of all before them.
fn ten_more(net: &Namespace, serve: &Serve, round: u32) {
    net.play("wire", &batch(round, 10, 100));
    let (frames, packets) = (u64::from(round) * 20, u64::from(round) * 10);
    assert_eq!(serve.scrape_at(frames, NOTHING).totals(), totals("", packets, packets * 100));
}

#[test]
fn capture_follows_a_device_that_goes_and_comes_back() {
    let Some(net) = Namespace::new() else { return };
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let serve = Setup::within(&net, &db).start();
    serve.wait_for_log("no ZeroTier device yet; waiting for one (--zerotier-device names another)", 1);
    assert_eq!(serve.request("GET", "/-/ready").0, 200);
    assert_eq!(serve.scrape().totals(), Totals::default());
    let up = |expected: f64| {
        eventually("ztmon_capture_up", || (serve.scrape().float("ztmon_capture_up") == expected).then_some(()));
    };

    net.add_device("ztone", "wire", None);
    serve.wait_for_log("capturing on ztone", 1);
    ten_more(&net, &serve, 1);
    up(1.0);

    // It comes back with another index, as after a restart of ZeroTier.
    net.ip(&["link", "del", "ztone"]);
    serve.wait_for_log("ztone: lost", 1);
    up(0.0);
    net.add_device("ztone", "wire", None);
    serve.wait_for_log("capturing on ztone", 2);
    ten_more(&net, &serve, 2);
    up(1.0);

    net.ip(&["link", "set", "ztone", "down"]);
    serve.wait_for_log("ztone: lost", 2);
    up(0.0);
    net.ip(&["link", "set", "ztone", "up"]);
    serve.wait_for_log("capturing on ztone", 3);
    ten_more(&net, &serve, 3);

    // Gone and back before anyone can look.
    serve.signal(Signal::STOP);
    net.ip(&["link", "del", "ztone"]);
    net.add_device("ztone", "wire", None);
    serve.signal(Signal::CONT);
    serve.wait_for_log("capturing on ztone", 4);
    ten_more(&net, &serve, 4);
    eventually("libpcap's count", || (serve.scrape().sum("ztmon_capture_packets_received_total") == 80).then_some(()));

    // One line for every change, told once.
    let log = serve.stop().stderr;
    let lines: Vec<_> = log.lines().filter_map(|line| line.split_once(' ')).map(|(_, line)| line).collect();
    let captures = lines.iter().filter(|line| line.contains("ztone"));
    let captures: Vec<_> =
        captures.filter_map(|line| ["capturing", "lost"].into_iter().find(|it| line.contains(it))).collect();
    assert_eq!(captures, ["capturing", "lost", "capturing", "lost", "capturing", "lost", "capturing"], "{log}");
    assert!(lines.windows(2).all(|lines| lines[0] != lines[1]), "{log}");
    assert_eq!(lines.iter().filter(|line| line.contains("no ZeroTier device yet")).count(), 1, "{log}");
    assert_eq!(report(&db, "live"), totals("", 40, 4000));
}

#[test]
fn what_arrived_before_a_device_vanished_is_counted() {
    let Some(net) = Namespace::new() else { return };
    let dir = tempdir().unwrap();
    let serve = Setup::within(&net, &dir.path().join("ztmon.db")).start();
    for round in 1..=10 {
        net.add_device("ztone", "wire", None);
        serve.wait_for_log("capturing on ztone", round as usize);
        let mut burst = batch(round, 50, 100);
        burst.0.iter_mut().for_each(|frame| frame.time = SECOND);
        net.play("wire", &burst);
        net.ip(&["link", "del", "ztone"]);
        let packets = u64::from(round) * 50;
        assert_eq!(serve.scrape_at(packets * 2, NOTHING).totals(), totals("", packets, packets * 100));
    }
    serve.stop();
}

#[test]
fn what_arrived_before_a_stop_is_counted() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    for round in 1..=10 {
        let serve = Setup::within(&net, &db).start();
        serve.wait_for_log("capturing on ztone", 1);
        let mut burst = batch(round, 50, 100);
        burst.0.iter_mut().for_each(|frame| frame.time = SECOND);
        net.play("wire", &burst);
        serve.stop();
        let packets = u64::from(round) * 50;
        assert_eq!(report(&db, "live"), totals("", packets, packets * 100));
    }
}

#[test]
fn a_named_device_is_waited_for() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztother", "other", None);
    let dir = tempdir().unwrap();
    let serve = Setup::within(&net, &dir.path().join("ztmon.db")).args(["--zerotier-device", "ztone"]).start();
    serve.wait_for_log("ztone: waiting for it: ", 1);
    net.play("other", &batch(1, 10, 100));
    net.add_device("ztone", "wire", None);
    serve.wait_for_log("capturing on ztone", 1);
    net.play("wire", &batch(2, 3, 100));
    assert_eq!(serve.scrape_at(6, NOTHING).totals(), totals("", 3, 300));
    // Signals end it also while it waits.
    net.ip(&["link", "del", "ztone"]);
    serve.wait_for_log("ztone: lost", 1);
    serve.signal(Signal::INT);
    assert_eq!(serve.end().code, Some(0));
}

#[test]
fn without_the_capability_it_says_what_to_do() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let mut command = net.command("setpriv");
    command.args(["--bounding-set=-net_raw", "--inh-caps=-net_raw", env!("CARGO_BIN_EXE_ztmon")]);
    let ended = run(command.args(["serve", "--listen-address", "127.0.0.1:0", "--db"]).arg(&db));
    assert!(ended.refusal().starts_with("ztmon: not allowed to capture ("), "{ended:?}");
    assert!(ended.refusal().ends_with("run as root or with CAP_NET_RAW (systemd: AmbientCapabilities=CAP_NET_RAW)"));
    assert!(!db.exists());
}
