//! The thread that owns the database: what the feeds count is committed first and shown then.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::control::{Shared, lock};
use super::feed::COMMIT_EVERY;
use super::log;
use super::members::Learned;
use super::observe::{Coverage, MAX_COVERAGE, merge};
use super::quotas::Accounts;
use crate::cli::Retain;
use crate::metrics::{Board, Carried, Network, Own, Process};
use crate::store::{KeptMember, LiveTotals, NetworkId, Source, Writer};
use crate::time::{Span, Timestamp};
use crate::traffic::{Delta, Directory, Origin};

/// How long to wait before a failed commit is tried again, or before looking whether more was told of members.
const RETRY: Duration = Duration::from_secs(1);

/// How often to look meanwhile whether it is time to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often to look whether there is history that has become old.
const UPKEEP_EVERY: Duration = Duration::from_secs(60);

/// While there is some: how many times as long as each step takes the database is left to others.
const UPKEEP_REST: u32 = 3;

/// Hand-overs that share a commit, at most.
const SHARED_COMMIT: usize = 4;

/// What a feed hands over: what it counted since the last time, and all it has seen. Feeds number themselves.
pub(super) struct HandOver {
    pub feed: usize,
    /// Its network (16 hex digits, or the device's name, or empty for a file) and device, the first time.
    pub whose: Option<(String, String)>,
    /// The last ticket it knew of.
    pub ticket: u64,
    pub delta: Delta,
    pub coverage: Coverage,
    pub process: Process,
    /// It has ended: no ticket waits for it.
    pub ended: bool,
}

/// How far the commits have come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// All tickets up to this one have been answered, and what they asked for is committed.
    pub ticket: u64,
    /// When that was.
    pub at: Option<Instant>,
}

/// One feed, as the keeper knows it.
#[derive(Default)]
struct Feed {
    network: String,
    device: String,
    /// Known once the database has been asked; the network's name is then the database's.
    source: Option<Source>,
    /// As the source's.
    id: Option<NetworkId>,
    directory: Directory,
    /// Whose its endpoints are.
    carried: Carried,
    /// Counted and not committed.
    pending: Delta,
    seen: Coverage,
    process: Process,
    ticket: u64,
    ended: bool,
}

impl Feed {
    /// Whether it has something that is not committed.
    fn has_news(&self) -> bool {
        !(self.pending.rows.is_empty() && self.seen.is_empty())
    }
}

pub(super) struct Keeper {
    writer: Writer,
    feeds: BTreeMap<usize, Feed>,
    /// The networks on the board, as the database names them.
    networks: BTreeMap<NetworkId, String>,
    board: Arc<Mutex<Board>>,
    control: Shared,
    progress: watch::Sender<Progress>,
    failed_at: Option<Instant>,
    /// When what was seen is committed though nothing moved: not at every scrape, as disks wear out.
    coverage_due: Instant,
    /// How long live history is kept.
    retain: Option<Span>,
    started: Instant,
    upkeep_at: Instant,
    upkeep_failed: bool,
    learned: Learned,
    quotas: Accounts,
}

impl Keeper {
    /// Puts on the board what the database holds of all networks, `live`, before anyone can ask for it.
    pub(super) fn new(
        writer: Writer,
        live: Vec<LiveTotals>,
        retain: Retain,
        board: Arc<Mutex<Board>>,
        control: Shared,
        progress: watch::Sender<Progress>,
    ) -> anyhow::Result<Self> {
        let learned = Learned::before(writer.roster()?, &control.known);
        let retain = match retain {
            Retain::Time(span) => Some(span),
            Retain::Forever => None,
        };
        let mut keeper = Keeper {
            writer,
            feeds: BTreeMap::new(),
            networks: BTreeMap::new(),
            board,
            control,
            progress,
            failed_at: None,
            coverage_due: Instant::now() + COMMIT_EVERY,
            retain,
            started: Instant::now(),
            upkeep_at: Instant::now(),
            upkeep_failed: false,
            learned,
            quotas: Accounts::default(),
        };
        keeper.load(live)?;
        keeper.load_members()?;
        let networks = keeper.networks.values();
        keeper.quotas = Accounts::new(&keeper.control, &keeper.writer, &keeper.learned.roster, networks);
        lock(&keeper.board).quotas = keeper.quotas.shown();
        Ok(keeper)
    }

    fn load(&mut self, live: Vec<LiveTotals>) -> anyhow::Result<()> {
        let mut board = lock(&self.board);
        // How long clients have been idle shows in the packets' times; a clock that is off must not make all idle.
        let latest = live.iter().map(|total| total.totals.seen.last).max().map(|last| last.min(Timestamp::now()));
        for LiveTotals { network: id, endpoint, totals } in live {
            if !self.networks.contains_key(&id) {
                self.networks.insert(id, self.writer.network_name(id)?);
            }
            let Board { networks, listing, .. } = &mut *board;
            let network = network(networks, &self.networks[&id]);
            network.clients.loaded = true;
            let idle = latest.map_or(0, |latest| latest.clamped().0.saturating_sub(totals.seen.last.clamped().0));
            network.clients.load(listing, endpoint, &totals, -idle.max(0));
        }
        Ok(())
    }

