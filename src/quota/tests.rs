use proptest::prelude::*;

use super::*;
use crate::time::Timestamp;
use crate::traffic::{Counts, Seen};
use crate::zerotier::identity::{mac, rfc4193};
use crate::zerotier::members::Member;
use crate::zerotier::{NetworkId, Roster};

const NETWORK: NetworkId = NetworkId(0x460c_acee_2d00_a7e1);
const A: &str = "6df5629e82";
const B: &str = "87dc5b55d9";

fn at(text: &str) -> i64 {
    Zone::absolute(text).unwrap().clamped().0
}

fn quota(name: &str, whose: &[&str], direction: Direction) -> Quota {
    let holder = |text: &&str| text.parse().map_or_else(|_| Holder::Member((*text).to_owned()), Holder::Clients);
    let (every, limit) = (Every::Month { start: 14 }, 1000);
    Quota { name: name.to_owned(), whose: whose.iter().map(holder).collect(), limit, every, direction }
}

fn endpoint(end: &str, node: Option<&str>) -> Endpoint {
    let mac = node.map(|node| mac(NETWORK, node.parse().unwrap()));
    Endpoint { end: end.parse().unwrap(), mac }
}

fn row(src: Endpoint, dst: Endpoint, bytes: u64) -> Row {
    let counts = Counts { bytes, packets: 1, copies: 0 };
    Row { src, dst, counts, seen: Seen::at(Timestamp(0)) }
}

fn bucket(second: i64) -> Bucket {
    Timestamp::new(second, 0).bucket()
}

/// Reads what a database would have.
fn read(quotas: &mut Quotas, rows: &[(i64, Row)]) {
    let mut reading = quotas.reading().unwrap();
    rows.iter().for_each(|(second, row)| reading.add("", bucket(*second), row));
    quotas.settle(reading);
}

fn used(quotas: &Quotas) -> Vec<Option<u64>> {
    quotas.uses().map(|one| one.used).collect()
}

/// What was moved under these quotas by these rows.
fn moved(quotas: &[Quota], rows: &[(i64, Row)], now: &str) -> Vec<Option<u64>> {
    let mut quotas = Quotas::new(quotas.to_vec(), Zone::UTC, at(now)).unwrap();
    let mut roster = Roster::default();
    let addresses = ["10.0.0.1".parse().unwrap()].into();
    roster.tell(Some(NETWORK), A.parse().unwrap(), Member { name: "alice".to_owned(), addresses, ..Member::default() });
    quotas.know("", roster.of(Some(NETWORK)));
    read(&mut quotas, rows);
    used(&quotas)
}

const NOW: &str = "2026-11-20T00:00:00Z";

#[test]
fn a_packet_counts_once_in_a_group_whoever_is_at_its_ends() {
    let [a, b, out] = ["10.0.0.1", "10.0.0.2", "external"].map(|end| endpoint(end, None));
    let now = at(NOW);
    let rows = [(now, row(a, b, 1)), (now, row(a, out, 10)), (now, row(out, b, 100)), (now, row(b, a, 1000))];
    let quotas = [Direction::Both, Direction::Sent, Direction::Received];
    let of = |whose: &[&str]| moved(&quotas.map(|direction| quota("q", whose, direction)), &rows, NOW);
    assert_eq!(of(&["10.0.0.1", "10.0.0.2"]), [Some(1111), Some(1011), Some(1101)]);
    assert_eq!(of(&["10.0.0.0/24"]), [Some(1111), Some(1011), Some(1101)]);
    assert_eq!(of(&["10.0.0.1"]), [Some(1011), Some(11), Some(1000)]);
    assert_eq!(of(&["10.0.0.9"]), [Some(0); 3]);
}

#[test]
fn of_a_member_what_is_its_own_counts() {
    let now = at(NOW);
    let rows = [
        (now, row(endpoint("10.0.0.1", Some(A)), endpoint("10.0.0.2", Some(B)), 1)),
        (now, row(endpoint("100.64.0.1", Some(A)), endpoint("10.0.0.2", Some(B)), 10)),
        // Forwarded: of the internet, and of an address that is another's.
        (now, row(endpoint("external", Some(A)), endpoint("10.0.0.9", None), 100)),
        (now, row(endpoint("10.0.0.1", Some(B)), endpoint("10.0.0.9", None), 1000)),
    ];
    let quotas = [["alice"], [A], [B], ["bob"]].map(|whose| quota("q", &whose, Direction::Both));
    assert_eq!(moved(&quotas, &rows, NOW), [Some(11), Some(11), Some(11), Some(0)]);
    // One who is in a group by address and as a member counts once.
    let group = quota("q", &["alice", "10.0.0.1", A], Direction::Both);
    assert_eq!(moved(&[group], &rows, NOW), [Some(1011)]);
}

