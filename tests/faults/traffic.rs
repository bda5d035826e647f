//! Traffic between clients that goes on while something else happens, and what it sums up to.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::net::Namespace;
use crate::support::numbers::{Total, Totals};
use crate::support::pcap::Packet;

/// Between two bursts. Short enough for a steady rate, long enough to leave the processor to others.
const TICK: Duration = Duration::from_millis(1);

/// Packets in a burst, at most: a sender that was held up catches up little by little, so that no queue on the way
/// overflows.
const BURST: u64 = 200;

/// Who sends what to whom: packet `number` is always the same.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Each sends in turn, to another one each time: there are `clients` × (`clients` − 1) pairs, and all come before
    /// any comes again.
    pub clients: u64,
}

impl Plan {
    /// Source, destination, and bytes of IP.
    fn packet(&self, number: u64) -> (u64, u64, u16) {
        let src = number % self.clients;
        let ahead = 1 + number / self.clients % (self.clients - 1);
        // Lengths that give away a sum that lacks some of its parts.
        let len = 100 + number * 7919 % 1301;
        (src, (src + ahead) % self.clients, len as u16)
    }

    /// As much of it as a tee rule sends.
    pub fn frame(&self, number: u64) -> Vec<u8> {
        let (src, dst, len) = self.packet(number);
        Packet { src: address(src), dst: address(dst), len, number: number as u32 }.frame()
    }

    /// What these packets sum up to.
    pub fn totals(&self, numbers: Range<u64>) -> Totals {
        let mut totals = vec![Total::default(); self.clients as usize];
        for number in numbers {
            let (src, dst, len) = self.packet(number);
            totals[src as usize].sent_packets += 1;
            totals[src as usize].sent_bytes += u64::from(len);
            totals[dst as usize].received_packets += 1;
            totals[dst as usize].received_bytes += u64::from(len);
        }
        let name = |client: usize| (String::new(), address(client as u64).map(|byte| byte.to_string()).join("."));
        let all = totals.into_iter().enumerate().filter(|(_, total)| *total != Total::default());
        Totals(all.map(|(client, total)| (name(client), total)).collect())
    }
}

/// A client's address.
fn address(client: u64) -> [u8; 4] {
    [10, 0, (client >> 8) as u8, client as u8]
}

/// Sends the packets of a plan, each with its copy right behind it.
pub struct Sender {
    plan: Plan,
    pace: Mutex<Pace>,
    /// How many have been sent, with their copies.
    sent: AtomicU64,
    stop: AtomicBool,
}

/// How fast.
struct Pace {
    /// Packets a second.
    rate: u64,
    /// Since when, and how many there were by then.
    since: Instant,
    from: u64,
}

impl Sender {
    /// Does `work` while the sender, idle at first, sends into `wire`.
    pub fn during<T>(plan: Plan, net: &Namespace, wire: &str, work: impl FnOnce(&Sender) -> T) -> T {
        let pace = Mutex::new(Pace { rate: 0, since: Instant::now(), from: 0 });
        let sender = Sender { plan, pace, sent: AtomicU64::new(0), stop: AtomicBool::new(false) };
        thread::scope(|scope| {
            scope.spawn(|| net.run(|| sender.run(wire)));
            let _stop = StopWhenDropped(&sender.stop);
            work(&sender)
        })
    }

    fn run(&self, wire: &str) {
        // A small buffer, as nothing is captured.
        let device = pcap::Capture::from_device(wire).unwrap().buffer_size(1 << 20).snaplen(64);
        let mut device = device.open().unwrap();
        while !self.stop.load(Ordering::SeqCst) {
            let pace = self.pace.lock().unwrap();
            let due = pace.from + (pace.since.elapsed().as_secs_f64() * pace.rate as f64) as u64;
            let next = self.sent();
            for number in next..due.min(next + BURST) {
                let frame = self.plan.frame(number);
                device.sendpacket(&*frame).unwrap();
                device.sendpacket(&*frame).unwrap();
                self.sent.store(number + 1, Ordering::SeqCst);
            }
            drop(pace);
            thread::sleep(TICK);
        }
    }

    /// How many packets have been sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Sends so many packets a second from now on.
    pub fn set_rate(&self, rate: u64) {
        // Between two bursts, so that no packet is without its copy.
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        *pace = Pace { rate, since: Instant::now(), from: self.sent() };
    }

    /// Stops sending; what was sent since the start.
    pub fn pause(&self) -> Totals {
        self.set_rate(0);
        self.plan.totals(0..self.sent())
    }
}

/// Tells a thread to end, also when the one that drops this panics.
pub struct StopWhenDropped<'a>(pub &'a AtomicBool);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
