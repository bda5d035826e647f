//! Who is connected, how long each may still take, and who goes first when there are too many.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// What a client may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time. One more, and the one longest without a step is dropped.
    pub connections: usize,
    /// From the accept, or from the first byte of a later request, to the end of its headers.
    pub request: Duration,
    /// Between two requests of one connection; longer than the usual scrape intervals, so that a scraper keeps its own.
    pub idle: Duration,
    /// From a complete request until its answer is taken to the last byte.
    pub response: Duration,
    /// For a client to notice that its connection is being closed, so that it still reads the last answer.
    pub linger: Duration,
    /// For running answers once the server is told to stop.
    pub grace: Duration,
    /// Bytes of a request's line and headers; more is answered with 431.
    pub header_bytes: usize,
    /// Headers of a request; more is answered with 431.
    pub headers: usize,
    /// Bytes of a request's path and query; more is answered with 414.
    pub uri_bytes: usize,
    /// Bytes of all answers that are not yet taken. Beyond it the oldest ones are dropped, never the newest.
    pub unsent_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            request: Duration::from_secs(5),
            idle: Duration::from_secs(90),
            response: Duration::from_secs(10),
            linger: Duration::from_secs(1),
            grace: Duration::from_secs(2),
            header_bytes: 16 * 1024,
            headers: 64,
            uri_bytes: 2 * 1024,
            unsent_bytes: 128 * 1024 * 1024,
        }
    }
}

/// All connections of a server.
pub(super) struct Connections {
    pub(super) limits: Limits,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    closing: bool,
    next_id: u64,
    entries: HashMap<u64, Entry>,
}

struct Entry {
    stage: Stage,
    /// When the connection is dropped unless its stage changes.
    deadline: Instant,
    /// The last step: accepted, request complete, answer taken.
    since: Instant,
    /// Bytes of the answer being sent.
    unsent: usize,
    /// Wakes the connection by being dropped: to forget an entry is to end its connection.
    _leash: oneshot::Sender<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing of the next request is here yet.
    Idle,
    /// A request is on its way; a new connection starts here.
    Reading,
    /// The handler is at work.
    Answering,
    /// The answer is on its way.
    Sending,
    /// The last answer is sent and the client is about to see the end.
    Ending,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, table: Mutex::default() })
    }

    /// Takes in a new connection, at another's expense where there is no place left. The receiver resolves when the
    /// connection has to end.
    pub(super) fn enter(self: &Arc<Self>) -> (Arc<Slot>, oneshot::Receiver<()>) {
        let now = Instant::now();
        let (leash, ended) = oneshot::channel();
        let mut table = self.table();
        while table.entries.len() >= self.limits.connections.max(1) {
            table.drop_oldest(|_, _| true);
        }
        let id = table.next_id;
        table.next_id += 1;
        table.entries.insert(
            id,
            Entry { stage: Stage::Reading, deadline: now + self.limits.request, since: now, unsent: 0, _leash: leash },
        );
        drop(table);
        (Arc::new(Slot { id, all: Arc::clone(self) }), ended)
    }

    /// Ends the connection that has gone longest without a step.
    pub(super) fn drop_oldest(&self) {
        self.table().drop_oldest(|_, _| true);
    }

    /// Ends every connection: at once where nothing is being answered, else after that answer.
    pub(super) fn close(&self) {
        let mut table = self.table();
        table.closing = true;
        table.entries.retain(|_, entry| matches!(entry.stage, Stage::Answering | Stage::Sending));
    }

    /// The table is valid between any two statements, so a panic elsewhere does not spoil it.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Forgets the entry longest without a step among those `eligible`; false when there is none.
    fn drop_oldest(&mut self, eligible: impl Fn(u64, &Entry) -> bool) -> bool {
        let oldest = self.entries.iter().filter(|(id, entry)| eligible(**id, entry));
        let Some(id) = oldest.min_by_key(|(id, entry)| (entry.since, **id)).map(|(id, _)| *id) else { return false };
        self.entries.remove(&id).is_some()
    }
}

/// A connection's place among the others; given back by dropping it. Once the connection has lost its place, every call
/// does nothing.
pub(super) struct Slot {
    id: u64,
    all: Arc<Connections>,
}

impl Slot {
    /// When the connection must be dropped; `None`: now.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.all.table().entries.get(&self.id).map(|entry| entry.deadline)
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.all.limits
    }

    /// Bytes have come in.
    pub(super) fn heard(&self) {
        self.change(|entry, limits, now| {
            if entry.stage == Stage::Idle {
                entry.stage = Stage::Reading;
                entry.deadline = now + limits.request;
            }
        });
    }

    /// A request is complete.
    pub(super) fn asked(&self) {
        self.change(|entry, limits, now| {
            entry.stage = Stage::Answering;
            entry.deadline = now + limits.response;
            entry.since = now;
        });
    }

    /// The handler has answered with so many bytes. Where too many wait to be taken, others that wait longer are dropped.
    pub(super) fn answered(&self, bytes: usize) {
        self.change(|entry, _, _| {
            entry.stage = Stage::Sending;
            entry.unsent = bytes;
        });
        let mut table = self.all.table();
        while table.entries.values().map(|entry| entry.unsent).sum::<usize>() > self.limits().unsent_bytes
            && table.drop_oldest(|id, entry| entry.unsent > 0 && id != self.id)
        {}
    }

    /// Everything written so far has gone out.
    pub(super) fn flushed(&self) {
        let mut table = self.all.table();
        let closing = table.closing;
        let Some(entry) = table.entries.get_mut(&self.id).filter(|entry| entry.stage == Stage::Sending) else { return };
        if closing {
            table.entries.remove(&self.id);
        } else {
            let now = Instant::now();
            entry.stage = Stage::Idle;
            entry.deadline = now + self.limits().idle;
            entry.since = now;
            entry.unsent = 0;
        }
    }

    /// No further request will be answered.
    pub(super) fn ending(&self) {
        self.change(|entry, limits, now| {
            entry.stage = Stage::Ending;
            entry.deadline = now + limits.linger;
            entry.unsent = 0;
        });
    }

    fn change(&self, with: impl FnOnce(&mut Entry, &Limits, Instant)) {
        if let Some(entry) = self.all.table().entries.get_mut(&self.id) {
            with(entry, &self.all.limits, Instant::now());
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.all.table().entries.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_longest_without_a_step_makes_room() {
        let connections = Connections::new(Limits { connections: 2, ..Limits::default() });
        // A step later than all before, whatever the clock's grain.
        let pause = || std::thread::sleep(Duration::from_millis(20));
        let (first, _first) = connections.enter();
        let (second, mut second_ended) = connections.enter();
        pause();
        first.asked();
        // Bytes are no step: sending them one by one keeps no place.
        second.heard();
        pause();
        let (third, _third) = connections.enter();
        assert!(first.deadline().is_some() && third.deadline().is_some());
        assert!(second.deadline().is_none() && second_ended.try_recv().is_err());
        drop(first);
        pause();
        let (_fourth, _) = connections.enter();
        assert!(third.deadline().is_some(), "a place given back is free");
    }
}
