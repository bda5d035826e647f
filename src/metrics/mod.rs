//! What `/metrics` shows: every name is in this module, in the Prometheus text format 0.0.4.
//!
//! The clients' counters are written directly, as exact integers: there may be very many of them, and the prometheus
//! crate would print them through `f64`. Everything about the process itself goes through the crate.

mod clients;
mod lines;
mod members;
pub mod openmetrics;
mod quotas;

use std::collections::BTreeMap;
use std::fmt::Write;

use prometheus::core::Collector;
use prometheus::{Gauge, GaugeVec, IntCounterVec, Opts, Registry, TextEncoder};

use crate::frame::Statistics;
use crate::meter::Stats;
use crate::plain;
use crate::time::Timestamp;
use crate::traffic::{End, Outcome};

use clients::Counters;
pub use clients::{Clients, Listing, Uptime};
use lines::{ABOUT_HOST_INFO, HOST_INFO, Lines};
pub use members::{Carried, Own};
pub use quotas::Quota;

/// The content type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything about one network, or one device while its network is unknown.
#[derive(Debug, Default)]
pub struct Network {
    /// 16 hex digits, the device's name, or empty for a capture file.
    pub name: String,
    /// What is committed.
    pub clients: Clients,
}

/// What the process has seen on one device, or in one file, since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// By the meter.
    pub stats: Stats,
    /// By libpcap.
    pub capture: Statistics,
    /// Whether frames can arrive now.
    pub up: bool,
}

impl Process {
    /// Whether it has seen more than the other.
    pub fn is_ahead_of(&self, other: &Process) -> bool {
        self.stats.outcomes.frames() > other.stats.outcomes.frames()
    }

    /// Of two devices of one network.
    pub fn plus(&self, other: &Process) -> Process {
        Process {
            stats: self.stats.plus(&other.stats),
            capture: self.capture.plus(other.capture),
            up: self.up || other.up,
        }
    }
}

/// Everything that `/metrics` shows.
#[derive(Debug)]
pub struct Board {
    /// The networks, by name.
    pub networks: Vec<Network>,
    /// By feed: the name of its network, and what it has seen.
    pub processes: BTreeMap<usize, (String, Process)>,
    /// Which of their clients are shown.
    pub listing: Listing,
    /// How quotas stand by what is committed.
    pub quotas: Vec<Quota>,
    /// The last commit of this process.
    pub last_commit: Option<Timestamp>,
    /// Whether commits succeed, and do not take too long.
    pub store_up: bool,
    /// IP bytes that were counted and are not committed.
    pub uncommitted_bytes: u64,
}

/// The value of one direction and unit.
type Column = fn(&Counters) -> u64;

/// The counters of clients and of other ends: name, what is counted, whose, and the value.
const COUNTERS: [(&str, &str, &str, Column); 4] = [
    ("received_bytes", "Bytes of IP packets", "receiver", |counters| counters.received_bytes),
    ("sent_bytes", "Bytes of IP packets", "sender", |counters| counters.sent_bytes),
    ("received_packets", "IP packets", "receiver", |counters| counters.received_packets),
    ("sent_packets", "IP packets", "sender", |counters| counters.sent_packets),
];

/// The families of members: name, help, type, and the value; without one it is 1.
#[allow(clippy::type_complexity)]
const MEMBERS: [(&str, &str, &str, Option<fn(&Own) -> u64>); 3] = [
    (
        "zerotier_member_sent_bytes_total",
        "Bytes of IP packets that the member sent from addresses of its own.",
        "counter",
        Some(|own| own.sent_bytes),
    ),
    (
        "zerotier_member_received_bytes_total",
        "Bytes of IP packets addressed to the member's own addresses.",
        "counter",
        Some(|own| own.received_bytes),
    ),
    ("zerotier_member_info", "The member's name; always 1.", "gauge", None),
];

/// Who else may be at the end of a packet.
const OTHER_ENDS: [End; 3] = [End::External, End::Multicast, End::Other];

impl Board {
    /// Without any network.
    pub fn new(listing: Listing) -> Self {
        Board {
            networks: Vec::new(),
            processes: BTreeMap::new(),
            listing,
            quotas: Vec::new(),
            last_commit: None,
            store_up: true,
            uncommitted_bytes: 0,
        }
    }

