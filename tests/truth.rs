//! The captures of a real network against what its clients saw themselves (`testdata/real/README.md`).
//!
//! The truth is added up here from the clients' own captures, by a reader that shares nothing with ztmon.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The clients and the observer, by MAC.
const CLIENTS: [(&str, [u8; 6]); 3] = [
    ("A", [0xe2, 0xca, 0xf5, 0x4f, 0x70, 0x2e]),
    ("B", [0xe2, 0x20, 0xdc, 0x76, 0xbb, 0x75]),
    ("C", [0xe2, 0x2d, 0x58, 0x27, 0x38, 0x10]),
];
const OBSERVER: [u8; 6] = [0xe2, 0x53, 0x1a, 0x4b, 0xb7, 0x7c];

/// All IPv4 addresses inside the network.
const IPV4: [&str; 6] = ["10.147.20.11", "10.147.20.12", "10.147.20.13", "10.147.20.20", "100.64.5.11", "100.64.5.12"];

/// Bytes and packets sent, bytes and packets received.
type Sums = BTreeMap<String, [u64; 4]>;

fn real(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/real").join(name)
}

/// One IP packet in a client's capture.
struct Seen {
    from: [u8; 6],
    group: bool,
    src: IpAddr,
    dst: IpAddr,
    len: u64,
}

/// The packets of a classic little-endian pcap of untagged Ethernet.
fn packets(name: &str) -> Vec<Seen> {
    let file = fs::read(real(name)).unwrap();
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(20)), (0xa1b2_c3d4, 1));
    let (mut at, mut found) = (24, Vec::new());
    while at < file.len() {
        let captured = word(at + 8) as usize;
        let frame = &file[at + 16..at + 16 + captured];
        at += 16 + captured;
        let from = frame[6..12].try_into().unwrap();
        let group = frame[0] & 1 == 1;
        let half = |at: usize| u64::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
        let seen = match half(12) {
            0x0800 => {
                let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
                Seen { from, group, src: address(26).into(), dst: address(30).into(), len: half(16) }
            }
            0x86dd => {
                let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
                Seen { from, group, src: address(22).into(), dst: address(38).into(), len: 40 + half(18) }
            }
            _ => continue,
        };
        found.push(seen);
    }
    found
}

/// What each client sent itself, and what each received from the observer. A broadcast of the observer reaches all
/// three, and counts once.
fn truth(run: &str) -> Sums {
    let mut sums = Sums::new();
    for (client, mac) in CLIENTS {
        for packet in packets(&format!("{run}-truth-{client}.pcap")) {
            let own = packet.from == mac;
            let observers = packet.from == OBSERVER && (!packet.group || client == "A");
            if own || observers {
                let src = sums.entry(packet.src.to_string()).or_default();
                (src[0], src[1]) = (src[0] + packet.len, src[1] + 1);
                let dst = sums.entry(packet.dst.to_string()).or_default();
                (dst[2], dst[3]) = (dst[2] + packet.len, dst[3] + 1);
            }
        }
    }
    sums
}

/// What ztmon says, and its standard error. All that was sent was received.
fn replay(run: &str, args: &[&str]) -> (Sums, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ztmon"))
        .arg("replay")
        .args(args)
        .arg(real(&format!("{run}.pcap")))
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    let mut sums = Sums::new();
    for row in String::from_utf8(output.stdout).unwrap().lines().skip(1) {
        let cells: Vec<_> = row.split(',').collect();
        let [sent, received, sent_packets, received_packets] = [1, 2, 3, 4].map(|at| cells[at].parse().unwrap());
        sums.insert(cells[0].to_owned(), [sent, sent_packets, received, received_packets]);
    }
    let total = |at: usize| sums.values().map(|sums| sums[at]).sum::<u64>();
    assert_eq!((total(0), total(1)), (total(2), total(3)), "{run}: sent and received");
    assert!(total(0) > 1_000_000, "{run}: hardly anything was counted");
    (sums, stderr)
}

fn of(sums: &Sums, address: &str) -> [u64; 4] {
    sums.get(address).copied().unwrap_or_default()
}

#[test]
fn the_truth_is_what_the_readme_says() {
    let truth = truth("tee-both");
    let bytes = |address: &str| (of(&truth, address)[0], of(&truth, address)[2]);
    assert_eq!(bytes("10.147.20.11"), (919_017, 100_784));
    assert_eq!(bytes("10.147.20.12"), (452_181, 688_165));
    assert_eq!(bytes("10.147.20.13"), (128_435, 707_634));
    assert_eq!(bytes("10.147.20.20"), (34_572, 34_572));
    assert_eq!(bytes("fd46:cac:ee2d:a7:e199:936d:f562:9e82").0, 179_968);
}

#[test]
fn a_two_sided_tee_gives_the_truth() {
    let truth = truth("tee-both");
    // With and without the observer's MAC: its pings are not repeated, so both give the same.
    for args in [&[][..], &["--observer-mac", "e2:53:1a:4b:b7:7c"]] {
        let (sums, stderr) = replay("tee-both", args);
        for address in IPV4 {
            assert_eq!(of(&sums, address), of(&truth, address), "{address}");
        }
        ipv6_is_near(&sums, &truth);
        assert!(!stderr.contains("warning"), "{stderr}");
    }
}

