//! The page: well-formed, escaped, and with the sums of the CSV.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::super::tests::{printed, row};
use super::super::{Builder, By, Format, Named, Query, Report, Sort};
use super::{Escaped, SCRIPT, SCRIPT_HASH, STYLE, STYLE_HASH};
use crate::coverage::{Observed, Seconds};
use crate::period::Every;
use crate::time::{Bucket, Timestamp};
use crate::traffic::{Endpoint, Row};
use crate::zerotier::identity::mac;
use crate::zerotier::members::Member;
use crate::zerotier::{NetworkId, NodeId, Roster};
use crate::zone::Zone;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn query(by: By, every: Option<Every>) -> Query {
    let zone = Zone::named("Europe/Berlin").unwrap();
    Query { zone, every: every.or(Some(Every::Hour)), page: true, fits: every.is_none(), ..by.into() }
}

fn report(query: Query, rows: &[(&str, Row)], top: Option<usize>) -> Report {
    let mut builder = Builder::new(query);
    for (network, row) in rows {
        builder.add(network, row.seen.first.bucket(), row).unwrap();
    }
    builder.finish(Sort::Total, top)
}

fn page(query: Query, rows: &[(&str, Row)], top: Option<usize>) -> String {
    let page = printed(&report(query, rows, top), Format::Html);
    check(&page);
    page
}

/// That a page is well-formed, nothing in it can run or be fetched, and all links lead to something in it.
fn check(page: &str) {
    let (mut open, mut ids, mut links) = (Vec::new(), Vec::new(), Vec::new());
    let mut left = page.strip_prefix("<!DOCTYPE html>\n").unwrap();
    while let Some((text, after)) = left.split_once('<') {
        for entity in text.split('&').skip(1) {
            let name = entity.split_once(';').map(|(name, _)| name);
            assert!(["amp", "lt", "gt", "quot", "#39"].iter().any(|known| name == Some(known)), "&{entity}");
        }
        assert!(!text.contains('>'), "{text}");
        let (tag, after) = after.split_once('>').unwrap();
        left = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, mut attributes) = tag.split_once(|c: char| c.is_whitespace()).unwrap_or((tag, ""));
        while let Some((key, value)) = attributes.trim_start().split_once("=\"") {
            let (value, next) = value.split_once('"').unwrap();
            match key {
                "id" => ids.push(value.to_owned()),
                "href" => links.push(value.strip_prefix('#').unwrap().to_owned()),
                "src" | "style" | "srcset" | "data" | "action" => panic!("{key}={value}"),
                key => assert!(!key.starts_with("on") && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')),
            }
            attributes = next;
        }
        assert_eq!(attributes.trim(), "", "{tag}");
        if name == "style" || name == "script" {
            assert_eq!(attributes, "");
            let own = if name == "style" { STYLE } else { SCRIPT };
            left = left.strip_prefix(own).unwrap().strip_prefix(&format!("</{name}>")).unwrap();
        } else if !closed {
            open.push(name);
        }
    }
    assert_eq!((open, left), (vec![], "\n"));
    assert!(links.iter().all(|link| ids.contains(link)), "{links:?} {ids:?}");
    for never in ["http:", "https:", "//www", "url(", "@import", "<link", "<img", "<iframe"] {
        assert!(!page.replace(SCRIPT, "").contains(never), "{never}");
    }
}

/// The cells of a section's rows: what is exact, without commas.
fn cells(page: &str, section: &str, end: &str) -> Vec<Vec<String>> {
    let section = page.split(&format!("<section id=\"{section}\">")).nth(1).unwrap();
    let rows = section.split("<tbody>").nth(1).unwrap().split(end).next().unwrap();
    let cell = |cell: &str| {
        let title = cell.split_once("title=\"").map(|(_, title)| title.split('"').next().unwrap());
        let text = || cell.split_once('>').unwrap().1.split("</td>").next().unwrap();
        title.unwrap_or_else(text).replace(',', "")
    };
    rows.split("<tr>").skip(1).map(|row| row.split("<td").skip(1).map(cell).collect()).collect()
}

/// The sums of a CSV, by whose they are: the columns that begin with one of `keys`, and the numbers.
fn sums(csv: &str, keys: &[&str]) -> BTreeMap<Vec<String>, Vec<u64>> {
    let heads: Vec<_> = csv.lines().next().unwrap().split(',').collect();
    let mut sums = BTreeMap::new();
    for line in csv.lines().skip(1) {
        let cells: Vec<_> = heads.iter().zip(line.split(',')).collect();
        let key = cells.iter().filter(|(head, _)| keys.contains(head)).map(|(_, cell)| (*cell).to_owned()).collect();
        let number = |suffix: &str| {
            let of = cells
                .iter()
                .filter(|(head, _)| head.ends_with(suffix) && **head != "dropped_packets")
                .map(|(_, cell)| cell.parse().unwrap());
            of.collect::<Vec<u64>>()
        };
        let (bytes, packets) = (number("bytes"), number("packets"));
        let more = bytes.into_iter().zip(packets).flat_map(|(bytes, packets)| [bytes, packets]);
        let sum: &mut Vec<u64> = sums.entry(key).or_default();
        sum.resize(more.clone().count(), 0);
        sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }
    sums
}

