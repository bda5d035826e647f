//! Quotas: how much somebody may move in a period, how much that is so far, and where it leads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use crate::meter::Cidr;
use crate::period::{Calendar, Every, Period};
use crate::time::{BUCKET_SECONDS, Bucket};
use crate::traffic::{End, Endpoint, Row};
use crate::zerotier::{Members, NodeId};
use crate::zone::Zone;

/// Endpoints of a network of which it is remembered whose they are.
const MAX_FOUND: usize = 1 << 16;

/// Seconds of a period that are too few to tell where it leads.
const TOO_SOON: i64 = 3600;

/// What somebody may move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// What it is called; no two are called the same.
    pub name: String,
    /// Who, together.
    pub whose: Vec<Holder>,
    /// Bytes of IP packets in a period.
    pub limit: u64,
    /// How long a period is.
    pub every: Every,
    /// Which packets count.
    pub direction: Direction,
}

/// Somebody who has a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The clients with these addresses.
    Clients(Cidr),
    /// The member with this node id, or the members with this name: what is their own.
    Member(String),
}

/// Which packets count. One counts once, whoever is at its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those that a holder sent.
    Sent,
    /// Those that a holder received.
    Received,
    /// Those that a holder sent or received.
    Both,
}

/// Quotas, and what is known to have been moved under each.
#[derive(Clone, Debug)]
pub struct Quotas {
    zone: Zone,
    accounts: Vec<Account>,
    networks: BTreeMap<String, Reach>,
    /// Whether a packet has shown somebody to be a member since the last time that was asked.
    news: bool,
}

/// A quota's period, and what was moved in it.
#[derive(Clone, Debug)]
struct Account {
    quota: Quota,
    /// The period that is now, and the one after it: buckets of this one may come early.
    periods: [Period; 2],
    /// Bytes in either, if that is known.
    moved: Option<[u64; 2]>,
    /// Those of them that came since a reading began.
    since: [u64; 2],
    /// Whether they have to be read (anew).
    stale: bool,
    /// Whether the periods that are now cannot be told: then nothing is known, and nothing is read.
    astray: bool,
}

/// Whose the endpoints of a network are.
#[derive(Debug, Default)]
struct Reach {
    members: Members,
    /// The members that each quota is about.
    nodes: Vec<BTreeSet<NodeId>>,
    /// The numbers of the quotas that an endpoint counts for.
    found: HashMap<Endpoint, Box<[u32]>>,
}

/// How a quota stands.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// Which.
    pub quota: &'a Quota,
    /// The period that is now.
    pub period: Period,
    /// Bytes moved in it, if that is known.
    pub used: Option<u64>,
}

impl Quotas {
    /// Of which nothing is known yet, in the periods of a moment (seconds since the epoch).
    ///
    /// # Errors
    /// If a period begins or ends within a bucket.
    pub fn new(quotas: Vec<Quota>, zone: Zone, now: i64) -> Result<Self, String> {
        let nowhen = Period { start: 0, end: 0 };
        let account =
            |quota| Account { quota, periods: [nowhen; 2], moved: None, since: [0; 2], stale: true, astray: false };
        let accounts = quotas.into_iter().map(account).collect();
        let mut quotas = Quotas { zone, accounts, networks: BTreeMap::new(), news: false };
        match quotas.enter(now).into_iter().next() {
            Some((_, why)) => Err(why),
            None => Ok(quotas),
        }
    }

    /// Whose days these are.
    pub fn zone(&self) -> Zone {
        self.zone
    }

    /// Goes to the periods of a moment. What came early for one that begins is known at once, and to be read all the same.
    /// Those whose period would begin or end within a bucket stay in the one that they were in, and nothing is known of
    /// them: their names, and a line about each.
    pub fn enter(&mut self, now: i64) -> Vec<(String, String)> {
        let mut failed = Vec::new();
        for account in &mut self.accounts {
            let entered = account.enter(self.zone, now);
            account.astray = entered.is_err();
            if let Err(why) = entered {
                (account.moved, account.stale) = (None, true);
                failed.push((account.quota.name.clone(), format!("quota '{}': {why}", account.quota.name)));
            }
        }
        failed
    }

    /// Says who the members of a network are.
    pub fn know(&mut self, network: &str, members: Members) {
        let nodes = self.accounts.iter().map(|account| account.quota.nodes(&members)).collect();
        let reach = Reach { members, nodes, found: HashMap::new() };
        let before = self.networks.insert(network.to_owned(), reach);
        if let (Some(before), Some(reach)) = (before, self.networks.get_mut(network)) {
            reach.members.confirm_as(&before.members);
            if reach.members != before.members {
                self.doubt_members();
            }
        }
    }

    /// The members that are meant, by name or node id, and whose quotas these are.
    pub fn members(&self) -> impl Iterator<Item = (&Quota, &str)> {
        let quotas = self.accounts.iter().map(|account| &account.quota);
        let holders = quotas.flat_map(|quota| quota.whose.iter().map(move |holder| (quota, holder)));
        holders.filter_map(|(quota, holder)| match holder {
            Holder::Member(name) => Some((quota, name.as_str())),
            Holder::Clients(_) => None,
        })
    }

