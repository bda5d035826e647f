//! A report as programs read it: named columns, one record for each line. The same for every such format.

use std::fmt;
use std::rc::Rc;

use super::coverage::{Covered, Share};
use super::{By, Line, Party, Report, Tally, Who};
use crate::time::Timestamp;

/// One value of a record.
pub(super) enum Cell<'a> {
    /// Where a period begins, in its zone's time.
    Start(Rc<str>),
    Text(&'a str),
    Party(Party),
    Number(u64),
    Time(Timestamp),
    Share(Share),
    /// There is none.
    Nothing,
}

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Start(start) => start.fmt(f),
            Cell::Text(text) => text.fmt(f),
            Cell::Party(party) => party.fmt(f),
            Cell::Number(number) => number.fmt(f),
            Cell::Time(time) => time.fmt(f),
            Cell::Share(share) => share.fmt(f),
            Cell::Nothing => Ok(()),
        }
    }
}

/// The columns that say how complete a line's figures are.
pub(super) const COVERED: [&str; 4] = ["coverage", "copies_seen", "dropped_packets", "estimated_lost"];

/// Their values.
pub(super) fn cells_of(covered: Option<Covered>) -> [Cell<'static>; 4] {
    use Cell::{Nothing, Number, Share};
    covered.map_or([Nothing, Nothing, Nothing, Nothing], |covered| {
        [
            Share(covered.coverage),
            covered.copies_seen.map_or(Nothing, Share),
            Number(covered.dropped_packets),
            covered.estimated_lost.map_or(Nothing, Number),
        ]
    })
}

impl Report {
    /// The names of the cells.
    pub(super) fn columns(&self) -> Vec<&'static str> {
        let own: &[&str] = match self.query.by {
            By::Address => &["addr", "sent_bytes", "received_bytes", "sent_packets", "received_packets"],
            By::Pair => &["src", "dst", "bytes", "packets"],
            By::Member => &["member", "name", "own_sent", "own_received", "forwarded_sent", "forwarded_received"],
        };
        let start: &[&str] = if self.shows_periods() { &["period_start"] } else { &[] };
        let network: &[&str] = if self.shows_networks() { &["network"] } else { &[] };
        let covered: &[&str] = if self.shows_periods() { &COVERED } else { &[] };
        [start, network, own, &["first_seen", "last_seen"], covered].concat()
    }

    /// The values of all lines, in the order of [`Report::columns`].
    pub(super) fn records(&self) -> impl Iterator<Item = Vec<Cell<'_>>> {
        self.periods().flat_map(move |period| {
            let start = self.shows_periods().then(|| self.label_of_start(period).unwrap_or_default().into());
            // What was seen is cut by calendars alone.
            let covered_period = self.calendar().map(|_| period);
            let mut latest: Option<(&str, Option<Covered>)> = None;
            self.lines_of(period).map(move |(network, line)| {
                let mut cells = self.record(start.clone(), network, line);
                if self.shows_periods() {
                    let covered = match latest {
                        Some((name, covered)) if name == network => covered,
                        _ => self.covered(network, covered_period),
                    };
                    latest = Some((network, covered));
                    cells.extend(cells_of(covered));
                }
                cells
            })
        })
    }

    fn record<'a>(&'a self, start: Option<Rc<str>>, network: &'a str, line: Line) -> Vec<Cell<'a>> {
        use Cell::{Nothing, Number, Text, Time};
        let Line { who, tally } = line;
        let Tally { sent, received, forwarded, seen } = tally;
        let mut cells = Vec::with_capacity(15);
        cells.extend(start.map(Cell::Start));
        if self.shows_networks() {
            cells.push(Text(network));
        }
        match who {
            Who::Address(party) if self.query.by == By::Member => {
                cells.extend([Cell::Party(party), Text(self.name(network, party))]);
                cells.extend([tally.own(), forwarded].as_flattened().iter().map(|bytes| Number(*bytes)));
            }
            Who::Address(addr) => {
                cells.extend([Cell::Party(addr), Number(sent.bytes), Number(received.bytes)]);
                cells.extend([Number(sent.packets), Number(received.packets)]);
            }
            Who::Pair(src, dst) => {
                cells.extend([Cell::Party(src), Cell::Party(dst), Number(sent.bytes), Number(sent.packets)]);
            }
        }
        cells.extend(seen.map_or([Nothing, Nothing], |seen| [Time(seen.first), Time(seen.last)]));
        cells
    }
}
