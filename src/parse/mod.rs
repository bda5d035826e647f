//! Bytes become a [`Packet`] here, at one door, or a reason why not.
//!
//! Contract: any bytes whatever may come in; nothing is allocated, nothing panics, and a packet that comes out has its
//! addresses and its length from its own outermost IP header. Lengths are never compared with what was captured.

mod ip;
mod link;

use crate::frame::Frame;
use crate::packet::Packet;
use crate::traffic::Outcome;

/// Why a frame holds no packet that can be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Something other than IP follows the link header.
    NotIp,
    /// The frame says IP and contradicts itself.
    Malformed,
    /// The frame says IP and ends before its addresses do.
    CutShort {
        /// Bytes captured behind the link header: the tee rule's length, if that cut it.
        captured_len: usize,
        /// Whether it says IPv6.
        ipv6: bool,
    },
    /// A link type that is not read.
    UnsupportedLink,
}

impl Reject {
    /// The outcome under which the frame is counted.
    pub fn outcome(self) -> Outcome {
        match self {
            Reject::NotIp => Outcome::NotIp,
            Reject::Malformed | Reject::CutShort { .. } => Outcome::Malformed,
            Reject::UnsupportedLink => Outcome::UnsupportedLink,
        }
    }
}

/// Finds the IP packet in a frame.
pub fn packet<'a>(frame: &Frame<'a>) -> Result<Packet<'a>, Reject> {
    let link = link::open(frame.link, frame.data)?;
    let header = ip::read(&link, frame)?;
    let captured = &frame.data[link.ip_offset..];
    let bytes = match header.len_field_is_zero {
        true => captured,
        false => &captured[..captured.len().min(header.len as usize)],
    };
    Ok(Packet {
        src: header.src,
        dst: header.dst,
        len: header.len,
        macs: link.macs,
        to_group: link.to_group || ip::is_group(header.dst),
        tag_bytes: link.tag_bytes,
        captured_len: captured.len() + link.tag_bytes,
        bytes,
    })
}

#[cfg(test)]
mod tests;
