//! What all formats share: the sums and the order.

mod coverage;
mod members;
mod periods;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use serde_json::json;

use super::record::Cell;
use super::*;
use crate::packet::Mac;
use crate::time::Timestamp;
use crate::traffic::{Counts, Endpoint, Row};

/// What `src` sent to `dst`, at one time.
pub fn row(src: &str, dst: &str, bytes: u64, packets: u64, millis: i64) -> Row {
    let end = |text: &str| Endpoint { end: text.parse().unwrap(), mac: None };
    let time = Timestamp(i128::from(millis) * 1_000_000);
    Row { src: end(src), dst: end(dst), counts: Counts { bytes, packets, copies: 0 }, seen: Seen::at(time) }
}

pub fn report(by: By, sort: Sort, top: Option<usize>, rows: &[Row]) -> Report {
    let mut builder = Builder::new(by);
    for row in rows {
        add(&mut builder, "", row);
    }
    builder.finish(sort, top)
}

/// Adds a row in the bucket of its first packet.
pub fn add(builder: &mut Builder, network: &str, row: &Row) {
    builder.add(network, row.seen.first.bucket(), row).unwrap();
}

fn sample() -> Vec<Row> {
    vec![
        row("10.0.0.1", "fd00::2", 1000, 1, 1000),
        row("fd00::2", "10.0.0.1", 40, 1, 3500),
        row("10.0.0.1", "external", 500, 1, 4000),
    ]
}

pub fn address_sample() -> Report {
    report(By::Address, Sort::Total, None, &sample())
}

pub fn pair_sample() -> Report {
    report(By::Pair, Sort::Total, None, &sample())
}

pub fn printed(report: &Report, format: Format) -> String {
    printed_at(report, format, 80)
}

pub fn printed_at(report: &Report, format: Format, width: usize) -> String {
    let mut out = Vec::new();
    write(&mut out, report, format, &json!({"frames": 3, "damaged": false}), Style { width, ansi: false }).unwrap();
    String::from_utf8(out).unwrap()
}

/// The cells of every line without the times.
fn lines(report: &Report) -> Vec<String> {
    let text = |cells: Vec<Cell>| cells.iter().map(Cell::to_string).collect::<Vec<_>>();
    let shown = report.columns().iter().position(|column| *column == "first_seen").unwrap();
    report.records().map(text).map(|cells| cells[..shown].join(" ")).collect()
}

#[test]
fn addresses_by_total_then_ipv4_first_then_numeric_then_pseudo_ends_in_their_order() {
    let rows = [
        row("fd00::1", "other", 100, 1, 0),
        row("10.0.0.10", "multicast", 100, 1, 0),
        row("10.0.0.9", "external", 100, 1, 0),
        row("10.0.0.8", "multicast", 99, 1, 0),
        row("10.0.0.7", "external", 101, 1, 0),
    ];
    assert_eq!(
        lines(&report(By::Address, Sort::Total, None, &rows)),
        [
            "10.0.0.7 101 0 1 0",
            "10.0.0.9 100 0 1 0",
            "10.0.0.10 100 0 1 0",
            "fd00::1 100 0 1 0",
            "10.0.0.8 99 0 1 0",
            "external 0 201 0 2",
            "multicast 0 199 0 2",
            "other 0 100 0 1",
        ]
    );
}

