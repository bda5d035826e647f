//! The members of a network on `/metrics`: who they are, and what they moved themselves.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::escape;
use crate::packet::Mac;
use crate::traffic::{DeltaRow, Directory, End};
use crate::zerotier::{Members, NodeId, Whose};

/// What a member moved itself: bytes of IP packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Sent.
    pub sent_bytes: u64,
    /// Received.
    pub received_bytes: u64,
}

impl Own {
    /// Adds `more`.
    pub fn add(&mut self, more: Own) {
        self.sent_bytes = self.sent_bytes.saturating_add(more.sent_bytes);
        self.received_bytes = self.received_bytes.saturating_add(more.received_bytes);
    }
}

/// The members of one network, and their counters. What a member was told to own may change: what is counted stays
/// counted, so that no counter ever falls or leaps.
#[derive(Debug, Default)]
pub struct Roll {
    members: Members,
    /// Changes with the members.
    version: u64,
    /// Those that are shown.
    own: BTreeMap<NodeId, Own>,
}

/// Whose the endpoints of one directory are, by their numbers: found out once.
#[derive(Debug, Default)]
pub struct Carried {
    version: u64,
    whose: Vec<Option<Whose>>,
    /// Endpoints that were looked at for what they confirm.
    noted: usize,
}

impl Roll {
    /// Who they are from now on. Those that are known have counters.
    pub(super) fn know(&mut self, mut members: Members) {
        self.version += 1;
        members.confirm_as(&self.members);
        for (node, _) in members.told().iter().filter(|(_, member)| member.may_join()) {
            self.own.entry(*node).or_default();
        }
        self.members = members;
    }

    /// Adds to what a member moved itself.
    pub(super) fn add(&mut self, node: NodeId, more: Own) {
        self.own.entry(node).or_default().add(more);
    }

    /// What each member moved itself by these rows, of those that are known and of `max` at most. Says also whether it
    /// found out more of who is a member.
    pub(super) fn own(
        &mut self,
        rows: &[DeltaRow],
        directory: &Directory,
        carried: &mut Carried,
        max: usize,
    ) -> (BTreeMap<NodeId, Own>, bool) {
        let mut moved: BTreeMap<NodeId, Own> = BTreeMap::new();
        if self.members.network().is_none() {
            return (moved, false);
        }
        let endpoints = directory.endpoints();
        let new = &endpoints[carried.noted..];
        carried.noted = endpoints.len();
        let news = new.iter().fold(false, |news, endpoint| self.members.note(*endpoint) | news);
        self.version += u64::from(news);
        if carried.version != self.version {
            carried.version = self.version;
            carried.whose.clear();
        }
        carried.whose.extend(endpoints[carried.whose.len()..].iter().map(|endpoint| self.members.whose(*endpoint)));
        for row in rows {
            let (src, dst) = directory.ends(row.pair);
            for (number, sent) in [(src, true), (dst, false)] {
                if let Some(Whose { node, own: true }) = carried.whose[number as usize] {
                    let bytes = row.counts.bytes;
                    moved.entry(node).or_default().add(match sent {
                        true => Own { sent_bytes: bytes, received_bytes: 0 },
                        false => Own { sent_bytes: 0, received_bytes: bytes },
                    });
                }
            }
        }
        let mut room = max.saturating_sub(self.own.len());
        moved.retain(|node, _| {
            let is_in = self.own.contains_key(node) || room > 0;
            room -= usize::from(is_in && !self.own.contains_key(node));
            is_in
        });
        (moved, news)
    }

    /// The labels of a client, but its address.
    pub(super) fn labels(&self, end: End, addr: &str, mac: Option<Mac>) -> Box<str> {
        labels_of(&self.members, end, addr, mac)
    }

    /// Writes the lines of one of the families of members, with more labels behind their own.
    pub(super) fn write(&self, page: &mut String, name: &str, labels: &str, value: Option<fn(&Own) -> u64>) {
        for (node, own) in &self.own {
            let line = match value {
                Some(value) => writeln!(page, "{name}{{node=\"{node}\"{labels}}} {}", value(own)),
                None => {
                    let named = name_of(&self.members, *node);
                    writeln!(page, "{name}{{node=\"{node}\",name=\"{named}\"{labels}}} 1")
                }
            };
            // Writing to a string cannot fail.
            line.ok();
        }
    }
}

/// The labels of a client, but its address.
pub(super) fn labels_of(members: &Members, end: End, addr: &str, mac: Option<Mac>) -> Box<str> {
    let End::Addr(ip) = end else { return Box::default() };
    let node = members.holder(ip, mac);
    let name = match (members.address_name(ip), node) {
        ("", Some(node)) => members.name(node),
        (name, _) => name,
    };
    let name = escape(if name.is_empty() { addr } else { name });
    let node = node.map(|node| node.to_string()).unwrap_or_default();
    format!("node=\"{node}\",name=\"{name}\"").into()
}

