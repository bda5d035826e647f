//! What merged databases had seen of the time, and whom they knew.

use std::collections::BTreeMap;

use super::members::{NETWORK, roster};
use super::*;
use crate::zerotier::members::Member;
use crate::zerotier::{NodeId, Roster};

/// A database with live packets of "n" at these times, and what was seen.
fn make(db: &Path, packets: &[(i64, u64)], seen: &[(i64, Observed)]) {
    let mut writer = Writer::open(db).unwrap();
    let count = |count| Counts { bytes: count, packets: count, copies: 0 };
    let rows = packets.iter().map(|(time, of)| DeltaRow { counts: count(*of), ..packet(0, 1, 1, at(*time)) });
    store(&mut writer, Origin::Live, &rows.collect::<Vec<_>>());
    let network = writer.network("n", "").unwrap();
    writer.begin().unwrap();
    writer.add_observed(network, seen.iter().map(|(start, seen)| (start, seen))).unwrap();
    writer.commit().unwrap();
}

fn without_copies(seen: Observed) -> Observed {
    Observed { teed: 0, ..seen }
}

/// By the start of five minutes.
type Starts<T> = Vec<(i64, T)>;

/// Merges two and says the bytes of each bucket, and what was seen.
fn merged(a: &[&[(i64, u64)]; 2], seen: &[&[(i64, Observed)]; 2]) -> (Starts<u64>, Starts<Observed>) {
    let dir = tempfile::tempdir().unwrap();
    let paths = [0, 1].map(|at| {
        let db = dir.path().join(format!("{at}.db"));
        make(&db, a[at], seen[at]);
        db
    });
    let into = dir.path().join("into.db");
    merge(&paths, &into, None).unwrap();
    let reader = Reader::open(&into).unwrap();
    reader.check().unwrap();
    let mut rows = Vec::new();
    reader.observed(|_, start, seen| rows.push((start, *seen))).unwrap();
    let bytes = read(&into, None, None..None).into_iter().map(|(_, span, row)| (span.start, row.counts.bytes));
    (bytes.collect(), rows)
}

#[test]
fn coverage_decides_before_packets() {
    let (few, many) = (&[(0, 5)][..], &[(0, 50)][..]);
    let whole = seen(0..300, 1);
    for (first, second, of_first) in [
        // More of the time; as much, but fewer drops; nothing between them but packets.
        (whole, seen(0..299, 1), true),
        (whole, Observed { dropped: 2, ..whole }, true),
        (whole, whole, false),
        (seen(1..300, 1), whole, false),
        // Where the rule was deleted, nothing was seen.
        (seen(0..10, 1), without_copies(whole), true),
        (without_copies(whole), without_copies(seen(0..299, 1)), true),
    ] {
        let (bytes, rows) = merged(&[few, many], &[&[(0, first)], &[(0, second)]]);
        let want = if of_first { (5, first) } else { (50, second) };
        assert_eq!((bytes, rows), (vec![(0, want.0)], vec![(0, want.1)]));
    }
    // Of one it is not known.
    let (bytes, rows) = merged(&[few, many], &[&[(0, whole)], &[]]);
    assert_eq!((bytes, rows), (vec![(0, 50)], vec![(0, whole)]));
}

#[test]
fn what_was_seen_is_kept_once() {
    let (part, whole) = (seen(0..100, 1), seen(0..300, 2));
    // One at a time, both when nothing moved, and both when one had something.
    let first = [(0, part), (600, part), (900, part), (1200, whole)];
    let second = [(300, whole), (600, whole), (900, whole), (1200, part)];
    let (bytes, rows) = merged(&[&[(900, 7)], &[(1200, 8)]], &[&first, &second]);
    assert_eq!(bytes, [(900, 7), (1200, 8)]);
    assert_eq!(rows, [(0, part), (300, whole), (600, whole), (900, part), (1200, part)]);
}

#[test]
fn all_that_was_told_of_members_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let node = |n| NodeId::new(n).unwrap();
    let mut other = Roster::default();
    let addresses = [[10, 9, 9, 9].into()].into();
    other.tell(
        Some(NETWORK),
        node(2),
        Member { name: "two".to_owned(), addresses, authorized: Some(true), listed: true },
    );
    other.tell(Some(NETWORK), node(3), Member { name: "three".to_owned(), ..Member::default() });
    other.name_address([10, 0, 0, 9].into(), "copier");
    let make = |name: &str, roster: &Roster, moved: u64, time| {
        let db = dir.path().join(name);
        let mut writer = Writer::open(&db).unwrap();
        let network = writer.network(&NETWORK.to_string(), "").unwrap();
        let mut source = Source::new(network, Origin::Live);
        writer.begin().unwrap();
        writer.add(&mut source, &directory(), &[packet(0, 1, 1, at(time))]).unwrap();
        writer.tell(network, &roster.of(Some(NETWORK))).unwrap();
        writer.add_own(network, &BTreeMap::from([(node(1), (moved, 2 * moved))])).unwrap();
        writer.commit().unwrap();
        db
    };
    // At one time: the first's name of an address, the larger of what was moved. At two: both.
    for (second, moved) in [(7, 100), (7000, 105)] {
        let [a, b, into] = ["a", "b", "into"].map(|name| format!("{name}-{second}.db"));
        let (a, b) = (make(&a, &roster(), 5, 7), make(&b, &other, 100, second));
        let into = dir.path().join(into);
        merge(&[a, b], &into, None).unwrap();
        let reader = Reader::open(&into).unwrap();
        reader.check().unwrap();
        let found = reader.roster().unwrap().of(Some(NETWORK));
        let names = [1, 2, 3].map(|n| found.name(node(n)).to_owned());
        assert_eq!(names, ["one", "two", "three"]);
        let two = &found.told()[&node(2)];
        assert_eq!((two.addresses.len(), two.authorized, two.listed), (2, Some(true), true));
        assert_eq!(found.address_names().values().map(|name| name.to_string()).collect::<Vec<_>>(), ["printer"]);
        let members = Writer::open(&into).unwrap().members().unwrap();
        let kept: Vec<_> = members.iter().map(|kept| (kept.node, kept.sent_bytes, kept.received_bytes)).collect();
        assert_eq!(kept, [(node(1), moved, 2 * moved), (node(2), 0, 0), (node(3), 0, 0)]);
    }
}

/// An import of what serve watched in silence would not be new, either.
#[test]
fn what_was_covered_was_captured_live() {
    let (_dir, db) = place();
    make(&db, &[(7, 1)], &[(300, seen(0..300, 1)), (900, seen(0..0, 1)), (1500, seen(3..4, 0))]);
    let writer = Writer::open(&db).unwrap();
    let live = writer.captured_live().unwrap();
    let at = |start| live.at("", five_minutes(start)).map(|(name, span)| (name.to_owned(), span));
    assert_eq!(at(0), Some(("n".to_owned(), 0..600)));
    assert_eq!(
        [at(300).is_some(), at(600).is_some(), at(900).is_some(), at(1500).is_some()],
        [true, false, false, true]
    );
    assert_eq!(live.at("n", five_minutes(0)), Some(("n", 0..600)));
    assert_eq!(live.at("m", five_minutes(0)), None);
}
