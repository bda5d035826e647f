//! Numbers as a person reads them.

use crate::time::Timestamp;

/// The columns that the widest [`bytes`], [`share`] and [`time`] take.
pub(super) const BYTES_WIDTH: usize = 7;
pub(super) const SHARE_WIDTH: usize = 5;
pub(super) const TIME_WIDTH: usize = 19;

/// Bytes in decimal units with three significant digits: `12 B`, `919 kB`, `1.02 MB`.
pub(super) fn bytes(bytes: u64) -> String {
    let mut unit: u128 = 1000;
    for name in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        for (step, decimals) in [(unit / 100, 2), (unit / 10, 1), (unit, 0)] {
            let steps = (u128::from(bytes) + step / 2) / step;
            if bytes >= 1000 && steps < 1000 {
                return match 10_u128.pow(decimals) {
                    1 => format!("{steps} {name}"),
                    one => format!("{}.{:0width$} {name}", steps / one, steps % one, width = decimals as usize),
                };
            }
        }
        unit *= 1000;
    }
    format!("{bytes} B")
}

/// With a comma between thousands: `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The share of `whole` in percent. What is there never reads as nothing.
pub(super) fn share(part: u128, whole: u128) -> String {
    match (part * 1000 + whole / 2).checked_div(whole).unwrap_or(0) {
        0 if part > 0 => "<0.1%".to_owned(),
        1000.. => "100%".to_owned(),
        tenths => format!("{}.{}%", tenths / 10, tenths % 10),
    }
}

/// A bar of up to `width` columns, drawn to an eighth of a column; `most` fills it. What is there never is without one.
pub(super) fn bar(part: u128, most: u128, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let full = width * 8;
    let eighths = (part * full as u128 + most / 2).checked_div(most).unwrap_or(0);
    let eighths = usize::try_from(eighths).unwrap_or(full).clamp(usize::from(part > 0 && width > 0), full);
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

/// A time to the second.
pub(super) fn time(time: Timestamp) -> String {
    let (seconds, _) = time.clamped();
    Timestamp::new(seconds, 0).to_string().replace('T', " ").replace('Z', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_significant_digits() {
        for (n, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (1004, "1.00 kB"),
            (1005, "1.01 kB"),
            (9_994, "9.99 kB"),
            (9_995, "10.0 kB"),
            (99_949, "99.9 kB"),
            (99_950, "100 kB"),
            (919_400, "919 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (1_020_000, "1.02 MB"),
            (12_345_678_901, "12.3 GB"),
            (1_050_000_000_000, "1.05 TB"),
            (2_000_000_000_000_000, "2.00 PB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(n), text, "{n}");
            assert!(text.len() <= BYTES_WIDTH);
        }
    }

    #[test]
    fn packets_have_commas() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (123_456, "123,456"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(n), text);
        }
    }

    #[test]
    fn shares() {
        for (part, whole, text) in [
            (0, 0, "0.0%"),
            (0, 9, "0.0%"),
            (1, 3, "33.3%"),
            (2, 3, "66.7%"),
            (3, 3, "100%"),
            (1, 10_000, "<0.1%"),
            (9_999, 10_000, "100%"),
            (5, 10_000, "0.1%"),
        ] {
            assert_eq!(share(part, whole), text, "{part} of {whole}");
            assert!(text.len() <= SHARE_WIDTH);
        }
    }

    #[test]
    fn bars_are_drawn_in_eighths() {
        assert_eq!(bar(4, 4, 3), "███");
        assert_eq!(bar(1, 2, 3), "█▌");
        assert_eq!(bar(1, 1_000_000, 3), "▏");
        assert_eq!(bar(0, 4, 3), "");
        assert_eq!(bar(0, 0, 3), "");
        assert_eq!(bar(4, 4, 0), "");
    }

    #[test]
    fn times_to_the_second() {
        assert_eq!(time(Timestamp::new(1_700_000_000, 999_999_999)), "2023-11-14 22:13:20");
        assert_eq!(time(Timestamp::new(i64::MAX, 0)).len(), TIME_WIDTH);
    }
}
