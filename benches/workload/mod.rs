//! Captures to measure on, the same from every run: what an observer would record of a busy network.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};

/// What a capture is made of.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Frames to write.
    pub frames: u64,
    /// Clients that talk; every tenth pair of them uses IPv6.
    pub clients: u32,
    /// Pairs of source and destination, drawn by a Zipf law.
    pub pairs: u32,
    /// Whether frames are copies of a `tee 128` rule, each packet twice; else whole frames of 1,500 bytes, each once.
    pub teed: bool,
}

/// 10 M frames, 200 clients, 1,000 pairs.
pub const SMALL: Workload = Workload { frames: 10_000_000, clients: 200, pairs: 1_000, teed: true };
/// 10 M frames, 100,000 clients, 800,000 pairs.
pub const LARGE: Workload = Workload { frames: 10_000_000, clients: 100_000, pairs: 800_000, teed: true };
/// 1 GB of frames of 1,500 bytes.
pub const FULL: Workload = Workload { frames: 660_000, clients: 200, pairs: 1_000, teed: false };

/// Ethernet and 128 bytes behind it.
const TEED_LEN: usize = 142;
const FULL_LEN: usize = 1500;
/// Packets a second.
const RATE: u64 = 50_000;
/// When the capture begins, in microseconds.
const START: u64 = 1_790_000_000_000_000;

/// SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

/// A copy that is still to come: when, and which of the packets in flight it is.
type Copy = Reverse<(u64, u64, Vec<u8>, u32)>;

impl Workload {
    /// So many clients, each with a few others that it talks to.
    pub fn with_clients(clients: u32) -> Workload {
        Workload { clients, pairs: clients.saturating_mul(8), ..SMALL }
    }

    /// Writes the capture as a pcap file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let header = [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 262_144, 1];
        header.iter().try_for_each(|word| out.write_all(&word.to_le_bytes()))?;
        self.each(|time, original_len, data| {
            let words = [(time / 1_000_000) as u32, (time % 1_000_000) as u32, data.len() as u32, original_len];
            words.iter().try_for_each(|word| out.write_all(&word.to_le_bytes()))?;
            out.write_all(data)
        })
    }

    /// Writes the same frames as a pcapng file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_pcapng(&self, out: &mut impl Write) -> io::Result<()> {
        // A section of unknown length, and an interface with Ethernet and microseconds.
        let section = [0x0a0d_0d0a_u32, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28];
        let interface = [1, 20, 1, 262_144, 20];
        section.iter().chain(&interface).try_for_each(|word| out.write_all(&word.to_le_bytes()))?;
        self.each(|time, original_len, data| {
            let padding = data.len().next_multiple_of(4) - data.len();
            let len = (32 + data.len() + padding) as u32;
            let words = [6, len, 0, (time >> 32) as u32, time as u32, data.len() as u32, original_len];
            words.iter().try_for_each(|word| out.write_all(&word.to_le_bytes()))?;
            out.write_all(data)?;
            out.write_all(&[0; 3][..padding])?;
            out.write_all(&len.to_le_bytes())
        })
    }

    /// Gives every frame: its time in microseconds, its length on the wire, and its captured bytes.
    ///
    /// # Errors
    /// What `frame` returns.
    pub fn each<E>(&self, mut frame: impl FnMut(u64, u32, &[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut random = Random(1);
        let pairs: Vec<(u32, u32)> = (0..self.pairs)
            .map(|_| {
                let src = random.below(u64::from(self.clients)) as u32;
                let dst = random.below(u64::from(self.clients) - 1) as u32;
                (src, if dst >= src { dst + 1 } else { dst })
            })
            .collect();
        let weights = zipf(self.pairs);
        let mut copies: BinaryHeap<Copy> = BinaryHeap::new();
        let mut data = Vec::new();
        let mut written = 0;
        for number in 0.. {
            let time = START + number * 1_000_000 / RATE;
            while copies.peek().is_some_and(|Reverse((due, ..))| *due <= time) {
                let Some(Reverse((due, _, data, len))) = copies.pop() else { break };
                frame(due, len, &data)?;
                written += 1;
            }
            if written + copies.len() as u64 >= self.frames {
                break;
            }
            let roll = random.below(1000);
            if roll < 10 && self.teed {
                arp(&mut data, &mut random);
                frame(time, data.len() as u32, &data)?;
                written += 1;
                continue;
            }
            let drawn = random.next();
            let pair = weights.partition_point(|&weight| weight < drawn).min(pairs.len() - 1);
            let ip_len = if self.teed { 40 + random.below(2761) as u16 } else { 1486 };
            let (src, dst) = pairs[pair];
            let captured = if self.teed { TEED_LEN } else { FULL_LEN };
            packet(&mut data, src, dst, pair % 10 == 9, ip_len, captured, random.next());
            let len = if self.teed { data.len() as u32 } else { FULL_LEN as u32 };
            frame(time, len, &data)?;
            written += 1;
            // One in a thousand packets loses a copy.
            if self.teed && roll != 999 {
                copies.push(Reverse((time + 50 + random.below(4950), number, data.clone(), len)));
            }
        }
        while let Some(Reverse((due, _, data, len))) = copies.pop() {
            frame(due, len, &data)?;
        }
        Ok(())
    }
}

/// Where each rank's share of all 64-bit numbers ends.
fn zipf(ranks: u32) -> Vec<u64> {
    let whole: f64 = (1..=ranks).map(|rank| 1.0 / f64::from(rank)).sum();
    let mut sum = 0.0;
    (1..=ranks)
        .map(|rank| {
            sum += 1.0 / f64::from(rank) / whole;
            (sum * u64::MAX as f64) as u64
        })
        .collect()
}

fn mac(client: u32) -> [u8; 6] {
    let [a, b, c, d] = client.to_be_bytes();
    [0xe2, 0x53, a, b, c, d]
}

/// An Ethernet frame with a UDP packet, cut to `captured` bytes.
fn packet(data: &mut Vec<u8>, src: u32, dst: u32, ipv6: bool, ip_len: u16, captured: usize, number: u64) {
    data.clear();
    data.extend(mac(dst));
    data.extend(mac(src));
    if ipv6 {
        data.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        data.extend((ip_len - 40).to_be_bytes());
        data.extend([17, 64]);
        for client in [src, dst] {
            data.extend([0xfd, 0x80, 0x56, 0xc2, 0xe2, 0x1c, 0, 0, 0, 1, 0x99, 0x93]);
            data.extend(client.to_be_bytes());
        }
    } else {
        data.extend([8, 0, 0x45, 0]);
        data.extend(ip_len.to_be_bytes());
        data.extend((number as u16).to_be_bytes());
        data.extend([0x40, 0, 64, 17, 0, 0]);
        for client in [src, dst] {
            data.extend((0x0a00_0001 + client).to_be_bytes());
        }
    }
    let end = (14 + usize::from(ip_len)).min(captured);
    let mut word = number;
    while data.len() < end {
        word = word.wrapping_mul(0xd129_0d3a_3a2f_7cb5).wrapping_add(1);
        data.extend(word.to_le_bytes());
    }
    data.truncate(end);
}

fn arp(data: &mut Vec<u8>, random: &mut Random) {
    data.clear();
    data.extend([0xff; 6]);
    data.extend(mac(random.below(1 << 16) as u32));
    data.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    data.resize(60, 0);
}
