//! Who moved how much, for people and programs: rows in, bytes out.
//!
//! [`Builder`] sums the rows of the traffic matrix as they stream by, [`Builder::finish`] sorts the sums into a
//! [`Report`], [`write()`] prints it. The order of the rows that come in never shows: equal rows give equal bytes.

mod csv;
mod figures;
mod json;
mod layout;
mod record;
mod table;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{self, Write};

use crate::traffic::{End, Row, Seen};

pub use figures::thousands;
pub use table::Style;

/// What one line of a report stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// An address, with what it sent and what it received.
    Address,
    /// A source and a destination, with what the one sent to the other.
    Pair,
}

/// What decides the order of the lines first; ties go by address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Bytes sent and received together, the most first.
    Total,
    /// Bytes sent, the most first. By pair the same as [`Sort::Total`].
    Sent,
    /// Bytes received, the most first. By pair the same as [`Sort::Total`].
    Received,
    /// The address, or the source and then the destination.
    Addr,
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For a person at a terminal.
    Table,
    /// RFC 4180, with a header line.
    Csv,
    /// One object: `rows` and `summary`.
    Json,
}

/// An end as a report shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A client or a pseudo-end.
    End(End),
    /// Those that `top` left out.
    Rest,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::End(end) => end.fmt(f),
            Party::Rest => f.write_str("rest"),
        }
    }
}

/// Whose figures a line shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// One address or pseudo-end.
    Address(Party),
    /// Source and destination.
    Pair(Party, Party),
}

impl Who {
    fn rest(self) -> Who {
        match self {
            Who::Address(_) => Who::Address(Party::Rest),
            Who::Pair(..) => Who::Pair(Party::Rest, Party::Rest),
        }
    }

    /// Whether this line follows all addresses, whatever it moved. Pairs have one order for all.
    fn is_pseudo(self) -> bool {
        matches!(self, Who::Address(Party::Rest)) || matches!(self, Who::Address(Party::End(end)) if !end.is_addr())
    }
}

/// Bytes and packets. Sums stop at the largest number instead of starting over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// IP bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
}

impl Amount {
    fn add(&mut self, more: Amount) {
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.packets = self.packets.saturating_add(more.packets);
    }
}

/// The figures of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// What the address sent; by pair, what the source sent to the destination.
    pub sent: Amount,
    /// What the address received; by pair nothing, so that all lines together are the traffic.
    pub received: Amount,
    /// When, as sender or receiver.
    pub seen: Seen,
}

impl Tally {
    fn add(&mut self, more: Tally) {
        self.sent.add(more.sent);
        self.received.add(more.received);
        self.seen.merge(more.seen);
    }

    /// Bytes sent and received.
    fn bytes(&self) -> u128 {
        u128::from(self.sent.bytes) + u128::from(self.received.bytes)
    }
}

/// One line of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whose.
    pub who: Who,
    /// How much.
    pub tally: Tally,
}

impl Line {
    /// The first key of the order, the largest first.
    fn rank(&self, sort: Sort) -> u128 {
        match (self.who, sort) {
            (who, _) if who.is_pseudo() => 0,
            (_, Sort::Addr) => 0,
            (Who::Pair(..), _) | (_, Sort::Total) => self.tally.bytes(),
            (_, Sort::Sent) => self.tally.sent.bytes.into(),
            (_, Sort::Received) => self.tally.received.bytes.into(),
        }
    }
}

/// The lines of one network, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The network's name.
    pub network: String,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// A finished report. It names the networks only if there is more than one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What a line stands for.
    pub by: By,
    /// The networks, by name.
    pub sections: Vec<Section>,
}

/// Sums rows as they come. Holds one tally for each address or pair, however many rows there are.
#[derive(Debug)]
pub struct Builder {
    by: By,
    networks: BTreeMap<String, HashMap<Who, Tally>>,
}

impl Builder {
    /// Nothing counted yet.
    pub fn new(by: By) -> Self {
        Builder { by, networks: BTreeMap::new() }
    }

    /// Counts `row` of `network`.
    pub fn add(&mut self, network: &str, row: &Row) {
        let tallies = match self.networks.get_mut(network) {
            Some(tallies) => tallies,
            None => self.networks.entry(network.to_owned()).or_default(),
        };
        let mut count = |who, sent, received| {
            let tally = Tally { sent, received, seen: row.seen };
            tallies.entry(who).and_modify(|sum| sum.add(tally)).or_insert(tally);
        };
        let amount = Amount { bytes: row.counts.bytes, packets: row.counts.packets };
        let nothing = Amount::default();
        let (src, dst) = (row.src.end, row.dst.end);
        match self.by {
            By::Address => {
                if src != End::Beyond {
                    count(Who::Address(Party::End(src)), amount, nothing);
                }
                if dst != End::Beyond {
                    count(Who::Address(Party::End(dst)), nothing, amount);
                }
            }
            // A packet beyond the limit of pairs has a row for either end: the sender's stands for it here.
            By::Pair if src == End::Beyond => {}
            By::Pair => {
                let (src, dst) = if dst == End::Beyond { (End::Other, End::Other) } else { (src, dst) };
                count(Who::Pair(Party::End(src), Party::End(dst)), amount, nothing);
            }
        }
    }

    /// Sorts what was counted. With `top`, only so many addresses or pairs of each network get a line of their own.
    pub fn finish(self, sort: Sort, top: Option<usize>) -> Report {
        let section = |(network, tallies)| Section { network, lines: sorted(tallies, sort, top) };
        Report { by: self.by, sections: self.networks.into_iter().map(section).collect() }
    }
}

fn sorted(tallies: HashMap<Who, Tally>, sort: Sort, top: Option<usize>) -> Vec<Line> {
    let mut lines: Vec<Line> = tallies.into_iter().map(|(who, tally)| Line { who, tally }).collect();
    lines.sort_unstable_by_key(|line| (line.who.is_pseudo(), Reverse(line.rank(sort)), line.who));
    let ranked = lines.partition_point(|line| !line.who.is_pseudo());
    let kept = top.map_or(ranked, |top| top.min(ranked));
    let rest = lines.drain(kept..ranked).reduce(|mut sum, line| {
        sum.tally.add(line.tally);
        sum
    });
    lines.extend(rest.map(|sum| Line { who: sum.who.rest(), tally: sum.tally }));
    lines
}

impl Report {
    /// Whether the lines say which network they are of.
    fn shows_networks(&self) -> bool {
        self.sections.len() > 1
    }

    /// All lines, each with its network.
    fn lines(&self) -> impl Iterator<Item = (&str, &Line)> {
        self.sections.iter().flat_map(|section| section.lines.iter().map(|line| (section.network.as_str(), line)))
    }
}

/// Prints `report`, in many small writes: `out` should be buffered. JSON alone shows the `summary`, the table alone has
/// a `style`.
pub fn write(
    out: &mut dyn Write,
    report: &Report,
    format: Format,
    summary: &serde_json::Value,
    style: Style,
) -> io::Result<()> {
    match format {
        Format::Table => table::write(out, report, style),
        Format::Csv => csv::write(out, report),
        Format::Json => json::write(out, report, summary),
    }
}
