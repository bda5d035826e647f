//! Devices that come and go under `ztmon serve`. They take root, iproute2 and python3.
#![cfg(all(target_os = "linux", feature = "live"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use support::net::Namespace;
use support::numbers::{Metrics, report};
use support::pcap::{Capture, Frame, Packet, SECOND};
use support::serve::{Serve, Setup};
use support::{KillOnDrop, eventually, skip};
use tempfile::{TempDir, tempdir};
use ztmon::capture::live::Live;

/// A `serve` in a namespace of its own, with a database of its own.
fn serve<'n>(net: &'n Namespace, flags: &[&str]) -> (Serve<'n>, TempDir) {
    let dir = tempdir().unwrap();
    let serve = Setup::within(net, &dir.path().join("ztmon.db")).args(flags).start();
    (serve, dir)
}

/// `packets` unlike any others, each with its copy.
fn batch(number: u32, packets: u32) -> Capture {
    let mut capture = Capture::default();
    for at in 0..packets {
        let packet = Packet { src: [10, 0, 0, 1], dst: [10, 0, 0, 2], len: 100, number: (number << 24) + at };
        capture.add_teed(SECOND, &packet);
    }
    capture
}

fn wait_until_up(serve: &Serve, up: bool) {
    let expected = f64::from(u8::from(up));
    eventually("ztmon_capture_up", || (serve.scrape().float("ztmon_capture_up") == expected).then_some(()));
}

fn wait_for_frames(serve: &Serve) {
    let before = serve.scrape().sum("ztmon_frames_total");
    eventually("frames", || (serve.scrape().sum("ztmon_frames_total") > before).then_some(()));
}

/// Waits until every frame that libpcap delivered is counted, and what is counted is shown.
fn balanced(serve: &Serve) -> Metrics {
    eventually("every frame that libpcap delivered", || {
        let metrics = serve.scrape();
        let received = metrics.sum("ztmon_capture_packets_received_total");
        let delivered = received - metrics.sum("ztmon_capture_packets_dropped_total");
        let counted = metrics.sum_where("ztmon_frames_total", "outcome", "counted");
        let same = metrics.sum("ztmon_frames_total") == delivered && metrics.totals().sum().sent_packets == counted;
        same.then_some(metrics)
    })
}

/// The same when nothing else is sent into `wire`: a last frame, of ARP, has all before it counted. What is sent before
/// the device is captured again is lost, so another follows where none has arrived after a second.
fn settled(net: &Namespace, serve: &Serve) -> Metrics {
    let others = || serve.scrape().sum_where("ztmon_frames_total", "outcome", "not_ip");
    let before = others();
    let arp = Frame { time: SECOND, len: 60, data: [&[0xff; 12][..], &[8, 6], &[0; 46]].concat() };
    let last = Capture(vec![arp]);
    let mut sent: Option<Instant> = None;
    eventually("the last frame", || {
        if sent.is_none_or(|sent| sent.elapsed() > Duration::from_secs(1)) {
            net.play("wire", &last);
            sent = Some(Instant::now());
        }
        (others() > before).then_some(())
    });
    balanced(serve)
}

/// Descriptors, threads and resident kilobytes of the process.
fn resources(serve: &Serve) -> (usize, u64, u64) {
    (serve.descriptors(), serve.status("Threads"), serve.status("VmRSS"))
}

#[test]
fn every_frame_counts_of_a_device_that_is_made_again_and_again() {
    let Some(net) = Namespace::new() else { return };
    let rounds = std::env::var("ZTMON_ROUNDS").map_or(40, |rounds| rounds.parse().unwrap());
    let (serve, dir) = serve(&net, &[]);
    let mut before = None;
    let (sent, ()) = net.under_traffic("wire", || {
        for round in 1..=rounds {
            net.add_device("ztone", "wire", None);
            // Long enough to be captured, too short, or anything between.
            sleep(Duration::from_millis(round * 137 % 500));
            if round % 10 == 0 {
                wait_for_frames(&serve);
                before = before.or_else(|| Some(resources(&serve)));
            }
            net.ip(&["link", "del", "ztone"]);
            sleep(Duration::from_millis(round * 61 % 200));
        }
        net.add_device("ztone", "wire", None);
        wait_for_frames(&serve);
    });
    let metrics = settled(&net, &serve);
    let frames = metrics.sum("ztmon_frames_total");
    println!("{rounds} rounds: {sent} frames sent, {frames} counted; {before:?}, then {:?}", resources(&serve));
    assert!(frames > rounds && frames <= sent);
    let before = before.unwrap();
    eventually("no more descriptors and threads than before", || {
        let now = resources(&serve);
        (now.0 <= before.0 && now.1 <= before.1).then_some(())
    });
    let after = resources(&serve);
    assert!(after.2 < before.2 + 16 * 1024, "{before:?} became {after:?}");
    let lines = serve.logged("ztone");
    assert!(lines <= 40, "{lines} lines");
    serve.stop();
    assert_eq!(report(&dir.path().join("ztmon.db"), "live"), metrics.totals());
}

