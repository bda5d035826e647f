//! A running `ztmon serve`.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::net::Namespace;
use super::numbers::{Metrics, Total};
use super::{Ended, KillOnDrop, eventually, ztmon};

/// A `serve` to be started.
pub struct Setup<'n> {
    command: Command,
    listen: String,
    namespace: Option<&'n Namespace>,
}

/// A `serve` that was seen to serve. It is killed when dropped.
pub struct Serve<'n> {
    child: KillOnDrop,
    address: SocketAddr,
    namespace: Option<&'n Namespace>,
    log: Log,
    /// Ends with the log.
    logging: JoinHandle<()>,
    stdout: JoinHandle<String>,
}

/// What it says on standard error. Shown when a test fails.
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("serve said: {:#?}", self.lines());
        }
    }
}

impl Setup<'static> {
    /// On this database.
    pub fn new(db: &Path) -> Self {
        Setup::by(ztmon(), None, db)
    }
}

impl<'n> Setup<'n> {
    /// In a namespace, on this database.
    pub fn within(namespace: &'n Namespace, db: &Path) -> Self {
        Setup::by(namespace.command(env!("CARGO_BIN_EXE_ztmon")), Some(namespace), db)
    }

    /// By a command that becomes ztmon, and that lacks its arguments.
    pub fn by(mut command: Command, namespace: Option<&'n Namespace>, db: &Path) -> Self {
        command.args(["serve", "--db"]).arg(db);
        Setup { command, listen: "127.0.0.1:0".to_owned(), namespace }
    }

    /// In an environment with this in it.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// A capture in place of a device, and how fast to play it.
    pub fn source(self, file: &Path, speed: &str) -> Self {
        self.args([OsStr::new("--source"), file.as_os_str(), OsStr::new("--speed"), OsStr::new(speed)])
    }

    /// Where to listen, if not on any free port.
    pub fn listen(mut self, address: impl ToString) -> Self {
        self.listen = address.to_string();
        self
    }

    /// The command, for a `serve` that is not to come up.
    pub fn command(mut self) -> Command {
        self.command.args(["--listen-address", &self.listen]);
        self.command
    }

    /// Starts it and waits until it serves.
    pub fn start(self) -> Serve<'n> {
        let namespace = self.namespace;
        let mut command = self.command();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut child = KillOnDrop(child);
        let stdout = super::read(child.0.stdout.take().unwrap());
        let stderr = BufReader::new(child.0.stderr.take().unwrap());
        let log = Log(Arc::default());
        let lines = Arc::clone(&log.0);
        let logging = thread::spawn(move || stderr.lines().for_each(|line| lines.lock().unwrap().push(line.unwrap())));
        let address = eventually("serve to serve", || {
            if let Some(status) = child.0.try_wait().unwrap() {
                panic!("serve ended with {status}");
            }
            log.lines().iter().find_map(|line| Some(line.split_once("http://")?.1.split_once('/')?.0.to_owned()))
        });
        Serve { child, address: address.parse().unwrap(), namespace, log, logging, stdout }
    }
}

impl Serve<'_> {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// A number of its /proc/PID/status.
    pub fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// The log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// How many lines of the log have this in them.
    pub fn logged(&self, text: &str) -> usize {
        self.log().iter().filter(|line| line.contains(text)).count()
    }

    /// Waits for the `times`th line of the log with this in it.
    pub fn wait_for_log(&self, text: &str, times: usize) -> String {
        eventually(&format!("{text:?} in the log, {times} times"), || {
            self.log().into_iter().filter(|line| line.contains(text)).nth(times - 1)
        })
    }

    /// Status and body of the answer to a request.
    pub fn request(&self, method: &str, path: &str) -> (u16, String) {
        let ask = || ask(self.address, method, path);
        let answer = match self.namespace {
            Some(namespace) => namespace.run(ask),
            None => ask(),
        };
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub fn scrape(&self) -> Metrics {
        let (status, body) = self.request("GET", "/metrics");
        assert_eq!(status, 200, "{body}");
        Metrics::parse(&body)
    }

    /// Scrapes until so many frames have arrived and all that they count for is committed. `before` is what the
    /// database held when this process started.
    pub fn scrape_at(&self, frames: u64, before: Total) -> Metrics {
        eventually(&format!("{frames} frames"), || {
            let metrics = self.scrape();
            let arrived = metrics.sum("ztmon_frames_total");
            assert!(arrived <= frames, "{arrived} frames, and only {frames} were sent");
            let counted = metrics.sum_where("ztmon_frames_total", "outcome", "counted");
            let shown = metrics.totals().sum().sent_packets.saturating_sub(before.sent_packets);
            (arrived == frames && shown == counted).then_some(metrics)
        })
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.0.id() as i32).unwrap(), signal).unwrap();
    }

    /// Waits for its end.
    pub fn end(self) -> Ended {
        let Serve { mut child, log, logging, stdout, .. } = self;
        let status = eventually("the end of serve", || child.0.try_wait().unwrap());
        logging.join().unwrap();
        let stderr = log.lines().join("\n");
        Ended { code: status.code(), stdout: stdout.join().unwrap(), stderr }
    }

    /// Stops it the way systemd does; it has to end well.
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        let ended = self.end();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
        ended
    }
}

/// Status and body of the answer to a request, if there is a whole one.
pub fn ask(address: SocketAddr, method: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: ztmon\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(cut)?;
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    if method != "HEAD" && len != Some(&body.len().to_string()) {
        return Err(cut());
    }
    Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
}
