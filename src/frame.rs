//! What a capture hands over: one frame at a time, borrowed.

use crate::time::Timestamp;

/// A frame as captured. Nothing in it is copied: the bytes belong to the reader's buffer or libpcap's ring.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When it was captured.
    pub time: Timestamp,
    /// How its first bytes are to be read.
    pub link: LinkType,
    /// Its length on the wire in bytes, as the capture claims. A tee'd frame was cut *before* it was captured,
    /// so this says nothing about the packet's size.
    pub original_len: u32,
    /// The captured bytes.
    pub data: &'a [u8],
}

/// A link-layer header type by its number in capture files
/// (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkType(pub u32);

impl LinkType {
    /// BSD loopback: four bytes of address family in the byte order of the machine that captured.
    pub const NULL: LinkType = LinkType(0);
    /// Ethernet.
    pub const ETHERNET: LinkType = LinkType(1);
    /// Raw IP, as some platforms' own number for it was written to files.
    pub const RAW_12: LinkType = LinkType(12);
    /// Raw IP, as OpenBSD's own number for it was written to files.
    pub const RAW_14: LinkType = LinkType(14);
    /// Raw IP: IPv4 or IPv6 by the version in the first four bits.
    pub const RAW: LinkType = LinkType(101);
    /// OpenBSD loopback: four bytes of address family in network byte order.
    pub const LOOP: LinkType = LinkType(108);
    /// Linux "cooked" capture, version 1.
    pub const LINUX_SLL: LinkType = LinkType(113);
    /// Raw IPv4.
    pub const IPV4: LinkType = LinkType(228);
    /// Raw IPv6.
    pub const IPV6: LinkType = LinkType(229);
    /// Linux "cooked" capture, version 2.
    pub const LINUX_SLL2: LinkType = LinkType(276);

    /// From the link type field of a file, whose upper six bits speak of frame check sequences and not of the type.
    pub fn from_file(field: u32) -> Self {
        LinkType(field & 0x03ff_ffff)
    }
}

/// What libpcap says of a device's frames since the process began to capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets received.
    pub received: u64,
    /// Packets dropped for want of room in the buffer.
    pub dropped: u64,
}

impl Statistics {
    /// Both.
    pub fn plus(self, more: Statistics) -> Self {
        Statistics { received: self.received + more.received, dropped: self.dropped + more.dropped }
    }
}
