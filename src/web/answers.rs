//! Answers, shared by those who ask at the same time.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep_until};

/// An answer to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status code.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The body; a HEAD request gets its length alone. Nobody else has it once it is taken.
    pub body: Arc<String>,
}

impl Response {
    /// One line of plain text.
    pub fn text(status: u16, line: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: Arc::new(format!("{line}\n")) }
    }
}

/// What the handler has just answered or is about to, by path. Others share an answer for as long as it took to make: so
/// making them never takes more than half of the time, and a thousand who ask for a long page cost little more than one.
pub(super) struct Answers<H> {
    handler: H,
    recent: Mutex<HashMap<String, Arc<OnceCell<Recent>>>>,
}

struct Recent {
    shared_until: Instant,
    response: Arc<Response>,
}

impl Recent {
    fn is_shared(&self) -> bool {
        // What was not found is cheap, and there is no end of paths.
        self.response.status == 200 && Instant::now() < self.shared_until
    }
}

impl<H, F> Answers<H>
where
    H: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Send,
{
    pub(super) fn new(handler: H) -> Arc<Self> {
        Arc::new(Self { handler, recent: Mutex::default() })
    }

    /// The handler's answer. Where the one who asked it is gone or it has panicked, the next in line asks again.
    pub(super) async fn to(self: &Arc<Self>, path: String) -> Arc<Response> {
        let cell = Arc::clone(self.recent().entry(path.clone()).or_default());
        let ask = || async {
            let start = Instant::now();
            let response = (self.handler)(path).await;
            let shared_until = Instant::now() + start.elapsed();
            // Nobody may ask again, and a long page would lie here for ever.
            let all = Arc::clone(self);
            tokio::spawn(async move {
                sleep_until(shared_until).await;
                drop(all.recent());
            });
            Recent { shared_until, response: Arc::new(response) }
        };
        Arc::clone(&cell.get_or_init(ask).await.response)
    }

    /// All that is still shared or about to be.
    fn recent(&self) -> MutexGuard<'_, HashMap<String, Arc<OnceCell<Recent>>>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|_, cell| cell.get().map_or(Arc::strong_count(cell) > 1, Recent::is_shared));
        recent
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;

    fn block_on(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test);
    }

    #[test]
    fn those_who_ask_at_the_same_time_share_an_answer() {
        let answers = Answers::new(async |path: String| {
            sleep(Duration::from_millis(1)).await;
            Response::text(if path == "/" { 200 } else { 404 }, &path)
        });
        let to = |path: &str| answers.to(path.to_owned());
        block_on(async {
            let (one, same, other) = tokio::join!(to("/"), to("/"), to("/other"));
            assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
            assert_eq!((one.body.as_str(), other.body.as_str()), ("/\n", "/other\n"));
            // Not for ever.
            while Arc::ptr_eq(&one, &to("/").await) {
                sleep(Duration::from_millis(1)).await;
            }
            for path in 0..1000 {
                to(&path.to_string()).await;
            }
            // Neither paths without an end nor a page that nobody asks for again take memory.
            while !answers.recent.lock().unwrap().is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
        });
    }

    #[test]
    fn one_who_is_gone_holds_up_nobody() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let answers = Answers::new(async |_| match ASKED.fetch_add(1, Ordering::SeqCst) {
            0 => pending().await,
            _ => Response::text(200, "hello"),
        });
        block_on(async {
            let gone = timeout(Duration::from_millis(10), answers.to("/".to_owned()));
            let (gone, next) = tokio::join!(gone, answers.to("/".to_owned()));
            assert!(gone.is_err() && *next.body == "hello\n");
        });
    }
}
