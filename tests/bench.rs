//! `make bench` works, on a few frames, and finds every row and column of ztmon's equal to the naive reference's.
//! How long anything takes is not looked at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;
use std::process::Command;

use support::skip;
use tempfile::tempdir;

#[test]
fn it_compares_and_is_right() {
    let program = Path::new(env!("CARGO_BIN_EXE_ztmon"));
    let examples = program.parent().unwrap().join("examples");
    if !examples.join("reference").exists() || !examples.join("workload").exists() {
        return skip("the examples are not built: cargo build --examples");
    }
    for needed in ["python3", "time", "gzip", "zstd", "sqlite3"] {
        if !Path::new("/usr/bin").join(needed).exists() {
            return skip(&format!("{needed} is not installed"));
        }
    }
    let dir = tempdir().unwrap();
    // Minutes beyond what it takes.
    let mut bench = Command::new("timeout");
    bench.args(["900", "python3", concat!(env!("CARGO_MANIFEST_DIR"), "/benches/compare/replay.py")]);
    bench.envs([("ZTMON", program), ("EXAMPLES", &*examples), ("BENCH_DIR", dir.path())]);
    bench.envs([("FRAMES", "5000"), ("PEER_FRAMES", "1000"), ("ROUNDS", "1"), ("PYTHONDONTWRITEBYTECODE", "1")]);
    let ended = bench.output().unwrap();
    let [stdout, stderr] = [ended.stdout, ended.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(ended.status.success(), "{stderr}");
    let [none, both] = ["none", "both"].map(|tee| {
        let equal = format!("Every row and column of ztmon's `--tee {tee}` equals the naive reference's");
        stdout.matches(&equal).count()
    });
    assert_eq!((none, both), (4, 3), "{stdout}");
}
