//! The page `/metrics` with 10,000 clients, and what the prometheus crate takes for their counters alone.

use criterion::Criterion;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};
use ztmon::metrics::{Board, Clients, Listing, Network};
use ztmon::time::Timestamp;
use ztmon::traffic::{End, Endpoint, Seen, Totals};

use super::client;

const CLIENTS: u32 = 10_000;

const FAMILIES: [(&str, &str); 4] = [
    ("zerotier_host_received_bytes_total", "Bytes of IP packets whose receiver is the client at addr."),
    ("zerotier_host_sent_bytes_total", "Bytes of IP packets whose sender is the client at addr."),
    ("zerotier_host_received_packets_total", "IP packets whose receiver is the client at addr."),
    ("zerotier_host_sent_packets_total", "IP packets whose sender is the client at addr."),
];

pub fn bench(criterion: &mut Criterion) {
    let totals: Vec<(End, Totals)> = (0..CLIENTS).map(totals).collect();
    let board = board(&totals);
    let registry = Registry::new();
    registry.register(Box::new(Rows::new(&totals))).unwrap();
    let theirs = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let ours = board.render(0);
    assert_eq!(counters(&ours), counters(&theirs()), "the pages say the same");
    assert_eq!(counters(&ours).len(), 4 * CLIENTS as usize);

    let mut group = criterion.benchmark_group("exposition");
    group.bench_function("ztmon", |bencher| bencher.iter(|| board.render(0)));
    group.bench_function("prometheus", |bencher| bencher.iter(theirs));
    group.finish();
}

fn totals(number: u32) -> (End, Totals) {
    let n = u64::from(number);
    let (sent_bytes, received_bytes) = (n * 1_000_003, n * 7_000_001);
    let none = Totals::none(Seen::at(Timestamp(0)));
    (
        End::Addr(client(number)),
        Totals { sent_bytes, received_bytes, sent_packets: n * 701, received_packets: n * 5003, ..none },
    )
}

fn board(totals: &[(End, Totals)]) -> Board {
    let mut listing = Listing::new(totals.len(), 1);
    let mut clients = Clients::default();
    for (end, totals) in totals {
        clients.load(&mut listing, Endpoint { end: *end, mac: None }, totals, 0);
    }
    clients.loaded = true;
    let networks = vec![Network { name: String::new(), clients }];
    Board { networks, ..Board::new(listing) }
}

/// The clients' lines, in order.
fn counters(page: &str) -> Vec<&str> {
    let mut lines: Vec<&str> =
        page.lines().filter(|line| line.starts_with("zerotier_host") && line.contains("_total{")).collect();
    lines.sort_unstable();
    lines
}

/// The same rows as a collector of the prometheus crate: the text of each address, and the values of each family.
struct Rows {
    descriptions: Vec<Desc>,
    rows: Vec<(String, [u64; 4])>,
}

impl Rows {
    fn new(totals: &[(End, Totals)]) -> Rows {
        let description = |(name, help): (&str, &str)| {
            Desc::new(name.to_owned(), help.to_owned(), vec!["addr".to_owned()], Default::default()).unwrap()
        };
        let row = |(end, totals): &(End, Totals)| {
            let Totals { sent_bytes, received_bytes, sent_packets, received_packets, .. } = *totals;
            (end.to_string(), [received_bytes, sent_bytes, received_packets, sent_packets])
        };
        Rows { descriptions: FAMILIES.map(description).into(), rows: totals.iter().map(row).collect() }
    }

    fn family(&self, at: usize) -> MetricFamily {
        let metric = |(addr, values): &(String, [u64; 4])| {
            let mut label = LabelPair::default();
            label.set_name("addr".to_owned());
            label.set_value(addr.clone());
            let mut counter = Counter::default();
            counter.set_value(values[at] as f64);
            let mut metric = Metric::from_label(vec![label]);
            metric.set_counter(counter);
            metric
        };
        let mut family = MetricFamily::default();
        family.set_name(FAMILIES[at].0.to_owned());
        family.set_help(FAMILIES[at].1.to_owned());
        family.set_field_type(MetricType::COUNTER);
        family.set_metric(self.rows.iter().map(metric).collect());
        family
    }
}

impl Collector for Rows {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        (0..FAMILIES.len()).map(|at| self.family(at)).collect()
    }
}
