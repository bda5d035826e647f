//! ZeroTier's ids, and what it derives from them: MACs, planned IPv6 addresses and Linux device names, both ways.
//!
//! A MAC or an address that decodes is a guess, not a proof: a bridged machine brings a MAC of its own, which may look
//! like a derived one. Only the first octet can give a foreign MAC away.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::packet::Mac;

/// The low 40 bits: a node id, and the part of a MAC that hides one.
const LOW_40: u64 = 0xff_ffff_ffff;
const LOW_24: u64 = 0xff_ffff;

/// The digits of a Linux device name, five bits each.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A network's id: 16 hex digits, of which the first ten are its controller's node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(pub u64);

/// A node's id, which ZeroTier also calls its address: 40 bits, ten hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

impl NodeId {
    /// The node with this id, unless it has more than 40 bits.
    pub fn new(id: u64) -> Option<Self> {
        (id <= LOW_40).then_some(NodeId(id))
    }

    /// The id as a number below 2^40.
    pub fn get(self) -> u64 {
        self.0
    }

    fn from_bytes([a, b, c, d, e]: [u8; 5]) -> Self {
        NodeId(u64::from_be_bytes([0, 0, 0, a, b, c, d, e]))
    }

    fn bytes(self) -> [u8; 5] {
        let [_, _, _, a, b, c, d, e] = self.0.to_be_bytes();
        [a, b, c, d, e]
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010x}", self.0)
    }
}

impl FromStr for NetworkId {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        hex(s, 16).map(NetworkId).ok_or_else(|| format!("'{s}' is no network id: 16 hex digits, like 8056c2e21c000001"))
    }
}

impl FromStr for NodeId {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        hex(s, 10).map(NodeId).ok_or_else(|| format!("'{s}' is no node id: ten hex digits, like 89e92ceee5"))
    }
}

/// Exactly `digits` hex digits; `from_str_radix` alone would also take a sign.
fn hex(s: &str, digits: usize) -> Option<u64> {
    (s.len() == digits && s.bytes().all(|c| c.is_ascii_hexdigit())).then(|| u64::from_str_radix(s, 16).ok()).flatten()
}

/// The MAC of `node` on `network`.
pub fn mac(network: NetworkId, node: NodeId) -> Mac {
    Mac::from_bits(mac_octet(network) << 40 | (node.0 ^ mac_mask(network)))
}

/// The node whose MAC on `network` this is; `None` for a MAC that ZeroTier cannot have derived for this network.
pub fn node_from_mac(network: NetworkId, mac: Mac) -> Option<NodeId> {
    (mac.bits() >> 40 == mac_octet(network)).then_some(NodeId(mac.bits() & LOW_40 ^ mac_mask(network)))
}

/// The first octet of every MAC on a network: locally administered, no group, and not the 0x52 of virtual machines.
fn mac_octet(network: NetworkId) -> u64 {
    match network.0 & 0xfe | 0x02 {
        0x52 => 0x32,
        octet => octet,
    }
}

/// What hides the node id in a MAC: the network id's bytes 1 to 5, counted from the lowest, in reverse.
fn mac_mask(network: NetworkId) -> u64 {
    let [_, a, b, c, d, e, _, _] = network.0.to_le_bytes();
    NodeId::from_bytes([a, b, c, d, e]).0
}

/// The address of `node` by ZeroTier's RFC 4193 plan, a /88 for each network: `fd`, network id, `9993`, node id.
pub fn rfc4193(network: NetworkId, node: NodeId) -> Ipv6Addr {
    let [n0, n1, n2, n3, n4, n5, n6, n7] = network.0.to_be_bytes();
    let [a, b, c, d, e] = node.bytes();
    Ipv6Addr::from([0xfd, n0, n1, n2, n3, n4, n5, n6, n7, 0x99, 0x93, a, b, c, d, e])
}

