//! ztmon against tshark, over every undamaged capture under `testdata/`: who sent how many bytes to whom.
//!
//! Copies are no matter here: `--tee none`, and all addresses in scope.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fixtures;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use fixtures::Fixture;

/// Where tshark is known to see something else, and why that is not what counts.
const SEEN_OTHERWISE: [(&str, &str); 14] = [
    ("link/ipv4-length-zero-malformed", "takes the frame's length for a stated 0, whatever it is"),
    ("link/ipv6-length-zero", "takes 0 for what it says"),
    ("link/loop", "knows no family 10, which is Linux's"),
    ("link/null", "knows no family 10, which is Linux's, and no IPv6 in the other byte order"),
    ("link/options-not-captured", "wants the options captured"),
    ("link/vlan-tags-deep", "gives up on so many layers"),
    ("link/vlan-tags-rare", "knows neither 0x9200 nor 0x9300"),
    ("time/gzip-padded", "takes zeros behind a member for damage"),
    ("time/pcapng-option-lies", "refuses a file for an option"),
    ("time/pcapng-option-lies-later", "refuses a file for an option"),
    ("time/pcapng-simple-cut", "refuses a simple packet that its block cuts"),
    ("time/pcapng-simple-snaplen-33", "refuses a simple packet whose block is longer than the snaplen"),
    ("time/pcapng-simple-snaplen-34", "refuses a simple packet whose block is longer than the snaplen"),
    ("time/zstd-skippable", "does not know zstd by a skippable frame"),
];

/// What tshark is asked for. The first occurrence of a field is the outermost header's.
const FIELDS: [&str; 9] =
    ["frame.protocols", "eth.dst", "sll.pkttype", "ip.src", "ip.dst", "ip.len", "ipv6.src", "ipv6.dst", "ipv6.plen"];

/// Protocols that may stand between the frame and the packet that counts.
const LINK: [&str; 10] = ["eth", "ethertype", "vlan", "ieee8021ad", "sll", "null", "raw", "ip", "ipv6", "frame"];

/// Bytes and packets of each source and destination.
type Pairs = BTreeMap<(String, String), (u64, u64)>;

fn by_tshark(fixture: &Fixture) -> Result<Pairs, String> {
    let output = Command::new("tshark")
        .args(["-n", "-o", "ip.defragment:FALSE", "-o", "ip.tso_support:TRUE", "-T", "fields", "-E", "occurrence=f"])
        .args(["-E", "separator=/t"])
        .args(FIELDS.iter().flat_map(|field| ["-e", field]))
        .arg("-r")
        .arg(fixture.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(format!("tshark failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let mut pairs = Pairs::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let cells: Vec<_> = line.split('\t').collect();
        let [protocols, mac, packet_type, src4, dst4, len4, src6, dst6, payload6] = cells[..] else {
            return Err(format!("tshark printed '{line}'"));
        };
        // Only a header right behind the link header or its tags.
        let first = protocols.split(':').find(|protocol| ["ip", "ipv6"].contains(protocol) || !LINK.contains(protocol));
        let (src, dst, bytes) = match first {
            Some("ip") if !dst4.is_empty() => (src4, dst4, len4.parse().map_err(|_| line.to_owned())?),
            Some("ipv6") if !dst6.is_empty() => {
                (src6, dst6, 40 + payload6.parse::<u64>().map_err(|_| line.to_owned())?)
            }
            _ => continue,
        };
        let group_mac = mac.get(..2).is_some_and(|byte| u8::from_str_radix(byte, 16).unwrap() & 1 == 1);
        // ::a00:1 is ::10.0.0.1 for tshark.
        let [src, dst] = [src, dst].map(|address| address.parse::<IpAddr>().unwrap());
        let group_address = match dst {
            IpAddr::V4(dst) => dst.is_multicast() || dst.is_broadcast(),
            IpAddr::V6(dst) => dst.is_multicast(),
        };
        let group = group_address || group_mac || ["1", "2"].contains(&packet_type);
        let dst = if group { "multicast".to_owned() } else { dst.to_string() };
        let sums = pairs.entry((src.to_string(), dst)).or_default();
        *sums = (sums.0 + bytes, sums.1 + 1);
    }
    Ok(pairs)
}

fn by_ztmon(fixture: &Fixture) -> Pairs {
    let output = Command::new(env!("CARGO_BIN_EXE_ztmon"))
        .args(["replay", "--quiet", "--tee", "none", "--by", "pair", "--scope", "0.0.0.0/0", "--scope", "::/0"])
        .arg(fixture.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: {}", fixture.name(), String::from_utf8_lossy(&output.stderr));
    let mut pairs = Pairs::new();
    for row in String::from_utf8(output.stdout).unwrap().lines().skip(1) {
        let cells: Vec<_> = row.split(',').collect();
        pairs.insert((cells[0].into(), cells[1].into()), (cells[2].parse().unwrap(), cells[3].parse().unwrap()));
    }
    pairs
}

/// Whether tshark is there. Where the tests must be complete, its absence is a failure.
fn has_tshark() -> bool {
    let there = Command::new("tshark").arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(there || std::env::var("CI").is_err(), "tshark is missing");
    if !there {
        eprintln!("skipped: tshark is missing");
    }
    there
}

#[test]
fn tshark_sees_the_same_packets() {
    if !has_tshark() {
        return;
    }
    let undamaged: Vec<_> = fixtures::all().into_iter().filter(|fixture| fixture.beside("exit").is_none()).collect();
    for (name, _) in SEEN_OTHERWISE {
        assert!(undamaged.iter().any(|fixture| fixture.name() == name), "there is no {name}");
    }
    let known = |fixture: &Fixture| SEEN_OTHERWISE.iter().any(|(name, _)| *name == fixture.name());
    let todo = Mutex::new(undamaged.iter().filter(|fixture| !known(fixture)));
    let failures = Mutex::new(Vec::new());
    let packets = Mutex::new(0);
    // tshark takes its time to start.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(fixture) = { todo.lock().unwrap().next() } {
                    let (ours, theirs) = (by_ztmon(fixture), by_tshark(fixture));
                    *packets.lock().unwrap() += ours.values().map(|(_, packets)| packets).sum::<u64>();
                    if theirs.as_ref() != Ok(&ours) {
                        let text = format!("{}:\n  ztmon  {ours:?}\n  tshark {theirs:?}", fixture.name());
                        failures.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(packets.into_inner().unwrap() > 10_000, "hardly anything was compared");
}
