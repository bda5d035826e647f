//! Who a node is, and whose an endpoint is.
//!
//! A [`Roster`] gathers what was told of members, by whomever: their names, and the addresses assigned to them. On one
//! network it gives the [`Members`], which say of an endpoint which member carried its packets, and whether they were
//! the member's own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::identity::{ids_from_rfc4193, node_from_mac, node_from_sixplane};
use super::{NetworkId, NodeId};
use crate::packet::Mac;
use crate::traffic::{End, Endpoint};

/// What Docker's MACs begin with, and those of every 128th network, too.
const DOCKER: [u8; 2] = [0x02, 0x42];

/// Characters of a name that are kept.
const MAX_NAME: usize = 255;

/// What was told of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its name; empty if it has none.
    pub name: String,
    /// The addresses that are, or were, assigned to it. Those that ZeroTier derives are not among them.
    pub addresses: BTreeSet<IpAddr>,
    /// Whether the controller lets it in, if that was told.
    pub authorized: Option<bool>,
    /// Whether a list of all the network's members told of it. A list of no known network is none.
    pub listed: bool,
}

impl Member {
    /// Whether nobody said that the controller refuses it.
    pub fn may_join(&self) -> bool {
        self.authorized.unwrap_or(true)
    }

    /// Both; the `later` one is right where they differ.
    fn merge(&mut self, later: &Member) {
        if !later.name.is_empty() {
            self.name.clone_from(&later.name);
        }
        self.addresses.extend(&later.addresses);
        self.authorized = later.authorized.or(self.authorized);
        self.listed |= later.listed;
    }
}

/// All that was told of members and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// By network and node. Without a network it is told of the node on any.
    members: BTreeMap<(Option<NetworkId>, NodeId), Member>,
    /// Of addresses, whoever has them.
    names: BTreeMap<IpAddr, String>,
}

impl Roster {
    /// Adds what is known of a member of `network`, or of a node on any network.
    pub fn tell(&mut self, network: Option<NetworkId>, node: NodeId, mut member: Member) {
        if member.name.len() > MAX_NAME {
            member.name = cut(&member.name);
        }
        // Else every network would seem to be listed.
        member.listed &= network.is_some();
        self.members.entry((network, node)).and_modify(|known| known.merge(&member)).or_insert(member);
    }

    /// Gives an address a name.
    pub fn name_address(&mut self, addr: IpAddr, name: &str) {
        if !name.is_empty() {
            self.names.insert(addr, cut(name));
        }
    }

    /// Both; what the `later` one tells is right where they differ.
    pub fn merge(&mut self, later: &Roster) {
        for (&(network, node), member) in &later.members {
            self.tell(network, node, member.clone());
        }
        self.names.extend(later.names.iter().map(|(addr, name)| (*addr, name.clone())));
    }

    /// How many members and addresses it tells of.
    pub fn len(&self) -> usize {
        self.members.len() + self.names.len()
    }

    /// Whether nothing was told.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a member goes by this name, on whatever network, or it is a node id.
    pub fn knows(&self, name: &str) -> bool {
        name.parse::<NodeId>().is_ok() || self.members.values().any(|member| member.name == name)
    }

    /// The networks that it tells of the members of.
    pub fn networks(&self) -> BTreeSet<NetworkId> {
        self.members.keys().filter_map(|(network, _)| *network).collect()
    }

    /// The network that all of it is about, if that is one.
    pub fn only_network(&self) -> Option<NetworkId> {
        let networks = self.networks();
        networks.first().copied().filter(|_| networks.len() == 1)
    }

    /// The members of `network`. Where that is not known nobody can be told by a MAC.
    pub fn of(&self, network: Option<NetworkId>) -> Members {
        let mut members = Members { network, names: self.names.clone(), ..Members::default() };
        // What was told of no network in particular comes first in the order, and is believed most: somebody wrote it.
        let told = self.members.iter().filter(|((of, _), _)| of.is_none() || *of == network).rev();
        for ((_, node), member) in told {
            members.nodes.entry(*node).and_modify(|known| known.merge(member)).or_insert_with(|| member.clone());
        }
        for (node, member) in &members.nodes {
            members.is_listed |= member.listed;
            for addr in &member.addresses {
                members.owners.entry(*addr).or_default().push(*node);
            }
        }
        members
    }
}

