//! The table for a person at a terminal. What does not fit its width is left out, an address or a number never is cut.

use std::io::{self, Write};

use super::layout::Layout;
use super::{By, Line, Report, Tally, Who, figures};
use crate::period::Period;
use crate::plain;

/// How a table looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal.
    pub width: usize,
    /// Whether the header may be bold.
    pub ansi: bool,
}

pub(super) fn write(out: &mut dyn Write, report: &Report, style: Style) -> io::Result<()> {
    let Some(total) = sum(report.lines()) else {
        return writeln!(out, "nothing was counted");
    };
    let most = report.lines().map(|(_, line)| line.tally.bytes()).max().unwrap_or(0);
    let table = Table { report, layout: Layout::new(report, &total, style.width), most, ansi: style.ansi };
    let mut between = "";
    for period in report.periods() {
        let Some(total) = sum(report.lines_of(period)) else { continue };
        if let Some(calendar) = report.calendar() {
            write!(out, "{between}")?;
            table.bold(out, &format!("{} to {}", calendar.heading(period.start), calendar.heading(period.end)))?;
            between = "\n";
            table.coverage(out, Some(period))?;
        }
        table.write(out, report.lines_of(period), &total)?;
    }
    let offset = report.offset().unwrap_or_default();
    out.write_all(between.as_bytes())?;
    table.coverage(out, None)?;
    writeln!(out, "time zone: {} ({offset})", report.query.zone)
}

/// All lines in one.
fn sum<'a>(lines: impl Iterator<Item = (&'a str, Line)>) -> Option<Tally> {
    lines.map(|(_, line)| line.tally).reduce(|mut sum, more| {
        sum.add(more);
        sum
    })
}

/// What the tables of all periods share.
struct Table<'a> {
    report: &'a Report,
    layout: Layout,
    /// What the longest bar stands for.
    most: u128,
    ansi: bool,
}

