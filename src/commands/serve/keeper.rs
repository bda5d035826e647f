//! The thread that owns the database: what the feeds count is committed first and shown then.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::control::lock;
use super::log;
use crate::frame::Statistics;
use crate::meter::Stats;
use crate::metrics::{Board, Network, Process};
use crate::store::{NetworkId, Source, Writer};
use crate::time::Timestamp;
use crate::traffic::{Delta, DeltaRow, Directory, Origin};

/// How long to wait before a failed commit is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Messages that share a commit, at most.
const SHARED_COMMIT: usize = 4;

/// What feeds tell the keeper. Feeds number themselves.
pub(super) enum Message {
    /// A feed knows its network: 16 hex digits, or the device's name, or empty for a file.
    Joined { feed: usize, network: String, device: String },
    /// What a feed counted since it last told, and all it has seen; with the last ticket it knew of.
    Counted { feed: usize, ticket: u64, delta: Delta, stats: Box<Stats>, capture: Statistics, up: bool },
    /// A feed has ended: no ticket waits for it.
    Ended { feed: usize },
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
struct Feed {
    network: String,
    device: String,
    /// Known once the database has been asked; the network's name is then the database's.
    source: Option<Source>,
    directory: Directory,
    /// Counted and not committed: what has to wait for the disk is summed up.
    pending: HashMap<(u32, i64), DeltaRow>,
    process: Process,
    ticket: u64,
    ended: bool,
}

pub(super) struct Keeper {
    writer: Writer,
    feeds: BTreeMap<usize, Feed>,
    board: Arc<Mutex<Board>>,
    progress: watch::Sender<Progress>,
    failed_at: Option<Instant>,
}

impl Keeper {
    /// Puts on the board what the database holds of all networks, before anyone can ask for it.
    pub(super) fn new(
        writer: Writer,
        board: Arc<Mutex<Board>>,
        progress: watch::Sender<Progress>,
    ) -> anyhow::Result<Self> {
        {
            let mut board = lock(&board);
            board.store_up = true;
            for (id, name) in writer.live_networks()? {
                load(&writer, id, network(&mut board, &name))?;
            }
        }
        Ok(Keeper { writer, feeds: BTreeMap::new(), board, progress, failed_at: None })
    }

    /// Works until every feed is gone; says whether everything that was counted has been committed.
    pub(super) fn run(mut self, messages: &Receiver<Message>) -> bool {
        loop {
            let timeout = if self.failed_at.is_some() { RETRY } else { Duration::from_secs(3600) };
            match messages.recv_timeout(timeout) {
                Ok(message) => {
                    self.take(message);
                    // What came meanwhile shares the commit; not all that a fast file could bring while it is waited for.
                    for message in messages.try_iter().take(SHARED_COMMIT) {
                        self.take(message);
                    }
                }
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => {
                    self.commit();
                    return self.failed_at.is_none();
                }
            }
            // A disk that refuses is not asked again for every message.
            if self.failed_at.is_none_or(|at| at.elapsed() >= RETRY) {
                self.commit();
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Joined { feed, network, device } => {
                let joined = Feed {
                    network,
                    device,
                    source: None,
                    directory: Directory::default(),
                    pending: HashMap::new(),
                    process: Process::default(),
                    ticket: 0,
                    ended: false,
                };
                self.feeds.insert(feed, joined);
            }
            Message::Counted { feed, ticket, delta, stats, capture, up } => {
                // A feed that has not joined has seen no frame.
                let Some(feed) = self.feeds.get_mut(&feed) else { return };
                feed.directory.extend(&delta);
                for row in delta.rows {
                    match feed.pending.entry((row.pair, row.bucket)) {
                        Entry::Vacant(entry) => {
                            entry.insert(row);
                        }
                        Entry::Occupied(mut entry) => {
                            entry.get_mut().counts.add(row.counts);
                            entry.get_mut().seen.merge(row.seen);
                        }
                    }
                }
                feed.ticket = ticket;
                feed.process = Process { stats: *stats, capture, up };
            }
            Message::Ended { feed } => {
                if let Some(feed) = self.feeds.get_mut(&feed) {
                    feed.ended = true;
                }
            }
        }
    }

    fn commit(&mut self) {
        match self.try_commit() {
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
        let mut board = lock(&self.board);
        board.store_up = self.failed_at.is_none();
        board.networks.iter_mut().for_each(|network| network.process = None);
        for feed in self.feeds.values() {
            let process = network(&mut board, &feed.network).process.get_or_insert_default();
            *process = process.plus(&feed.process);
        }
    }

    fn try_commit(&mut self) -> anyhow::Result<()> {
        if self.failed_at.is_some() {
            // What a failure left open must not take in anything else.
            self.writer.rollback()?;
        }
        self.join_networks()?;
        if self.feeds.values().all(|feed| feed.pending.is_empty()) {
            return Ok(());
        }
        self.writer.begin()?;
        let mut committed = Vec::new();
        for feed in self.feeds.values_mut() {
            let Some(source) = &mut feed.source else { continue };
            let rows: Vec<DeltaRow> = feed.pending.values().copied().collect();
            self.writer.add(source, &feed.directory, &rows)?;
            committed.push((feed, rows));
        }
        self.writer.commit()?;
        let mut board = lock(&self.board);
        for (feed, rows) in committed {
            network(&mut board, &feed.network).clients.add_rows(&rows, &feed.directory);
            feed.pending = HashMap::new();
        }
        board.last_commit = Some(Timestamp::now());
        Ok(())
    }

    /// Finds the networks of new feeds in the database, and shows what it holds of them.
    fn join_networks(&mut self) -> anyhow::Result<()> {
        for feed in self.feeds.values_mut().filter(|feed| feed.source.is_none()) {
            let id = self.writer.network(&feed.network, &feed.device)?;
            let name = self.writer.network_name(id)?;
            let mut board = lock(&self.board);
            // What was shown under the device's name is the network's, if that is how the database has it now.
            let known = self.writer.live_networks()?;
            board.networks.retain(|network| {
                network.name != feed.device
                    || network.name == name
                    || known.iter().any(|(_, known)| *known == network.name)
            });
            let entry = network(&mut board, &name);
            if !entry.clients.loaded {
                load(&self.writer, id, entry)?;
            }
            feed.network = name;
            feed.source = Some(Source::new(id, Origin::Live));
        }
        Ok(())
    }
}

/// The board's entry for a network.
fn network<'a>(board: &'a mut Board, name: &str) -> &'a mut Network {
    let at = match board.networks.binary_search_by(|network| network.name.as_str().cmp(name)) {
        Ok(at) => at,
        Err(at) => {
            board.networks.insert(at, Network { name: name.to_owned(), ..Network::default() });
            at
        }
    };
    &mut board.networks[at]
}

/// Puts the committed totals of a network on the board.
fn load(writer: &Writer, id: NetworkId, network: &mut Network) -> anyhow::Result<()> {
    for (end, totals) in writer.live_totals(id)? {
        network.clients.add(end, &totals);
    }
    network.clients.loaded = true;
    Ok(())
}
