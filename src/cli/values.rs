//! Strings become values: one function for each kind of value a flag may have.

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{Ends, Form, InfoFormat, Origins, Periods, Retain, Speed};
use crate::meter::Tee;
use crate::period::Every;
use crate::report::{By, Format, Sort};
use crate::time::{DAY_SECONDS, SECOND, Span};
use crate::traffic::{End, Origin, Overlap};
use crate::zerotier::rules;

fn one_of<T: Copy + Send + Sync + 'static>(values: &'static [(&'static str, T)]) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(values.iter().map(|(name, _)| *name))
        .try_map(|name| values.iter().find(|(known, _)| *known == name).map(|&(_, value)| value).ok_or("unknown"))
}

/// Endpoints and pairs are numbered in 32 bits, a few to each address and pair.
pub(super) fn limit() -> impl TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(..=1 << 28)
}

pub(super) fn tee() -> impl TypedValueParser<Value = Tee> {
    one_of(&[("both", Tee::Both), ("one", Tee::One), ("none", Tee::None)])
}

pub(super) fn by() -> impl TypedValueParser<Value = By> {
    one_of(&[("address", By::Address), ("pair", By::Pair), ("member", By::Member)])
}

pub(super) fn every() -> impl TypedValueParser<Value = Periods> {
    one_of(&[
        ("hour", Periods::Every(Every::Hour)),
        ("day", Periods::Every(Every::Day)),
        ("week", Periods::Every(Every::Week)),
        ("month", Periods::Every(Every::Month { start: 1 })),
        ("total", Periods::Total),
    ])
}

pub(super) fn ends(text: &str) -> Result<Ends, String> {
    match text {
        "external" => Ok(Ends::Pseudo(End::External)),
        "multicast" => Ok(Ends::Pseudo(End::Multicast)),
        "other" => Ok(Ends::Pseudo(End::Other)),
        range => range.parse().map(Ends::Range).map_err(|error: String| match error.strip_prefix("give ") {
            Some(_) => "give an address or range like 10.147.20.0/24, or external, multicast or other".to_owned(),
            None => error,
        }),
    }
}

pub(super) fn sort() -> impl TypedValueParser<Value = Sort> {
    one_of(&[("total", Sort::Total), ("sent", Sort::Sent), ("received", Sort::Received), ("addr", Sort::Addr)])
}

pub(super) fn format() -> impl TypedValueParser<Value = Form> {
    one_of(&[
        ("table", Form::Report(Format::Table)),
        ("csv", Form::Report(Format::Csv)),
        ("json", Form::Report(Format::Json)),
        ("html", Form::Report(Format::Html)),
        ("openmetrics", Form::OpenMetrics),
    ])
}

/// Those that quotas come in.
pub(super) fn quota_format() -> impl TypedValueParser<Value = Form> {
    one_of(&[
        ("table", Form::Report(Format::Table)),
        ("csv", Form::Report(Format::Csv)),
        ("json", Form::Report(Format::Json)),
    ])
}

/// Whole seconds.
pub(super) fn step(text: &str) -> Result<i64, String> {
    let seconds = span(text).filter(|span| span.0 % SECOND == 0).map(Span::as_seconds);
    seconds
        .filter(|seconds| (1..=DAY_SECONDS.into()).contains(seconds))
        .ok_or_else(|| "give whole seconds up to a day, like 15s, 5m or 1h".to_owned())
}

