//! Clients that `ztmon serve` must not trust, against the real program.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use support::pcap::{Capture, Packet, SECOND};
use support::serve::{Serve, Setup};
use support::{eventually, real};
use tempfile::{TempDir, tempdir};

/// Longer than any answer takes: only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A `serve` that has counted what is in a capture.
fn serve(capture: &Path) -> (Serve<'static>, TempDir) {
    let dir = tempdir().unwrap();
    let serve = Setup::new(&dir.path().join("ztmon.db")).source(capture, "max").start();
    serve.wait_for_log("all there are", 1);
    (serve, dir)
}

/// Lets this process have as many descriptors as it may; how many those are.
fn all_descriptors() -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.map_or(usize::MAX, |maximum| maximum as usize)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends bytes and reads all that comes until the other end closes. It may close before it has read all.
fn converse(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(request).ok();
    stream.shutdown(Shutdown::Write).ok();
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "still open: {error}");
    }
    answer
}

/// Reads an answer and leaves what comes behind it: its head in lower case, and the body.
fn read_answer(stream: &mut BufReader<TcpStream>, is_head: bool) -> (String, Vec<u8>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "{head}");
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; if is_head { 0 } else { length }];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

fn assert_serves(serve: &Serve) {
    assert!(serve.scrape().has("ztmon_build_info"));
}

