//! Times as people give them: dates, clock times, and words that count from now.

use crate::period::{Calendar, Every};
use crate::time::{FINE_FOR, SECOND, Span, Timestamp};
use crate::zone::Zone;

/// A time that somebody gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// On a calendar, or on a clock: meant as it is.
    At(Timestamp),
    /// So long before now: nobody means the very nanosecond.
    Ago(Timestamp, Span),
}

impl When {
    /// The time itself.
    pub fn time(self) -> Timestamp {
        match self {
            When::At(time) | When::Ago(time, _) => time,
        }
    }

    /// The time as a bound between buckets that are kept. What counts from now is rounded down to five minutes, and
    /// beyond a week to the hour.
    pub fn between_buckets(self) -> Timestamp {
        match self {
            When::At(time) => time,
            When::Ago(time, span) => {
                let bucket = time.bucket();
                Timestamp::new(if span > FINE_FOR { bucket.widened(3600).start } else { bucket.start }, 0)
            }
        }
    }
}

/// Reads a date, a date and time, RFC 3339, or one of the words:
///
/// - `now`; `90m`, `36h`, `7d`, `2w` (that long before it, a day being 24 hours);
/// - `today`, `yesterday`: where they begin; with a time behind them (`yesterday 22:00`) that one;
/// - `this-` and `last-` with `hour`, `day`, `week`, `month`, `year`: where it begins. Months begin on `month_start`.
pub fn read(text: &str, now: Timestamp, zone: Zone, month_start: u32) -> Result<When, String> {
    let text = text.trim();
    if let Some(span) = ago(text) {
        return Ok(When::Ago(now - span, span));
    }
    let (second, _) = now.clamped();
    let start = |every, back| start(Calendar::new(zone, every), second, back);
    let (word, time) = text.split_once(' ').unwrap_or((text, ""));
    let days_back = match word {
        "today" => Some(0),
        "yesterday" => Some(1),
        _ => None,
    };
    if let Some(back) = days_back {
        let day = start(Every::Day, back)?;
        if time.is_empty() {
            return Ok(When::At(day));
        }
        let date = zone.date(day).ok_or(BEYOND)?;
        return zone.instant(&format!("{date} {}", time.trim())).map(When::At);
    }
    let every = |length| match length {
        "hour" => Some(Every::Hour),
        "day" => Some(Every::Day),
        "week" => Some(Every::Week),
        "month" => Some(Every::Month { start: month_start }),
        "year" => Some(Every::Year),
        _ => None,
    };
    let [this, last] = ["this-", "last-"].map(|which| text.strip_prefix(which).and_then(every));
    match (this, last) {
        (Some(every), _) => start(every, 0).map(When::At),
        (_, Some(every)) => start(every, 1).map(When::At),
        (None, None) => zone.instant(text).map(When::At),
    }
}

const BEYOND: &str = "no calendar reaches the time of this machine's clock: set it";

/// Where the period of a moment begins, or the one so many before it.
fn start(calendar: Calendar, second: i64, back: u32) -> Result<Timestamp, String> {
    let mut period = calendar.period(second).ok_or(BEYOND)?;
    for _ in 0..back {
        period = calendar.period(period.start - 1).ok_or(BEYOND)?;
    }
    Ok(Timestamp::new(period.start, 0))
}

