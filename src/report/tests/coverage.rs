//! How complete the figures are: against a plain list of seconds, and as it prints.

use std::collections::{BTreeMap, BTreeSet};

use chrono_tz::TZ_VARIANTS;
use proptest::prelude::*;

use super::periods::{at, key, key_of_label, query};
use super::*;
use crate::coverage::{Observed, Seconds};
use crate::period::Every;
use crate::time::BUCKET_SECONDS;

const LENGTH: i64 = BUCKET_SECONDS as i64;

fn seen(seconds: std::ops::Range<u32>, teed: u64) -> Observed {
    let mut up = Seconds::default();
    up.mark(seconds);
    Observed { up, teed, pairs: teed, ..Observed::default() }
}

/// A report of a client that moves something at each of these times.
fn builder(query: Query, times: &[&str]) -> Builder {
    let mut builder = Builder::new(query);
    for time in times {
        add(&mut builder, "n", &Row { seen: Seen::at(at(time)), ..row("10.0.0.1", "10.0.0.2", 5, 1, 0) });
    }
    builder
}

/// The last four cells of the first line of each period.
fn cells(builder: Builder) -> Vec<String> {
    let csv = printed(&builder.finish(Sort::Addr, Some(0)), Format::Csv);
    csv.lines()
        .skip(1)
        .map(|line| line.splitn(9, ',').last().unwrap().to_owned())
        .map(|rest| rest.replace(',', " "))
        .collect()
}

/// Full five minutes from one second on and before another, with copies.
fn see_all(builder: &mut Builder, from: &str, to: &str) {
    let seconds = |text| at(text).clamped().0;
    for start in (seconds(from)..seconds(to)).step_by(300) {
        builder.see("n", start, &seen(0..300, 1));
    }
}

#[test]
fn days_of_23_24_and_25_hours_are_whole_when_all_of_them_was_seen() {
    for (from, to, hours) in [
        ("2026-03-27T23:00:00Z", "2026-03-30T22:00:00Z", "24 23 24"),
        ("2026-10-23T22:00:00Z", "2026-10-26T23:00:00Z", "24 25 24"),
    ] {
        let mut report = builder(query(By::Address, "Europe/Berlin", Every::Day), &[from, "2026-03-30T12:00:00Z"]);
        if hours.contains("25") {
            report = builder(query(By::Address, "Europe/Berlin", Every::Day), &[from, "2026-10-26T12:00:00Z"]);
        }
        see_all(&mut report, from, to);
        assert_eq!(cells(report), ["1.0000 1.0000 0 0"; 3], "{hours}");
    }
    // An hour less of a day of 23.
    let mut report = builder(query(By::Address, "Europe/Berlin", Every::Day), &["2026-03-29T12:00:00Z"]);
    see_all(&mut report, "2026-03-29T00:00:00Z", "2026-03-29T22:00:00Z");
    assert_eq!(cells(report), [format!("0.{0} 0.{0} 0 0", 220_000 / 23)]);
}

#[test]
fn what_is_still_to_come_was_not_missed() {
    let day = || builder(query(By::Address, "UTC", Every::Day), &["2026-03-29T12:00:00Z"]);
    for (now, cells_then) in [
        // What was seen half a minute ago may not be committed.
        ("2026-03-29T18:00:30Z", "1.0000 1.0000 0 0"),
        ("2026-03-29T18:00:00Z", "1.0000 1.0000 0 0"),
        // Later it is missing.
        ("2026-03-29T18:02:00Z", "0.9981 0.9953 0 0"),
        ("2026-03-30T00:00:00Z", "0.7500 0.7500 0 0"),
        ("2026-04-30T00:00:00Z", "0.7500 0.7500 0 0"),
        // Or the clock was wrong when it was seen.
        ("2026-03-29T06:00:00Z", "1.0000 1.0000 0 0"),
        ("2026-03-28T06:00:00Z", "   "),
    ] {
        let mut report = day();
        see_all(&mut report, "2026-03-29T00:00:00Z", "2026-03-29T18:00:00Z");
        report.set_now(at(now));
        assert_eq!(cells(report), [cells_then], "{now}");
    }
}

#[test]
fn where_nothing_is_known_the_cells_are_empty() {
    let times = ["2026-03-27T12:00:00Z", "2026-03-31T12:00:00Z"];
    let days = || query(By::Address, "UTC", Every::Day);
    assert_eq!(cells(builder(days(), &times)), ["   "; 5]);
    // Another network's is not this one's.
    let mut report = builder(days(), &times);
    report.see("m", at("2026-03-28T12:00:00Z").clamped().0, &seen(0..300, 1));
    assert_eq!(cells(report), ["   "; 5]);
    // Nobody had looked before the first five minutes. After that, nobody looking is no coverage.
    let mut report = builder(days(), &times);
    see_all(&mut report, "2026-03-28T12:00:00Z", "2026-03-29T00:00:00Z");
    let zero = "0.0000 0.0000 0 0";
    assert_eq!(cells(report), ["   ", "0.5000 0.5000 0 0", zero, zero, zero]);
}

