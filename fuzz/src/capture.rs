//! A capture file of any bytes gives the same frames however it is read, or says why not.

use std::io::{self, Cursor, Read};
use std::ops::ControlFlow;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};
use ztmon::capture::{CaptureFile, Error};

/// So many frames of a file are looked at: a few bytes of gzip or zstd can hold any number.
const FRAMES: usize = 2_000;

/// What matters of a frame: time in nanoseconds, link type, original length, bytes.
type Seen = (Option<i128>, u32, u32, Vec<u8>);

/// How a file ended.
#[derive(Clone, Debug, PartialEq)]
enum End {
    /// There are more frames than were looked at.
    Open,
    Whole,
    NotACapture,
    /// Damaged from this byte on. (Why, may depend on the pieces that the decompressor got.)
    Damaged(u64),
}

pub fn run(bytes: &[u8]) {
    let whole = walk(Cursor::new(bytes.to_vec()));

    // In pieces, as from a pipe.
    let dribble = Dribble(Cursor::new(bytes.to_vec()), 1 + bytes.len() % 7);
    let pieces = walk(dribble);
    assert_eq!((pieces.0.len(), &pieces.1), (whole.0.len(), &whole.1));
    assert!(pieces == whole);

    // What is cut off changes nothing of what comes before. The place is any, and always the same for these bytes.
    let place = bytes.iter().fold(0_usize, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let cut = place % (bytes.len() + 1);
    let (before, _) = walk(Cursor::new(bytes[..cut].to_vec()));
    assert!(whole.0.starts_with(&before), "cut at {cut}: {before:?} of {whole:?}");

    // pcap-file takes less than ztmon does. What it takes, both see alike.
    if let Some(theirs) = by_pcap_file(bytes) {
        let (mut ours, end) = whole;
        for (ours, theirs) in ours.iter_mut().zip(&theirs.0) {
            // It gives simple packets no time.
            ours.0 = ours.0.filter(|_| theirs.0.is_some());
        }
        assert!((&ours, &end) == (&theirs.0, &theirs.1), "{end:?} after {ours:?}, and pcap-file: {theirs:?}");
    }
}

fn walk(reader: impl Read + Send + 'static) -> (Vec<Seen>, End) {
    let mut seen = Vec::new();
    let failed = |error: Error| match error {
        Error::NotACapture => End::NotACapture,
        Error::Damaged { offset, .. } => End::Damaged(offset),
        Error::Io(error) => panic!("nothing here fails to be read: {error}"),
    };
    let mut file = match CaptureFile::new(reader) {
        Ok(file) => file,
        Err(error) => return (seen, failed(error)),
    };
    file.go_ahead();
    let read = file.read(|frame| {
        seen.push((Some(frame.time.0), frame.link.0, frame.original_len, frame.data.to_vec()));
        if seen.len() < FRAMES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let end = match read {
        Ok(Some(())) => End::Open,
        Ok(None) => End::Whole,
        Err(error) => {
            let more = file.read(|_| ControlFlow::Break(()));
            assert!(more.is_err(), "it goes on after {error}");
            failed(error)
        }
    };
    (seen, end)
}

/// Hands over so many bytes at a time.
struct Dribble(Cursor<Vec<u8>>, usize);

impl Read for Dribble {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = out.len().min(self.1);
        self.0.read(&mut out[..len])
    }
}

/// What pcap-file sees, unless it finds fault with something.
fn by_pcap_file(bytes: &[u8]) -> Option<(Vec<Seen>, End)> {
    let mut seen = Vec::new();
    if bytes.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]) {
        let mut reader = PcapNgReader::with_capacity(bytes, bytes.len()).ok()?;
        // It takes any version for 1.
        if reader.section().major_version != 1 {
            return None;
        }
        while let Some(next) = reader.next_block() {
            let (block, state) = next.ok()?;
            let link = |at: u32| state.interfaces().get(at as usize).map(|interface| interface.linktype.into());
            let (time, link, original_len, data) = match block {
                Block::EnhancedPacket(p) => (Some(p.timestamp), link(p.interface_id)?, p.original_len, p.data),
                Block::Packet(p) => (Some(p.timestamp), link(p.interface_id.into())?, p.original_len, p.data),
                Block::SimplePacket(p) => (None, link(0)?, p.original_len, p.data),
                Block::SectionHeader(section) if section.major_version != 1 => return None,
                _ => continue,
            };
            seen.push((time.map(|time| time.as_nanos() as i128), link, original_len, data.into()));
            if seen.len() == FRAMES {
                return Some((seen, End::Open));
            }
        }
    } else {
        let mut reader = PcapReader::with_capacity(bytes, bytes.len()).ok()?;
        let header = reader.header();
        // It takes any version for 2.4.
        if header.version_major != 2 || header.version_minor < 4 {
            return None;
        }
        let link = u32::from(header.datalink) & 0x03ff_ffff;
        while let Some(next) = reader.next_packet() {
            let p = next.ok()?;
            seen.push((Some(p.timestamp().as_nanos() as i128), link, p.orig_len(), p.into_data().into()));
            if seen.len() == FRAMES {
                return Some((seen, End::Open));
            }
        }
    }
    Some((seen, End::Whole))
}
