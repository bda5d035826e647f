//! By member: own and forwarded, names, and addresses that are no member's.

use super::*;
use crate::period::Every;
use crate::zerotier::identity::{mac, rfc4193};
use crate::zerotier::members::Member;
use crate::zerotier::{NetworkId, NodeId, Roster};
use crate::zone::Zone;

const NETWORK: NetworkId = NetworkId(0x460c_acee_2d00_a7e1);

fn node(n: u64) -> NodeId {
    NodeId::new(n).unwrap()
}

/// An end behind the MAC of a node; 0 is no MAC.
fn behind(end: &str, n: u64) -> Endpoint {
    let mac = (n > 0).then(|| mac(NETWORK, node(n)));
    Endpoint { end: end.parse().unwrap(), mac }
}

fn moved(src: (&str, u64), dst: (&str, u64), bytes: u64, seconds: i64) -> Row {
    let row = row("10.0.0.1", "10.0.0.1", bytes, 1, seconds * 1000);
    Row { src: behind(src.0, src.1), dst: behind(dst.0, dst.1), ..row }
}

fn member(name: &str, addresses: &[&str], listed: bool) -> Member {
    let addresses = addresses.iter().map(|addr| addr.parse().unwrap()).collect();
    Member { name: name.to_owned(), addresses, listed, ..Member::default() }
}

fn query(roster: Roster, chosen: &[&str]) -> Query {
    let chosen = chosen.iter().map(|name| name.to_string()).collect();
    Query { named: Named { roster, network: Some(NETWORK), chosen }, ..By::Member.into() }
}

fn lines_of(query: Query, top: Option<usize>, rows: &[Row]) -> Vec<String> {
    let mut builder = Builder::new(query);
    rows.iter().for_each(|row| add(&mut builder, "", row));
    lines(&builder.finish(Sort::Total, top))
}

/// 1 and 2 talk; 2 forwards for somebody outside; 3 is bridged, as far as anybody knows.
fn rows() -> Vec<Row> {
    vec![
        moved(("10.0.0.1", 1), ("10.0.0.2", 2), 1000, 1),
        moved(("10.0.0.1", 1), ("external", 2), 200, 2),
        moved(("external", 2), ("10.0.0.1", 1), 30, 3),
        moved(("100.64.0.1", 1), ("multicast", 0), 4, 4),
        moved(("10.0.0.7", 3), ("10.0.0.1", 1), 5000, 5),
    ]
}

#[test]
fn what_is_forwarded_is_not_own() {
    let mut roster = Roster::default();
    roster.tell(Some(NETWORK), node(1), member("Ann, \"1\"", &["10.0.0.1"], false));
    assert_eq!(
        lines_of(query(roster.clone(), &[]), None, &rows()),
        [
            "0000000001 Ann, \"1\" 1204 5030 0 0",
            "0000000003  5000 0 0 0",
            "0000000002  0 1000 30 200",
            "multicast  0 4 0 0"
        ]
    );
    // In the order of all that was carried.
    assert_eq!(
        lines_of(query(roster.clone(), &[]), Some(1), &rows()),
        ["0000000001 Ann, \"1\" 1204 5030 0 0", "multicast  0 4 0 0", "rest  5000 1000 30 200"]
    );
    assert_eq!(
        lines_of(query(roster.clone(), &["Ann, \"1\""]), None, &rows()),
        ["0000000001 Ann, \"1\" 1204 5030 0 0"]
    );
    assert_eq!(lines_of(query(roster, &["0000000002"]), None, &rows()), ["0000000002  0 1000 30 200"]);
}

#[test]
fn a_bridged_mac_stays_its_addresses_until_a_later_row_confirms_it() {
    let mut roster = Roster::default();
    for n in [1, 2] {
        roster.tell(Some(NETWORK), node(n), member("", &[], true));
    }
    roster.name_address("10.0.0.7".parse().unwrap(), "printer");
    let listed = query(roster.clone(), &[]);
    assert_eq!(lines_of(listed, None, &rows())[1], "10.0.0.7 printer 5000 0 0 0");
    let mut confirmed = rows();
    let plan = rfc4193(NETWORK, node(3)).to_string();
    confirmed.push(moved((&plan, 3), ("10.0.0.1", 1), 1, 6));
    assert_eq!(lines_of(query(roster, &[]), None, &confirmed)[1], "0000000003  5001 0 0 0");
}

