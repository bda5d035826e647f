//! An IP packet, as much of it as counting needs.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An IP packet found in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Its length in bytes by its own IP header; never the captured length.
    pub len: u32,
    /// Source and destination MAC, where the link is Ethernet.
    pub macs: Option<(Mac, Mac)>,
    /// Sent to a group: a broadcast or multicast address or MAC.
    pub to_group: bool,
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
