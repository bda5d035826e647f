//! What the readers of both formats tell of a record, or of its damage.

use std::fmt;

use crate::frame::LinkType;

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
