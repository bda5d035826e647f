//! Hours, days, weeks and months as people in a time zone have them.

use std::fmt;

use chrono::{Datelike, Days, Months, NaiveDate, Offset, Weekday};

use crate::time::Timestamp;
use crate::zone::Zone;

/// How long a period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// From full hour to full hour on the zone's clocks.
    Hour,
    /// From one date to the next: 23, 24 or 25 hours, or whatever a zone has.
    Day,
    /// From Monday to Monday (ISO 8601).
    Week,
    /// From a day of the month to the same day of the next. In a month that is too short, from its last day.
    Month {
        /// 1 to 31.
        start: u32,
    },
    /// From the first of January to the next.
    Year,
}

/// The word for it.
impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Every::Hour => "hour",
            Every::Day => "day",
            Every::Week => "week",
            Every::Month { .. } => "month",
            Every::Year => "year",
        })
    }
}

/// A stretch of time: from `start` on, before `end`; in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    /// Its first second.
    pub start: i64,
    /// The first second behind it.
    pub end: i64,
}

/// Cuts all time into periods.
#[derive(Clone, Copy, Debug)]
pub struct Calendar {
    zone: Zone,
    every: Every,
}

impl Calendar {
    /// Periods of this length in a zone.
    pub fn new(zone: Zone, every: Every) -> Self {
        Calendar { zone, every }
    }

    /// The period of a moment, in seconds since the epoch. None beyond the years that calendars know.
    pub fn period(&self, second: i64) -> Option<Period> {
        let local = self.zone.local(second)?;
        if self.every == Every::Hour {
            return self.hour(second);
        }
        let first = self.first_date(local.date_naive())?;
        let next = self.next_date(first)?;
        let (start, end) = (self.start(first)?, self.start(next)?);
        // Clocks that are set back over midnight have the new date twice: it begins with the first time.
        if second < end {
            Some(Period { start, end })
        } else {
            Some(Period { start: end, end: self.start(self.next_date(next)?)? })
        }
    }

    /// The period's start as RFC 3339 has it, with the zone's offset.
    pub fn label(&self, start: i64) -> String {
        self.zone.label(start)
    }

    /// The same for a person: `2026-03-29 00:00 +01:00`.
    pub fn heading(&self, start: i64) -> String {
        let local = self.zone.local(start);
        local.map_or_else(String::new, |local| local.format("%Y-%m-%d %H:%M %:z").to_string())
    }

    fn offset(&self, second: i64) -> Option<i64> {
        Some(self.zone.local(second)?.offset().fix().local_minus_utc().into())
    }

    /// An hour is cut short where the clocks change within it.
    fn hour(&self, second: i64) -> Option<Period> {
        let offset = self.offset(second)?;
        let start = second - (second + offset).rem_euclid(3600);
        let end = start + 3600;
        Some(Period {
            start: self.boundary(start, second, |at| self.offset(at) == Some(offset))?,
            end: self.boundary(second, end, |at| self.offset(at) != Some(offset))?,
        })
    }

    /// The first second between two of which something holds that holds of all behind it as well; `last` if of none.
    fn boundary(&self, mut first: i64, mut last: i64, holds: impl Fn(i64) -> bool) -> Option<i64> {
        while first < last {
            let middle = first + (last - first) / 2;
            if holds(middle) { last = middle } else { first = middle + 1 }
        }
        Some(last)
    }

    /// The date on which the period of a date begins.
    fn first_date(&self, date: NaiveDate) -> Option<NaiveDate> {
        match self.every {
            Every::Hour | Every::Day => Some(date),
            Every::Week => Some(date.week(Weekday::Mon).first_day()),
            Every::Year => date.with_ordinal(1),
            Every::Month { start } => {
                let this = clipped(date, start)?;
                if this <= date {
                    Some(this)
                } else {
                    clipped(date.with_day(1)?.checked_sub_months(Months::new(1))?, start)
                }
            }
        }
    }

    /// The date on which the next period begins.
    fn next_date(&self, first: NaiveDate) -> Option<NaiveDate> {
        match self.every {
            Every::Hour | Every::Day => first.checked_add_days(Days::new(1)),
            Every::Week => first.checked_add_days(Days::new(7)),
            Every::Month { start } => clipped(first.with_day(1)?.checked_add_months(Months::new(1))?, start),
            Every::Year => first.checked_add_months(Months::new(12)),
        }
    }

    /// The first second of a date, or of the first one after it that there is in the zone.
    fn start(&self, date: NaiveDate) -> Option<i64> {
        date.iter_days().take(3).find_map(|date| self.zone.start_of(date)).and_then(Timestamp::whole_seconds)
    }
}

/// A day of a date's month, or its last one.
fn clipped(date: NaiveDate, day: u32) -> Option<NaiveDate> {
    (1..=day).rev().find_map(|day| date.with_day(day))
}

#[cfg(test)]
mod tests {
    use chrono_tz::TZ_VARIANTS;
    use proptest::prelude::*;

    use super::*;

    fn calendar(zone: &str, every: Every) -> Calendar {
        Calendar::new(Zone::named(zone).unwrap(), every)
    }

    /// The labels of the periods from a time on, and their lengths in quarters of an hour.
    fn periods(zone: &str, every: Every, from: &str, count: usize) -> Vec<(String, i64)> {
        let calendar = calendar(zone, every);
        let mut at = Zone::absolute(from).unwrap().clamped().0;
        let mut periods = Vec::new();
        for _ in 0..count {
            let period = calendar.period(at).unwrap();
            assert!(period.start <= at && at < period.end, "{period:?} {at}");
            periods.push((calendar.label(period.start), (period.end - period.start) / 900));
            at = period.end;
        }
        periods
    }