#[test]
fn nothing_is_lost_between_down_and_up() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    let (serve, _dir) = serve(&net, &[]);
    serve.wait_for_log("capturing on ztone", 1);
    net.under_traffic("wire", || {
        for round in 0..10 {
            net.ip(&["link", "set", "ztone", "down"]);
            sleep(Duration::from_millis(round * 97 % 400));
            net.ip(&["link", "set", "ztone", "up"]);
            wait_for_frames(&serve);
        }
    });
    settled(&net, &serve);
}

#[test]
fn a_device_without_a_carrier_is_waited_for_in_silence() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    let (serve, _dir) = serve(&net, &[]);
    serve.wait_for_log("capturing on ztone", 1);
    for round in 1..=3 {
        net.ip(&["link", "set", "wire", "down"]);
        sleep(Duration::from_millis(300));
        net.ip(&["link", "set", "wire", "up"]);
        net.play("wire", &batch(round, 5));
        assert_eq!(settled_at(&serve, u64::from(round) * 10).sum("ztmon_tee_pairs_total"), u64::from(round) * 5);
    }
    assert_eq!(serve.logged("ztone"), 1);
}

/// Waits until so many frames have come, no more and no fewer, and all of them count.
fn settled_at(serve: &Serve, frames: u64) -> Metrics {
    eventually("the frames that were sent", || (serve.scrape().sum("ztmon_frames_total") >= frames).then_some(()));
    let metrics = balanced(serve);
    assert_eq!(metrics.sum("ztmon_frames_total"), frames);
    metrics
}

#[test]
fn a_renamed_device_is_lost_until_it_has_its_name_back() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    let (serve, _dir) = serve(&net, &["--zerotier-device", "ztone"]);
    serve.wait_for_log("capturing on ztone", 1);
    net.under_traffic("wire", || {
        for round in 1..=5 {
            wait_for_frames(&serve);
            net.ip(&["link", "set", "ztone", "name", "other"]);
            serve.wait_for_log("ztone: lost: the device is gone; waiting for it", round);
            wait_until_up(&serve, false);
            // Its frames go on, and are no longer taken in.
            balanced(&serve);
            net.ip(&["link", "set", "other", "name", "ztone"]);
            serve.wait_for_log("capturing on ztone", round + 1);
        }
    });
    settled(&net, &serve);
}

#[test]
fn all_follows_a_device_under_its_new_names() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("zt0", "wire", None);
    let (serve, _dir) = serve(&net, &["--zerotier-device", "all"]);
    serve.wait_for_log("capturing on zt0", 1);
    net.under_traffic("wire", || {
        for round in 1..=3 {
            net.ip(&["link", "set", &format!("zt{}", round - 1), "name", &format!("zt{round}")]);
            serve.wait_for_log(&format!("capturing on zt{round}"), 1);
            wait_for_frames(&serve);
        }
    });
    settled(&net, &serve);
}

/// Or the frames of a device that is renamed would count twice until its old name is seen to be gone.
#[test]
fn a_device_is_captured_once_at_a_time() {
    let Some(net) = Namespace::new() else { return };
    net.run(|| {
        let open = || Live::open("lo", 64, 1 << 20);
        let first = open().unwrap();
        assert!(open().is_err_and(|error| error.to_string().contains("captured under another name")));
        drop(first);
        assert!(open().is_ok());
    });
}