/// A length of time; `now` is none at all.
fn ago(text: &str) -> Option<Span> {
    if text == "now" {
        return Some(Span::seconds(0));
    }
    let units = [("w", 7 * 86_400), ("d", 86_400), ("h", 3600), ("m", 60)];
    let (number, unit) = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
    let is_number = (1..=6).contains(&number.len()) && number.bytes().all(|c| c.is_ascii_digit());
    Some(Span(number.parse::<i128>().ok().filter(|_| is_number)? * unit * SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(zone: &str, now: &str, text: &str) -> String {
        let now = Zone::absolute(now).unwrap();
        read(text, now, Zone::named(zone).unwrap(), 1).map_or_else(|error| error, |when| when.time().to_string())
    }

    #[test]
    fn words_name_where_a_period_begins() {
        // A Sunday, in the hour that comes twice: 02:30 for the second time.
        let now = "2026-10-25T01:30:00Z";
        for (text, expected) in [
            ("now", "2026-10-25T01:30:00Z"),
            ("today", "2026-10-24T22:00:00Z"),
            ("yesterday", "2026-10-23T22:00:00Z"),
            ("this-hour", "2026-10-25T01:00:00Z"),
            ("last-hour", "2026-10-25T00:00:00Z"),
            ("this-day", "2026-10-24T22:00:00Z"),
            ("last-day", "2026-10-23T22:00:00Z"),
            ("this-week", "2026-10-18T22:00:00Z"),
            ("last-week", "2026-10-11T22:00:00Z"),
            ("this-month", "2026-09-30T22:00:00Z"),
            ("last-month", "2026-08-31T22:00:00Z"),
            ("this-year", "2025-12-31T23:00:00Z"),
            ("last-year", "2024-12-31T23:00:00Z"),
            ("yesterday 22:00", "2026-10-24T20:00:00Z"),
            ("today 04:00:01.5", "2026-10-25T03:00:01.5Z"),
            (
                "today 02:30",
                "2026-10-25 02:30 comes twice in Europe/Berlin that day; give 2026-10-25T02:30:00+02:00 \
              or 2026-10-25T02:30:00+01:00",
            ),
            ("2026-03-29", "2026-03-28T23:00:00Z"),
            ("2026-03-29T00:00:00Z", "2026-03-29T00:00:00Z"),
        ] {
            assert_eq!(at("Europe/Berlin", now, text), expected, "{text}");
        }
        assert_eq!(at("Asia/Kathmandu", "2026-01-01T18:15:00Z", "today"), "2026-01-01T18:15:00Z");
        assert_eq!(at("Asia/Kathmandu", "2026-01-01T18:14:59Z", "this-hour"), "2026-01-01T17:15:00Z");
        assert_eq!(at("UTC", "2028-03-01T00:00:00Z", "yesterday 23:59"), "2028-02-29T23:59:00Z");
        // The day before was skipped.
        assert_eq!(at("Pacific/Apia", "2011-12-31T00:00:00Z", "yesterday 12:00"), "2011-12-29T22:00:00Z");
    }

    #[test]
    fn durations_count_from_now() {
        let now = "2026-03-29T12:34:56.5Z";
        for (text, expected) in [
            ("90m", "2026-03-29T11:04:56.5Z"),
            ("36h", "2026-03-28T00:34:56.5Z"),
            ("7d", "2026-03-22T12:34:56.5Z"),
            ("2w", "2026-03-15T12:34:56.5Z"),
            ("0d", "2026-03-29T12:34:56.5Z"),
        ] {
            assert_eq!(at("Europe/Berlin", now, text), expected, "{text}");
        }
    }

    #[test]
    fn what_counts_from_now_becomes_a_bound_of_buckets() {
        let bound = |text: &str| {
            let now = Zone::absolute("2026-03-29T12:34:56.5Z").unwrap();
            read(text, now, Zone::named("UTC").unwrap(), 1).unwrap().between_buckets().to_string()
        };
        assert_eq!(bound("now"), "2026-03-29T12:30:00Z");
        assert_eq!(bound("90m"), "2026-03-29T11:00:00Z");
        assert_eq!(bound("7d"), "2026-03-22T12:30:00Z");
        assert_eq!(bound("8d"), "2026-03-21T12:00:00Z");
        assert_eq!(bound("yesterday 22:03"), "2026-03-28T22:03:00Z");
    }

    #[test]
    fn months_begin_when_they_are_billed() {
        let now = Zone::absolute("2026-03-13T12:00:00Z").unwrap();
        let start = |text, day| read(text, now, Zone::named("UTC").unwrap(), day).unwrap().time().to_string();
        assert_eq!(start("this-month", 14), "2026-02-14T00:00:00Z");
        assert_eq!(start("last-month", 14), "2026-01-14T00:00:00Z");
        assert_eq!(start("this-month", 31), "2026-02-28T00:00:00Z");
        assert_eq!(start("this-year", 14), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn other_words_are_errors() {
        for text in
            ["", "tomorrow", "now 22:00", "today at noon", "this-decade", "7", "d", "-7d", "1.5h", "7 d", "9999999d"]
        {
            let error = at("UTC", "2026-03-29T12:00:00Z", text);
            assert!(error.starts_with("give a date (2026-03-29)"), "{text}: {error}");
        }
        assert!(at("UTC", "2026-03-29T12:00:00Z", "2026-02-30").starts_with("give a date"));
    }
}
