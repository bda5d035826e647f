//! What an ordinary client gets.

use std::net::Shutdown;

use super::*;

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
    let mut asked: Vec<_> = server.asked.try_iter().collect();
    // What is asked for again at once may be the same answer.
    asked.dedup();
    assert_eq!(asked, ["/", "/nowhere"]);
    server.stop();
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
fn an_idle_connection_is_closed() {
    let server = Server::start(Limits { idle: SHORT, ..LONG });
    let mut stream = server.connect();
    ask(&mut stream, "GET / HTTP/1.1\r\n\r\n");
    assert_eq!(read_to_end(&mut stream), b"");
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
