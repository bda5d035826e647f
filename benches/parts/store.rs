//! The database with 10,000 clients: committing what all of them moved, and reading their totals at the start.

use std::path::Path;

use criterion::{Criterion, Throughput};
use tempfile::tempdir_in;
use ztmon::store::{Source, Writer};
use ztmon::time::Timestamp;
use ztmon::traffic::{Counts, Delta, DeltaRow, Directory, End, Endpoint, Origin, Seen};

use super::client;

const CLIENTS: u32 = 10_000;

pub fn bench(criterion: &mut Criterion) {
    // Beside the target files: the disk that other files are on, which /tmp may not be.
    let dir = tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("ztmon.db");
    let delta = delta();
    let mut directory = Directory::default();
    directory.extend(&delta);

    let mut group = criterion.benchmark_group("store");
    group.sample_size(20);
    group.throughput(Throughput::Elements(delta.rows.len() as u64));
    let mut writer = Writer::open(&path).unwrap();
    let network = writer.network("", "").unwrap();
    let mut source = Source::new(network, Origin::Live);
    let mut commit = || {
        writer.begin().unwrap();
        writer.add(&mut source, &directory, &delta.rows).unwrap();
        writer.commit().unwrap();
    };
    // The first makes the rows that the others add to.
    commit();
    group.bench_function("commit", |bencher| bencher.iter(&mut commit));
    drop(writer);

    group.throughput(Throughput::Elements(CLIENTS.into()));
    assert_eq!(clients_at_start(&path), CLIENTS as usize);
    group.bench_function("start", |bencher| bencher.iter(|| clients_at_start(&path)));
    group.finish();
}

/// Each client sends to the next.
fn delta() -> Delta {
    let endpoint = |number| Endpoint { end: End::Addr(client(number)), mac: None };
    let counts = Counts { bytes: 1_000_000, packets: 1000, copies: 1000 };
    let row = |pair: u32| {
        let time = Timestamp::new(1_790_000_200, pair.into());
        DeltaRow::new(pair, time.bucket(), counts, Seen::at(time))
    };
    Delta {
        endpoints: (0..CLIENTS).map(endpoint).collect(),
        pairs: (0..CLIENTS).map(|number| (number, (number + 1) % CLIENTS)).collect(),
        rows: (0..CLIENTS).map(row).collect(),
    }
}

fn clients_at_start(path: &Path) -> usize {
    Writer::open(path).unwrap().live_totals().unwrap().len()
}
