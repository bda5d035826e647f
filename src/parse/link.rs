//! Link headers: how far it is to the IP header, and what the link says about it.

use etherparse::{Ethernet2HeaderSlice, SingleVlanHeaderSlice};

use super::Reject;
use crate::frame::LinkType;
use crate::packet::Mac;

/// What stands before the IP header.
pub(super) struct Link {
    /// Where the IP header begins.
    pub ip_offset: usize,
    /// What the link says follows.
    pub protocol: Protocol,
    /// Source and destination MAC.
    pub macs: Option<(Mac, Mac)>,
    /// The link addressed a group.
    pub to_group: bool,
    /// Bytes of VLAN tags before the IP header.
    pub tag_bytes: usize,
}

/// What the link layer says about the IP header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Ipv4,
    Ipv6,
    /// Raw links say nothing: the version decides.
    ByVersion,
}

/// EtherTypes of VLAN tags: IEEE 802.1Q, 802.1ad and the older private ones still in use.
const VLAN_TAGS: [u16; 5] = [0x8100, 0x88a8, 0x9100, 0x9200, 0x9300];

/// Lengths of the cooked headers (<https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL.html>, `…_SLL2.html`).
const SLL_LEN: usize = 16;
const SLL2_LEN: usize = 20;

/// Reads the link header and any VLAN tags behind it.
pub(super) fn open(link: LinkType, data: &[u8]) -> Result<Link, Reject> {
    let raw = |protocol| Ok(Link { ip_offset: 0, protocol, macs: None, to_group: false, tag_bytes: 0 });
    match link {
        LinkType::ETHERNET => {
            let header = Ethernet2HeaderSlice::from_slice(data).map_err(|_| Reject::Malformed)?;
            let (src, dst) = (Mac(header.source()), Mac(header.destination()));
            tagged(data, header.slice().len(), header.ether_type().0, Some((src, dst)), dst.is_group())
        }
        LinkType::LINUX_SLL => {
            let header = data.get(..SLL_LEN).ok_or(Reject::Malformed)?;
            let packet_type = u16::from_be_bytes([header[0], header[1]]);
            tagged(data, SLL_LEN, u16::from_be_bytes([header[14], header[15]]), None, is_group_type(packet_type))
        }
        LinkType::LINUX_SLL2 => {
            let header = data.get(..SLL2_LEN).ok_or(Reject::Malformed)?;
            let packet_type = u16::from(header[10]);
            tagged(data, SLL2_LEN, u16::from_be_bytes([header[0], header[1]]), None, is_group_type(packet_type))
        }
        LinkType::NULL => {
            let family = *data.first_chunk().ok_or(Reject::Malformed)?;
            let either = by_family(u32::from_le_bytes(family)).or(by_family(u32::from_be_bytes(family)));
            after_family(either)
        }
        LinkType::LOOP => {
            let family = *data.first_chunk().ok_or(Reject::Malformed)?;
            after_family(by_family(u32::from_be_bytes(family)))
        }
        LinkType::RAW | LinkType::RAW_12 | LinkType::RAW_14 => raw(Protocol::ByVersion),
        LinkType::IPV4 => raw(Protocol::Ipv4),
        LinkType::IPV6 => raw(Protocol::Ipv6),
        _ => Err(Reject::UnsupportedLink),
    }
}

/// SLL packet types 1 and 2: broadcast and multicast.
fn is_group_type(packet_type: u16) -> bool {
    matches!(packet_type, 1 | 2)
}

/// Follows VLAN tags, however many, to what they carry.
fn tagged(
    data: &[u8],
    header_len: usize,
    mut ether_type: u16,
    macs: Option<(Mac, Mac)>,
    to_group: bool,
) -> Result<Link, Reject> {
    let mut ip_offset = header_len;
    while VLAN_TAGS.contains(&ether_type) {
        let tag = SingleVlanHeaderSlice::from_slice(&data[ip_offset..]).map_err(|_| Reject::Malformed)?;
        ether_type = tag.ether_type().0;
        ip_offset += tag.slice().len();
    }
    let protocol = match ether_type {
        0x0800 => Protocol::Ipv4,
        0x86dd => Protocol::Ipv6,
        _ => return Err(Reject::NotIp),
    };
    Ok(Link { ip_offset, protocol, macs, to_group, tag_bytes: ip_offset - header_len })
}

/// The address families of the BSDs and macOS, and Linux's own for IPv6.
fn by_family(family: u32) -> Option<Protocol> {
    match family {
        2 => Some(Protocol::Ipv4),
        10 | 24 | 28 | 30 => Some(Protocol::Ipv6),
        _ => None,
    }
}

fn after_family(protocol: Option<Protocol>) -> Result<Link, Reject> {
    let protocol = protocol.ok_or(Reject::NotIp)?;
    Ok(Link { ip_offset: 4, protocol, macs: None, to_group: false, tag_bytes: 0 })
}