    /// Looks at an endpoint of which nothing is counted now: it may show who is a member.
    pub fn note(&mut self, network: &str, endpoint: Endpoint) {
        let reach = reach(&mut self.networks, &self.accounts, network);
        if reach.members.note(endpoint) {
            reach.found.clear();
        }
    }

    /// Counts what a network's `row` moved in `bucket`.
    pub fn add(&mut self, network: &str, bucket: Bucket, row: &Row) {
        let Quotas { accounts, networks, news, .. } = self;
        let reach = reach(networks, accounts, network);
        if reach.found.len() > MAX_FOUND {
            reach.found.clear();
        }
        if reach.find(accounts, row.src) | reach.find(accounts, row.dst) {
            *news = true;
            reach.find(accounts, row.src);
        }
        let [sent, received] =
            [row.src, row.dst].map(|endpoint| reach.found.get(&endpoint).map_or(&[][..], |found| found));
        for &number in sent {
            accounts[number as usize].add(bucket, row.counts.bytes, true, received.contains(&number));
        }
        for &number in received.iter().filter(|number| !sent.contains(number)) {
            accounts[number as usize].add(bucket, row.counts.bytes, false, true);
        }
    }

    /// After a packet has shown somebody to be a member, what was counted of members has to be read anew.
    pub fn heed_news(&mut self) {
        if std::mem::take(&mut self.news) {
            self.doubt_members();
        }
    }

    fn doubt_members(&mut self) {
        let is_member = |holder: &Holder| matches!(holder, Holder::Member(_));
        let of_members = self.accounts.iter_mut().filter(|account| account.quota.whose.iter().any(is_member));
        of_members.for_each(|account| account.stale = true);
    }

    /// A copy for what has to be read, if anything has: all that is [added](Quotas::add) to it from
    /// [`range`](Quotas::range), up to this moment, is for [`settle`](Quotas::settle).
    pub fn reading(&mut self) -> Option<Quotas> {
        let to_read = |account: &Account| account.stale && !account.astray;
        if !self.accounts.iter().any(to_read) {
            return None;
        }
        let mut copy = self.clone();
        for (account, copy) in self.accounts.iter_mut().zip(&mut copy.accounts) {
            copy.moved = None;
            if to_read(account) {
                (account.stale, account.since, copy.moved) = (false, [0; 2], Some([0; 2]));
            }
        }
        Some(copy)
    }

    /// A reading in parts, which have nothing to do with each other's periods.
    pub fn by_periods(&self) -> Vec<Quotas> {
        let read = self.accounts.iter().filter(|account| account.moved.is_some());
        let periods: BTreeSet<[Period; 2]> = read.map(|account| account.periods).collect();
        let part = |periods| {
            let mut part = self.clone();
            let others = part.accounts.iter_mut().filter(|account| account.periods != periods);
            others.for_each(|account| account.moved = None);
            part
        };
        periods.into_iter().map(part).collect()
    }

    /// From where on to read.
    pub fn range(&self) -> Range<Option<i64>> {
        let read = self.accounts.iter().filter(|account| account.moved.is_some());
        read.map(|account| account.periods[0].start).min()..None
    }

    /// Where rows must be cut: says for a second which is the first cut behind it, if there is one.
    pub fn cuts(&self) -> impl Fn(i64) -> Option<i64> + use<> {
        let read = self.accounts.iter().filter(|account| account.moved.is_some());
        let cuts: BTreeSet<i64> =
            read.flat_map(|account| account.periods).flat_map(|period| [period.start, period.end]).collect();
        move |second| cuts.range(second + 1..).next().copied()
    }

    /// Takes in what was read, which is of the moment at which the [reading](Quotas::reading) began.
    pub fn settle(&mut self, read: Quotas) {
        for (network, Reach { members, .. }) in read.networks {
            if let Some(reach) = self.networks.get_mut(&network) {
                reach.members.confirm_as(&members);
                reach.found.clear();
            }
        }
        for (account, read) in self.accounts.iter_mut().zip(read.accounts) {
            if let (Some(read), true) = (read.moved, account.periods == read.periods && !account.astray) {
                account.moved = Some([0, 1].map(|at| read[at].saturating_add(account.since[at])));
            }
        }
    }

    /// It cannot be told what was moved under this one.
    pub fn lose(&mut self, name: &str) {
        let lost = self.accounts.iter_mut().filter(|account| account.quota.name == name);
        lost.for_each(|account| account.moved = None);
    }

    /// All has to be read (still).
    pub fn doubt(&mut self) {
        self.accounts.iter_mut().for_each(|account| account.stale = true);
    }

