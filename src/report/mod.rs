//! Who moved how much, for people and programs: rows in, bytes out.
//!
//! [`Builder`] sums the rows of the traffic matrix as they stream by, [`Builder::finish`] sorts the sums into a
//! [`Report`], [`write()`] prints it. The order of the rows that come in never shows: equal rows give equal bytes.

mod csv;
mod figures;
mod json;
mod layout;
mod record;
mod sums;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};

use crate::traffic::{Counts, DeltaRow, Directory, End, Row, Seen};
use sums::Sums;

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
    /// The first key of the order, the largest first.
    fn rank(self, sort: Sort, sent: Amount, received: Amount) -> u128 {
        match (self, sort) {
            (who, _) if who.is_pseudo() => 0,
            (_, Sort::Addr) => 0,
            (Who::Pair(..), _) | (_, Sort::Total) => u128::from(sent.bytes) + u128::from(received.bytes),
            (_, Sort::Sent) => sent.bytes.into(),
            (_, Sort::Received) => received.bytes.into(),
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
    fn of(counts: Counts) -> Self {
        Amount { bytes: counts.bytes, packets: counts.packets }
    }

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

/// A finished report. It names the networks only if there is more than one.
#[derive(Debug)]
pub struct Report {
    /// What a line stands for.
    pub by: By,
    /// The networks, by name.
    networks: BTreeMap<String, Sums>,
}

/// Sums rows as they come. Holds one sum for each address or pair, however many rows there are.
#[derive(Debug)]
pub struct Builder {
    report: Report,
    /// The sums of deltas' rows, by the number of the endpoint, or by that of the pair.
    places: Vec<u32>,
}

/// The number of no sum, or of one that is not known yet.
const NONE: u32 = u32::MAX;

impl Builder {
    /// Nothing counted yet.
    pub fn new(by: By) -> Self {
        Builder { report: Report { by, networks: BTreeMap::new() }, places: Vec::new() }
    }

    /// Counts `row` of `network`.
    pub fn add(&mut self, network: &str, row: &Row) {
        let Report { by, networks } = &mut self.report;
        let sums = match networks.get_mut(network) {
            Some(sums) => sums,
            None => networks.entry(network.to_owned()).or_insert(Sums::new(*by)),
        };
        let (src, dst) = (row.src.end, row.dst.end);
        let (amount, nothing) = (Amount::of(row.counts), Amount::default());
        match by {
            By::Address => {
                let places = [src, dst].map(|addr| sums.place_of_address(addr, row.seen));
                sums.add(places[0], amount, nothing, row.seen);
                sums.add(places[1], nothing, amount, row.seen);
            }
            By::Pair => {
                let place = sums.place_of_pair(src, dst, row.seen);
                sums.add(place, amount, nothing, row.seen);
            }
        }
    }

    /// Counts the rows of a delta of the network without a name. Its numbers are those of `directory`, the same for all
    /// deltas of a builder: whose sums are where is found out once.
    pub fn add_delta(&mut self, directory: &Directory, rows: &[DeltaRow]) {
        let Builder { report: Report { by, networks }, places } = self;
        let sums = networks.entry(String::new()).or_insert_with(|| Sums::new(*by));
        let nothing = Amount::default();
        match by {
            By::Address => {
                places.resize(directory.endpoints().len(), NONE);
                for DeltaRow { pair, counts, seen, .. } in rows {
                    let mut place = |endpoint: u32| {
                        let place = &mut places[endpoint as usize];
                        if *place == NONE {
                            *place = sums.place_of_address(directory.endpoint(endpoint).end, *seen);
                        }
                        *place
                    };
                    let (src, dst) = directory.ends(*pair);
                    let (src, dst) = (place(src), place(dst));
                    sums.add(src, Amount::of(*counts), nothing, *seen);
                    sums.add(dst, nothing, Amount::of(*counts), *seen);
                }
            }
            By::Pair => {
                places.resize(directory.pairs().len(), NONE);
                for DeltaRow { pair, counts, seen, .. } in rows {
                    let place = &mut places[*pair as usize];
                    if *place == NONE {
                        let (src, dst) = directory.pair(*pair);
                        *place = sums.place_of_pair(src.end, dst.end, *seen);
                    }
                    sums.add(*place, Amount::of(*counts), nothing, *seen);
                }
            }
        }
    }

    /// Sorts what was counted. With `top`, only so many addresses or pairs of each network get a line of their own.
    pub fn finish(self, sort: Sort, top: Option<usize>) -> Report {
        let Builder { mut report, .. } = self;
        report.networks.values_mut().for_each(|sums| sums.sort(sort, top));
        report
    }
}

impl Report {
    /// Whether the lines say which network they are of.
    fn shows_networks(&self) -> bool {
        self.networks.len() > 1
    }

    /// All lines, each with its network.
    fn lines(&self) -> impl Iterator<Item = (&str, Line)> {
        self.networks.iter().flat_map(|(network, sums)| sums.lines().map(|line| (network.as_str(), line)))
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
