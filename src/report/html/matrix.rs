//! Who sent how much to whom, as a grid: the darker, the more.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};

use hashbrown::HashMap;

use super::super::{Line, Party, Report, Who, figures};
use super::{Escaped, network_name};

/// The most rows and columns of a grid, without that of all others.
const MOST: usize = 10;

/// Shades that a cell may have. There are as many in the style.
const SHADES: f64 = 6.0;

pub(super) fn write(out: &mut dyn Write, pairs: &Report, top: usize) -> io::Result<()> {
    let mut networks: BTreeMap<&str, HashMap<Party, u128>> = BTreeMap::new();
    for (network, Line { who, tally }) in pairs.lines() {
        if let Who::Pair(src, dst) = who {
            let moved = networks.entry(network).or_default();
            for end in [src, dst] {
                *moved.entry(end).or_default() += tally.bytes();
            }
        }
    }
    writeln!(out, "<section id=\"matrix\">\n<h2>Who to whom</h2>\n<p>Rows sent, columns received.")?;
    if networks.values().any(|moved| moved.len() > MOST.min(top)) {
        writeln!(out, "Those who moved the most have a row and a column of their own.")?;
    }
    writeln!(out, "</p>")?;
    for (network, moved) in networks {
        let mut ends: Vec<_> = moved.into_iter().collect();
        ends.sort_unstable_by_key(|&(end, bytes)| (Reverse(bytes), end));
        let rest = ends.len() > MOST.min(top);
        ends.truncate(MOST.min(top));
        let mut ends: Vec<_> = ends.into_iter().map(|(end, _)| end).collect();
        // In the order of addresses, so that neighbours are near each other and pseudo-ends last.
        ends.sort_unstable();
        let lines = pairs.lines().filter(|(of, _)| *of == network).map(|(_, line)| line);
        if pairs.shows_networks() {
            writeln!(out, "<h3><bdi>{}</bdi></h3>", Escaped(network_name(network)))?;
        }
        grid(out, &ends, rest, lines)?;
    }
    writeln!(out, "</section>")
}

fn grid(out: &mut dyn Write, ends: &[Party], rest: bool, lines: impl Iterator<Item = Line>) -> io::Result<()> {
    let names: Vec<_> = ends.iter().copied().chain(rest.then_some(Party::Rest)).collect();
    let numbers: HashMap<_, _> = ends.iter().enumerate().map(|(i, end)| (*end, i)).collect();
    let number = |end| numbers.get(&end).copied().unwrap_or(ends.len());
    let mut cells = vec![vec![0_u64; names.len()]; names.len()];
    for Line { who, tally } in lines {
        if let Who::Pair(src, dst) = who {
            let cell = &mut cells[number(src)][number(dst)];
            *cell = cell.saturating_add(tally.sent.bytes);
        }
    }
    let sum = |bytes: &mut dyn Iterator<Item = u64>| bytes.fold(0, u64::saturating_add);
    let most = cells.iter().flatten().max().copied().unwrap_or(0);

    write!(out, "<div class=\"wide\"><table class=\"matrix\">\n<thead><tr><th>from ↓ to →</th>")?;
    for (i, name) in names.iter().enumerate() {
        write!(out, "<th title=\"{}\">{}</th>", Escaped(name), sign(i, *name))?;
    }
    writeln!(out, "<th>sent</th></tr></thead>\n<tbody>")?;
    for (i, (name, row)) in names.iter().zip(&cells).enumerate() {
        let (sign, name) = (sign(i, *name), Escaped(name));
        write!(out, "<tr><th class=\"address\" scope=\"row\">")?;
        match sign.parse::<usize>() {
            Ok(_) => write!(out, "<i>{sign}</i> {name}</th>")?,
            Err(_) => write!(out, "{name}</th>")?,
        }
        for (j, &bytes) in row.iter().enumerate() {
            match bytes {
                0 => write!(out, "<td class=\"no\">·</td>")?,
                bytes => {
                    let shade = ((bytes as f64 / most as f64).sqrt() * SHADES).ceil().clamp(1.0, SHADES);
                    let (exact, pair) = (figures::thousands(bytes), names[j]);
                    write!(out, "<td class=\"h{shade}\" title=\"{exact} bytes from {name} to {}\">", Escaped(pair))?;
                    write!(out, "{}</td>", figures::bytes(bytes))?;
                }
            }
        }
        writeln!(out, "<td>{}</td></tr>", figures::bytes(sum(&mut row.iter().copied())))?;
    }
    write!(out, "</tbody>\n<tfoot><tr><th>received</th>")?;
    for j in 0..names.len() {
        write!(out, "<td>{}</td>", figures::bytes(sum(&mut cells.iter().map(|row| row[j]))))?;
    }
    writeln!(out, "<td>{}</td></tr></tfoot>\n</table></div>", figures::bytes(sum(&mut cells.iter().flatten().copied())))
}

/// What stands for an end over its column: its number, or the name of one that is no client.
fn sign(i: usize, end: Party) -> String {
    match end {
        Party::End(end) if end.is_addr() => (i + 1).to_string(),
        other => other.to_string(),
    }
}
