//! Who is connected, how long each may still take, and who goes first when there are too many.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::answers::Response;

/// What a client may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time, and no more than half of the descriptors that the process may have. One more, and of the
    /// client that has most the one longest without a step is dropped.
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
    /// Bytes of all answers that are not yet taken. Beyond it those of the client that lets most wait are dropped, and
    /// never the newest.
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
    steps: u64,
    entries: HashMap<u64, Entry>,
    clients: HashMap<IpAddr, Arc<Client>>,
}

struct Entry {
    client: Arc<Client>,
    stage: Stage,
    /// When the connection is dropped unless its stage changes.
    deadline: Instant,
    /// When its last step was: accepted, request complete, answer taken or a good part of it. Steps are numbered.
    step: u64,
    /// What is being sent. It is kept here and not with the connection: to forget an entry is to have its memory back.
    answer: Option<Arc<Response>>,
    /// Bytes of its body that were handed out to be sent.
    handed_out: usize,
    /// Wakes the connection by being dropped: to forget an entry is to end its connection.
    _leash: oneshot::Sender<()>,
}

/// What a client takes at the moment.
#[derive(Default)]
struct Client {
    connections: AtomicUsize,
    /// Bytes of all bodies that are being sent to it.
    unsent: AtomicUsize,
}

impl Entry {
    /// Bytes of the body being sent.
    fn bytes(&self) -> usize {
        self.answer.as_ref().map_or(0, |answer| answer.body.len())
    }

    fn set_answer(&mut self, answer: Option<Arc<Response>>) {
        self.client.unsent.fetch_sub(self.bytes(), Ordering::Relaxed);
        self.answer = answer;
        self.handed_out = 0;
        self.client.unsent.fetch_add(self.bytes(), Ordering::Relaxed);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.set_answer(None);
        self.client.connections.fetch_sub(1, Ordering::Relaxed);
    }
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
    pub(super) fn enter(self: &Arc<Self>, from: IpAddr) -> (Arc<Slot>, oneshot::Receiver<()>) {
        let now = Instant::now();
        let (leash, ended) = oneshot::channel();
        let mut table = self.table();
        while table.entries.len() >= self.limits.connections.max(1) && table.drop_one() {}
        let id = table.next_id;
        table.next_id += 1;
        let entry = Entry {
            client: table.client(from),
            stage: Stage::Reading,
            deadline: now + self.limits.request,
            step: table.step(),
            answer: None,
            handed_out: 0,
            _leash: leash,
        };
        table.entries.insert(id, entry);
        drop(table);
        (Arc::new(Slot { id, all: Arc::clone(self) }), ended)
    }

    /// Ends a connection to make room; false if there is none.
    pub(super) fn drop_one(&self) -> bool {
        self.table().drop_one()
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
    /// The bytes of all bodies being sent, each once: those who ask for the same at the same time share it.
    fn unsent_bytes(&self) -> usize {
        let answers = self.entries.values().filter_map(|entry| entry.answer.as_ref());
        let bodies: HashMap<_, _> = answers.map(|answer| (Arc::as_ptr(answer), answer.body.len())).collect();
        bodies.values().sum()
    }

    /// The next step's number.
    fn step(&mut self) -> u64 {
        self.steps += 1;
        self.steps
    }

    /// The books of the client that has this address. Those of clients that are gone are closed now and then.
    fn client(&mut self, address: IpAddr) -> Arc<Client> {
        if self.clients.len() > 2 * self.entries.len() {
            self.clients.retain(|_, client| Arc::strong_count(client) > 1);
        }
        let client = Arc::clone(self.clients.entry(whose(address)).or_default());
        client.connections.fetch_add(1, Ordering::Relaxed);
        client
    }

    /// Forgets an entry of the client that has most of them; false if there is none.
    fn drop_one(&mut self) -> bool {
        self.drop_heaviest(|client| &client.connections, |_, _| true)
    }

    /// Forgets an entry of the client that lets most bytes wait, but not `newest`; false if there is none.
    fn drop_answer(&mut self, newest: u64) -> bool {
        self.drop_heaviest(|client| &client.unsent, |id, entry| id != newest && entry.bytes() > 0)
    }

    /// Whoever takes much pays for it, and others are spared. Of the client's connections, what is being answered goes
    /// last, and what is longest without a step first.
    fn drop_heaviest(&mut self, weight: fn(&Client) -> &AtomicUsize, eligible: impl Fn(u64, &Entry) -> bool) -> bool {
        let candidates = self.entries.iter().filter(|(id, entry)| eligible(**id, entry));
        let heaviest = candidates.max_by_key(|(_, entry)| {
            let weight = weight(&entry.client).load(Ordering::Relaxed);
            (weight, entry.stage != Stage::Answering, Reverse(entry.step))
        });
        let id = heaviest.map(|(id, _)| *id);
        id.is_some_and(|id| self.entries.remove(&id).is_some())
    }
}

/// Whom an address stands for: an IPv6 client has a /64 of them.
fn whose(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
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
        let step = self.all.table().step();
        self.change(|entry, limits, now| {
            entry.stage = Stage::Answering;
            entry.deadline = now + limits.response;
            entry.step = step;
        });
    }

    /// There is an answer, with a body to be sent if `answer` is given. Where too much waits to be taken, others are
    /// dropped.
    pub(super) fn answered(&self, answer: Option<Arc<Response>>) {
        self.change(|entry, _, _| {
            entry.stage = Stage::Sending;
            entry.set_answer(answer);
        });
        let mut table = self.all.table();
        while table.unsent_bytes() > self.limits().unsent_bytes && table.drop_answer(self.id) {}
    }