#[test]
fn style_and_script_are_those_that_the_page_allows() {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (text, hash) in [(STYLE, STYLE_HASH), (SCRIPT, SCRIPT_HASH)] {
        let bits: String = Sha256::digest(text).iter().map(|byte| format!("{byte:08b}")).collect();
        let six = |bits: &[u8]| {
            let bits = format!("{:0<6}", std::str::from_utf8(bits).unwrap());
            char::from(digits[usize::from_str_radix(&bits, 2).unwrap()])
        };
        let base64: String = bits.as_bytes().chunks(6).map(six).chain(['=']).collect();
        assert_eq!(hash, base64);
    }
}

#[test]
fn names_are_nothing_but_text() {
    let evil = "<script>alert(1)</script>\" onload='x' & \u{202e}\0\n";
    let rows = [(evil, row("10.0.0.1", "10.0.0.2", 900, 1, 0)), ("b]]>-->", row("10.0.0.1", "external", 500, 1, 0))];
    for by in [By::Address, By::Pair] {
        let page = page(query(by, None), &rows, None);
        assert_eq!(page.matches("<script>").count(), 1);
        let text = "&lt;script&gt;alert(1)&lt;/script&gt;&quot; onload=&#39;x&#39; &amp; \u{fffd}\u{fffd}\u{fffd}";
        assert!(page.matches(text).count() >= 4, "{page}");
    }
    assert_eq!(Escaped("a<b").to_string(), "a&lt;b");
}

#[test]
fn periods_fit_the_time() {
    let every = |rows: &[(&str, Row)], every| {
        let report = report(query(By::Address, every), rows, None);
        (report.query.every, report.periods().count())
    };
    let until = |hours: i64| [0, hours].map(|hour| ("", row("10.0.0.1", "external", 1, 1, hour * HOUR)));
    assert_eq!(every(&until(0), None), (Some(Every::Hour), 1));
    assert_eq!(every(&until(72), None), (Some(Every::Hour), 73));
    assert_eq!(every(&until(73), None), (Some(Every::Day), 4));
    assert_eq!(every(&until(92 * 24), None), (Some(Every::Day), 93));
    assert_eq!(every(&until(93 * 24), None), (Some(Every::Month { start: 1 }), 4));
    assert_eq!(every(&until(90 * 365 * 24), None), (Some(Every::Year), 90));
    // What was asked for, as long as that can be drawn.
    assert_eq!(every(&until(999), Some(Every::Hour)), (Some(Every::Hour), 1000));
    assert_eq!(every(&until(1001), Some(Every::Hour)), (Some(Every::Day), 42));
    assert_eq!(every(&until(24 * 400), Some(Every::Week)), (Some(Every::Week), 58));
    // Weeks and months from other days are parts of nothing longer.
    assert_eq!(every(&until(8000 * 24), Some(Every::Week)).0, None);
    assert_eq!(every(&until(40_000 * 24), Some(Every::Month { start: 14 })).0, None);
    let page = page(query(By::Address, Some(Every::Hour)), &until(1001), None);
    assert!(page.contains("Bytes by day") && page.contains("By hour there would be more bars"), "{page}");
}

#[test]
fn what_cannot_be_cut_has_no_chart() {
    let zone = Zone::named("Asia/Kathmandu").unwrap();
    // There the year begins within that hour.
    let new_year = 364 * 86_400 + 18 * 3600;
    let add = |every| {
        let mut builder = Builder::new(Query { zone, ..query(By::Address, every) });
        let added =
            builder.add("", Bucket { start: new_year, seconds: 3600 }, &row("10.0.0.1", "external", 5, 1, 65_000_000));
        (added.is_ok(), printed(&builder.finish(Sort::Total, None), Format::Html))
    };
    let (added, page) = add(None);
    check(&page);
    assert!(added && page.contains(">10.0.0.1<") && !page.contains("id=\"time\"") && !page.contains("id=\"periods\""));
    assert!(!add(Some(Every::Day)).0);
}

