//! How quotas stand: one line for each.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::csv::quoted;
use super::figures::bytes;
use super::{Format, Style};
use crate::period::Calendar;
use crate::quota::{Quotas, Use};

const COLUMNS: [&str; 9] = [
    "quota",
    "period_start",
    "period_end",
    "used_bytes",
    "limit_bytes",
    "remaining_bytes",
    "share",
    "projected_bytes",
    "exceeded",
];

/// Prints how quotas stand at a moment, in seconds since the epoch.
///
/// # Errors
/// If it cannot be written.
pub fn write_quotas(
    out: &mut dyn Write,
    quotas: &Quotas,
    now: i64,
    format: Format,
    summary: &Value,
    style: Style,
) -> io::Result<()> {
    match format {
        Format::Table => table(out, quotas, now, style),
        Format::Html => Err(io::Error::new(io::ErrorKind::Unsupported, "quotas have no page")),
        Format::Csv => {
            write!(out, "{}\r\n", COLUMNS.join(","))?;
            for one in quotas.uses() {
                let cells = record(quotas, &one, now).map(|cell| match cell {
                    Value::Null => String::new(),
                    Value::String(text) => quoted(&text).into_owned(),
                    value => value.to_string(),
                });
                write!(out, "{}\r\n", cells.join(","))?;
            }
            Ok(())
        }
        Format::Json => {
            let row = |one: Use<'_>| {
                COLUMNS.iter().map(|name| (*name).to_owned()).zip(record(quotas, &one, now)).collect::<Map<_, _>>()
            };
            let rows: Vec<_> = quotas.uses().map(row).collect();
            let zone = quotas.zone();
            let all = json!({
                "time_zone": zone.to_string(),
                "utc_offset": zone.offset(now),
                "rows": rows,
                "summary": summary,
            });
            serde_json::to_writer(&mut *out, &all)?;
            out.write_all(b"\n")
        }
    }
}

/// The cells of a line.
fn record(quotas: &Quotas, one: &Use<'_>, now: i64) -> [Value; 9] {
    let calendar = Calendar::new(quotas.zone(), one.quota.every);
    let share = one
        .used
        .map(|used| (u128::from(used) * 10_000 + u128::from(one.quota.limit / 2)) / u128::from(one.quota.limit));
    [
        json!(one.quota.name),
        json!(calendar.label(one.period.start)),
        json!(calendar.label(one.period.end)),
        json!(one.used),
        json!(one.quota.limit),
        json!(one.remaining()),
        json!(share.map(|share| share as f64 / 10_000.0)),
        json!(one.projected(now)),
        json!(one.used.map(|_| one.is_exceeded())),
    ]
}

/// What may be left out of a table that is too wide, the first first.
const OPTIONAL: [&str; 3] = ["from", "left", "until"];

fn table(out: &mut dyn Write, quotas: &Quotas, now: i64, style: Style) -> io::Result<()> {
    let mut header = vec!["quota", "used", "limit", "share", "left", "projected", "from", "until"];
    let mut lines: Vec<Vec<String>> = quotas.uses().map(|one| line(quotas, &one, now)).collect();
    let mut widths: Vec<usize> = Vec::new();
    for left_out in OPTIONAL.map(Some).into_iter().chain([None]) {
        let width = |column: usize| {
            let cells = lines.iter().map(|line| line[column].as_str()).chain([header[column]]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        widths = (0..header.len()).map(width).collect();
        let Some(left_out) = left_out.filter(|_| widths.iter().sum::<usize>() + 2 * (header.len() - 1) > style.width)
        else {
            break;
        };
        if let Some(at) = header.iter().position(|name| *name == left_out) {
            header.remove(at);
            lines.iter_mut().for_each(|line| drop(line.remove(at)));
        }
    }
    let print = |cells: &[&str]| {
        let cell = |(at, text): (usize, &&str)| match header[at] {
            "quota" | "from" | "until" => format!("{text:width$}", width = widths[at]),
            _ => format!("{text:>width$}", width = widths[at]),
        };
        cells.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let (bold, plain) = if style.ansi { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    writeln!(out, "{bold}{}{plain}", print(&header))?;
    for line in &lines {
        writeln!(out, "{}", print(&line.iter().map(String::as_str).collect::<Vec<_>>()))?;
    }
    writeln!(out, "time zone: {} ({})", quotas.zone(), quotas.zone().offset(now).unwrap_or_default())
}

/// The cells of a line of the table with all columns.
fn line(quotas: &Quotas, one: &Use<'_>, now: i64) -> Vec<String> {
    let calendar = Calendar::new(quotas.zone(), one.quota.every);
    let limit = u128::from(one.quota.limit);
    let tenths = |used: u64| (u128::from(used) * 1000 + limit / 2) / limit;
    let share = |used: u64| format!("{}.{}%", tenths(used) / 10, tenths(used) % 10);
    let known = |number: Option<u64>| number.map_or("-".to_owned(), bytes);
    let left = if one.is_exceeded() { "exceeded".to_owned() } else { known(one.remaining()) };
    vec![
        one.quota.name.clone(),
        known(one.used),
        bytes(one.quota.limit),
        one.used.map_or("-".to_owned(), share),
        left,
        known(one.projected(now)),
        calendar.heading(one.period.start),
        calendar.heading(one.period.end),
    ]
}
