//! Devices come and go; capture follows them.

use std::collections::BTreeSet;
use std::net::IpAddr;
#[cfg(target_os = "linux")]
use std::path::Path;
use std::time::{Duration, Instant};

use super::Feeds;
use super::control::Shared;
use super::feed::Feed;
use super::log;
use crate::capture::live::{self, BATCH_MILLIS, Live};
use crate::cli::Counting;
use crate::frame::Statistics;
use crate::packet::Mac;
use crate::time::{Span, Timestamp};
use crate::zerotier::{NodeId, identity};

/// How often to look whether a device is there, or still the same.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How far the clock may be ahead of frames that are still on their way from the kernel.
const FRAME_DELAY: Span = Span::seconds(1);

/// Bytes captured of each frame, at least, and beyond the tee rule's length.
const SNAPLEN: i32 = 512;
const SNAPLEN_BEYOND: i32 = 256;

/// Where ZeroTier keeps the public half of this node's identity, which begins with the node's id.
const IDENTITY: &str = "/var/lib/zerotier-one/identity.public";

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

/// Starts a feed for each device that is wanted, when it is there. Returns when no further one is. `node` is this node,
/// if that is known already.
pub(super) fn follow(wanted: Wanted, node: Option<NodeId>, feeds: &mut Feeds) -> anyhow::Result<()> {
    let control = Shared::clone(&feeds.control);
    let mut start = |name: String| feeds.start(move |feed, counting| capture(feed, &name, node, counting));
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
fn capture(mut feed: Feed, name: &str, node: Option<NodeId>, counting: &Counting) {
    let snaplen = SNAPLEN.max(i32::from(counting.tee_bytes) + SNAPLEN_BEYOND);
    let given_mac = counting.observer_mac;
    let mut joined = false;
    let mut waiting_for = None;
    let mut lost: Option<String> = None;
    while feed.turn() {
        let mut capture = match Live::open(name, snaplen) {
            Ok(capture) => capture,
            Err(error) => {
                let reason = error.to_string();
                if waiting_for.as_ref() != Some(&reason) {
                    let lost = lost.take().map(|lost| format!("lost: {lost}; ")).unwrap_or_default();
                    log::info(&format!("{name}: {lost}waiting for it: {reason}"));
                    waiting_for = Some(reason);
                }
                feed.wait(None, LOOK_EVERY);
                continue;
            }
        };
        waiting_for = None;
        if let Some(lost) = lost.take() {
            log::info(&format!("{name}: lost: {lost}"));
        }
        let mac = live::device_mac(name);
        feed.meter.set_observer(given_mac.or(mac));
        if !joined {
            let network = network_of(name, mac, node.or_else(own_node));
            feed.join(&network, name);
            joined = true;
        }
        let own = given_mac.or(mac).map_or("unknown".to_owned(), |mac| mac.to_string());
        log::info(&format!("capturing on {name}, link type {}, own MAC {own}", capture.link().0));
        if given_mac.or(mac).is_none() {
            log::warn(&format!("{name}: this system does not tell the device's MAC: give --observer-mac"));
        }
        let before = feed.capture;
        feed.set_up(true);
        lost = read(&mut feed, &mut capture, before);
        // The kernel still gathers the last batch; it does so for a device that is gone, too.
        std::thread::sleep(Duration::from_millis(2 * BATCH_MILLIS as u64));
        capture.drain(|frame| feed.live_frame(frame));
        feed.capture = before.plus(capture.statistics());
        feed.set_up(false);
    }
    feed.end();
}

/// Takes frames in until the device is lost, with the reason, or it is time to stop.
fn read(feed: &mut Feed, capture: &mut Live, before: Statistics) -> Option<String> {
    let mut looked = Instant::now();
    loop {
        feed.wait(Some(capture.descriptor()), LOOK_EVERY);
        let frames = match capture.read(|frame| feed.live_frame(frame)) {
            Ok(frames) => frames,
            Err(error) => return Some(error.to_string()),
        };
        if looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            feed.capture = before.plus(capture.statistics());
            if let Some(reason) = capture.lost() {
                return Some(reason.to_owned());
            }
            if frames == 0 {
                feed.meter.advance(Timestamp::now() - FRAME_DELAY);
            }
        }
        if !feed.turn() {
            return None;
        }
    }
}

/// The file that [`own_node`] reads, or while there is none, the directory where ZeroTier will put it.
#[cfg(target_os = "linux")]
pub(super) fn identity() -> &'static Path {
    let file = Path::new(IDENTITY);
    if file.exists() { file } else { file.parent().unwrap_or(file) }
}

/// This node's id, if ZeroTier has written down who it is.
pub(super) fn own_node() -> Option<NodeId> {
    std::fs::read_to_string(IDENTITY).ok()?.split(':').next()?.parse().ok()
}

/// The network behind a device: its id, or the device's name if that cannot be told.
fn network_of(name: &str, mac: Option<Mac>, node: Option<NodeId>) -> String {
    let addresses: Vec<IpAddr> = live::device(name).map(|device| device.addresses).unwrap_or_default();
    identity::network_of_device(name, mac, &addresses, node).map_or(name.to_owned(), |network| network.to_string())
}
