//! Properties of the walkers over capture files, with pcap-file as second opinion.

use std::io::{self, Cursor, Read, Write};
use std::ops::ControlFlow;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{CaptureFile, Error, History, Source};
use crate::time::SECOND;

/// What matters of a frame: time in nanoseconds, link type, original length, bytes.
type Seen = (i128, u32, u32, Vec<u8>);

/// Every frame, please.
const NEVER: ControlFlow<()> = ControlFlow::Continue(());

/// The frames of a file, and how it ended.
fn walk(reader: impl Read + Send + 'static) -> (Vec<Seen>, Result<(), Error>) {
    let mut file = match CaptureFile::new(reader) {
        Ok(file) => file,
        Err(error) => return (vec![], Err(error)),
    };
    file.go_ahead();
    let mut seen = Vec::new();
    let ended = file.read(|frame| {
        seen.push((frame.time.0, frame.link.0, frame.original_len, frame.data.to_vec()));
        NEVER
    });
    (seen, ended.map(|broken_off| assert!(broken_off.is_none())))
}

fn walk_bytes(bytes: &[u8]) -> (Vec<Seen>, Result<(), Error>) {
    walk(Cursor::new(bytes.to_vec()))
}

/// A frame to be written: stamp, bytes, and how much longer it was on the wire.
type Made = (u64, Vec<u8>, u32);

fn made() -> impl Strategy<Value = Made> {
    (0..1_u64 << 60, vec(any::<u8>(), 0..90), 0..3000_u32)
}

fn words(big: bool, words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| if big { word.to_be_bytes() } else { word.to_le_bytes() }).collect()
}

fn halves(big: bool, halves: &[u16]) -> Vec<u8> {
    halves.iter().flat_map(|half| if big { half.to_be_bytes() } else { half.to_le_bytes() }).collect()
}

/// A classic capture; stamps are taken for seconds and a fraction.
fn classic(big: bool, nano: bool, frames: &[Made]) -> (Vec<u8>, Vec<Seen>) {
    let (magic, units) = if nano { (0xa1b2_3c4d, 1_000_000_000) } else { (0xa1b2_c3d4, 1_000_000) };
    let mut out = words(big, &[magic]);
    out.extend(halves(big, &[2, 4]));
    out.extend(words(big, &[0, 0, 262_144, 1]));
    let mut seen = Vec::new();
    for (stamp, data, more) in frames {
        let (seconds, fraction) = ((stamp / units) as u32, (stamp % units) as u32);
        let original = data.len() as u32 + more;
        out.extend(words(big, &[seconds, fraction, data.len() as u32, original]));
        out.extend(data);
        let nanos = i128::from(fraction) * (SECOND / i128::from(units));
        seen.push((i128::from(seconds) * SECOND + nanos, 1, original, data.clone()));
    }
    (out, seen)
}

#[derive(Clone, Debug)]
struct Interface {
    link: u16,
    /// `if_tsresol`.
    resolution: Option<u8>,
    offset: Option<u32>,
}

#[derive(Clone, Debug)]
enum Part {
    Enhanced(Index, Made),
    Obsolete(Index, Made),
    Simple(Made),
    Other(u32, Vec<u8>),
}

fn section() -> impl Strategy<Value = (bool, Vec<Interface>, Vec<Part>)> {
    let resolution = prop_oneof![0..10_u8, 0x80..0x9e_u8];
    let interface = (
        prop::sample::select(vec![0_u16, 1, 101, 113, 276, 147]),
        prop::option::of(resolution),
        prop::option::of(any::<u32>()),
    );
    let interface = interface.prop_map(|(link, resolution, offset)| Interface { link, resolution, offset });
    let part = prop_oneof![
        3 => (any::<Index>(), made()).prop_map(|(at, made)| Part::Enhanced(at, made)),
        1 => (any::<Index>(), made()).prop_map(|(at, made)| Part::Obsolete(at, made)),
        1 => made().prop_map(|(stamp, data, _)| Part::Simple((stamp, data, 0))),
        1 => (0x100..0x200_u32, vec(any::<u8>(), 0..20)).prop_map(|(kind, body)| Part::Other(kind, body)),
    ];
    (any::<bool>(), vec(interface, 1..4), vec(part, 0..8))
}

