//! The same numbers from three places: `/metrics`, reports from the database, and replays.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::{run, ztmon};

/// What an end sent and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub sent_packets: u64,
    pub received_packets: u64,
}

impl Total {
    fn values(&self) -> [u64; 4] {
        [self.sent_bytes, self.received_bytes, self.sent_packets, self.received_packets]
    }

    fn plus(self, other: Total) -> Total {
        Total {
            sent_bytes: self.sent_bytes + other.sent_bytes,
            received_bytes: self.received_bytes + other.received_bytes,
            sent_packets: self.sent_packets + other.sent_packets,
            received_packets: self.received_packets + other.received_packets,
        }
    }
}

/// The totals of every end that moved anything, by network (empty if there is one only) and end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals(pub BTreeMap<(String, String), Total>);

impl Totals {
    pub fn of(&self, network: &str, end: &str) -> Total {
        self.0.get(&(network.to_owned(), end.to_owned())).copied().unwrap_or_default()
    }

    /// All ends together.
    pub fn sum(&self) -> Total {
        self.0.values().fold(Total::default(), |sum, total| sum.plus(*total))
    }

    pub fn plus(&self, other: &Totals) -> Totals {
        let mut sum = self.clone();
        for (who, total) in &other.0 {
            let entry = sum.0.entry(who.clone()).or_default();
            *entry = entry.plus(*total);
        }
        sum
    }

    /// Every value becomes at least that of `other`.
    pub fn raise(&mut self, other: &Totals) {
        for (who, total) in &other.0 {
            let entry = self.0.entry(who.clone()).or_default();
            *entry = Total {
                sent_bytes: entry.sent_bytes.max(total.sent_bytes),
                received_bytes: entry.received_bytes.max(total.received_bytes),
                sent_packets: entry.sent_packets.max(total.sent_packets),
                received_packets: entry.received_packets.max(total.received_packets),
            };
        }
    }

    /// That no value is above that of `other`.
    pub fn assert_at_most(&self, other: &Totals) {
        if let Some(((network, end), total)) = self.above(other) {
            panic!("{network} {end}: {total:?} is above {:?}", other.of(network, end));
        }
    }

    /// That they are the same; names one that is not.
    pub fn assert_same(&self, other: &Totals) {
        if let Some((who, _)) = self.above(other).or_else(|| other.above(self)) {
            panic!("{who:?}: {:?} and {:?}", self.of(&who.0, &who.1), other.of(&who.0, &who.1));
        }
    }

    /// An end of which some value is above that of `other`.
    pub fn above(&self, other: &Totals) -> Option<(&(String, String), &Total)> {
        let is_above = |(who, total): &(&(String, String), &Total)| {
            total.values().iter().zip(other.of(&who.0, &who.1).values()).any(|(value, most)| *value > most)
        };
        self.0.iter().find(is_above)
    }

    /// That all that was sent was received.
    pub fn assert_balanced(&self) {
        let sum = self.sum();
        assert_eq!((sum.sent_bytes, sum.sent_packets), (sum.received_bytes, sum.received_packets));
        assert!(sum.sent_packets > 0);
    }

    /// A report by address as CSV.
    pub fn from_csv(csv: &str) -> Totals {
        let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let columns = lines.next().unwrap();
        let rows = lines.map(|cells| {
            let cell = |name| columns.iter().position(|column| *column == name).map(|at| cells[at]);
            let number = |name| cell(name).unwrap().parse().unwrap();
            let who = (cell("network").unwrap_or("").to_owned(), cell("addr").unwrap().to_owned());
            let total = Total {
                sent_bytes: number("sent_bytes"),
                received_bytes: number("received_bytes"),
                sent_packets: number("sent_packets"),
                received_packets: number("received_packets"),
            };
            (who, total)
        });
        Totals(rows.collect())
    }
}

/// What `replay` counts in a file.
pub fn replay(file: &Path, flags: &[&str]) -> Totals {
    let ended = run(ztmon().args(["replay", "--quiet", "--format", "csv"]).args(flags).arg(file));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    Totals::from_csv(&ended.stdout)
}

/// What `report` finds in a database.
pub fn report(db: &Path, origin: &str) -> Totals {
    report_of(ztmon(), db, origin)
}

/// The same by a command that runs ztmon.
pub fn report_of(mut ztmon: Command, db: &Path, origin: &str) -> Totals {
    let ended = run(ztmon.args(["report", "--quiet", "--format", "csv", "--origin", origin, "--db"]).arg(db));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    Totals::from_csv(&ended.stdout)
}

/// One line of `/metrics`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// As it is printed.
    pub value: String,
}

/// A scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// As it came.
    pub text: String,
    pub samples: Vec<Sample>,
}

