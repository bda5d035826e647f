//! Writes a capture to measure on: `cargo run --release --example workload -- small|large|full FILE [FRAMES]`.

#[path = "../benches/workload/mod.rs"]
mod workload;

use std::fs::File;
use std::io::{self, BufWriter, Write};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, file) = match &*arguments {
        [name, file, ..] => (name, file),
        _ => return Err(io::Error::other("give small, large or full, and a file")),
    };
    let mut workload = match name.as_str() {
        "small" => workload::SMALL,
        "large" => workload::LARGE,
        "full" => workload::FULL,
        _ => return Err(io::Error::other("there are small, large and full")),
    };
    if let Some(frames) = arguments.get(2) {
        workload.frames = frames.parse().map_err(io::Error::other)?;
    }
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    workload.write(&mut out)?;
    out.flush()
}
