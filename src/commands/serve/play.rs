//! A capture file in place of a device.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::feed::Feed;
use super::log;
use crate::capture::History;
use crate::cli::Speed;
use crate::time::{SECOND, Timestamp};
use crate::zerotier::NetworkId;

/// Plays it, paced by its own times.
pub(super) fn play(mut feed: Feed, mut history: History, speed: Speed, network: Option<NetworkId>) {
    let name = history.sources().first().map(ToString::to_string).unwrap_or_default();
    let pace = match speed {
        Speed::Max => "as fast as it can be read".to_owned(),
        Speed::Times(times) => format!("at {times} times its speed"),
    };
    log::info(&format!("{name}: playing it {pace}"));
    feed.join(&network.map(|network| network.to_string()).unwrap_or_default(), "");
    feed.up = true;
    feed.tell();
    let start = Instant::now();
    let mut first = None;
    let mut frames = 0_u64;
    let stopped = history.read(|_, frame| {
        if let Speed::Times(speed) = speed {
            let first = *first.get_or_insert(frame.time);
            if !wait_for(&mut feed, start, since(first, frame.time, speed)) {
                return ControlFlow::Break(());
            }
        }
        feed.leave(frame.time);
        feed.watch.frame(frame.time);
        feed.frame(frame);
        frames += 1;
        if frames.is_multiple_of(1024) {
            let going = feed.turn();
            feed.let_the_keeper_catch_up();
            if !going {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    feed.look();
    for problem in history.problems() {
        log::warn(&format!("{name}: {}", problem.error));
    }
    log::info(&format!("{name}: played {frames} frames{}", if stopped.is_none() { ", all there are" } else { "" }));
    feed.end();
}

/// When a frame is due, after the first one.
fn since(first: Timestamp, time: Timestamp, speed: f64) -> Duration {
    let seconds = (time.0 - first.0).max(0) as f64 / SECOND as f64 / speed;
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// Waits until `due` after `start`; says whether to go on.
fn wait_for(feed: &mut Feed, start: Instant, due: Duration) -> bool {
    loop {
        let left = due.saturating_sub(start.elapsed());
        if left < Duration::from_millis(1) {
            return true;
        }
        if !feed.turn() {
            return false;
        }
        feed.wait(None, left.min(Duration::from_secs(1)));
    }
}
