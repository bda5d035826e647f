//! What the tests of `serve` share: the real program, captures, namespaces, and what it all says in numbers.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod net;
pub mod numbers;
pub mod pcap;
pub mod prometheus;
pub mod serve;
pub mod server;
#[cfg(feature = "live")]
pub mod wire;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes: only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The observer of the captures in `testdata/real`.
pub const OBSERVER: &str = "e2:53:1a:4b:b7:7c";

/// A capture from a real network.
pub fn real(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/real").join(name)
}

/// The program under test.
pub fn ztmon() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ztmon"));
    command.env_remove("ZTMON_DB");
    command
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The one line of an error that stopped everything: exit code 2 and nothing printed.
    pub fn refusal(&self) -> &str {
        assert_eq!((self.code, self.stdout.as_str()), (Some(2), ""), "{self:?}");
        let line = self.stderr.strip_suffix('\n').unwrap_or_else(|| panic!("no line: {self:?}"));
        assert!(line.starts_with("ztmon: ") && !line.contains('\n'), "{self:?}");
        line
    }
}

/// Runs a program that is to end by itself.
pub fn run(command: &mut Command) -> Ended {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut child = KillOnDrop(child);
    let (stdout, stderr) = (read(child.0.stdout.take().unwrap()), read(child.0.stderr.take().unwrap()));
    let status = eventually(&format!("the end of {command:?}"), || child.0.try_wait().unwrap());
    Ended { code: status.code(), stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

fn read(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    })
}

/// A program that does not outlive its test.
pub struct KillOnDrop(pub Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Waits until `there` gives something.
pub fn eventually<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(it) = there() {
            return it;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Says that a test cannot run here, and why. Where everything has to be there, that is a failure.
pub fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot be tested: {why}");
    eprintln!("SKIPPED: {why}");
}