/// The network and the node that an address of the RFC 4193 plan names.
pub fn ids_from_rfc4193(addr: Ipv6Addr) -> Option<(NetworkId, NodeId)> {
    match addr.octets() {
        [0xfd, n0, n1, n2, n3, n4, n5, n6, n7, 0x99, 0x93, a, b, c, d, e] => {
            Some((NetworkId(u64::from_be_bytes([n0, n1, n2, n3, n4, n5, n6, n7])), NodeId::from_bytes([a, b, c, d, e])))
        }
        _ => None,
    }
}

/// The first address of `node` by the 6PLANE plan, which gives every node a /80 within its network's /40.
pub fn sixplane(network: NetworkId, node: NodeId) -> Ipv6Addr {
    let [p0, p1, p2, p3] = sixplane_prefix(network);
    let [a, b, c, d, e] = node.bytes();
    Ipv6Addr::from([0xfc, p0, p1, p2, p3, a, b, c, d, e, 0, 0, 0, 0, 0, 1])
}

/// The node in whose 6PLANE /80 on `network` this address lies.
pub fn node_from_sixplane(network: NetworkId, addr: Ipv6Addr) -> Option<NodeId> {
    let (prefix, node) = split_sixplane(addr)?;
    (prefix == sixplane_prefix(network)).then_some(node)
}

/// The bits behind the `fc` of a 6PLANE address: the two halves of the network id, folded.
fn sixplane_prefix(network: NetworkId) -> [u8; 4] {
    let [.., a, b, c, d] = (network.0 ^ network.0 >> 32).to_be_bytes();
    [a, b, c, d]
}

/// The folded network id and the node id of an address that may be a 6PLANE one.
fn split_sixplane(addr: Ipv6Addr) -> Option<([u8; 4], NodeId)> {
    match addr.octets() {
        [0xfc, p0, p1, p2, p3, a, b, c, d, e, ..] => Some(([p0, p1, p2, p3], NodeId::from_bytes([a, b, c, d, e]))),
        _ => None,
    }
}

/// The name that ZeroTier gives a network's device on Linux.
pub fn linux_device_name(network: NetworkId) -> String {
    let folded = network.0 ^ network.0 >> 24;
    let digits = (0..8).rev().map(|i| char::from(BASE32[(folded >> (5 * i) & 31) as usize]));
    "zt".chars().chain(digits).collect()
}

/// The 40 bits of a Linux device name, if it has that form.
fn bits_of_device_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("zt").filter(|d| d.len() == 8)?;
    digits.bytes().try_fold(0, |bits, c| {
        let digit = BASE32.iter().position(|&d| d == c)?;
        Some(bits << 5 | digit as u64)
    })
}

/// The network of a Linux device, from its name, its own MAC and the id of the node it belongs to.
///
/// Neither the name nor the MAC has room for a whole network id, but they hide different parts of it. They share 16
/// bits and the MAC's first octet: where those disagree, one of the three is of another network or node, and the
/// answer is `None`.
pub fn network_from_device(name: &str, mac: Mac, node: NodeId) -> Option<NetworkId> {
    let folded = bits_of_device_name(name)?;
    let middle = middle_of_network(mac, node);
    let low = (folded ^ middle >> 24) & LOW_24;
    let high = (folded ^ middle) >> 24 & 0xffff;
    let network = NetworkId(high << 48 | middle & 0xffff_ff00_0000 | low);
    (linux_device_name(network) == name && self::mac(network, node) == mac).then_some(network)
}

/// The network id's bits 8 to 47, in their places: what a MAC tells once its node is known.
fn middle_of_network(mac: Mac, node: NodeId) -> u64 {
    let [a, b, c, d, e] = NodeId((mac.bits() ^ node.0) & LOW_40).bytes();
    u64::from_le_bytes([0, a, b, c, d, e, 0, 0])
}