    /// Puts on the board who members are, and what they moved themselves.
    fn load_members(&mut self) -> anyhow::Result<()> {
        let mut board = lock(&self.board);
        for KeptMember { network: id, node, sent_bytes, received_bytes } in self.writer.members()? {
            if let Some(name) = self.networks.get(&id) {
                let clients = &mut network(&mut board.networks, name).clients;
                clients.load_member(node, Own { sent_bytes, received_bytes });
            }
        }
        for network in &mut board.networks {
            network.clients.know(self.learned.of(&network.name));
        }
        Ok(())
    }

    /// Takes in what was told of members, and keeps it.
    fn learn(&mut self) -> anyhow::Result<()> {
        if self.learned.look(&self.control.known) {
            let names: Vec<_> = lock(&self.board).networks.iter().map(|network| network.name.clone()).collect();
            // Found out without the board: there may be many, and a scrape waits for it.
            for (name, members) in names.iter().map(|name| (name, self.learned.of(name))) {
                network(&mut lock(&self.board).networks, name).clients.know(members);
                self.quotas.know(name, self.learned.roster.of(name.parse().ok()));
            }
        }
        if !self.learned.kept && !self.learned.roster.is_empty() {
            self.writer.begin()?;
            for (id, name) in &self.networks {
                if let Ok(network) = name.parse() {
                    self.writer.tell(*id, &self.learned.roster.of(Some(network)))?;
                }
            }
            self.writer.commit()?;
            self.learned.kept = true;
        }
        Ok(())
    }

