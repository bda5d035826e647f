//! A report as programs read it: named columns, one record for each line. The same for every such format.

use std::fmt;

use super::{By, Line, Party, Report, Tally, Who};
use crate::time::Timestamp;

/// One value of a record.
pub(super) enum Cell<'a> {
    Text(&'a str),
    Party(Party),
    Number(u64),
    Time(Timestamp),
}

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Text(text) => text.fmt(f),
            Cell::Party(party) => party.fmt(f),
            Cell::Number(number) => number.fmt(f),
            Cell::Time(time) => time.fmt(f),
        }
    }
}

impl Report {
    /// The names of the cells.
    pub(super) fn columns(&self) -> Vec<&'static str> {
        let own: &[&str] = match self.by {
            By::Address => &["addr", "sent_bytes", "received_bytes", "sent_packets", "received_packets"],
            By::Pair => &["src", "dst", "bytes", "packets"],
        };
        let network: &[&str] = if self.shows_networks() { &["network"] } else { &[] };
        [network, own, &["first_seen", "last_seen"]].concat()
    }

    /// The values of all lines, in the order of [`Report::columns`].
    pub(super) fn records(&self) -> impl Iterator<Item = Vec<Cell<'_>>> {
        use Cell::{Number, Text, Time};
        self.lines().map(|(network, Line { who, tally: Tally { sent, received, seen } })| {
            let mut cells = Vec::with_capacity(8);
            if self.shows_networks() {
                cells.push(Text(network));
            }
            match who {
                Who::Address(addr) => {
                    cells.extend([Cell::Party(addr), Number(sent.bytes), Number(received.bytes)]);
                    cells.extend([Number(sent.packets), Number(received.packets)]);
                }
                Who::Pair(src, dst) => {
                    cells.extend([Cell::Party(src), Cell::Party(dst), Number(sent.bytes), Number(sent.packets)]);
                }
            }
            cells.extend([Time(seen.first), Time(seen.last)]);
            cells
        })
    }
}
