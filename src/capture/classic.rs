//! The classic pcap file format (<https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/>), its older versions and the
//! "modified" one.
//!
//! Ours, because no library reads all of them: pcap-file takes neither the modified format nor the swapped lengths of
//! early versions, and checks no version.

use std::ops::ControlFlow;

use super::input::Input;
use super::record::{Damage, max_captured_len};
use crate::frame::{Frame, LinkType};
use crate::time::Timestamp;

const FILE_HEADER_LEN: usize = 24;

/// What the file header says about the records.
pub(super) struct Classic {
    big_endian: bool,
    /// Nanoseconds per unit of the fraction.
    unit: u64,
    record_header_len: usize,
    lengths: Lengths,
    link: LinkType,
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
        let (big_endian, unit, record_header_len) = format(*header.first_chunk()?)?;
        let word = |at| word(&header, at, big_endian);
        // Major and minor version stand in the order of the bytes, whatever their own is.
        let (major, minor) = match big_endian {
            true => (word(4) >> 16, word(4) & 0xffff),
            false => (word(4) & 0xffff, word(4) >> 16),
        };
        let lengths = match (major, minor) {
            (2, ..=2) | (543, 0) => Lengths::OriginalFirst,
            (2, 3) => Lengths::SmallerIsCaptured,
            (2, 4..) => Lengths::CapturedFirst,
            _ => return None,
        };
        input.consume(FILE_HEADER_LEN);
        Some(Classic { big_endian, unit, record_header_len, lengths, link: LinkType::from_file(word(20)) })
    }

    /// Gives `each` the frames, one after another, until it breaks off or the file ends. The frame at which it breaks off
    /// comes again.
    #[inline]
    pub(super) fn read<B>(
        &self,
        input: &mut Input,
        each: &mut impl FnMut(&Frame<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, Damage> {
        let longest = max_captured_len(self.link);
        loop {
            let window = input.window();
            let mut at = 0;
            let (mut broken, mut wanted) = (None, self.record_header_len);
            while let Some((header, rest)) = window[at..].split_at_checked(self.record_header_len) {
                let (time, captured_len, original_len) = self.header(header);
                if captured_len > longest {
                    input.consume(at);
                    return Err(Damage::CapturedLen(captured_len));
                }
                let len = captured_len as usize;
                let Some(data) = rest.get(..len) else {
                    wanted = self.record_header_len + len;
                    break;
                };
                if let ControlFlow::Break(why) = each(&Frame { time, link: self.link, original_len, data }) {
                    broken = Some(why);
                    break;
                }
                at += self.record_header_len + len;
            }
            input.consume(at);
            if broken.is_some() {
                return Ok(broken);
            }
            match input.peek(wanted).len() {
                len if len == wanted => (),
                0 => return Ok(None),
                len if len < self.record_header_len => return Err(Damage::Ends("a record's header")),
                _ => return Err(Damage::Ends("a record")),
            }
        }
    }

    /// Time, captured and original length of a record.
    #[inline]
    fn header(&self, header: &[u8]) -> (Timestamp, u32, u32) {
        let word = |at| word(header, at, self.big_endian);
        let time = Timestamp::new(i64::from(word(0)), u64::from(word(4)) * self.unit);
        let (first, second) = (word(8), word(12));
        let (captured_len, original_len) = match self.lengths {
            Lengths::CapturedFirst => (first, second),
            Lengths::OriginalFirst => (second, first),
            Lengths::SmallerIsCaptured => (first.min(second), first.max(second)),
        };
        (time, captured_len, original_len)
    }
}

/// Byte order, nanoseconds per unit of the fraction, and length of a record's header, by the magic.
fn format(magic: [u8; 4]) -> Option<(bool, u64, usize)> {
    let of = |magic| match magic {
        0xa1b2_c3d4 => Some((1_000, 16)),
        0xa1b2_3c4d => Some((1, 16)),
        // Alexey Kuznetzov's "modified" format: interface, protocol and packet type follow the lengths.
        0xa1b2_cd34 => Some((1_000, 24)),
        _ => None,
    };
    let big = of(u32::from_be_bytes(magic)).map(|(unit, len)| (true, unit, len));
    big.or_else(|| of(u32::from_le_bytes(magic)).map(|(unit, len)| (false, unit, len)))
}

#[inline]
fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
}