#[test]
fn a_range_that_is_given_decides_as_well() {
    let time = |text| Some(Zone::absolute(text).unwrap());
    let range =
        Query { since: time("1969-12-31T23:00:00Z"), until: time("1970-01-10T23:00:00Z"), ..query(By::Address, None) };
    let rows = [("", row("10.0.0.1", "external", 1, 1, 0))];
    let report = report(range, &rows, None);
    assert_eq!((report.query.every, report.periods().count()), (Some(Every::Day), 10));
}

#[test]
fn without_rows_a_sentence() {
    let page = page(query(By::Address, None), &[], None);
    assert!(page.contains("Nothing was counted.") && !page.contains("<svg"), "{page}");
}

#[test]
fn who_was_quiet_has_a_row() {
    let mut builder = Builder::new(query(By::Address, Some(Every::Day)));
    let moved = row("10.0.0.1", "external", 5, 1, DAY);
    let quiet = Endpoint { end: "10.0.0.9".parse().unwrap(), mac: None };
    builder.know("", quiet, Timestamp(0));
    builder.add("", moved.seen.first.bucket(), &moved).unwrap();
    let page = printed(&builder.finish(Sort::Total, None), Format::Html);
    check(&page);
    let addresses: Vec<_> = cells(&page, "totals", "</tbody>").iter().map(|row| row[0].clone()).collect();
    assert_eq!(addresses, ["10.0.0.1", "10.0.0.9", "external"]);
}

#[test]
fn members_have_names_and_what_they_forwarded() {
    let (network, node) = (NetworkId(0x460c_acee_2d00_a7e1), NodeId::new(0x6d_f562_9e82).unwrap());
    let mut roster = Roster::default();
    let name = "</td><script>".to_owned();
    roster.tell(Some(network), node, Member { name, ..Member::default() });
    let named = Named { roster, network: Some(network), chosen: Vec::new() };
    let behind = |end: &str| Endpoint { end: end.parse().unwrap(), mac: Some(mac(network, node)) };
    let rows = [("10.0.0.1", 4000), ("external", 500)].map(|(end, bytes)| {
        let row = row("10.0.0.1", "10.0.0.2", bytes, 1, HOUR);
        ("", Row { src: behind(end), ..row })
    });
    let page = page(Query { named, ..query(By::Member, None) }, &rows, None);
    let member = ["6df5629e82", "<bdi>&lt;/td&gt;&lt;script&gt;</bdi>", "4000", "0", "500", "0"];
    let other = ["10.0.0.2", "<bdi></bdi>", "0", "4500", "0", "0"];
    let shown: Vec<Vec<String>> = cells(&page, "totals", "</tbody>").iter().map(|row| row[..6].to_vec()).collect();
    assert_eq!(shown, [member, other]);
    assert!(page.contains("<bdi>6df5629e82 &lt;/td&gt;&lt;script&gt;</bdi>"), "{page}");
}

#[test]
fn coverage_stands_beside_the_periods() {
    let time = |text| Some(Zone::absolute(text).unwrap());
    let made = |every, format, networks: &[&str]| {
        let range = Query {
            since: time("1970-01-01T00:00:00Z"),
            until: time("1970-01-04T23:00:00Z"),
            ..query(By::Address, every)
        };
        let mut builder = Builder::new(Query { page: format == Format::Html, ..range });
        for network in networks {
            let row = row("10.0.0.1", "external", 5, 1, HOUR);
            builder.add(network, row.seen.first.bucket(), &row).unwrap();
            for start in (0..86_400).step_by(300) {
                let mut up = Seconds::default();
                up.mark(0..200);
                builder.see(
                    network,
                    start,
                    &Observed { up, teed: 1, pairs: 100, singles: 2, dropped: 1, ..Observed::default() },
                );
            }
        }
        printed(&builder.finish(Sort::Total, None), format)
    };
    // The range makes days of what began as hours, when all had been seen.
    let page = made(None, Format::Html, &[""]);
    check(&page);
    let csv = made(Some(Every::Day), Format::Csv, &[""]);
    let share = |cell: &str| cell.parse::<f64>().map_or("–".to_owned(), |share| format!("{:.2}%", share * 100.0));
    let of_client = csv.lines().filter(|line| line.contains(",10.0.0.1,"));
    let wanted = of_client.map(|line| line.split(',').rev().take(4).collect::<Vec<_>>());
    let wanted: Vec<_> =
        wanted.map(|cells| [share(cells[3]), share(cells[2]), cells[1].to_owned(), cells[0].to_owned()]).collect();
    let shown: Vec<_> = cells(&page, "periods", "</tbody>").iter().map(|row| row[3..].to_vec()).collect();
    assert!(shown.len() == 4 && shown[0][0] == "66.66%", "{shown:?}");
    assert_eq!(shown, wanted);
    assert!(page.contains("<p class=\"covered\"><bdi></bdi>covered "), "{page}");

    let page = made(None, Format::Html, &["<a>", "<b>"]);
    check(&page);
    assert!(page.contains("<td><bdi>&lt;a&gt;</bdi><br/><bdi>&lt;b&gt;</bdi></td>"), "{page}");
    assert!(!page_of_nothing_seen().contains("coverage"));
}

