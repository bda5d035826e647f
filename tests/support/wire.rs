//! Frames into a device, through libpcap.

use std::thread;
use std::time::{Duration, Instant};

use super::net::Namespace;
use super::pcap::{Capture, Frame};

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
}
