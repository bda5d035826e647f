//! A real Prometheus, and VictoriaMetrics, which answers to the same queries (Debian's packages `prometheus` and
//! `victoria-metrics`).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use super::net::Namespace;
use super::{Ended, KillOnDrop, eventually, run, skip};

/// Whether a program of the packages is there.
pub fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        let package = if program == "victoria-metrics" { program } else { "prometheus" };
        skip(&format!("{program} is not installed (Debian: {package})"));
    }
    there
}

/// Makes blocks of a file in OpenMetrics.
pub fn create_blocks(openmetrics: &Path, blocks: &Path) -> Ended {
    let command = ["tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=24h"];
    run(Command::new("promtool").args(command).args([openmetrics, blocks]))
}

/// A Prometheus that scrapes one address every second, or none.
pub struct Prometheus<'n> {
    _child: KillOnDrop,
    _dir: TempDir,
    address: SocketAddr,
    namespace: Option<&'n Namespace>,
}

impl Prometheus<'static> {
    pub fn scraping(target: SocketAddr) -> Self {
        Prometheus::start(tempdir().unwrap(), Some(target), None)
    }

    /// One that holds what a file in OpenMetrics has.
    pub fn filled_with(openmetrics: &Path, target: Option<SocketAddr>) -> Self {
        let dir = tempdir().unwrap();
        let ended = create_blocks(openmetrics, &dir.path().join("data"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        Prometheus::start(dir, target, None)
    }

    /// A VictoriaMetrics into which a file in OpenMetrics was imported as it is.
    pub fn victoria_metrics(openmetrics: &str) -> Self {
        let victoria = Prometheus::victoria();
        let (address, len) = (victoria.address, openmetrics.len());
        let head = "POST /api/v1/import/prometheus HTTP/1.0";
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "{head}\r\nHost: {address}\r\nContent-Length: {len}\r\n\r\n{openmetrics}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 204 "), "{answer}");
        get(None, address, "/internal/force_flush").unwrap();
        victoria
    }
}

impl<'n> Prometheus<'n> {
    /// One in a namespace.
    pub fn within(namespace: &'n Namespace, target: SocketAddr) -> Self {
        Prometheus::start(tempdir().unwrap(), Some(target), Some(namespace))
    }

    fn start(dir: TempDir, target: Option<SocketAddr>, namespace: Option<&'n Namespace>) -> Self {
        let targets = target.map(|target| format!("'{target}'")).unwrap_or_default();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs: [{{job_name: ztmon, static_configs: [{{targets: [{targets}]}}]}}]\n"
        );
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        Prometheus::listening(dir, namespace, "/-/ready", |dir, address| {
            let mut command = match namespace {
                Some(namespace) => namespace.command("prometheus"),
                None => Command::new("prometheus"),
            };
            command.arg(format!("--config.file={}", dir.join("prometheus.yml").display()));
            command.arg(format!("--storage.tsdb.path={}", dir.join("data").display()));
            // What it was filled with is old.
            command.arg("--storage.tsdb.retention.time=100y");
            command.arg(format!("--web.listen-address={address}"));
            command
        })
    }

    fn victoria() -> Self {
        Prometheus::listening(tempdir().unwrap(), None, "/health", |dir, address| {
            let mut command = Command::new("victoria-metrics");
            command.arg(format!("-storageDataPath={}", dir.join("data").display()));
            command.args(["-retentionPeriod=100y", "-memory.allowedPercent=10"]);
            command.arg(format!("-httpListenAddr={address}"));
            command
        })
    }

    fn listening(
        dir: TempDir,
        namespace: Option<&'n Namespace>,
        ready: &str,
        command: impl Fn(&Path, SocketAddr) -> Command,
    ) -> Self {
        // Another may take the port before this one does: then it ends at once, and gets another one.
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let log = std::fs::File::create(dir.path().join("log")).unwrap();
            let mut command = command(dir.path(), address);
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
            let mut child = KillOnDrop(child);
            let is_ready = eventually(&format!("{command:?} to be ready"), || match child.0.try_wait().unwrap() {
                Some(_) => Some(false),
                None => get(namespace, address, ready)
                    .is_ok_and(|answer| answer.lines().next().is_some_and(|line| line.contains(" 200 ")))
                    .then_some(true),
            });
            if is_ready {
                return Prometheus { _child: child, _dir: dir, address, namespace };
            }
        }
        panic!("{}", std::fs::read_to_string(dir.path().join("log")).unwrap());
    }

    /// The results of an instant query.
    pub fn query(&self, query: &str) -> Vec<Value> {
        self.ask(query, "")
    }

    /// The same as of a time, in seconds since the epoch.
    pub fn query_at(&self, query: &str, time: i64) -> Vec<Value> {
        self.ask(query, &format!("&time={time}"))
    }

    fn ask(&self, query: &str, more: &str) -> Vec<Value> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = get(self.namespace, self.address, &format!("/api/v1/query?query={escaped}{more}")).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["status"], "success", "{query}: {body}");
        serde_json::from_value(body["data"]["result"].take()).unwrap()
    }

    /// The one value that a query gives, if it gives any yet.
    pub fn number(&self, query: &str) -> Option<f64> {
        match &*self.query(query) {
            [] => None,
            [one] => Some(one["value"][1].as_str().unwrap().parse().unwrap()),
            more => panic!("{query}: {more:?}"),
        }
    }

    pub fn wait_for(&self, query: &str, value: f64) {
        eventually(&format!("{query} to be {value}"), || (self.number(query) == Some(value)).then_some(()));
    }

    /// The values of a series that were scraped in the last `range`, and when.
    pub fn scraped(&self, series: &str, range: &str) -> Vec<(f64, f64)> {
        let results = self.query(&format!("{series}[{range}]"));
        assert_eq!(results.len(), 1, "{results:?}");
        let values = results[0]["values"].as_array().unwrap().iter();
        values.map(|pair| (pair[0].as_f64().unwrap(), pair[1].as_str().unwrap().parse().unwrap())).collect()
    }
}

/// HTTP/1.0, so that the answer is not in chunks.
fn get(namespace: Option<&Namespace>, address: SocketAddr, path: &str) -> std::io::Result<String> {
    let get = || {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match namespace {
        Some(namespace) => namespace.run(get),
        None => get(),
    }
}
