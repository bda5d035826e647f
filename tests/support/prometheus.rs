//! A real Prometheus (Debian's `prometheus` package).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use super::net::Namespace;
use super::{KillOnDrop, eventually, skip};

/// Whether a program of the package is there.
pub fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        skip(&format!("{program} is not installed (Debian: prometheus)"));
    }
    there
}

/// A Prometheus that scrapes one address every second.
pub struct Prometheus<'n> {
    _child: KillOnDrop,
    _dir: TempDir,
    address: SocketAddr,
    namespace: Option<&'n Namespace>,
}

impl Prometheus<'static> {
    pub fn scraping(target: SocketAddr) -> Self {
        Prometheus::start(target, None)
    }
}

impl<'n> Prometheus<'n> {
    /// One in a namespace.
    pub fn within(namespace: &'n Namespace, target: SocketAddr) -> Self {
        Prometheus::start(target, Some(namespace))
    }

    fn start(target: SocketAddr, namespace: Option<&'n Namespace>) -> Self {
        let dir = tempdir().unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs: [{{job_name: ztmon, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        // Another may take the port before Prometheus does: then it ends at once, and gets another one.
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let log = std::fs::File::create(dir.path().join("log")).unwrap();
            let mut command = match namespace {
                Some(namespace) => namespace.command("prometheus"),
                None => Command::new("prometheus"),
            };
            command.arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()));
            command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
            command.arg(format!("--web.listen-address={address}"));
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
            let mut child = KillOnDrop(child);
            let ready = eventually("Prometheus to be ready", || match child.0.try_wait().unwrap() {
                Some(_) => Some(false),
                None => get(namespace, address, "/-/ready")
                    .is_ok_and(|answer| answer.starts_with("HTTP/1.0 200"))
                    .then_some(true),
            });
            if ready {
                return Prometheus { _child: child, _dir: dir, address, namespace };
            }
        }
        panic!("{}", std::fs::read_to_string(dir.path().join("log")).unwrap());
    }

    /// The results of an instant query.
    pub fn query(&self, query: &str) -> Vec<Value> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = get(self.namespace, self.address, &format!("/api/v1/query?query={escaped}")).unwrap();
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
