//! Asking another server: one GET, one answer, within a time and a size.
//!
//! HTTP/1.0, so that the answer comes in one piece. Blocking: for a thread that nobody waits for.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Bytes of an answer's head that are read.
const MAX_HEAD: usize = 16 << 10;

/// Bytes of an answer's body that are read.
const MAX_BODY: usize = 16 << 20;

/// Where to ask: a server, and the path that all questions begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

impl Url {
    /// The server's name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The server's TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What paths begin with: empty, or with a slash in front and none at the end.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let wrong = || "give a URL like http://127.0.0.1:9993 or https://api.zerotier.com/api/v1".to_owned();
        let (scheme, rest) = s.split_once("://").ok_or_else(wrong)?;
        let (tls, standard) = match scheme {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err(wrong()),
        };
        let plain = rest.bytes().all(|c| c.is_ascii_graphic()) && !rest.contains(['@', '?', '#']);
        let (server, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (server, standard),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if !plain || host.is_empty() || port == 0 {
            return Err(wrong());
        }
        Ok(Url { tls, host: host.to_owned(), port, path: path.trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Url { tls, host, port, path } = self;
        let scheme = if *tls { "https" } else { "http" };
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{host}{close}:{port}{path}")
    }
}

/// What a server said.
#[derive(Debug)]
pub struct Answer {
    /// 200 if it has what was asked for.
    pub status: u16,
    /// As it came.
    pub body: Vec<u8>,
}

/// Who asks one server.
pub struct Client {
    url: Url,
    tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
}

impl Client {
    /// For a server. Reads from the system which authorities are trusted, if that matters.
    ///
    /// # Errors
    /// If there are none.
    pub fn new(url: Url) -> io::Result<Self> {
        let tls = if url.tls { Some((server_name(&url)?, trust()?)) } else { None };
        Ok(Client { url, tls })
    }

    /// Where it asks.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Asks for `path` at the server, with one more header. Nothing of what was asked is in an error.
    ///
    /// # Errors
    /// If there is no whole answer within `time`, or it is too large.
    pub fn get(&self, path: &str, header: (&str, &str), time: Duration) -> io::Result<Answer> {
        let until = Instant::now() + time;
        let stream = Timed { stream: connect(&self.url, until)?, until };
        match &self.tls {
            None => converse(stream, &self.url.host, path, header),
            Some((name, config)) => {
                let connection = ClientConnection::new(Arc::clone(config), name.clone());
                let connection = connection.map_err(|error| failure(&format!("TLS: {error}")))?;
                converse(StreamOwned::new(connection, stream), &self.url.host, path, header)
            }
        }
    }
}

fn server_name(url: &Url) -> io::Result<ServerName<'static>> {
    ServerName::try_from(url.host.clone()).map_err(|_| failure(&format!("'{}' is no name of a server", url.host)))
}

/// Trusts whom the system trusts.
fn trust() -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(failure("this system has no certificates of authorities to trust: install ca-certificates"));
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

/// The question and the answer.
fn converse(
    mut stream: impl Read + Write,
    host: &str,
    path: &str,
    (header, value): (&str, &str),
) -> io::Result<Answer> {
    let question = format!(
        "GET {path} HTTP/1.0\r\nHost: {}\r\nUser-Agent: ztmon/{}\r\nAccept: application/json\r\n{header}: {value}\r\n\
         Connection: close\r\n\r\n",
        host,
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all(question.as_bytes())?;
    stream.flush()?;
    let mut bytes = Vec::new();
    let mut part = [0; 16 << 10];
    loop {
        let head = Head::of(&bytes)?;
        let wanted = head.as_ref().and_then(|head| Some(head.bytes + head.content_length?));
        if let Some(head) = head.as_ref().filter(|_| wanted.is_some_and(|wanted| bytes.len() >= wanted)) {
            bytes.truncate(wanted.unwrap_or(bytes.len()));
            return Ok(Answer { status: head.status, body: bytes.split_off(head.bytes) });
        }
        let read = match stream.read(&mut part) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        match head {
            // Without a length the end of the connection is that of the answer.
            Some(head) if read == 0 && head.content_length.is_none() => {
                return Ok(Answer { status: head.status, body: bytes.split_off(head.bytes) });
            }
            _ if read == 0 => return Err(failure("the answer ends before its end")),
            _ => bytes.extend_from_slice(&part[..read]),
        }
    }
}

fn failure(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Connects to the first of the server's addresses that lets us.
fn connect(url: &Url, until: Instant) -> io::Result<TcpStream> {
    let mut last = None;
    for address in (url.host.as_str(), url.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(until)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| failure("the server has no address")))
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A connection that is cut off at some time, however often something comes.
struct Timed {
    stream: TcpStream,
    until: Instant,
}

impl Read for Timed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.until)?))?;
        self.stream.read(bytes).map_err(in_time)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.until)?))?;
        self.stream.write(bytes).map_err(in_time)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// What some systems call it when the time is over.
