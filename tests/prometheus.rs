//! What Prometheus makes of `/metrics`. These tests take Debian's `prometheus` package, and do without where it is not.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use support::numbers::{Metrics, Total, replay, report};
use support::pcap::{Capture, Packet, SECOND};
use support::prometheus::{Prometheus, is_there};
use support::serve::Setup;
use support::{OBSERVER, eventually, real, run, ztmon};
use tempfile::tempdir;

const NOTHING: Total = Total { sent_bytes: 0, received_bytes: 0, sent_packets: 0, received_packets: 0 };

/// That promtool finds nothing to say.
fn assert_clean(metrics: &Metrics) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(metrics.text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn promtool_has_nothing_to_say_about_one_network() {
    if !is_there("promtool") {
        return;
    }
    let dir = tempdir().unwrap();
    let serve = Setup::new(&dir.path().join("ztmon.db")).source(&real("tee-both.pcap"), "max").start();
    let metrics = serve.scrape_at(3398, NOTHING);
    assert!(metrics.text.contains("process_start_time_seconds"));
    assert_clean(&metrics);
    serve.stop();
}

#[test]
#[cfg(feature = "live")]
fn promtool_has_nothing_to_say_about_two_networks() {
    if !is_there("promtool") {
        return;
    }
    let Some(net) = support::net::Namespace::new() else { return };
    net.add_device("ztone", "one", None);
    net.add_device("zttwo", "two", None);
    let dir = tempdir().unwrap();
    let serve = Setup::within(&net, &dir.path().join("ztmon.db")).args(["--zerotier-device", "all"]).start();
    serve.wait_for_log("capturing on", 2);
    net.play("one", &packets(1, 3));
    net.play("two", &packets(2, 4));
    let metrics = serve.scrape_at(14, NOTHING);
    assert!(metrics.text.contains(r#"zerotier_host_sent_packets_total{addr="10.0.0.1",network="zttwo"} 4"#));
    assert_clean(&metrics);
    serve.stop();
}

/// So many packets of 1000 bytes from a client to another, and every fifth beyond the network, with their copies.
/// `batch` makes them unlike any others.
fn packets(batch: u32, packets: u32) -> Capture {
    let mut capture = Capture::default();
    for number in 0..packets {
        let dst = if number % 5 == 4 { [192, 0, 2, 1] } else { [10, 0, 0, 2] };
        let packet = Packet { src: [10, 0, 0, 1], dst, len: 1000, number: batch * 100_000 + number };
        capture.add_teed(1_700_000_000 * SECOND + u64::from(number) * 10_000, &packet);
    }
    capture
}

#[test]
fn prometheus_sums_up_to_the_truth() {
    if !is_there("prometheus") {
        return;
    }
    let dir = tempdir().unwrap();
    let mac = ["--observer-mac", OBSERVER];
    let truth = replay(&real("tee-both.pcap"), &mac);
    let serve = Setup::new(&dir.path().join("ztmon.db")).source(&real("tee-both.pcap"), "max").args(mac).start();
    serve.scrape_at(3398, NOTHING);
    let prometheus = Prometheus::scraping(serve.address());
    prometheus.wait_for("up{job='ztmon'}", 1.0);
    let sum = truth.sum();
    for (counter, all) in [
        ("sent_bytes", sum.sent_bytes),
        ("received_bytes", sum.received_bytes),
        ("sent_packets", sum.sent_packets),
        ("received_packets", sum.received_packets),
    ] {
        let query = format!("sum(zerotier_host_{counter}_total) + sum(zerotier_other_end_{counter}_total)");
        assert_eq!(prometheus.number(&query), Some(all as f64), "{query}");
    }
    let clients = truth.0.keys().filter(|(_, end)| !["external", "multicast", "other"].contains(&end.as_str()));
    assert_eq!(prometheus.number("count(zerotier_host_sent_bytes_total)"), Some(clients.count() as f64));
    for ((_, end), total) in truth.0.iter().filter(|((_, end), _)| end.contains(['.', ':'])) {
        let query = format!("zerotier_host_received_bytes_total{{addr='{end}'}}");
        assert_eq!(prometheus.number(&query), Some(total.received_bytes as f64), "{query}");
    }
    serve.stop();
}

#[test]
fn an_increase_is_what_was_captured_whatever_else_happens() {
    if !is_there("prometheus") {
        return;
    }
    let dir = tempdir().unwrap();
    let (db, file) = (dir.path().join("ztmon.db"), |name: &str| dir.path().join(name));
    let write = |name: &str, capture: &Capture| {
        let path: &Path = &file(name);
        capture.write(path);
        path.to_owned()
    };
    let (first, second) = (write("first.pcap", &packets(1, 100)), write("second.pcap", &packets(2, 50)));
    let old = write("old.pcap", &packets(3, 20_000));
    let none = write("none.pcap", &Capture::default());
    let series = "zerotier_host_sent_bytes_total{addr='10.0.0.1'}";
    let [after_first, after_second] = [100_000.0, 150_000.0];

    // A scrape, …
    let serve = Setup::new(&db).source(&first, "max").start();
    serve.scrape_at(200, NOTHING);
    let address = serve.address();
    let prometheus = Prometheus::scraping(address);
    eventually("three scrapes", || {
        (prometheus.number(&format!("count_over_time({series}[10m])")) >= Some(3.0)).then_some(())
    });
    assert_eq!(prometheus.number(series), Some(after_first));
    serve.stop();

    // … an import of history, …
    let ended = run(ztmon().args(["replay", "--quiet", "--overlap", "add", "--db"]).arg(&db).arg(&old));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(report(&db, "all").of("", "10.0.0.1").sent_bytes, 20_100_000);

    // … a restart that captures more, and a kill.
    let before = report(&db, "live").sum();
    let serve = Setup::new(&db).source(&second, "max").listen(address).start();
    serve.scrape_at(100, before);
    prometheus.wait_for(series, after_second);
    drop(serve);
    let serve = Setup::new(&db).source(&none, "max").listen(address).start();
    let so_far = prometheus.number("vector(time())").unwrap();
    eventually("three scrapes more", || {
        (prometheus.scraped(series, "10m").iter().filter(|(time, _)| *time > so_far).count() >= 3).then_some(())
    });
    serve.stop();

    let values = prometheus.scraped(series, "10m");
    let (first, last) = (values[0], values[values.len() - 1]);
    assert!(values.iter().all(|(_, value)| [after_first, after_second].contains(value)), "{values:?}");
    assert!(values.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{values:?}");
    assert_eq!((first.1, last.1), (after_first, after_second));
    assert_eq!(prometheus.number(&format!("resets({series}[10m])")), Some(0.0));
    // Nor did any other series go back.
    for family in ["zerotier_host", "zerotier_other_end"] {
        for counter in ["sent_bytes", "received_bytes", "sent_packets", "received_packets"] {
            let name = format!("{family}_{counter}_total");
            assert_eq!(prometheus.number(&format!("max(resets({name}[10m]))")), Some(0.0), "{name}");
        }
    }
    assert_eq!(prometheus.number("zerotier_other_end_received_bytes_total{end='external'}"), Some(30_000.0));
    // Prometheus extrapolates over the ends of the range, by less than the mean distance of two scrapes on either side.
    let captured = after_second - after_first;
    let stretch = 1.0 + 2.4 / (values.len() - 1) as f64;
    let increase = prometheus.number(&format!("increase({series}[10m])")).unwrap();
    assert!(captured <= increase && increase <= captured * stretch, "{increase} of {captured}: {values:?}");
}
