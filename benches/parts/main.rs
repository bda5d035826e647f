//! What the parts of ztmon cost, each alone: `cargo bench`, or `cargo bench -- pairing` for one of them.
//!
//! They are no tests of speed. `cargo test --all-targets` runs each once, to see that it works.
#![allow(clippy::unwrap_used)]

mod exposition;
mod ledger;
mod pairing;
mod parse;
mod store;
#[path = "../workload/mod.rs"]
#[allow(dead_code)]
mod workload;

use std::convert::Infallible;
use std::net::IpAddr;

use ztmon::frame::{Frame, LinkType};
use ztmon::meter::{Meter, Settings, Tee};
use ztmon::time::Timestamp;

use workload::Workload;

criterion::criterion_group!(parts, parse::bench, pairing::bench, ledger::bench, exposition::bench, store::bench);
criterion::criterion_main!(parts);

/// So many frames are measured on at a time: enough that the tables are filled as by many more.
const FRAMES: u64 = 200_000;

/// Frames in memory.
struct Frames {
    /// Time in microseconds, length on the wire, and where the bytes end.
    heads: Vec<(u64, u32, usize)>,
    bytes: Vec<u8>,
}

impl Frames {
    fn of(workload: Workload) -> Frames {
        let (mut heads, mut bytes) = (Vec::new(), Vec::new());
        let Ok(()) = Workload { frames: FRAMES, ..workload }.each(|time, len, data| {
            bytes.extend_from_slice(data);
            heads.push((time, len, bytes.len()));
            Ok::<_, Infallible>(())
        });
        Frames { heads, bytes }
    }

    fn iter(&self) -> impl Iterator<Item = Frame<'_>> {
        self.heads.iter().scan(0, |start, &(time, original_len, end)| {
            let data = &self.bytes[std::mem::replace(start, end)..end];
            let time = Timestamp(i128::from(time) * 1000);
            Some(Frame { time, link: LinkType::ETHERNET, original_len, data })
        })
    }

    /// A meter that has counted them all.
    fn counted(&self, tee: Tee) -> Meter {
        let mut meter = Meter::new(Settings { tee, ..Settings::default() });
        self.iter().for_each(|frame| meter.defer(&frame));
        // Those that wait to be counted together.
        meter.stats();
        meter
    }
}

/// One of very many clients.
fn client(number: u32) -> IpAddr {
    match number % 10 {
        9 => IpAddr::from((0xfd80_56c2_e21c << 80 | u128::from(number)).to_be_bytes()),
        _ => IpAddr::from((0x0a00_0001 + number).to_be_bytes()),
    }
}
