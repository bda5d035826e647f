//! What the readers of both formats tell of a record, or of its damage.

use std::fmt;

use crate::frame::{Frame, LinkType};

/// What stands at the beginning of a window.
pub(super) enum Next<'w> {
    /// A record with a frame, and what comes behind it.
    Frame(Frame<'w>, &'w [u8]),
    /// A record without one, and what comes behind it.
    Other(&'w [u8]),
    /// So many bytes have to be there; a file that ends before them ends inside of this.
    Wanted(usize, &'static str),
}

/// How a file contradicts its format.
#[derive(Debug)]
pub(super) enum Damage {
    Ends(&'static str),
    CapturedLen(u32),
    Block(&'static str),
    BlockLen(u32),
    Interface(u32),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Ends(inside) => write!(f, "the file ends inside {inside}"),
            Damage::CapturedLen(len) => write!(f, "a captured length of {len} bytes cannot be"),
            Damage::Block(what) => f.write_str(what),
            Damage::BlockLen(len) => write!(f, "a block length of {len} bytes cannot be"),
            Damage::Interface(number) => write!(f, "a packet names interface {number}, which was not described"),
        }
    }
}

/// The longest captured length that is believed, in bytes: libpcap's own limits.
pub(super) fn max_captured_len(link: LinkType) -> u32 {
    match link.0 {
        // D-Bus messages and USB transfers.
        231 | 249 => 128 << 20,
        // EBHSCR, a recorder of in-vehicle buses.
        279 => 8 << 20,
        _ => 262_144,
    }
}

/// The words that bytes begin with. From an array, because the compiler makes one load of four bytes only where it knows
/// that they are there.
#[inline(always)]
pub(super) fn words<const BYTES: usize, const WORDS: usize>(bytes: &[u8; BYTES], big_endian: bool) -> [u32; WORDS] {
    let words = std::array::from_fn(|at| {
        let at = 4 * at;
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    });
    if big_endian { words.map(u32::swap_bytes) } else { words }
}