/// As much of a name as is kept.
fn cut(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}

/// The members of one network, and the names of addresses there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    network: Option<NetworkId>,
    nodes: BTreeMap<NodeId, Member>,
    /// Who has, or had, an address.
    owners: BTreeMap<IpAddr, Vec<NodeId>>,
    names: BTreeMap<IpAddr, String>,
    /// Whether somebody told of all members.
    is_listed: bool,
    /// Nodes that nobody told of, and that an address of theirs behind their MAC confirms.
    confirmed: BTreeSet<NodeId>,
}

/// Whose traffic an endpoint's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Whose {
    /// The member that carried it.
    pub node: NodeId,
    /// Whether it was the member's own, and not forwarded for somebody else.
    pub own: bool,
}

impl Members {
    /// The network, if it is known.
    pub fn network(&self) -> Option<NetworkId> {
        self.network
    }

    /// Those that somebody told of.
    pub fn told(&self) -> &BTreeMap<NodeId, Member> {
        &self.nodes
    }

    /// The names of addresses, whoever has them.
    pub fn address_names(&self) -> &BTreeMap<IpAddr, String> {
        &self.names
    }

    /// Takes note if the endpoint shows that its MAC is a member's: it has an address that ZeroTier derives from the same
    /// node. Says whether that is news.
    pub fn note(&mut self, endpoint: Endpoint) -> bool {
        let (Some(network), Some(mac), End::Addr(addr)) = (self.network, endpoint.mac, endpoint.end) else {
            return false;
        };
        let node = self.planned(addr).filter(|node| node_from_mac(network, mac) == Some(*node));
        node.is_some_and(|node| !self.nodes.contains_key(&node) && self.confirmed.insert(node))
    }

    /// Takes what [`Members::note`] found out of the same network before.
    pub fn confirm_as(&mut self, before: &Members) {
        if self.network == before.network {
            self.confirmed.extend(&before.confirmed);
        }
    }

    /// The member whose MAC this is.
    ///
    /// Most MACs that could be a member's are. A bridged machine's may look like one: so where all members are known, by a
    /// list, one that nobody told of has to be [confirmed](Members::note); and where they are not, one of Docker's.
    pub fn node(&self, mac: Mac) -> Option<NodeId> {
        let node = node_from_mac(self.network?, mac)?;
        let is_known = self.nodes.contains_key(&node) || self.confirmed.contains(&node);
        let is_likely = !self.is_listed && !mac.0.starts_with(&DOCKER);
        (is_known || is_likely).then_some(node)
    }

    /// Whose an endpoint's traffic is; none where its MAC is no member's.
    ///
    /// A member's own are the addresses that are assigned to it, or derived from it, and those of which nothing else is
    /// known. What it carries for others is forwarded.
    pub fn whose(&self, endpoint: Endpoint) -> Option<Whose> {
        let node = self.node(endpoint.mac?)?;
        let own = match endpoint.end {
            End::Addr(addr) => match self.owners.get(&addr) {
                Some(owners) => owners.contains(&node),
                None => self.planned(addr).is_none_or(|other| other == node),
            },
            End::Other => true,
            End::External | End::Multicast | End::Beyond => false,
        };
        Some(Whose { node, own })
    }

    /// The member that has an address: to whom it is assigned, or from whom it is derived; else the one with the MAC that
    /// it is behind.
    pub fn holder(&self, addr: IpAddr, mac: Option<Mac>) -> Option<NodeId> {
        let carrier = mac.and_then(|mac| self.node(mac));
        match self.owners.get(&addr) {
            Some(owners) => carrier.filter(|node| owners.contains(node)).or_else(|| owners.first().copied()),
            None => self.planned(addr).or(carrier),
        }
    }

    /// The name of a member; empty if it has none.
    pub fn name(&self, node: NodeId) -> &str {
        self.nodes.get(&node).map_or("", |member| &member.name)
    }

