//! Whose counters `/metrics` shows: so many clients, and those that were active of late.
//!
//! A counter must neither fall nor leap. So `other` does not show the totals of the clients that are not listed, which
//! come and go, but what clients moved *while* they were not listed: that only ever grows. A client that is listed
//! (again) shows its own whole total.

use std::collections::BTreeMap;

use super::members::{Carried, Own, Roll};
use crate::packet::Mac;
use crate::traffic::{DeltaRow, Directory, End, Endpoint, Totals};
use crate::zerotier::{Members, NodeId};

/// How many clients are shown, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Listing {
    /// So many at most. Those that come first stay.
    pub max: usize,
    /// Seconds without traffic after which a client leaves.
    pub idle: i64,
    /// How many there are now, in all networks.
    listed: usize,
    /// When those that are idle were last taken off, in seconds of [`Uptime`].
    swept: i64,
}

/// Seconds in which this process could commit, which no change of the wall clock moves. What was before is negative.
pub type Uptime = i64;

/// How often idle clients make room for others, at most.
const SWEEP_SECONDS: i64 = 60;

impl Listing {
    /// Nobody is listed yet.
    pub fn new(max: usize, idle: i64) -> Self {
        Listing { max, idle, listed: 0, swept: 0 }
    }

    /// Whether idle clients have to make room now; then not again for a while.
    pub(super) fn needs_room(&mut self, now: Uptime) -> bool {
        let needs = self.listed >= self.max && now - self.swept >= SWEEP_SECONDS.min(self.idle);
        if needs {
            self.swept = now;
        }
        needs
    }

    /// Whether a client that was last active then is idle.
    fn is_idle(&self, active: Uptime, now: Uptime) -> bool {
        now - active > self.idle
    }
}

/// The committed lifetime totals of one network's ends. Each is in one of two places: there may be very many of them, and
/// few that are listed.
#[derive(Debug, Default)]
pub struct Clients {
    /// Whether what the database held before this process is among them.
    pub loaded: bool,
    /// Those that have counters of their own, in the order in which they are shown.
    listed: BTreeMap<End, Listed>,
    unlisted: BTreeMap<End, Client>,
    /// The network's members.
    pub(super) roll: Roll,
}

/// A client with what its labels say.
#[derive(Debug)]
struct Listed {
    addr: Box<str>,
    who: Box<str>,
    client: Client,
}

#[derive(Clone, Copy, Debug, Default)]
struct Client {
    counters: Counters,
    /// When something was last committed for it.
    active: Uptime,
    /// Whether anything of it is committed.
    committed: bool,
    /// The first MAC that it was seen behind.
    mac: Option<Mac>,
}

/// What one end ever moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub sent_packets: u64,
    pub received_packets: u64,
}

impl Counters {
    fn add(&mut self, more: &Totals) {
        self.sent_bytes = self.sent_bytes.saturating_add(more.sent_bytes);
        self.received_bytes = self.received_bytes.saturating_add(more.received_bytes);
        self.sent_packets = self.sent_packets.saturating_add(more.sent_packets);
        self.received_packets = self.received_packets.saturating_add(more.received_packets);
    }
}

impl Clients {
    /// Puts a total on the board that the database holds, of an end that was last active at `active`.
    pub fn load(&mut self, listing: &mut Listing, Endpoint { end, mac }: Endpoint, totals: &Totals, active: Uptime) {
        let mut client = Client { active, committed: true, mac, ..Client::default() };
        client.counters.add(totals);
        if !end.is_addr() || listing.is_idle(active, 0) || !self.list(listing, end, client) {
            self.unlisted.insert(end, client);
        }
    }

    /// Lists the clients of rows that are about to be committed, while there is room. What the others moved is
    /// returned: it belongs to `other`, too.
    pub fn admit(&mut self, listing: &mut Listing, rows: &[DeltaRow], directory: &Directory) -> Option<Totals> {
        let mut unlisted: Option<Totals> = None;
        for (Endpoint { end, mac }, moved) in moved(rows, directory).filter(|(endpoint, _)| endpoint.end.is_addr()) {
            if self.listed.contains_key(&end) {
                continue;
            }
            let mut client = self.unlisted.get(&end).copied().unwrap_or_default();
            client.mac = client.mac.or(mac);
            if self.list(listing, end, client) {
                self.unlisted.remove(&end);
            } else {
                unlisted.get_or_insert(Totals::none(moved.seen)).add(&moved);
            }
        }
        unlisted
    }

    /// Adds what has been committed, and was [admitted](Clients::admit) before.
    pub fn add(&mut self, rows: &[DeltaRow], directory: &Directory, unlisted: Option<Totals>, now: Uptime) {
        let other = unlisted.map(|unlisted| (Endpoint { end: End::Other, mac: None }, unlisted));
        for (Endpoint { end, mac }, moved) in moved(rows, directory).chain(other) {
            let client = match self.listed.get_mut(&end) {
                Some(listed) => &mut listed.client,
                None => self.unlisted.entry(end).or_default(),
            };
            client.mac = client.mac.or(mac);
            client.counters.add(&moved);
            (client.committed, client.active) = (true, now);
        }
    }