/// A member's name as a label, or its id.
pub(super) fn name_of(members: &Members, node: NodeId) -> String {
    let name = members.name(node);
    if name.is_empty() { node.to_string() } else { escape(name) }
}

#[cfg(test)]
mod tests {
    use super::super::{Board, Clients, Listing, Network};
    use super::*;
    use crate::time::{Bucket, Timestamp};
    use crate::traffic::{Counts, Endpoint, Seen};
    use crate::zerotier::identity::{mac, rfc4193};
    use crate::zerotier::{NetworkId, Roster, members::Member};

    const NETWORK: NetworkId = NetworkId(0x460c_acee_2d00_a7e1);
    const NODES: [&str; 3] = ["6df5629e82", "87dc5b55d9", "8a580ad6bc"];

    fn node(at: usize) -> NodeId {
        NODES[at].parse().unwrap()
    }

    struct Setup {
        board: Board,
        directory: Directory,
        carried: Carried,
    }

    impl Setup {
        fn new(max: usize) -> Self {
            let mut clients = Clients::default();
            clients.loaded = true;
            let networks = vec![Network { name: NETWORK.to_string(), clients }];
            let board = Board { networks, ..Board::new(Listing::new(max, 100)) };
            Setup { board, directory: Directory::default(), carried: Carried::default() }
        }

        fn know(&mut self, roster: &Roster) {
            self.board.networks[0].clients.know(roster.of(Some(NETWORK)));
        }

        /// Commits 100 bytes from one to the other, each given with the number of its node.
        fn commit(&mut self, src: (&str, usize), dst: (&str, usize)) {
            let endpoint =
                |(end, at): (&str, usize)| Endpoint { end: end.parse().unwrap(), mac: Some(mac(NETWORK, node(at))) };
            let endpoints = [src, dst].map(|end| self.directory.add_endpoint(endpoint(end)));
            let pair = self.directory.add_pair(endpoints[0], endpoints[1]);
            let counts = Counts { bytes: 100, packets: 1, copies: 0 };
            let bucket = Bucket { start: 0, seconds: 300 };
            let rows = [DeltaRow::new(pair, bucket, counts, Seen::at(Timestamp(0)))];
            let Board { networks, listing, .. } = &mut self.board;
            let clients = &mut networks[0].clients;
            let unlisted = clients.admit(listing, &rows, &self.directory);
            let own = clients.own(listing, &rows, &self.directory, &mut self.carried);
            clients.add(&rows, &self.directory, unlisted, 0);
            clients.add_own(own);
        }

        /// The lines of the families that begin so, without the beginning.
        fn lines(&self, family: &str) -> Vec<String> {
            let page = self.board.render(0);
            page.lines().filter_map(|line| line.strip_prefix(family).map(str::to_owned)).collect()
        }

        fn sent(&self) -> Vec<String> {
            let sent = self.lines("zerotier_member_sent_bytes_total{node=\"");
            sent.into_iter().map(|line| line.replace("\"} ", " ")).collect()
        }
    }

    fn roster(members: &[(usize, &str, &[&str])], listed: bool) -> Roster {
        let mut roster = Roster::default();
        for (at, name, addresses) in members {
            let addresses = addresses.iter().map(|addr| addr.parse().unwrap()).collect();
            let member = Member { name: name.to_string(), addresses, listed, ..Member::default() };
            roster.tell(Some(NETWORK), node(*at), member);
        }
        roster
    }

    #[test]
    fn own_traffic_counts_and_what_is_forwarded_does_not() {
        let mut setup = Setup::new(10);
        setup.know(&roster(&[(0, "Ann", &["10.0.0.1"]), (1, "", &["10.0.0.2"])], false));
        assert_eq!(setup.sent(), ["6df5629e82 0", "87dc5b55d9 0"], "before the first byte");
        setup.commit(("10.0.0.1", 0), ("10.0.0.2", 1));
        setup.commit(("external", 1), ("10.0.0.1", 0));
        setup.commit(("10.0.0.1", 1), ("100.64.0.3", 2));
        assert_eq!(setup.sent(), ["6df5629e82 100", "87dc5b55d9 0", "8a580ad6bc 0"]);
        let received = setup.lines("zerotier_member_received_bytes_total");
        assert_eq!(received, ["{node=\"6df5629e82\"} 100", "{node=\"87dc5b55d9\"} 100", "{node=\"8a580ad6bc\"} 100"]);
        assert_eq!(
            setup.lines("zerotier_member_info"),
            [
                "{node=\"6df5629e82\",name=\"Ann\"} 1",
                "{node=\"87dc5b55d9\",name=\"87dc5b55d9\"} 1",
                "{node=\"8a580ad6bc\",name=\"8a580ad6bc\"} 1"
            ]
        );
        assert_eq!(
            setup.lines("zerotier_host_info"),
            [
                "{addr=\"10.0.0.1\",node=\"6df5629e82\",name=\"Ann\"} 1",
                "{addr=\"10.0.0.2\",node=\"87dc5b55d9\",name=\"10.0.0.2\"} 1",
                "{addr=\"100.64.0.3\",node=\"8a580ad6bc\",name=\"100.64.0.3\"} 1",
            ]
        );
    }