#[test]
fn every_request_has_its_answer() {
    let (serve, _dir) = serve(&real("tee-both.pcap"));
    let many = |count: usize| "A: b\r\n".repeat(count);
    let long = |count: usize| "a".repeat(count);
    for (request, expected) in [
        ("GET /metrics HTTP/1.1\r\n\r\n".to_owned(), "200"),
        ("GET /metrics HTTP/1.0\r\n\r\n".to_owned(), "200"),
        ("GET /metrics?name[]=up&x=%00 HTTP/1.1\r\n\r\n".to_owned(), "200"),
        ("GET http://elsewhere:1/metrics HTTP/1.1\r\nHost: here\r\n\r\n".to_owned(), "200"),
        ("\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n".to_owned(), "200"),
        (format!("GET /metrics HTTP/1.1\r\n{}\r\n", many(64)), "200"),
        ("GET /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello".to_owned(), "200"),
        ("GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(), "200"),
        ("GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno chunk".to_owned(), "200"),
        ("GET /metrics/ HTTP/1.1\r\n\r\n".to_owned(), "404"),
        ("GET //metrics HTTP/1.1\r\n\r\n".to_owned(), "404"),
        ("GET /%6detrics HTTP/1.1\r\n\r\n".to_owned(), "404"),
        ("GET /../../etc/passwd HTTP/1.1\r\n\r\n".to_owned(), "404"),
        ("GET * HTTP/1.1\r\n\r\n".to_owned(), "404"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi".to_owned(), "405"),
        ("DELETE / HTTP/1.1\r\n\r\n".to_owned(), "405"),
        ("TRACE / HTTP/1.1\r\n\r\n".to_owned(), "405"),
        ("OPTIONS * HTTP/1.1\r\n\r\n".to_owned(), "405"),
        ("CONNECT elsewhere:443 HTTP/1.1\r\n\r\n".to_owned(), "405"),
        ("get / HTTP/1.1\r\n\r\n".to_owned(), "405"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", long(2047)), "404"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", long(2048)), "414"),
        (format!("GET /metrics HTTP/1.1\r\nA: {}\r\n\r\n", long(20_000)), "431"),
        (format!("GET /metrics HTTP/1.1\r\n{}\r\n", many(65)), "431"),
        (format!("GET /metrics HTTP/1.1\r\n{}\r\n", many(100_000)), "431"),
        ("GET /metrics HTTP/1.1\r\nA: \0\r\n\r\n".to_owned(), "400"),
        ("GET /\0 HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("\x16\x03\x01\x02\0\x01\0\x01\u{7c}\x03\x03".to_owned(), "400"),
        ("hello\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = converse(serve.address(), request.as_bytes());
        let answer = String::from_utf8_lossy(&answer);
        let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
        let shown = request.get(..80).unwrap_or(&request);
        assert_eq!(head.split(' ').nth(1), Some(expected), "{shown:?}: {head}");
        assert_eq!(head.contains("\r\nallow: get, head"), expected == "405", "{shown:?}: {head}");
        assert_eq!(answer.contains("\nztmon_build_info"), expected == "200", "{shown:?}");
    }
    serve.stop();
}

#[test]
fn one_connection_serves_many_requests() {
    let (serve, _dir) = serve(&real("tee-both.pcap"));
    let mut stream = BufReader::new(connect(serve.address()));
    // All at once, and answered in turn: a HEAD has the length of the page and no body, or the next would not parse.
    let requests = "GET /-/healthy HTTP/1.1\r\n\r\nHEAD /-/healthy HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n".repeat(100);
    stream.get_mut().write_all(requests.as_bytes()).unwrap();
    for _ in 0..100 {
        let (get, body) = read_answer(&mut stream, false);
        let (head, nothing) = read_answer(&mut stream, true);
        assert_eq!((&*body, &*nothing), (&b"ztmon is running\n"[..], &b""[..]));
        let lines = |head: &str| head.lines().filter(|line| !line.starts_with("date")).collect::<String>();
        assert_eq!(lines(&get), lines(&head));
        assert!(read_answer(&mut stream, false).1.starts_with(b"<!doctype html>"));
    }
    stream.get_mut().write_all(b"HEAD /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap();
    let (head, _) = read_answer(&mut stream, true);
    assert!(head.starts_with("http/1.0 200 ") && head.contains("connection: keep-alive"), "{head}");
    stream.get_mut().write_all(b"GET /-/ready HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    assert!(read_answer(&mut stream, false).0.contains("connection: close"));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    serve.stop();
}

#[test]
fn no_bytes_bring_it_down() {
    let (serve, _dir) = serve(&real("tee-both.pcap"));
    let request = b"GET /metrics?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    let mut seed = 1_u32;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % below
    };
    for _ in 0..1000 {
        let mut bytes = request.to_vec();
        for _ in 0..=random(8) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes.truncate(at + 1),
                2 => bytes.insert(at, [0, b'\r', b'\n', b' ', b':', 0xff][random(6)]),
                _ => bytes.extend_from_within(at..),
            }
        }
        converse(serve.address(), &bytes);
    }
    assert_serves(&serve);
    assert!(serve.log().iter().all(|line| !line.contains("panic")), "{:?}", serve.log());
    serve.stop();
}

#[test]
fn a_thousand_clients_that_send_a_byte_a_second_hold_up_no_scrape() {
    all_descriptors();
    let (serve, _dir) = serve(&real("tee-both.pcap"));
    let mut slow: Vec<TcpStream> = Vec::new();
    let mut longest = Duration::ZERO;
    for _ in 0..7 {
        let second = Instant::now();
        // One that was dropped comes back.
        slow.retain_mut(|stream| stream.write_all(b"G").is_ok());
        slow.resize_with(1000, || connect(serve.address()));
        while second.elapsed() < Duration::from_secs(1) {
            let start = Instant::now();
            assert_serves(&serve);
            longest = longest.max(start.elapsed());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    println!("the longest scrape took {longest:?}");
    assert!(longest < PATIENCE / 4, "{longest:?}");
    serve.stop();
}

#[test]
fn ten_thousand_connections_are_taken_and_given_back() {
    // The other end of each is the server's, and other tests take some.
    let at_once = all_descriptors().saturating_sub(2500).min(10_000);
    let (serve, _dir) = serve(&real("tee-both.pcap"));
    assert_serves(&serve);
    let (descriptors, memory) = (serve.descriptors(), serve.status("VmHWM"));

    // In turn, each with a request or with half of one.
    for number in 0..10_000 {
        let mut stream = connect(serve.address());
        if number % 2 == 0 {
            stream.write_all(b"GET /-/healthy HTTP/1.1\r\n\r\n").unwrap();
            stream.read_exact(&mut [0]).unwrap();
        } else {
            stream.write_all(b"GET /").unwrap();
        }
    }
    assert_serves(&serve);

    // And all at once.
    let mut all = Vec::new();
    for number in 0..at_once {
        all.push(connect(serve.address()));
        if number % 1000 == 0 {
            assert_serves(&serve);
        }
    }
    assert_serves(&serve);
    assert!(serve.descriptors() < descriptors + 600, "{}", serve.descriptors());
    drop(all);
    eventually("the descriptors to be given back", || (serve.descriptors() <= descriptors).then_some(()));
    let grown = serve.status("VmHWM") - memory;
    println!("{at_once} at once; {grown} kB more memory at most");
    assert!(grown < 64 * 1024, "{grown} kB");
    serve.stop();
}

#[test]
fn readers_that_take_nothing_cost_little() {
    all_descriptors();
    let dir = tempdir().unwrap();
    let source = dir.path().join("many.pcap");
    let mut capture = Capture::default();
    for number in 0..10_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        capture.add_teed(SECOND, &Packet { src: [10, a + 1, b, c], dst: [10, 0, 0, 1], len: 100, number });
    }
    capture.write(&source);
    let (serve, _dir) = serve(&source);
    let page = eventually("a long page", || {
        let page = serve.request("GET", "/metrics").1;
        (page.lines().filter(|line| line.starts_with("zerotier_host_sent_bytes_total{")).count() >= 10_000)
            .then_some(page.len())
    });
    let readers: Vec<_> = (0..1000)
        .map(|_| {
            let mut stream = connect(serve.address());
            stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").ok();
            stream
        })
        .collect();
    for _ in 0..5 {
        assert!(serve.request("GET", "/metrics").1.len() > page - 1000);
    }
    let most = serve.status("VmHWM");
    println!("{most} kB at most");
    assert!(most < 400 * 1024, "{most} kB");
    drop(readers);
    serve.stop();
}

#[test]
fn out_of_descriptors_it_neither_spins_nor_ends() {
    let (serve, _dir) = serve(&real("tee-both.pcap"));
    let allow = |descriptors| {
        let limit = Rlimit { current: Some(descriptors), maximum: Some(1000) };
        prlimit(Pid::from_raw(serve.pid() as i32), Resource::Nofile, limit).unwrap();
    };
    let silent: Vec<_> = (0..20).map(|_| connect(serve.address())).collect();
    eventually("the silent clients to be taken in", || (serve.descriptors() > 20).then_some(()));
    // Room for some, and for no more than there are: those who are silent make room.
    allow(30);
    let more: Vec<_> = (0..100).map(|_| connect(serve.address())).collect();
    assert_serves(&serve);
    drop((silent, more));

    // Nothing can make room.
    allow(3);
    let waiting = connect(serve.address());
    let before = processor_time(&serve);
    std::thread::sleep(Duration::from_secs(2));
    let spent = processor_time(&serve) - before;
    assert!(spent < 50, "{spent} hundredths of a second of processor time in two seconds");
    allow(1000);
    drop(waiting);
    assert_serves(&serve);
    serve.stop();
}

/// In hundredths of a second.
fn processor_time(serve: &Serve) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", serve.pid())).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