fn block(big: bool, kind: u32, mut body: Vec<u8>) -> Vec<u8> {
    body.resize(body.len().next_multiple_of(4), 0);
    let len = body.len() as u32 + 12;
    [words(big, &[kind, len]), body, words(big, &[len])].concat()
}

/// A pcapng file. A simple packet's time is nobody's business here.
fn next_generation(sections: &[(bool, Vec<Interface>, Vec<Part>)]) -> (Vec<u8>, Vec<Seen>) {
    let (mut out, mut seen) = (Vec::new(), Vec::new());
    for (big, interfaces, parts) in sections {
        let body = [words(*big, &[0x1a2b_3c4d]), halves(*big, &[1, 0]), vec![0xff; 8]].concat();
        out.extend(block(*big, 0x0a0d_0d0a, body));
        for Interface { link, resolution, offset } in interfaces {
            let mut body = [halves(*big, &[*link, 0]), words(*big, &[0])].concat();
            if let Some(resolution) = resolution {
                body.extend([halves(*big, &[9, 1]), vec![*resolution, 0, 0, 0]].concat());
            }
            if let Some(offset) = offset {
                let offset = if *big { [0, *offset] } else { [*offset, 0] };
                body.extend([halves(*big, &[14, 8]), words(*big, &offset)].concat());
            }
            out.extend(block(*big, 1, body));
        }
        let time = |interface: &Interface, stamp: u64| {
            let nanos = match interface.resolution.unwrap_or(6) {
                bits @ 0x80.. => (u128::from(stamp) * 1_000_000_000) >> (bits & 0x7f),
                digits => u128::from(stamp) * 10_u128.pow(9 - u32::from(digits)),
            };
            nanos as i128 + i128::from(interface.offset.unwrap_or(0)) * SECOND
        };
        for part in parts {
            match part {
                Part::Enhanced(at, (stamp, data, more)) | Part::Obsolete(at, (stamp, data, more)) => {
                    let number = at.index(interfaces.len());
                    let original = data.len() as u32 + more;
                    let rest = [(stamp >> 32) as u32, *stamp as u32, data.len() as u32, original];
                    let (kind, first) = match part {
                        Part::Enhanced(..) => (6, words(*big, &[number as u32])),
                        _ => (2, halves(*big, &[number as u16, 7])),
                    };
                    out.extend(block(*big, kind, [first, words(*big, &rest), data.clone()].concat()));
                    let interface = &interfaces[number];
                    seen.push((time(interface, *stamp), interface.link.into(), original, data.clone()));
                }
                Part::Simple((_, data, _)) => {
                    let len = data.len() as u32;
                    out.extend(block(*big, 3, [words(*big, &[len]), data.clone()].concat()));
                    seen.push((time(&interfaces[0], 0), interfaces[0].link.into(), len, data.clone()));
                }
                Part::Other(kind, body) => out.extend(block(*big, *kind, body.clone())),
            }
        }
    }
    (out, seen)
}

/// What pcap-file sees in a classic capture.
fn classic_by_pcap_file(bytes: &[u8]) -> Vec<Seen> {
    let mut reader = PcapReader::new(bytes).unwrap();
    let link = u32::from(reader.header().datalink);
    let mut seen = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.unwrap();
        seen.push((packet.timestamp().as_nanos() as i128, link, packet.orig_len(), packet.data().to_vec()));
    }
    seen
}