#[test]
fn bounds_cut_the_first_and_the_last_period() {
    let (since, until) = (Some(at("2026-03-28T18:00:00Z")), Some(at("2026-03-29T06:00:00Z")));
    let mut report = builder(
        Query { since, until, ..query(By::Address, "UTC", Every::Day) },
        &["2026-03-28T19:00:00Z", "2026-03-29T01:00:00Z"],
    );
    see_all(&mut report, "2026-03-28T00:00:00Z", "2026-03-29T03:00:00Z");
    assert_eq!(cells(report), ["1.0000 1.0000 0 0", "0.5000 0.5000 0 0"]);
}

#[test]
fn a_deleted_rule_is_no_coverage_by_copies() {
    let mut report = builder(query(By::Address, "UTC", Every::Hour), &["2026-03-28T18:00:00Z"]);
    for n in 0..12 {
        report.see("n", at("2026-03-28T18:00:00Z").clamped().0 + 300 * n, &seen(0..300, u64::from(n < 3)));
    }
    assert_eq!(cells(report), ["1.0000 0.2500 0 0"]);
}

#[test]
fn five_minutes_that_are_cut_give_their_seconds_to_both_sides() {
    // Until 1972 Monrovia was 44 minutes and 30 seconds behind UTC.
    let mut report =
        builder(query(By::Address, "Africa/Monrovia", Every::Hour), &["1971-06-01T00:00:00Z", "1971-06-01T01:00:00Z"]);
    let start = at("1971-06-01T00:40:00Z").clamped().0;
    report.see("n", start, &Observed { dropped: 7, ..seen(260..280, 1) });
    // 10 seconds of 3600 each; it begins in the first.
    assert_eq!(cells(report), ["0.0027 0.0833 7 0", "0.0027 0.0000 0 0"]);
}

#[test]
fn lost_is_estimated_by_capture_and_recapture() {
    for (pairs, singles, lost) in [
        (0, 0, "0"),
        (1000, 0, "0"),
        (1000, 200, "10"),
        (10_000, 1, "0"),
        // A tenth of the frames have a copy; a little less.
        (1000, 18_000, "81000"),
        (1000, 18_001, ""),
        (0, 5, ""),
        (u64::MAX, u64::MAX, "4611686018427387904"),
    ] {
        let mut report = builder(query(By::Address, "UTC", Every::Hour), &["2026-03-28T18:00:00Z"]);
        report.see("n", at("2026-03-28T18:00:00Z").clamped().0, &Observed { pairs, singles, ..seen(0..300, 0) });
        assert_eq!(cells(report), [format!("0.0833 0.0000 0 {lost}")], "{pairs} {singles}");
    }
    // Under a one-sided rule.
    let mut report = builder(query(By::Address, "UTC", Every::Hour), &["2026-03-28T18:00:00Z"]);
    report.see("n", at("2026-03-28T18:00:00Z").clamped().0, &Observed { pairs: 0, ..seen(0..300, 5) });
    assert_eq!(cells(report), ["0.0833 0.0833 0 "]);
}

#[test]
fn all_formats_say_it() {
    let report = || {
        let mut report =
            builder(query(By::Address, "UTC", Every::Hour), &["2026-03-28T18:00:00Z", "2026-03-28T19:30:00Z"]);
        see_all(&mut report, "2026-03-28T18:30:00Z", "2026-03-28T19:15:00Z");
        let last = Observed { dropped: 1234, pairs: 1000, singles: 200, ..seen(0..3, 1) };
        report.see("n", at("2026-03-28T19:30:00Z").clamped().0, &last);
        report.finish(Sort::Total, None)
    };
    let table = printed(&report(), Format::Table);
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines[1], "covered 50.00%, copies seen 50.00%, 0 packets dropped, about 0 lost");
    assert!(table.contains("\ncovered 25.08%, copies seen 33.33%, 1,234 packets dropped, about 10 lost\naddress"));
    assert!(
        table.ends_with(
            "\n\ncovered 75.02%, copies seen 76.92%, 1,234 packets dropped, about 10 lost\ntime zone: UTC (+00:00)\n"
        ),
        "{table}"
    );
    let json: serde_json::Value = serde_json::from_str(&printed(&report(), Format::Json)).unwrap();
    assert_eq!((&json["rows"][2]["coverage"], &json["rows"][2]["dropped_packets"]), (&json!(0.2508), &json!(1234)));
    assert_eq!(
        json["coverage"],
        json!([{"network": "n", "coverage": 0.7502, "copies_seen": 0.7692, "dropped_packets": 1234, "estimated_lost": 10}])
    );
    // Without periods CSV stays as it was.
    let mut total = builder(By::Address.into(), &["2026-03-28T18:00:00Z"]);
    let without =
        printed(&builder(By::Address.into(), &["2026-03-28T18:00:00Z"]).finish(Sort::Total, None), Format::Csv);
    see_all(&mut total, "2026-03-28T18:30:00Z", "2026-03-28T19:15:00Z");
    let total = total.finish(Sort::Total, None);
    assert_eq!(printed(&total, Format::Csv), without);
    let table = printed(&total, Format::Table);
    assert!(table.contains("\ncovered 100.00%, copies seen 100.00%, 0 packets dropped, about 0 lost\ntime"), "{table}");
}

