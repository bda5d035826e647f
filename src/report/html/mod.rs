//! A page for a browser or a printer: one file, which asks for nothing else and says the same without scripts.
//!
//! Names come from others. All text goes through [`Escaped`], and the page forbids every style and script but its own.

mod chart;
mod matrix;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};

use super::page::Page;
use super::{Amount, By, Covered, Line, Report, Tally, Who, figures};
use crate::period::{Calendar, Every, Period};
use crate::plain;
use crate::time::Timestamp;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// SHA-256 of the style and of the script in base 64; a test compares them.
const STYLE_HASH: &str = "FZO4UjxGPtiztTIblh17A/+BdiA4CswJw/Qeo2mNQMo=";
const SCRIPT_HASH: &str = "yiBizI6FxppdmDeK+H7Ps93e2r0uKIUU6ItdugyIwJI=";

/// Text that is nothing but text. Control characters, and those that turn the direction of what follows, are replaced.
struct Escaped<T>(T);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.to_string().chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\u{fffe}' | '\u{ffff}' => f.write_str("\u{fffd}")?,
                c if plain::steers(c) => f.write_str("\u{fffd}")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// The columns of figures.
#[derive(Clone, Copy)]
enum Columns {
    /// Bytes and packets.
    Once,
    /// The same both ways.
    Both,
    /// Bytes both ways, of a member's own and forwarded.
    Members,
}

fn network_name(name: &str) -> &str {
    if name.is_empty() { "-" } else { name }
}

