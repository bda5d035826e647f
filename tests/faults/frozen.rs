//! A disk that hangs: no error, and no end.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::tempdir;

use crate::how_much;
use crate::shim::Shim;
use crate::support::eventually;
use crate::support::net::Namespace;
use crate::support::numbers::{Totals, report};
use crate::support::serve::Setup;
use crate::traffic::{Plan, Sender};
use crate::watch::{ADDRESS, Answer, Still, Watch, uncommitted, wait_for};

const PLAN: Plan = Plan { clients: 100 };

/// After so long at most, scrapes have to say that the disk hangs.
const NOTICED: Duration = Duration::from_secs(10);

/// No answer takes longer, however busy the machine: without a disk that hangs they take some milliseconds.
const LONGEST_ANSWER: Duration = Duration::from_secs(5);

#[test]
fn a_disk_that_hangs_holds_up_nothing_and_loses_nothing() {
    let Some(net) = Namespace::new() else { return };
    net.add_device("ztone", "wire", None);
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let shim = Shim::new(&db);
    let serve = shim.around(Setup::within(&net, &db)).listen(ADDRESS).start();
    serve.wait_for_log("capturing on ztone", 1);
    let freeze = Duration::from_secs(how_much("ZTMON_FREEZE_SECONDS", 5));
    let rate = how_much("ZTMON_FREEZE_RATE", 2000);

    let still = Still::default();
    let last: Mutex<Option<Answer>> = Mutex::new(None);
    let took = Mutex::new(Vec::new());
    let note = |answer: Answer| {
        took.lock().unwrap().push(answer.took);
        still.check(&answer);
        *last.lock().unwrap() = Some(answer);
    };
    Sender::during(PLAN, &net, "wire", |sender| {
        Watch::during(&net, 1, Duration::from_millis(50), note, |watch| {
            sender.set_rate(rate);
            eventually("a commit", || (watch.seen() != Totals::default()).then_some(()));
            took.lock().unwrap().clear();
            shim.freeze();
            let frozen = Instant::now();
            let down = || last.lock().unwrap().as_ref().is_some_and(|answer| !answer.store_up());
            eventually("ztmon_store_up to be 0", || down().then_some(()));
            let noticed = frozen.elapsed();
            assert!(noticed <= NOTICED, "ztmon_store_up is 0 after {noticed:?} only");
            assert_eq!(serve.request("GET", "/-/ready").0, 503);
            assert_eq!(serve.request("GET", "/-/healthy").0, 200);
            let (shown, waiting, from) = (watch.seen(), uncommitted(&serve.scrape()), sender.sent());
            thread::sleep(freeze.saturating_sub(noticed).max(Duration::from_secs(1)));
            let sent_meanwhile = sender.sent() - from;
            eventually("uncommitted bytes to grow", || (uncommitted(&serve.scrape()) > waiting).then_some(()));
            assert!(down());
            watch.seen().assert_same(&shown);
            let frozen = frozen.elapsed();
            shim.thaw();

            let mut took = std::mem::take(&mut *took.lock().unwrap());
            took.sort_unstable();
            let percentile = took[took.len() * 99 / 100];
            let longest = took[took.len() - 1];
            assert!(longest <= LONGEST_ANSWER, "an answer took {longest:?}");

            // It goes on by itself, and not a packet is missing.
            eventually("commits to succeed again", || (!down()).then_some(()));
            let sent = sender.pause();
            let dropped = serve.scrape().sum("ztmon_capture_packets_dropped_total") + net.dropped("ztone");
            assert_eq!(dropped, 0, "this machine is too slow for {rate} packets/s");
            wait_for(&serve, &sent);
            assert_eq!(serve.request("GET", "/-/ready").0, 200);
            assert_eq!(uncommitted(&serve.scrape()), 0.0);
            report(&db, "live").assert_same(&sent);
            let rate = sent_meanwhile as f64 / (frozen - noticed).as_secs_f64();
            eprintln!(
                "frozen disk: {frozen:.1?}, noticed after {noticed:.1?}; {rate:.0} packets/s meanwhile, none lost; {} \
                 answers, 99 % within {percentile:.1?}, all within {longest:.1?}",
                took.len()
            );
        });
    });
    serve.stop();
}