/// What pcap-file sees in a pcapng capture. It gives simple packets no time: `None` here.
fn next_generation_by_pcap_file(bytes: &[u8]) -> Vec<(Option<i128>, u32, u32, Vec<u8>)> {
    let mut reader = PcapNgReader::new(bytes).unwrap();
    let mut seen = Vec::new();
    while let Some(next) = reader.next_block() {
        let (block, state) = next.unwrap();
        let link = |at: u32| u32::from(state.interfaces()[at as usize].linktype);
        seen.push(match block {
            Block::EnhancedPacket(p) => {
                (Some(p.timestamp.as_nanos() as i128), link(p.interface_id), p.original_len, p.data.to_vec())
            }
            Block::Packet(p) => {
                (Some(p.timestamp.as_nanos() as i128), link(p.interface_id.into()), p.original_len, p.data.to_vec())
            }
            Block::SimplePacket(p) => (None, link(0), p.original_len, p.data.to_vec()),
            _ => continue,
        });
    }
    seen
}

/// A reader that hands over so many bytes at a time, like a pipe.
struct Dribble(Cursor<Vec<u8>>, usize);

impl Read for Dribble {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = out.len().min(self.1);
        self.0.read(&mut out[..len])
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A valid file of some format, plain or compressed.
fn any_file() -> impl Strategy<Value = Vec<u8>> {
    let classic =
        (any::<bool>(), any::<bool>(), vec(made(), 0..8)).prop_map(|(big, nano, made)| classic(big, nano, &made).0);
    let next = vec(section(), 1..3).prop_map(|sections| next_generation(&sections).0);
    (prop_oneof![classic, next], 0..3_u8).prop_map(|(bytes, packing)| match packing {
        0 => bytes,
        1 => gzip(&bytes),
        _ => zstd::encode_all(&bytes[..], 1).unwrap(),
    })
}

proptest! {
    #[test]
    fn classic_files_read_as_written_and_as_pcap_file_reads_them(
        big: bool, nano: bool, frames in vec(made(), 0..12), step in 1..40_usize,
    ) {
        let (bytes, want) = classic(big, nano, &frames);
        let (seen, end) = walk_bytes(&bytes);
        prop_assert!(end.is_ok());
        prop_assert_eq!(&seen, &want);
        prop_assert_eq!(classic_by_pcap_file(&bytes), want);
        prop_assert_eq!(walk(Dribble(Cursor::new(bytes), step)).0, seen);
    }

    #[test]
    fn pcapng_files_read_as_written_and_as_pcap_file_reads_them(
        sections in vec(section(), 1..4), step in 1..40_usize,
    ) {
        let (bytes, want) = next_generation(&sections);
        let (seen, end) = walk_bytes(&bytes);
        prop_assert!(end.is_ok());
        prop_assert_eq!(&seen, &want);
        let theirs = next_generation_by_pcap_file(&bytes);
        prop_assert_eq!(theirs.len(), want.len());
        for (theirs, ours) in theirs.into_iter().zip(want) {
            prop_assert_eq!((theirs.0.unwrap_or(ours.0), theirs.1, theirs.2, theirs.3), ours);
        }
        prop_assert_eq!(walk(Dribble(Cursor::new(bytes), step)).0, seen);
    }

    #[test]
    fn packing_changes_nothing(sections in vec(section(), 1..3), at: Index, step in 1..9_usize) {
        let (bytes, want) = next_generation(&sections);
        let (front, back) = bytes.split_at(at.index(bytes.len()));
        let zstd = |bytes| zstd::encode_all(bytes, 1).unwrap();
        for packed in [[gzip(front), gzip(back)].concat(), [zstd(front), zstd(back)].concat()] {
            let (seen, end) = walk(Dribble(Cursor::new(packed), step));
            prop_assert!(end.is_ok());
            prop_assert_eq!(&seen, &want);
        }
    }

    /// What came before the end of a cut file stands, and nothing else comes.
    #[test]
    fn a_cut_file_gives_its_first_frames(bytes in any_file(), at: Index) {
        let whole = walk_bytes(&bytes).0;
        let (seen, end) = walk_bytes(&bytes[..at.index(bytes.len())]);
        prop_assert!(whole.starts_with(&seen));
        // Whatever the format, the last byte is not there for nothing.
        prop_assert!(walk_bytes(&bytes[..bytes.len() - 1]).1.is_err());
        if let Err(Error::Io(error)) = end {
            prop_assert!(false, "{}", error);
        }
    }

    /// Bytes changed, dropped or doubled anywhere: no panic, and an end.
    #[test]
    fn damaged_files_end(bytes in any_file(), damage in vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..6)) {
        let mut bytes = bytes;
        for (at, byte, kind) in damage {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte & 7),
                2 => drop(bytes.drain(at..bytes.len().min(at + usize::from(byte & 15)))),
                _ => bytes.insert(at, byte),
            }
            if bytes.is_empty() {
                break;
            }
        }
        prop_assert!(!matches!(walk_bytes(&bytes).1, Err(Error::Io(_))));
    }

    #[test]
    fn any_bytes_end(start in 0..8_usize, bytes in vec(any::<u8>(), 0..400)) {
        let magics: [&[u8]; 8] = [
            b"", b"\xa1\xb2\xc3\xd4\0\x02\0\x04", b"\x4d\x3c\xb2\xa1\x02\0\x04\0", b"\xa1\xb2\xcd\x34\0\x02\0\x04",
            b"\x0a\x0d\x0d\x0a", b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\0\0\0\0\0\0\0\0\0\0\x1c\0\0\0",
            b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd",
        ];
        prop_assert!(!matches!(walk_bytes(&[magics[start], &bytes].concat()).1, Err(Error::Io(_))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Frames in the order of their times, dealt to several files in any way, come back in that order.
    #[test]
    fn files_dealt_apart_are_one_history(frames in vec((made(), 0..3_usize), 1..20)) {
        let mut frames = frames;
        frames.sort_by_key(|((stamp, ..), _)| *stamp);
        // Where two stamps are equal their order is the files', so make each one a second later than the last.
        for (at, ((stamp, ..), _)) in frames.iter_mut().enumerate() {
            *stamp = *stamp % 1_000_000 + at as u64 * 1_000_000;
        }
        let folder = tempfile::tempdir().unwrap();
        let sources = (0..3).map(|file| {
            let part: Vec<_> = frames.iter().filter(|(_, in_file)| *in_file == file).map(|(made, _)| made.clone()).collect();
            let path = folder.path().join(format!("{file}"));
            std::fs::write(&path, classic(false, false, &part).0).unwrap();
            Source::from_argument(path.as_os_str())
        });
        let mut history = History::open(sources.collect());
        let mut seen = Vec::new();
        history.read(|source, frame| {
            seen.push((source, frame.time.0, frame.data.to_vec()));
            NEVER
        });
        let want = frames.iter().map(|((stamp, data, _), file)| (*file, i128::from(*stamp) * 1000, data.clone()));
        prop_assert_eq!(seen, want.collect::<Vec<_>>());
        prop_assert!(history.problems().is_empty());
    }
}

#[test]
fn after_an_error_there_are_no_more_frames() {
    let (mut bytes, _) = classic(false, false, &[(5, vec![1, 2, 3], 0), (6, vec![4], 0)]);
    bytes.pop();
    let mut file = CaptureFile::new(Cursor::new(bytes)).unwrap();
    for frames in [1, 0, 0] {
        let mut seen = 0;
        let ended = file.read(|_| {
            seen += 1;
            NEVER
        });
        assert!(matches!(ended, Err(Error::Damaged { offset: 43, .. })));
        assert_eq!(seen, frames);
    }
}

/// The decoder asks for a block together with the next one's header.
#[test]
fn a_zstd_block_stands_before_a_broken_one() {
    let (bytes, want) = classic(false, false, &[(5, vec![1, 2, 3], 0), (6, vec![4], 0)]);
    // A frame with a window of 128 KiB, a raw block that is not the last, and one of the reserved type.
    let raw = &(bytes.len() << 3).to_le_bytes()[..3];
    let file = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x38], raw, &bytes, &[6, 0, 0]].concat();
    for step in [1, file.len()] {
        let (seen, end) = walk(Dribble(Cursor::new(file.clone()), step));
        assert_eq!(seen, want);
        assert!(matches!(end, Err(Error::Damaged { offset, .. }) if offset == bytes.len() as u64), "{end:?}");
    }
}