#[test]
fn all_follows_every_device() {
    let Some(net) = Namespace::new() else { return };
    let (serve, _dir) = serve(&net, &["--zerotier-device", "all"]);
    let names = ["ztone", "zttwo", "ztthree"];
    net.under_traffic("wireztone", || {
        for round in 1..=3 {
            for name in names {
                net.add_device(name, &format!("wire{name}"), None);
            }
            for name in names {
                serve.wait_for_log(&format!("capturing on {name}"), round);
            }
            wait_for_frames(&serve);
            for name in names {
                net.ip(&["link", "del", name]);
            }
            for name in names {
                serve.wait_for_log(&format!("{name}: lost"), round);
            }
        }
    });
    let metrics = balanced(&serve);
    for name in names {
        assert_eq!(metrics.sum_where("ztmon_capture_up", "network", name), 0);
        let lines = [format!("capturing on {name}"), format!("{name}: lost")].map(|line| serve.logged(&line));
        // Once a round it may be seen before it is up. There is no other line.
        let early = serve.logged(&format!("{name}: waiting for it: libpcap error: That device is not up"));
        assert!(early <= 3, "{early} lines");
        assert_eq!((lines, serve.logged(name)), ([3, 3], 6 + early));
    }
}

#[test]
fn a_device_that_flaps_does_not_flood_the_log() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    let (serve, _dir) = serve(&net, &[]);
    serve.wait_for_log("capturing on ztone", 1);
    for _ in 0..25 {
        net.ip(&["link", "set", "ztone", "down"]);
        wait_until_up(&serve, false);
        net.ip(&["link", "set", "ztone", "up"]);
        wait_until_up(&serve, true);
    }
    net.play("wire", &batch(1, 5));
    settled_at(&serve, 10);
    let lines = serve.logged("ztone");
    // Where this takes minutes, each of them adds one.
    assert!((20..40).contains(&lines), "{lines} lines");
}

#[test]
fn a_changed_mac_is_noticed() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", Some("02:00:00:00:00:01"));
    let (serve, _dir) = serve(&net, &[]);
    serve.wait_for_log("own MAC 02:00:00:00:00:01", 1);
    net.play("wire", &batch(1, 5));
    let metrics = settled_at(&serve, 10);
    assert_eq!((metrics.sum("ztmon_tee_frames_total"), metrics.sum("ztmon_tee_pairs_total")), (10, 5));
    // That of 10.0.0.1: its packets are the observer's own now, and have no copies.
    net.ip(&["link", "set", "ztone", "address", "e2:53:0a:00:00:01"]);
    serve.wait_for_log("ztone: own MAC is now e2:53:0a:00:00:01", 1);
    net.play("wire", &batch(2, 5));
    let metrics = settled_at(&serve, 20);
    assert_eq!((metrics.sum("ztmon_tee_frames_total"), metrics.sum("ztmon_tee_pairs_total")), (10, 5));
    assert_eq!(metrics.totals().sum().sent_packets, 15);
    assert_eq!(serve.logged("capturing"), 1);
}

