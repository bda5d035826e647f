//! An IP packet, as much of it as counting needs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IP packet found in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// From whom to whom.
    pub flow: Flow,
    /// Its length in bytes by its own IP header; never the captured length.
    pub len: u32,
    /// Four bytes for each VLAN tag before the IP header: the tee rule's length counts them too.
    pub tag_bytes: usize,
    /// Bytes captured behind the link header, VLAN tags included: what `tee N` cuts to N.
    pub captured_len: usize,
    /// The captured IP bytes, cut to the packet's length so that Ethernet padding is left out.
    pub bytes: &'a [u8],
}

impl Packet<'_> {
    /// Whether bytes of the packet are missing in the capture.
    pub fn is_cut(&self) -> bool {
        self.bytes.len() < self.len as usize
    }
}

/// Two addresses, the MACs they are behind where the link is Ethernet, and whether the packet goes to a group: a
/// broadcast or multicast address or MAC. Packed in words, because every packet is looked up by it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Flow([u64; 6]);

/// Above the source MAC in the first word.
const IPV6: u64 = 1 << 48;
const WITH_MACS: u64 = 1 << 49;
const TO_GROUP: u64 = 1 << 50;

impl Flow {
    /// Nobody's.
    pub(crate) const EMPTY: Flow = Flow([0; 6]);

    /// From its parts.
    pub fn new(src: IpAddr, dst: IpAddr, macs: Option<(Mac, Mac)>, to_group: bool) -> Self {
        let macs = macs.map(|(src, dst)| (src.bits(), dst.bits()));
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Flow::ipv4(src.to_bits(), dst.to_bits(), macs, to_group),
            (src, dst) => Flow::ipv6(bits(src), bits(dst), macs, to_group),
        }
    }

    /// Between two IPv4 addresses; MACs as [`Mac::bits`].
    #[inline]
    pub(crate) fn ipv4(src: u32, dst: u32, macs: Option<(u64, u64)>, to_group: bool) -> Self {
        let [first, second] = Flow::link(macs, to_group);
        Flow([first, second, u64::from(src) << 32 | u64::from(dst), 0, 0, 0])
    }

    /// Between two IPv6 addresses.
    #[inline]
    pub(crate) fn ipv6(src: u128, dst: u128, macs: Option<(u64, u64)>, to_group: bool) -> Self {
        let [first, second] = Flow::link(macs, to_group);
        Flow([first | IPV6, second, (src >> 64) as u64, src as u64, (dst >> 64) as u64, dst as u64])
    }

    #[inline]
    fn link(macs: Option<(u64, u64)>, to_group: bool) -> [u64; 2] {
        let group = if to_group { TO_GROUP } else { 0 };
        macs.map_or([group, 0], |(src, dst)| [src | WITH_MACS | group, dst])
    }

    /// Who sent.
    pub fn src(&self) -> IpAddr {
        let Flow([first, _, a, b, ..]) = *self;
        if first & IPV6 == 0 { Ipv4Addr::from_bits((a >> 32) as u32).into() } else { address(a, b) }
    }

    /// To whom.
    pub fn dst(&self) -> IpAddr {
        let Flow([first, _, v4, _, a, b]) = *self;
        if first & IPV6 == 0 { Ipv4Addr::from_bits(v4 as u32).into() } else { address(a, b) }
    }

    /// The MACs of source and destination.
    pub fn macs(&self) -> Option<(Mac, Mac)> {
        let Flow([first, second, ..]) = *self;
        (first & WITH_MACS != 0).then(|| (Mac::from_bits(first), Mac::from_bits(second)))
    }

    /// Whether it goes to a group.
    #[inline]
    pub fn to_group(&self) -> bool {
        self.0[0] & TO_GROUP != 0
    }

    /// What tells it from every other flow.
    #[inline]
    pub fn words(&self) -> &[u64; 6] {
        &self.0
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}, MACs {:?}, group {}", self.src(), self.dst(), self.macs(), self.to_group())
    }
}

fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn address(high: u64, low: u64) -> IpAddr {
    Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).into()
}

/// An Ethernet address: its bytes as they stand in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// From the low 48 bits of a number, the first byte topmost.
    pub fn from_bits(bits: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
        Mac([a, b, c, d, e, f])
    }

    /// The bytes as one number, the first byte topmost.
    pub fn bits(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The group bit: set for multicast and broadcast.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let mut bytes = [0; 6];
        let mut parts = s.split([':', '-']);
        for byte in &mut bytes {
            *byte = parts
                .next()
                .filter(|p| (1..=2).contains(&p.len()) && p.bytes().all(|c| c.is_ascii_hexdigit()))
                .and_then(|p| u8::from_str_radix(p, 16).ok())
                .ok_or("a MAC is six bytes in hex, like e2:53:1a:4b:b7:7c")?;
        }
        match parts.next() {
            None => Ok(Mac(bytes)),
            Some(_) => Err("a MAC is six bytes in hex, like e2:53:1a:4b:b7:7c".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_reads_as_it_prints() {
        let mac: Mac = "e2:53:1a:4b:b7:7c".parse().unwrap();
        assert_eq!(mac.to_string(), "e2:53:1a:4b:b7:7c");
        assert_eq!(Mac::from_bits(mac.bits()), mac);
        assert_eq!(mac.bits(), 0xe253_1a4b_b77c);
        assert!(!mac.is_group());
        assert!("ff:ff:ff:ff:ff:ff".parse::<Mac>().unwrap().is_group());
        for bad in ["", "e2:53:1a:4b:b7", "e2:53:1a:4b:b7:7c:00", "e2:53:1a:4b:b7:+c", "e2531a4bb77c"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