pub(super) fn write(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let Some(page) = &report.page else { return Ok(()) };
    let total = page.total.lines().fold(Tally::default(), |mut sum, (_, line)| {
        sum.add(line.tally);
        sum
    });
    let clock = Calendar::new(report.query.zone, Every::Day);
    let time = |time: Timestamp| clock.heading(time.clamped().0);
    let since = report.query.since.or(total.seen.map(|seen| seen.first)).map(time);
    let until = report.query.until.or(total.seen.map(|seen| seen.last)).map(time);
    let range = match (&since, &until) {
        (Some(since), Some(until)) => format!(", {} to {}", &since[..10], &until[..10]),
        _ => String::new(),
    };
    let what = match report.query.by {
        By::Address => "address",
        By::Pair => "source and destination",
        By::Member => "member",
    };

    writeln!(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>")?;
    writeln!(
        out,
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; \
         script-src 'sha256-{SCRIPT_HASH}'; base-uri 'none'; form-action 'none'\"/>"
    )?;
    writeln!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>")?;
    writeln!(out, "<title>Traffic by {what}{range}</title>\n<style>{STYLE}</style>\n</head>\n<body>")?;
    writeln!(out, "<header>\n<h1>Traffic by {what}</h1>")?;
    if !report.is_of_all() {
        writeln!(out, "<p>Only those that were chosen.</p>")?;
    }
    facts(out, report, page, [since, until])?;
    for (network, covered) in report.all_covered(None) {
        let of = if report.shows_networks() { format!("{}: ", network_name(network)) } else { String::new() };
        writeln!(out, "<p class=\"covered\"><bdi>{}</bdi>{covered}.</p>", Escaped(of))?;
    }
    if total.seen.is_none() {
        return writeln!(out, "</header>\n<p>Nothing was counted.</p>\n</body>\n</html>");
    }
    let bars = report.calendar().map(|_| chart::Bars::new(report, page)).filter(|bars| !bars.list.is_empty());
    let (time_link, periods_link) = match bars {
        Some(_) => ("<a href=\"#time\">Over time</a> ", " <a href=\"#periods\">Periods</a>"),
        None => ("", ""),
    };
    writeln!(
        out,
        "<nav>{time_link}<a href=\"#totals\">Totals</a> <a href=\"#matrix\">Who to whom</a>{periods_link}</nav>\n\
         </header>\n<main>"
    )?;
    if let Some(bars) = &bars {
        chart::write(out, bars)?;
    }
    totals(out, page, &total)?;
    matrix::write(out, &page.pairs, page.total.top)?;
    if let Some(bars) = &bars {
        periods(out, bars, &total)?;
    }
    writeln!(
        out,
        "</main>\n<footer>Counted by ztmon: IP bytes, each packet once. 1 kB is 1000 bytes. Times are those of {}.\
         </footer>\n<script>{SCRIPT}</script>\n</body>\n</html>",
        Escaped(report.query.zone)
    )
}

/// What, when and how much.
fn facts(out: &mut dyn Write, report: &Report, page: &Page, [since, until]: [Option<String>; 2]) -> io::Result<()> {
    let mut moved = Amount::default();
    page.pairs.lines().for_each(|(_, line)| moved.add(line.tally.sent));
    // Those that `top` leaves out count here as well.
    let all = page.total.periods().flat_map(|all| page.total.moved(all));
    let clients = all.filter(|(_, line)| line.who.has_client()).count();
    let fact = |out: &mut dyn Write, name: &str, class: &str, value: &str, more: &str| {
        let more = if more.is_empty() { String::new() } else { format!("<small>{}</small>", Escaped(more)) };
        writeln!(out, "<div><dt>{name}</dt><dd{class}>{}{more}</dd></div>", Escaped(value))
    };
    let exact = format!("{} bytes, {} packets", figures::thousands(moved.bytes), figures::thousands(moved.packets));
    writeln!(out, "<dl>")?;
    fact(out, "Total traffic", " class=\"big\"", &figures::bytes(moved.bytes), &exact)?;
    let who = if report.query.by == By::Pair { "Pairs" } else { "Clients" };
    fact(out, who, " class=\"big\"", &figures::thousands(clients as u64), "")?;
    if let Some(since) = since {
        fact(out, "From", "", &since, "")?;
    }
    if let Some(until) = until {
        fact(out, "To", "", &until, "")?;
    }
    let offset = report.offset().map(|offset| format!("UTC{offset} where the report begins")).unwrap_or_default();
    fact(out, "Time zone", "", &report.query.zone.to_string(), &offset)?;
    writeln!(out, "</dl>")
}

impl Columns {
    fn heads(self) -> String {
        let heads: &[(&str, &str)] = match self {
            Columns::Once => &[("", "bytes"), ("p ", "packets")],
            Columns::Both => &[("", "sent"), ("p ", "packets"), ("", "received"), ("p ", "packets")],
            Columns::Members => {
                &[("", "own sent"), ("", "own received"), ("p ", "forwarded sent"), ("p ", "forwarded received")]
            }
        };
        heads.iter().map(|(class, head)| format!("<th class=\"n {class}s\">{head}</th>")).collect()
    }

    fn cells(self, out: &mut dyn Write, tally: &Tally) -> io::Result<()> {
        let bytes = |out: &mut dyn Write, class: &str, bytes: u64| {
            let (exact, rounded) = (figures::thousands(bytes), figures::bytes(bytes));
            write!(out, "<td class=\"n{class}\" title=\"{exact}\">{rounded}</td>")
        };
        let both = [tally.sent, tally.received];
        let amounts = match self {
            Columns::Once => &both[..1],
            Columns::Both => &both,
            Columns::Members => {
                tally.own().into_iter().try_for_each(|own| bytes(out, "", own))?;
                return tally.forwarded.into_iter().try_for_each(|forwarded| bytes(out, " p", forwarded));
            }
        };
        for amount in amounts {
            bytes(out, "", amount.bytes)?;
            write!(out, "<td class=\"n p\">{}</td>", figures::thousands(amount.packets))?;
        }
        Ok(())
    }
}

/// All lines of the report, its periods in one.
fn totals(out: &mut dyn Write, page: &Page, total: &Tally) -> io::Result<()> {
    let report = &page.total;
    let networks = report.shows_networks();
    let most = report.lines().map(|(_, line)| line.tally.bytes()).max().unwrap_or(0);
    writeln!(
        out,
        "<section id=\"totals\">\n<h2>Totals</h2>\n<div class=\"wide\"><table class=\"sorts\">\n<thead><tr>"
    )?;
    if networks {
        write!(out, "<th class=\"s\">network</th>")?;
    }
    let (names, columns): (&[&str], _) = match report.query.by {
        By::Address => (&["address"], Columns::Both),
        By::Pair => (&["source", "destination"], Columns::Once),
        By::Member => (&["member", "name"], Columns::Members),
    };
    for name in names {
        write!(out, "<th class=\"s address\">{name}</th>")?;
    }
    writeln!(out, "{}<th class=\"n\">share</th><th class=\"bar\"></th></tr></thead>\n<tbody>", columns.heads())?;
    for (network, Line { who, tally }) in report.lines() {
        write!(out, "<tr>")?;
        if networks {
            write!(out, "<td><bdi>{}</bdi></td>", Escaped(network_name(network)))?;
        }
        match who {
            Who::Address(party) => {
                write!(out, "<td class=\"address\">{}</td>", Escaped(party))?;
                if names.len() == 2 {
                    write!(out, "<td class=\"address\"><bdi>{}</bdi></td>", Escaped(report.name(network, party)))?;
                }
            }
            Who::Pair(src, dst) => {
                write!(out, "<td class=\"address\">{}</td><td class=\"address\">{}</td>", Escaped(src), Escaped(dst))?;
            }
        }
        columns.cells(out, &tally)?;
        let share = figures::share(tally.bytes(), total.bytes());
        write!(out, "<td class=\"n\">{}</td><td class=\"bar\">", Escaped(share))?;
        let tenths = (tally.bytes() * 1000).checked_div(most).unwrap_or(0);
        if tenths > 0 {
            write!(out, "<svg><rect width=\"{}.{}%\" height=\"100%\"/></svg>", tenths / 10, tenths % 10)?;
        }
        writeln!(out, "</td></tr>")?;
    }
    let name = usize::from(networks) + names.len();
    write!(out, "</tbody>\n<tfoot><tr><th colspan=\"{name}\">total</th>")?;
    columns.cells(out, total)?;
    writeln!(out, "<td class=\"n\">100%</td><td class=\"bar\"></td></tr></tfoot>\n</table></div>\n</section>")
}

/// Each period with what was moved in it.
fn periods(out: &mut dyn Write, bars: &chart::Bars, total: &Tally) -> io::Result<()> {
    // Of all addresses, what is sent is received.
    let once = bars.report.query.by == By::Pair || bars.report.is_of_all();
    let columns = if once { Columns::Once } else { Columns::Both };
    writeln!(out, "<section id=\"periods\">\n<h2>Periods</h2>\n<div class=\"wide\"><table class=\"sorts\">")?;
    write!(out, "<thead><tr><th class=\"s\">{} from</th>{}", bars.every(), columns.heads())?;
    let networks: Vec<_> = bars.report.all_covered(None).map(|(network, _)| network).collect();
    let named = networks.len() > 1;
    if named {
        write!(out, "<th>network</th>")?;
    }
    let heads = if networks.is_empty() { &[][..] } else { &COVERED };
    for (i, head) in heads.iter().enumerate() {
        write!(out, "<th class=\"n{}\">{head}</th>", if i > 0 { " p" } else { "" })?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    for bar in &bars.list {
        write!(out, "<tr><td>{}</td>", Escaped(bars.calendar.heading(bar.period.start)))?;
        columns.cells(out, &bar.total)?;
        let covered: Vec<_> = networks.iter().map(|name| bars.report.covered(name, Some(bar.period))).collect();
        covered_cells(out, if named { &networks } else { &[] }, &covered)?;
        writeln!(out, "</tr>")?;
    }
    write!(out, "</tbody>\n<tfoot><tr><th>total</th>")?;
    columns.cells(out, total)?;
    let covered: Vec<_> = networks.iter().map(|name| bars.report.covered(name, None)).collect();
    covered_cells(out, if named { &networks } else { &[] }, &covered)?;
    writeln!(out, "</tr></tfoot>\n</table></div>\n</section>")
}

/// The heads of [`covered_cells`].
const COVERED: [&str; 4] = ["coverage", "copies seen", "dropped", "lost (estimate)"];

/// How complete the figures are: a line for each network, with its name if there are several.
fn covered_cells(out: &mut dyn Write, names: &[&str], covered: &[Option<Covered>]) -> io::Result<()> {
    if !names.is_empty() {
        let names: Vec<_> = names.iter().map(|name| format!("<bdi>{}</bdi>", Escaped(network_name(name)))).collect();
        write!(out, "<td>{}</td>", names.join("<br/>"))?;
    }
    let values: [fn(&Covered) -> Option<String>; 4] = [
        |covered| Some(covered.coverage.percent()),
        |covered| Some(covered.copies_seen?.percent()),
        |covered| Some(figures::thousands(covered.dropped_packets)),
        |covered| Some(figures::thousands(covered.estimated_lost?)),
    ];
    for (i, value) in values.iter().enumerate().filter(|_| !covered.is_empty()) {
        let lines = covered.iter().map(|covered| covered.as_ref().and_then(value).unwrap_or_else(|| "–".to_owned()));
        write!(
            out,
            "<td class=\"n{}\">{}</td>",
            if i > 0 { " p" } else { "" },
            lines.collect::<Vec<_>>().join("<br/>")
        )?;
    }
    Ok(())
}

impl Report {
    /// How complete the figures of a period are, or of all, for each network of which that is known.
    fn all_covered(&self, period: Option<Period>) -> impl Iterator<Item = (&str, Covered)> {
        self.networks().filter_map(move |name| Some((name, self.covered(name, period)?)))
    }

    /// Whether nobody was chosen.
    fn is_of_all(&self) -> bool {
        self.query.only.is_none() && self.query.named.chosen.is_empty()
    }
}
