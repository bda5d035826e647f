//! What moved over time: a bar for each period, what was sent above the line and what was received below.

use std::cmp::Reverse;
use std::io::{self, Write};

use hashbrown::HashMap;

use super::super::page::Page;
use super::super::{By, Party, Report, Tally, Who, figures};
use super::{Escaped, network_name};
use crate::period::{Calendar, Every, Period};

/// How many have a colour of their own. There are as many in the style.
const COLOURS: usize = 6;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 76.0;
const TOP: f64 = 26.0;
const PLOT: f64 = 270.0;
const WIDEST_BAR: f64 = 56.0;

/// The bars of a chart.
pub(super) struct Bars<'a> {
    pub(super) report: &'a Report,
    pub(super) calendar: Calendar,
    pub(super) list: Vec<Bar>,
    asked: Option<Every>,
    /// Those who moved the most, with all that they moved.
    series: Vec<(String, Tally)>,
}

/// What was moved in a period.
pub(super) struct Bar {
    pub(super) period: Period,
    pub(super) total: Tally,
    /// By those who have a colour, and by all others.
    moved: [Tally; COLOURS + 1],
}

impl<'a> Bars<'a> {
    pub(super) fn new(report: &'a Report, page: &'a Page) -> Self {
        let networks = page.total.shows_networks();
        let mut most: Vec<_> = Vec::new();
        for (network, line) in page.total.lines() {
            let is_rest = matches!(line.who, Who::Address(Party::Rest) | Who::Pair(Party::Rest, _));
            if !is_rest && line.tally.bytes() > 0 {
                most.push((network, line));
            }
            // No more than are needed: there may be many.
            if most.len() > 1000 {
                keep_most(&mut most);
            }
        }
        keep_most(&mut most);
        let numbers: HashMap<_, _> =
            most.iter().enumerate().map(|(i, (network, line))| ((*network, line.who), i)).collect();
        let bar = |period| {
            let mut bar = Bar { period, total: Tally::default(), moved: [Tally::default(); COLOURS + 1] };
            for (network, line) in report.moved(period) {
                bar.total.add(line.tally);
                bar.moved[numbers.get(&(network, line.who)).copied().unwrap_or(COLOURS)].add(line.tally);
            }
            bar
        };
        let list = report.periods().map(bar).collect();
        let calendar = report.calendar().copied().unwrap_or_else(|| Calendar::new(report.query.zone, Every::Year));
        let name = |network: &str, who| {
            let of = if networks { format!("{}: ", network_name(network)) } else { String::new() };
            match who {
                Who::Address(party) => of + &page.total.label(network, party),
                Who::Pair(src, dst) => format!("{of}{src} → {dst}"),
            }
        };
        let series = most.into_iter().map(|(network, line)| (name(network, line.who), line.tally)).collect();
        Bars { report, calendar, list, asked: page.asked, series }
    }

    /// How long the periods are.
    pub(super) fn every(&self) -> String {
        self.report.query.every.map_or_else(String::new, |every| every.to_string())
    }

    /// Who a colour stands for.
    fn name(&self, i: usize) -> &str {
        self.series.get(i).map_or("all others", |(name, _)| name)
    }

    /// All that those moved for whom no colour stands.
    fn others(&self) -> Tally {
        self.list.iter().fold(Tally::default(), |mut sum, bar| {
            sum.add(bar.moved[COLOURS]);
            sum
        })
    }

    /// The colours that are used, in the order in which they stand on the line: the others last.
    fn colours(&self) -> impl Iterator<Item = (usize, Tally)> {
        let others = self.others();
        let named = self.series.iter().enumerate().map(|(i, (_, tally))| (i, *tally));
        named.chain(Some((COLOURS, others)).filter(|(_, tally)| tally.bytes() > 0))
    }
}

fn keep_most(most: &mut Vec<(&str, super::super::Line)>) {
    most.sort_by_key(|(network, line)| (Reverse(line.tally.bytes()), line.who, *network));
    most.truncate(COLOURS);
}

/// The class and the sign of a colour.
fn class(i: usize) -> usize {
    (i + 1) % (COLOURS + 1)
}

