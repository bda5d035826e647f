//! Where everything stands in a table of a given width. The first columns to go are the least important ones.

use super::figures::{self, BYTES_WIDTH, SHARE_WIDTH, TIME_WIDTH};
use super::{By, Party, Report, Tally, Who};
use crate::plain;

const BAR_MIN: usize = 8;
const BAR_MAX: usize = 40;

/// The columns of figures, in reading order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    Sent,
    SentPackets,
    Received,
    ReceivedPackets,
    First,
    Last,
    Share,
}

/// The most important first: these are shown as long as they fit.
const WISHES: [&[Column]; 4] =
    [&[Column::Share], &[Column::SentPackets, Column::ReceivedPackets], &[Column::Last], &[Column::First]];

impl Column {
    pub(super) fn name(self, by: By) -> &'static str {
        match self {
            Column::Sent if by == By::Pair => "bytes",
            Column::Sent if by == By::Member => "own sent",
            Column::Received if by == By::Member => "own received",
            Column::SentPackets | Column::ReceivedPackets if by == By::Member => "forwarded",
            Column::Sent => "sent",
            Column::Received => "received",
            Column::SentPackets | Column::ReceivedPackets => "packets",
            Column::First => "first seen (UTC)",
            Column::Last => "last seen (UTC)",
            Column::Share => "share",
        }
    }

    pub(super) fn text(self, by: By, tally: &Tally, total: &Tally) -> String {
        let bytes_by_member = match self {
            Column::Sent => Some(tally.own()[0]),
            Column::SentPackets => Some(tally.forwarded[0]),
            Column::Received => Some(tally.own()[1]),
            Column::ReceivedPackets => Some(tally.forwarded[1]),
            Column::First | Column::Last | Column::Share => None,
        };
        if let Some(bytes) = bytes_by_member.filter(|_| by == By::Member) {
            return figures::bytes(bytes);
        }
        match self {
            Column::Sent => figures::bytes(tally.sent.bytes),
            Column::Received => figures::bytes(tally.received.bytes),
            Column::SentPackets => figures::thousands(tally.sent.packets),
            Column::ReceivedPackets => figures::thousands(tally.received.packets),
            Column::First => tally.seen.map_or_else(String::new, |seen| figures::time(seen.first)),
            Column::Last => tally.seen.map_or_else(String::new, |seen| figures::time(seen.last)),
            Column::Share => figures::share(tally.bytes(), total.bytes()),
        }
    }

    /// Wide enough for the name and every figure; none is longer than the total's.
    fn width(self, by: By, total: &Tally) -> usize {
        let figures = match self {
            Column::Sent | Column::Received => BYTES_WIDTH,
            Column::SentPackets | Column::ReceivedPackets if by == By::Member => BYTES_WIDTH,
            Column::SentPackets | Column::ReceivedPackets => self.text(by, total, total).len(),
            Column::First | Column::Last => TIME_WIDTH,
            Column::Share => SHARE_WIDTH,
        };
        figures.max(self.name(by).len())
    }

    fn is_of(self, by: By) -> bool {
        by != By::Pair || !matches!(self, Column::Received | Column::ReceivedPackets)
    }
}

/// What fits, and how wide everything is.
pub(super) struct Layout {
    /// The network's column, with the gap after it; 0 without one.
    network: usize,
    /// The address, or the source of a pair.
    source: usize,
    /// All that stands left of the figures, but the network.
    name: usize,
    /// Whether a pair takes two lines, because its addresses leave no room for the figures.
    stacked: bool,
    columns: Vec<(Column, usize)>,
    /// Columns for the bar; 0 where there is no room for one.
    pub(super) bar: usize,
}

impl Layout {
    pub(super) fn new(report: &Report, total: &Tally, width: usize) -> Self {
        let (mut source, mut destination) = match report.query.by {
            By::Address => ("address".len(), 0),
            By::Pair => ("source".len(), "destination".len()),
            By::Member => ("member".len(), 0),
        };
        let mut network = 0;
        for (of, line) in report.lines() {
            if report.shows_networks() {
                network = network.max("network".len()).max(of.chars().count());
            }
            match line.who {
                Who::Address(party) => source = source.max(report.label(of, party).chars().count()),
                Who::Pair(src, dst) => {
                    source = source.max(columns_of(src));
                    destination = destination.max(columns_of(dst));
                }
            }
        }
        if network > 0 {
            network += 2;
        }

        let taken = |columns: &[(Column, usize)]| columns.iter().map(|(_, width)| 2 + width).sum::<usize>();
        let with = |columns: &[Column]| -> Vec<_> {
            let shown = columns.iter().copied().filter(|column| column.is_of(report.query.by));
            shown.map(|column| (column, column.width(report.query.by, total))).collect()
        };
        let mut columns = with(&[Column::Sent, Column::Received]);
        let beside = source + " → ".chars().count() + destination;
        let needed = taken(&columns) + taken(&with(&[Column::Share]));
        let (name, stacked) = match report.query.by {
            By::Address | By::Member => (source, false),
            By::Pair if network + beside + needed <= width => (beside, false),
            By::Pair => (source.max("  → ".chars().count() + destination), true),
        };

        let mut left = width.saturating_sub(network + name + taken(&columns));
        let mut reserved = 0;
        for wish in WISHES {
            let wish = with(wish);
            if taken(&wish) + reserved > left {
                break;
            }
            left -= taken(&wish);
            columns.extend(wish);
            // All that comes after the share must leave room for its bar.
            reserved = 1 + BAR_MIN;
        }
        columns.sort_unstable();
        let bar = if left > BAR_MIN { (left - 1).min(BAR_MAX) } else { 0 };
        Layout { network, source, name, stacked, columns, bar }
    }

    /// The network and the name, padded to where the figures begin; a stacked pair brings its first line along.
    pub(super) fn name(&self, network: &str, source: &str, destination: Option<&str>) -> String {
        let network = format!("{:<1$}", plain::replaced(network), self.network);
        let (source_width, name_width) = (self.source, self.name);
        match destination {
            None => format!("{network}{source:<name_width$}"),
            Some(destination) if self.stacked => {
                let second = format!("  → {destination}");
                format!("{network}{source}\n{:1$}{second:<name_width$}", "", self.network)
            }
            Some(destination) => {
                let pair = format!("{source:<source_width$} → {destination}");
                format!("{network}{pair:<name_width$}")
            }
        }
    }

    /// `name` and the figures of every column.
    pub(super) fn line(&self, name: String, figure: impl Fn(Column) -> String) -> String {
        let mut line = name;
        for &(column, width) in &self.columns {
            line.push_str(&format!("  {:>width$}", figure(column)));
        }
        line
    }
}

fn columns_of(party: Party) -> usize {
    party.to_string().len()
}