#[test]
fn buckets_count_in_the_period_that_they_are_in() {
    let a = endpoint("10.0.0.1", None);
    let rows = ["2026-11-13T23:55:00Z", "2026-11-14T00:00:00Z", "2026-12-13T23:55:00Z", "2026-12-14T00:00:00Z"];
    let rows: Vec<_> = rows.iter().zip([1, 10, 100, 1000]).map(|(time, bytes)| (at(time), row(a, a, bytes))).collect();
    let mut quotas = Quotas::new(vec![quota("q", &["10.0.0.1"], Direction::Both)], Zone::UTC, at(NOW)).unwrap();
    assert_eq!(used(&quotas), [None]);
    read(&mut quotas, &rows);
    assert_eq!(used(&quotas), [Some(110)]);
    assert!(quotas.reading().is_none());
    // It ends without traffic, and what came early is there; what comes late is the old one's.
    assert_eq!(quotas.enter(at("2026-12-14T00:00:00Z")), []);
    assert_eq!(used(&quotas), [Some(1000)]);
    quotas.add("", bucket(at("2026-12-13T23:59:59Z")), &row(a, a, 5));
    quotas.add("", bucket(at("2026-12-14T00:00:00Z")), &row(a, a, 7));
    assert_eq!(used(&quotas), [Some(1007)]);
    assert_eq!(quotas.uses().next().unwrap().period.end, at("2027-01-14T00:00:00Z"));
    // Set back, the clock asks for a period of which nothing is known any more.
    assert_eq!(quotas.enter(at("2026-11-13T00:00:00Z")), []);
    assert_eq!(used(&quotas), [None]);
    read(&mut quotas, &rows);
    assert_eq!(used(&quotas), [Some(1)]);
}

#[test]
fn what_is_read_while_the_period_ends_is_of_no_use() {
    let a = endpoint("10.0.0.1", None);
    let mut quotas = Quotas::new(vec![quota("q", &["10.0.0.1"], Direction::Both)], Zone::UTC, at(NOW)).unwrap();
    let reading = quotas.reading().unwrap();
    assert_eq!(quotas.enter(at("2026-12-14T00:00:00Z")), []);
    quotas.settle(reading);
    assert_eq!(used(&quotas), [None]);
    read(&mut quotas, &[(at("2026-12-14T00:00:00Z"), row(a, a, 3))]);
    assert_eq!(used(&quotas), [Some(3)]);
}

#[test]
fn other_quotas_take_over_what_stays_the_same() {
    let a = endpoint("10.0.0.1", None);
    let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|whose| quota(whose, &[whose], Direction::Both));
    let mut before = Quotas::new(vec![one.clone()], Zone::UTC, at(NOW)).unwrap();
    read(&mut before, &[(at(NOW), row(a, a, 3))]);
    let mut quotas = Quotas::new(vec![other, one], Zone::UTC, at(NOW)).unwrap();
    quotas.succeed(&before);
    assert_eq!(used(&quotas), [None, Some(3)]);
    quotas.add("", bucket(at(NOW)), &row(a, a, 4));
    assert_eq!(used(&quotas), [None, Some(7)]);
    read(&mut quotas, &[(at(NOW), row(a, a, 7))]);
    assert_eq!(used(&quotas), [Some(0), Some(7)]);
}

