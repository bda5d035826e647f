//! Reports by period: against a plain list of packets, and as they print.

use std::collections::BTreeMap;

use chrono::{Datelike, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};
use proptest::prelude::*;

use super::*;
use crate::period::Every;

use crate::traffic::{DeltaRow, Directory};
use crate::zone::Zone;

pub fn query(by: By, zone: &str, every: Every) -> Query {
    Query { zone: Zone::named(zone).unwrap(), every: Some(every), ..by.into() }
}

pub fn at(text: &str) -> Timestamp {
    Zone::absolute(text).unwrap()
}

/// What `src` sent to `dst` at some time.
fn sent(time: &str, src: &str, dst: &str, bytes: u64) -> Row {
    Row { seen: Seen::at(at(time)), ..row(src, dst, bytes, 1, 0) }
}

/// The lines without header and times, the period's start without its year and seconds.
fn lines_of(query: Query, top: Option<usize>, rows: &[Row]) -> Vec<String> {
    let mut builder = Builder::new(query);
    rows.iter().for_each(|row| add(&mut builder, "", row));
    lines(&builder.finish(Sort::Total, top))
}

#[test]
fn who_was_there_before_has_lines_of_zeros() {
    let rows = [
        sent("2026-03-28T12:00:00Z", "10.0.0.1", "external", 7),
        sent("2026-03-29T21:59:59Z", "10.0.0.2", "10.0.0.1", 5),
        sent("2026-03-31T00:00:00Z", "10.0.0.2", "external", 3),
    ];
    assert_eq!(
        lines_of(query(By::Address, "Europe/Berlin", Every::Day), None, &rows),
        [
            "2026-03-28T00:00:00+01:00 10.0.0.1 7 0 1 0",
            "2026-03-28T00:00:00+01:00 external 0 7 0 1",
            "2026-03-29T00:00:00+01:00 10.0.0.1 0 5 0 1",
            "2026-03-29T00:00:00+01:00 10.0.0.2 5 0 1 0",
            "2026-03-30T00:00:00+02:00 10.0.0.1 0 0 0 0",
            "2026-03-30T00:00:00+02:00 10.0.0.2 0 0 0 0",
            "2026-03-31T00:00:00+02:00 10.0.0.2 3 0 1 0",
            "2026-03-31T00:00:00+02:00 10.0.0.1 0 0 0 0",
            "2026-03-31T00:00:00+02:00 external 0 3 0 1",
        ]
    );
    assert_eq!(
        lines_of(query(By::Pair, "Europe/Berlin", Every::Day), None, &rows)[1..4],
        [
            "2026-03-29T00:00:00+01:00 10.0.0.2 10.0.0.1 5 1",
            "2026-03-29T00:00:00+01:00 10.0.0.1 external 0 0",
            "2026-03-30T00:00:00+02:00 10.0.0.1 external 0 0",
        ]
    );
}

#[test]
fn top_counts_within_each_period_and_network() {
    let rows = [
        sent("2026-03-01T00:00:00Z", "10.0.0.1", "10.0.0.2", 7),
        sent("2026-03-01T00:00:00Z", "10.0.0.3", "external", 5),
        sent("2026-03-02T00:00:00Z", "10.0.0.3", "external", 9),
        sent("2026-03-03T00:00:00Z", "10.0.0.2", "external", 1),
    ];
    let lines = lines_of(query(By::Address, "UTC", Every::Day), Some(2), &rows);
    let lines: Vec<_> = lines.iter().map(|line| line.replace("2026-03-0", "").replace("T00:00:00+00:00", "")).collect();
    assert_eq!(
        lines,
        [
            "1 10.0.0.1 7 0 1 0",
            "1 10.0.0.2 0 7 0 1",
            "1 external 0 5 0 1",
            "1 rest 5 0 1 0",
            "2 10.0.0.3 9 0 1 0",
            "2 10.0.0.1 0 0 0 0",
            "2 external 0 9 0 1",
            "2 rest 0 0 0 0",
            "3 10.0.0.2 1 0 1 0",
            "3 10.0.0.1 0 0 0 0",
            "3 external 0 1 0 1",
            "3 rest 0 0 0 0",
        ]
    );
}

