//! Frames into a device, through libpcap.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::net::Namespace;
use super::pcap::{Capture, Frame, Packet};

/// The longest pause that is kept when a capture is played: longer than the pairing window.
const LONGEST_PAUSE: Duration = Duration::from_millis(2500);

impl Namespace {
    /// Sends the frames into `wire` as they came, pauses included, but none much longer than the pairing window.
    pub fn play(&self, wire: &str, capture: &Capture) {
        self.run(|| {
            let sender = pcap::Capture::from_device(wire).unwrap().buffer_size(1 << 20).snaplen(64);
            let mut sender = sender.open().unwrap();
            let mut due = Instant::now();
            let mut last = None;
            for Frame { time, len, data } in &capture.0 {
                let pause = Duration::from_micros(time.saturating_sub(*last.get_or_insert(*time)));
                last = last.max(Some(*time));
                due += pause.min(LONGEST_PAUSE);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let mut frame = data.clone();
                // What was not captured is not looked at either.
                frame.resize(*len as usize, 0);
                sender.sendpacket(frame).unwrap();
            }
        });
    }
    /// Sends ever new packets into `wire`, whenever it is there, while `work` is done; says how many were sent.
    pub fn under_traffic<T>(&self, wire: &str, work: impl FnOnce() -> T) -> (u64, T) {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let sender = scope.spawn(|| self.run(|| send_until(wire, &stop)));
            let stopping = SetOnDrop(&stop);
            let done = work();
            drop(stopping);
            (sender.join().unwrap(), done)
        })
    }
}

/// Some thousand packets a second.
fn send_until(wire: &str, stop: &AtomicBool) -> u64 {
    let mut sent = 0;
    while !stop.load(Ordering::SeqCst) {
        // It may be gone, or down.
        let mut sender = pcap::Capture::from_device(wire).unwrap().buffer_size(1 << 20).snaplen(64).open();
        while let (Ok(sender), false) = (&mut sender, stop.load(Ordering::SeqCst)) {
            let packet = Packet { src: [10, 0, 0, 1], dst: [10, 0, 0, 2], len: 100, number: sent as u32 };
            if sender.sendpacket(packet.frame()).is_err() {
                break;
            }
            sent += 1;
            if sent % 10 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    sent
}

/// Ends what waits for it, also when a test fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
