//! A traffic matrix with very many pairs: filling it, and handing it over.

use criterion::{BatchSize, Criterion, Throughput};
use ztmon::meter::Tee;

use super::Frames;
use super::workload::LARGE;

pub fn bench(criterion: &mut Criterion) {
    let frames = Frames::of(LARGE);
    let mut group = criterion.benchmark_group("ledger");
    group.sample_size(20);
    group.throughput(Throughput::Elements(frames.heads.len() as u64));
    group.bench_function("fill", |bencher| bencher.iter_with_large_drop(|| frames.counted(Tee::None)));
    group.throughput(Throughput::Elements(frames.counted(Tee::None).rows() as u64));
    group.bench_function("take", |bencher| {
        bencher.iter_batched(|| frames.counted(Tee::None), |mut meter| (meter.take(), meter), BatchSize::PerIteration);
    });
    group.finish();
}
