//! Devices come and go; capture follows them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Feeds;
use super::changes::Changes;
use super::control::Shared;
use super::feed::Feed;
use super::log;
use super::service::Own;
use crate::capture::live::{self, Live};
use crate::frame::{LinkType, Statistics};
use crate::packet::Mac;
use crate::time::{Span, Timestamp};

/// How often to look whether a device is there, or still the same.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often to ask ZeroTier whether the network is fine.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// How long frames may gather where there have just been some: what wakes and cools down for every block of the kernel's
/// spends more on that than on the frames. A buffer that is smaller gets less.
const GATHER: Duration = Duration::from_millis(100);

/// How far the clock may be ahead of frames that are still on their way from the kernel.
const FRAME_DELAY: Span = Span::seconds(1);

/// Bytes captured of each frame, at least, and beyond the tee rule's length.
const SNAPLEN: i32 = 512;
const SNAPLEN_BEYOND: i32 = 256;

/// The devices to capture on.
pub(super) enum Wanted {
    /// These.
    Named(Vec<String>),
    /// The first ZeroTier device that is there.
    First,
    /// Every ZeroTier device, also later ones.
    All,
}

impl Wanted {
    pub(super) fn from_flags(names: Vec<String>) -> Self {
        match &*names {
            [] => Wanted::First,
            names if names.iter().any(|name| name == "all") => Wanted::All,
            _ => Wanted::Named(names),
        }
    }
}