/// What was seen in the five minutes with this number.
type Row5 = (i64, std::ops::Range<u32>, bool, u64);

fn any_rows() -> impl Strategy<Value = Vec<Row5>> {
    let seconds = prop_oneof![3 => Just(0..300), 1 => (0..300_u32, 0..300_u32).prop_map(|(a, b)| a.min(b)..a.max(b))];
    let row = (0..1440_i64, seconds, any::<bool>(), 0..100_u64);
    prop::collection::vec(row, 1..600).prop_map(|mut rows| {
        rows.sort_by_key(|row| row.0);
        rows.dedup_by_key(|row| row.0);
        rows
    })
}

fn any_every() -> impl Strategy<Value = Every> {
    prop_oneof![
        Just(Every::Hour),
        Just(Every::Day),
        Just(Every::Week),
        (1..32_u32).prop_map(|start| Every::Month { start })
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn shares_are_those_of_a_plain_list_of_seconds(
        rows in any_rows(),
        // Five days around each change of the clocks, anywhere.
        base in prop::sample::select(vec!["2026-03-06T00:00:00Z", "2026-03-27T00:00:00Z", "2026-10-22T00:00:00Z", "2026-10-30T00:00:00Z"]),
        zone in prop_oneof![Just("Europe/Berlin".to_owned()), (0..TZ_VARIANTS.len()).prop_map(|zone| TZ_VARIANTS[zone].name().to_owned())],
        every in any_every(),
        bounds in prop::option::of((0..700_i64, 700..1440_i64)),
        now in prop::option::of(0..500_000_i64),
    ) {
        let base = at(base).clamped().0;
        let zone_of = zone.parse().unwrap();
        let time = |second: i64| Timestamp::new(base + second, 0);
        let (since, until) = bounds.map(|(since, until)| (time(since * LENGTH), time(until * LENGTH))).unzip();
        let mut builder = Builder::new(Query { since, until, ..query(By::Address, &zone, every) });
        // Somebody is there all the time.
        for second in [0, 1439 * LENGTH].map(time) {
            if since.is_none_or(|since| since <= second) && until.is_none_or(|until| second < until) {
                add(&mut builder, "n", &Row { seen: Seen::at(second), ..row("10.0.0.1", "10.0.0.2", 5, 1, 0) });
            }
        }
        builder.know("n", Endpoint { end: "10.0.0.1".parse().unwrap(), mac: None }, time(0));
        let mut list = BTreeSet::new();
        for (number, seconds, teed, dropped) in &rows {
            let start = base + number * LENGTH;
            builder.see("n", start, &Observed { dropped: *dropped, ..seen(seconds.clone(), u64::from(*teed)) });
            list.extend(seconds.clone().map(|second| start + i64::from(second)));
        }
        let mut now = now.map(|now| base + now);
        if let Some(now) = now {
            builder.set_now(Timestamp::new(now, 0));
        }
        // What was seen within the last minute may not be committed yet.
        if let (Some(last), Some(given)) = (list.last(), now) && (*last + 1..*last + 61).contains(&given) {
            now = Some(last + 1);
        }

        let first = base + rows[0].0 * LENGTH;
        let mut whole: BTreeMap<String, [u64; 5]> = BTreeMap::new();
        let mut last_of: BTreeMap<String, i64> = BTreeMap::new();
        // A month more on either side.
        for start in (base - 32 * 86_400..base + 37 * 86_400).step_by(300) {
            let key = key(zone_of, start, every);
            let in_bounds = since.is_none_or(|since| start >= since.clamped().0)
                && until.is_none_or(|until| start < until.clamped().0);
            if !in_bounds {
                continue;
            }
            let found = whole.entry(key.clone()).or_default();
            let length = now.map_or(LENGTH, |now| (now - start).clamp(0, LENGTH));
            found[0] += length as u64;
            found[1] += u64::from(length > 0);
            found[2] += list.range(start..start + LENGTH).count() as u64;
            if length > 0 {
                last_of.insert(key.clone(), start + length);
            }
            if let Ok(at) = rows.binary_search_by_key(&start, |row| base + row.0 * LENGTH) {
                found[3] += u64::from(rows[at].2);
                found[4] += rows[at].3;
            }
        }
        let csv = printed(&builder.finish(Sort::Addr, Some(0)), Format::Csv);
        for line in csv.lines().skip(1) {
            let cells: Vec<_> = line.split(',').collect();
            let key = key_of_label(cells[0], every);
            let [seconds, starts, up, teed, dropped] = whole[&key];
            let is_known = seconds > 0 && last_of[&key] > first && !list.is_empty();
            let share = |part: u64, whole: u64| format!("{:.4}", (part.min(whole) * 10_000 / whole) as f64 / 10_000.0);
            let expected = match is_known {
                true => [share(up, seconds), share(teed, starts), dropped.to_string(), "0".to_owned()],
                false => [const { String::new() }; 4],
            };
            prop_assert_eq!(&cells[8..], &expected, "{}", line);
        }
    }
}