/// A device without Ethernet. What is written to it arrives there; it is gone when dropped.
struct Tun(#[allow(dead_code)] KillOnDrop, ChildStdin);

impl Tun {
    /// `hardware` is the system's number for the kind of its frames.
    fn new(net: &Namespace, name: &str, hardware: u32) -> Tun {
        let script = "
import fcntl, os, struct, sys
tun = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', sys.argv[1].encode(), 0x1001))
fcntl.ioctl(tun, 0x400454cd, int(sys.argv[2]))
for line in sys.stdin:
    os.write(tun, bytes.fromhex(line))";
        let mut python = net.command("python3");
        python.args(["-c", script, name, &hardware.to_string()]).stdin(Stdio::piped());
        let mut child = KillOnDrop(python.spawn().unwrap());
        let stdin = child.0.stdin.take().unwrap();
        // It is there when it can be set up.
        let set = ["link", "set", name, "up"];
        eventually("the tun device", || (net.try_ip(&set).code == Some(0)).then_some(()));
        Tun(child, stdin)
    }

    fn send(&mut self, capture: &Capture) {
        for frame in &capture.0 {
            let packet: String = frame.data[14..].iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(self.1, "{packet}").unwrap();
        }
    }
}

#[test]
fn a_device_may_come_back_as_another_kind() {
    const NO_HEADER: u32 = 0xfffe;
    const RADIOTAP: u32 = 803;
    let Some(net) = Namespace::new() else { return };
    if !Path::new("/dev/net/tun").exists() {
        return skip("there is no /dev/net/tun");
    }
    let (serve, _dir) = serve(&net, &["--zerotier-device", "ztone"]);
    net.add_device("ztone", "wire", None);
    serve.wait_for_log("capturing on ztone, link type 1,", 1);
    net.play("wire", &batch(1, 5));
    settled_at(&serve, 10);
    net.ip(&["link", "del", "ztone"]);

    let mut tun = Tun::new(&net, "ztone", NO_HEADER);
    serve.wait_for_log("capturing on ztone, link type 12, own MAC unknown", 1);
    tun.send(&batch(2, 5));
    assert_eq!(settled_at(&serve, 20).sum("ztmon_tee_pairs_total"), 10);
    drop(tun);

    serve.wait_for_log("ztone: lost", 2);
    let mut tun = Tun::new(&net, "ztone", RADIOTAP);
    serve.wait_for_log("capturing on ztone, link type 127, own MAC unknown", 1);
    tun.send(&batch(3, 5));
    assert_eq!(settled_at(&serve, 30).sum_where("ztmon_frames_total", "outcome", "unsupported_link"), 10);
    drop(tun);

    serve.wait_for_log("ztone: lost", 3);
    net.add_device("ztone", "wire", None);
    serve.wait_for_log("capturing on ztone, link type 1,", 2);
    net.play("wire", &batch(4, 5));
    assert_eq!(settled_at(&serve, 40).sum("ztmon_tee_pairs_total"), 15);
    assert_eq!(serve.logged("WARN"), 0);
}

#[test]
fn a_name_may_become_another_networks() {
    let networks = [
        ("8056c2e21c000001", "02:89:e9:30:0c:27", "fd80:56c2:e21c:0:199:9389:e92c:eee5"),
        ("a09acf0233e4b070", "72:a1:c6:00:46:9a", "fda0:9acf:233:e4b0:7099:9311:2233:4455"),
    ];
    let Some(net) = Namespace::new() else { return };
    let (serve, dir) = serve(&net, &["--zerotier-device", "zt"]);
    for (round, (_, mac, address)) in (1..).zip(networks) {
        net.add_device("zt", "wire", None);
        net.ip(&["link", "set", "zt", "down"]);
        net.allow_ipv6("zt");
        net.ip(&["link", "set", "zt", "address", mac, "addrgenmode", "none"]);
        net.ip(&["link", "set", "zt", "up"]);
        net.ip(&["address", "add", &format!("{address}/88"), "dev", "zt", "nodad"]);
        serve.wait_for_log("capturing on zt", round);
        net.play("wire", &batch(round as u32, 5 * round as u32));
        eventually("the packets", || (serve.scrape().totals().sum().sent_packets >= [5, 15][round - 1]).then_some(()));
        net.ip(&["link", "del", "zt"]);
        serve.wait_for_log("zt: lost", round);
    }
    let totals = balanced(&serve).totals();
    for (packets, (network, ..)) in [5, 10].into_iter().zip(networks) {
        assert_eq!(totals.of(network, "10.0.0.1").sent_packets, packets);
    }
    serve.stop();
    assert_eq!(report(&dir.path().join("ztmon.db"), "live"), totals);
}

#[test]
fn without_descriptors_the_capture_goes_on() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    let (serve, _dir) = serve(&net, &[]);
    serve.wait_for_log("capturing on ztone", 1);
    let allow = |descriptors| {
        let limit = Rlimit { current: Some(descriptors), maximum: Some(100) };
        prlimit(Pid::from_raw(serve.pid() as i32), Resource::Nofile, limit).unwrap();
    };
    // None but those it has.
    allow(3);
    let silent = net.run(|| (0..50).map(|_| TcpStream::connect(serve.address()).unwrap()).collect::<Vec<_>>());
    // Long enough to look at the device some times.
    sleep(Duration::from_secs(1));
    net.play("wire", &batch(1, 5));
    allow(100);
    settled_at(&serve, 10);
    drop(silent);
    assert_eq!(serve.logged("ztone"), 1);
}

#[test]
fn clients_that_dawdle_hold_up_no_frame() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    let (serve, _dir) = serve(&net, &[]);
    serve.wait_for_log("capturing on ztone", 1);
    let (sent, ()) = net.under_traffic("wire", || {
        // More than have a place: half of a request, or a whole one whose answer nobody takes.
        let mut clients = Vec::new();
        net.run(|| {
            for request in ["GET /", "GET /metrics HTTP/1.1\r\n\r\n"].into_iter().cycle().take(800) {
                let mut client = TcpStream::connect(serve.address()).unwrap();
                client.write_all(request.as_bytes()).ok();
                clients.push(client);
            }
        });
        wait_for_frames(&serve);
    });
    let metrics = settled(&net, &serve);
    assert_eq!(metrics.sum("ztmon_capture_packets_dropped_total"), 0);
    // And the last one, of ARP.
    assert_eq!(metrics.sum("ztmon_frames_total"), sent + 1);
}