/// Names of labels that series have themselves.
const TAKEN: [&str; 4] = ["addr", "end", "node", "name"];

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or_default();
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    if value.is_empty() || !name.starts_with(letter) || !name.chars().all(|c| letter(c) || c.is_ascii_digit()) {
        return Err("give a name of letters, digits and '_', and a value, like job=ztmon".to_owned());
    }
    if TAKEN.contains(&name) {
        return Err(format!("series have a label '{name}' already"));
    }
    if name.starts_with("__") {
        return Err("names that begin with '__' are Prometheus' own".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) fn origin() -> impl TypedValueParser<Value = Origins> {
    one_of(&[("live", Origins::Only(Origin::Live)), ("import", Origins::Only(Origin::Import)), ("all", Origins::All)])
}

pub(super) fn sides() -> impl TypedValueParser<Value = rules::Sides> {
    use rules::Sides;
    one_of(&[("both", Sides::Both), ("sender", Sides::Sender), ("receiver", Sides::Receiver)])
}

pub(super) fn rules_format() -> impl TypedValueParser<Value = rules::Format> {
    one_of(&[("text", rules::Format::Text), ("json", rules::Format::Json)])
}

pub(super) fn info_format() -> impl TypedValueParser<Value = InfoFormat> {
    one_of(&[("table", InfoFormat::Table), ("json", InfoFormat::Json)])
}

/// In seconds.
pub(super) fn bucket() -> impl TypedValueParser<Value = u32> {
    one_of(&[("15m", 900), ("30m", 1800), ("60m", 3600)])
}

pub(super) fn overlap() -> impl TypedValueParser<Value = Overlap> {
    one_of(&[("skip", Overlap::Skip), ("add", Overlap::Add)])
}

/// The longest pairing window: its packets have to be remembered.
const MAX_WINDOW: Span = Span::seconds(3600);

pub(super) fn window(text: &str) -> Result<Span, String> {
    let wrong = "give a time up to an hour, like 2s, 500ms or 1m";
    span(text).filter(|span| *span <= MAX_WINDOW).ok_or_else(|| wrong.to_owned())
}

pub(super) fn idle(text: &str) -> Result<Span, String> {
    let wrong = "give a time of at least a second, like 30d, 12h, 90m or 30s";
    span(text).filter(|span| *span >= Span::seconds(1)).ok_or_else(|| wrong.to_owned())
}

pub(super) fn retain(text: &str) -> Result<Retain, String> {
    let wrong = "give a time of at least a second with its unit, like 400d or 36h, or 'forever'";
    match text {
        "forever" => Ok(Retain::Forever),
        // A unit that was forgotten must not delete what is older than 400 seconds.
        _ if text.ends_with(|c: char| c.is_ascii_digit()) => Err(wrong.to_owned()),
        _ => idle(text).map(Retain::Time).map_err(|_| wrong.to_owned()),
    }
}

/// A number with a unit, exactly; seconds without one.
fn span(text: &str) -> Option<Span> {
    const UNITS: [(&str, i128); 8] = [
        ("ms", SECOND / 1000),
        ("us", 1000),
        ("ns", 1),
        ("d", 86_400 * SECOND),
        ("h", 3600 * SECOND),
        ("m", 60 * SECOND),
        ("s", SECOND),
        ("", SECOND),
    ];
    let (number, unit) = UNITS.iter().find_map(|(name, unit)| text.strip_suffix(name).map(|number| (number, *unit)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| !text.is_empty() && text.len() <= 9 && text.bytes().all(|c| c.is_ascii_digit());
    if !digits(whole) || (number.contains('.') && !digits(fraction)) {
        return None;
    }
    Some(Span(format!("{whole}{fraction}").parse::<i128>().ok()? * unit / 10_i128.pow(fraction.len() as u32)))
}

pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (decimal, binary) = (["kB", "MB", "GB", "TB"], ["KiB", "MiB", "GiB", "TiB"]);
    let powers = |of: u64| (1..).map(move |power| of.pow(power));
    let mut units = decimal.into_iter().zip(powers(1000)).chain(binary.into_iter().zip(powers(1024))).chain([("", 1)]);
    let found = units.find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)));
    found
        .filter(|(number, _)| number.bytes().all(|c| c.is_ascii_digit()))
        .and_then(|(number, unit)| number.parse::<u64>().ok()?.checked_mul(unit))
        .ok_or_else(|| "give a number of bytes, like 500, 10kB, 5MB or 1GiB".to_owned())
}

