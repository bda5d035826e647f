//! Who moved how much, for people and programs: rows in, bytes out.
//!
//! [`Builder`] sums the rows of the traffic matrix as they stream by, by period if there are any, [`Builder::finish`]
//! sorts the sums into a [`Report`], [`write()`] prints it. The order of the rows that come in never shows: equal rows
//! give equal bytes. Lines of zeros, for those who were quiet in a period, are made up as they are printed.

mod builder;
mod coverage;
mod csv;
mod figures;
mod html;
mod json;
mod layout;
mod lines;
mod members;
mod page;
mod quotas;
mod record;
mod sums;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};
use std::rc::Rc;

use crate::period::Every;
use crate::time::Timestamp;
use crate::traffic::{Counts, End, Endpoint, Seen};
use crate::zerotier::NodeId;
use crate::zone::Zone;

pub use builder::{Builder, Cut};
pub use coverage::{Covered, Share};
pub use figures::thousands;
pub use lines::Report;
pub use members::Named;
pub use page::fitting;
pub use quotas::write_quotas;
pub use table::Style;

/// What one line of a report stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// An address, with what it sent and what it received.
    Address,
    /// A source and a destination, with what the one sent to the other.
    Pair,
    /// A member, with what it sent and received itself, and what it forwarded; an address whose MAC is no member's.
    Member,
}

/// What a report is about.
#[derive(Clone)]
pub struct Query {
    /// What a line stands for.
    pub by: By,
    /// Whose days these are.
    pub zone: Zone,
    /// How long the periods are; without, all of it is one.
    pub every: Option<Every>,
    /// Whether all of it was asked for as one period: then rows say where it begins and how complete it is.
    pub total: bool,
    /// Rows begin here at the earliest: so do the periods.
    pub since: Option<Timestamp>,
    /// And end before this: so do the periods.
    pub until: Option<Timestamp>,
    /// Whose lines are shown: by pair those that one of its ends is of. Without, all are.
    pub only: Option<Rc<dyn Fn(End) -> bool>>,
    /// Whether it becomes a page: that has a sum of all periods and a matrix beside them, and so many periods as can be
    /// drawn. Where there would be more, they become longer.
    pub page: bool,
    /// Whether nobody said how long periods are: they become longer as it [fits](fitting).
    pub fits: bool,
    /// Who members are.
    pub named: Named,
}

impl Query {
    /// Whether an end is one of those that are shown.
    pub fn shows(&self, end: End) -> bool {
        self.only.as_ref().is_none_or(|only| only(end))
    }
}

/// All there is, in one.
impl From<By> for Query {
    fn from(by: By) -> Self {
        Query {
            by,
            zone: Zone::UTC,
            every: None,
            total: false,
            since: None,
            until: None,
            only: None,
            page: false,
            fits: false,
            named: Named::default(),
        }
    }
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
    /// One file for a browser or a printer, which needs nothing else.
    Html,
}

/// An end as a report shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A member.
    Member(NodeId),
    /// A client or a pseudo-end.
    End(End),
    /// Those that `top` left out.
    Rest,
    /// An end behind a MAC, as long as nobody knows whose that is.
    At(Endpoint),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::Member(node) => node.fmt(f),
            Party::End(end) | Party::At(Endpoint { end, .. }) => end.fmt(f),
            Party::Rest => f.write_str("rest"),
        }
    }
}

/// Whose figures a line shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// One address or pseudo-end, or a member.
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

    /// Whether it is a client's line, or of a pair that one is in.
    fn has_client(self) -> bool {
        let is_client = |party| match party {
            Party::Member(_) => true,
            Party::End(end) | Party::At(Endpoint { end, .. }) => end.is_addr(),
            Party::Rest => false,
        };
        match self {
            Who::Address(party) => is_client(party),
            Who::Pair(src, dst) => is_client(src) || is_client(dst),
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// What the address or member sent; by pair, what the source sent to the destination.
    pub sent: Amount,
    /// What the address received; by pair nothing, so that all lines together are the traffic.
    pub received: Amount,
    /// How much of it a member forwarded: bytes sent and bytes received.
    pub forwarded: [u64; 2],
    /// When, as sender or receiver; never, where nothing moved.
    pub seen: Option<Seen>,
}

impl Tally {
    fn add(&mut self, more: Tally) {
        self.sent.add(more.sent);
        self.received.add(more.received);
        self.forwarded.iter_mut().zip(more.forwarded).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        if let Some(seen) = more.seen {
            self.seen.get_or_insert(seen).merge(seen);
        }
    }

    /// Bytes that a member sent and received itself.
    fn own(&self) -> [u64; 2] {
        let [sent, received] = self.forwarded;
        [self.sent.bytes.saturating_sub(sent), self.received.bytes.saturating_sub(received)]
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
        Format::Html => html::write(out, report),
    }
}
