//! The fuzz targets without a fuzzer: the stored corpus and the fixtures, through the targets' own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Gives `run` every file of `folder`, and says how many there were.
fn each(folder: &str, run: fn(&[u8])) -> usize {
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
    let inputs = files.map(|file| fs::read(file.unwrap().path()).unwrap());
    inputs.map(|input| run(&input)).count()
}

#[test]
fn frames() {
    assert!(each("fuzz/corpus/frames", targets::frames::run) > 0);
}

#[test]
fn capture_files() {
    assert!(each("fuzz/corpus/capture", targets::capture::run) > 0);
    for folder in ["link", "scope", "tee", "time", "bad", "real"] {
        each(&format!("testdata/{folder}"), targets::capture::run);
    }
}

#[test]
fn requests() {
    assert!(each("fuzz/corpus/http", targets::http::run) > 0);
}

#[test]
fn names_files() {
    assert!(each("fuzz/corpus/names", targets::names::run) > 0);
}
