//! Properties of the parser, with etherparse's strict slicing as second opinion for whole packets.

use std::net::IpAddr;

use etherparse::{LinkSlice, NetSlice, PacketBuilder, SlicedPacket};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{Reject, packet};
use crate::frame::{Frame, LinkType};
use crate::packet::{Mac, Packet};
use crate::time::Timestamp;
use crate::traffic::Outcome;

const LINKS: [LinkType; 10] = [
    LinkType::NULL,
    LinkType::ETHERNET,
    LinkType::RAW_12,
    LinkType::RAW_14,
    LinkType::RAW,
    LinkType::LOOP,
    LinkType::LINUX_SLL,
    LinkType::IPV4,
    LinkType::IPV6,
    LinkType::LINUX_SLL2,
];

/// EtherTypes of VLAN tags.
const TAGS: [u16; 5] = [0x8100, 0x88a8, 0x9100, 0x9200, 0x9300];

fn frame(link: LinkType, data: &[u8]) -> Frame<'_> {
    Frame { time: Timestamp(0), link, original_len: data.len() as u32, data }
}

fn open(link: LinkType, data: &[u8]) -> Result<Packet<'_>, Reject> {
    packet(&frame(link, data))
}

/// A whole Ethernet frame with UDP or TCP over IPv4 or IPv6, behind up to two tags.
#[derive(Clone, Debug)]
struct Whole {
    bytes: Vec<u8>,
    tags: usize,
}

fn whole() -> impl Strategy<Value = Whole> {
    let macs = (any::<[u8; 6]>(), any::<[u8; 6]>());
    let ends = prop_oneof![
        (any::<[u8; 4]>(), any::<[u8; 4]>()).prop_map(|(src, dst)| (IpAddr::from(src), IpAddr::from(dst))),
        (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(src, dst)| (IpAddr::from(src), IpAddr::from(dst))),
    ];
    (macs, ends, 0..3_usize, any::<bool>(), vec(any::<u8>(), 0..200)).prop_map(
        |((src, dst), ends, tags, tcp, payload)| {
            let builder = PacketBuilder::ethernet2(src, dst);
            let vlan = |id: u16| id.try_into().unwrap();
            let ip = match ends {
                (IpAddr::V4(src), IpAddr::V4(dst)) => etherparse::IpHeaders::Ipv4(
                    etherparse::Ipv4Header::new(0, 9, etherparse::IpNumber::UDP, src.octets(), dst.octets()).unwrap(),
                    Default::default(),
                ),
                (IpAddr::V6(src), IpAddr::V6(dst)) => etherparse::IpHeaders::Ipv6(
                    etherparse::Ipv6Header {
                        source: src.octets(),
                        destination: dst.octets(),
                        hop_limit: 9,
                        ..Default::default()
                    },
                    Default::default(),
                ),
                _ => unreachable!(),
            };
            let step = match tags {
                0 => builder.ip(ip),
                1 => builder.single_vlan(vlan(7)).ip(ip),
                _ => builder.double_vlan(vlan(7), vlan(8)).ip(ip),
            };
            let mut bytes = Vec::new();
            if tcp {
                step.tcp(1, 2, 3, 4).write(&mut bytes, &payload).unwrap();
            } else {
                step.udp(1, 2).write(&mut bytes, &payload).unwrap();
            }
            Whole { bytes, tags }
        },
    )
}

impl Whole {
    /// Where the IP header begins.
    fn ip_at(&self) -> usize {
        14 + 4 * self.tags
    }

    fn ip(&self) -> &[u8] {
        &self.bytes[self.ip_at()..]
    }

    fn is_ipv6(&self) -> bool {
        self.ip()[0] >> 4 == 6
    }
}

