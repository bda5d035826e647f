//! Any bytes over a connection: whatever they get for an answer, the server goes on.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use ztmon::web::{Limits, Response, listen, serve};

thread_local! {
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

/// The first byte says in pieces of how many bytes the others are sent, as long as these are not too many.
pub fn run(bytes: &[u8]) {
    let Some((&piece, bytes)) = bytes.split_first() else { return };
    SERVER.with_borrow_mut(|server| {
        let server = server.get_or_insert_with(Server::start);
        server.hear(bytes, usize::from(piece).max(bytes.len() / PIECES).max(1));
    });
}

/// A server, and a client that has asked it all the time. Both live in this thread, and run only while bytes are sent:
/// so the same bytes take the same way.
struct Server {
    runtime: Runtime,
    address: SocketAddr,
    client: TcpStream,
}

const PLAIN: &[u8] = b"GET /plain HTTP/1.1\r\n\r\n";
const PIECES: usize = 16;
/// More than one write, less than a socket's buffer.
const LARGE: usize = 20_000;

impl Server {
    fn start() -> Self {
        let listener = listen("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its own address");
        let limits = Limits::default();
        let handler = move |path: String| async move {
            assert!(path.len() <= limits.uri_bytes);
            match &*path {
                "/plain" => Response::text(200, "plain"),
                "/large" => Response { status: 200, content_type: "text/plain", body: Arc::new("x".repeat(LARGE)) },
                "/later" => {
                    tokio::task::yield_now().await;
                    Response::text(200, "later")
                }
                _ => Response::text(404, "no such page"),
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.spawn(serve(listener, limits, handler, std::future::pending()));
        let client = runtime.block_on(TcpStream::connect(address)).expect("a connection");
        Server { runtime, address, client }
    }

    fn hear(&mut self, bytes: &[u8], piece: usize) {
        let Server { runtime, address, client } = self;
        let heard = runtime.block_on(async {
            let mut hostile = TcpStream::connect(*address).await.expect("the server accepts");
            for piece in bytes.chunks(piece) {
                // The server may have had enough.
                if hostile.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let mut heard = Vec::new();
            let _ = hostile.shutdown().await;
            let _ = hostile.read_to_end(&mut heard).await;

            client.write_all(PLAIN).await.expect("the server listens to others");
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\nplain\n") {
                assert!(client.read_buf(&mut answer).await.expect("an answer") > 0, "the server hung up");
            }
            heard
        });
        assert!(heard.is_empty() || heard.starts_with(b"HTTP/1."), "{}", heard.escape_ascii());
    }
}
