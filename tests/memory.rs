//! Memory is bounded, whatever arrives: floods from spoofed addresses behind spoofed MACs, all within one pairing
//! window, and every sum exact.
//!
//! The floods have as many frames as it takes to reach the limits. With `ZTMON_FLOOD=10000000` they have so many.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use support::numbers::{Total, Totals, report};
use support::serve::Setup;
use support::{KillOnDrop, run, skip, ztmon};
use tempfile::{TempDir, tempdir};

/// Longer than a flood takes, ten million frames included.
const PATIENCE: Duration = Duration::from_secs(1200);

/// What ztmon may use at its peak, in MiB.
const MOST: u64 = 256;

/// The limits, which are those that ztmon has if it is not told of others.
const ADDRESSES: usize = 262_144;
const PAIRS: usize = 1_048_576;

/// Known clients, of which any may send to any server: so many pairs that their limit is reached.
const CLIENTS: u64 = 200_000;
const SERVERS: u64 = 60_000;

/// Frames of which no two are of one pair, from known clients at first, and then from sources never seen.
struct Flood {
    frames: u64,
    /// Of all packets.
    bytes: u64,
    path: PathBuf,
    dir: TempDir,
    /// As large as it can get.
    full: bool,
}

impl Flood {
    fn new(pairs: u64, spoofed: u64) -> Flood {
        let full = std::env::var("ZTMON_FLOOD").ok().map(|frames| frames.parse().unwrap());
        let frames = full.unwrap_or(pairs + spoofed);
        let pairs = full.map_or(pairs, |frames| frames * 4 / 10);
        let dir = tempdir().unwrap();
        let path = dir.path().join("flood.pcap");
        let mut file = BufWriter::new(File::create(&path).unwrap());
        file.write_all(&[0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 262_144, 1].map(u32::to_le_bytes).concat()).unwrap();
        let mut bytes = 0;
        for number in 0..frames {
            let (src, dst) = match number {
                pair if pair < pairs => {
                    let client = pair % CLIENTS;
                    (client, (1 << 23) + (client * 7 + pair / CLIENTS) % SERVERS)
                }
                // An odd factor makes of different numbers different addresses, and leaves those below alone.
                spoofed => ((1 << 22) | (spoofed.wrapping_mul(7919) % (1 << 22)) | ((spoofed >> 22) << 22), 1 << 23),
            };
            let len = 60 + (number % 1000) as u16;
            bytes += u64::from(len);
            file.write_all(&frame(number * 1_900_000 / frames, src, dst, len, number as u16)).unwrap();
        }
        file.flush().unwrap();
        Flood { frames, bytes, path, dir, full: full.is_some() }
    }

    fn db(&self) -> PathBuf {
        self.dir.path().join("ztmon.db")
    }

    fn assert_all_in(&self, totals: &Totals) {
        totals.assert_balanced();
        let Total { sent_bytes, sent_packets, .. } = totals.sum();
        assert_eq!((sent_packets, sent_bytes), (self.frames, self.bytes));
    }
}

/// A long history: a packet each second among a hundred clients, in which every tenth comes from the time before.
fn long_history(path: &Path, packets: u64) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(&[0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 262_144, 1].map(u32::to_le_bytes).concat()).unwrap();
    for number in 0..packets {
        let seconds = if number % 10 == 9 { number / 2 } else { number };
        file.write_all(&frame(seconds * 1_000_000, number % 100, 100, 60, number as u16)).unwrap();
    }
    file.flush().unwrap();
}

/// A very long silence: nothing but ARP requests, ten minutes apart.
fn silence(path: &Path, frames: u64) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(&[0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 262_144, 1].map(u32::to_le_bytes).concat()).unwrap();
    for number in 0..frames {
        let record = [number as u32 * 600, 0, 42, 42].map(u32::to_le_bytes).concat();
        file.write_all(&[&record[..], &[0xff; 12], &[8, 6], &[0; 28]].concat()).unwrap();
    }
    file.flush().unwrap();
}

/// A packet in a capture, so many microseconds after the first. Each address has a MAC of its own.
fn frame(micros: u64, src: u64, dst: u64, len: u16, id: u16) -> Vec<u8> {
    let (seconds, micros) = (1_700_000_000 + micros / 1_000_000, micros % 1_000_000);
    let mut record: Vec<u8> = [seconds as u32, micros as u32, 34, u32::from(len) + 14].map(u32::to_le_bytes).concat();
    for node in [dst, src] {
        record.extend(&(0x0200_0000_0000 | node.wrapping_mul(0x9e_3779_b97f) & 0xff_ffff_ffff).to_be_bytes()[2..]);
    }
    record.extend([8, 0, 0x45, 0]);
    record.extend(len.to_be_bytes());
    record.extend(id.to_be_bytes());
    record.extend([0, 0, 64, 17, 0, 0]);
    for node in [src, dst] {
        record.extend((10 << 24 | node as u32).to_be_bytes());
    }
    record
}

/// The most that a running process has used, in MiB.
fn peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib: u64 =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib.div_ceil(1024))
}

fn can_be_measured() -> bool {
    let can = peak(std::process::id()).is_some();
    if !can {
        skip("there is no /proc that tells how much memory is used");
    }
    can
}

