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
    #[inline(always)]
    pub fn is_cut(&self) -> bool {
        self.captured_len - self.tag_bytes < self.len as usize
    }
}

/// Two addresses, the MACs they are behind where the link is Ethernet, and whether the packet goes to a group: a
/// broadcast or multicast address or MAC.
///
/// What is known of it is looked up for every packet, so it is kept in words as they stand in an Ethernet frame, the first byte lowest: the
/// source MAC and the EtherType; the destination MAC, above two bytes for the rest; then both IPv4 addresses in one word,
/// or both of IPv6 in four. What is not there is 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Flow([u64; 6]);

/// EtherTypes, in the upper two bytes of the first word.
const IPV4: u64 = u16::from_le_bytes([0x08, 0x00]) as u64;
const IPV6: u64 = u16::from_le_bytes([0x86, 0xdd]) as u64;

/// In the second word.
const TO_GROUP: u64 = 1;
const WITHOUT_MACS: u64 = 2;

impl Flow {
    /// Equal to no flow that has parts.
    pub const NONE: Flow = Flow([u64::MAX; 6]);

    /// From its parts.
    pub fn new(src: IpAddr, dst: IpAddr, macs: Option<(Mac, Mac)>, to_group: bool) -> Self {
        let (first, second) = macs.map_or((0, WITHOUT_MACS), |(src, dst)| (word(&src.0), word(&dst.0) << 16));
        let second = second | if to_group { TO_GROUP } else { 0 };
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                Flow([first | IPV4 << 48, second, word(&src.octets()) | word(&dst.octets()) << 32, 0, 0, 0])
            }
            (src, dst) => {
                let ([a, b], [c, d]) = (halves(src), halves(dst));
                Flow([first | IPV6 << 48, second, a, b, c, d])
            }
        }
    }

    /// Who sent.
    pub fn src(&self) -> IpAddr {
        let Flow([_, _, a, b, ..]) = *self;
        if self.is_ipv6() { address(a, b) } else { Ipv4Addr::from((a as u32).to_le_bytes()).into() }
    }

    /// To whom.
    pub fn dst(&self) -> IpAddr {
        let Flow([_, _, v4, _, a, b]) = *self;
        if self.is_ipv6() { address(a, b) } else { Ipv4Addr::from(((v4 >> 32) as u32).to_le_bytes()).into() }
    }

    /// The MACs of source and destination.
    pub fn macs(&self) -> Option<(Mac, Mac)> {
        let mac = |word: u64| {
            let [a, b, c, d, e, f, ..] = word.to_le_bytes();
            Mac([a, b, c, d, e, f])
        };
        (self.0[1] & WITHOUT_MACS == 0).then(|| (mac(self.0[0]), mac(self.0[1] >> 16)))
    }

    /// Whether it goes to a group.
    pub fn to_group(&self) -> bool {
        self.0[1] & TO_GROUP != 0
    }

    /// Whether it is between IPv6 addresses.
    #[inline(always)]
    pub fn is_ipv6(&self) -> bool {
        self.0[0] >> 48 == IPV6
    }

    /// The words. Those between IPv4 addresses differ in the first three.
    #[inline(always)]
    pub fn words(&self) -> [u64; 6] {
        self.0
    }

    /// From its words.
    #[inline(always)]
    pub fn from_words(words: [u64; 6]) -> Self {
        Flow(words)
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}, MACs {:?}, group {}", self.src(), self.dst(), self.macs(), self.to_group())
    }
}

/// The bytes as one number, the first one lowest.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn halves(addr: IpAddr) -> [u64; 2] {
    let addr = match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let bits = u128::from_le_bytes(addr.octets());
    [bits as u64, (bits >> 64) as u64]
}

fn address(first: u64, last: u64) -> IpAddr {
    Ipv6Addr::from((u128::from(first) | u128::from(last) << 64).to_le_bytes()).into()
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
