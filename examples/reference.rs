//! The totals of a capture of `benches/workload`, counted in the plainest way there is, as a second opinion on ztmon:
//! `cargo run --release --example reference -- none|both FILE`.
//!
//! It shares no code with ztmon. It knows what those captures have and no more: pcap in microseconds, Ethernet without
//! tags, clients of 10.0.0.0/8 and fc00::/7, and no groups. It prints the columns of ztmon's CSV, times in microseconds.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The length of the tee rule, and ztmon's limits unless it is told of others.
const TEE_BYTES: usize = 128;
const WINDOW: u64 = 2_000_000;
const MAX_ADDRESSES: usize = 262_144;

#[derive(Clone, Copy, Default)]
struct Total {
    sent_bytes: u64,
    received_bytes: u64,
    sent_packets: u64,
    received_packets: u64,
    first: u64,
    last: u64,
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tee, path] = &*arguments else { return Err(io::Error::other("give none or both, and a file")) };
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut header = [0; 24];
    file.read_exact(&mut header)?;

    let mut unpaired: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut totals: HashMap<Vec<u8>, Total> = HashMap::new();
    let mut data = Vec::new();
    while let Some(time) = next(&mut file, &mut data)? {
        let (src, dst, len) = match &data[12..14] {
            [0x08, 0x00] => (&data[26..30], &data[30..34], u64::from(data[16]) << 8 | u64::from(data[17])),
            [0x86, 0xdd] => (&data[22..38], &data[38..54], 40 + (u64::from(data[18]) << 8 | u64::from(data[19]))),
            _ => continue,
        };
        if tee == "both" {
            let key = &data[14..data.len().min(14 + TEE_BYTES)];
            match unpaired.remove(key) {
                Some(then) if time - then <= WINDOW => continue,
                _ => unpaired.insert(key.to_vec(), time),
            };
        }
        for (addr, is_src) in [(src, true), (dst, false)] {
            if !matches!(addr, [10, _, _, _] | [0xfc | 0xfd, _, _, _, _, ..]) {
                return Err(io::Error::other("there is an address that is no client's"));
            }
            let is_in = totals.contains_key(addr) || clients(&totals) < MAX_ADDRESSES;
            let total = totals.entry(if is_in { addr.to_vec() } else { OTHER.to_vec() }).or_default();
            if total.sent_packets + total.received_packets == 0 {
                total.first = time;
            }
            total.last = time;
            let (bytes, packets) = match is_src {
                true => (&mut total.sent_bytes, &mut total.sent_packets),
                false => (&mut total.received_bytes, &mut total.received_packets),
            };
            *bytes += len;
            *packets += 1;
        }
    }

    println!("addr,sent_bytes,received_bytes,sent_packets,received_packets,first_seen,last_seen");
    for (addr, total) in &totals {
        let Total { sent_bytes, received_bytes, sent_packets, received_packets, first, last } = total;
        println!("{},{sent_bytes},{received_bytes},{sent_packets},{received_packets},{first},{last}", name(addr));
    }
    Ok(())
}

/// What stands for the addresses beyond the limit.
const OTHER: &[u8] = &[];

fn clients(totals: &HashMap<Vec<u8>, Total>) -> usize {
    totals.len() - usize::from(totals.contains_key(OTHER))
}

fn name(addr: &[u8]) -> String {
    match addr.len() {
        0 => "other".to_owned(),
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(addr).unwrap_or_default()).to_string(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(addr).unwrap_or_default()).to_string(),
    }
}

/// Reads a record; gives its time.
fn next(file: &mut impl Read, data: &mut Vec<u8>) -> io::Result<Option<u64>> {
    let mut head = [0; 16];
    match file.read_exact(&mut head) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    data.resize(word(8) as usize, 0);
    file.read_exact(data)?;
    Ok(Some(u64::from(word(0)) * 1_000_000 + u64::from(word(4))))
}
