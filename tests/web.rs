//! The HTTP edge over real sockets: what clients get, and what hostile ones do not get.
//!
//! Clients are plain blocking sockets. Deadlines under test are short and those not under test long; a client waits for
//! `PATIENCE` before it calls a test failed, so that a slow machine changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use ztmon::web::{Limits, Response, listen, page, serve};

const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);
/// More than both ends' socket buffers hold, so that it cannot be sent without being read.
const LARGE: usize = 64 << 20;

const LONG: Limits = Limits {
    connections: 512,
    request: PATIENCE,
    idle: PATIENCE,
    response: PATIENCE,
    linger: PATIENCE,
    grace: PATIENCE,
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
                    "/" => Response { status: 200, content_type: "text/html", body: page().into_bytes() },
                    "/large" => Response { status: 200, content_type: "text/plain", body: vec![b'x'; LARGE] },
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

#[test]
fn get_and_head_and_nothing_else() {
    let server = Server::start(LONG);
    let mut stream = server.connect();
    let get = ask(&mut stream, "GET / HTTP/1.1\r\nHost: ztmon\r\n\r\n");
    assert!(get.head.starts_with("http/1.1 200 ok\r\n"), "{}", get.head);
    assert!(
        get.head.contains("\r\ncache-control: no-store\r\n") && get.head.contains("\r\ncontent-type: text/html\r\n")
    );
    assert_eq!(get.body, page().into_bytes());

    // The same connection again and again: HEAD has the length and no body, or the next answer would not parse.
    let head = ask(&mut stream, "HEAD / HTTP/1.1\r\n\r\n");
    assert!(head.head.contains(&format!("\r\ncontent-length: {}\r\n", get.body.len())), "{}", head.head);
    let missing = ask(&mut stream, "GET /nowhere?at=all HTTP/1.1\r\n\r\n");
    assert!(missing.head.starts_with("http/1.1 404 "), "{}", missing.head);
    assert_eq!(missing.body, b"no such page\n");
    for request in
        ["POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", "BREW / HTTP/1.1\r\n\r\n", "OPTIONS * HTTP/1.1\r\n\r\n"]
    {
        let refused = ask(&mut stream, request);
        assert!(refused.head.starts_with("http/1.1 405 ") && refused.head.contains("\r\nallow: get, head\r\n"));
    }
    assert_eq!(server.asked.try_iter().collect::<Vec<_>>(), ["/", "/", "/nowhere"]);
    server.stop();
}

#[test]
fn a_body_that_never_ends_is_not_waited_for() {
    let server = Server::start(LONG);
    let mut stream = server.connect();
    let refused = ask(&mut stream, "POST / HTTP/1.1\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n");
    assert!(refused.head.starts_with("http/1.1 405 "), "{}", refused.head);
    assert_eq!(read_to_end(&mut stream), b"");
}

#[test]
fn a_client_that_closes_its_half_is_answered() {
    let server = Server::start(LONG);
    let mut stream = server.connect();
    stream.write_all(b"GET /later HTTP/1.0\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_answer(&mut stream, false).body, b"later\n");
    assert_eq!(read_to_end(&mut stream), b"");
}

#[test]
fn long_requests_are_refused() {
    let server = Server::start(LONG);
    let long = |length| "a".repeat(length);
    let many = "A: b\r\n".repeat(65);
    for (request, status) in [
        (format!("GET /{} HTTP/1.1\r\n\r\n", long(2046)), "404"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", long(2048)), "414"),
        (format!("GET /?{} HTTP/1.1\r\n\r\n", long(2047)), "414"),
        (format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", long(20_000)), "431"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", long(200_000)), "431"),
        (format!("GET / HTTP/1.1\r\n{many}\r\n"), "431"),
    ] {
        let head = ask(&mut server.connect(), &request).head;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{status} for {} bytes: {head}", request.len());
    }
}

#[test]
fn garbage_and_a_panic_harm_only_their_own_connection() {
    let server = Server::start(LONG);
    let mut seed = 1_u32;
    let mut noise = |length: usize| -> Vec<u8> {
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        (0..length).map(|_| next()).collect()
    };
    let mut inputs: Vec<Vec<u8>> = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n\r\n\r\n",
        b"\0",
        b"GET",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET \xff\xfe HTTP/1.1\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        b"GET /panic HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    ]
    .map(<[u8]>::to_vec)
    .into();
    inputs.extend((0..100).map(|length| noise(length * 7)));
    inputs.extend((0..100).map(|length| [b"GET / HTTP/1.1\r\n".to_vec(), noise(length)].concat()));
    for input in inputs {
        let mut stream = server.connect();
        let _ = stream.write_all(&input).and_then(|()| stream.shutdown(Shutdown::Write));
        read_to_end(&mut stream);
    }
    assert_eq!(server.get().body, page().into_bytes());
    server.stop();
}

#[test]
fn a_request_that_does_not_come_to_its_end_is_dropped() {
    let server = Server::start(Limits { request: SHORT, ..LONG });
    let mut silent = server.connect();
    let mut half = server.connect();
    half.write_all(b"GET / HT").unwrap();
    let mut slow = server.connect();
    let mut second = server.connect();
    ask(&mut second, "GET / HTTP/1.1\r\n\r\n");
    assert_eq!(read_to_end(&mut silent), b"");
    assert_eq!(read_to_end(&mut half), b"");
    trickle_until_dropped(&mut slow);
    trickle_until_dropped(&mut second);
}

#[test]
fn an_idle_connection_is_closed() {
    let server = Server::start(Limits { idle: SHORT, ..LONG });
    let mut stream = server.connect();
    ask(&mut stream, "GET / HTTP/1.1\r\n\r\n");
    assert_eq!(read_to_end(&mut stream), b"");
}

#[test]
fn a_reader_too_slow_for_its_answer_is_dropped() {
    let server = Server::start(Limits { response: SHORT, ..LONG });
    let mut stream = server.connect();
    stream.write_all(b"GET /large HTTP/1.1\r\n\r\n").unwrap();
    trickle_until_dropped(&mut stream);
}

#[test]
fn answers_that_nobody_takes_do_not_pile_up() {
    let server = Server::start(Limits { unsent_bytes: LARGE * 3 / 2, ..LONG });
    let mut first = server.connect();
    first.write_all(b"GET /large HTTP/1.1\r\n\r\n").unwrap();
    first.read_exact(&mut [0]).unwrap();
    let answer = ask(&mut server.connect(), "GET /large HTTP/1.1\r\n\r\n");
    assert_eq!(answer.body.len(), LARGE);
    trickle_until_dropped(&mut first);
}

#[test]
fn a_thousand_slow_clients_do_not_keep_a_scrape_waiting() {
    // Every deadline is long: the places must be won, not waited for.
    let server = Server::start(Limits { connections: 100, ..LONG });
    let mut slow = Vec::new();
    for number in 0..1_000 {
        slow.push(server.connect());
        // Those that were dropped give their descriptors back; the others send one more byte.
        if number % 100 == 99 {
            slow.retain_mut(|stream| stream.write_all(b"G").is_ok());
            assert_eq!(server.get().body, page().into_bytes());
        }
    }
    assert_eq!(server.get().body, page().into_bytes());
    server.stop();
}

#[test]
fn out_of_descriptors_it_goes_on() {
    let mut child = Command::new("sh")
        .args(["-c", r#"ulimit -n 32; exec "$0" --exact serve_as_child --nocapture"#])
        .arg(std::env::current_exe().unwrap())
        .env("ZTMON_TEST_CHILD", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines.find_map(|line| line.unwrap().strip_prefix("listening ")?.parse().ok()).unwrap();
    let silent: Vec<_> = (0..60).map(|_| connect(address)).collect();
    assert_eq!(ask(&mut connect(address), "GET / HTTP/1.1\r\n\r\n").body, page().into_bytes());
    drop((silent, child.stdin.take()));
    assert!(child.wait().unwrap().success());
}

/// The other process of the test above; nothing on its own.
#[test]
fn serve_as_child() {
    if std::env::var_os("ZTMON_TEST_CHILD").is_some() {
        let server = Server::start(LONG);
        println!("\nlistening {}", server.address);
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        server.stop();
    }
}

#[test]
fn a_bare_port_answers_over_ipv4_and_ipv6() {
    let server = Server::over(listen(":0").unwrap(), LONG);
    let port = server.address.port();
    let mut hosts = vec!["127.0.0.1"];
    if TcpListener::bind("[::1]:0").is_ok() {
        hosts.push("::1");
    }
    for host in hosts {
        let mut stream = connect(SocketAddr::new(host.parse().unwrap(), port));
        assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\n\r\n").body, page().into_bytes(), "{host}");
    }
}

#[test]
fn addresses_that_cannot_be_listened_on_say_why() {
    assert!(listen("localhost:0").is_ok());
    let taken = listen(":0").unwrap().local_addr().unwrap().port();
    let _holder = listen(&format!(":{taken}")).unwrap();
    for (address, why) in [
        (format!(":{taken}"), "the port is in use; choose another with --listen-address"),
        (format!("127.0.0.1:{taken}"), "the port is in use; choose another with --listen-address"),
        ("192.0.2.1:0".into(), "no such address on this host"),
        ("9123".into(), "not an address like :9123, 127.0.0.1:9123"),
        ("no-such-host.invalid:0".into(), "\"no-such-host.invalid\" has no address"),
    ] {
        let error = format!("{:#}", listen(&address).unwrap_err());
        assert!(error.contains(why) && error.contains(&address) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_stop_waits_for_answers_and_for_nothing_else() {
    let server = Server::start(LONG);
    let mut idle = server.connect();
    ask(&mut idle, "GET / HTTP/1.1\r\n\r\n");
    let mut half = server.connect();
    half.write_all(b"GET").unwrap();
    let mut later = server.connect();
    later.write_all(b"GET /later HTTP/1.1\r\n\r\n").unwrap();
    while server.asked.recv_timeout(PATIENCE).unwrap() != "/later" {}
    let start = Instant::now();
    server.stop();
    assert!(start.elapsed() < PATIENCE / 2, "waited for an idle client");
    assert_eq!(read_answer(&mut later, false).body, b"later\n");
    assert_eq!(read_to_end(&mut idle), b"");
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    let server = Server::start(Limits { grace: SHORT, ..LONG });
    let mut never = server.connect();
    never.write_all(b"GET /never HTTP/1.1\r\n\r\n").unwrap();
    server.asked.recv_timeout(PATIENCE).unwrap();
    let start = Instant::now();
    server.stop();
    assert!(start.elapsed() < PATIENCE / 2);
}