    fn assert_periods(zone: &str, every: Every, from: &str, expected: &[(&str, i64)]) {
        let found = periods(zone, every, from, expected.len());
        let found: Vec<_> = found.iter().map(|(label, quarters)| (label.as_str(), *quarters)).collect();
        assert_eq!(found, expected, "{zone} {every:?}");
    }

    #[test]
    fn the_last_day_ends_where_it_ends() {
        let last = Zone::absolute("9999-12-31T23:59:59Z").unwrap().clamped().0;
        for every in [Every::Day, Every::Month { start: 1 }, Every::Year] {
            assert_eq!(calendar("UTC", every).period(last).unwrap().end, last + 1);
        }
    }

    #[test]
    fn days_have_the_hours_that_the_zone_gives_them() {
        assert_periods(
            "Europe/Berlin",
            Every::Day,
            "2026-03-28T12:00:00Z",
            &[("2026-03-28T00:00:00+01:00", 96), ("2026-03-29T00:00:00+01:00", 92), ("2026-03-30T00:00:00+02:00", 96)],
        );
        assert_periods(
            "Europe/Berlin",
            Every::Day,
            "2026-10-24T23:59:59Z",
            &[("2026-10-25T00:00:00+02:00", 100), ("2026-10-26T00:00:00+01:00", 96)],
        );
        assert_periods("Asia/Kathmandu", Every::Day, "2026-01-01T00:00:00Z", &[("2026-01-01T00:00:00+05:45", 96)]);
        // Midnight is skipped; a whole day is; midnight comes twice.
        assert_periods("America/Sao_Paulo", Every::Day, "2018-11-04T03:00:00Z", &[("2018-11-04T01:00:00-02:00", 92)]);
        assert_periods(
            "Pacific/Apia",
            Every::Day,
            "2011-12-30T09:59:59Z",
            &[("2011-12-29T00:00:00-10:00", 96), ("2011-12-31T00:00:00+14:00", 96)],
        );
        assert_periods(
            "America/St_Johns",
            Every::Day,
            "2010-11-06T12:00:00Z",
            &[("2010-11-06T00:00:00-02:30", 96), ("2010-11-07T00:00:00-02:30", 100)],
        );
    }

    #[test]
    fn hours_are_those_of_the_clock() {
        assert_periods(
            "Europe/Berlin",
            Every::Hour,
            "2026-10-24T23:30:00Z",
            &[
                ("2026-10-25T01:00:00+02:00", 4),
                ("2026-10-25T02:00:00+02:00", 4),
                ("2026-10-25T02:00:00+01:00", 4),
                ("2026-10-25T03:00:00+01:00", 4),
            ],
        );
        assert_periods("Asia/Kathmandu", Every::Hour, "2026-01-01T00:00:00Z", &[("2026-01-01T05:00:00+05:45", 4)]);
        // Half an hour of summer time.
        assert_periods(
            "Australia/Lord_Howe",
            Every::Hour,
            "2026-04-04T14:00:00Z",
            &[("2026-04-05T01:00:00+11:00", 4), ("2026-04-05T01:30:00+10:30", 2), ("2026-04-05T02:00:00+10:30", 4)],
        );
    }

    #[test]
    fn labels_are_exact_where_the_offset_is_not_of_minutes() {
        assert_eq!(calendar("Europe/Berlin", Every::Day).label(-2_524_524_808), "1889-12-31T23:06:32Z");
        assert_eq!(calendar("America/New_York", Every::Day).label(-62_167_219_200), "0000-01-01T00:00:00Z");
    }

    proptest! {
        /// Each second is in one period, which begins where the one before ends, in all zones and at all times.
        #[test]
        fn periods_leave_no_gap(
            zone in 0..TZ_VARIANTS.len(),
            second in prop_oneof![-5_000_000_000..4_000_000_000_i64, 0..2_145_916_800_i64],
            every in prop_oneof![
                Just(Every::Hour), Just(Every::Day), Just(Every::Week), Just(Every::Year), (1..=31_u32).prop_map(|start| Every::Month { start })
            ],
        ) {
            let calendar = calendar(TZ_VARIANTS[zone].name(), every);
            let period = calendar.period(second).unwrap();
            prop_assert!(period.start <= second && second < period.end, "{period:?}");
            prop_assert_eq!(calendar.period(period.start), Some(period));
            prop_assert_eq!(calendar.period(period.end - 1), Some(period));
            prop_assert_eq!(calendar.period(period.end).unwrap().start, period.end);
        }
    }

    #[test]
    fn weeks_begin_on_monday() {
        assert_periods(
            "UTC",
            Every::Week,
            "2026-11-22T23:59:59Z",
            &[("2026-11-16T00:00:00+00:00", 7 * 96), ("2026-11-23T00:00:00+00:00", 7 * 96)],
        );
    }

    #[test]
    fn months_begin_on_any_day_and_are_clipped() {
        let starts = |start, from| -> Vec<_> {
            let periods = periods("UTC", Every::Month { start }, from, 4);
            periods.into_iter().map(|(label, _)| label[..10].to_owned()).collect()
        };
        assert_eq!(starts(1, "2026-01-31T00:00:00Z"), ["2026-01-01", "2026-02-01", "2026-03-01", "2026-04-01"]);
        assert_eq!(starts(14, "2026-01-13T23:59:59Z"), ["2025-12-14", "2026-01-14", "2026-02-14", "2026-03-14"]);
        assert_eq!(starts(31, "2026-01-31T00:00:00Z"), ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30"]);
        assert_eq!(starts(31, "2028-02-28T12:00:00Z"), ["2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30"]);
        assert_eq!(starts(30, "2026-02-27T12:00:00Z"), ["2026-01-30", "2026-02-28", "2026-03-30", "2026-04-30"]);
    }
}
