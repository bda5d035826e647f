//! Writes a capture to measure on: `cargo run --release --example workload -- small|large|full|CLIENTS FILE [FRAMES]`.
//!
//! `CLIENTS` is a number, with eight pairs for each. A `FILE` that ends in `.pcapng` is one.

#[path = "../benches/workload/mod.rs"]
mod workload;

use std::fs::File;
use std::io::{self, BufWriter, Write};

use workload::Workload;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, file) = match &*arguments {
        [name, file, ..] => (name, file),
        _ => return Err(io::Error::other("give small, large, full or a number of clients, and a file")),
    };
    let mut workload = match name.as_str() {
        "small" => workload::SMALL,
        "large" => workload::LARGE,
        "full" => workload::FULL,
        clients => Workload::with_clients(clients.parse().map_err(io::Error::other)?),
    };
    if let Some(frames) = arguments.get(2) {
        workload.frames = frames.parse().map_err(io::Error::other)?;
    }
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    match file.ends_with(".pcapng") {
        true => workload.write_pcapng(&mut out)?,
        false => workload.write(&mut out)?,
    }
    out.flush()
}