#[test]
fn who_shows_to_be_a_member_is_read_anew() {
    let planned = rfc4193(NETWORK, B.parse().unwrap()).to_string();
    let mut roster = Roster::default();
    roster.tell(Some(NETWORK), A.parse().unwrap(), Member { listed: true, ..Member::default() });
    let mut quotas =
        Quotas::new([B, "10.0.0.7"].map(|one| quota(one, &[one], Direction::Both)).to_vec(), Zone::UTC, at(NOW))
            .unwrap();
    quotas.know("", roster.of(Some(NETWORK)));
    let rows = [(at(NOW), row(endpoint("10.0.0.7", Some(B)), endpoint("external", None), 5))];
    read(&mut quotas, &rows);
    assert_eq!(used(&quotas), [Some(0), Some(5)], "where all members are listed, this one is none");
    quotas.add("", bucket(at(NOW)), &row(endpoint(&planned, Some(B)), endpoint("external", None), 10));
    quotas.heed_news();
    let reading = quotas.reading().unwrap();
    assert_eq!(used(&reading), [Some(0), None], "only what is about members");
    quotas.doubt_members();
    read(&mut quotas, &[rows[0], (at(NOW), row(endpoint(&planned, Some(B)), endpoint("external", None), 10))]);
    assert_eq!(used(&quotas), [Some(15), Some(5)]);
}

#[test]
fn projections() {
    let quota = quota("q", &["10.0.0.1"], Direction::Both);
    let period = Period { start: at("2026-11-14T00:00:00Z"), end: at("2026-12-14T00:00:00Z") };
    let stands = |used, now| {
        let one = Use { quota: &quota, period, used };
        (one.projected(at(now)), one.remaining(), one.is_exceeded())
    };
    assert_eq!(stands(Some(1000), "2026-11-24T00:00:00Z"), (Some(3000), Some(0), false));
    assert_eq!(stands(Some(1001), "2026-11-24T00:00:00Z"), (Some(3003), Some(0), true));
    assert_eq!(stands(Some(10), "2026-11-14T00:59:59Z"), (None, Some(990), false));
    assert_eq!(stands(Some(10), "2026-11-14T01:00:00Z"), (Some(7200), Some(990), false));
    assert_eq!(stands(Some(u64::MAX), "2026-11-14T01:00:00Z").0, Some(u64::MAX));
    assert_eq!(stands(Some(10), "2026-11-14T00:00:00Z").0, None);
    assert_eq!(stands(None, "2026-11-24T00:00:00Z"), (None, None, false));
}

#[test]
fn a_period_that_begins_within_a_bucket_is_an_error() {
    let now = at("1930-01-01T00:00:00Z");
    let zone = Zone::named("Africa/Monrovia").unwrap();
    let error = Quotas::new(vec![quota("q", &["10.0.0.1"], Direction::Both)], zone, now).unwrap_err();
    assert!(error.starts_with("quota 'q': a month begins at "), "{error}");
}

/// Until January 1972 Monrovia was 44:30 behind: that month begins within a bucket, and none after it does.
#[test]
fn where_one_period_cannot_be_told_the_others_are_entered() {
    let a = endpoint("10.0.0.1", None);
    let of = |name: &str, every| Quota { every, ..quota(name, &["10.0.0.1"], Direction::Both) };
    let all = ["before", "astray", "after"].map(|name| match name {
        "astray" => of(name, Every::Month { start: 1 }),
        _ => of(name, Every::Hour),
    });
    let (now, then) = (at("1972-03-05T00:30:00Z"), at("1972-01-20T00:30:00Z"));
    let mut quotas = Quotas::new(all.to_vec(), Zone::named("Africa/Monrovia").unwrap(), now).unwrap();
    read(&mut quotas, &[(now, row(a, a, 1))]);
    assert_eq!(used(&quotas), [Some(1); 3]);
    let [(name, why)] = &quotas.enter(then)[..] else { panic!() };
    assert_eq!(name, "astray");
    assert!(why.starts_with("quota 'astray': a month begins at 1972-01-01T00:44:30Z"), "{why}");
    read(&mut quotas, &[(then, row(a, a, 2))]);
    assert_eq!(used(&quotas), [Some(2), None, Some(2)]);
    quotas.doubt();
    assert_eq!(quotas.enter(then).len(), 1, "it is told as long as it is so");
    // Back again, it is read like all others.
    assert_eq!(quotas.enter(now), []);
    read(&mut quotas, &[(now, row(a, a, 3))]);
    assert_eq!(used(&quotas), [Some(3); 3]);
}

/// One who moves something, and one who has a quota.
const ENDS: [&str; 5] = ["10.0.0.1", "10.0.0.2", "10.0.1.1", "fd00::1", "external"];
const HOLDERS: [&str; 5] = ["10.0.0.1", "10.0.0.0/24", "fd00::/8", "10.0.0.2", "0.0.0.0/0"];

