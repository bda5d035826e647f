//! A server on this machine that answers as it is told: in place of ZeroTier's service, a controller, or Central.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What it does when it is asked.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Status 200 and this.
    Json(String),
    Status(u16),
    /// The head of a longer answer, this much of its body, and an end.
    Half(String),
    /// No answer until [`Server::let_go`].
    Nothing,
}

/// What it was asked: the path, and the headers.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub head: String,
}

#[derive(Default)]
struct State {
    replies: BTreeMap<String, Reply>,
    asked: Vec<Asked>,
    held: Vec<Sender<()>>,
}

/// Serves until the test ends. What it has no reply for is not found.
pub struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// On any free port.
    pub fn new() -> Server {
        Server::on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// With TLS, as this certificate and key say.
    pub fn with_tls(config: ServerConfig) -> Server {
        let config = Arc::new(config);
        Server::with(TcpListener::bind("127.0.0.1:0").unwrap(), move |stream, state| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            answer(StreamOwned::new(connection, stream), state)
        })
    }

    pub fn on(listener: TcpListener) -> Server {
        Server::with(listener, answer)
    }

    fn with(
        listener: TcpListener,
        answer: impl Fn(TcpStream, &Mutex<State>) -> std::io::Result<()> + Clone + Send + 'static,
    ) -> Server {
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, answer) = (Arc::clone(&shared), answer.clone());
                thread::spawn(move || answer(stream.unwrap(), &shared).ok());
            }
        });
        Server { address, state }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replies so at this path from now on.
    pub fn reply(&self, path: &str, reply: Reply) {
        self.state.lock().unwrap().replies.insert(path.to_owned(), reply);
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }

    /// How many wait for an answer.
    pub fn held(&self) -> usize {
        self.state.lock().unwrap().held.len()
    }

    /// Ends the connections that wait for an answer.
    pub fn let_go(&self) {
        self.state.lock().unwrap().held.clear();
    }
}

fn answer(mut stream: impl Read + Write, state: &Mutex<State>) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let (hold, held): (Sender<()>, Receiver<()>) = channel();
    let reply = {
        let mut state = state.lock().unwrap();
        let reply = state.replies.get(&path).cloned().unwrap_or(Reply::Status(404));
        state.asked.push(Asked { path, head });
        if matches!(reply, Reply::Nothing) {
            state.held.push(hold);
        }
        reply
    };
    let answered = match reply {
        Reply::Json(body) => {
            let len = body.len();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n{body}")
        }
        Reply::Status(status) => write!(stream, "HTTP/1.1 {status} So\r\nContent-Length: 2\r\n\r\n{{}}"),
        Reply::Half(body) => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", 2 * body.len())
        }
        Reply::Nothing => {
            // Until the other end of this is dropped.
            held.recv().ok();
            Ok(())
        }
    };
    answered.and_then(|()| stream.flush())
}