/// What a picture of this size has room for.
struct Scale {
    /// Bytes between two lines.
    step: f64,
    up: f64,
    down: f64,
}

impl Scale {
    fn new(bars: &Bars) -> Self {
        let most = |of: fn(&Tally) -> u64| bars.list.iter().map(|bar| of(&bar.total)).max().unwrap_or(0) as f64;
        let (up, down) = (most(|tally| tally.sent.bytes), most(|tally| tally.received.bytes));
        let wish = ((up + down) / 8.0).max(1.0);
        let ten = 10_f64.powf(wish.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * ten).find(|step| *step >= wish).unwrap_or(wish);
        let whole = |bytes: f64| (bytes / step).ceil() * step;
        Scale { step, up: whole(up), down: whole(down) }
    }

    /// Where a number of bytes is; below the line if it is negative.
    fn y(&self, bytes: f64) -> f64 {
        TOP + (self.up - bytes) / (self.up + self.down).max(1.0) * PLOT
    }
}

pub(super) fn write(out: &mut dyn Write, bars: &Bars) -> io::Result<()> {
    let every = bars.every();
    let scale = Scale::new(bars);
    let both = bars.report.query.by != By::Pair;
    let sides = if both { ": sent above the line, received below" } else { "" };
    writeln!(out, "<section id=\"time\">\n<h2>Over time</h2>\n<p>Bytes by {every}{sides}.")?;
    if let Some(asked) = bars.asked.filter(|asked| asked.to_string() != every) {
        writeln!(out, "By {asked} there would be more bars than can be drawn; other formats have them.")?;
    }
    writeln!(out, "</p>\n<figure><div class=\"wide\"><svg class=\"chart\" role=\"img\" viewBox=\"0 0 {WIDTH} 322\"")?;
    writeln!(out, " aria-label=\"Bytes by {every}{sides}; the figures are in the tables\">")?;

    let steps = |bytes: f64| (bytes / scale.step).round() as i32;
    for i in -steps(scale.down)..=steps(scale.up) {
        let y = scale.y(f64::from(i) * scale.step);
        let bytes = figures::bytes((f64::from(i.abs()) * scale.step) as u64);
        writeln!(out, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>")?;
        writeln!(out, "<text class=\"y\" x=\"{}\" y=\"{:.1}\">{bytes}</text>", LEFT - 8.0, y + 4.0)?;
    }
    let ends =
        if both { [("sent ↑", 12.0), ("received ↓", TOP + PLOT + 20.0)] } else { [("bytes", 12.0), ("", 0.0)] };
    for (end, y) in ends.iter().filter(|(end, _)| !end.is_empty()) {
        writeln!(out, "<text class=\"y\" x=\"{}\" y=\"{y}\">{end}</text>", LEFT - 8.0)?;
    }

    let slot = (WIDTH - LEFT) / bars.list.len() as f64;
    let gap = if slot > 4.0 { (slot * 0.2).max(slot - WIDEST_BAR) } else { 0.0 };
    draw(out, bars, &scale, slot, gap)?;
    writeln!(out, "<line class=\"zero\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>", scale.y(0.0))?;

    let stride = bars.list.len().div_ceil(9);
    for (i, bar) in bars.list.iter().enumerate() {
        let x = LEFT + i as f64 * slot;
        if i % stride == 0 && (i == 0 || x < WIDTH - 45.0) {
            let x = (x + slot / 2.0).max(LEFT + 32.0);
            let label = mark(bars, bar.period.start);
            writeln!(out, "<text class=\"x\" x=\"{x:.1}\" y=\"{:.1}\">{label}</text>", TOP + PLOT + 20.0)?;
        }
        write!(out, "<rect class=\"hit\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{slot:.2}\" height=\"{PLOT}\"><title>")?;
        write!(out, "{}", bars.calendar.heading(bar.period.start))?;
        tip(out, "total", &bar.total, both)?;
        for (i, _) in bars.colours().filter(|(i, _)| bar.moved[*i].bytes() > 0) {
            tip(out, bars.name(i), &bar.moved[i], both)?;
        }
        for (_, covered) in bars.report.all_covered(Some(bar.period)) {
            write!(out, "\n{covered}")?;
        }
        writeln!(out, "</title></rect>")?;
    }
    writeln!(out, "</svg></div>\n<figcaption><ul class=\"legend\">")?;
    for (i, tally) in bars.colours() {
        let (class, sign) = (class(i), sign(i));
        write!(
            out,
            "<li><svg viewBox=\"0 0 16 16\" aria-hidden=\"true\"><rect class=\"f{class}\" width=\"16\" height=\"16\" rx=\"3\"/>\
             <text x=\"8\" y=\"12\">{sign}</text></svg><bdi>{}</bdi> <small>",
            Escaped(bars.name(i)),
        )?;
        if both {
            write!(out, "sent {}, received ", figures::bytes(tally.sent.bytes))?;
            write!(out, "{}</small></li>", figures::bytes(tally.received.bytes))?;
        } else {
            write!(out, "{}</small></li>", figures::bytes(tally.sent.bytes))?;
        }
    }
    writeln!(out, "</ul></figcaption></figure>\n</section>")
}

/// What stands in a colour, for those who do not see it.
fn sign(i: usize) -> String {
    if i == COLOURS { String::new() } else { (i + 1).to_string() }
}

/// The bars: one shape for each colour, and its sign once on either side if there is room.
fn draw(out: &mut dyn Write, bars: &Bars, scale: &Scale, slot: f64, gap: f64) -> io::Result<()> {
    let mut signs = Vec::new();
    let mut ends = vec![[0.0, 0.0]; bars.list.len()];
    for (i, _) in bars.colours() {
        // Where each side of it is widest.
        let mut widest = [None::<(f64, f64, f64)>; 2];
        write!(out, "<path class=\"f{}{}\" d=\"", class(i), if slot < 4.0 { " thin" } else { "" })?;
        for (n, (bar, ends)) in bars.list.iter().zip(&mut ends).enumerate() {
            let tally = &bar.moved[i];
            let sides = [tally.sent.bytes as f64, -(tally.received.bytes as f64)];
            for ((end, bytes), widest) in
                ends.iter_mut().zip(sides).zip(&mut widest).filter(|((_, bytes), _)| *bytes != 0.0)
            {
                let (from, to) = (scale.y(*end), scale.y(*end + bytes));
                *end += bytes;
                let (x, width) = (LEFT + n as f64 * slot + gap / 2.0, slot - gap);
                write!(out, "M{x:.1} {from:.1}h{width:.2}V{to:.1}h{:.2}z", -width)?;
                let height = (to - from).abs();
                if width >= 9.0 && height >= 12.0 && widest.is_none_or(|(_, _, most)| most < height) {
                    *widest = Some((x + width / 2.0, (from + to) / 2.0 + 3.5, height));
                }
            }
        }
        writeln!(out, "\"/>")?;
        signs.extend(widest.into_iter().flatten().map(|(x, y, _)| (x, y, sign(i))));
    }
    for (x, y, sign) in signs {
        writeln!(out, "<text class=\"k\" x=\"{x:.1}\" y=\"{y:.1}\">{sign}</text>")?;
    }
    Ok(())
}

/// A line of what shows where one points at.
fn tip(out: &mut dyn Write, name: &str, tally: &Tally, both: bool) -> io::Result<()> {
    write!(out, "\n{}: ", Escaped(name))?;
    if both {
        write!(out, "sent {}, received ", figures::bytes(tally.sent.bytes))?;
        return write!(out, "{}", figures::bytes(tally.received.bytes));
    }
    write!(out, "{}", figures::bytes(tally.sent.bytes))
}

/// When a period begins, in few letters.
fn mark(bars: &Bars, start: i64) -> String {
    let heading = bars.calendar.heading(start);
    let part = match bars.report.query.every {
        Some(Every::Hour) => heading.get(5..16),
        Some(Every::Month { start: 1 }) => heading.get(..7),
        Some(Every::Year) => heading.get(..4),
        _ => heading.get(..10),
    };
    part.unwrap_or_default().to_owned()
}