fn in_time(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

/// What comes before the body.
struct Head {
    status: u16,
    content_length: Option<usize>,
    /// Its own length.
    bytes: usize,
}

impl Head {
    /// None while it is not whole.
    fn of(answer: &[u8]) -> io::Result<Option<Head>> {
        let end = answer.windows(4).take(MAX_HEAD).position(|bytes| bytes == b"\r\n\r\n");
        let Some(end) = end else {
            return if answer.len() > MAX_HEAD { Err(failure("the answer is no HTTP")) } else { Ok(None) };
        };
        let text = String::from_utf8_lossy(&answer[..end]);
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
        let status = words.next().and_then(|status| status.parse().ok()).filter(|_| is_http);
        let mut head = Head {
            status: status.ok_or_else(|| failure("the answer is no HTTP"))?,
            content_length: None,
            bytes: end + 4,
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                let length = value.trim().parse().map_err(|_| failure("the answer is no HTTP"))?;
                head.content_length = Some(length);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(failure("the answer comes in chunks, which were not asked for"));
            }
        }
        let length = head.content_length.unwrap_or(0).max(answer.len() - head.bytes);
        if length > MAX_BODY { Err(failure("the answer is too large")) } else { Ok(Some(head)) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Asks a server that answers with these pieces and then closes, or waits for the client to.
    fn ask(pieces: &'static [&'static str], closes: bool, time: Duration) -> io::Result<Answer> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url: Url = format!("http://{}/base/", listener.local_addr().unwrap()).parse().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = Vec::new();
            while !question.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                question.push(byte[0]);
            }
            for piece in pieces {
                stream.write_all(piece.as_bytes()).unwrap();
            }
            if !closes {
                stream.read_to_end(&mut question).ok();
            }
            String::from_utf8(question).unwrap()
        });
        let path = format!("{}/x", url.path());
        let answer = Client::new(url).unwrap().get(&path, ("X-Token", "secret"), time);
        let question = server.join().unwrap();
        assert!(question.starts_with("GET /base/x HTTP/1.0\r\n") && question.contains("\r\nX-Token: secret\r\n"));
        answer
    }

    #[test]
    fn an_answer_is_whole_or_none() {
        let whole = |pieces, closes| {
            let answer = ask(pieces, closes, PATIENCE).unwrap();
            (answer.status, String::from_utf8(answer.body).unwrap())
        };
        assert_eq!(whole(&["HTTP/1.0 200 OK\r\n\r\n", "{", "}"], true), (200, "{}".to_owned()));
        assert_eq!(
            whole(&["HTTP/1.1 404 Not Found\r\nContent-", "Length: 2\r\n\r\nno and more"], false),
            (404, "no".into())
        );
        assert_eq!(whole(&["HTTP/1.1 204 Nothing\r\ncontent-length: 0\r\n\r\n"], false), (204, String::new()));
        for pieces in [
            &["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"half\":"][..],
            &["HTTP/1.1 200 OK\r\nContent-Le"],
            &[],
            &["SSH-2.0-server\r\n\r\n"],
            &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
            &["HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"],
            &["HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"],
        ] {
            let error = ask(pieces, true, PATIENCE).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_server_that_dawdles_is_left() {
        for pieces in [&[][..], &["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1"]] {
            let error = ask(pieces, false, Duration::from_millis(50)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        }
    }

    #[test]
    fn urls_read_as_they_print() {
        for (text, shown) in [
            ("http://127.0.0.1:9993", "http://127.0.0.1:9993"),
            ("http://controller.example/", "http://controller.example:80"),
            ("http://[::1]:8080/api/v1/", "http://[::1]:8080/api/v1"),
            ("https://[::1]", "https://[::1]:443"),
            ("https://api.zerotier.com/api/v1", "https://api.zerotier.com:443/api/v1"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(shown.parse(), Ok(url));
        }
        for bad in [
            "",
            "127.0.0.1:9993",
            "ftp://x",
            "http://",
            "http://:80",
            "http://a:b",
            "http://a:0",
            "http://u@a",
            "http://a/\r\nb",
        ] {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
    }
}