#[test]
fn a_one_sided_tee_gives_the_truth() {
    let (sums, stderr) = replay("tee-inbound", &["--tee", "one"]);
    let mut truth = truth("tee-inbound");
    // C's packets to a group that nobody joined reached no receiver that could have sent a copy.
    let unjoined = IpAddr::from([224, 0, 0, 251]);
    let unseen: Vec<_> = packets("tee-inbound-truth-C.pcap").into_iter().filter(|p| p.dst == unjoined).collect();
    let unseen_bytes: u64 = unseen.iter().map(|packet| packet.len).sum();
    let c = truth.get_mut("10.147.20.13").unwrap();
    (c[0], c[1]) = (c[0] - unseen_bytes, c[1] - unseen.len() as u64);
    assert_eq!(unseen.len(), 10);
    for address in IPV4 {
        assert_eq!(of(&sums, address), of(&truth, address), "{address}");
    }
    ipv6_is_near(&sums, &truth);
    assert!(!stderr.contains("warning"), "{stderr}");
}

#[test]
fn twenty_bytes_give_the_truth_of_ipv4() {
    let truth = truth("tee-20");
    let (sums, stderr) = replay("tee-20", &["--tee-bytes", "20"]);
    for address in IPV4.iter().filter(|address| **address != "10.147.20.11") {
        assert_eq!(of(&sums, address), of(&truth, address), "{address}");
    }
    // A's broadcasts look alike in 20 bytes, so those within a window of one another count once.
    let (found, true_sums) = (of(&sums, "10.147.20.11"), of(&truth, "10.147.20.11"));
    assert_eq!(found[2..], true_sums[2..]);
    assert!(found[0] <= true_sums[0] && true_sums[0] - found[0] <= true_sums[0] / 1000, "{found:?} {true_sums:?}");

    // IPv6 addresses do not fit into 20 bytes. What O sent itself came whole.
    let addresses = sums.keys().filter(|address| address.contains(':')).collect::<Vec<_>>();
    assert_eq!(addresses, ["fe80::e053:1aff:fe4b:b77c"]);
    let cut = packets_of_ipv6("tee-20.pcap");
    assert!(cut > 500, "{cut}");
    assert!(stderr.contains(&format!("+ {cut} malformed +")), "{stderr}");
    let warning = format!("warning: {cut} IPv6 packets were cut at 20 bytes, before the addresses end");
    assert!(stderr.contains(&warning) && stderr.contains("needs 20 bytes for IPv4 and 40 for IPv6"), "{stderr}");
}

/// Frames at the observer that say IPv6 and have 20 bytes of it.
fn packets_of_ipv6(name: &str) -> usize {
    let file = fs::read(real(name)).unwrap();
    let captured = |at: usize| u32::from_le_bytes(file[at + 8..at + 12].try_into().unwrap()) as usize;
    let mut at = 24;
    std::iter::from_fn(|| {
        let frame = (at < file.len()).then(|| &file[at + 16..at + 16 + captured(at)])?;
        at += 16 + frame.len();
        Some(frame[12..14] == [0x86, 0xdd] && frame.len() == 14 + 20)
    })
    .filter(|cut| *cut)
    .count()
}

/// Local neighbour discovery never reaches the observer, and shares its addresses with what does.
fn ipv6_is_near(sums: &Sums, truth: &Sums) {
    let mut compared = 0;
    for (address, true_sums) in truth.iter().filter(|(address, _)| address.contains(':')) {
        if address.starts_with("fe80:") || address.starts_with("ff") {
            continue;
        }
        compared += 1;
        let found = of(sums, address);
        for (found, true_bytes) in [(found[0], true_sums[0]), (found[2], true_sums[2])] {
            let room = if address == "fd46:cac:ee2d:a7:e199:936d:f562:9e82" { true_bytes / 200 } else { 200 };
            assert!(found.abs_diff(true_bytes) <= room, "{address}: {found} and truly {true_bytes}");
        }
    }
    assert_eq!(compared, 5, "A, B and C in one plan, B and C in the other");
}

/// The totals that the original exporter published, in bytes: received and sent.
#[test]
fn the_original_exporters_sample_gives_its_totals() {
    let output = Command::new(env!("CARGO_BIN_EXE_ztmon"))
        .args(["replay", "--quiet", "--tee-bytes", "20", "--scope", "192.168.124.0/24", "--sort", "addr"])
        .arg(real("exporter-sample.pcap.gz"))
        .output()
        .unwrap();
    let csv = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<String> =
        csv.lines().skip(1).map(|row| row.split(',').take(3).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        rows,
        ["192.168.124.251 199583467 6283878", "192.168.124.252 1260 1346", "192.168.124.253 6282618 199582121"]
    );
}
