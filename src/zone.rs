//! Time zones: dates as people write them become [`Timestamp`]s.

use chrono::{
    DateTime, Datelike, FixedOffset, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone,
};
use chrono_tz::{GapInfo, Tz};

use crate::time::Timestamp;

/// The last year of which chrono-tz knows how clocks are changed. Every later year is like one of the 28 up to it.
const LAST_KNOWN_YEAR: i32 = 2099;

/// An IANA time zone. The rules are built in: nothing is read from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone(Tz);

impl Zone {
    /// The zone of UTC itself.
    pub const UTC: Zone = Zone(Tz::UTC);

    /// By its IANA name, like `Europe/Berlin` or `UTC`.
    pub fn named(name: &str) -> Result<Self, String> {
        name.parse().map(Zone).map_err(|_| format!("'{name}' is no time zone; give an IANA name like Europe/Berlin"))
    }

    /// Reads a date and time with `Z` or an offset: no zone has a say in it.
    pub fn absolute(text: &str) -> Option<Timestamp> {
        let time = DateTime::parse_from_rfc3339(text).ok()?;
        Some(Timestamp::new(time.timestamp(), u64::from(time.timestamp_subsec_nanos())))
    }

    /// Reads a date (its first instant), a date and time, or either as [`Zone::absolute`] does.
    pub fn instant(self, text: &str) -> Result<Timestamp, String> {
        if let Some(time) = Zone::absolute(text) {
            return Ok(time);
        }
        if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            return self.start_of(date).ok_or_else(|| format!("there is no {text} in {}", self.0));
        }
        let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
        let local = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok()).ok_or(
            "give a date (2026-03-29), a date and time ('2026-03-29 14:00'), RFC 3339 (2026-03-29T12:00:00Z), \
             or words like today, 'yesterday 22:00', this-month or 7d",
        )?;
        match self.clocks_show(local) {
            LocalResult::Single(time) => Ok(stamp(&time)),
            LocalResult::Ambiguous(first, second) => Err(format!(
                "{text} comes twice in {} that day; give {} or {}",
                self.0,
                first.to_rfc3339(),
                second.to_rfc3339()
            )),
            LocalResult::None => Err(format!("the clocks of {} skip {text}", self.0)),
        }
    }

    /// The first instant of a day: not always midnight. None if the zone skips the whole day.
    pub(crate) fn start_of(self, date: NaiveDate) -> Option<Timestamp> {
        let midnight = date.and_time(NaiveTime::MIN);
        let first = self.clocks_show(midnight).earliest();
        let in_gap = || {
            let later = since_known_year(date)?;
            GapInfo::new(&midnight.checked_sub_signed(later)?, &self.0)?.end?.fixed_offset().checked_add_signed(later)
        };
        let first = first.or_else(in_gap)?;
        (first.date_naive() == date).then(|| stamp(&first))
    }

    /// What the zone's clocks and calendars show at a moment, in seconds since the epoch.
    pub(crate) fn local(self, second: i64) -> Option<DateTime<FixedOffset>> {
        let moment = DateTime::from_timestamp(second, 0)?;
        let known = moment.checked_sub_signed(since_known_year(moment.date_naive())?)?;
        Some(moment.with_timezone(&known.with_timezone(&self.0).offset().fix()))
    }

    /// The moments at which the zone's clocks show this.
    fn clocks_show(self, local: NaiveDateTime) -> LocalResult<DateTime<FixedOffset>> {
        let later = since_known_year(local.date());
        match later.and_then(|later| Some((local.checked_sub_signed(later)?, later))) {
            Some((known, later)) => self.0.from_local_datetime(&known).map(|time| time.fixed_offset() + later),
            None => LocalResult::None,
        }
    }

    /// The date at a moment, as [`Zone::instant`] reads it.
    pub fn date(self, time: Timestamp) -> Option<String> {
        Some(self.local(time.clamped().0)?.date_naive().to_string())
    }

    /// A moment, in seconds since the epoch, as RFC 3339 has it with the zone's offset. In UTC where that cannot be written:
    /// an offset of other than whole minutes, as local mean times had, or a year beyond four digits.
    pub fn label(self, second: i64) -> String {
        let is_plain = |local: &DateTime<FixedOffset>| {
            local.offset().fix().local_minus_utc() % 60 == 0 && (0..=9999).contains(&local.year())
        };
        self.local(second).filter(is_plain).map_or_else(
            || Timestamp::new(second, 0).to_string(),
            |local| local.format("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        )
    }

    /// How far its clocks are ahead of UTC at a moment, in seconds since the epoch: like `+05:45`.
    pub fn offset(self, second: i64) -> Option<String> {
        Some(self.local(second)?.format("%:z").to_string())
    }
}

/// How much later a date is than that of a year whose clocks are known to be changed like those of its own: which begins
/// on the same day of the week, and is as long.
fn since_known_year(date: NaiveDate) -> Option<TimeDelta> {
    match date.year() {
        ..=LAST_KNOWN_YEAR => return Some(TimeDelta::zero()),
        // What is added must not run out of dates.
        100_000.. => return None,
        _ => (),
    }
    let first = date.with_ordinal(1)?;
    let known = (LAST_KNOWN_YEAR - 27..=LAST_KNOWN_YEAR).filter_map(|year| NaiveDate::from_yo_opt(year, 1));
    let is_alike = |known: &NaiveDate| known.weekday() == first.weekday() && known.leap_year() == first.leap_year();
    Some(first - known.into_iter().find(is_alike)?)
}

fn stamp(time: &DateTime<FixedOffset>) -> Timestamp {
    Timestamp::new(time.timestamp(), u64::from(time.timestamp_subsec_nanos()))
}

/// Its IANA name.
impl std::fmt::Display for Zone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(zone: &str, text: &str) -> String {
        Zone::named(zone).unwrap().instant(text).map_or_else(|error| error, |time| time.to_string())
    }

    #[test]
    fn dates_start_at_their_first_instant() {
        assert_eq!(at("UTC", "2026-03-29"), "2026-03-29T00:00:00Z");
        assert_eq!(at("Europe/Berlin", "2026-03-29"), "2026-03-28T23:00:00Z");
        assert_eq!(at("Europe/Berlin", "2026-03-30"), "2026-03-29T22:00:00Z");
        assert_eq!(at("Asia/Kathmandu", "2026-01-01"), "2025-12-31T18:15:00Z");
        // Midnight itself was skipped.
        assert_eq!(at("America/Sao_Paulo", "2018-11-04"), "2018-11-04T03:00:00Z");
        // A whole day was.
        assert_eq!(at("Pacific/Apia", "2011-12-30"), "there is no 2011-12-30 in Pacific/Apia");
    }

    /// Against the rules themselves: in Berlin the last Sundays of March and October, at one in UTC.
    #[test]
    fn clocks_are_changed_after_the_years_that_are_known() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        for year in 2090..2600 {
            let last_sunday = |month| {
                let last = NaiveDate::from_ymd_opt(year, month, 31).unwrap();
                let days = last.weekday().num_days_from_sunday();
                (last - TimeDelta::days(days.into())).and_hms_opt(1, 0, 0).unwrap().and_utc().timestamp()
            };
            for (change, before, after) in [(last_sunday(3), "+01:00", "+02:00"), (last_sunday(10), "+02:00", "+01:00")]
            {
                assert_eq!(berlin.offset(change - 1).unwrap(), before, "{year}");
                assert_eq!(berlin.offset(change).unwrap(), after, "{year}");
            }
        }
        assert_eq!(at("Europe/Berlin", "2106-02-07"), "2106-02-06T23:00:00Z");
        assert_eq!(at("Europe/Berlin", "2105-07-07 14:00"), "2105-07-07T12:00:00Z");
        assert_eq!(at("America/New_York", "2100-07-01"), "2100-07-01T04:00:00Z");
        assert!(at("Europe/Berlin", "2105-03-29 02:30").contains("skip"));
    }

    #[test]
    fn times_are_local_unless_they_say_otherwise() {
        assert_eq!(at("Europe/Berlin", "2026-07-01 14:00"), "2026-07-01T12:00:00Z");
        assert_eq!(at("Europe/Berlin", "2026-07-01T14:00:00.25"), "2026-07-01T12:00:00.25Z");
        assert_eq!(at("Europe/Berlin", "2026-07-01T14:00:00Z"), "2026-07-01T14:00:00Z");
        assert_eq!(at("Europe/Berlin", "2026-07-01T14:00:00-01:30"), "2026-07-01T15:30:00Z");
    }

    #[test]
    fn times_that_are_twice_or_never_are_errors() {
        assert!(at("Europe/Berlin", "2026-10-25 02:30").contains("2026-10-25T02:30:00+02:00"));
        assert_eq!(at("Europe/Berlin", "2026-03-29 02:30"), "the clocks of Europe/Berlin skip 2026-03-29 02:30");
        assert!(at("UTC", "tomorrow").starts_with("give a date"));
        assert!(Zone::named("Mars/Olympus").is_err());
    }
}
