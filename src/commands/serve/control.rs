//! How the threads of `serve` talk: tickets for commits, and the order to stop.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the feeds are asked to do.
///
/// A ticket asks every feed to hand over what it has counted. Tickets are numbered; a feed names the last one it has
/// seen with everything it hands over, so that whoever asked can tell when all have answered.
#[derive(Debug, Default)]
pub(super) struct Control {
    ticket: AtomicU64,
    stop: AtomicBool,
    wakes: Mutex<Vec<PipeWriter>>,
}

impl Control {
    /// Asks for a commit of everything counted until now; the ticket's number.
    pub(super) fn request(&self) -> u64 {
        let ticket = self.ticket.fetch_add(1, Ordering::SeqCst) + 1;
        self.wake();
        ticket
    }

    /// The last ticket that was asked for.
    pub(super) fn ticket(&self) -> u64 {
        self.ticket.load(Ordering::SeqCst)
    }

    /// Tells every feed to hand over the last it has and end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Whether it is time to end.
    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// A pipe that becomes readable when there is something to do.
    pub(super) fn subscribe(&self) -> io::Result<PipeReader> {
        let (reader, writer) = io::pipe()?;
        // Neither end may wait: a feed that is busy has its wake-up already.
        for fd in [std::os::fd::AsFd::as_fd(&reader), std::os::fd::AsFd::as_fd(&writer)] {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        lock(&self.wakes).push(writer);
        Ok(reader)
    }

    fn wake(&self) {
        for mut wake in lock(&self.wakes).iter() {
            // A full pipe wakes as well as one byte more would.
            wake.write_all(&[0]).ok();
        }
    }
}

/// Locks, whatever became of another thread that held the lock: what they guard is never left half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shared by all threads.
pub(super) type Shared = Arc<Control>;
