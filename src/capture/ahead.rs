//! Reads ahead on a thread of its own, so that reading and decompressing overlap with counting.

use std::io::{self, Read};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;

/// How much is handed over at a time: as waking a thread costs time, more than is read at once without one.
const CHUNK: usize = 1024 * 1024;

/// Room before the bytes of a chunk, for the piece of a record that the one before ended with.
pub(super) const HEADROOM: usize = 4096;

/// Chunks that are read while one is walked through.
const SPARE: usize = 2;

/// Threads at once: of many open files nearly all wait for their turn.
const MOST: usize = 4;
static THREADS: AtomicUsize = AtomicUsize::new(0);

static SEVERAL_CORES: LazyLock<bool> =
    LazyLock::new(|| thread::available_parallelism().is_ok_and(|cores| cores.get() > 1));

/// Bytes behind [`HEADROOM`], and how many; none at the end.
pub(super) type Chunk = (Vec<u8>, usize);

/// The near end of such a thread. Without it the thread ends with its next chunk.
pub(super) struct Ahead {
    chunks: Receiver<io::Result<Chunk>>,
    empty: SyncSender<Vec<u8>>,
    _place: Place,
}

/// One of the places for threads.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let free = |threads| (threads < MOST).then_some(threads + 1);
        THREADS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok().map(|_| Place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        THREADS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ahead {
    /// Goes on reading on a thread, or gives the reader back: with a single processor, or where no more threads can be.
    pub(super) fn start(reader: Box<dyn Read + Send>) -> Result<Self, Box<dyn Read + Send>> {
        let Some(place) = SEVERAL_CORES.then(Place::take).flatten() else { return Err(reader) };
        let (empty, to_fill) = sync_channel(SPARE + 1);
        let (filled, chunks) = sync_channel(SPARE);
        // Handed over when the thread is there: what is given to one that cannot be started is lost.
        let (hand_over, reader_there) = channel();
        let thread = thread::Builder::new().name("read ahead".into());
        if thread.spawn(move || reader_there.recv().map(|reader| run(reader, &to_fill, &filled))).is_err() {
            return Err(reader);
        }
        let ahead = Ahead { chunks, empty, _place: place };
        (0..SPARE).for_each(|_| ahead.give_back(Vec::new()));
        hand_over.send(reader).map_err(|unsent| unsent.0)?;
        Ok(ahead)
    }

    /// The next chunk.
    pub(super) fn next(&self) -> io::Result<Chunk> {
        self.chunks.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that reads has ended")))
    }

    /// Takes back a chunk that is done with.
    pub(super) fn give_back(&self, mut buffer: Vec<u8>) {
        if buffer.len() != HEADROOM + CHUNK {
            buffer = vec![0; HEADROOM + CHUNK];
        }
        // There is room for all. A thread that has ended needs no more.
        self.empty.try_send(buffer).ok();
    }
}

fn run(mut reader: Box<dyn Read + Send>, to_fill: &Receiver<Vec<u8>>, filled: &SyncSender<io::Result<Chunk>>) {
    while let Ok(mut buffer) = to_fill.recv() {
        let read = loop {
            match reader.read(&mut buffer[HEADROOM..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                read => break read,
            }
        };
        let over = !matches!(read, Ok(1..));
        if filled.send(read.map(|len| (buffer, len))).is_err() || over {
            return;
        }
    }
}