/// Starts a feed for each device that is wanted, when it is there. Returns when no further one is. `node` is what this
/// node knows of itself; the kernel may buffer `buffer` bytes for each device.
pub(super) fn follow(wanted: Wanted, node: Own, buffer: i32, feeds: &mut Feeds) -> anyhow::Result<()> {
    let control = Shared::clone(&feeds.control);
    let node = Arc::new(node);
    let mut start = |name: String| {
        let own = feeds.split();
        let node = Arc::clone(&node);
        feeds.start(move |feed, _| capture(feed, &own, &name, &node, buffer))
    };
    if let Wanted::Named(names) = wanted {
        return names.into_iter().collect::<BTreeSet<_>>().into_iter().try_for_each(start);
    }
    let mut known = BTreeSet::new();
    let mut told = false;
    while !control.stopping() {
        let names: Vec<String> = live::zerotier_devices().into_iter().map(|device| device.name).collect();
        if names.is_empty() && known.is_empty() && !told {
            log::info("no ZeroTier device yet; waiting for one (--zerotier-device names another)");
            told = true;
        }
        if let (Wanted::First, [first, rest @ ..]) = (&wanted, &*names) {
            if !rest.is_empty() {
                let rest = rest.join(", ");
                log::warn(&format!("capturing on {first} only; there are also {rest} (--zerotier-device all)"));
            }
            return start(first.clone());
        }
        for name in names {
            if known.insert(name.clone()) {
                start(name)?;
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Captures on a device whenever it is there, until it is time to stop.
fn capture(mut feed: Feed, feeds: &Feeds, name: &str, node: &Own, buffer: i32) {
    let mut device = Device {
        name,
        node,
        given_mac: feeds.counting.observer_mac,
        mac: None,
        network: None,
        changes: Changes::new(),
        warned: false,
        is_fine: true,
        asked: None,
    };
    let snaplen = SNAPLEN.max(i32::from(feeds.counting.tee_bytes) + SNAPLEN_BEYOND);
    let mut waiting_for = None;
    let mut lost: Option<String> = None;
    while feed.turn() {
        device.changes.look();
        let opened = Live::open(name, snaplen, buffer).map_err(anyhow::Error::from);
        let opened = opened.and_then(|capture| {
            device.join(&mut feed, feeds)?;
            Ok(capture)
        });
        let mut capture = match opened {
            Ok(capture) => capture,
            Err(error) => {
                let reason = error.to_string();
                if waiting_for.as_ref() != Some(&reason) {
                    let lost = lost.take().map(|lost| format!("lost: {lost}; ")).unwrap_or_default();
                    device.changes.info(format!("{name}: {lost}waiting for it: {reason}"));
                    waiting_for = Some(reason);
                }
                feed.wait(None, LOOK_EVERY);
                continue;
            }
        };
        waiting_for = None;
        if let Some(lost) = lost.take() {
            device.changes.info(format!("{name}: lost: {lost}"));
        }
        let (link, own) = (capture.link(), device.own());
        device.changes.info(format!("capturing on {name}, link type {}, own MAC {own}", link.0));
        if link == LinkType::ETHERNET && device.mac.is_none() && !device.warned {
            device.warned = true;
            log::warn(&format!("{name}: this system does not tell the device's MAC: give --observer-mac"));
        }
        let before = feed.capture;
        feed.set_up(true);
        lost = read(&mut feed, &mut capture, &mut device, before);
        capture.finish(|frame| feed.live_frame(frame));
        feed.capture = before.plus(capture.statistics());
        if lost.is_none() {
            feed.went_on(device.is_fine);
        }
        feed.set_up(false);
    }
    feed.end();
}

/// Takes frames in until the device is lost, with the reason, or it is time to stop.
fn read(feed: &mut Feed, capture: &mut Live, device: &mut Device<'_>, before: Statistics) -> Option<String> {
    let mut looked = Instant::now();
    let mut frames = 0;
    loop {
        match frames {
            0 => feed.wait(Some(capture.descriptor()), LOOK_EVERY),
            live::BATCH_FRAMES.. => (),
            _ => feed.wait(None, capture.half_full_after().min(GATHER)),
        }
        frames = match capture.read(|frame| feed.live_frame(frame)) {
            Ok(frames) => frames,
            Err(error) => return Some(error.to_string()),
        };
        if looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            feed.capture = before.plus(capture.statistics());
            if let Some(reason) = capture.lost() {
                return Some(reason.to_owned());
            }
            feed.went_on(device.is_fine());
            device.look(feed);
            if frames == 0 {
                feed.meter.advance(Timestamp::now() - FRAME_DELAY);
            }
        }
        if !feed.turn() {
            return None;
        }
    }
}

/// What is known of a device that is captured.
struct Device<'a> {
    name: &'a str,
    /// This node.
    node: &'a Own,
    given_mac: Option<Mac>,
    /// The given one, else its own.
    mac: Option<Mac>,
    /// What its traffic is counted as: the network's id, or the device's name while that cannot be told.
    network: Option<String>,
    changes: Changes,
    warned: bool,
    /// Whether the network is, as ZeroTier last said, and when that was.
    is_fine: bool,
    asked: Option<Instant>,
}

impl Device<'_> {
    /// Finds out whose the frames are that are about to come.
    fn join(&mut self, feed: &mut Feed, feeds: &Feeds) -> anyhow::Result<()> {
        let own_mac = live::device_mac(self.name);
        self.mac = self.given_mac.or(own_mac);
        let id = self.node.network_of(self.name, own_mac).map(|id| id.to_string());
        match (&self.network, id) {
            (None, id) => {
                let network = id.unwrap_or_else(|| self.name.to_owned());
                feed.join(&network, self.name);
                self.network = Some(network);
            }
            // The name is another network's now: what comes must not be counted as the last one's. While one of the two
            // is not known, they are taken for the same.
            (Some(last), Some(id)) if *last != id && last != self.name => {
                let next = Feed::new(&feeds.counting, feeds.seed, &feeds.control, &feeds.keeper)?;
                let before = std::mem::replace(feed, next);
                feed.succeed(before);
                feed.join(&id, self.name);
                self.network = Some(id);
            }
            _ => (),
        }
        feed.meter.set_observer(self.mac);
        Ok(())
    }

    /// To be called now and then while it is captured: the system may give it another MAC.
    fn look(&mut self, feed: &mut Feed) {
        self.changes.look();
        let mac = self.given_mac.or_else(|| live::device_mac(self.name));
        if mac.is_some() && mac != self.mac {
            self.mac = mac;
            feed.meter.set_observer(mac);
            self.changes.info(format!("{}: own MAC is now {}", self.name, self.own()));
        }
    }

    /// Whether what can be captured is of a network that works.
    fn is_fine(&mut self) -> bool {
        if self.asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
            let is_fine = self.node.is_fine(self.name);
            self.asked = Some(Instant::now());
            if is_fine != self.is_fine {
                self.is_fine = is_fine;
                let what =
                    if is_fine { "the network is fine again" } else { "ZeroTier says that the network is not OK" };
                self.changes.info(format!("{}: {what}", self.name));
            }
        }
        self.is_fine
    }

    fn own(&self) -> String {
        self.mac.map_or("unknown".to_owned(), |mac| mac.to_string())
    }
}
