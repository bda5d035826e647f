//! Points in time as captures carry them, and the text they print as.

use std::fmt;
use std::ops::{Add, Sub};

use chrono::{DateTime, Datelike, Timelike};

/// Nanoseconds in a second.
pub const SECOND: i128 = 1_000_000_000;

/// Seconds in the finest bucket: five minutes, aligned to the Unix epoch.
pub const BUCKET_SECONDS: u32 = 300;

/// Seconds in a UTC day.
pub const DAY_SECONDS: u32 = 86_400;

/// How long buckets stay as fine as they were written. Later they may become longer ones.
pub const FINE_FOR: Span = Span::seconds(7 * DAY_SECONDS as i64);

/// The first second of the year 0000 and the last of the year 9999: what RFC 3339 can print.
const FIRST_SECOND: i64 = -62_167_219_200;
const LAST_SECOND: i64 = 253_402_300_799;

/// A point in time: nanoseconds since the Unix epoch, UTC.
///
/// Wide enough for every 64-bit stamp of a pcapng interface in whole seconds, which is why it is not an `i64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i128);

/// A length of time in nanoseconds, never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub i128);

/// An interval that usage is summed up over. It begins at a multiple of its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// Its start, in seconds since the epoch.
    pub start: i64,
    /// Its length.
    pub seconds: u32,
}

impl Bucket {
    /// Its end, in seconds since the epoch: the first second that is not in it.
    pub fn end(self) -> i64 {
        self.start + i64::from(self.seconds)
    }

    /// A time within it, or the nearest one there is, in nanoseconds after its start.
    pub fn offset(self, time: Timestamp) -> u64 {
        let (seconds, nanos) = time.clamped();
        let offset = i128::from(seconds - self.start) * SECOND + i128::from(nanos);
        offset.clamp(0, i128::from(self.seconds) * SECOND - 1) as u64
    }

    /// The time so many nanoseconds after its start.
    pub fn time(self, offset: impl Into<i128>) -> Timestamp {
        Timestamp(i128::from(self.start) * SECOND + offset.into())
    }

    /// The bucket of `seconds` that holds this one's start.
    pub fn widened(self, seconds: u32) -> Bucket {
        Bucket { start: self.start - self.start.rem_euclid(seconds.into()), seconds }
    }
}

impl Timestamp {
    /// The time `nanos` nanoseconds after `seconds` seconds since the epoch. `nanos` may exceed a second.
    pub fn new(seconds: i64, nanos: u64) -> Self {
        Timestamp(i128::from(seconds) * SECOND + i128::from(nanos))
    }

    /// Now, by this machine's clock. Only commands ask.
    pub fn now() -> Self {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => Timestamp(since.as_nanos().try_into().unwrap_or(i128::MAX)),
            Err(before) => Timestamp(-i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX)),
        }
    }

    /// The nearest time within the years 0000 to 9999, as whole seconds and the nanoseconds beyond them.
    ///
    /// Everything that is printed or stored goes through here.
    pub fn clamped(self) -> (i64, u32) {
        // Until the year 2554: a tenth of the cost.
        if let Ok(nanos) = u64::try_from(self.0) {
            return ((nanos / SECOND as u64) as i64, (nanos % SECOND as u64) as u32);
        }
        match i64::try_from(self.0.div_euclid(SECOND)) {
            Ok(seconds) if seconds < FIRST_SECOND => (FIRST_SECOND, 0),
            Ok(seconds) if seconds <= LAST_SECOND => (seconds, self.0.rem_euclid(SECOND) as u32),
            Err(_) if self.0 < 0 => (FIRST_SECOND, 0),
            _ => (LAST_SECOND, 999_999_999),
        }
    }

    /// Seconds since the epoch, not clamped.
    pub fn whole_seconds(self) -> Option<i64> {
        i64::try_from(self.0.div_euclid(SECOND)).ok()
    }

    /// The five-minute bucket that holds this time.
    pub fn bucket(self) -> Bucket {
        let (seconds, _) = self.clamped();
        Bucket { start: seconds - seconds.rem_euclid(BUCKET_SECONDS.into()), seconds: BUCKET_SECONDS }
    }

    /// Seconds since the epoch for a metric, to the microsecond that an `f64` can hold.
    pub fn as_seconds_f64(self) -> f64 {
        let (seconds, nanos) = self.clamped();
        seconds as f64 + f64::from(nanos / 1000) / 1e6
    }
}

