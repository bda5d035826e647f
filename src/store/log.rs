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
use rusqlite::Connection;

use super::read::connect;
use super::table::{Damage, Mark};
use super::{blame, wal};

/// Bytes of a page: what every database has, before it has a log.
const PAGE: u64 = 4096;

const HEADER_LEN: usize = 32;
const FRAME_HEADER_LEN: usize = 24;

/// An error if there is a log with something in it beside a file that is missing or too short to be its database: SQLite
/// would throw it away.
pub(super) fn check_length(path: &Path) -> Result<()> {
    let len = |path: &Path| path.metadata().map_or(0, |data| data.len());
    let log = wal(path);
    if len(path) < PAGE && len(&log) > 0 {
        let what = format!("it is missing or too short, and {} belongs to it", log.display());
        return Err(blame(path, "", Damage(what).into()));
    }
    Ok(())
}

/// The same, or if there is one that was damaged after it was written.
pub(super) fn check(path: &Path) -> Result<()> {
    check_length(path)?;
    match gap(path)? {
        Some(frame) => {
            let what = if frame == 0 { "the header".to_owned() } else { format!("frame {frame}") };
            Err(blame(path, "", Damage(format!("{what} of {} is not what was written", wal(path).display())).into()))
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

/// How far the database file is by itself, without its log. To be asked before anything else of this process opens it.
pub(super) fn mark_without(path: &Path) -> Option<Mark> {
    connect(path, true).ok().and_then(|conn| Mark::read(&conn).ok()).flatten()
}

/// An error if the log takes the database back behind what it was [by itself](mark_without): then it is one of an
/// earlier time, or another database's.
pub(super) fn check_mark(conn: &Connection, without: Option<Mark>) -> Result<()> {
    match without {
        Some(mark) if !Mark::read(conn)?.is_some_and(|with| with.follows(mark)) => {
            Err(Damage("its -wal is older than it is, or another database's".to_owned()).into())
        }
        _ => Ok(()),
    }
}

/// Where a log breaks off before its end.
#[derive(Debug, PartialEq, Eq)]
struct Gap {
    frame: u64,
    /// Of the log: they change whenever it begins anew.
    salts: [u8; 8],
}

/// Looks for a frame that does not verify and has two commits behind it, of the same log and in one chain of checksums.
/// A crash leaves at most one there, as the next transaction begins when the last one is on the disk
/// (`synchronous=FULL`); and each commit that failed is the end of its chain. Number 0 is the log's header.
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
    let mut sum = Sum::new(magic);
    sum.add(&header[..24]);
    let of_log: [u8; 8] = std::array::from_fn(|at| header[16 + at]);
    let is_header = magic & !1 == 0x377f_0682 && page_len == PAGE as u32 && sum.is((first, second));
    let mut bad = if is_header { None } else { Some(0) };
    if bad.is_some() {
        sum = Sum::new(MAGIC);
    }
    let mut frame = [0; FRAME_HEADER_LEN + PAGE as usize];
    let (mut salts, mut commits) = (of_log, 0);
    for number in 1.. {
        if !fill(&mut log, &mut frame)? {
            break;
        }
        let [_, pages_after_commit, _, _, first, second] = words(&frame[..FRAME_HEADER_LEN]);
        // From the checksum of the frame before, whether that was right or not.
        sum.add(&frame[..8]);
        sum.add(&frame[FRAME_HEADER_LEN..]);
        let follows = sum.is((first, second)) && frame[8..16] == salts;
        sum.sum = (first, second);
        if bad.is_none() && !follows {
            bad = Some(number);
        }
        if !follows {
            (salts, commits) = (std::array::from_fn(|at| frame[8 + at]), 0);
        }
        if bad.is_some_and(|bad| number > bad) && pages_after_commit > 0 && (bad == Some(0) || salts == of_log) {
            commits += 1;
        }
        if commits == 2 {
            let is_half_written = bad == Some(0) && is_half_written(&header, salts);
            return Ok(bad.filter(|_| !is_half_written).map(|frame| Gap { frame, salts }));
        }
    }
    Ok(None)
}

/// Whether a log was to begin anew, with this header in place of that of the frames with these salts, and a crash came
/// between: then the database has everything. The new header has the next sequence number and first salt, and any second.
fn is_half_written(header: &[u8; HEADER_LEN], salts: [u8; 8]) -> bool {
    let [magic, _, _, sequence, first_salt, second_salt, first, second] = words(header);
    let [old_first_salt, old_second_salt] = words(&salts);
    let mut before = *header;
    before[12..16].copy_from_slice(&u32::to_be_bytes(sequence.wrapping_sub(1)));
    before[16..24].copy_from_slice(&salts);
    let mut sum = Sum::new(magic);
    sum.add(&before[..24]);
    sum.is((first, second)) || (first_salt == old_first_salt.wrapping_add(1) && second_salt != old_second_salt)
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

/// What begins a log that this machine writes.
const MAGIC: u32 = if cfg!(target_endian = "big") { 0x377f_0683 } else { 0x377f_0682 };

impl Sum {
    /// The last bit of the magic says in which order the words are read.
    fn new(magic: u32) -> Self {
        Sum { big_endian: magic & 1 == 1, sum: (0, 0) }
    }

    fn is(&self, sum: (u32, u32)) -> bool {
        self.sum == sum
    }

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
