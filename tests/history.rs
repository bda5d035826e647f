//! Captures taken apart and put together again: the same frames give the same output, whatever holds them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run;

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use run::{records, testdata, within, ztmon};

/// A pcapng block, padded.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let mut padded = body.to_vec();
    padded.resize(body.len().next_multiple_of(4), 0);
    let len = (padded.len() as u32 + 12).to_le_bytes();
    [&kind.to_le_bytes()[..], &len, &padded, &len].concat()
}

/// The frames of a microsecond pcap of Ethernet as pcapng.
fn pcapng(file: &[u8]) -> Vec<u8> {
    let section = [0x1a2b_3c4d_u32, 1, u32::MAX, u32::MAX].map(u32::to_le_bytes).concat();
    let mut out = [block(0x0a0d_0d0a, &section), block(1, &[1, 0, 0, 0, 0, 0, 0, 0])].concat();
    for record in records(file) {
        let word = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().unwrap());
        let micros = u64::from(word(0)) * 1_000_000 + u64::from(word(4));
        let head = [0, (micros >> 32) as u32, micros as u32, word(8), word(12)].map(u32::to_le_bytes).concat();
        out.extend(block(6, &[&head, &record[16..]].concat()));
    }
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn the_format_makes_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let plain = fs::read(testdata("real/tee-both.pcap")).unwrap();
    let ng = pcapng(&plain);
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let (front, back) = plain.split_at(plain.len() / 3);
    let files = [
        ("plain", plain.clone()),
        ("pcapng", ng.clone()),
        ("gzip", gzip(&plain)),
        ("gzip-members", [gzip(front), gzip(back)].concat()),
        ("gzip-pcapng", gzip(&ng)),
        ("zstd", zstd(&plain)),
        ("zstd-frames", [zstd(front), zstd(back)].concat()),
        ("zstd-pcapng", zstd(&ng)),
    ];
    let want = ztmon(&["replay", &testdata("real/tee-both.pcap")]);
    assert!(want.err.starts_with("3,398 frames"), "{want:?}");
    for (name, bytes) in files {
        let path = within(folder.path(), name);
        fs::write(&path, bytes).unwrap();
        assert_eq!(ztmon(&["replay", &path]), want, "{name}");
    }
}

#[test]
fn one_file_in_two_is_the_same_history() {
    let folder = tempfile::tempdir().unwrap();
    let file = fs::read(testdata("real/tee-both.pcap")).unwrap();
    let frames = records(&file);
    let want = ztmon(&["replay", "--by", "pair", &testdata("real/tee-both.pcap")]);
    let (one, two) = (within(folder.path(), "one"), within(folder.path(), "two"));
    let head = &file[..24];
    let split = |at: usize| {
        fs::write(&one, [head, &frames[..at].concat()].concat()).unwrap();
        fs::write(&two, [head, &frames[at..].concat()].concat()).unwrap();
        // The order of the arguments is none.
        assert_eq!(ztmon(&["replay", "--by", "pair", &one, &two]), want, "split at {at}");
        assert_eq!(ztmon(&["replay", "--by", "pair", &two, &one]), want, "split at {at}");
    };
    // Between a packet and its copy, too: everywhere in the middle of a busy second, and at both ends.
    [0, 1, frames.len() - 1, frames.len()].into_iter().chain((1500..1520).step_by(3)).for_each(split);
    assert_ne!(ztmon(&["replay", "--by", "pair", &one]).out, want.out);
}

#[test]
fn interleaved_files_are_the_same_history() {
    let folder = tempfile::tempdir().unwrap();
    let file = fs::read(testdata("real/tee-both.pcap")).unwrap();
    // No two frames of different files have the same time here, so that the order is one.
    let mut parts = vec![file[..24].to_vec(); 3];
    let (mut turn, mut last) = (0, &file[..0]);
    for record in records(&file) {
        if record[..8] != *last {
            turn += 1;
        }
        last = &record[..8];
        parts[turn % 3].extend(record);
    }
    let paths: Vec<_> = (0..3).map(|at| within(folder.path(), &format!("part-{at}"))).collect();
    for (path, part) in paths.iter().zip(&parts) {
        fs::write(path, part).unwrap();
    }
    let want = ztmon(&["replay", &testdata("real/tee-both.pcap")]);
    assert_eq!(ztmon(&["replay", &paths[2], &paths[0], &paths[1]]), want);
}

/// More files than are kept open at once.
#[test]
fn a_hundred_files_are_one_history() {
    let folder = tempfile::tempdir().unwrap();
    let file = fs::read(testdata("real/tee-both.pcap")).unwrap();
    let mut args = vec!["replay".to_owned()];
    for (at, part) in records(&file).chunks(34).enumerate() {
        let path = within(folder.path(), &format!("part-{at}"));
        fs::write(&path, [&file[..24], &part.concat()].concat()).unwrap();
        args.push(path);
    }
    assert!(args.len() > 100);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    assert_eq!(ztmon(&args), ztmon(&["replay", &testdata("real/tee-both.pcap")]));
}
