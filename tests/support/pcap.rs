//! Small pcap files, read and written.

use std::path::Path;

/// A frame of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Microseconds since the epoch.
    pub time: u64,
    /// Length on the wire.
    pub len: u32,
    pub data: Vec<u8>,
}

/// Ethernet frames in a classic pcap file with microseconds.
#[derive(Clone, Debug, Default)]
pub struct Capture(pub Vec<Frame>);

/// One second in the unit of [`Frame::time`].
pub const SECOND: u64 = 1_000_000;

impl Capture {
    pub fn read(path: &Path) -> Capture {
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes[..4], 0xa1b2_c3d4_u32.to_le_bytes(), "{}", path.display());
        let mut frames = Vec::new();
        let mut rest = &bytes[24..];
        while !rest.is_empty() {
            let field = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            let end = 16 + field(8) as usize;
            let time = u64::from(field(0)) * SECOND + u64::from(field(4));
            frames.push(Frame { time, len: field(12), data: rest[16..end].to_vec() });
            rest = &rest[end..];
        }
        Capture(frames)
    }

    pub fn write(&self, path: &Path) {
        let mut bytes = Vec::new();
        let mut words = |words: &[u32]| words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        words(&[0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 262_144, 1]);
        for frame in &self.0 {
            let mut words = |words: &[u32]| words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
            let (seconds, micros) = (frame.time / SECOND, frame.time % SECOND);
            words(&[seconds as u32, micros as u32, frame.data.len() as u32, frame.len]);
            bytes.extend(&frame.data);
        }
        std::fs::write(path, bytes).unwrap();
    }

    /// As pcapng, whose times go further than the year 2106.
    pub fn write_pcapng(&self, path: &Path) {
        let mut bytes = Vec::new();
        let mut block = |kind: u32, words: &[u32], data: &[u8]| {
            let padded = data.len().next_multiple_of(4);
            let len = (12 + words.len() * 4 + padded) as u32;
            [kind, len].iter().chain(words).for_each(|word| bytes.extend(word.to_le_bytes()));
            bytes.extend(data);
            bytes.resize(bytes.len() + padded - data.len(), 0);
            bytes.extend(len.to_le_bytes());
        };
        // Version 1.0, of unknown length; then an interface: Ethernet, in microseconds.
        block(0x0a0d_0d0a, &[0x1a2b_3c4d, 1, u32::MAX, u32::MAX], &[]);
        block(1, &[1, 0], &[]);
        for Frame { time, len, data } in &self.0 {
            block(6, &[0, (time >> 32) as u32, *time as u32, data.len() as u32, *len], data);
        }
        std::fs::write(path, bytes).unwrap();
    }

    /// The frames before and from `at` on.
    pub fn split(&self, at: usize) -> (Capture, Capture) {
        let (before, after) = self.0.split_at(at);
        (Capture(before.to_vec()), Capture(after.to_vec()))
    }

    /// Where the longest pause ends. No packet waits for its copy there, if the pause is longer than the window.
    pub fn longest_pause(&self) -> usize {
        let pause = |&at: &usize| self.0[at].time.saturating_sub(self.0[at - 1].time);
        let at = (1..self.0.len()).max_by_key(pause).unwrap();
        assert!(pause(&at) > 2 * SECOND);
        at
    }

    /// The same with a longer pause before frame `at`.
    pub fn with_pause(&self, at: usize, seconds: u64) -> Capture {
        let mut later = self.clone();
        later.0[at..].iter_mut().for_each(|frame| frame.time += seconds * SECOND);
        later
    }

    /// Adds a packet between two clients of a network with a two-sided rule: both copies, cut to 128 bytes. The number
    /// makes it unlike any other.
    pub fn add_teed(&mut self, time: u64, packet: &Packet) {
        let frame = packet.frame();
        self.0.push(Frame { time, len: frame.len() as u32, data: frame.clone() });
        self.0.push(Frame { time: time + 5000, len: frame.len() as u32, data: frame });
    }
}

/// An IPv4 packet; the MACs are made from the addresses.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub src: [u8; 4],
    pub dst: [u8; 4],
    /// The length that its IP header states.
    pub len: u16,
    /// Makes it unlike any other.
    pub number: u32,
}

impl Packet {
    /// As much as a tee rule of 128 bytes sends.
    pub fn frame(&self) -> Vec<u8> {
        let mac = |ip: [u8; 4]| [0xe2, 0x53, ip[0], ip[1], ip[2], ip[3]];
        let mut frame = [mac(self.dst), mac(self.src)].concat();
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(self.len.to_be_bytes());
        frame.extend((self.number as u16).to_be_bytes());
        frame.extend([0, 0, 64, 17, 0, 0]);
        frame.extend(self.src);
        frame.extend(self.dst);
        let payload = usize::from(self.len) - 20;
        let numbered = self.number.to_be_bytes().into_iter().cycle();
        frame.extend(numbered.take(payload.min(108)));
        frame
    }
}