    /// Hands out the next bytes of the answer, `most` at a time; none if that was all.
    pub(super) fn hand_out(&self, most: usize) -> Option<Vec<u8>> {
        let mut table = self.all.table();
        let entry = table.entries.get_mut(&self.id)?;
        let rest = &entry.answer.as_ref()?.body.as_bytes()[entry.handed_out..];
        let part = rest[..rest.len().min(most)].to_vec();
        entry.handed_out += part.len();
        (!part.is_empty()).then_some(part)
    }

    /// Everything that was handed out has been sent. That is a step: the system takes more only when the client has taken
    /// much of what it has, so a client that reads byte by byte hardly makes any.
    pub(super) fn flushed(&self) {
        let mut table = self.all.table();
        let (closing, step) = (table.closing, table.step());
        let Some(entry) = table.entries.get_mut(&self.id).filter(|entry| entry.stage == Stage::Sending) else { return };
        entry.step = step;
        if entry.handed_out < entry.bytes() {
            return;
        }
        if closing {
            table.entries.remove(&self.id);
        } else {
            entry.stage = Stage::Idle;
            entry.deadline = Instant::now() + self.limits().idle;
            entry.set_answer(None);
        }
    }

    /// No further request will be answered.
    pub(super) fn ending(&self) {
        self.change(|entry, limits, now| {
            entry.stage = Stage::Ending;
            entry.deadline = now + limits.linger;
            entry.set_answer(None);
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
    use std::net::Ipv4Addr;

    use super::*;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn connections(places: usize) -> Arc<Connections> {
        Connections::new(Limits { connections: places, ..Limits::default() })
    }

    fn body(text: &str) -> Option<Arc<Response>> {
        Some(Arc::new(Response { status: 200, content_type: "", body: Arc::new(text.to_owned()) }))
    }

    fn holds(slot: &Slot) -> bool {
        slot.deadline().is_some()
    }

    #[test]
    fn the_one_longest_without_a_step_makes_room() {
        let connections = connections(2);
        let (first, _first) = connections.enter(A);
        let (second, mut second_ended) = connections.enter(A);
        first.asked();
        first.answered(None);
        first.flushed();
        // Bytes are no step: sending them one by one keeps no place.
        second.heard();
        let (third, _third) = connections.enter(A);
        assert!(holds(&first) && holds(&third));
        assert!(!holds(&second) && second_ended.try_recv().is_err());
        drop(first);
        let (_fourth, _) = connections.enter(A);
        assert!(holds(&third), "a place given back is free");
    }

    #[test]
    fn what_is_being_answered_goes_last() {
        let connections = connections(2);
        let (answering, _answering) = connections.enter(A);
        answering.asked();
        for _ in 0..10 {
            connections.enter(A);
            assert!(holds(&answering));
        }
        let (other, _other) = connections.enter(A);
        other.asked();
        let (newest, _newest) = connections.enter(A);
        assert!(!holds(&answering) && holds(&other) && holds(&newest));
    }

    #[test]
    fn an_answer_that_is_being_taken_goes_on() {
        let connections = connections(2);
        let (taken, _taken) = connections.enter(A);
        let (stalled, _stalled) = connections.enter(A);
        for slot in [&taken, &stalled] {
            slot.asked();
            slot.answered(body("123"));
            assert_eq!(slot.hand_out(2), Some(b"12".to_vec()));
        }
        taken.flushed();
        let (_new, _leash) = connections.enter(A);
        assert!(holds(&taken) && !holds(&stalled));
        assert_eq!((taken.hand_out(2), taken.hand_out(2), stalled.hand_out(2)), (Some(b"3".to_vec()), None, None));
    }

    #[test]
    fn the_client_that_has_most_makes_room() {
        let connections = connections(4);
        let (alone, _alone) = connections.enter(B);
        let mut many = Vec::new();
        for _ in 0..20 {
            many.push(connections.enter(A));
            assert!(holds(&alone));
        }
        assert_eq!(many.iter().filter(|(slot, _)| holds(slot)).count(), 3);
    }

    #[test]
    fn answers_of_the_client_that_lets_most_wait_are_dropped() {
        let connections = Connections::new(Limits { unsent_bytes: 100, ..Limits::default() });
        let answered = |from, bytes| {
            let (slot, leash) = connections.enter(from);
            slot.asked();
            slot.answered(body(&"0".repeat(bytes)));
            (slot, leash)
        };
        let (alone, _alone) = answered(B, 40);
        let (first, _first) = answered(A, 30);
        let (second, _second) = answered(A, 30);
        assert!(holds(&alone) && holds(&first) && holds(&second));
        let (third, _third) = answered(A, 30);
        assert!(holds(&alone) && !holds(&first) && holds(&second) && holds(&third));
        let (newest, _newest) = answered(A, 1000);
        assert!(holds(&newest), "the newest is never dropped");
        assert!(!holds(&alone) && !holds(&second) && !holds(&third));
    }

    #[test]
    fn a_shared_answer_takes_memory_once() {
        let connections = Connections::new(Limits { unsent_bytes: 100, ..Limits::default() });
        let body = body(&"0".repeat(80));
        let slots: Vec<_> = (0..10).map(|_| connections.enter(A)).collect();
        slots.iter().for_each(|(slot, _)| slot.answered(body.clone()));
        assert!(slots.iter().all(|(slot, _)| holds(slot)));
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_a_net_of_ipv6() {
        let of = |address: &str| whose(address.parse().unwrap()).to_string();
        assert_eq!(of("192.0.2.1"), "192.0.2.1");
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("::1"), "::");
    }
}