    /// Until these have been read themselves, what others, that they replace, know of quotas that stayed the same.
    pub fn succeed(&mut self, before: &Quotas) {
        for account in &mut self.accounts {
            let same = |other: &&Account| other.quota == account.quota && other.periods == account.periods;
            account.moved = before.accounts.iter().find(same).and_then(|other| other.moved);
        }
        for (network, Reach { members, .. }) in &before.networks {
            self.know(network, members.clone());
        }
    }

    /// How each stands.
    pub fn uses(&self) -> impl Iterator<Item = Use<'_>> {
        self.accounts.iter().map(|Account { quota, periods: [period, _], moved, .. }| Use {
            quota,
            period: *period,
            used: moved.map(|[moved, _]| moved),
        })
    }
}

/// The reach of a network. Of one that nobody told of, nothing is known but addresses.
fn reach<'a>(networks: &'a mut BTreeMap<String, Reach>, accounts: &[Account], network: &str) -> &'a mut Reach {
    if !networks.contains_key(network) {
        let nodes = vec![BTreeSet::new(); accounts.len()];
        networks.insert(network.to_owned(), Reach { nodes, ..Reach::default() });
    }
    networks.entry(network.to_owned()).or_default()
}

/// Without what is only remembered.
impl Clone for Reach {
    fn clone(&self) -> Self {
        Reach { members: self.members.clone(), nodes: self.nodes.clone(), found: HashMap::new() }
    }
}

impl Reach {
    /// Finds out which quotas an endpoint counts for. Says whether it has shown somebody to be a member.
    fn find(&mut self, accounts: &[Account], endpoint: Endpoint) -> bool {
        if self.found.contains_key(&endpoint) {
            return false;
        }
        let news = self.members.note(endpoint);
        if news {
            self.found.clear();
        }
        let node = self.members.whose(endpoint).filter(|whose| whose.own).map(|whose| whose.node);
        let counts = |(number, account): (u32, &Account)| {
            let by_node = node.is_some_and(|node| self.nodes[number as usize].contains(&node));
            (by_node || account.quota.is_of(endpoint)).then_some(number)
        };
        let found = (0..).zip(accounts).filter_map(counts).collect();
        self.found.insert(endpoint, found);
        news
    }
}

impl Quota {
    /// Whether an endpoint has one of the addresses.
    fn is_of(&self, endpoint: Endpoint) -> bool {
        let Endpoint { end: End::Addr(addr), .. } = endpoint else { return false };
        self.whose.iter().any(|holder| matches!(holder, Holder::Clients(range) if range.contains(addr)))
    }

    /// The members that it is about.
    fn nodes(&self, members: &Members) -> BTreeSet<NodeId> {
        let names = self.whose.iter().filter_map(|holder| match holder {
            Holder::Member(name) => Some(name),
            Holder::Clients(_) => None,
        });
        names.flat_map(|name| members.called(name)).collect()
    }
}

impl Account {
    /// Goes to the periods of a moment.
    fn enter(&mut self, zone: Zone, now: i64) -> Result<(), String> {
        if (self.periods[0].start..self.periods[0].end).contains(&now) {
            return Ok(());
        }
        let every = self.quota.every;
        let calendar = Calendar::new(zone, every);
        let period = |second| calendar.period(second).ok_or("no calendar reaches the time of this machine's clock");
        let this = period(now)?;
        let next = period(this.end)?;
        let mut bounds = [this.start, this.end, next.end].into_iter();
        if let Some(bound) = bounds.find(|at| at % i64::from(BUCKET_SECONDS) != 0) {
            return Err(format!("a {every} begins at {}, within a bucket of five minutes", calendar.label(bound)));
        }
        self.moved = self.moved.filter(|_| this == self.periods[1]).map(|[_, early]| [early, 0]);
        self.periods = [this, next];
        self.stale = true;
        Ok(())
    }

    fn add(&mut self, bucket: Bucket, bytes: u64, sent: bool, received: bool) {
        let counts = match self.quota.direction {
            Direction::Sent => sent,
            Direction::Received => received,
            Direction::Both => true,
        };
        let Some(at) = self.periods.iter().position(|period| (period.start..period.end).contains(&bucket.start)) else {
            return;
        };
        if counts {
            for sums in self.moved.iter_mut().chain([&mut self.since]) {
                sums[at] = sums[at].saturating_add(bytes);
            }
        }
    }
}

impl Use<'_> {
    /// Whether more was moved than may be.
    pub fn is_exceeded(&self) -> bool {
        self.used.is_some_and(|used| used > self.quota.limit)
    }

    /// Bytes that may still be moved.
    pub fn remaining(&self) -> Option<u64> {
        Some(self.quota.limit.saturating_sub(self.used?))
    }

    /// Bytes at the end of the period if it goes on as it has so far. Nobody can tell in its first hour.
    pub fn projected(&self, now: i64) -> Option<u64> {
        let elapsed = now - self.period.start;
        if elapsed < TOO_SOON || now > self.period.end {
            return None;
        }
        let (elapsed, whole) = (elapsed as u128, (self.period.end - self.period.start) as u128);
        let bytes = (u128::from(self.used?) * whole + elapsed / 2) / elapsed;
        Some(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