impl Span {
    /// From seconds.
    pub const fn seconds(seconds: i64) -> Self {
        Span(seconds as i128 * SECOND)
    }

    /// In whole seconds.
    pub fn as_seconds(self) -> i64 {
        i64::try_from(self.0 / SECOND).unwrap_or(i64::MAX)
    }
}

impl Add<Span> for Timestamp {
    type Output = Timestamp;
    fn add(self, span: Span) -> Timestamp {
        Timestamp(self.0 + span.0)
    }
}

impl Sub<Span> for Timestamp {
    type Output = Timestamp;
    fn sub(self, span: Span) -> Timestamp {
        Timestamp(self.0 - span.0)
    }
}

/// RFC 3339 in UTC with `Z`, up to nanoseconds, without trailing zeros, clamped to the years 0000 to 9999.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = self.clamped();
        let Some(t) = DateTime::from_timestamp(seconds, nanos) else {
            return Err(fmt::Error);
        };
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            t.year(),
            t.month(),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        )?;
        if nanos != 0 {
            write!(f, ".{}", format!("{nanos:09}").trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_outside_its_bucket_is_kept_within() {
        let bucket = Bucket { start: 300, seconds: 300 };
        assert_eq!(bucket.offset(Timestamp::new(299, 0)), 0);
        assert_eq!(bucket.offset(Timestamp::new(600, 0)), 299_999_999_999);
        assert_eq!(bucket.time(bucket.offset(Timestamp::new(310, 5))), Timestamp::new(310, 5));
        assert_eq!(bucket.time(bucket.offset(Timestamp(i128::MAX))), Timestamp(599_999_999_999));
    }

    #[test]
    fn prints_rfc3339_without_trailing_zeros() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp::new(1_700_000_000, 120_000_000).to_string(), "2023-11-14T22:13:20.12Z");
        assert_eq!(Timestamp(-1).to_string(), "1969-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn printing_clamps_and_arithmetic_does_not() {
        let far = Timestamp(i128::from(u64::MAX) * SECOND);
        assert_eq!(far.to_string(), "9999-12-31T23:59:59.999999999Z");
        assert_eq!((far + Span(1)).0 - far.0, 1);
        assert_eq!(Timestamp(-far.0).to_string(), "0000-01-01T00:00:00Z");
        assert_eq!(Timestamp::new(FIRST_SECOND, 0).to_string(), "0000-01-01T00:00:00Z");
        assert_eq!(Timestamp::new(LAST_SECOND, 5).to_string(), "9999-12-31T23:59:59.000000005Z");
    }

    #[test]
    fn a_fraction_beyond_a_second_is_added() {
        assert_eq!(Timestamp::new(10, 2_500_000_000).to_string(), "1970-01-01T00:00:12.5Z");
    }

    #[test]
    fn buckets_start_on_five_minutes_of_utc_on_both_sides_of_the_epoch() {
        let bucket = |start| Bucket { start, seconds: 300 };
        assert_eq!(Timestamp::new(299, 999_999_999).bucket(), bucket(0));
        assert_eq!(Timestamp::new(300, 0).bucket(), bucket(300));
        assert_eq!(Timestamp(-1).bucket(), bucket(-300));
        assert_eq!(bucket(7500).widened(3600), Bucket { start: 7200, seconds: 3600 });
        assert_eq!(bucket(-300).widened(3600).end(), 0);
    }
}
