//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers, up to the destination address.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::Ipv6HeaderSlice;

use super::Reject;
use super::link::{Link, Protocol};

/// Bytes of an IPv4 header up to and with the destination address. Options need not be captured.
const IPV4_LEN: usize = 20;
/// Bytes of an IPv6 header.
const IPV6_LEN: usize = 40;
/// The longest packet that a header with length field 0 may claim through its frame.
const MAX_UNSTATED_LEN: usize = 1 << 20;
/// The longest packet that an IPv6 header can state.
const MAX_IPV6_LEN: usize = IPV6_LEN + 65_535;
/// IPv6 next header 59: nothing follows.
const NO_NEXT_HEADER: u8 = 59;

/// What counting needs of an IP header.
pub(super) struct Header {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// Length of the packet in bytes.
    pub len: u32,
    /// The header left its length open (segmentation offload, jumbograms).
    pub len_field_is_zero: bool,
}

/// Reads the header that the link layer promised; `rest` is the frame's length from there on.
pub(super) fn read(link: &Link, data: &[u8], rest: usize) -> Result<Header, Reject> {
    let cut_short = |ipv6| Reject::CutShort { captured_len: data.len() + link.tag_bytes, ipv6 };
    let version = data.first().map(|first| first >> 4);
    let protocol = match link.protocol {
        Protocol::ByVersion => match version {
            Some(4) => Protocol::Ipv4,
            Some(6) => Protocol::Ipv6,
            _ => return Err(Reject::Malformed),
        },
        stated => stated,
    };
    if protocol == Protocol::Ipv4 {
        match version {
            Some(4) => ipv4(data.first_chunk().ok_or(cut_short(false))?, rest),
            None => Err(cut_short(false)),
            Some(_) => Err(Reject::Malformed),
        }
    } else {
        match version {
            Some(6) if data.len() < IPV6_LEN => Err(cut_short(true)),
            Some(6) => ipv6(&Ipv6HeaderSlice::from_slice(data).map_err(|_| Reject::Malformed)?, rest),
            None => Err(cut_short(true)),
            Some(_) => Err(Reject::Malformed),
        }
    }
}

/// etherparse's IPv4 slice wants the options captured too; a tee'd header may end before them.
fn ipv4(header: &[u8; IPV4_LEN], rest: usize) -> Result<Header, Reject> {
    let header_len = usize::from(header[0] & 0xf) * 4;
    let stated = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let len = if stated == 0 { rest } else { stated };
    if header_len < IPV4_LEN || len < header_len || len > MAX_UNSTATED_LEN {
        return Err(Reject::Malformed);
    }
    let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    Ok(Header {
        src: IpAddr::V4(address(12)),
        dst: IpAddr::V4(address(16)),
        len: len as u32,
        len_field_is_zero: stated == 0,
    })
}

fn ipv6(header: &Ipv6HeaderSlice<'_>, rest: usize) -> Result<Header, Reject> {
    let stated = usize::from(header.payload_length());
    let len = if stated == 0 && header.next_header().0 != NO_NEXT_HEADER && rest > MAX_IPV6_LEN {
        rest
    } else {
        IPV6_LEN + stated
    };
    if len > MAX_UNSTATED_LEN {
        return Err(Reject::Malformed);
    }
    Ok(Header {
        src: IpAddr::V6(header.source_addr()),
        dst: IpAddr::V6(header.destination_addr()),
        len: len as u32,
        len_field_is_zero: stated == 0,
    })
}

/// Multicast, or IPv4's limited broadcast.
pub(super) fn is_group(dst: IpAddr) -> bool {
    match dst {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}
