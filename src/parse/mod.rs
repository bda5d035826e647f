//! Bytes become a [`Packet`] here, at one door, or a reason why not.
//!
//! Contract: any bytes whatever may come in; nothing is allocated, nothing panics, and a packet that comes out has its
//! addresses and its length from its own outermost IP header. Lengths are never compared with what was captured.

mod ip;
mod link;

use crate::frame::{Frame, LinkType};
use crate::packet::{Flow, Packet};
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
#[inline]
pub fn packet<'a>(frame: &Frame<'a>) -> Result<Packet<'a>, Reject> {
    match plain(frame) {
        Some(packet) => Ok(packet),
        None => any(frame),
    }
}

/// What nearly every frame is: Ethernet without tags, a whole IP header in order, its length stated. None if it is
/// something else; [`any`] tells what.
#[inline]
fn plain<'a>(frame: &Frame<'a>) -> Option<Packet<'a>> {
    let (link, captured) = frame.data.split_first_chunk::<14>()?;
    let (macs, last) = (link.first_chunk::<8>()?, link.last_chunk::<8>()?);
    let (dst_mac, last) = (u64::from_be_bytes(*macs) >> 16, u64::from_be_bytes(*last));
    let macs = Some((last >> 16, dst_mac));
    let mut to_group = dst_mac >> 40 & 1 == 1;
    let (flow, len) = match (frame.link, last as u16) {
        (LinkType::ETHERNET, 0x0800) => {
            let header = captured.first_chunk::<20>()?;
            let (len, header_len) = (u16::from_be_bytes([header[2], header[3]]), u16::from(header[0] & 15) * 4);
            if header[0] >> 4 != 4 || header_len < 20 || len < header_len {
                return None;
            }
            let addresses = u64::from_be_bytes(*header.last_chunk()?);
            let (src, dst) = ((addresses >> 32) as u32, addresses as u32);
            to_group |= dst >> 28 == 0xe || dst == u32::MAX;
            (Flow::ipv4(src, dst, macs, to_group), u32::from(len))
        }
        (LinkType::ETHERNET, 0x86dd) => {
            let header = captured.first_chunk::<40>()?;
            let len = u16::from_be_bytes([header[4], header[5]]);
            if header[0] >> 4 != 6 || len == 0 {
                return None;
            }
            let (src, dst) = (header[8..].first_chunk()?, header.last_chunk()?);
            let (src, dst) = (u128::from_be_bytes(*src), u128::from_be_bytes(*dst));
            to_group |= dst >> 120 == 0xff;
            (Flow::ipv6(src, dst, macs, to_group), 40 + u32::from(len))
        }
        _ => return None,
    };
    let bytes = &captured[..captured.len().min(len as usize)];
    Some(Packet { flow, len, tag_bytes: 0, captured_len: captured.len(), bytes })
}

/// Any frame whatever.
fn any<'a>(frame: &Frame<'a>) -> Result<Packet<'a>, Reject> {
    let link = link::open(frame.link, frame.data)?;
    let header = ip::read(&link, frame)?;
    let captured = &frame.data[link.ip_offset..];
    let bytes = match header.len_field_is_zero {
        true => captured,
        false => &captured[..captured.len().min(header.len as usize)],
    };
    Ok(Packet {
        flow: Flow::new(header.src, header.dst, link.macs, link.to_group || ip::is_group(header.dst)),
        len: header.len,
        tag_bytes: link.tag_bytes,
        captured_len: captured.len() + link.tag_bytes,
        bytes,
    })
}

#[cfg(test)]
mod tests;