impl Table<'_> {
    fn bold(&self, out: &mut dyn Write, line: &str) -> io::Result<()> {
        let (bold, plain) = if self.ansi { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        writeln!(out, "{bold}{line}{plain}")
    }

    /// A line for each network that says how complete the figures of a period are, or of all periods.
    fn coverage(&self, out: &mut dyn Write, period: Option<Period>) -> io::Result<()> {
        let Table { report, .. } = self;
        let known = report.networks().filter_map(|name| Some((name, report.covered(name, period)?)));
        for (name, covered) in known {
            match plain::replaced(name) {
                name if report.shows_networks() => writeln!(out, "{name}: {covered}")?,
                _ => writeln!(out, "{covered}")?,
            }
        }
        Ok(())
    }

    /// The lines of a period between header and total.
    fn write<'a>(
        &self,
        out: &mut dyn Write,
        lines: impl Iterator<Item = (&'a str, Line)>,
        total: &Tally,
    ) -> io::Result<()> {
        let Table { report, layout, .. } = self;
        let networks = report.shows_networks();
        let by = report.query.by;
        let of = if networks { "network" } else { "" };
        let name = match by {
            By::Address => layout.name(of, "address", None),
            By::Pair => layout.name(of, "source", Some("destination")),
            By::Member => layout.name(of, "member", None),
        };
        let header = layout.line(name, |column| column.name(by).to_owned());
        for line in header.lines() {
            self.bold(out, line)?;
        }

        for (network, Line { who, tally }) in lines {
            let of = match network {
                _ if !networks => "",
                "" => "-",
                name => name,
            };
            let name = match who {
                Who::Address(party) => layout.name(of, &report.label(network, party), None),
                Who::Pair(src, dst) => layout.name(of, &src.to_string(), Some(&dst.to_string())),
            };
            let bar = figures::bar(tally.bytes(), self.most, layout.bar);
            let line = layout.line(name, |column| column.text(by, &tally, total)) + " " + &bar;
            writeln!(out, "{}", line.trim_end())?;
        }

        let name = if networks { layout.name("total", "", None) } else { layout.name("", "total", None) };
        let line = layout.line(name, |column| column.text(by, total, total));
        writeln!(out, "{}\n{line}", "─".repeat(line.chars().count()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{add, printed_at, report, row};
    use super::super::{Builder, Format, Sort};
    use super::*;
    use crate::traffic::Row;

    const A: &str = "fd80:56c2:e21c:1111:1199:93a1:b2c3:d4e5";
    const B: &str = "fd80:56c2:e21c:1111:1199:9355:6677:8899";

    fn rows() -> Vec<Row> {
        vec![
            row("10.121.7.5", "10.121.7.19", 1_020_000, 1_234, 0),
            row("10.121.7.19", "10.121.7.5", 510_000, 999, 60_999),
            row("10.121.7.130", "external", 150, 2, 3_600_000),
        ]
    }

    fn table(by: By, rows: &[Row], width: usize) -> String {
        printed_at(&report(by, Sort::Total, None, rows), Format::Table, width)
    }

    // 1,530,000 of 3,060,300 bytes are just below a half, and read as one.
    #[test]
    fn by_address_at_60_80_and_120_columns() {
        assert_eq!(
            table(By::Address, &rows(), 60),
            "\
address          sent  received  share
10.121.7.5    1.02 MB    510 kB  50.0% █████████████████████
10.121.7.19    510 kB   1.02 MB  50.0% █████████████████████
10.121.7.130    150 B       0 B  <0.1% ▏
external          0 B     150 B  <0.1% ▏
──────────────────────────────────────
total         1.53 MB   1.53 MB   100%
time zone: UTC (+00:00)
"
        );
        assert_eq!(
            table(By::Address, &rows(), 80),
            "\
address          sent  packets  received  packets  share
10.121.7.5    1.02 MB    1,234    510 kB      999  50.0% ███████████████████████
10.121.7.19    510 kB      999   1.02 MB    1,234  50.0% ███████████████████████
10.121.7.130    150 B        2       0 B        0  <0.1% ▏
external          0 B        0     150 B        2  <0.1% ▏
────────────────────────────────────────────────────────
total         1.53 MB    2,235   1.53 MB    2,235   100%
time zone: UTC (+00:00)
"
        );
        let wide = table(By::Address, &rows(), 120);
        let mut lines = wide.lines();
        assert_eq!(
            lines.next().unwrap(),
            "address          sent  packets  received  packets     first seen (UTC)      last seen (UTC)  share"
        );
        assert_eq!(
            lines.next().unwrap(),
            "10.121.7.5    1.02 MB    1,234    510 kB      999  1970-01-01 00:00:00  1970-01-01 00:01:00  50.0% \
             █████████████████████"
        );
    }

    #[test]
    fn by_pair() {
        assert_eq!(
            table(By::Pair, &rows(), 80),
            "\
source       → destination    bytes  packets  share
10.121.7.5   → 10.121.7.19  1.02 MB    1,234  66.7% ████████████████████████████
10.121.7.19  → 10.121.7.5    510 kB      999  33.3% ██████████████
10.121.7.130 → external       150 B        2  <0.1% ▏
───────────────────────────────────────────────────
total                       1.53 MB    2,235   100%
time zone: UTC (+00:00)
"
        );
    }

    #[test]
    fn the_longest_addresses_fit() {
        let rows = [row(A, B, 3_000, 30, 0), row(B, A, 1_000, 10, 0)];
        assert_eq!(
            table(By::Address, &rows, 60),
            "\
address                                     sent  received
fd80:56c2:e21c:1111:1199:9355:6677:8899  1.00 kB   3.00 kB
fd80:56c2:e21c:1111:1199:93a1:b2c3:d4e5  3.00 kB   1.00 kB
──────────────────────────────────────────────────────────
total                                    4.00 kB   4.00 kB
time zone: UTC (+00:00)
"
        );
        assert_eq!(
            table(By::Pair, &rows, 80),
            "\
source
  → destination                                bytes  packets  share
fd80:56c2:e21c:1111:1199:93a1:b2c3:d4e5
  → fd80:56c2:e21c:1111:1199:9355:6677:8899  3.00 kB       30  75.0% ███████████
fd80:56c2:e21c:1111:1199:9355:6677:8899
  → fd80:56c2:e21c:1111:1199:93a1:b2c3:d4e5  1.00 kB       10  25.0% ███▋
────────────────────────────────────────────────────────────────────
total                                        4.00 kB       40   100%
time zone: UTC (+00:00)
"
        );
    }

    #[test]
    fn several_networks() {
        let mut builder = Builder::new(By::Address);
        add(&mut builder, "8056c2e21c000001", &row("10.0.0.1", "10.0.0.2", 3_000, 3, 0));
        add(&mut builder, "", &row("10.0.0.1", "external", 500, 1, 0));
        add(&mut builder, "\x1b[2J", &row("10.0.0.1", "external", 500, 1, 0));
        assert_eq!(
            printed_at(&builder.finish(Sort::Total, Some(1)), Format::Table, 60),
            "\
network           address      sent  received  share
-                 10.0.0.1    500 B       0 B   6.3%
-                 external      0 B     500 B   6.3%
\u{fffd}[2J              10.0.0.1    500 B       0 B   6.3%
\u{fffd}[2J              external      0 B     500 B   6.3%
8056c2e21c000001  10.0.0.1  3.00 kB       0 B  37.5%
8056c2e21c000001  rest          0 B   3.00 kB  37.5%
────────────────────────────────────────────────────
total                       4.00 kB   4.00 kB   100%
time zone: UTC (+00:00)
"
        );
    }

    #[test]
    fn only_the_header_is_bold() {
        let report = report(By::Pair, Sort::Total, None, &[row(A, B, 3_000, 30, 0)]);
        let mut out = Vec::new();
        write(&mut out, &report, Style { width: 60, ansi: true }).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("\x1b[1msource\x1b[0m\n\x1b[1m  → destination"), "{text}");
        assert_eq!(text.matches('\x1b').count(), 4);
    }

    #[test]
    fn without_rows_a_sentence() {
        assert_eq!(table(By::Address, &[], 80), "nothing was counted\n");
    }
}