fn page_of_nothing_seen() -> String {
    page(query(By::Address, None), &[("", row("10.0.0.1", "external", 5, 1, DAY))], None)
}

#[test]
fn many_clients_make_no_more_chart_and_matrix() {
    let addr = |i: u32| format!("10.{}.{}.{}", i >> 16, (i >> 8) & 255, i & 255);
    let rows: Vec<_> = (0..2000).map(|i| ("", row(&addr(i), &addr(i * 7 + 1), 100 + u64::from(i), 1, HOUR))).collect();
    let all = page(query(By::Address, None), &rows, None);
    let top = page(query(By::Address, None), &rows, Some(20));
    let parts = |page: &str| -> usize {
        page.split("<section id=").filter(|part| !part.starts_with("\"totals")).map(str::len).sum()
    };
    assert!(all.len() > 500_000 && all.len() < 1_000_000, "{}", all.len());
    assert!(top.len() < 40_000 && parts(&all) < parts(&top) + 200, "{} {}", top.len(), parts(&all));
}

fn rows() -> impl Strategy<Value = Vec<(&'static str, Row)>> {
    const ENDS: [&str; 9] =
        ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7", "fd00::1", "external"];
    let end = || 0..ENDS.len();
    let time = prop_oneof![0..2 * DAY, 0..60 * DAY, 0..900 * DAY];
    let one = (any::<bool>(), end(), end(), 1..1_000_000_u64, 1..9_u64, time);
    let one = one.prop_map(|(other, src, dst, bytes, packets, time)| {
        (if other { "x" } else { "" }, row(ENDS[src], ENDS[dst], bytes, packets, time))
    });
    prop::collection::vec(one, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Totals, periods and matrix have the sums of the CSV, whatever the periods; and equal rows give equal bytes.
    #[test]
    fn sums_are_those_of_the_csv(
        rows in rows(),
        by in prop_oneof![Just(By::Address), Just(By::Pair)],
        every in prop_oneof![Just(None), Just(Some(Every::Day)), Just(Some(Every::Week)), Just(Some(Every::Month { start: 14 }))],
        top in prop_oneof![Just(None), (1..5_usize).prop_map(Some)],
    ) {
        let html = page(query(by, every), &rows, top);
        let turned: Vec<_> = rows.iter().rev().cloned().collect();
        prop_assert_eq!(&page(query(by, every), &turned, top), &html);

        let plain = Query { every: None, page: false, fits: false, ..query(by, every) };
        let csv = printed(&report(plain, &rows, top), Format::Csv);
        let names: usize = ["network", "src", "dst", "addr"].iter().filter(|head| csv.lines().next().unwrap().split(',').any(|other| other == **head)).count();
        let figures = if by == By::Pair { 2 } else { 4 };
        let shown: BTreeMap<Vec<String>, Vec<u64>> = cells(&html, "totals", "</tbody>").iter().map(|row| {
            let key = row[..names].iter().map(|name| if name.contains("<bdi>-<") { String::new() } else { name.replace("<bdi>", "").replace("</bdi>", "") });
            (key.collect(), row[names..names + figures].iter().map(|cell| cell.parse().unwrap()).collect())
        }).collect();
        prop_assert_eq!(shown, sums(&csv, &["network", "src", "dst", "addr"]));

        let total = sums(&csv, &[]).remove(&vec![]).unwrap()[0];
        if html.contains("<section id=\"periods\">") {
            let periods = report(query(by, every), &rows, None);
            let per_period = sums(&printed(&periods, Format::Csv), &["period_start"]);
            let shown: Vec<u64> = cells(&html, "periods", "</tbody>").iter().map(|row| row[1].parse().unwrap()).collect();
            prop_assert_eq!(&shown.iter().sum::<u64>(), &total);
            // The CSV leaves periods out in which there was no client.
            let moved = |sums: Vec<u64>| sums.into_iter().filter(|sum| *sum > 0).collect::<Vec<_>>();
            prop_assert_eq!(moved(shown), moved(per_period.values().map(|sums| sums[0]).collect()));
        }
        let matrix: u64 = html.match_indices(" bytes from ").map(|(at, _)| {
            html[..at].rsplit('"').next().unwrap().replace(',', "").parse::<u64>().unwrap()
        }).sum();
        prop_assert_eq!(matrix, total);
    }
}