#[test]
fn the_range_says_where_zeros_begin_and_end() {
    let mut builder = Builder::new(Query {
        since: Some(at("2026-03-01T12:00:00Z")),
        until: Some(at("2026-03-04T00:00:00Z")),
        ..query(By::Address, "UTC", Every::Day)
    });
    add(&mut builder, "b", &sent("2026-03-02T00:00:00Z", "10.0.0.1", "external", 7));
    for (network, end, first) in [
        ("a", "10.0.0.9", "2020-01-01T00:00:00Z"),
        ("b", "10.0.0.1", "2026-03-02T00:00:00Z"),
        ("b", "10.0.0.2", "2026-03-03T00:00:00Z"),
        ("b", "10.0.0.3", "2026-03-04T00:00:00Z"),
        ("b", "external", "2020-01-01T00:00:00Z"),
        ("c", "10.0.0.1", "2027-01-01T00:00:00Z"),
    ] {
        builder.know(network, Endpoint { end: end.parse().unwrap(), mac: None }, at(first));
    }
    let lines = lines(&builder.finish(Sort::Total, None));
    let lines: Vec<_> = lines.iter().map(|line| line.replace("2026-03-0", "").replace("T00:00:00+00:00", "")).collect();
    assert_eq!(
        lines,
        [
            "1 a 10.0.0.9 0 0 0 0",
            "2 a 10.0.0.9 0 0 0 0",
            "2 b 10.0.0.1 7 0 1 0",
            "2 b external 0 7 0 1",
            "3 a 10.0.0.9 0 0 0 0",
            "3 b 10.0.0.1 0 0 0 0",
            "3 b 10.0.0.2 0 0 0 0",
        ]
    );
}

#[test]
fn only_some_ends() {
    let rows = [
        sent("2026-03-01T00:00:00Z", "10.0.0.1", "10.0.0.2", 7),
        sent("2026-03-02T00:00:00Z", "10.0.0.3", "external", 5),
    ];
    let only = |by: By, end: &str| {
        let end: End = end.parse().unwrap();
        lines_of(Query { only: Some(Rc::new(move |other| other == end)), ..by.into() }, None, &rows)
    };
    assert_eq!(only(By::Address, "10.0.0.2"), ["10.0.0.2 0 7 0 1"]);
    assert_eq!(only(By::Address, "external"), ["external 0 5 0 1"]);
    assert_eq!(only(By::Pair, "10.0.0.2"), ["10.0.0.1 10.0.0.2 7 1"]);
    assert_eq!(only(By::Pair, "external"), ["10.0.0.3 external 5 1"]);
    assert!(only(By::Pair, "10.0.0.4").is_empty());
}

#[test]
fn a_bucket_that_a_period_cuts_is_an_error() {
    let mut builder = Builder::new(query(By::Address, "Asia/Kathmandu", Every::Day));
    let row = sent("2026-01-01T18:20:00Z", "10.0.0.1", "external", 7);
    let bucket = row.seen.first.bucket();
    for (seconds, fits) in [(300, true), (900, true), (1800, false), (3600, false)] {
        assert_eq!(builder.add("", bucket.widened(seconds), &row).is_ok(), fits, "{seconds}");
    }
    assert_eq!(
        builder.add("", bucket.widened(3600), &row).unwrap_err().to_string(),
        "what moved from 2026-01-01T18:00:00Z to 2026-01-01T19:00:00Z is kept as one, and 2026-01-02T00:00:00+05:45 falls \
         inside it, where a period begins in Asia/Kathmandu: give another --tz or --every, or a database made with a \
         smaller --bucket"
    );
}