/// The size of a buffer, as libpcap takes it.
pub(super) fn buffer(text: &str) -> Result<i32, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let found = units.iter().find_map(|(name, shift)| Some((text.strip_suffix(name)?, *shift)));
    found
        .filter(|(number, _)| number.bytes().all(|c| c.is_ascii_digit()))
        .and_then(|(number, shift)| number.parse::<i32>().ok()?.checked_mul(1 << shift))
        .filter(|bytes| *bytes >= 512 << 10)
        .ok_or_else(|| "give a size from 512KiB to 1GiB, like 64MiB".to_owned())
}

pub(super) fn speed(text: &str) -> Result<Speed, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Speed::Max),
        Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
        _ => Err("give a number above 0, like 1 or 60, or 'max'".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_exact() {
        assert_eq!(window("2s"), Ok(Span::seconds(2)));
        assert_eq!(window("2"), Ok(Span::seconds(2)));
        assert_eq!(window("500ms"), Ok(Span(500_000_000)));
        assert_eq!(window("1.5s"), Ok(Span(1_500_000_000)));
        assert_eq!(window("0.000000001s"), Ok(Span(1)));
        assert_eq!(window("60m"), Ok(MAX_WINDOW));
        for bad in ["", "s", "-1s", "1e3s", "2 s", "1.s", ".5s", "61m", "99999999999s"] {
            assert!(window(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn idle_times_have_longer_units() {
        assert_eq!(idle("30d"), Ok(Span::seconds(30 * 86_400)));
        assert_eq!(idle("12h"), Ok(Span::seconds(12 * 3600)));
        assert!(idle("0").is_err() && idle("999ms").is_err() && idle("1w").is_err());
    }

    #[test]
    fn steps_are_whole_seconds() {
        assert_eq!((step("15s"), step("5m"), step("1d"), step("1.5m")), (Ok(15), Ok(300), Ok(86_400), Ok(90)));
        assert!(["", "0s", "500ms", "1.5s", "25h", "-1s"].iter().all(|bad| step(bad).is_err()));
    }

    #[test]
    fn labels() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(label("job=ztmon"), pair("job", "ztmon"));
        assert_eq!(label("_a1=x=y \"z\""), pair("_a1", "x=y \"z\""));
        for bad in
            ["", "job", "job=", "=x", "1a=x", "a-b=x", "\u{e4}=x", "addr=x", "end=x", "node=x", "name=x", "__name__=x"]
        {
            assert!(label(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn history_is_kept_for_a_time_or_forever() {
        assert_eq!(retain("400d"), Ok(Retain::Time(Span::seconds(400 * 86_400))));
        assert_eq!(retain("forever"), Ok(Retain::Forever));
        assert!(["0", "0s", "ever", "400"].iter().all(|bad| retain(bad).is_err()));
    }

    #[test]
    fn sizes() {
        assert_eq!((bytes("500"), bytes("10kB"), bytes("2GB")), (Ok(500), Ok(10_000), Ok(2_000_000_000)));
        assert_eq!((bytes("3KiB"), bytes("2GiB"), bytes("1TiB")), (Ok(3 << 10), Ok(2 << 30), Ok(1 << 40)));
        assert!(["", "kB", "-1", "+1", "1.5MB", "1kiB", "99999999TB"].iter().all(|bad| bytes(bad).is_err()));
    }

    #[test]
    fn buffers() {
        assert_eq!((buffer("512KiB"), buffer("64MiB"), buffer("1GiB")), (Ok(1 << 19), Ok(64 << 20), Ok(1 << 30)));
        assert!(["", "64", "64MB", "511KiB", "0MiB", "-1MiB", "1.5GiB", "2GiB"].iter().all(|bad| buffer(bad).is_err()));
    }

    #[test]
    fn speeds() {
        assert_eq!(speed("max"), Ok(Speed::Max));
        assert_eq!(speed("60"), Ok(Speed::Times(60.0)));
        assert!(speed("0").is_err() && speed("inf").is_err() && speed("fast").is_err());
    }
}