    /// Works until every feed is gone; says whether everything that was counted has been committed.
    pub(super) fn run(mut self, hand_overs: &Receiver<HandOver>) -> bool {
        loop {
            if let Some(at) = self.failed_at
                && !self.control.stopping()
            {
                // Nothing is taken from the feeds that cannot be stored: there it is kept in the least room.
                if at.elapsed() >= RETRY {
                    self.commit();
                }
                thread::sleep(LOOK_EVERY);
                continue;
            }
            let until_upkeep = self.upkeep_at.saturating_duration_since(Instant::now());
            let at_most = if self.failed_at.is_some() { RETRY } else { until_upkeep.min(RETRY) };
            match hand_overs.recv_timeout(at_most) {
                Ok(first) => {
                    // What came meanwhile shares the commit; not all that a fast file could bring while it is waited for.
                    for hand_over in std::iter::once(first).chain(hand_overs.try_iter().take(SHARED_COMMIT)) {
                        self.take(hand_over);
                    }
                }
                Err(RecvTimeoutError::Timeout) if self.failed_at.is_none() && self.upkeep_at <= Instant::now() => {
                    self.upkeep();
                    self.keep_quotas();
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => {
                    self.coverage_due = Instant::now();
                    self.commit();
                    return self.failed_at.is_none();
                }
            }
            self.commit();
        }
    }

    fn take(&mut self, hand_over: HandOver) {
        let HandOver { feed, whose, ticket, mut delta, coverage, process, ended } = hand_over;
        if let Some((network, device)) = whose {
            self.feeds.insert(feed, Feed { network, device, ..Feed::default() });
        }
        // One that does not know yet whose traffic it is to count has seen no frame.
        let Some(feed) = self.feeds.get_mut(&feed) else { return };
        feed.directory.extend(&delta);
        feed.pending.rows.append(&mut delta.rows);
        merge(&mut feed.seen, coverage);
        (feed.ticket, feed.process, feed.ended) = (ticket, process, ended);
        if ended || feed.seen.len() >= MAX_COVERAGE {
            self.coverage_due = Instant::now();
        }
    }

    fn commit(&mut self) {
        self.control.store.begin();
        let committed = self.try_commit();
        self.control.store.end(committed.is_ok());
        match committed {
            Ok(()) => {
                if self.failed_at.take().is_some() {
                    log::info("database: commits succeed again");
                }
                let running = self.feeds.values().filter(|feed| !feed.ended).map(|feed| feed.ticket);
                let ticket = running.min().unwrap_or(u64::MAX);
                self.progress.send_modify(|progress| {
                    // A commit that nobody asked for may be of one feed alone: it makes nothing fresh.
                    if ticket != progress.ticket || ticket == u64::MAX {
                        *progress = Progress { ticket, at: Some(Instant::now()) };
                    }
                });
            }
            Err(error) => {
                if self.failed_at.is_none() {
                    log::warn(&format!("database: {error:#}; counting goes on, shown totals stand still"));
                }
                self.failed_at = Some(Instant::now());
            }
        }
        self.keep_quotas();
        let mut board = lock(&self.board);
        for (number, feed) in &self.feeds {
            // One that the database has not named yet must not give all others a label.
            if board.networks.is_empty() {
                network(&mut board.networks, &feed.network);
            }
            // What was shown while nothing could be committed may be ahead.
            let shown = board.processes.get(number).map(|(_, shown)| *shown).unwrap_or_default();
            let process = if shown.is_ahead_of(&feed.process) { shown } else { feed.process };
            board.processes.insert(*number, (feed.network.clone(), process));
        }
        if self.failed_at.is_none() {
            // What they have seen stays on the board; the rest, which may be much, nobody needs any more.
            self.feeds.retain(|_, feed| !feed.ended || feed.has_news());
        }
    }

    fn try_commit(&mut self) -> anyhow::Result<()> {
        if self.failed_at.is_some() {
            // What a failure left open must not take in anything else.
            self.writer.rollback()?;
        }
        self.join_networks()?;
        self.learn()?;
        let is_due = self.coverage_due <= Instant::now();
        if !self.feeds.values().any(|feed| !feed.pending.rows.is_empty() || is_due && feed.has_news()) {
            return Ok(());
        }
        let now = self.control.uptime();
        self.writer.tick(Timestamp::now(), self.started.elapsed());
        self.writer.begin()?;
        lock(&self.board).make_room(now);
        let mut committed = Vec::new();
        for feed in self.feeds.values_mut().filter(|feed| feed.has_news()) {
            let Some(source) = &mut feed.source else { continue };
            self.writer.add_observed(source.network(), &feed.seen)?;
            feed.pending.merge();
            let rows = &feed.pending.rows;
            self.writer.add(source, &feed.directory, rows)?;
            let (unlisted, own) = {
                let Board { networks, listing, .. } = &mut *lock(&self.board);
                let clients = &mut network(networks, &feed.network).clients;
                let unlisted = clients.admit(listing, rows, &feed.directory);
                (unlisted, clients.own(listing, rows, &feed.directory, &mut feed.carried))
            };
            if let Some(unlisted) = unlisted {
                self.writer.add_unlisted(source, unlisted)?;
            }
            if let Some(id) = feed.id {
                let bytes = own.iter().map(|(node, own)| (*node, (own.sent_bytes, own.received_bytes)));
                self.writer.add_own(id, &bytes.collect())?;
            }
            committed.push((feed, unlisted, own));
        }
        self.writer.commit()?;
        self.coverage_due = Instant::now() + COMMIT_EVERY;
        for (feed, ..) in &committed {
            self.quotas.add(&feed.network, &feed.directory, &feed.pending.rows);
        }
        let mut board = lock(&self.board);
        for (feed, unlisted, own) in committed {
            feed.seen.clear();
            let pending = std::mem::take(&mut feed.pending);
            let clients = &mut network(&mut board.networks, &feed.network).clients;
            clients.add(&pending.rows, &feed.directory, unlisted, now);
            clients.add_own(own);
            self.control.store.add(feed.directory.bytes(&pending.rows));
        }
        board.quotas = self.quotas.shown();
        board.last_commit = Some(Timestamp::now());
        Ok(())
    }

    /// Brings quotas up to date, by the clock, too.
    fn keep_quotas(&mut self) {
        self.quotas.turn(&self.control, &self.learned.roster);
        if self.failed_at.is_none() {
            // A disk that hangs here hangs for commits, too.
            self.control.store.begin();
            self.quotas.begin(&self.writer);
            self.control.store.end(true);
        }
        lock(&self.board).quotas = self.quotas.shown();
    }

    /// Does a little of what there is to be done with old history, while no hand-over waits.
    fn upkeep(&mut self) {
        let begun = Instant::now();
        self.writer.tick(Timestamp::now(), self.started.elapsed());
        self.control.store.begin();
        let done = self.writer.upkeep(Timestamp::now(), self.retain);
        // Whether commits succeed is for commits to say.
        self.control.store.end(true);
        let rest = if let Ok(true) = done { begun.elapsed() * UPKEEP_REST } else { UPKEEP_EVERY };
        self.upkeep_at = Instant::now() + rest;
        if let (Err(error), false) = (&done, self.upkeep_failed) {
            log::warn(&format!("database: {error:#}; old history stays as it is"));
        }
        self.upkeep_failed = done.is_err();
    }

    /// Finds the networks of new feeds in the database.
    fn join_networks(&mut self) -> anyhow::Result<()> {
        for feed in self.feeds.values_mut().filter(|feed| feed.source.is_none()) {
            let id = self.writer.network(&feed.network, &feed.device)?;
            let name = self.writer.network_name(id)?;
            let Board { networks, .. } = &mut *lock(&self.board);
            // What was shown under another name, the device's, is the network's now.
            if let Some(before) = self.networks.insert(id, name.clone()).filter(|before| *before != name)
                && let Some(at) = networks.iter().position(|network| network.name == before)
            {
                let known = networks.remove(at);
                network(networks, &name).clients = known.clients;
            }
            // All that the database had was put on the board at the start.
            let joined = network(networks, &name);
            joined.clients.loaded = true;
            joined.clients.know(self.learned.of(&name));
            self.learned.kept = false;
            self.quotas.know(&name, self.learned.roster.of(name.parse().ok()));
            networks.retain(|network| network.clients.loaded);
            feed.network = name;
            (feed.source, feed.id) = (Some(Source::new(id, Origin::Live)), Some(id));
        }
        Ok(())
    }
}

/// The board's entry for a network.
fn network<'a>(networks: &'a mut Vec<Network>, name: &str) -> &'a mut Network {
    let at = match networks.binary_search_by(|network| network.name.as_str().cmp(name)) {
        Ok(at) => at,
        Err(at) => {
            networks.insert(at, Network { name: name.to_owned(), ..Network::default() });
            at
        }
    };
    &mut networks[at]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::Observed;
    use crate::metrics::Listing;
    use crate::time::{BUCKET_SECONDS, Bucket};
    use crate::traffic::{Counts, DeltaRow, End, Endpoint, Seen};

    const FIVE_MINUTES: i64 = BUCKET_SECONDS as i64;

    /// What was seen in the five minutes of this number, and what moved in them, if anything.
    fn hand_over(number: i64, moves: bool, ended: bool) -> HandOver {
        let mut seen = Observed::default();
        seen.up.mark(0..9);
        let bucket = Bucket { start: number * FIVE_MINUTES, seconds: BUCKET_SECONDS };
        let counts = Counts { bytes: 1, packets: 1, copies: 0 };
        let row = || DeltaRow::new(0, bucket, counts, Seen::at(Timestamp::new(bucket.start, 0)));
        let end = Endpoint { end: End::External, mac: None };
        let (endpoints, pairs) = if moves { (vec![end], vec![(0, 0)]) } else { Default::default() };
        HandOver {
            feed: 0,
            whose: (number == 0).then(|| ("8056c2e21c000001".to_owned(), "zt0".to_owned())),
            ticket: number as u64,
            delta: Delta { endpoints, pairs, rows: moves.then(row).into_iter().collect() },
            coverage: [(bucket.start, seen)].into(),
            process: Process::default(),
            ended,
        }
    }

    #[test]
    fn what_was_seen_alone_is_not_committed_at_every_scrape() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, live) = Writer::open_with_live_totals(&dir.path().join("ztmon.db"), None).unwrap();
        let board = Arc::new(Mutex::new(Board::new(Listing::new(9, 9))));
        let (progress, answered) = watch::channel(Progress { ticket: u64::MAX, at: None });
        let mut keeper =
            Keeper::new(writer, live, Retain::Forever, Arc::clone(&board), Shared::default(), progress).unwrap();
        let later = Instant::now() + 100 * COMMIT_EVERY;
        let mut after = |number, moves, ended, due| {
            keeper.coverage_due = due;
            keeper.take(hand_over(number, moves, ended));
            keeper.commit();
            assert!(ended || answered.borrow().ticket == number as u64, "who asked is answered");
            assert!(keeper.coverage_due > due || due == later, "it is not due at once again");
            let live = keeper.writer.captured_live().unwrap();
            let is_kept = |n: &i64| live.at("", Bucket { start: n * FIVE_MINUTES, seconds: BUCKET_SECONDS }).is_some();
            (0..9).filter(is_kept).count()
        };
        assert_eq!([after(0, false, false, later), after(1, false, false, later)], [0, 0]);
        assert_eq!(lock(&board).last_commit, None);
        // It waits for its time, for something that moved, or for the feed's end.
        assert_eq!(after(2, false, false, Instant::now()), 3);
        assert_eq!(after(3, false, false, later), 3);
        assert_eq!(after(4, true, false, later), 5);
        assert_eq!(after(5, false, false, later), 5);
        assert_eq!(after(6, false, true, later), 7);
        assert!(
            keeper.feeds.is_empty() && lock(&board).processes.contains_key(&0),
            "of the end only what it saw is left"
        );
        // However long ago the last time was, so much is not kept in memory.
        let mut much = hand_over(0, false, false);
        much.coverage = (0..MAX_COVERAGE as i64).map(|n| (n * FIVE_MINUTES, much.coverage[&0])).collect();
        keeper.coverage_due = later;
        keeper.take(much);
        keeper.commit();
        assert!(keeper.feeds[&0].seen.is_empty());
    }
}