/// Replays the file; gives the output and the peak of memory.
fn replay(file: &Path, flags: &[&str]) -> (Vec<String>, u64) {
    let mut lines = Vec::new();
    let peak = replay_line_by_line(file, flags, |line| lines.push(line));
    (lines, peak)
}

/// Replays the file and gives the peak of memory. It is taken while the output is printed, which is the last thing that
/// happens, and waits for its reader: the lines are more than a pipe holds.
fn replay_line_by_line(file: &Path, flags: &[&str], mut each: impl FnMut(String)) -> u64 {
    let mut command = ztmon();
    command.args(["replay", "--quiet"]).args(flags).arg(file).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = KillOnDrop(command.spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    each(lines.next().expect("an output"));
    let peak = peak(child.0.id()).unwrap();
    lines.for_each(each);
    assert!(child.0.wait().unwrap().success());
    peak
}

/// The worst for a replay: both limits are reached, and a line is printed for every pair.
#[test]
fn replay_by_pair() {
    if !can_be_measured() {
        return;
    }
    let flood = Flood::new(1_060_000, 100_000);
    let (lines, peak) = replay(&flood.path, &["--by", "pair"]);
    let column =
        |at: usize| lines[1..].iter().map(|line| line.split(',').nth(at).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!((column(3), column(2)), (flood.frames, flood.bytes));
    assert_eq!(lines.len(), 1 + PAIRS + 1, "all that there may be, and other");
    eprintln!("peak memory: {peak} MiB");
    assert!(peak < MOST, "{peak} MiB");
}

#[test]
fn replay_into_a_database() {
    if !can_be_measured() {
        return;
    }
    let flood = Flood::new(0, 265_000);
    let db = flood.db();
    let (lines, peak) = replay(&flood.path, &["--db", db.to_str().unwrap()]);
    let totals = Totals::from_csv(&lines.join("\n"));
    flood.assert_all_in(&totals);
    assert_eq!(totals.0.len(), ADDRESSES + 1, "all that there may be, and other");
    report(&db, "import").assert_same(&totals);
    eprintln!("peak memory: {peak} MiB");
    assert!(peak < if flood.full { MOST } else { MOST * 2 / 3 }, "{peak} MiB");
}

/// Four increments of a counter for each packet: more than are held in memory.
#[test]
fn replay_as_openmetrics() {
    if !can_be_measured() {
        return;
    }
    let dir = tempdir().unwrap();
    let file = dir.path().join("long.pcap");
    let packets = 300_000;
    long_history(&file, packets);
    let flags = ["--tee", "none", "--format", "openmetrics", "--step", "1s"];
    let (mut sums, mut last) = ([0; 2], (String::new(), 0, 0));
    let peak = replay_line_by_line(&file, &flags, |line| {
        let mut words = line.rsplitn(3, ' ');
        let (time, value, series) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or(""));
        let (Ok(time), Ok(value)) = (time.parse::<u64>(), value.parse::<u64>()) else { return };
        if series == last.0 {
            assert!(last.1 < time && last.2 <= value, "{line}");
            let column = ["zerotier_host_sent_bytes", "zerotier_host_received_bytes"];
            if let Some(at) = column.iter().position(|name| series.starts_with(name)) {
                sums[at] += value - last.2;
            }
            (last.1, last.2) = (time, value);
        } else {
            assert_eq!(value, u64::from(series.contains("_info{")), "{line}");
            last = (series.to_owned(), time, value);
        }
    });
    assert_eq!(sums, [packets * 60; 2]);
    eprintln!("peak memory: {peak} MiB");
    assert!(peak < MOST / 2, "{peak} MiB");

    let mut command = ztmon();
    let ended = run(command.env("TMPDIR", dir.path().join("nowhere")).arg("replay").args(flags).arg(&file));
    assert!(ended.refusal().starts_with("ztmon: cannot sort in a temporary file in $TMPDIR or /tmp: "), "{ended:?}");
}

#[test]
fn serve_with_scrapes() {
    if !can_be_measured() {
        return;
    }
    let flood = Flood::new(0, 265_000);
    let db = flood.db();
    let serve = Setup::new(&db).source(&flood.path, "max").start();
    let start = Instant::now();
    loop {
        let totals = serve.scrape().totals();
        if totals.sum().sent_packets >= flood.frames {
            flood.assert_all_in(&totals);
            break;
        }
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(200));
    }
    let peak = peak(serve.pid()).unwrap();
    serve.stop();
    let totals = report(&db, "live");
    flood.assert_all_in(&totals);
    assert_eq!(totals.0.len(), ADDRESSES + 1, "all that there may be, and other");
    eprintln!("peak memory: {peak} MiB");
    assert!(peak < if flood.full { MOST } else { MOST * 2 / 3 }, "{peak} MiB");
}

/// Nothing moves, and much is seen: each frame shows five minutes of its own.
#[test]
fn serve_without_packets() {
    if !can_be_measured() {
        return;
    }
    let dir = tempdir().unwrap();
    let (file, frames) = (dir.path().join("silence.pcap"), 150_000);
    silence(&file, frames);
    let serve = Setup::new(&dir.path().join("ztmon.db")).source(&file, "max").start();
    serve.wait_for_log(&format!("played {frames} frames, all there are"), 1);
    let peak = peak(serve.pid()).unwrap();
    serve.stop();
    eprintln!("peak memory: {peak} MiB");
    assert!(peak < MOST / 5, "{peak} MiB");
}
