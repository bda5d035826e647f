//! What replay says about its input: outcomes, copies, what does not fit.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::meter::{Diagnosis, Stats, Tee};
use crate::report::thousands;
use crate::traffic::Outcome;

/// Lines for a person.
pub(super) fn text(stats: &Stats, diagnosis: &Diagnosis, tee: Tee) -> String {
    let count = |outcome| thousands(stats.outcomes.get(outcome));
    let mut text = format!(
        "{} frames = {} counted + {} copies + {} out of scope + {} not IP + {} malformed + {} unsupported link\n",
        thousands(stats.outcomes.frames()),
        count(Outcome::Counted),
        count(Outcome::Copy),
        count(Outcome::OutOfScope),
        count(Outcome::NotIp),
        count(Outcome::Malformed),
        count(Outcome::UnsupportedLink),
    );
    if tee == Tee::Both {
        writeln!(text, "{}", copies(diagnosis)).ok();
    }
    for apart in &diagnosis.apart {
        writeln!(text, "{apart}").ok();
    }
    if diagnosis.apart_rest > 0 {
        writeln!(text, "{} singles are from or to other MACs that are in no pair", diagnosis.apart_rest).ok();
    }
    for warning in &diagnosis.warnings {
        writeln!(text, "warning: {warning}").ok();
    }
    text
}

/// Pairs and singles, and what they say of the packets that were missed.
fn copies(diagnosis: &Diagnosis) -> String {
    let mut text = format!("{} pairs, {} singles", thousands(diagnosis.pairs), thousands(diagnosis.singles));
    let apart = diagnosis.apart.iter().map(|apart| apart.singles).sum::<u64>() + diagnosis.apart_rest;
    for (count, what) in [(apart, "apart (see below)"), (diagnosis.pending, "waiting for a copy at the end")] {
        if count > 0 {
            write!(text, ", {} {what}", thousands(count)).ok();
        }
    }
    let missed = diagnosis.missed_share().map_or_else(|| "cannot be told".to_owned(), share);
    write!(text, "; estimated share of missed packets: {missed}").ok();
    text
}

/// The same for a program.
pub(super) fn json(stats: &Stats, diagnosis: &Diagnosis) -> Value {
    let count = |outcome| stats.outcomes.get(outcome);
    let apart = diagnosis
        .apart
        .iter()
        .map(|apart| json!({"mac": apart.mac.to_string(), "singles": apart.singles, "observer": apart.observer}));
    let rest =
        (diagnosis.apart_rest > 0).then(|| json!({"mac": "rest", "singles": diagnosis.apart_rest, "observer": false}));
    json!({
        "frames": stats.outcomes.frames(),
        "counted": count(Outcome::Counted),
        "copies": count(Outcome::Copy),
        "out_of_scope": count(Outcome::OutOfScope),
        "not_ip": count(Outcome::NotIp),
        "malformed": count(Outcome::Malformed),
        "unsupported_link": count(Outcome::UnsupportedLink),
        "pairs": diagnosis.pairs,
        "singles": diagnosis.singles,
        "singles_apart": apart.chain(rest).collect::<Vec<_>>(),
        "pending": diagnosis.pending,
        "missed_share": diagnosis.missed_share(),
        "warnings": diagnosis.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// A small share in percent with two significant digits.
fn share(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        percent if percent >= 10.0 => format!("{percent:.0} %"),
        percent if percent >= 1.0 => format!("{percent:.1} %"),
        percent if percent >= 0.001 => {
            let decimals = (1.0 - percent.log10().floor()) as usize;
            format!("{percent:.decimals$} %")
        }
        _ => "below 0.001 %".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_keep_two_digits() {
        let shares = [0.0, 1e-9, 0.000_012_3, 0.000_123, 0.012_3, 0.5].map(share);
        assert_eq!(shares, ["0 %", "below 0.001 %", "0.0012 %", "0.012 %", "1.2 %", "50 %"]);
    }
}
