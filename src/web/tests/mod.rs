//! The HTTP edge over real sockets: what clients get, and what hostile ones do not get.
//!
//! Clients are plain blocking sockets. Deadlines under test are short and those not under test long; a client waits for
//! `PATIENCE` before it calls a test failed, so that a slow machine changes nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Limits, Response, listen, page, serve};

mod hostile;
mod polite;

const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);
const NEVER: Duration = Duration::from_secs(3600);
/// More than both ends' socket buffers hold, so that it cannot be sent without being read.
const LARGE: usize = 64 << 20;

const LONG: Limits = Limits {
    connections: 512,
    request: NEVER,
    idle: NEVER,
    response: NEVER,
    linger: NEVER,
    grace: NEVER,
    header_bytes: 16 << 10,
    headers: 64,
    uri_bytes: 2 << 10,
    unsent_bytes: 1 << 30,
};

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    /// The paths that the handler was asked for.
    asked: mpsc::Receiver<String>,
}

impl Server {
    fn start(limits: Limits) -> Self {
        Self::over(listen("127.0.0.1:0").unwrap(), limits)
    }

    fn over(listener: TcpListener, limits: Limits) -> Self {
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, asked) = mpsc::channel();
        let handler = move |path: String| {
            let _ = tell.send(path.clone());
            async move {
                match path.as_str() {
                    "/" => Response { status: 200, content_type: "text/html", body: Arc::new(page()) },
                    "/large" | "/large/too" => {
                        Response { status: 200, content_type: "text/plain", body: Arc::new("x".repeat(LARGE)) }
                    }
                    "/later" => {
                        tokio::time::sleep(SHORT).await;
                        Response::text(200, "later")
                    }
                    "/never" => std::future::pending().await,
                    "/panic" => panic!("as the test asks"),
                    _ => Response::text(404, "no such page"),
                }
            }
        };
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let shutdown = async { drop(stopped.await) };
            runtime.block_on(serve(listener, limits, handler, shutdown)).unwrap();
        });
        Self { address, stop, thread, asked }
    }

    fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    fn get(&self) -> Answer {
        ask(&mut self.connect(), "GET / HTTP/1.1\r\n\r\n")
    }

    fn stop(self) {
        let _ = self.stop.send(());
        self.thread.join().unwrap();
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

struct Answer {
    head: String,
    body: Vec<u8>,
}

fn ask(stream: &mut TcpStream, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).unwrap();
    read_answer(stream, request.starts_with("HEAD"))
}

fn read_answer(stream: &mut TcpStream, head_only: bool) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; if head_only { 0 } else { length }];
    stream.read_exact(&mut body).unwrap();
    Answer { head, body }
}

/// Waits for the other end to close; a reset is an end as well, waiting in vain is not.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "still open: {error}");
    }
    rest
}

/// Sends a byte at a time and reads none, until the other end no longer takes them.
fn trickle_until_dropped(stream: &mut TcpStream) {
    let start = Instant::now();
    while stream.write_all(b"a").is_ok() {
        assert!(start.elapsed() < PATIENCE, "still open");
        thread::sleep(Duration::from_millis(20));
    }
}
