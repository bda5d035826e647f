//! `ztmon serve` on a disk that fails, fills up, hangs or loses power, killed at any moment, under a clock that jumps.
//!
//! What must hold all the while: no counter ever falls below what a scrape has seen, what was sent was received, and
//! once the fault is over every packet is counted once.
//!
//! The faults come from a library that is loaded into the real program (`shim.c`), so this takes Linux with glibc and
//! a C compiler; the traffic takes root and network namespaces, as that of `live.rs` does.
#![cfg(all(target_os = "linux", target_env = "gnu", feature = "live"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod clock;
mod coverage;
mod cut;
mod disk;
mod frozen;
mod kills;
mod power;
mod shim;
mod traffic;
mod watch;

/// How much of a test to run: from the environment, or as much as fits among the other tests. CONTRIBUTING.md lists
/// the names.
fn how_much(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value}: no number")))
}

/// Numbers that come again with the same seed: splitmix64.
struct Random(u64);

impl Random {
    /// From ZTMON_SEED, or never the same; says which, so that a failure can be had again.
    fn new(test: &str) -> Random {
        let since_epoch = std::time::UNIX_EPOCH.elapsed().unwrap();
        let seed = how_much("ZTMON_SEED", since_epoch.as_micros() as u64);
        eprintln!("{test}: ZTMON_SEED={seed}");
        Random(seed)
    }

    /// Below `end`, which is far below 2⁶⁴.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
