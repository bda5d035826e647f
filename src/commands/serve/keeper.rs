//! The thread that owns the database: what the feeds count is committed first and shown then.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::control::lock;
use super::log;
use crate::frame::Statistics;
use crate::meter::Stats;
use crate::metrics::{Board, Network};
use crate::store::{Origin, Source, Writer};
use crate::time::Timestamp;
use crate::traffic::{Delta, Directory};

/// How long to wait before a failed commit is tried again.
const RETRY: Duration = Duration::from_secs(1);

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
#[derive(Default)]
struct Feed {
    network: String,
    device: String,
    source: Option<Source>,
    directory: Directory,
    /// Counted and not committed.
    pending: Vec<Delta>,
    ticket: u64,
    ended: bool,
}

pub(super) struct Keeper {
    writer: Writer,
    feeds: BTreeMap<usize, Feed>,
    board: Arc<Mutex<Board>>,
    progress: watch::Sender<Progress>,
    failing: bool,
}

impl Keeper {
    pub(super) fn new(writer: Writer, board: Arc<Mutex<Board>>, progress: watch::Sender<Progress>) -> Self {
        lock(&board).store_up = true;
        Keeper { writer, feeds: BTreeMap::new(), board, progress, failing: false }
    }

    /// Works until every feed is gone; says whether everything that was counted has been committed.
    pub(super) fn run(mut self, messages: &Receiver<Message>) -> bool {
        loop {
            let timeout = if self.failing { RETRY } else { Duration::from_secs(3600) };
            match messages.recv_timeout(timeout) {
                Ok(message) => {
                    self.take(message);
                    // What came meanwhile shares the commit.
                    while let Ok(message) = messages.try_recv() {
                        self.take(message);
                    }
                }
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => {
                    self.commit();
                    return !self.failing;
                }
            }
            self.commit();
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Joined { feed, network, device } => {
                self.feeds.entry(feed).or_default().network = network;
                self.feeds.entry(feed).or_default().device = device;
            }
            Message::Counted { feed, ticket, delta, stats, capture, up } => {
                let Some(feed) = self.feeds.get_mut(&feed) else { return };
                feed.directory.extend(&delta);
                if !delta.rows.is_empty() {
                    feed.pending.push(delta);
                }
                feed.ticket = ticket;
                let mut board = lock(&self.board);
                let network = network(&mut board, &feed.network);
                (network.stats, network.capture, network.capture_up) = (*stats, capture, up);
            }
            Message::Ended { feed } => self.feeds.entry(feed).or_default().ended = true,
        }
    }

    fn commit(&mut self) {
        match self.try_commit() {
            Ok(()) => {
                if self.failing {
                    log::info("database: commits succeed again");
                }
                self.failing = false;
                let running = self.feeds.values().filter(|feed| !feed.ended).map(|feed| feed.ticket);
                let ticket = running.min().unwrap_or(u64::MAX);
                self.progress.send_replace(Progress { ticket, at: Some(Instant::now()) });
            }
            Err(error) => {
                if !self.failing {
                    log::warn(&format!("database: {error:#}; counting goes on, shown totals stand still"));
                }
                self.failing = true;
            }
        }
        lock(&self.board).store_up = !self.failing;
    }

    fn try_commit(&mut self) -> anyhow::Result<()> {
        self.join_networks()?;
        if self.feeds.values().all(|feed| feed.pending.is_empty()) {
            return Ok(());
        }
        self.writer.begin()?;
        for feed in self.feeds.values_mut() {
            let Some(source) = &mut feed.source else { continue };
            for delta in &feed.pending {
                self.writer.add(source, &feed.directory, &delta.rows)?;
            }
        }
        self.writer.commit()?;
        let mut board = lock(&self.board);
        for feed in self.feeds.values_mut() {
            let clients = &mut network(&mut board, &feed.network).clients;
            for delta in feed.pending.drain(..) {
                clients.add_delta(&delta, &feed.directory);
            }
        }
        board.last_commit = Some(Timestamp::now());
        Ok(())
    }

    /// Finds the networks of new feeds in the database, and shows what it holds of them.
    fn join_networks(&mut self) -> anyhow::Result<()> {
        for feed in self.feeds.values_mut().filter(|feed| feed.source.is_none()) {
            let id = self.writer.network(&feed.network, &feed.device)?;
            let totals = self.writer.live_totals(id)?;
            let mut board = lock(&self.board);
            let clients = &mut network(&mut board, &feed.network).clients;
            // Another feed of the same network has brought them already.
            if !std::mem::replace(&mut clients.loaded, true) {
                totals.iter().for_each(|(end, totals)| clients.add(*end, totals));
            }
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