    /// The name of an address; empty if it has none of its own.
    pub fn address_name(&self, addr: IpAddr) -> &str {
        self.names.get(&addr).map_or("", String::as_str)
    }

    /// The nodes that go by a name, or the one with this id.
    pub fn called<'a>(&'a self, name: &'a str) -> impl Iterator<Item = NodeId> + 'a {
        let named = self.nodes.iter().filter(move |(_, member)| member.name == name).map(|(node, _)| *node);
        named.chain(name.parse().ok())
    }

    /// The node from which ZeroTier derives this address.
    fn planned(&self, addr: IpAddr) -> Option<NodeId> {
        let (IpAddr::V6(addr), Some(network)) = (addr, self.network) else { return None };
        let by_rfc4193 = ids_from_rfc4193(addr).filter(|(of, _)| *of == network).map(|(_, node)| node);
        by_rfc4193.or_else(|| node_from_sixplane(network, addr))
    }
}

#[cfg(test)]
mod tests {
    use super::super::identity::{self, rfc4193, sixplane};
    use super::*;

    const NETWORK: NetworkId = NetworkId(0x460c_acee_2d00_a7e1);

    fn node(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn mac(node: &str) -> Option<Mac> {
        Some(identity::mac(NETWORK, self::node(node)))
    }

    fn behind(node: &str, end: &str) -> Endpoint {
        Endpoint { end: end.parse().unwrap(), mac: mac(node) }
    }

    fn member(name: &str, addresses: &[&str], listed: bool) -> Member {
        let addresses = addresses.iter().map(|addr| addr.parse().unwrap()).collect();
        Member { name: name.to_owned(), addresses, listed, ..Member::default() }
    }

    const A: &str = "6df5629e82";
    const B: &str = "87dc5b55d9";
    const STRANGER: &str = "8a580ad6bc";

    fn own(node: &str) -> Option<Whose> {
        Some(Whose { node: self::node(node), own: true })
    }

    fn forwarded(node: &str) -> Option<Whose> {
        Some(Whose { node: self::node(node), own: false })
    }

    #[test]
    fn a_mac_names_its_member_where_nobody_told_of_any() {
        let members = Roster::default().of(Some(NETWORK));
        for addr in ["10.147.20.11", "100.64.5.11", "fe80::1", "other"] {
            assert_eq!(members.whose(behind(A, addr)), own(A), "{addr}");
        }
        assert_eq!(members.whose(behind(B, "external")), forwarded(B));
        assert_eq!(members.whose(Endpoint { mac: None, ..behind(A, "10.0.0.1") }), None);
        // Another first octet: not derived for this network.
        let foreign = Endpoint { mac: "02:ca:f5:4f:70:2e".parse().ok(), ..behind(A, "10.0.0.1") };
        assert_eq!(members.whose(foreign), None);
        assert_eq!(Roster::default().of(None).whose(behind(A, "10.0.0.1")), None);
    }

    #[test]
    fn planned_addresses_are_own_behind_their_node_alone() {
        let members = Roster::default().of(Some(NETWORK));
        for addr in [rfc4193(NETWORK, node(A)), sixplane(NETWORK, node(A))] {
            assert_eq!(members.whose(behind(A, &addr.to_string())), own(A));
            assert_eq!(members.whose(behind(B, &addr.to_string())), forwarded(B));
            assert_eq!(members.holder(addr.into(), mac(B)), Some(node(A)));
        }
    }

    #[test]
    fn what_is_assigned_to_another_is_forwarded() {
        let mut roster = Roster::default();
        roster.tell(Some(NETWORK), node(A), member("a", &["10.0.0.1", "10.0.0.9"], false));
        roster.tell(Some(NETWORK), node(B), member("b", &["10.0.0.2", "10.0.0.9"], false));
        roster.tell(Some(NetworkId(1)), node(STRANGER), member("s", &["10.0.0.3"], true));
        let members = roster.of(Some(NETWORK));
        assert_eq!(members.whose(behind(A, "10.0.0.1")), own(A));
        assert_eq!(members.whose(behind(A, "10.0.0.2")), forwarded(A));
        assert_eq!(members.holder("10.0.0.2".parse().unwrap(), mac(A)), Some(node(B)));
        // One that moved is the own of both.
        assert_eq!((members.whose(behind(A, "10.0.0.9")), members.whose(behind(B, "10.0.0.9"))), (own(A), own(B)));
        // Another network's assignments say nothing here.
        assert_eq!(members.whose(behind(A, "10.0.0.3")), own(A));
        assert_eq!((members.name(node(B)), members.name(node(STRANGER))), ("b", ""));
    }

    #[test]
    fn where_all_members_are_known_others_have_to_be_confirmed() {
        let mut roster = Roster::default();
        roster.tell(Some(NETWORK), node(A), member("", &[], true));
        let mut members = roster.of(Some(NETWORK));
        let stranger = behind(STRANGER, "10.0.0.7");
        assert_eq!((members.whose(behind(A, "10.0.0.1")), members.whose(stranger)), (own(A), None));
        let plan = rfc4193(NETWORK, node(STRANGER)).to_string();
        assert!(!members.note(behind(B, &plan)), "it is forwarded, and says nothing of the MAC");
        assert!(!members.note(stranger));
        assert!(members.note(behind(STRANGER, &plan)) && !members.note(behind(STRANGER, &plan)));
        assert_eq!(members.whose(stranger), own(STRANGER));
    }

    #[test]
    fn a_list_of_no_known_network_lists_none() {
        let mut roster = Roster::default();
        roster.tell(None, node(A), member("a", &[], true));
        let members = roster.of(Some(NETWORK));
        assert_eq!((members.name(node(A)), members.told()[&node(A)].listed), ("a", false));
        assert_eq!(members.whose(behind(STRANGER, "10.0.0.7")), own(STRANGER));
    }

    #[test]
    fn a_mac_of_dockers_has_to_be_confirmed() {
        let network = NetworkId(0x8056_c2e2_1c00_0001);
        let docker: Endpoint = Endpoint { end: "172.17.0.2".parse().unwrap(), mac: "02:42:ac:11:00:02".parse().ok() };
        let node = node_from_mac(network, docker.mac.unwrap()).unwrap();
        assert_eq!(Roster::default().of(Some(network)).whose(docker), None);
        let mut roster = Roster::default();
        roster.tell(None, node, Member::default());
        assert_eq!(roster.of(Some(network)).whose(docker), Some(Whose { node, own: true }));
    }

    #[test]
    fn a_name_lets_nobody_in() {
        let mut roster = Roster::default();
        roster.tell(Some(NETWORK), node(A), Member { authorized: Some(false), ..Member::default() });
        let mut names = Roster::default();
        names.tell(None, node(A), member("a", &[], false));
        roster.merge(&names);
        let may_join = |roster: &Roster| roster.of(Some(NETWORK)).told()[&node(A)].may_join();
        assert!(!may_join(&roster) && may_join(&names));
        roster.tell(Some(NETWORK), node(A), Member { authorized: Some(true), ..Member::default() });
        assert!(may_join(&roster));
    }

    #[test]
    fn what_is_told_later_is_right() {
        let mut roster = Roster::default();
        roster.tell(Some(NETWORK), node(A), member("old", &["10.0.0.1"], true));
        let mut later = Roster::default();
        later.tell(Some(NETWORK), node(A), member("", &["10.0.0.2"], false));
        later.name_address("10.0.0.1".parse().unwrap(), "printer");
        roster.merge(&later);
        let members = roster.of(Some(NETWORK));
        assert_eq!(members.told()[&node(A)], member("old", &["10.0.0.1", "10.0.0.2"], true));
        assert_eq!(members.address_name("10.0.0.1".parse().unwrap()), "printer");
        // What somebody wrote of a node on any network goes before what a controller says.
        later.tell(None, node(A), member(&"ä".repeat(300), &[], false));
        roster.merge(&later);
        assert_eq!(roster.of(Some(NETWORK)).name(node(A)), "ä".repeat(255));
        assert_eq!(roster.only_network(), Some(NETWORK));
        let called: Vec<_> = members.called("old").chain(members.called(B)).collect();
        assert_eq!(called, [node(A), node(B)]);
    }
}
