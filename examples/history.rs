//! Writes a database to measure on: `cargo run --release --example history -- FILE PAIRS BUCKETS [COMMITS]`. Each of so
//! many pairs moves something in each of so many five-minute buckets, and in each of so many commits to it.

use anyhow::Context;
use ztmon::store::{Source, Writer};
use ztmon::time::{BUCKET_SECONDS, Bucket, Span, Timestamp};
use ztmon::traffic::{Counts, Delta, DeltaRow, Directory, Endpoint, Origin, Seen};

/// 2024-01-01.
const START: i64 = 1_704_067_200;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().context("give a file, and how many pairs and buckets")?;
    let mut number = || arguments.next().map(|text| text.parse::<u32>()).transpose();
    let (pairs, buckets) = (number()?.context("how many pairs?")?, number()?.context("how many buckets?")?);
    let commits = number()?.unwrap_or(1);

    let directory = directory(pairs)?;
    let mut writer = Writer::open(file.as_ref())?;
    let mut source = Source::new(writer.network("8056c2e21c000001", "")?, Origin::Live);
    for number in 0..buckets {
        let start = START + i64::from(BUCKET_SECONDS * number);
        let rows: Vec<_> = (0..pairs).map(|pair| row(pair, start)).collect();
        for _ in 0..commits {
            writer.begin()?;
            writer.add(&mut source, &directory, &rows)?;
            writer.commit()?;
        }
    }
    Ok(())
}

/// Five clients for each that a fifth of the pairs lead to.
fn directory(pairs: u32) -> anyhow::Result<Directory> {
    let clients = (pairs / 5).max(2);
    let client = |n: u32| -> anyhow::Result<Endpoint> {
        let [_, _, high, low] = n.to_be_bytes();
        let mac = format!("e2:53:1a:00:{high:02x}:{low:02x}").parse().map_err(anyhow::Error::msg)?;
        Ok(Endpoint { end: format!("10.20.{high}.{low}").parse().map_err(anyhow::Error::msg)?, mac: Some(mac) })
    };
    let endpoints = (0..clients).map(client).collect::<anyhow::Result<_>>()?;
    let pairs = (0..pairs).map(|pair| (pair % clients, (pair % clients + 1 + pair / clients) % clients)).collect();
    let mut directory = Directory::default();
    directory.extend(&Delta { endpoints, pairs, rows: Vec::new() });
    Ok(directory)
}

/// What a pair moved in a bucket: a few thousand packets, the first and the last at any time of it.
fn row(pair: u32, start: i64) -> DeltaRow {
    let any = (u64::from(pair) << 32 | start as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let packets = 1 + any % 5000;
    let counts = Counts { bytes: packets * (60 + any % 1400), packets, copies: packets - any % 2 };
    let first = Timestamp::new(start, any % 150_000_000_000);
    let seen = Seen { first, last: first + Span((any % 149_000_000_000).into()) };
    DeltaRow::new(pair, Bucket { start, seconds: BUCKET_SECONDS }, counts, seen)
}
