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
pub fn packet<'a>(frame: &Frame<'a>) -> Result<Packet<'a>, Reject> {
    plain_ipv4(frame).or_else(|| plain_ipv6(frame)).map_or_else(|| any(frame), Ok)
}

/// The short way for what nearly every frame is: Ethernet without tags, from one node to another, with a whole IPv4
/// header without options that states its length. None if it is something else; [`packet`] tells what.
#[inline(always)]
pub fn plain_ipv4<'a>(frame: &Frame<'a>) -> Option<Packet<'a>> {
    let (head, macs) = ethernet::<34>(frame, [0x08, 0x00])?;
    let len = u16::from_be_bytes([head[16], head[17]]);
    if head[14] != 0x45 || len < 20 || head[30] >= FIRST_IPV4_GROUP {
        return None;
    }
    Some(plain(frame, [macs.0, macs.1, word(head, 26)?, 0, 0, 0], len.into()))
}

/// The same for IPv6.
#[inline(always)]
fn plain_ipv6<'a>(frame: &Frame<'a>) -> Option<Packet<'a>> {
    let (head, macs) = ethernet::<54>(frame, [0x86, 0xdd])?;
    let len = u16::from_be_bytes([head[18], head[19]]);
    if head[14] >> 4 != 6 || len == 0 || head[38] == IPV6_GROUP {
        return None;
    }
    let [src, dst] = [22, 38].map(|at| Some((word(head, at)?, word(head, at + 8)?)));
    let (src, dst) = (src?, dst?);
    Some(plain(frame, [macs.0, macs.1, src.0, src.1, dst.0, dst.1], 40 + u32::from(len)))
}

/// The first byte of the first IPv4 address that is no single host's, and of every IPv6 group.
const FIRST_IPV4_GROUP: u8 = 224;
const IPV6_GROUP: u8 = 0xff;

/// Looks for an Ethernet frame of this type to one node: its first bytes, and its words of a flow.
#[inline(always)]
fn ethernet<'a, const LEN: usize>(frame: &Frame<'a>, ether_type: [u8; 2]) -> Option<(&'a [u8; LEN], (u64, u64))> {
    let head = frame.data.first_chunk()?;
    let (dst_mac, src_mac_and_type) = (word(head, 0)? << 16, word(head, 6)?);
    let (ether_type, is_group) = (u64::from(u16::from_le_bytes(ether_type)), head[0] & 1 == 1);
    if frame.link != LinkType::ETHERNET || src_mac_and_type >> 48 != ether_type || is_group {
        return None;
    }
    Some((head, (src_mac_and_type, dst_mac)))
}

/// Eight bytes, the first one lowest: as a flow has them.
#[inline(always)]
fn word<const LEN: usize>(head: &[u8; LEN], at: usize) -> Option<u64> {
    head.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[inline(always)]
fn plain<'a>(frame: &Frame<'a>, flow: [u64; 6], len: u32) -> Packet<'a> {
    let captured = frame.data.get(14..).unwrap_or_default();
    let bytes = captured.get(..len as usize).unwrap_or(captured);
    Packet { flow: Flow::from_words(flow), len, tag_bytes: 0, captured_len: captured.len(), bytes }
}

/// Any frame whatever.
fn any<'a>(frame: &Frame<'a>) -> Result<Packet<'a>, Reject> {
    let link = link::open(frame.link, frame.data)?;
    let captured = &frame.data[link.ip_offset..];
    // Where the header leaves its length open, the rest of the frame may tell it.
    let rest = (frame.original_len as usize).saturating_sub(link.ip_offset);
    let header = ip::read(&link, captured, rest)?;
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
