//! What a hostile client does not get.

use std::io::{BufRead, BufReader};
use std::net::Shutdown;
use std::process::{Command, Stdio};

use super::*;

#[test]
fn a_body_that_never_ends_is_not_waited_for() {
    let server = Server::start(LONG);
    let mut stream = server.connect();
    let refused = ask(&mut stream, "POST / HTTP/1.1\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n");
    assert!(refused.head.starts_with("http/1.1 405 "), "{}", refused.head);
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
    // Not the same one, which would be shared.
    let answer = ask(&mut server.connect(), "GET /large/too HTTP/1.1\r\n\r\n");
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
        .args(["-c", r#"ulimit -n 32; exec "$0" --exact web::tests::hostile::serve_as_child --nocapture"#])
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