#[test]
fn a_small_file_cannot_describe_any_number_of_interfaces() {
    let section =
        block(false, 0x0a0d_0d0a, [words(false, &[0x1a2b_3c4d]), halves(false, &[1, 0]), vec![0xff; 8]].concat());
    let interface = block(false, 1, [halves(false, &[1, 0]), words(false, &[0])].concat());
    let bytes = [section, interface.repeat((1 << 20) + 1)].concat();
    let (seen, ended) = walk_bytes(&bytes);
    assert!(seen.is_empty() && matches!(ended, Err(Error::Damaged { .. })), "{ended:?}");
}

#[test]
fn a_source_is_read_up_to_its_size() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"0123456789").unwrap();
    let source = Source::from_argument(file.path().as_os_str()).up_to(4);
    let copy = source.clone().held_in(file.reopen().unwrap());
    for source in [source, copy] {
        for _ in 0..2 {
            let mut bytes = Vec::new();
            source.reader().unwrap().read_to_end(&mut bytes).unwrap();
            assert_eq!((&*bytes, source.size()), (&b"0123"[..], Some(4)));
        }
    }
}

#[test]
fn a_name_takes_one_line_whatever_is_in_it() {
    let source = Source::from_argument(std::ffi::OsStr::new("a\n\u{1b}[2Jb"));
    assert_eq!(source.to_string(), r"a\n\u{1b}[2Jb");
}