#[test]
fn sort_changes_the_first_key() {
    let rows = [
        row("10.0.0.1", "10.0.0.2", 10, 1, 0),
        row("10.0.0.2", "10.0.0.3", 50, 1, 0),
        row("10.0.0.3", "10.0.0.1", 30, 1, 0),
    ];
    // Sent 10, 50, 30; received 30, 10, 50; together 40, 60, 80.
    let order = |by, sort| -> Vec<String> {
        let lines = lines(&report(by, sort, None, &rows));
        lines.iter().map(|line| line.replace("10.0.0.", "").split(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(order(By::Address, Sort::Total), ["3", "2", "1"]);
    assert_eq!(order(By::Address, Sort::Sent), ["2", "3", "1"]);
    assert_eq!(order(By::Address, Sort::Received), ["3", "1", "2"]);
    assert_eq!(order(By::Address, Sort::Addr), ["1", "2", "3"]);
    for sort in [Sort::Total, Sort::Sent, Sort::Received] {
        assert_eq!(order(By::Pair, sort), ["2", "3", "1"]);
    }
    assert_eq!(order(By::Pair, Sort::Addr), ["1", "2", "3"]);
}

#[test]
fn pairs_have_one_order_pseudo_ends_included() {
    let rows = [
        row("external", "10.0.0.2", 7, 1, 0),
        row("10.0.0.2", "multicast", 7, 1, 0),
        row("10.0.0.2", "external", 7, 1, 0),
        row("fd00::2", "10.0.0.2", 7, 1, 0),
        row("10.0.0.2", "fd00::2", 7, 1, 0),
        row("10.0.0.2", "10.0.0.3", 6, 1, 0),
        row("multicast", "other", 8, 1, 0),
    ];
    assert_eq!(
        lines(&report(By::Pair, Sort::Total, None, &rows)),
        [
            "multicast other 8 1",
            "10.0.0.2 fd00::2 7 1",
            "10.0.0.2 external 7 1",
            "10.0.0.2 multicast 7 1",
            "fd00::2 10.0.0.2 7 1",
            "external 10.0.0.2 7 1",
            "10.0.0.2 10.0.0.3 6 1",
        ]
    );
}

#[test]
fn top_leaves_the_rest_in_one_last_line_with_its_times() {
    let rows = [
        row("10.0.0.1", "external", 100, 1, 5000),
        row("10.0.0.2", "external", 90, 2, 1000),
        row("10.0.0.3", "external", 80, 3, 4000),
        row("10.0.0.3", "10.0.0.2", 1, 1, 2000),
    ];
    let csv = |by, top| printed(&report(by, Sort::Total, Some(top), &rows), Format::Csv);
    assert_eq!(
        csv(By::Address, 1),
        "addr,sent_bytes,received_bytes,sent_packets,received_packets,first_seen,last_seen\r\n\
         10.0.0.1,100,0,1,0,1970-01-01T00:00:05Z,1970-01-01T00:00:05Z\r\n\
         external,0,270,0,6,1970-01-01T00:00:01Z,1970-01-01T00:00:05Z\r\n\
         rest,171,1,6,1,1970-01-01T00:00:01Z,1970-01-01T00:00:04Z\r\n"
    );
    assert_eq!(
        csv(By::Pair, 2),
        "src,dst,bytes,packets,first_seen,last_seen\r\n\
         10.0.0.1,external,100,1,1970-01-01T00:00:05Z,1970-01-01T00:00:05Z\r\n\
         10.0.0.2,external,90,2,1970-01-01T00:00:01Z,1970-01-01T00:00:01Z\r\n\
         rest,rest,81,4,1970-01-01T00:00:02Z,1970-01-01T00:00:04Z\r\n"
    );
    assert!(!csv(By::Address, 3).contains("rest"));
    assert!(!csv(By::Pair, 4).contains("rest"));
    assert_eq!(lines(&report(By::Address, Sort::Total, Some(0), &rows)), ["external 0 270 0 6", "rest 271 1 7 1"]);
}

#[test]
fn a_packet_beyond_the_limit_of_pairs_counts_for_its_ends_and_once_among_the_pairs() {
    let rows = [
        row("10.0.0.1", "beyond", 100, 1, 1000),
        row("beyond", "10.0.0.2", 100, 1, 1000),
        row("10.0.0.3", "beyond", 10, 1, 3000),
        row("beyond", "external", 10, 1, 3000),
        row("other", "other", 5, 1, 2000),
    ];
    assert_eq!(
        lines(&report(By::Address, Sort::Total, None, &rows)),
        ["10.0.0.1 100 0 1 0", "10.0.0.2 0 100 0 1", "10.0.0.3 10 0 1 0", "external 0 10 0 1", "other 5 5 1 1"]
    );
    assert_eq!(
        printed(&report(By::Pair, Sort::Total, None, &rows), Format::Csv),
        "src,dst,bytes,packets,first_seen,last_seen\r\n\
         other,other,115,3,1970-01-01T00:00:01Z,1970-01-01T00:00:03Z\r\n"
    );
}

#[test]
fn an_address_is_summed_over_its_macs_and_may_talk_to_itself() {
    let mut behind = row("10.0.0.1", "10.0.0.1", 7, 1, 0);
    behind.src.mac = Some(Mac::from_bits(1));
    let rows = [behind, row("10.0.0.1", "10.0.0.2", 3, 1, 0)];
    assert_eq!(lines(&report(By::Address, Sort::Total, None, &rows)), ["10.0.0.1 10 7 2 1", "10.0.0.2 0 3 0 1"]);
}

#[test]
fn networks_stay_apart_each_with_its_own_pseudo_ends_and_rest() {
    let mut builder = Builder::new(By::Address);
    add(&mut builder, "b", &row("10.0.0.1", "external", 1, 1, 0));
    add(&mut builder, "a", &row("10.0.0.1", "external", 2, 1, 0));
    add(&mut builder, "a", &row("10.0.0.2", "external", 3, 1, 0));
    add(&mut builder, "b", &row("10.0.0.3", "10.0.0.1", 4, 1, 0));
    let report = builder.finish(Sort::Total, Some(1));
    assert_eq!(
        lines(&report),
        [
            "a 10.0.0.2 3 0 1 0",
            "a external 0 5 0 2",
            "a rest 2 0 1 0",
            "b 10.0.0.1 1 4 1 1",
            "b external 0 1 0 1",
            "b rest 4 0 1 0",
        ]
    );
    assert!(printed(&report, Format::Csv).starts_with("network,addr,"));
    assert!(printed(&report, Format::Json).contains(r#","rows":[{"network":"a","addr":"10.0.0.2","#));
}

#[test]
fn one_network_is_not_named_whatever_its_name() {
    let mut builder = Builder::new(By::Pair);
    add(&mut builder, "8056c2e21c000001", &row("10.0.0.1", "external", 1, 1, 0));
    let report = builder.finish(Sort::Total, None);
    for format in [Format::Table, Format::Csv, Format::Json] {
        let text = printed(&report, format);
        assert!(!text.contains("8056c2e21c000001") && !text.contains("network"), "{text}");
    }
}

#[test]
fn sums_stop_at_the_largest_number() {
    let rows = [row("10.0.0.1", "10.0.0.2", u64::MAX, u64::MAX, 0), row("10.0.0.1", "10.0.0.2", 5, 5, 0)];
    let report = report(By::Pair, Sort::Total, None, &rows);
    assert_eq!(lines(&report), [format!("10.0.0.1 10.0.0.2 {0} {0}", u64::MAX)]);
    assert!(printed(&report, Format::Table).contains("18.4 EB"));
}

fn any_end() -> impl Strategy<Value = End> {
    prop_oneof![
        6 => (0..6_u32).prop_map(|n| End::Addr(IpAddr::V4(Ipv4Addr::from_bits(n)))),
        3 => (0..6_u128).prop_map(|n| End::Addr(IpAddr::V6(Ipv6Addr::from_bits(n)))),
        1 => Just(End::External),
        1 => Just(End::Multicast),
        1 => Just(End::Other),
    ]
}

/// Rows as a ledger makes them: a packet beyond the limit of pairs has two.
fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    let packet = (any_end(), any_end(), 1..10_000_u64, 1..10_u64, any::<i32>(), prop::bool::weighted(0.2));
    prop::collection::vec(packet, 0..60).prop_map(|packets| {
        let mut rows = Vec::new();
        for (src, dst, bytes, packets, time, beyond) in packets {
            let end = |end| Endpoint { end, mac: None };
            let counts = Counts { bytes, packets, copies: 0 };
            let row = Row { src: end(src), dst: end(dst), counts, seen: Seen::at(Timestamp(time.into())) };
            if beyond {
                rows.extend([Row { dst: end(End::Beyond), ..row }, Row { src: end(End::Beyond), ..row }]);
            } else {
                rows.push(row);
            }
        }
        rows
    })
}

fn sums(report: &Report) -> (Amount, Amount) {
    report.lines().fold(Default::default(), |(mut sent, mut received): (Amount, Amount), (_, line)| {
        sent.add(line.tally.sent);
        received.add(line.tally.received);
        (sent, received)
    })
}

proptest! {
    #[test]
    fn what_is_sent_is_received_and_is_what_the_pairs_moved(rows in any_rows(), top in prop::option::of(0..8_usize)) {
        let (sent, received) = sums(&report(By::Address, Sort::Sent, top, &rows));
        let (moved, nothing) = sums(&report(By::Pair, Sort::Addr, top, &rows));
        prop_assert_eq!(sent, received);
        prop_assert_eq!(sent, moved);
        prop_assert_eq!(nothing, Amount::default());
    }

    #[test]
    fn the_order_of_the_rows_does_not_show(mut rows in any_rows(), top in prop::option::of(0..8_usize)) {
        let print = |by, rows: &[Row]| printed(&report(by, Sort::Total, top, rows), Format::Csv);
        let reports = |rows: &[Row]| [By::Address, By::Pair].map(|by| print(by, rows));
        let before = reports(&rows);
        rows.reverse();
        prop_assert_eq!(before, reports(&rows));
    }

    #[test]
    fn a_table_keeps_to_its_width(rows in any_rows(), width in 60..200_usize) {
        for by in [By::Address, By::Pair] {
            let table = printed_at(&report(by, Sort::Total, None, &rows), Format::Table, width);
            for line in table.lines() {
                prop_assert!(line.chars().count() <= width && line.trim_end() == line, "{}", table);
            }
        }
    }
}