proptest! {
    /// Whatever was committed before and after a reading began, whenever it ends and whatever periods begin meanwhile:
    /// what is used is the sum of all packets.
    #[test]
    fn what_is_used_is_the_sum_of_the_packets(
        packets in prop::collection::vec((0_i64..9000, 0..5_usize, 0..5_usize, 1..1000_u64), 0..60),
        of in prop::collection::vec((prop::collection::vec(0..5_usize, 1..3), 0..3_usize, 0..5_usize), 1..5),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe"]),
        times in prop::collection::vec(0_i64..9000, 1..6),
        cuts in prop::array::uniform3(0_usize..60),
    ) {
        // Quarters of an hour around a change of clocks.
        let second = |quarter: i64| at("2026-02-01T00:00:00Z") + quarter * 900;
        let endpoint = |end: usize| endpoint(ENDS[end], None);
        let rows: Vec<_> = packets.iter()
            .map(|&(time, src, dst, bytes)| (second(time), row(endpoint(src), endpoint(dst), bytes))).collect();
        let everies = [Every::Hour, Every::Day, Every::Week, Every::Month { start: 14 }, Every::Month { start: 31 }];
        let directions = [Direction::Sent, Direction::Received, Direction::Both];
        let quotas: Vec<Quota> = of.iter().map(|(whose, direction, every)| {
            let whose: Vec<_> = whose.iter().map(|holder| HOLDERS[*holder]).collect();
            Quota { every: everies[*every], ..quota("q", &whose, directions[*direction]) }
        }).collect();
        let zone = Zone::named(zone).unwrap();
        let sum = |quota: &Quota, now: i64| {
            let period = Calendar::new(zone, quota.every).period(now).unwrap();
            let is_of = |endpoint: Endpoint| quota.is_of(endpoint);
            rows.iter().filter(|(time, row)| {
                let [sent, received] = [is_of(row.src), is_of(row.dst)];
                period.start <= *time && *time < period.end && match quota.direction {
                    Direction::Sent => sent,
                    Direction::Received => received,
                    Direction::Both => sent || received,
                }
            }).map(|(_, row)| row.counts.bytes).sum::<u64>()
        };
        let mut live = Quotas::new(quotas.clone(), zone, second(times[0])).unwrap();
        let mut cuts = cuts.map(|cut| cut.min(rows.len()));
        cuts.sort_unstable();
        // Committed before the reading, meanwhile, and after it; then the clock runs, jumps and is set back.
        let [before, meanwhile, _] = cuts;
        let mut reading = live.reading().unwrap();
        rows[..before].iter().for_each(|(time, row)| reading.add("", bucket(*time), row));
        rows[before..meanwhile].iter().for_each(|(time, row)| live.add("", bucket(*time), row));
        live.settle(reading);
        rows[meanwhile..].iter().for_each(|(time, row)| live.add("", bucket(*time), row));
        let expected = |now: i64| quotas.iter().map(|quota| sum(quota, now)).collect::<Vec<_>>();
        let known = |live: &Quotas| live.uses().map(|one| one.used.unwrap()).collect::<Vec<_>>();
        prop_assert_eq!(known(&live), expected(second(times[0])));
        for time in &times[1..] {
            live.enter(second(*time));
            if let Some(mut reading) = live.reading() {
                rows.iter().for_each(|(time, row)| reading.add("", bucket(*time), row));
                live.settle(reading);
            }
            prop_assert_eq!(known(&live), expected(second(*time)));
        }
    }

    /// The period that follows is known at once.
    #[test]
    fn the_next_period_needs_no_reading(quarters in prop::collection::vec((0_i64..5000, 1..1000_u64), 0..40), day in 1..=31_u32) {
        let a = endpoint("10.0.0.1", None);
        let rows: Vec<_> = quarters.iter().map(|(quarter, bytes)| (at(NOW) + quarter * 900, row(a, a, *bytes))).collect();
        let quota = Quota { every: Every::Month { start: day }, ..quota("q", &["10.0.0.1"], Direction::Both) };
        let mut live = Quotas::new(vec![quota.clone()], Zone::UTC, at(NOW)).unwrap();
        read(&mut live, &rows);
        let next = live.uses().next().unwrap().period.end;
        live.enter(next);
        let mut anew = Quotas::new(vec![quota], Zone::UTC, next).unwrap();
        read(&mut anew, &rows);
        prop_assert_eq!(used(&live), used(&anew));
    }
}
