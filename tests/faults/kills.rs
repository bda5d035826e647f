//! kill -9 at any moment, again and again.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::tempdir;

use crate::shim::{KILL, Shim};
use crate::support::net::Namespace;
use crate::support::numbers::{Totals, report};
use crate::support::prometheus::{Prometheus, is_there};
use crate::support::serve::Setup;
use crate::support::{KillOnDrop, eventually};
use crate::traffic::{Plan, Sender};
use crate::watch::{ADDRESS, Watch};
use crate::{Random, how_much};

const PLAN: Plan = Plan { clients: 30 };

/// Packets a second: enough that there is something new whenever a scrape comes.
const RATE: u64 = 2000;

/// The longest that a `serve` lives: some commits, as there is one a second.
const LONGEST_LIFE: Duration = Duration::from_millis(2500);

/// A `serve` that dies while it starts, or right after.
const SHORT_LIFE: Duration = Duration::from_millis(150);

/// Operations on the database's files in the longest life, about: opening takes some ten, and so does a commit.
const OPERATIONS: u64 = 40;

#[test]
fn a_kill_takes_back_nothing_that_was_seen() {
    let Some(net) = Namespace::new() else { return };
    if !is_there("prometheus") {
        return;
    }
    net.add_device("ztone", "wire", None);
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let shim = Shim::new(&db);
    let setup = || shim.around(Setup::within(&net, &db)).listen(ADDRESS);
    setup().start().stop();

    let prometheus = Prometheus::within(&net, ADDRESS.parse().unwrap());
    let mut random = Random::new("kills");
    let kills = how_much("ZTMON_KILLS", 25);
    Sender::during(PLAN, &net, "wire", |sender| {
        sender.set_rate(RATE);
        Watch::during(
            &net,
            2,
            Duration::from_millis(20),
            |_| (),
            |watch| {
                for kill in 0..kills {
                    let log = dir.path().join("log");
                    let mut command = setup().command();
                    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
                    let mut serve = KillOnDrop(command.spawn().unwrap());
                    let life = match random.below(4) {
                        0 => SHORT_LIFE * random.below(1000) as u32 / 1000,
                        1 => LONGEST_LIFE * random.below(1000) as u32 / 1000,
                        // A life that ends in the middle of a write, or as something else is done to a file.
                        _ => {
                            shim.fail(KILL, random.below(OPERATIONS), u64::MAX);
                            LONGEST_LIFE
                        }
                    };
                    let end = Instant::now() + life;
                    while Instant::now() < end && serve.0.try_wait().unwrap().is_none() {
                        thread::sleep(Duration::from_millis(5));
                    }
                    serve.0.kill().unwrap();
                    let status = serve.0.wait().unwrap();
                    shim.heal();
                    let said = std::fs::read_to_string(log).unwrap();
                    assert_eq!(status.signal(), Some(9), "kill {kill}: it had ended by itself: {said}");
                    let seen = watch.seen();
                    let kept = report(&db, "live");
                    seen.assert_at_most(&kept);
                    if kept != Totals::default() {
                        kept.assert_balanced();
                    }
                    assert_counted_once(&kept, &PLAN.totals(0..sender.sent()), kill + 1);
                }

                let serve = setup().start();
                serve.wait_for_log("capturing on ztone", 1);
                let sent = sender.pause();
                let last = eventually("all that was counted", || {
                    let last = serve.scrape().totals();
                    (last == report(&db, "live")).then_some(last)
                });
                watch.seen().assert_at_most(&last);
                assert_counted_once(&last, &sent, kills);
                assert!(last.sum().sent_packets > 0);
                // Prometheus needs two scrapes of every series.
                eventually("scrapes by Prometheus", || {
                    let scrapes = "min(count_over_time(zerotier_host_sent_bytes_total[1d]))";
                    (prometheus.number(scrapes) >= Some(2.0)).then_some(())
                });
                check_history(&prometheus, &sent);
                let share = last.sum().sent_packets as f64 / sent.sum().sent_packets as f64;
                let within = shim.failed();
                eprintln!(
                    "kills: {kills}, {within} of them within an operation on the database; {:.0} % counted",
                    share * 100.0
                );
                serve.stop();
            },
        );
    });
    assert!(shim.failed() > 0, "the library was not at work");
}

/// That no client has more than what was sent, save one packet a kill: one whose copy came after it.
fn assert_counted_once(counted: &Totals, sent: &Totals, kills: u64) {
    for ((_, client), total) in &counted.0 {
        let most = sent.of("", client);
        assert!(total.sent_packets <= most.sent_packets + kills, "{client}: {total:?} of {most:?}");
        assert!(total.received_packets <= most.received_packets + kills, "{client}: {total:?} of {most:?}");
    }
    let (counted, sent) = (counted.sum(), sent.sum());
    assert!(counted.sent_packets <= sent.sent_packets + kills, "{counted:?} of {sent:?}");
}

/// What Prometheus makes of it: no reset, and no more than was sent.
fn check_history(prometheus: &Prometheus, sent: &Totals) {
    let families = ["sent_bytes", "received_bytes", "sent_packets", "received_packets"];
    for counter in families {
        for name in [format!("zerotier_host_{counter}_total"), format!("zerotier_other_end_{counter}_total")] {
            assert_eq!(prometheus.number(&format!("max(resets({name}[1d]))")), Some(0.0), "{name}");
        }
    }
    let increases = prometheus.query("increase(zerotier_host_sent_bytes_total[1d])");
    assert_eq!(increases.len(), PLAN.clients as usize);
    for result in increases {
        let client = result["metric"]["addr"].as_str().unwrap();
        let increase: f64 = result["value"][1].as_str().unwrap().parse().unwrap();
        let series = format!("zerotier_host_sent_bytes_total{{addr='{client}'}}");
        let values = prometheus.scraped(&series, "1d");
        // Prometheus extrapolates over the ends of the range, by less than 1.2 times the mean distance of two scrapes on
        // either side.
        let stretch = 1.0 + 2.4 / (values.len() - 1) as f64;
        let most = sent.of("", client).sent_bytes as f64;
        assert!(increase <= most * stretch, "{client}: {increase} of {most}: {values:?}");
        assert!(increase >= values[values.len() - 1].1 - values[0].1, "{client}: {increase}: {values:?}");
    }
}