impl Metrics {
    /// Reads the text format, with as much strictness as tells that it is none.
    pub fn parse(text: &str) -> Metrics {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Metrics { text: text.to_owned(), samples: lines.map(sample).collect() }
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    /// The sum of all series with this name.
    pub fn sum(&self, name: &str) -> u64 {
        self.named(name).map(|sample| sample.value.parse::<u64>().unwrap()).sum()
    }

    /// The sum of the series with this name and label.
    pub fn sum_where(&self, name: &str, label: &str, value: &str) -> u64 {
        let with_label = self.named(name).filter(|sample| sample.labels.get(label).is_some_and(|it| it == value));
        with_label.map(|sample| sample.value.parse::<u64>().unwrap()).sum()
    }

    /// The one series with this name.
    pub fn float(&self, name: &str) -> f64 {
        let all: Vec<_> = self.named(name).collect();
        assert_eq!(all.len(), 1, "{name}: {all:?}");
        all[0].value.parse().unwrap()
    }

    /// That no counter is above what it is in `later`, and none is missing there.
    pub fn assert_counters_at_most(&self, later: &Metrics) {
        let counters = |metrics: &Metrics| -> BTreeMap<_, f64> {
            let counters = metrics.samples.iter().filter(|sample| sample.name.ends_with("_total"));
            counters.map(|it| ((it.name.clone(), it.labels.clone()), it.value.parse().unwrap())).collect()
        };
        let later = counters(later);
        for (series, value) in counters(self) {
            assert!(later.get(&series).is_some_and(|later| *later >= value), "{series:?}: {value}, then {later:?}");
        }
    }

    /// What every client and every other end moved; ends that moved nothing are left out, as reports do.
    pub fn totals(&self) -> Totals {
        let mut totals: BTreeMap<(String, String), Total> = BTreeMap::new();
        for (family, label) in [("zerotier_host", "addr"), ("zerotier_other_end", "end")] {
            let counters = ["sent_bytes", "received_bytes", "sent_packets", "received_packets"];
            for (at, counter) in counters.iter().enumerate() {
                for sample in self.named(&format!("{family}_{counter}_total")) {
                    let network = sample.labels.get("network").cloned().unwrap_or_default();
                    let total = totals.entry((network, sample.labels[label].clone())).or_default();
                    let value = sample.value.parse().unwrap();
                    match at {
                        0 => total.sent_bytes = value,
                        1 => total.received_bytes = value,
                        2 => total.sent_packets = value,
                        _ => total.received_packets = value,
                    }
                }
            }
        }
        totals.retain(|_, total| *total != Total::default());
        Totals(totals)
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
    assert!(value.parse::<f64>().is_ok(), "no value: {line}");
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix("\"}").unwrap_or_else(|| panic!("no labels: {line}"))),
        None => (series, ""),
    };
    let mut rest = labels;
    let mut labels = BTreeMap::new();
    while let Some((label, after)) = rest.trim_start_matches(',').split_once("=\"") {
        let mut value = String::new();
        let mut chars = after.chars();
        loop {
            match chars.next() {
                // That of the last label was taken off.
                None | Some('"') => break,
                Some('\\') => value.push(match chars.next() {
                    Some('n') => '\n',
                    Some(c @ ('\\' | '"')) => c,
                    other => panic!("{other:?} is escaped: {line}"),
                }),
                Some(c) => value.push(c),
            }
        }
        assert!(labels.insert(label.to_owned(), value).is_none(), "a label twice: {line}");
        rest = chars.as_str();
    }
    assert_eq!(rest, "", "{line}");
    Sample { name: name.to_owned(), labels, value: value.to_owned() }
}

/// One series of a history in OpenMetrics.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    /// As they are printed.
    pub labels: BTreeMap<String, String>,
    /// Seconds and values.
    pub samples: Vec<(i64, u64)>,
}

impl Series {
    /// By how much it rises at which times.
    pub fn increments(&self) -> BTreeMap<i64, u64> {
        let rises = self.samples.windows(2).map(|two| (two[1].0, two[1].1 - two[0].1));
        rises.filter(|(_, amount)| *amount > 0).collect()
    }
}

/// Reads what `--format openmetrics` wrote. Panics if it is not as OpenMetrics wants it: every family described once and
/// in one piece, every series in one piece and ascending in time, counters that never fall, gauges that are always 1,
/// and the end marked.
pub fn history(text: &str) -> Vec<Series> {
    let lines = text.strip_suffix("# EOF\n").expect("the end is marked").lines();
    let (mut found, mut families): (Vec<Series>, Vec<(&str, &str)>) = (Vec::new(), Vec::new());
    let mut helped = "";
    for line in lines {
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped = help.split_once(' ').expect("a text").0;
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let gauge = kind.strip_suffix(" gauge").map(|family| (family, ""));
            let family = gauge.or_else(|| Some((kind.strip_suffix(" counter")?, "_total"))).expect("what it is");
            assert!(family.0 == helped && families.iter().all(|(name, _)| *name != helped), "{line}");
            families.push(family);
            continue;
        }
        let (with_value, time) = line.rsplit_once(' ').unwrap();
        let Sample { name, labels, value } = sample(with_value);
        let (time, value): (i64, u64) = (time.parse().unwrap(), value.parse().unwrap());
        let (family, suffix) = families[families.len() - 1];
        assert_eq!(name, format!("{family}{suffix}"), "{line}");
        assert!(suffix == "_total" || value == 1, "{line}");
        match found.last_mut().filter(|series| (&series.name, &series.labels) == (&name, &labels)) {
            Some(series) => {
                let last = series.samples[series.samples.len() - 1];
                assert!(last.0 < time && last.1 <= value, "{line} after {last:?}");
                series.samples.push((time, value));
            }
            None => {
                assert!(!found.iter().any(|series| (&series.name, &series.labels) == (&name, &labels)), "{line}");
                found.push(Series { name, labels, samples: vec![(time, value)] });
            }
        }
    }
    found
}
