//! Threads that nobody would miss: if one panics, all end, rather than go on without it.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::Notify;

/// Sounded when something fails that nothing can be done about.
#[derive(Clone, Default)]
pub(super) struct Alarm(Arc<Notify>);

impl Alarm {
    /// Starts a thread that sounds it if it panics.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let guard = Guard(self.clone());
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _guard = guard;
            run()
        })
    }

    /// Something failed.
    pub(super) fn sound(&self) {
        self.0.notify_one();
    }

    /// Waits until it sounds.
    pub(super) async fn sounded(&self) {
        self.0.notified().await;
    }
}

/// Held by a thread.
struct Guard(Alarm);

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.sound();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn it_sounds_when_a_thread_panics_and_not_when_it_ends() {
        let is_sounded = |alarm: &Alarm| {
            let sounded = std::pin::pin!(alarm.sounded());
            sounded.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
        };
        let alarm = Alarm::default();
        assert!(alarm.spawn("ends", || ()).unwrap().join().is_ok());
        assert!(!is_sounded(&alarm));
        assert!(alarm.spawn("panics", || panic!("as it should")).unwrap().join().is_err());
        assert!(is_sounded(&alarm));
    }
}
