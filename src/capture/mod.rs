//! Frames from files and devices: the edge where bytes come in.
//!
//! [`History`] walks any number of capture files as one; [`CaptureFile`] is one of them.

mod classic;
mod file;
#[cfg(feature = "live")]
mod filter;
mod history;
mod input;
mod pcapng;

pub use file::{CaptureFile, Error};
#[cfg(feature = "live")]
pub use filter::Filter;
pub use history::{History, Problem, Source};

use crate::frame::LinkType;

/// The longest captured length that is believed, in bytes: libpcap's own limits.
fn max_captured_len(link: LinkType) -> u32 {
    match link.0 {
        // D-Bus messages and USB transfers.
        231 | 249 => 128 << 20,
        // EBHSCR, a recorder of in-vehicle buses.
        279 => 8 << 20,
        _ => 262_144,
    }
}

#[cfg(test)]
mod tests;
