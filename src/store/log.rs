//! The write-ahead log beside a database, as SQLite keeps it (<https://www.sqlite.org/fileformat2.html#walformat>): is
//! it whole, and does it belong there?
//!
//! SQLite takes the first frame that does not verify for the end of the log. That is right after a crash, which may
//! leave the last transaction half written. But a frame in the middle that went bad later would take all that was
//! committed behind it along, and nobody would be told.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result};

use super::table::Damage;
use super::{blame, wal};

/// Bytes of a page: what every database has, before it has a log.
const PAGE: u64 = 4096;

const HEADER_LEN: usize = 32;
const FRAME_HEADER_LEN: usize = 24;

/// An error if there is a log with something in it beside a file that is missing or too short to be its database, which
/// SQLite would throw away; or one that was damaged after it was written.
pub(super) fn check(path: &Path) -> Result<()> {
    let len = |path: &Path| path.metadata().map_or(0, |data| data.len());
    let log = wal(path);
    if len(path) < PAGE && len(&log) > 0 {
        let what = format!("it is missing or too short, and {} belongs to it", log.display());
        return Err(blame(path, "", Damage(what).into()));
    }
    match gap(path)? {
        Some(frame) => {
            Err(blame(path, "", Damage(format!("frame {frame} of {} is not what was written", log.display())).into()))
        }
        None => Ok(()),
    }
}

/// The number of the first frame that was damaged after it was written, if one was.
pub(super) fn gap(path: &Path) -> Result<Option<u64>> {
    let log = wal(path);
    let scan = || scan(&log).with_context(|| format!("cannot read {}", log.display()));
    let Some(found) = scan()? else { return Ok(None) };
    // What is only being written to looks different the next time.
    Ok(scan()?.filter(|again| *again == found).map(|gap| gap.frame))
}

/// Where a log breaks off before its end.
#[derive(Debug, PartialEq, Eq)]
struct Gap {
    frame: u64,
    /// Of the log: they change whenever it begins anew.
    salts: [u8; 8],
}

/// Looks for a frame that does not verify and has two commits of the same log behind it. A crash leaves at most one
/// there: the next transaction begins when the last one is on the disk (`synchronous=FULL`).
fn scan(log: &Path) -> std::io::Result<Option<Gap>> {
    let file = match File::open(log) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut log = BufReader::with_capacity(1 << 18, file);
    let mut header = [0; HEADER_LEN];
    if !fill(&mut log, &mut header)? {
        return Ok(None);
    }
    let [magic, _, page_len, _, _, _, first, second] = words(&header);
    // The last bit of the magic says in which order the words of a checksum are read.
    let mut sum = Sum { big_endian: magic & 1 == 1, sum: (0, 0) };
    sum.add(&header[..24]);
    if magic & !1 != 0x377f_0682 || !(512..=65_536).contains(&page_len) || sum.sum != (first, second) {
        return Ok(None);
    }
    let salts: [u8; 8] = std::array::from_fn(|at| header[16 + at]);
    let mut frame = vec![0; FRAME_HEADER_LEN + page_len as usize];
    let mut bad = None;
    let mut commits_behind = 0;
    for number in 1.. {
        if !fill(&mut log, &mut frame)? {
            break;
        }
        let [_, pages_after_commit, _, _, first, second] = words(&frame[..FRAME_HEADER_LEN]);
        let is_of_this_log = frame[8..16] == salts;
        if bad.is_none() {
            sum.add(&frame[..8]);
            sum.add(&frame[FRAME_HEADER_LEN..]);
            if !is_of_this_log || sum.sum != (first, second) {
                bad = Some(number);
            }
        } else if is_of_this_log && pages_after_commit > 0 {
            commits_behind += 1;
        }
    }
    Ok(bad.filter(|_| commits_behind > 1).map(|frame| Gap { frame, salts }))
}

/// Fills all of `bytes`; false at the end of the file.
fn fill(log: &mut impl Read, bytes: &mut [u8]) -> std::io::Result<bool> {
    match log.read_exact(bytes) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        filled => filled.map(|()| true),
    }
}

fn words<const COUNT: usize>(bytes: &[u8]) -> [u32; COUNT] {
    let (words, _) = bytes.as_chunks();
    std::array::from_fn(|at| words.get(at).map_or(0, |word| u32::from_be_bytes(*word)))
}

/// The running checksum of a log.
struct Sum {
    big_endian: bool,
    sum: (u32, u32),
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        let word = |bytes: &[u8; 4]| match self.big_endian {
            true => u32::from_be_bytes(*bytes),
            false => u32::from_le_bytes(*bytes),
        };
        let (mut first, mut second) = self.sum;
        for [a, b] in bytes.as_chunks::<4>().0.as_chunks().0 {
            first = first.wrapping_add(word(a)).wrapping_add(second);
            second = second.wrapping_add(word(b)).wrapping_add(first);
        }
        self.sum = (first, second);
    }
}