    /// Takes idle clients off, whichever network they are in, where others may need their places. To be called before
    /// a commit's clients are [admitted](Clients::admit).
    pub fn make_room(&mut self, now: Uptime) {
        if self.listing.needs_room(now) {
            self.networks.iter_mut().for_each(|network| network.clients.sweep(&mut self.listing, now));
        }
    }

    /// The page as of now.
    pub fn render(&self, now: Uptime) -> String {
        let mut page = String::new();
        self.render_into(&mut page, now);
        page
    }

    /// The page as of now in place of another one, whose memory it takes: to have so much from the system each time
    /// would cost more than to fill it.
    pub fn render_into(&self, page: &mut String, now: Uptime) {
        page.clear();
        self.clients(page, now);
        self.members(page);
        // Writing to a string cannot fail.
        self.other_ends(page).ok();
        quotas::write(page, &self.quotas).ok();
        if let Ok(rest) = self.process() {
            page.push_str(&rest);
        }
    }

    fn clients(&self, page: &mut String, now: Uptime) {
        let lines = self.loaded().map(|network| Lines::of(network, &self.network_label(network), &self.listing, now));
        let lines: Vec<Lines> = lines.collect();
        let heads = COUNTERS.map(|(name, what, role, _)| {
            let name = format!("zerotier_host_{name}_total");
            let help = format!("# HELP {name} {}\n# TYPE {name} counter\n", about_client(what, role));
            (help, format!("{name}{{addr=\""))
        });
        // At once: a page that grows is copied again and again.
        let families = heads.iter().flat_map(|(_, begin)| lines.iter().map(|lines| lines.max_bytes(begin)));
        let infos = lines.iter().map(|lines| lines.infos.len());
        page.reserve(families.chain(infos).sum());
        for ((help, begin), (.., value)) in heads.iter().zip(COUNTERS) {
            page.push_str(help);
            lines.iter().for_each(|lines| lines.write(page, begin, value));
        }
        page.push_str(&head(HOST_INFO, ABOUT_HOST_INFO, "gauge"));
        lines.iter().for_each(|lines| page.push_str(&lines.infos));
    }

    fn members(&self, page: &mut String) {
        for (name, help, kind, value) in MEMBERS {
            page.push_str(&head(name, help, kind));
            for network in self.loaded() {
                network.clients.roll.write(page, name, &self.network_label(network), value);
            }
        }
    }

    fn other_ends(&self, page: &mut String) -> std::fmt::Result {
        for (name, what, role, value) in COUNTERS {
            let name = format!("zerotier_other_end_{name}_total");
            writeln!(page, "# HELP {name} {}\n# TYPE {name} counter", about_other_end(what, role))?;
            for network in self.loaded() {
                let label = self.network_label(network);
                for end in OTHER_ENDS {
                    writeln!(page, "{name}{{end=\"{end}\"{label}}} {}", value(&network.clients.of(end)))?;
                }
            }
        }
        Ok(())
    }

    /// The networks whose totals are known. A counter that showed 0 before its true total would look like one that was
    /// reset.
    fn loaded(&self) -> impl Iterator<Item = &Network> {
        self.networks.iter().filter(|network| network.clients.loaded)
    }

    /// The networks where this process captures.
    fn captured(&self) -> impl Iterator<Item = (&Network, Process)> {
        self.networks.iter().filter_map(|network| {
            let of = self.processes.values().filter(|(name, _)| *name == network.name).map(|(_, process)| *process);
            Some((network, of.reduce(|one, other| one.plus(&other))?))
        })
    }

    /// The network's label behind another one, if there is more than one network.
    fn network_label(&self, network: &Network) -> String {
        if self.networks.len() > 1 { format!(",network=\"{}\"", escape(&network.name)) } else { String::new() }
    }