/// What must hold of whatever comes out.
fn sound(frame: &Frame<'_>) -> Result<(), TestCaseError> {
    match packet(frame) {
        Ok(packet) => {
            let header = if packet.flow.src().is_ipv6() { 40 } else { 20 };
            prop_assert_eq!(packet.flow.src().is_ipv6(), packet.flow.dst().is_ipv6());
            prop_assert!(packet.len >= header && packet.len <= 1 << 20);
            prop_assert!(packet.bytes.len() >= header as usize && frame.data.len() >= packet.captured_len);
            prop_assert!(packet.captured_len >= packet.bytes.len() + packet.tag_bytes);
            prop_assert_eq!(packet.flow.macs().is_some(), frame.link == LinkType::ETHERNET);
            prop_assert_eq!(packet.tag_bytes % 4, 0);
        }
        Err(reject) => {
            let known = LINKS.contains(&frame.link);
            prop_assert_eq!(reject.outcome() == Outcome::UnsupportedLink, !known);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_short_way_says_the_same_as_the_long_one(frame in whole(), cut in any::<Index>(), at in any::<Index>(), bit in 0..8_u32, changes in 0..4) {
        let mut bytes = frame.bytes[..=cut.index(frame.bytes.len() - 1)].to_vec();
        for _ in 0..changes {
            // In the headers, where it matters.
            let at = at.index(bytes.len().min(60));
            bytes[at] ^= 1_u8 << bit;
        }
        let frame = self::frame(LinkType::ETHERNET, &bytes);
        for packet in [super::plain_ipv4(&frame), super::plain_ipv6(&frame)].into_iter().flatten() {
            prop_assert_eq!(Ok(packet), super::any(&frame));
        }
    }

    #[test]
    fn usual_frames_take_the_short_way(frame in whole()) {
        let packet = open(LinkType::ETHERNET, &frame.bytes).unwrap();
        let is_reserved = packet.flow.dst().is_ipv4() && frame.ip()[16] >= 240;
        if frame.tags == 0 && !packet.flow.to_group() && !is_reserved {
            let frame = self::frame(LinkType::ETHERNET, &frame.bytes);
            prop_assert_eq!(super::plain_ipv4(&frame).or_else(|| super::plain_ipv6(&frame)), Some(packet));
        }
    }

    #[test]
    fn any_bytes_are_a_packet_or_a_reason(link in 0..300_u32, original_len: u32, data in vec(any::<u8>(), 0..100)) {
        sound(&Frame { time: Timestamp(0), link: LinkType(link), original_len, data: &data })?;
        for link in LINKS {
            sound(&Frame { time: Timestamp(0), link, original_len, data: &data })?;
        }
    }

    /// Closer to what is read: a whole frame with a few bytes changed, cut anywhere.
    #[test]
    fn almost_whole_frames_are_a_packet_or_a_reason(
        whole in whole(), changes in vec((any::<Index>(), any::<u8>()), 0..6), cut: Index, original_len: u32,
    ) {
        let mut data = whole.bytes.clone();
        for (at, byte) in changes {
            // Mostly within the headers.
            let at = at.index(data.len()) % 64;
            let at = at.min(data.len() - 1);
            data[at] = byte;
        }
        data.truncate(cut.index(data.len() + 1));
        for (link, skip) in [(LinkType::ETHERNET, 0), (LinkType::RAW, 14), (LinkType::IPV4, 14), (LinkType::IPV6, 18)] {
            let data = data.get(skip..).unwrap_or_default();
            sound(&Frame { time: Timestamp(0), link, original_len, data })?;
        }
    }

    #[test]
    fn whole_packets_are_what_etherparse_sees(whole in whole()) {
        let ours = open(LinkType::ETHERNET, &whole.bytes).unwrap();
        let theirs = SlicedPacket::from_ethernet(&whole.bytes).unwrap();
        let (src, dst, len) = match theirs.net.unwrap() {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                (IpAddr::V4(header.source_addr()), IpAddr::V4(header.destination_addr()), usize::from(header.total_len()))
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                let len = 40 + usize::from(header.payload_length());
                (IpAddr::V6(header.source_addr()), IpAddr::V6(header.destination_addr()), len)
            }
            NetSlice::Arp(_) => unreachable!(),
        };
        prop_assert_eq!((ours.flow.src(), ours.flow.dst(), ours.len as usize), (src, dst, len));
        let Some(LinkSlice::Ethernet2(mac)) = theirs.link else { panic!("no Ethernet") };
        prop_assert_eq!(ours.flow.macs(), Some((Mac(mac.source()), Mac(mac.destination()))));
        prop_assert_eq!(ours.tag_bytes, theirs.link_exts.len() * 4);
        prop_assert_eq!(ours.bytes, whole.ip());
        prop_assert_eq!(ours.flow.to_group(), mac.destination()[0] & 1 == 1 || match dst {
            IpAddr::V4(dst) => dst.octets()[0] >> 4 == 14 || dst.octets() == [255; 4],
            IpAddr::V6(dst) => dst.octets()[0] == 255,
        });
        prop_assert!(!ours.is_cut());
    }

    /// How much was captured never matters, as long as the addresses are there.
    #[test]
    fn a_cut_changes_neither_addresses_nor_length(whole in whole(), cut: Index) {
        let all = open(LinkType::ETHERNET, &whole.bytes).unwrap();
        let needed = whole.ip_at() + if whole.is_ipv6() { 40 } else { 20 };
        let cut = cut.index(whole.bytes.len());
        match open(LinkType::ETHERNET, &whole.bytes[..cut]) {
            Ok(part) => {
                prop_assert!(cut >= needed && part.is_cut());
                prop_assert_eq!((part.flow.src(), part.flow.dst(), part.len, part.flow.macs()), (all.flow.src(), all.flow.dst(), all.len, all.flow.macs()));
                prop_assert_eq!(part.bytes, &all.bytes[..cut - whole.ip_at()]);
                prop_assert_eq!(part.captured_len, cut - 14);
            }
            Err(Reject::CutShort { captured_len, ipv6 }) => {
                prop_assert!(cut < needed && cut >= whole.ip_at());
                prop_assert_eq!((captured_len, ipv6), (cut - 14, whole.is_ipv6()));
            }
            Err(reject) => {
                prop_assert_eq!(reject, Reject::Malformed);
                prop_assert!(cut < whole.ip_at());
            }
        }
    }

    /// Padding behind the packet, tags before it, another link: the same packet.
    #[test]
    fn what_is_around_the_packet_changes_nothing(
        whole in whole(), padding in vec(any::<u8>(), 0..50), tags in vec((select(&TAGS[..]), any::<u16>()), 0..20),
    ) {
        let all = open(LinkType::ETHERNET, &whole.bytes).unwrap();
        let same = |packet: Packet<'_>| (packet.flow.src(), packet.flow.dst(), packet.len, packet.bytes.to_vec());
        let padded = [&whole.bytes[..], &padding].concat();
        prop_assert_eq!(same(open(LinkType::ETHERNET, &padded).unwrap()), same(all));

        let ether_type: u16 = if whole.is_ipv6() { 0x86dd } else { 0x0800 };
        let kinds = tags.iter().map(|(kind, _)| *kind).chain([ether_type]).collect::<Vec<_>>();
        let behind = tags.iter().zip(&kinds[1..]).flat_map(|((_, id), kind)| [id.to_be_bytes(), kind.to_be_bytes()].concat());
        let chain = behind.chain(whole.ip().iter().copied()).collect::<Vec<_>>();
        let first = kinds[0].to_be_bytes();
        let tagged = [&whole.bytes[..12], &first, &chain].concat();
        let packet = open(LinkType::ETHERNET, &tagged).unwrap();
        prop_assert_eq!((packet.tag_bytes, packet.flow.macs()), (4 * tags.len(), all.flow.macs()));
        prop_assert_eq!(same(packet), same(all));

        let sll = [&[0; 14][..], &first, &chain].concat();
        prop_assert_eq!(same(open(LinkType::LINUX_SLL, &sll).unwrap()), same(all));
        let sll2 = [&first[..], &[0; 18], &chain].concat();
        prop_assert_eq!(same(open(LinkType::LINUX_SLL2, &sll2).unwrap()), same(all));
        for link in [LinkType::RAW, LinkType::RAW_12, LinkType::RAW_14] {
            prop_assert_eq!(same(open(link, whole.ip()).unwrap()), same(all));
        }
        let (right, wrong, family) = match whole.is_ipv6() {
            true => (LinkType::IPV6, LinkType::IPV4, 30_u32),
            false => (LinkType::IPV4, LinkType::IPV6, 2),
        };
        prop_assert_eq!(same(open(right, whole.ip()).unwrap()), same(all));
        prop_assert_eq!(open(wrong, whole.ip()).unwrap_err(), Reject::Malformed);
        for family in [family.to_be_bytes(), family.to_le_bytes()] {
            let null = [&family, whole.ip()].concat();
            prop_assert_eq!(same(open(LinkType::NULL, &null).unwrap()), same(all));
        }
        let looped = [&family.to_be_bytes(), whole.ip()].concat();
        prop_assert_eq!(same(open(LinkType::LOOP, &looped).unwrap()), same(all));
    }

    /// Anything but IP right behind the tags is not IP, whatever follows.
    #[test]
    fn other_ether_types_are_not_ip(whole in whole(), kind: u16) {
        prop_assume!(![0x0800, 0x86dd].contains(&kind) && !TAGS.contains(&kind));
        let mut bytes = whole.bytes.clone();
        let at = whole.ip_at() - 2;
        bytes[at..at + 2].copy_from_slice(&kind.to_be_bytes());
        prop_assert_eq!(open(LinkType::ETHERNET, &bytes).unwrap_err(), Reject::NotIp);
    }
}