#[test]
fn formats_by_period() {
    let rows = [
        sent("2026-03-29T00:00:00Z", "10.0.0.1", "10.0.0.2", 1500),
        sent("2026-03-29T22:00:00Z", "10.0.0.1", "10.0.0.3", 500),
    ];
    let mut builder = Builder::new(query(By::Pair, "Europe/Berlin", Every::Day));
    rows.iter().for_each(|row| add(&mut builder, "", row));
    let report = builder.finish(Sort::Total, None);
    assert_eq!(
        printed(&report, Format::Csv),
        "period_start,src,dst,bytes,packets,first_seen,last_seen,coverage,copies_seen,dropped_packets,estimated_lost\r\n\
         2026-03-29T00:00:00+01:00,10.0.0.1,10.0.0.2,1500,1,2026-03-29T00:00:00Z,2026-03-29T00:00:00Z,,,,\r\n\
         2026-03-30T00:00:00+02:00,10.0.0.1,10.0.0.3,500,1,2026-03-29T22:00:00Z,2026-03-29T22:00:00Z,,,,\r\n\
         2026-03-30T00:00:00+02:00,10.0.0.1,10.0.0.2,0,0,,,,,,\r\n"
    );
    let json = printed(&report, Format::Json);
    assert!(json.starts_with(r#"{"every":"day","time_zone":"Europe/Berlin","utc_offset":"+01:00","rows":["#), "{json}");
    assert!(json.contains(
        r#"{"period_start":"2026-03-30T00:00:00+02:00","src":"10.0.0.1","dst":"10.0.0.2","bytes":0,"packets":0,"first_seen":null,"last_seen":null,"coverage":null,"copies_seen":null,"dropped_packets":null,"estimated_lost":null}"#
    ), "{json}");
    serde_json::from_str::<serde_json::Value>(&json).unwrap();
    assert_eq!(
        printed(&report, Format::Table),
        "\
2026-03-29 00:00 +01:00 to 2026-03-30 00:00 +02:00
source   → destination    bytes  packets      last seen (UTC)  share
10.0.0.1 → 10.0.0.2     1.50 kB        1  2026-03-29 00:00:00   100% ███████████
────────────────────────────────────────────────────────────────────
total                   1.50 kB        1  2026-03-29 00:00:00   100%

2026-03-30 00:00 +02:00 to 2026-03-31 00:00 +02:00
source   → destination    bytes  packets      last seen (UTC)  share
10.0.0.1 → 10.0.0.3       500 B        1  2026-03-29 22:00:00   100% ███▋
10.0.0.1 → 10.0.0.2         0 B        0                        0.0%
────────────────────────────────────────────────────────────────────
total                     500 B        1  2026-03-29 22:00:00   100%

time zone: Europe/Berlin (+01:00)
"
    );
}

#[test]
fn no_rows_no_periods() {
    for (since, until) in [(None, None), (Some("2026-01-01T00:00:00Z"), None), (None, Some("2026-01-01T00:00:00Z"))] {
        let query = query(By::Address, "UTC", Every::Hour);
        let query = Query { since: since.map(at), until: until.map(at), ..query };
        assert_eq!(lines_of(query, None, &[]), Vec::<String>::new());
    }
    // A range that ends before it begins.
    let mut builder = Builder::new(Query {
        since: Some(at("2026-01-02T00:00:00Z")),
        until: Some(at("2026-01-01T00:00:00Z")),
        ..query(By::Address, "UTC", Every::Hour)
    });
    builder.know("", Endpoint { end: "10.0.0.1".parse().unwrap(), mac: None }, at("2020-01-01T00:00:00Z"));
    assert_eq!(printed(&builder.finish(Sort::Total, None), Format::Table), "nothing was counted\n");
}

/// A packet: when (in seconds), from whom, to whom, how many bytes.
type Sent = (i64, usize, usize, u64);

const ENDS: [&str; 6] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "external", "multicast"];

/// Fourteen months in which no zone changes its clocks within five minutes.
fn any_packets() -> impl Strategy<Value = Vec<Sent>> {
    (1_325_376_000..2_080_000_000_i64).prop_flat_map(|start| {
        let packet = (start..start + 425 * 86_400, 0..4_usize, 0..6_usize, 1..100_000_u64);
        prop::collection::vec(packet, 1..60)
    })
}

fn any_every() -> impl Strategy<Value = Every> {
    prop_oneof![
        Just(Every::Hour),
        Just(Every::Day),
        Just(Every::Week),
        (1..=31_u32).prop_map(|start| Every::Month { start })
    ]
}

/// What tells the period of a moment from others: as much of its label as the packet's own local time says.
pub fn key(zone: Tz, second: i64, every: Every) -> String {
    let local = zone.timestamp_opt(second, 0).unwrap();
    let date = local.date_naive();
    let days = |days| date - chrono::TimeDelta::days(days);
    let date = match every {
        Every::Hour => return local.format("%Y-%m-%dT%H%:z").to_string(),
        Every::Week => days(date.weekday().num_days_from_monday().into()),
        Every::Month { start } => {
            // Back to a day on which a month begins: the day itself, or the last one of a month without it.
            let begins = |date: &chrono::NaiveDate| {
                date.day() == start || (date.day() < start && date.succ_opt().unwrap().day() == 1)
            };
            (0..31).map(days).find(begins).unwrap()
        }
        _ => date,
    };
    date.to_string()
}

/// The same of a label.
pub fn key_of_label(label: &str, every: Every) -> String {
    if every == Every::Hour { format!("{}{}", &label[..13], &label[19..]) } else { label[..10].to_owned() }
}

/// The packets as a ledger hands them over.
fn delta(packets: &[Sent], seconds: u32) -> (Directory, Vec<DeltaRow>) {
    let mut directory = Directory::default();
    for end in ENDS {
        directory.add_endpoint(Endpoint { end: end.parse().unwrap(), mac: None });
    }
    for pair in 0..36 {
        directory.add_pair(pair / 6, pair % 6);
    }
    let rows = packets.iter().map(|&(second, src, dst, bytes)| {
        let time = Timestamp::new(second, 0);
        let counts = Counts { bytes, packets: 1, copies: 0 };
        DeltaRow::new((src * 6 + dst) as u32, time.bucket(), counts, Seen::at(time))
    });
    let mut delta = crate::traffic::Delta { rows: rows.collect(), ..Default::default() };
    delta.widen(seconds);
    (directory, delta.rows)
}

/// Bytes sent and received, packets sent and received.
type Figures = [u64; 4];

proptest! {
    // Hours of fourteen months are many.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn periods_add_up_to_the_packets(packets in any_packets(), zone in 0..TZ_VARIANTS.len(), every in any_every()) {
        let zone = TZ_VARIANTS[zone];
        // A plain list.
        let mut want: BTreeMap<(String, &str), Figures> = BTreeMap::new();
        for &(second, src, dst, bytes) in &packets {
            for (end, at) in [(src, 0), (dst, 1)] {
                let figures = want.entry((key(zone, second, every), ENDS[end])).or_default();
                figures[at] += bytes;
                figures[at + 2] += 1;
            }
        }

        let query = || query(By::Address, zone.name(), every);
        let mut builder = Builder::new(query());
        let (directory, rows) = delta(&packets, 300);
        builder.add_delta(&directory, &rows).unwrap();
        let csv = printed(&builder.finish(Sort::Total, None), Format::Csv);
        let mut found: BTreeMap<(String, &str), Figures> = BTreeMap::new();
        let mut periods: Vec<(String, Vec<&str>)> = Vec::new();
        for line in csv.lines().skip(1) {
            let cells: Vec<&str> = line.split(',').collect();
            let key = key_of_label(cells[0], every);
            let figures: Figures = std::array::from_fn(|at| cells[2 + at].parse().unwrap());
            prop_assert_eq!(figures == [0; 4], cells[6].is_empty() && cells[7].is_empty());
            if periods.last().is_none_or(|(last, _)| *last != key) {
                periods.push((key.clone(), Vec::new()));
            }
            periods.last_mut().unwrap().1.push(cells[1]);
            let end = ENDS.iter().find(|end| **end == cells[1]).unwrap();
            prop_assert!(found.insert((key, *end), figures).is_none(), "two lines of one");
        }
        // Clients stay, once they are there.
        for (before, after) in periods.iter().zip(&periods[1..]) {
            let stays = |end: &&str| !end.starts_with(['1', 'f']) || after.1.contains(end);
            prop_assert!(before.1.iter().all(stays), "{before:?} {after:?}");
        }
        found.retain(|_, figures| *figures != [0; 4]);
        prop_assert_eq!(found, want);

        // The same from rows one by one in any order, and from buckets that were merged.
        let mut one_by_one = Builder::new(query());
        for row in rows.iter().rev() {
            one_by_one.add("", row.bucket, &directory.row(row)).unwrap();
        }
        prop_assert_eq!(printed(&one_by_one.finish(Sort::Total, None), Format::Csv), csv.clone());
        for (seconds, fits_all) in [(900, true), (3600, false)] {
            let (directory, rows) = delta(&packets, seconds);
            let mut merged = Builder::new(query());
            match merged.add_delta(&directory, &rows) {
                Ok(()) => prop_assert_eq!(printed(&merged.finish(Sort::Total, None), Format::Csv), csv.clone()),
                Err(error) => prop_assert!(!fits_all, "{}", error),
            }
        }
    }

    #[test]
    fn pairs_of_periods_add_up_too(packets in any_packets(), zone in 0..TZ_VARIANTS.len(), top in prop::option::of(0..4_usize)) {
        let mut builder = Builder::new(query(By::Pair, TZ_VARIANTS[zone].name(), Every::Week));
        let (directory, rows) = delta(&packets, 300);
        builder.add_delta(&directory, &rows).unwrap();
        let report = builder.finish(Sort::Total, top);
        let (moved, _) = sums(&report);
        let bytes = packets.iter().map(|packet| packet.3).sum::<u64>();
        prop_assert_eq!(moved, Amount { bytes, packets: packets.len() as u64 });
        for period in report.periods() {
            let lines = report.lines_of(period).count();
            prop_assert!(lines > 0 && top.is_none_or(|top| lines <= top + 1));
        }
    }
}
