//! Scrapes that go on whatever happens, and hold every answer against all before it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::shim::monotonic;
use crate::support::net::Namespace;
use crate::support::numbers::{Metrics, Totals};
use crate::support::serve::{Serve, ask};
use crate::traffic::StopWhenDropped;

/// Where `serve` listens in these tests: each has a namespace of its own.
pub const ADDRESS: &str = "127.0.0.1:9123";

/// An answer to a scrape.
pub struct Answer {
    /// When it had arrived, on the clock of [`monotonic`].
    pub arrived: Duration,
    /// How long it took.
    pub took: Duration,
    pub metrics: Metrics,
    pub totals: Totals,
}

impl Answer {
    /// Whether commits succeed.
    pub fn store_up(&self) -> bool {
        self.metrics.float("ztmon_store_up") == 1.0
    }
}

/// Bytes of IP that are counted and not committed.
pub fn uncommitted(metrics: &Metrics) -> f64 {
    metrics.float("ztmon_store_uncommitted_bytes")
}

/// The most that scrapes have seen.
pub struct Watch {
    seen: Mutex<Totals>,
    stop: AtomicBool,
}

impl Watch {
    /// Does `work` while `scrapers` scrape in the namespace, `every` so often. `each` gets all answers.
    pub fn during<T>(
        net: &Namespace,
        scrapers: usize,
        every: Duration,
        each: impl Fn(Answer) + Sync,
        work: impl FnOnce(&Watch) -> T,
    ) -> T {
        let watch = Watch { seen: Mutex::default(), stop: AtomicBool::new(false) };
        thread::scope(|scope| {
            for _ in 0..scrapers {
                scope.spawn(|| net.run(|| watch.run(every, &each)));
            }
            let _stop = StopWhenDropped(&watch.stop);
            work(&watch)
        })
    }

    fn run(&self, every: Duration, each: &impl Fn(Answer)) {
        while !self.stop.load(Ordering::SeqCst) {
            // Nobody answers while there is no serve.
            if let Some(answer) = self.scrape() {
                each(answer);
            }
            thread::sleep(every);
        }
    }

    /// What has been seen so far, each value at its highest.
    pub fn seen(&self) -> Totals {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn scrape(&self) -> Option<Answer> {
        let (before, asked) = (self.seen(), Instant::now());
        let address: SocketAddr = ADDRESS.parse().unwrap();
        let (status, body) = ask(address, "GET", "/metrics").ok()?;
        let (arrived, took) = (monotonic(), asked.elapsed());
        assert_eq!(status, 200, "{body}");
        let metrics = Metrics::parse(&body);
        let totals = metrics.totals();
        // Whatever had arrived when this was asked for is in it; answers that overlap may come in either order.
        before.assert_at_most(&totals);
        if totals != Totals::default() {
            totals.assert_balanced();
        }
        self.seen.lock().unwrap().raise(&totals);
        Some(Answer { arrived, took, metrics, totals })
    }
}

/// Waits until all that was sent, and nothing else, is committed and shown.
pub fn wait_for(serve: &Serve, sent: &Totals) {
    let mut shown = Totals::default();
    // For a minute or more: only a failure waits so long.
    for _ in 0..600 {
        shown = serve.scrape().totals();
        shown.assert_at_most(sent);
        if shown == *sent {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    shown.assert_same(sent);
}

/// Holds that nothing that is shown moves without a commit.
#[derive(Default)]
pub struct Still(Mutex<Option<(f64, Totals)>>);

impl Still {
    /// Holds an answer against the one before. They come from one scraper and one `serve`.
    pub fn check(&self, answer: &Answer) {
        let commit = answer.metrics.float("ztmon_store_last_commit_timestamp_seconds");
        let before = self.0.lock().unwrap().replace((commit, answer.totals.clone()));
        if let Some((_, totals)) = before.filter(|(before, _)| *before == commit) {
            totals.assert_same(&answer.totals);
        }
    }
}
