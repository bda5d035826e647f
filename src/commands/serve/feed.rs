//! What drives a meter: the frames of one device or one file, and tickets in between.

use std::collections::VecDeque;
use std::io::{PipeReader, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::control::Shared;
use super::keeper::HandOver;
use super::log;
use super::observe::Watch;
use super::widening::Widening;
use crate::capture::Filter;
use crate::cli::Counting;
use crate::frame::{Frame, Statistics};
use crate::meter::{Diagnosis, Evidence, Meter, Stats, Tee};
use crate::metrics::Process;
use crate::time::Timestamp;

/// Without scrapes totals are committed so often.
pub(super) const COMMIT_EVERY: Duration = Duration::from_secs(30);

/// How often to say what has been seen while nothing can be committed.
const NOTE_EVERY: Duration = Duration::from_millis(500);

/// Rows that are handed over at once, whoever asked: bounds memory, whatever the packets' times are.
const MAX_ROWS: usize = 1 << 15;

/// How long to wait for the first copy before saying that there is none, and between two looks at what does not fit.
const PATIENCE: Duration = Duration::from_secs(60);

/// Warnings that are said, at most: what is in them may come from clients.
const MAX_WARNINGS: usize = 100;

/// A meter and the way from it to the keeper.
pub(super) struct Feed {
    number: usize,
    control: Shared,
    wake: PipeReader,
    /// Its network and device, until the keeper has been told.
    whose: Option<(String, String)>,
    keeper: SyncSender<HandOver>,
    /// What the keeper had no room for, in its order. Until it has, what is counted stays in the meter.
    unsent: VecDeque<HandOver>,
    widening: Widening,
    pub meter: Meter,
    tee: Tee,
    filter: Option<Filter>,
    /// Whether frames can arrive.
    pub up: bool,
    pub capture: Statistics,
    pub watch: Watch,
    /// Frames at the last look at the copies.
    diagnosed_at: u64,
    /// What the settings have been judged by.
    judged: Evidence,
    ticket: u64,
    last_told: Instant,
    last_noted: Instant,
    last_look: Instant,
    warned: Vec<String>,
}

impl Feed {
    /// A feed that has seen nothing.
    pub(super) fn new(
        counting: &Counting,
        seed: u64,
        control: &Shared,
        keeper: &SyncSender<HandOver>,
    ) -> std::io::Result<Self> {
        static FEEDS: AtomicUsize = AtomicUsize::new(0);
        let number = FEEDS.fetch_add(1, Ordering::Relaxed);
        Ok(Feed {
            number,
            control: Shared::clone(control),
            wake: control.subscribe(number)?,
            keeper: keeper.clone(),
            whose: None,
            unsent: VecDeque::new(),
            widening: Widening::default(),
            tee: counting.tee,
            meter: Meter::new(counting.settings(seed)),
            filter: counting.filter.clone().map(Filter::new),
            up: false,
            capture: Statistics::default(),
            watch: Watch::default(),
            diagnosed_at: 0,
            judged: Evidence::default(),
            ticket: 0,
            last_told: Instant::now(),
            last_noted: Instant::now(),
            last_look: Instant::now(),
            warned: Vec::new(),
        })
    }

    /// Says whose traffic this is.
    pub(super) fn join(&mut self, network: &str, device: &str) {
        if let Ok(network) = network.parse() {
            self.control.known.capturing(network);
        }
        self.whose = Some((network.to_owned(), device.to_owned()));
    }

    /// Takes in a frame.
    pub(super) fn frame(&mut self, frame: &Frame<'_>) {
        match self.filter.as_mut().map(|filter| filter.accepts(frame)) {
            None | Some(Ok(true)) => self.meter.defer(frame),
            Some(Ok(false)) => (),
            Some(Err(error)) => self.warn_once(format!("{error:#}; its frames are left out")),
        }
    }

    /// Takes in a frame of a device, whose times are this machine's. If its clock was set back, the meter's is, too:
    /// otherwise no packet would find its copy until the clock has caught up.
    #[cfg(feature = "live")]
    pub(super) fn live_frame(&mut self, frame: &Frame<'_>) {
        if self.meter.is_past(frame.time) && self.meter.is_past(Timestamp::now()) {
            log::info("the clock was set back: packets that waited for their copies are given up");
            self.meter.clock_set_back(frame.time);
        }
        self.frame(frame);
    }

    /// To be called often: hands over what was counted if it was asked for or it is time. Says whether to go on.
    pub(super) fn turn(&mut self) -> bool {
        let asked = self.control.ticket() != self.ticket || !self.unsent.is_empty();
        let is_full = self.meter.rows() >= MAX_ROWS || self.watch.is_full();
        if asked || is_full || self.last_told.elapsed() >= COMMIT_EVERY {
            self.tell();
        }
        if self.last_noted.elapsed() >= NOTE_EVERY && !self.control.store.is_up() {
            // What cannot be committed is told of all the same.
            self.note();
        }
        self.widening.watch(&mut self.meter);
        if self.last_look.elapsed() >= PATIENCE {
            self.last_look = Instant::now();
            self.look();
        }
        !self.control.stopping()
    }

    /// Hands over what was counted since the last time, if the keeper has room for it.
    pub(super) fn tell(&mut self) {
        self.send();
        self.last_told = Instant::now();
        if self.unsent.is_empty() {
            let counted = self.hand_over(false);
            self.unsent.push_back(counted);
            self.send();
        }
    }

    fn hand_over(&mut self, ended: bool) -> HandOver {
        // The ticket first: what is counted from here on is not part of the answer.
        self.ticket = self.control.ticket();
        let process = self.note();
        let delta = self.meter.take();
        self.widening = Widening::default();
        self.count(&process.stats, process.capture);
        HandOver {
            feed: self.number,
            whose: self.whose.take(),
            ticket: self.ticket,
            delta,
            coverage: self.watch.take(),
            process,
            ended,
        }
    }

    /// To be called often while frames of a device can arrive: they could until now, if the network is fine.
    #[cfg(feature = "live")]
    pub(super) fn went_on(&mut self, is_fine: bool) {
        let now = Timestamp::now();
        self.leave(now);
        if is_fine { self.watch.went_on(now) } else { self.watch.begin(now) }
    }

    /// Ends the five minutes that a time is not in.
    pub(super) fn leave(&mut self, time: Timestamp) {
        if self.watch.leaves(time) {
            let stats = self.meter.stats();
            self.count(&stats, self.capture);
        }
    }

    /// Counts what came, and what the copies say if there came enough: to look at all pairs for every few frames would
    /// take for ever.
    fn count(&mut self, stats: &Stats, capture: Statistics) {
        self.watch.count(stats, capture);
        let frames = stats.outcomes.frames() - self.diagnosed_at;
        if frames > 0 && frames >= self.meter.directory().pairs().len() as u64 {
            let diagnosis = self.meter.diagnosis();
            self.diagnosed(&diagnosis);
        }
    }

    /// Takes note of what the copies say.
    fn diagnosed(&mut self, diagnosis: &Diagnosis) {
        let stats = self.meter.stats();
        self.diagnosed_at = stats.outcomes.frames();
        self.watch.diagnosed(diagnosis, stats.singles);
    }

    fn note(&mut self) -> Process {
        self.last_noted = Instant::now();
        let process = Process { stats: self.meter.stats(), capture: self.capture, up: self.up };
        self.control.note(self.number, process);
        process
    }

    /// Sends what the keeper has room for. A busy disk must not hold up capture.
    fn send(&mut self) {
        while let Some(next) = self.unsent.pop_front() {
            if let Err(TrySendError::Full(next)) = self.keeper.try_send(next) {
                self.unsent.push_front(next);
                return;
            }
        }
    }

    /// A file can wait until the keeper has room: no more than a few hand-overs are in memory.
    pub(super) fn let_the_keeper_catch_up(&mut self) {
        while !self.unsent.is_empty() && !self.control.stopping() {
            std::thread::sleep(Duration::from_millis(5));
            self.send();
        }
    }

    /// Waits until there is something to do, or `descriptor` is readable, or the time is over.
    pub(super) fn wait(&mut self, descriptor: Option<std::os::fd::BorrowedFd<'_>>, at_most: Duration) {
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        fds.extend(descriptor.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let timeout = Timespec::try_from(at_most).ok();
        // Interrupted or failed, the caller looks for itself.
        poll(&mut fds, timeout.as_ref()).ok();
        let mut wakes = [0; 64];
        while self.wake.read(&mut wakes).is_ok_and(|read| read == wakes.len()) {}
    }

    /// Tells that frames can arrive from now on, or no longer.
    #[cfg(any(feature = "live", test))]
    pub(super) fn set_up(&mut self, up: bool) {
        self.up = up;
        self.last_look = Instant::now();
        if up {
            self.watch.begin(Timestamp::now())
        } else {
            self.watch.end()
        }
        self.tell();
    }

    /// Ends: hands over the last, however long that takes.
    pub(super) fn end(mut self) {
        for hand_over in self.last() {
            self.keeper.send(hand_over).ok();
        }
    }

    /// Takes the place of another, and hands over its last when the keeper has room: capture waits for no disk.
    #[cfg(any(feature = "live", test))]
    pub(super) fn succeed(&mut self, mut before: Feed) {
        self.unsent.extend(before.last());
        self.send();
    }

    /// All that is still to be handed over at the end.
    fn last(&mut self) -> VecDeque<HandOver> {
        self.up = false;
        let diagnosis = self.meter.diagnosis();
        self.diagnosed(&diagnosis);
        let last = self.hand_over(true);
        self.unsent.push_back(last);
        std::mem::take(&mut self.unsent)
    }

    /// Says once what does not fit together.
    pub(super) fn look(&mut self) {
        let stats = self.meter.stats();
        if self.up && stats.teed == 0 && self.tee != Tee::None {
            self.warn_once(
                "capture works, no copies: no frame between two other nodes has arrived. Check that the flow rule is \
                 saved, names this node and stands before any drop or accept (ztmon rules), and that members talk"
                    .to_owned(),
            );
        }
        let diagnosis = self.meter.diagnosis_since(&mut self.judged);
        self.diagnosed(&diagnosis);
        for warning in diagnosis.warnings {
            self.warn_once(warning.to_string());
        }
        for apart in diagnosis.apart.iter().filter(|apart| apart.observer) {
            self.warn_once(apart.to_string());
        }
    }

    /// Says it, unless the same was said before: figures in it do not make it another.
    fn warn_once(&mut self, text: String) {
        let words: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
        if !self.warned.contains(&words) && self.warned.len() < MAX_WARNINGS {
            self.warned.push(words);
            log::warn(&text);
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.control.unsubscribe(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::super::observe::MAX_COVERAGE;
    use super::*;
    use crate::cli::{Command, parse};
    use crate::frame::LinkType;
    use crate::traffic::Counts;

    /// A packet between two clients, unlike any other of another `number`.
    fn packet(number: u16) -> [u8; 20] {
        let mut ip = [0; 20];
        (ip[0], ip[3]) = (0x45, 20);
        ip[4..6].copy_from_slice(&number.to_be_bytes());
        ip[12..].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        ip
    }

    /// A feed of `ztmon serve` with these flags.
    fn feed(flags: &[&str], control: &Shared, keeper: &SyncSender<HandOver>) -> Feed {
        let arguments = ["ztmon", "serve"].iter().chain(flags).map(Into::into);
        let Ok(cli) = parse(arguments) else { panic!() };
        let Command::Serve(serve) = cli.command else { panic!() };
        Feed::new(&serve.counting, 0, control, keeper).unwrap()
    }

    #[test]
    fn a_capture_without_copies_is_told_of_once() {
        let (sender, _receiver) = sync_channel(8);
        for (flags, up, warnings) in [(&[][..], true, 1), (&[], false, 0), (&["--tee", "none"], true, 0)] {
            let mut feed = feed(flags, &Shared::default(), &sender);
            feed.set_up(up);
            feed.look();
            feed.look();
            assert_eq!(feed.warned.len(), warnings, "{flags:?} {up}: {:?}", feed.warned);
            assert!(feed.warned.iter().all(|text| text.starts_with("capture works, no copies")));
        }
    }

    #[test]
    fn nothing_is_lost_where_the_keeper_has_no_room() {
        let control = Shared::default();
        let (sender, receiver) = sync_channel(1);
        let mut feed = feed(&[], &control, &sender);
        for number in 0..5 {
            let data = &packet(number);
            feed.frame(&Frame { time: Timestamp::now(), link: LinkType::RAW, original_len: 20, data });
            feed.tell();
        }
        assert!(!feed.unsent.is_empty());
        control.stop();
        feed.let_the_keeper_catch_up();
        assert!(!feed.unsent.is_empty(), "stopping, it does not wait, and keeps what it has");
        drop(sender);
        let ending = std::thread::spawn(move || feed.end());
        let mut sum = Counts::default();
        for message in receiver {
            message.delta.rows.iter().for_each(|row| sum.add(row.counts));
        }
        ending.join().unwrap();
        assert_eq!((sum.packets, sum.bytes), (5, 100));
    }

    #[test]
    fn one_takes_the_place_of_another_while_the_keeper_has_no_room() {
        let control = Shared::default();
        let (sender, receiver) = sync_channel(1);
        let [mut before, mut after] = [&sender; 2].map(|sender| feed(&[], &control, sender));
        let ended = before.number;
        let count = |feed: &mut Feed, number| {
            let data = &packet(number);
            feed.frame(&Frame { time: Timestamp::now(), link: LinkType::RAW, original_len: 20, data });
            feed.tell();
        };
        (0..3).for_each(|number| count(&mut before, number));
        // Nobody has taken anything yet: waiting for room would take for ever.
        after.succeed(before);
        (3..6).for_each(|number| count(&mut after, number));
        let mut told = Vec::new();
        while let Ok(hand_over) = receiver.try_recv() {
            let packets: u64 = hand_over.delta.rows.iter().map(|row| row.counts.packets).sum();
            told.push((hand_over.feed == ended, hand_over.ended, packets));
            after.send();
        }
        assert_eq!(told, [(true, false, 1), (true, false, 1), (true, true, 1)]);
        after.tell();
        let rest = receiver.try_recv().unwrap();
        assert_eq!(rest.delta.rows.iter().map(|row| row.counts.packets).sum::<u64>(), 3);
    }

    #[test]
    fn what_has_ended_is_woken_no_more() {
        let (control, (sender, _receiver)) = (Shared::default(), sync_channel(8));
        let feed = feed(&[], &control, &sender);
        let mut wake = feed.wake.try_clone().unwrap();
        feed.end();
        assert_eq!(wake.read(&mut [0]).unwrap(), 0, "nobody holds the other end");
    }

    #[test]
    fn what_was_seen_is_handed_over_before_it_is_too_much() {
        let control = Shared::default();
        let (sender, receiver) = sync_channel(100);
        let mut feed = feed(&[], &control, &sender);
        feed.join("", "");
        // Frames that count nowhere, ten minutes apart, each of which shows what came before it.
        let (frames, mut handed_over) = (3 * MAX_COVERAGE as i64, 0);
        for number in 1..=frames {
            let time = Timestamp::new(600 * number, 0);
            feed.watch.frame(time);
            feed.frame(&Frame { time, link: LinkType::ETHERNET, original_len: 0, data: &[] });
            feed.turn();
            for hand_over in receiver.try_iter() {
                assert!(hand_over.coverage.len() <= MAX_COVERAGE + 1, "{}", hand_over.coverage.len());
                handed_over += hand_over.coverage.len();
            }
        }
        assert!(handed_over + MAX_COVERAGE >= frames as usize - 1, "{handed_over} of {frames}");
    }

    #[test]
    fn what_waits_too_long_is_kept_in_wider_buckets_and_every_sum_stays() {
        let control = Shared::default();
        let (sender, receiver) = sync_channel(4);
        let mut feed = feed(&["--tee", "none"], &control, &sender);
        feed.join("", "");
        feed.widening.at = 100;
        // A packet in each five minutes of ten days: hours would be 240 rows.
        for number in 0..2880 {
            let time = Timestamp::new(1_700_006_400 + 300 * i64::from(number), 0);
            feed.frame(&Frame { time, link: LinkType::RAW, original_len: 20, data: &packet(number) });
            feed.turn();
            assert!(feed.meter.rows() < 200, "{}", feed.meter.rows());
        }
        feed.tell();
        let rows: Vec<_> = receiver.try_iter().flat_map(|hand_over| hand_over.delta.rows).collect();
        let mut sum = Counts::default();
        rows.iter().for_each(|row| sum.add(row.counts));
        assert_eq!((sum.packets, sum.bytes), (2880, 20 * 2880));
        assert!(rows.iter().any(|row| row.bucket.seconds == 86_400));
        for row in rows {
            let within = |time: Timestamp| row.bucket.start <= time.clamped().0 && time.clamped().0 < row.bucket.end();
            assert!(
                within(row.seen().first)
                    && within(row.seen().last)
                    && row.bucket.start % i64::from(row.bucket.seconds) == 0
            );
        }
    }
}
