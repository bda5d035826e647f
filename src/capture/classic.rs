//! The classic pcap file format (<https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/>), its older versions and the
//! "modified" one.
//!
//! Ours, because no library reads all of them: pcap-file takes neither the modified format nor the swapped lengths of
//! early versions, and checks no version.

use super::input::Input;
use super::record::{Damage, Next, max_captured_len, words};
use crate::frame::{Frame, LinkType};
use crate::time::{SECOND, Timestamp};

const FILE_HEADER_LEN: usize = 24;
const RECORD_HEADER_LEN: usize = 16;

/// What the file header says about the records.
pub(super) struct Classic {
    big_endian: bool,
    /// Nanoseconds per unit of the fraction.
    unit: u64,
    /// Bytes of a record's header behind the usual ones.
    more_header: usize,
    lengths: Lengths,
    link: LinkType,
    /// The longest captured length that is believed.
    longest: u32,
    /// Little-endian, the captured length first, nothing behind: what is to be read is as it stands.
    is_usual: bool,
}

/// Which of a record's two lengths comes first.
enum Lengths {
    CapturedFirst,
    OriginalFirst,
    /// Version 2.3: whichever; the captured one is the smaller.
    SmallerIsCaptured,
}

impl Classic {
    /// Whether these four bytes start such a file.
    pub(super) fn has_magic(magic: &[u8]) -> bool {
        magic.first_chunk().is_some_and(|&magic| format(magic).is_some())
    }

    /// Reads the file header; `None` if it is none.
    pub(super) fn open(input: &mut Input) -> Option<Self> {
        let header: [u8; FILE_HEADER_LEN] = *input.peek(FILE_HEADER_LEN).first_chunk()?;
        let (big_endian, unit, more_header) = format(*header.first_chunk()?)?;
        let [_, version, _, _, _, link] = words(&header, big_endian);
        // Major and minor version stand in the order of the bytes, whatever their own is.
        let (major, minor) = match big_endian {
            true => (version >> 16, version & 0xffff),
            false => (version & 0xffff, version >> 16),
        };
        let lengths = match (major, minor) {
            (2, ..=2) | (543, 0) => Lengths::OriginalFirst,
            (2, 3) => Lengths::SmallerIsCaptured,
            (2, 4..) => Lengths::CapturedFirst,
            _ => return None,
        };
        let link = LinkType::from_file(link);
        input.consume(FILE_HEADER_LEN);
        let is_usual = !big_endian && matches!(lengths, Lengths::CapturedFirst) && more_header == 0;
        Some(Classic { big_endian, unit, more_header, lengths, link, longest: max_captured_len(link), is_usual })
    }

    /// Reads the record at the beginning of `window`.
    #[inline(always)]
    pub(super) fn next<'w>(&self, window: &'w [u8]) -> Result<Next<'w>, Damage> {
        let Some((header, mut rest)) = window.split_first_chunk::<RECORD_HEADER_LEN>() else {
            return Ok(Next::Wanted(RECORD_HEADER_LEN + self.more_header, "a record's header"));
        };
        let [mut seconds, mut fraction, mut captured_len, mut original_len] = words(header, false);
        if !self.is_usual {
            [seconds, fraction, captured_len, original_len] = self.unusual(header);
            rest = match rest.get(self.more_header..) {
                Some(rest) => rest,
                None => return Ok(Next::Wanted(RECORD_HEADER_LEN + self.more_header, "a record's header")),
            };
        }
        if captured_len > self.longest {
            return Err(Damage::CapturedLen(captured_len));
        }
        let Some((data, rest)) = rest.split_at_checked(captured_len as usize) else {
            return Ok(Next::Wanted(RECORD_HEADER_LEN + self.more_header + captured_len as usize, "a record"));
        };
        // At most 2³² seconds and 2³² microseconds: 64 bits are enough.
        let nanos = u64::from(seconds) * SECOND as u64 + u64::from(fraction) * self.unit;
        Ok(Next::Frame(Frame { time: Timestamp(nanos.into()), link: self.link, original_len, data }, rest))
    }

    /// Seconds, fraction, captured and original length, where the header does not have them so.
    fn unusual(&self, header: &[u8; RECORD_HEADER_LEN]) -> [u32; 4] {
        let [seconds, fraction, first, second] = words(header, self.big_endian);
        let (captured_len, original_len) = match self.lengths {
            Lengths::CapturedFirst => (first, second),
            Lengths::OriginalFirst => (second, first),
            Lengths::SmallerIsCaptured => (first.min(second), first.max(second)),
        };
        [seconds, fraction, captured_len, original_len]
    }
}

/// Byte order, nanoseconds per unit of the fraction, and bytes of a record's header behind the usual ones, by the magic.
fn format(magic: [u8; 4]) -> Option<(bool, u64, usize)> {
    let of = |magic| match magic {
        0xa1b2_c3d4 => Some((1_000, 0)),
        0xa1b2_3c4d => Some((1, 0)),
        // Alexey Kuznetzov's "modified" format: interface, protocol and packet type follow the lengths.
        0xa1b2_cd34 => Some((1_000, 8)),
        _ => None,
    };
    let big = of(u32::from_be_bytes(magic)).map(|(unit, len)| (true, unit, len));
    big.or_else(|| of(u32::from_le_bytes(magic)).map(|(unit, len)| (false, unit, len)))
}