    /// Gives a client a counter of its own, if there is room. Says whether it has one.
    fn list(&mut self, listing: &mut Listing, end: End, client: Client) -> bool {
        let room = listing.listed < listing.max;
        if room {
            listing.listed += 1;
            let addr: Box<str> = end.to_string().into();
            let who = self.roll.labels(end, &addr, client.mac);
            self.listed.insert(end, Listed { addr, who, client });
        }
        room
    }

    /// Takes clients off that have been idle.
    pub(super) fn sweep(&mut self, listing: &mut Listing, now: Uptime) {
        let before = self.listed.len();
        let idle = self.listed.extract_if(.., |_, listed| listing.is_idle(listed.client.active, now));
        self.unlisted.extend(idle.map(|(end, listed)| (end, listed.client)));
        listing.listed -= before - self.listed.len();
    }

    /// Says who the members are from now on.
    pub fn know(&mut self, members: Members) {
        self.roll.know(members);
        self.label();
    }

    /// Puts on the board what the database holds of what a member moved itself.
    pub fn load_member(&mut self, node: NodeId, own: Own) {
        self.roll.add(node, own);
    }

    /// What each member moved itself by rows that are about to be committed.
    pub fn own(
        &mut self,
        listing: &Listing,
        rows: &[DeltaRow],
        directory: &Directory,
        carried: &mut Carried,
    ) -> BTreeMap<NodeId, Own> {
        let (own, news) = self.roll.own(rows, directory, carried, listing.max);
        if news {
            self.label();
        }
        own
    }

    /// Adds that, once it has been committed.
    pub fn add_own(&mut self, own: BTreeMap<NodeId, Own>) {
        own.into_iter().for_each(|(node, own)| self.roll.add(node, own));
    }

    /// Labels everybody anew.
    fn label(&mut self) {
        for (end, Listed { addr, who, client }) in &mut self.listed {
            *who = self.roll.labels(*end, addr, client.mac);
        }
    }

    /// The clients that are shown: the address, what else the labels say, the counters.
    pub(super) fn shown(&self, listing: &Listing, now: Uptime) -> impl Iterator<Item = (&str, &str, &Counters)> {
        let shown = move |client: &Client| client.committed && !listing.is_idle(client.active, now);
        let listed = self.listed.values().filter(move |listed| shown(&listed.client));
        listed.map(|Listed { addr, who, client }| (&**addr, &**who, &client.counters))
    }

    /// How many may be shown at most.
    pub(super) fn listed(&self) -> usize {
        self.listed.len()
    }

    /// What an end that is no client moved.
    pub(super) fn of(&self, end: End) -> Counters {
        self.unlisted.get(&end).map_or(Counters::default(), |client| client.counters)
    }
}

/// What either end of each row moved.
fn moved<'a>(rows: &'a [DeltaRow], directory: &'a Directory) -> impl Iterator<Item = (Endpoint, Totals)> + 'a {
    let both = |row: &DeltaRow| {
        let (src, dst) = directory.pair(row.pair);
        let (bytes, packets, none) = (row.counts.bytes, row.counts.packets, Totals::none(row.seen()));
        [
            (src, Totals { sent_bytes: bytes, sent_packets: packets, ..none }),
            (dst, Totals { received_bytes: bytes, received_packets: packets, ..none }),
        ]
    };
    // The far end of a packet beyond the limit of pairs is counted by a row of its own.
    rows.iter().flat_map(both).filter(|(endpoint, _)| endpoint.end != End::Beyond)
}

#[cfg(test)]
mod tests {
    use super::super::{Board, Network};
    use super::*;
    use crate::time::{Bucket, Timestamp};
    use crate::traffic::{Counts, Delta, Endpoint, Seen};

    /// Client n sends to client 0: pair n.
    fn directory() -> Directory {
        let endpoint = |n: u8| Endpoint { end: End::Addr([10, 0, 0, n].into()), mac: None };
        let mut directory = Directory::default();
        let pairs = (0..8).map(|n| (n, 0)).collect();
        directory.extend(&Delta { endpoints: (0..8).map(endpoint).collect(), pairs, rows: Vec::new() });
        directory
    }

    struct Setup {
        board: Board,
        directory: Directory,
    }

    impl Setup {
        fn new(max: usize, idle: i64) -> Self {
            let mut board = Board::new(Listing::new(max, idle));
            board.networks = vec![Network::default(), Network::default()];
            Setup { board, directory: directory() }
        }

        fn commit(&mut self, senders: &[u32], now: Uptime) {
            self.commit_in(0, senders, now);
        }