#[test]
fn what_moves_to_another_member_keeps_its_history_with_the_first() {
    let rows = [moved(("10.0.0.9", 1), ("external", 2), 100, 1), moved(("10.0.0.9", 2), ("external", 1), 7, 2)];
    assert_eq!(
        lines_of(query(Roster::default(), &[]), None, &rows),
        ["0000000001  100 0 0 7", "0000000002  7 0 0 100"]
    );
    // The same, though the address was given to the second one meanwhile: it was the first one's.
    let mut roster = Roster::default();
    roster.tell(Some(NETWORK), node(1), member("", &["10.0.0.9"], false));
    roster.tell(Some(NETWORK), node(2), member("", &["10.0.0.9"], false));
    assert_eq!(lines_of(query(roster, &[]), None, &rows), ["0000000001  100 0 0 7", "0000000002  7 0 0 100"]);
}

#[test]
fn a_quiet_member_has_zeros_in_every_period() {
    let every = Query { every: Some(Every::Day), zone: Zone::UTC, ..query(Roster::default(), &[]) };
    let mut builder = Builder::new(every);
    add(&mut builder, "", &moved(("10.0.0.1", 1), ("external", 2), 100, 86_400));
    add(&mut builder, "", &moved(("external", 2), ("10.0.0.1", 1), 5, 3 * 86_400));
    builder.know("", behind("10.0.0.3", 3), Timestamp::new(2 * 86_400, 0));
    let report = builder.finish(Sort::Addr, None);
    let days: Vec<String> =
        lines(&report).iter().map(|line| line.replace("1970-01-0", "").replace("T00:00:00+00:00", "")).collect();
    assert_eq!(
        days,
        [
            "2 0000000001  100 0 0 0",
            "2 0000000002  0 0 0 100",
            "3 0000000001  0 0 0 0",
            "3 0000000002  0 0 0 0",
            "3 0000000003  0 0 0 0",
            "4 0000000001  0 5 0 0",
            "4 0000000002  0 0 5 0",
            "4 0000000003  0 0 0 0",
        ]
    );
}

#[test]
fn a_member_chooses_addresses_and_pairs_too() {
    let chosen = |by| Query { by, ..query(Roster::default(), &["0000000002"]) };
    assert_eq!(lines_of(chosen(By::Address), None, &rows()), ["10.0.0.2 0 1000 0 1", "external 30 200 1 1"]);
    assert_eq!(
        lines_of(chosen(By::Pair), None, &rows()),
        ["10.0.0.1 10.0.0.2 1000 1", "10.0.0.1 external 200 1", "external 10.0.0.1 30 1"]
    );
    let only = Query { only: Some(Rc::new(|end| end == End::External)), ..query(Roster::default(), &[]) };
    assert_eq!(lines_of(only, None, &rows()), ["0000000002  0 0 30 200"]);
}

#[test]
fn in_a_table_a_name_stands_by_its_member() {
    let mut roster = Roster::default();
    roster.tell(
        Some(NETWORK),
        node(1),
        member("Ann\x1b\u{202e}2J, whose name is far too long for any table", &[], false),
    );
    let mut builder = Builder::new(query(roster, &[]));
    rows().iter().for_each(|row| add(&mut builder, "", row));
    assert_eq!(
        printed_at(&builder.finish(Sort::Total, None), Format::Table, 110),
        "\
member                                        own sent  forwarded  own received  forwarded  share
0000000001 Ann\u{fffd}\u{fffd}2J, whose name is far too l…   1.20 kB        0 B       5.03 kB        0 B  50.0% ████████████
0000000003                                     5.00 kB        0 B           0 B        0 B  40.1% █████████▋
0000000002                                         0 B       30 B       1.00 kB      200 B   9.9% ██▍
multicast                                          0 B        0 B           4 B        0 B  <0.1% ▏
─────────────────────────────────────────────────────────────────────────────────────────────────
total                                          6.20 kB       30 B       6.03 kB      200 B   100%
time zone: UTC (+00:00)
"
    );
}

#[test]
fn what_members_and_addresses_moved_is_all_there_was() {
    let sums = |query: Query| {
        let mut builder = Builder::new(query);
        rows().iter().for_each(|row| add(&mut builder, "", row));
        let report = builder.finish(Sort::Total, None);
        report
            .lines()
            .map(|(_, line)| [line.tally.sent.bytes, line.tally.received.bytes])
            .fold([0, 0], |sum: [u64; 2], more| [sum[0] + more[0], sum[1] + more[1]])
    };
    assert_eq!(sums(query(Roster::default(), &[])), sums(By::Address.into()));
}