    #[test]
    fn no_counter_falls_or_leaps_when_more_is_told() {
        let mut setup = Setup::new(10);
        setup.know(&Roster::default());
        setup.commit(("10.0.0.9", 0), ("10.0.0.2", 1));
        assert_eq!(setup.sent()[0], "6df5629e82 100");
        // It was node 1's all the time.
        setup.know(&roster(&[(1, "B", &["10.0.0.9"])], false));
        assert_eq!(setup.sent(), ["6df5629e82 100", "87dc5b55d9 0"]);
        setup.commit(("10.0.0.9", 0), ("10.0.0.2", 1));
        assert_eq!(setup.sent(), ["6df5629e82 100", "87dc5b55d9 0"]);
        setup.commit(("10.0.0.9", 1), ("10.0.0.2", 0));
        assert_eq!(setup.sent(), ["6df5629e82 100", "87dc5b55d9 100"]);
        assert!(setup.lines("zerotier_host_info")[1].starts_with("{addr=\"10.0.0.9\",node=\"87dc5b55d9\",name=\"B\"}"));
    }

    #[test]
    fn a_bridged_machine_has_an_address_and_no_node_until_a_plan_says_otherwise() {
        let mut setup = Setup::new(10);
        setup.know(&roster(&[(0, "", &[])], true));
        setup.commit(("10.0.0.7", 2), ("10.0.0.1", 0));
        assert_eq!(setup.sent(), ["6df5629e82 0"]);
        assert!(
            setup.lines("zerotier_host_info").contains(&"{addr=\"10.0.0.7\",node=\"\",name=\"10.0.0.7\"} 1".to_owned())
        );
        let plan = rfc4193(NETWORK, node(2)).to_string();
        setup.commit((&plan, 2), ("10.0.0.1", 0));
        setup.commit(("10.0.0.7", 2), ("10.0.0.1", 0));
        assert_eq!(setup.sent(), ["6df5629e82 0", "8a580ad6bc 200"]);
        assert!(setup.lines("zerotier_host_info{addr=\"10.0.0.7\"")[0].starts_with(",node=\"8a580ad6bc\""));
        setup.know(&roster(&[(0, "new", &[])], true));
        setup.commit(("10.0.0.7", 2), ("10.0.0.1", 0));
        assert_eq!(setup.sent(), ["6df5629e82 0", "8a580ad6bc 300"], "what was confirmed stays so");
    }

    #[test]
    fn so_many_members_have_counters_and_those_that_are_told_of_always() {
        let mut setup = Setup::new(1);
        setup.know(&Roster::default());
        setup.commit(("10.0.0.1", 0), ("external", 2));
        setup.commit(("10.0.0.2", 1), ("external", 2));
        assert_eq!(setup.sent(), ["6df5629e82 100"]);
        setup.know(&roster(&[(1, "", &[])], false));
        setup.commit(("10.0.0.2", 1), ("external", 2));
        assert_eq!(setup.sent(), ["6df5629e82 100", "87dc5b55d9 100"]);
    }

    #[test]
    fn whatever_a_name_is_it_is_one_label() {
        let mut setup = Setup::new(10);
        let mut roster = roster(&[(0, "a\\b\"c\nd\re\u{1b}[2Jf\u{2028}\u{fffd}", &[])], false);
        roster.name_address("10.0.0.2".parse().unwrap(), "it\u{0}");
        setup.know(&roster);
        setup.commit(("10.0.0.1", 0), ("10.0.0.2", 0));
        let expected = r#"name="a\\b\"c\nd\\u{d}e\\u{1b}[2Jf\\u{2028}�"} 1"#;
        assert_eq!(setup.lines("zerotier_member_info{node=\"6df5629e82\","), [expected]);
        assert_eq!(setup.lines("zerotier_host_info{addr=\"10.0.0.1\",node=\"6df5629e82\","), [expected]);
        assert_eq!(setup.lines("zerotier_host_info{addr=\"10.0.0.2\",")[0], r#"node="6df5629e82",name="it\\u{0}"} 1"#);
    }
}