        fn commit_in(&mut self, network: usize, senders: &[u32], now: Uptime) {
            let counts = Counts { bytes: 1, packets: 1, copies: 0 };
            let seen = Seen::at(Timestamp(0));
            let row = |&pair: &u32| DeltaRow::new(pair, Bucket { start: 0, seconds: 300 }, counts, seen);
            let rows: Vec<_> = senders.iter().map(row).collect();
            self.board.make_room(now);
            let Board { networks, listing, .. } = &mut self.board;
            let clients = &mut networks[network].clients;
            let unlisted = clients.admit(listing, &rows, &self.directory);
            clients.add(&rows, &self.directory, unlisted, now);
        }

        /// Address and sent bytes of those that are shown, and those of `other`.
        fn shown(&self, now: Uptime) -> (Vec<(String, u64)>, u64) {
            self.shown_of(0, now)
        }

        fn shown_of(&self, network: usize, now: Uptime) -> (Vec<(String, u64)>, u64) {
            let clients = &self.board.networks[network].clients;
            let shown = clients.shown(&self.board.listing, now);
            let shown = shown.map(|(label, _, totals)| (label.replace("10.0.0.", ""), totals.sent_bytes));
            (shown.collect(), clients.of(End::Other).sent_bytes)
        }
    }

    fn counters(of: &[(u8, u64)]) -> Vec<(String, u64)> {
        of.iter().map(|(n, bytes)| (n.to_string(), *bytes)).collect()
    }

    #[test]
    fn those_that_come_first_are_listed_and_the_rest_is_other() {
        let mut setup = Setup::new(3, 1000);
        setup.commit(&[5, 4, 3, 5], 0);
        assert_eq!(setup.shown(0), (counters(&[(0, 0), (4, 1), (5, 2)]), 1));
        setup.commit(&[1, 3, 4], 1);
        assert_eq!(setup.shown(1), (counters(&[(0, 0), (4, 2), (5, 2)]), 3));
    }

    #[test]
    fn idle_clients_leave_and_return_with_their_total() {
        let mut setup = Setup::new(10, 100);
        setup.commit(&[1, 2], 0);
        setup.commit(&[2], 60);
        assert_eq!(setup.shown(101), (counters(&[(0, 0), (2, 2)]), 0));
        setup.commit(&[1], 1000);
        assert_eq!(setup.shown(1000), (counters(&[(0, 0), (1, 2)]), 0));
    }

    #[test]
    fn idle_clients_make_room_and_other_never_falls() {
        let mut setup = Setup::new(2, 100);
        setup.commit(&[1, 2], 0);
        assert_eq!(setup.shown(0), (counters(&[(0, 0), (1, 1)]), 1));
        setup.commit(&[2], 200);
        assert_eq!(setup.shown(200), (counters(&[(0, 0), (2, 2)]), 1));
        setup.commit(&[1], 250);
        assert_eq!(setup.shown(250), (counters(&[(0, 0), (2, 2)]), 2));
    }

    #[test]
    fn idle_clients_make_room_for_another_network() {
        let mut setup = Setup::new(4, 100);
        setup.commit_in(1, &[1], 0);
        setup.commit(&[2], 0);
        setup.commit(&[3], 90);
        assert_eq!(setup.shown(90), (counters(&[(0, 0), (2, 1)]), 1), "all places are taken");
        // The other network is silent: its clients are idle, and nothing else would take them off.
        setup.commit(&[2, 3, 4], 180);
        assert_eq!(setup.shown_of(1, 180), (vec![], 0));
        assert_eq!(setup.shown(180), (counters(&[(0, 0), (2, 2), (3, 2), (4, 1)]), 1));
    }

    #[test]
    fn what_was_not_committed_is_not_shown() {
        let mut setup = Setup::new(2, 100);
        let bucket = Bucket { start: 0, seconds: 300 };
        let row = DeltaRow::new(1, bucket, Counts::default(), Seen::at(Timestamp(0)));
        let Board { networks, listing, .. } = &mut setup.board;
        networks[0].clients.admit(listing, &[row], &setup.directory);
        assert_eq!(setup.shown(0), (vec![], 0));
    }

    #[test]
    fn after_a_restart_the_same_are_listed() {
        let mut setup = Setup::new(2, 100);
        for (n, active) in [(7, -5), (6, -200), (5, -5), (4, -5)] {
            let totals = Totals { sent_bytes: 9, ..Totals::none(Seen::at(Timestamp(0))) };
            let endpoint = Endpoint { end: End::Addr([10, 0, 0, n].into()), mac: None };
            let Board { networks, listing, .. } = &mut setup.board;
            networks[0].clients.load(listing, endpoint, &totals, active);
        }
        assert_eq!(setup.shown(0), (counters(&[(5, 9), (7, 9)]), 0));
    }
}
