//! Frames to counts, with and without a look for copies: the difference is what pairing costs.

use criterion::{Criterion, Throughput};
use ztmon::meter::Tee;

use super::Frames;
use super::workload::SMALL;

pub fn bench(criterion: &mut Criterion) {
    let frames = Frames::of(SMALL);
    let mut group = criterion.benchmark_group("pairing");
    group.throughput(Throughput::Elements(frames.heads.len() as u64));
    for (name, tee) in [("none", Tee::None), ("both", Tee::Both)] {
        group.bench_function(name, |bencher| bencher.iter_with_large_drop(|| frames.counted(tee)));
    }
    group.finish();
}
