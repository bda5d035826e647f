//! Strings become values: one function for each kind of value a flag may have.

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{Origins, Retain, Speed};
use crate::meter::Tee;
use crate::report::{By, Format, Sort};
use crate::time::{SECOND, Span};
use crate::traffic::Origin;
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
    one_of(&[("address", By::Address), ("pair", By::Pair)])
}

pub(super) fn sort() -> impl TypedValueParser<Value = Sort> {
    one_of(&[("total", Sort::Total), ("sent", Sort::Sent), ("received", Sort::Received), ("addr", Sort::Addr)])
}

pub(super) fn format() -> impl TypedValueParser<Value = Format> {
    one_of(&[("table", Format::Table), ("csv", Format::Csv), ("json", Format::Json)])
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

/// In seconds.
pub(super) fn bucket() -> impl TypedValueParser<Value = u32> {
    one_of(&[("15m", 900), ("30m", 1800), ("60m", 3600)])
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
    let wrong = "give a time of at least a second, like 400d, or 'forever'";
    match text {
        "forever" => Ok(Retain::Forever),
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
    let units = [("kB", 1000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000), ("", 1)];
    let found = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
    found
        .filter(|(number, _)| number.bytes().all(|c| c.is_ascii_digit()))
        .and_then(|(number, unit)| number.parse::<u64>().ok()?.checked_mul(unit))
        .ok_or_else(|| "give a number of bytes, like 500, 10kB, 5MB or 1GB".to_owned())
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
    fn history_is_kept_for_a_time_or_forever() {
        assert_eq!(retain("400d"), Ok(Retain::Time(Span::seconds(400 * 86_400))));
        assert_eq!(retain("forever"), Ok(Retain::Forever));
        assert!(retain("0").is_err() && retain("ever").is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!((bytes("500"), bytes("10kB"), bytes("2GB")), (Ok(500), Ok(10_000), Ok(2_000_000_000)));
        assert!(["", "kB", "-1", "+1", "1.5MB", "1MiB", "99999999TB"].iter().all(|bad| bytes(bad).is_err()));
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