    /// What is known of the process, through the prometheus crate.
    fn process(&self) -> prometheus::Result<String> {
        let registry = Registry::new();
        self.frames(&registry)?;
        self.capture(&registry)?;
        let gauge = |name, help, value| -> prometheus::Result<()> {
            let gauge = Gauge::new(name, help)?;
            gauge.set(value);
            registry.register(Box::new(gauge))
        };
        let last_commit = self.last_commit.map_or(0.0, Timestamp::as_seconds_f64);
        gauge(
            "ztmon_store_last_commit_timestamp_seconds",
            "When totals were last committed, 0 if never.",
            last_commit,
        )?;
        gauge("ztmon_store_up", "1 while commits succeed in time.", f64::from(u8::from(self.store_up)))?;
        gauge(
            "ztmon_store_uncommitted_bytes",
            "Bytes of IP packets that are counted and not yet committed.",
            self.uncommitted_bytes as f64,
        )?;
        let build = GaugeVec::new(Opts::new("ztmon_build_info", "The program's version; always 1."), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        registry.register(Box::new(build))?;
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        TextEncoder::new().encode_to_string(&registry.gather())
    }

    fn frames(&self, registry: &Registry) -> prometheus::Result<()> {
        let by_outcome = self.family("ztmon_frames_total", "Frames by what became of them.", &["outcome"])?;
        for (network, process) in self.captured() {
            for outcome in Outcome::ALL {
                let labels = self.labels(network, &[outcome.name()]);
                by_outcome.with_label_values(&labels).inc_by(process.stats.outcomes.get(outcome));
            }
        }
        registry.register(Box::new(by_outcome))?;
        let counter = |name, help, value: fn(&Process) -> u64| self.counter(registry, name, help, value);
        counter("ztmon_tee_pairs_total", "Unicast packets that were seen with their copy.", |n| n.stats.pairs)?;
        counter(
            "ztmon_tee_singles_total",
            "Unicast packets whose copy did not arrive in time; neither groups nor the observer's own traffic.",
            |n| n.stats.singles,
        )?;
        counter("ztmon_tee_frames_total", "Unicast frames with packets between two other nodes.", |n| n.stats.teed)?;
        counter(
            "ztmon_tee_table_overflows_total",
            "Packets that could not wait for their copy, because too many did.",
            |n| n.stats.overflows,
        )
    }

    fn capture(&self, registry: &Registry) -> prometheus::Result<()> {
        let counter = |name, help, value: fn(&Process) -> u64| self.counter(registry, name, help, value);
        counter("ztmon_capture_packets_received_total", "Packets that libpcap received.", |n| n.capture.received)?;
        counter(
            "ztmon_capture_packets_dropped_total",
            "Packets that libpcap dropped for want of buffer; copies lost on the way here are not among them.",
            |n| n.capture.dropped,
        )?;
        self.gauge(registry, "ztmon_capture_up", "1 while frames can arrive.", |n| f64::from(u8::from(n.up)))?;
        self.gauge(
            registry,
            "ztmon_capture_last_frame_timestamp_seconds",
            "The latest time of any frame, 0 before the first.",
            |n| n.stats.last_frame.map_or(0.0, Timestamp::as_seconds_f64),
        )
    }

    fn counter(
        &self,
        registry: &Registry,
        name: &str,
        help: &str,
        value: fn(&Process) -> u64,
    ) -> prometheus::Result<()> {
        let family = self.family(name, help, &[])?;
        for (network, process) in self.captured() {
            family.with_label_values(&self.labels(network, &[])).inc_by(value(&process));
        }
        registry.register(Box::new(family))
    }

    fn gauge(&self, registry: &Registry, name: &str, help: &str, value: fn(&Process) -> f64) -> prometheus::Result<()> {
        let family = GaugeVec::new(Opts::new(name, help), &self.label_names(&[]))?;
        for (network, process) in self.captured() {
            family.with_label_values(&self.labels(network, &[])).set(value(&process));
        }
        registry.register(Box::new(family) as Box<dyn Collector>)
    }

    fn family(&self, name: &str, help: &str, labels: &[&'static str]) -> prometheus::Result<IntCounterVec> {
        IntCounterVec::new(Opts::new(name, help), &self.label_names(labels))
    }

    fn label_names(&self, labels: &[&'static str]) -> Vec<&'static str> {
        let network = (self.networks.len() > 1).then_some("network");
        labels.iter().copied().chain(network).collect()
    }

    fn labels<'a>(&self, network: &'a Network, labels: &[&'a str]) -> Vec<&'a str> {
        let network = (self.networks.len() > 1).then_some(network.name.as_str());
        labels.iter().copied().chain(network).collect()
    }
}

fn about_client(what: &str, role: &str) -> String {
    format!("{what} whose {role} is the client at addr.")
}

fn about_other_end(what: &str, role: &str) -> String {
    format!(
        "{what} whose {role} is no client: external, a group (multicast), or other, beyond the limits of addresses."
    )
}

/// What stands before the lines of a family.
fn head(name: &str, help: &str, kind: &str) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")
}

/// A label's value, with what the text format wants escaped. Anybody may have chosen it: what else could end a line, or
/// steer a terminal, shows as its number.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => escaped.push_str(r"\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str(r"\n"),
            c if plain::steers(c) => escaped.extend(['\\'].into_iter().chain(c.escape_unicode())),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{Endpoint, Seen, Totals};

    fn totals(sent_bytes: u64, received_bytes: u64) -> Totals {
        let none = Totals::none(Seen::at(Timestamp(0)));
        Totals { sent_bytes, received_bytes, sent_packets: 1, received_packets: 2, ..none }
    }

    fn network(name: &str) -> Network {
        let mut clients = Clients::default();
        clients.loaded = true;
        let mut listing = Listing::new(10, 100);
        let endpoint = |end: &str| Endpoint { end: end.parse().unwrap(), mac: None };
        let mut load = |end: &str, totals| clients.load(&mut listing, endpoint(end), &totals, 0);
        load("10.0.0.2", totals(u64::MAX, 1 << 53 | 1));
        load("fd00::1", totals(7, 0));
        load("external", totals(5, 6));
        Network { name: name.to_owned(), clients }
    }

    fn board(networks: Vec<Network>) -> Board {
        let name = |network: &Network| (network.name.clone(), Process::default());
        let processes = networks.iter().map(name).enumerate().collect();
        Board { networks, processes, ..Board::new(Listing::new(10, 100)) }
    }

    fn lines_of(page: &str, family: &str) -> Vec<String> {
        page.lines().filter(|line| line.starts_with(family)).map(str::to_owned).collect()
    }

    #[test]
    fn counters_are_exact_integers_with_one_label() {
        let board = board(vec![network("")]);
        let page = board.render(0);
        assert_eq!(
            lines_of(&page, "zerotier_host_received_bytes_total"),
            [
                r#"zerotier_host_received_bytes_total{addr="10.0.0.2"} 9007199254740993"#,
                r#"zerotier_host_received_bytes_total{addr="fd00::1"} 0"#,
            ]
        );
        assert!(page.contains(r#"zerotier_host_sent_bytes_total{addr="10.0.0.2"} 18446744073709551615"#));
        assert_eq!(
            lines_of(&page, "zerotier_other_end_sent_bytes_total"),
            [
                r#"zerotier_other_end_sent_bytes_total{end="external"} 5"#,
                r#"zerotier_other_end_sent_bytes_total{end="multicast"} 0"#,
                r#"zerotier_other_end_sent_bytes_total{end="other"} 0"#,
            ]
        );
        assert_eq!(lines_of(&page, "ztmon_capture_up"), ["ztmon_capture_up 0"]);
        assert_eq!(lines_of(&page, "ztmon_frames_total").len(), 6);
    }

    #[test]
    fn nothing_is_left_of_the_page_before() {
        let (short, long) = (board(vec![network("")]), board(vec![network("a"), network("b")]));
        let families = |page: &str| lines_of(page, "zerotier_");
        let mut page = long.render(0);
        for board in [&short, &long, &short] {
            board.render_into(&mut page, 0);
            assert_eq!(families(&page), families(&board.render(0)));
            assert_eq!(page.matches("# TYPE ").count(), board.render(0).matches("# TYPE ").count());
        }
        long.render_into(&mut page, 1000);
        assert!(lines_of(&page, "zerotier_host_").is_empty(), "all have been idle for too long");
    }

    #[test]
    fn several_networks_are_told_apart() {
        let board = board(vec![network("8056c2e21c000001"), network("zt\"0")]);
        let page = board.render(0);
        assert!(page.contains(r#"zerotier_host_sent_bytes_total{addr="fd00::1",network="8056c2e21c000001"} 7"#));
        assert!(page.contains(r#"zerotier_host_sent_bytes_total{addr="fd00::1",network="zt\"0"} 7"#));
        assert!(page.contains(r#"ztmon_frames_total{network="8056c2e21c000001",outcome="copy"} 0"#));
        assert!(page.contains(r#"ztmon_capture_up{network="zt\"0"} 0"#));
    }

    #[test]
    fn nothing_is_shown_of_a_network_before_its_totals_are_known() {
        let board = board(vec![Network::default()]);
        let page = board.render(0);
        assert!(!page.lines().any(|line| line.starts_with("zerotier_")), "{page}");
    }

    #[test]
    fn no_name_is_described_twice() {
        let page = board(vec![network("a"), network("b")]).render(0);
        let mut names: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
