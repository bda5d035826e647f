//! Bytes to packet.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use ztmon::parse;

use super::Frames;
use super::workload::SMALL;

pub fn bench(criterion: &mut Criterion) {
    let frames = Frames::of(SMALL);
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(frames.heads.len() as u64));
    group.bench_function("packet", |bencher| {
        bencher.iter(|| frames.iter().filter(|frame| black_box(parse::packet(frame)).is_ok()).count());
    });
    group.finish();
}
