//! How the threads of `serve` talk: tickets for commits, how the database fares, and the order to stop.

use std::collections::BTreeMap;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::members::Known;
use crate::metrics::{Board, Process, Uptime};
use crate::quota::Quotas;

/// What the feeds are asked to do.
///
/// A ticket asks every feed to hand over what it has counted. Tickets are numbered; a feed names the last one it has
/// seen with everything it hands over, so that whoever asked can tell when all have answered.
#[derive(Debug)]
pub(super) struct Control {
    ticket: AtomicU64,
    stop: AtomicBool,
    /// How to wake each feed, by its number.
    wakes: Mutex<BTreeMap<usize, PipeWriter>>,
    started: Instant,
    /// What each feed has seen, by its number, as it last said: ahead of what is committed.
    seen: Mutex<BTreeMap<usize, Process>>,
    pub store: Store,
    /// Who members are.
    pub known: Known,
    /// The quotas of their file, until the keeper has taken them.
    pub quotas: Mutex<Option<Quotas>>,
}

impl Default for Control {
    fn default() -> Self {
        Control {
            ticket: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            wakes: Mutex::default(),
            started: Instant::now(),
            seen: Mutex::default(),
            store: Store::default(),
            known: Known::default(),
            quotas: Mutex::default(),
        }
    }
}

impl Control {
    /// How long this process has been running, without the time in which nothing could be committed: nobody becomes idle
    /// in it.
    pub(super) fn uptime(&self) -> Uptime {
        self.started.elapsed().saturating_sub(self.store.down()).as_secs() as Uptime
    }

    /// Takes note of what the feed with this number has seen.
    pub(super) fn note(&self, feed: usize, process: Process) {
        lock(&self.seen).insert(feed, process);
    }

    /// Brings the board up to date on how the database fares. Where nothing can be committed, what the feeds have seen
    /// is shown all the same.
    pub(super) fn show(&self, board: &mut Board) {
        let seen = lock(&self.seen);
        let counted: u64 = seen.values().map(|process| process.stats.bytes).sum();
        board.uncommitted_bytes = counted.saturating_sub(self.store.committed.load(Ordering::SeqCst));
        board.store_up = self.store.is_up();
        if !board.store_up {
            for (feed, process) in seen.iter() {
                if let Some((_, shown)) = board.processes.get_mut(feed) {
                    *shown = *process;
                }
            }
        }
    }

    /// Asks for a commit of everything counted until now; the ticket's number.
    pub(super) fn request(&self) -> u64 {
        let ticket = self.ticket.fetch_add(1, Ordering::SeqCst) + 1;
        self.wake();
        ticket
    }

    /// The last ticket that was asked for.
    pub(super) fn ticket(&self) -> u64 {
        self.ticket.load(Ordering::SeqCst)
    }

    /// Tells every feed to hand over the last it has and end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Whether it is time to end.
    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// A pipe that becomes readable when there is something to do for the feed with this number.
    pub(super) fn subscribe(&self, feed: usize) -> io::Result<PipeReader> {
        let (reader, writer) = io::pipe()?;
        // Neither end may wait: a feed that is busy has its wake-up already.
        for fd in [std::os::fd::AsFd::as_fd(&reader), std::os::fd::AsFd::as_fd(&writer)] {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        lock(&self.wakes).insert(feed, writer);
        Ok(reader)
    }

    /// That feed needs to be woken no more.
    pub(super) fn unsubscribe(&self, feed: usize) {
        lock(&self.wakes).remove(&feed);
    }

    fn wake(&self) {
        for mut wake in lock(&self.wakes).values() {
            // A full pipe wakes as well as one byte more would.
            wake.write_all(&[0]).ok();
        }
    }
}

/// How the database fares, for those who must not wait for it.
#[derive(Debug, Default)]
pub(super) struct Store {
    commits: Mutex<Commits>,
    /// Bytes that this process has committed.
    committed: AtomicU64,
}

#[derive(Debug, Default)]
struct Commits {
    /// When the one began that is under way.
    begun: Option<Instant>,
    /// When the first one failed since the last that succeeded.
    failed: Option<Instant>,
    /// How long it was down, in all outages that are over.
    down: Duration,
}

impl Commits {
    /// Since when it has been down, if it is.
    fn down_since(&self) -> Option<Instant> {
        self.failed.or(self.begun.filter(|begun| begun.elapsed() > STUCK))
    }
}

/// A commit that takes longer is stuck.
const STUCK: Duration = Duration::from_secs(2);

impl Store {
    /// A commit begins.
    pub(super) fn begin(&self) {
        lock(&self.commits).begun = Some(Instant::now());
    }

    /// It ended so.
    pub(super) fn end(&self, well: bool) {
        let mut commits = lock(&self.commits);
        if well {
            let down = commits.down_since().map_or(Duration::ZERO, |since| since.elapsed());
            commits.down += down;
            commits.failed = None;
        } else {
            commits.failed = commits.failed.or(commits.begun).or_else(|| Some(Instant::now()));
        }
        commits.begun = None;
    }

    /// How long it has been down in all.
    fn down(&self) -> Duration {
        let commits = lock(&self.commits);
        commits.down + commits.down_since().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// So many bytes are committed.
    pub(super) fn add(&self, bytes: u64) {
        self.committed.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Whether the last commit succeeded and the next one is not stuck.
    pub(super) fn is_up(&self) -> bool {
        lock(&self.commits).down_since().is_none()
    }
}

/// Locks, whatever became of another thread that held the lock: what they guard is never left half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shared by all threads.
pub(super) type Shared = Arc<Control>;