/// Long enough to be read ahead, with records that lie across chunks and such that are longer than what is kept of one.
#[test]
fn long_files_read_as_written() {
    let frames: Vec<Made> = (0..3000_u32)
        .map(|number| {
            let len = if number.is_multiple_of(500) { 200_000 } else { number as usize * 37 % 3000 };
            (u64::from(number), number.to_le_bytes().into_iter().cycle().take(len).collect(), 0)
        })
        .collect();
    let (bytes, want) = classic(false, false, &frames);
    assert!(bytes.len() > 5 << 20);
    let cut = bytes.len() - 1;
    let last = bytes.len() - 16 - frames[2999].1.len();
    let files = [bytes.clone(), gzip(&bytes), zstd::encode_all(&bytes[..], 1).unwrap()];
    for file in files {
        let (seen, end) = walk_bytes(&file);
        assert!(end.is_ok() && seen == want);
    }
    for step in [100_000, usize::MAX] {
        for file in [bytes[..cut].to_vec(), gzip(&bytes[..cut]), zstd::encode_all(&bytes[..cut], 1).unwrap()] {
            let (seen, end) = walk(Dribble(Cursor::new(file), step));
            assert!(matches!(end, Err(Error::Damaged { offset, .. }) if offset == last as u64), "{end:?}");
            assert!(seen == want[..2999]);
        }
    }
}

#[test]
fn what_was_read_before_a_fault_stands_in_long_files() {
    struct Fails(Cursor<Vec<u8>>);
    impl Read for Fails {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            match self.0.read(out)? {
                0 => Err(io::Error::other("the disk is gone")),
                read => Ok(read),
            }
        }
    }
    let (bytes, want) = classic(false, false, &vec![(7, vec![1; 2000], 0); 2000]);
    let len = bytes.len() as u64;
    let mut file = CaptureFile::new(Fails(Cursor::new(bytes))).unwrap();
    file.go_ahead();
    // Broken off in between, the next call goes on with the same frame.
    let mut seen = 0;
    let halves = [0, 1].map(|_| {
        file.read(|_| {
            seen += 1;
            if seen == 1501 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    });
    assert!(matches!(halves[0], Ok(Some(()))) && seen == want.len() + 1);
    let Err(Error::Damaged { offset, what }) = &halves[1] else { panic!("{halves:?}") };
    assert_eq!((*offset, &**what), (len, "the disk is gone"));
}