/// The network to which a 6PLANE address and the MAC of the same device belong.
///
/// The address names the node, thus the MAC gives the middle of the network id, and unfolding the prefix gives its
/// ends.
fn network_from_sixplane(addr: Ipv6Addr, mac: Mac) -> Option<NetworkId> {
    let (prefix, node) = split_sixplane(addr)?;
    let folded = u64::from(u32::from_be_bytes(prefix));
    let middle = middle_of_network(mac, node);
    let low = (folded ^ middle >> 32) & 0xff;
    let high = (folded ^ middle) >> 16 & 0xffff;
    let network = NetworkId(high << 48 | middle | low);
    (sixplane_prefix(network) == prefix && self::mac(network, node) == mac).then_some(network)
}

/// The network of a device, from whatever is known of it; the surest source first.
///
/// 1. An address of the RFC 4193 plan carries the id; the MAC, if known, must be that node's on that network.
/// 2. A 6PLANE address names the node, and with the MAC the network. Many private addresses begin with `fc` too, so a
///    name of the Linux form must agree.
/// 3. Without either, the name, the MAC and `own_node`: [`network_from_device`].
pub fn network_of_device(
    name: &str,
    mac: Option<Mac>,
    addresses: &[IpAddr],
    own_node: Option<NodeId>,
) -> Option<NetworkId> {
    let planned = || addresses.iter().filter_map(|addr| if let IpAddr::V6(v6) = addr { Some(*v6) } else { None });
    let by_rfc4193 = planned()
        .filter_map(ids_from_rfc4193)
        .find(|&(network, node)| mac.is_none_or(|mac| self::mac(network, node) == mac))
        .map(|(network, _)| network);
    if by_rfc4193.is_some() {
        return by_rfc4193;
    }
    let mac = mac?;
    let named = |network: &NetworkId| bits_of_device_name(name).is_none() || linux_device_name(*network) == name;
    planned()
        .filter_map(|addr| network_from_sixplane(addr, mac))
        .find(named)
        .or_else(|| network_from_device(name, mac, own_node?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Network, node, MAC, Linux device, RFC 4193 and 6PLANE address, as ZeroTier itself derives them.
    const DERIVED: [[&str; 6]; 6] = [
        [
            "8056c2e21c000001",
            "89e92ceee5",
            "02:89:e9:30:0c:27",
            "ztmjfmfyq5",
            "fd80:56c2:e21c:0:199:9389:e92c:eee5",
            "fc9c:56c2:e389:e92c:eee5::1",
        ],
        [
            "8056c2e21c000001",
            "efcc1b0947",
            "02:ef:cc:07:eb:85",
            "ztmjfmfyq5",
            "fd80:56c2:e21c:0:199:93ef:cc1b:947",
            "fc9c:56c2:e3ef:cc1b:947::1",
        ],
        [
            "a09acf0233e4b070",
            "1122334455",
            "72:a1:c6:00:46:9a",
            "ztukusxmsd",
            "fda0:9acf:233:e4b0:7099:9311:2233:4455",
            "fc93:7e7f:7211:2233:4455::1",
        ],
        [
            "8056c2e21cabcd52",
            "deadbeef01",
            "32:13:06:a2:0d:c3",
            "ztmjfgsl2o",
            "fd80:56c2:e21c:abcd:5299:93de:adbe:ef01",
            "fc9c:fd0f:b0de:adbe:ef01::1",
        ],
        [
            "17d709436c000053",
            "992fcf1db7",
            "32:99:2f:a3:5e:be",
            "ztks5qsqz7",
            "fd17:d709:436c:0:5399:9399:2fcf:1db7",
            "fc7b:d709:1099:2fcf:1db7::1",
        ],
        [
            "460cacee2d00a7e1",
            "6df5629e82",
            "e2:ca:f5:4f:70:2e",
            "ztvaq2ysom",
            "fd46:cac:ee2d:a7:e199:936d:f562:9e82",
            "fc6b:c0b:f6d:f562:9e82::1",
        ],
    ];

    #[test]
    fn ids_derive_what_zerotier_derives_and_back() {
        for [net, node, mac_text, device, plan, six] in DERIVED {
            let (net, node): (NetworkId, NodeId) = (net.parse().unwrap(), node.parse().unwrap());
            let (plan, six): (Ipv6Addr, Ipv6Addr) = (plan.parse().unwrap(), six.parse().unwrap());
            let mac: Mac = mac_text.parse().unwrap();
            assert_eq!(super::mac(net, node), mac);
            assert_eq!(node_from_mac(net, mac), Some(node));
            assert_eq!(linux_device_name(net), device);
            assert_eq!(rfc4193(net, node), plan);
            assert_eq!(ids_from_rfc4193(plan), Some((net, node)));
            assert_eq!(sixplane(net, node), six);
            assert_eq!(node_from_sixplane(net, six), Some(node));
            assert_eq!(network_from_device(device, mac, node), Some(net));
            assert_eq!(network_from_sixplane(six, mac), Some(net));
        }
    }

    #[test]
    fn ids_read_as_they_print() {
        for [net, node, ..] in DERIVED {
            assert_eq!(net.parse::<NetworkId>().unwrap().to_string(), net);
            assert_eq!(node.parse::<NodeId>().unwrap().to_string(), node);
        }
        assert_eq!("89E92CEEE5".parse(), Ok(NodeId(0x89_e92c_eee5)));
        for bad in ["", "89e92ceee", "89e92ceee5a", "+9e92ceee5", "89e92ceeeg", "89e92cee\u{e9}"] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad}");
            assert!(format!("000000{bad}").parse::<NetworkId>().is_err(), "{bad}");
        }
        assert_eq!(NodeId::new(LOW_40).map(NodeId::get), Some(LOW_40));
        assert_eq!(NodeId::new(LOW_40 + 1), None);
    }

    #[test]
    fn a_foreign_mac_or_address_names_no_one() {
        let net = NetworkId(0x8056_c2e2_1c00_0001);
        for mac in ["42:89:e9:30:0c:27", "03:89:e9:30:0c:27", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"] {
            assert_eq!(node_from_mac(net, mac.parse().unwrap()), None, "{mac}");
        }
        for addr in ["fe80::1", "fd80:56c2:e21c:0:199:9489:e92c:eee5", "fc80:56c2:e21c:0:199:9389:e92c:eee5"] {
            assert_eq!(ids_from_rfc4193(addr.parse().unwrap()), None, "{addr}");
        }
        for addr in ["fe80::1", "fc9c:56c2:e489:e92c:eee5::1", "fd9c:56c2:e389:e92c:eee5::1"] {
            assert_eq!(node_from_sixplane(net, addr.parse().unwrap()), None, "{addr}");
        }
        let any_host = "fc9c:56c2:e389:e92c:eee5:1234:5678:9abc".parse().unwrap();
        assert_eq!(node_from_sixplane(net, any_host), Some(NodeId(0x89_e92c_eee5)));
    }

    #[test]
    fn a_device_that_contradicts_itself_has_no_network() {
        let [_, node, mac, device, ..] = DERIVED[0];
        let (node, mac): (NodeId, Mac) = (node.parse().unwrap(), mac.parse().unwrap());
        let [_, other_node, _, _, ..] = DERIVED[1];
        assert_eq!(network_from_device(device, mac, other_node.parse().unwrap()), None);
        assert_eq!(network_from_device(DERIVED[2][3], mac, node), None);
        assert_eq!(network_from_device(device, DERIVED[2][2].parse().unwrap(), node), None);
        for name in ["", "zt", "eth0", "ztmjfmfyq", "ztmjfmfyq55", "ztmjfmfyq1", "ztMJFMFYQ5", "zu\u{e9}fmfyq5"] {
            assert_eq!(network_from_device(name, mac, node), None, "{name}");
        }
    }

    #[test]
    fn a_device_is_known_by_whatever_it_has() {
        let [_, _, other_mac, other_device, other_plan, other_six] = DERIVED[2];
        let other_mac: Option<Mac> = other_mac.parse().ok();
        let v4: IpAddr = "10.1.2.3".parse().unwrap();
        for (i, [net, node, mac, device, plan, six]) in DERIVED.into_iter().enumerate() {
            let net: Option<NetworkId> = net.parse().ok();
            let (mac, node): (Option<Mac>, Option<NodeId>) = (mac.parse().ok(), node.parse().ok());
            let (plan, six): (IpAddr, IpAddr) = (plan.parse().unwrap(), six.parse().unwrap());
            // An RFC 4193 address does it alone, on any system.
            assert_eq!(network_of_device("feth1234", None, &[v4, plan], None), net);
            assert_eq!(network_of_device("feth1234", mac, &[v4, plan], None), net);
            // A 6PLANE address wants the MAC; the name may be anything but another network's.
            assert_eq!(network_of_device("feth1234", mac, &[v4, six], None), net);
            assert_eq!(network_of_device(device, mac, &[v4, six], None), net);
            assert_eq!(network_of_device(device, None, &[v4, six], node), None);
            // Without either, the own node id.
            assert_eq!(network_of_device(device, mac, &[v4], node), net);
            assert_eq!(network_of_device(device, mac, &[v4], None), None);
            assert_eq!(network_of_device("feth1234", mac, &[v4], node), None);
            if i != 2 {
                // Foreign addresses do not mislead, nor stand in the way.
                let foreign = [other_plan.parse().unwrap(), other_six.parse().unwrap(), "fc00::1".parse().unwrap()];
                assert_eq!(network_of_device(device, mac, &foreign, node), net);
                assert_eq!(network_of_device(device, mac, &foreign, None), None);
                assert_eq!(network_of_device(device, mac, &[&foreign[..], &[plan]].concat(), None), net);
                assert_eq!(network_of_device(device, other_mac, &[plan], None), None);
                assert_eq!(network_of_device(other_device, mac, &[six], None), None);
            }
        }
    }

    proptest! {
        #[test]
        fn every_derivation_can_be_undone(net: u64, node in 0..=LOW_40, host: u64) {
            let (net, node) = (NetworkId(net), NodeId(node));
            let mac = super::mac(net, node);
            let six = sixplane(net, node);
            let six_host = Ipv6Addr::from(u128::from(six) >> 48 << 48 | u128::from(host >> 16));
            prop_assert!(!mac.is_group() && mac.bits() >> 48 == 0);
            prop_assert_eq!(node_from_mac(net, mac), Some(node));
            prop_assert_eq!(ids_from_rfc4193(rfc4193(net, node)), Some((net, node)));
            prop_assert_eq!(node_from_sixplane(net, six_host), Some(node));
            prop_assert_eq!(network_from_sixplane(six_host, mac).map(linux_device_name), Some(linux_device_name(net)));
            prop_assert_eq!(network_from_device(&linux_device_name(net), mac, node), Some(net));
            prop_assert_eq!(net.to_string().parse(), Ok(net));
            prop_assert_eq!(node.to_string().parse(), Ok(node));
        }

        #[test]
        fn what_decodes_encodes_to_the_same(net: u64, mac in 0..1_u64 << 40, addr: u128) {
            let net = NetworkId(net);
            let mac = Mac::from_bits(mac_octet(net) << 40 | mac);
            prop_assert_eq!(node_from_mac(net, mac).map(|node| super::mac(net, node)), Some(mac));
            let plan = Ipv6Addr::from(0xfd << 120 | addr >> 8 & !(0xffff << 40) | 0x9993 << 40);
            prop_assert_eq!(ids_from_rfc4193(plan).map(|(net, node)| rfc4193(net, node)), Some(plan));
        }

        #[test]
        fn no_name_panics(name in "(zt)?.{0,10}", mac in 0..1_u64 << 48, node in 0..=LOW_40) {
            let _ = network_from_device(&name, Mac::from_bits(mac), NodeId(node));
        }
    }
}
