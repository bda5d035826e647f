//! `replay` and `report` by member, on a capture of a real network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run;

use std::fs;
use std::path::{Path, PathBuf};

use run::ztmon;
use tempfile::tempdir;

const NETWORK: &str = "460cacee2d00a7e1";
const OBSERVER: &str = "e2:53:1a:4b:b7:7c";

/// Names as ZeroTier Central has them, of A and B alone, and not of all members.
const A_AND_B: &str = r#"{"6df5629e82": {"address": "6df5629e82", "nwid": "460cacee2d00a7e1", "name": "A",
    "ipAssignments": ["10.147.20.11"]}, "87dc5b55d9": {"address": "87dc5b55d9", "nwid": "460cacee2d00a7e1",
    "name": "B, \"the exit\"", "ipAssignments": ["10.147.20.12"]}}"#;

fn capture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/real/tee-both.pcap")
}

fn replay(args: &[&str]) -> String {
    let capture = capture();
    let all = [
        &["replay", "--quiet", "--observer-mac", OBSERVER, "--format", "csv", "--tz", "UTC"],
        args,
        &[capture.to_str().unwrap()],
    ];
    ztmon(&all.concat()).ok()
}

fn report(db: &Path, args: &[&str]) -> String {
    ztmon(&[&["report", "--quiet", "--format", "csv", "--tz", "UTC", "--db", db.to_str().unwrap()], args].concat()).ok()
}

/// The golden answer's bytes sent and received by these addresses.
fn sums(addresses: &[&str]) -> [u64; 2] {
    let csv = fs::read_to_string(capture().with_extension("csv")).unwrap();
    let mut sums = [0; 2];
    for cells in
        csv.lines().map(|line| line.split(',').collect::<Vec<_>>()).filter(|cells| addresses.contains(&cells[0]))
    {
        (0..2).for_each(|at| sums[at] += cells[1 + at].parse::<u64>().unwrap());
    }
    sums
}

/// The lines without the times.
fn lines(csv: &str) -> Vec<String> {
    csv.lines().map(|line| line.rsplitn(3, ',').last().unwrap().to_owned()).collect()
}

/// What is expected of the capture, most bytes first.
fn expected(names: [&str; 2]) -> Vec<String> {
    let [a, b] = names;
    let a_own = sums(&["10.147.20.11", "100.64.5.11", "fd46:cac:ee2d:a7:e199:936d:f562:9e82"]);
    let b_own =
        sums(&["10.147.20.12", "100.64.5.12", "fd46:cac:ee2d:a7:e199:9387:dc5b:55d9", "fc6b:c0b:f87:dc5b:55d9::1"]);
    let c_own = sums(&[
        "10.147.20.13",
        "fd46:cac:ee2d:a7:e199:938a:580a:d6bc",
        "fc6b:c0b:f8a:580a:d6bc::1",
        "fe80::e02d:58ff:fe27:3810",
    ]);
    let o_own = sums(&["10.147.20.20"]);
    let outside = sums(&["external"]);
    let line = |node: &str, name: &str, own: [u64; 2], forwarded: [u64; 2]| {
        format!("{node},{name},{},{},{},{}", own[0], own[1], forwarded[0], forwarded[1])
    };
    vec![
        "member,name,own_sent,own_received,forwarded_sent,forwarded_received".to_owned(),
        line("6df5629e82", a, a_own, [0, 0]),
        line("87dc5b55d9", b, b_own, outside),
        line("8a580ad6bc", "", c_own, [0, 0]),
        line("f41a6659d0", "", o_own, [0, 0]),
        line("multicast", "", sums(&["multicast"]), [0, 0]),
    ]
}

#[test]
fn a_members_addresses_are_one_line_and_what_it_forwards_stands_apart() {
    let mut expected = expected(["", ""]);
    let mut found = lines(&replay(&["--by", "member", "--network-id", NETWORK]));
    assert_eq!(found[0], expected[0]);
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let a = replay(&["--by", "member", "--network-id", NETWORK, "--member", "6df5629e82"]);
    assert_eq!(a.lines().count(), 2);
    // In the order of the bytes that they carried.
    let csv = replay(&["--by", "member", "--network-id", NETWORK]);
    let carried: Vec<u64> =
        lines(&csv)[1..5].iter().map(|line| line.split(',').skip(2).map(|n| n.parse::<u64>().unwrap()).sum()).collect();
    assert!(carried.is_sorted_by(|a, b| a >= b), "{carried:?}");
}

#[test]
fn the_database_answers_as_the_replay_does_and_knows_the_names() {
    let dir = tempdir().unwrap();
    let (db, names) = (dir.path().join("ztmon.db"), dir.path().join("names.json"));
    fs::write(&names, A_AND_B).unwrap();
    let names = names.to_str().unwrap();
    // The list is of two: the others are no members by their MACs alone. Their planned addresses confirm C, and nothing
    // the observer.
    let found = replay(&["--by", "member", "--names", names]);
    let mut all = expected(["A", "\"B, \"\"the exit\"\"\""]);
    all[4] = all[4].replace("f41a6659d0", "10.147.20.20");
    let mut sorted = lines(&found);
    sorted.sort();
    all.sort();
    assert_eq!(sorted, all);

    ztmon(&[
        "replay",
        "--quiet",
        "--observer-mac",
        OBSERVER,
        "--names",
        names,
        "--db",
        db.to_str().unwrap(),
        capture().to_str().unwrap(),
    ])
    .ok();
    assert_eq!(report(&db, &["--by", "member"]), found);
    ztmon(&["db", "check", "--db", db.to_str().unwrap()]).ok();
    let daily = report(&db, &["--by", "member", "--every", "day"]);
    let with_start: Vec<String> =
        found.lines().skip(1).map(|line| format!("2026-11-22T00:00:00+00:00,{line}")).collect();
    // Of coverage, behind these columns, an import tells nothing.
    let lines: Vec<_> = daily.lines().skip(1).map(|line| line.strip_suffix(",,,,").unwrap()).collect();
    assert_eq!(lines, with_start);

    // By name, of the addresses.
    let addresses = report(&db, &["--member", "B, \"the exit\""]);
    let first =
        |csv: &str| csv.lines().skip(1).map(|line| line.split(',').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(
        first(&addresses),
        [
            "10.147.20.12",
            "100.64.5.12",
            "fc6b:c0b:f87:dc5b:55d9::1",
            "fd46:cac:ee2d:a7:e199:9387:dc5b:55d9",
            "external"
        ]
    );
    assert_eq!(addresses, replay(&["--names", names, "--member", "87dc5b55d9"]));

    // A name given now goes before what is known.
    let csv = dir.path().join("names.csv");
    fs::write(&csv, "6df5629e82,Anna\n10.147.20.20,observer\n").unwrap();
    let named = report(&db, &["--by", "member", "--names", csv.to_str().unwrap()]);
    assert!(named.contains("\n6df5629e82,Anna,") && named.contains("\n10.147.20.20,observer,"), "{named}");
}

#[test]
fn an_import_of_a_known_network_is_that_networks() {
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let db_text = db.to_str().unwrap();
    let import = |more: &[&str], file: &str| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/real").join(file);
        ztmon(
            &[&["replay", "--quiet", "--observer-mac", OBSERVER, "--db", db_text], more, &[file.to_str().unwrap()]]
                .concat(),
        )
        .ok()
    };
    import(&["--network-id", NETWORK], "tee-both.pcap");
    let one = report(&db, &[]);
    assert_eq!(one, replay(&[]), "one network needs no column");
    import(&["--tee", "one"], "tee-inbound.pcap");
    let both = report(&db, &["--by", "member", "--sort", "addr"]);
    let columns: Vec<&str> = both.lines().next().unwrap().split(',').take(2).collect();
    assert_eq!(columns, ["network", "member"]);
    assert!(both.contains(&format!("\n{NETWORK},6df5629e82,,")) && both.contains("\n,10.147.20.11,,"), "{both}");
    // What files without an id are of, can be said later.
    let said = report(&db, &["--by", "member", "--network-id", NETWORK]);
    assert!(said.contains("\n,6df5629e82,,") && !said.contains(",10.147.20.11,"), "{said}");
}

#[test]
fn a_network_that_the_database_does_not_have_is_an_error() {
    let dir = tempdir().unwrap();
    let [db, quotas] = ["ztmon.db", "quotas.toml"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    fs::write(&quotas, "[[quota]]\nname = \"a\"\nmember = \"6df5629e82\"\nbytes = 1\nperiod = \"month\"\n").unwrap();
    let import = |id: &[&str], file: &str| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(file);
        ztmon(&[&["replay", "--quiet", "--db", &db], id, &[file.to_str().unwrap()]].concat()).ok()
    };
    import(&["--network-id", NETWORK], "real/tee-both.pcap");
    let another = ["--network-id", "460cacee2d00a7e2", "--db", &db];
    let verbs = [
        &["report"][..],
        &["report", "--by", "member"],
        &["report", "--format", "openmetrics"],
        &["report", "--quotas", &quotas],
        &["quota", "check", "--quotas", &quotas],
    ];
    for verb in verbs {
        assert_eq!(
            ztmon(&[verb, &another].concat()).nothing(),
            "ztmon: --network-id 460cacee2d00a7e2 is not in the database, which has 460cacee2d00a7e1: give one of these, \
             or leave the flag out\n",
            "{verb:?}"
        );
    }
    // There is a network now that may be the one, and names of another say nothing of it.
    import(&[], "tee/two-sided.pcap");
    let names = |network: &str| {
        let file = dir.path().join(network);
        fs::write(&file, A_AND_B.replace(NETWORK, network)).unwrap();
        ["--names".to_owned(), file.to_str().unwrap().to_owned()]
    };
    let [useful, useless] = [NETWORK, "460cacee2d00a7e3"].map(names);
    for verb in verbs {
        let asked = |names: &[String]| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            ztmon(&[verb, &another, &names].concat())
        };
        let line = asked(&useless).nothing();
        assert!(line.contains("--names tells of members of 460cacee2d00a7e3 and of none of --network-id "), "{line}");
        assert_ne!(asked(&useful).code, Some(2), "{verb:?}: they are of the other network");
    }
    ztmon(&[&["report"], &another[..]].concat()).ok();
}

#[test]
fn what_cannot_be_told_by_member_says_why() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("names.csv");
    fs::write(&file, "10.0.0.1,a\n10.0.0.2\n").unwrap();
    let capture = capture();
    let refused = |args: &[&str]| ztmon(&[&["replay"], args, &[capture.to_str().unwrap()]].concat()).nothing();
    let line = refused(&["--by", "member"]);
    assert!(line.contains("which member a MAC is depends on the network: give --network-id"), "{line}");
    assert_eq!(refused(&["--member", "6df5629e82"]), line);
    // A database of before it was known has its addresses all the same.
    let db = dir.path().join("ztmon.db");
    ztmon(&["replay", "--quiet", "--db", db.to_str().unwrap(), capture.to_str().unwrap()]).ok();
    let asked = ztmon(&["report", "--by", "member", "--db", db.to_str().unwrap()]);
    assert!(asked.code == Some(0) && asked.err.starts_with(&line), "{asked:?} {line}");
    let line = refused(&["--network-id", NETWORK, "--member", "Ann"]);
    assert!(line.contains("--member 'Ann': no member has this name; give the node id"), "{line}");
    let line = refused(&["--names", file.to_str().unwrap()]);
    assert!(line.contains("names.csv: line 2: give two fields, address-or-node,name, not 1"), "{line}");
    let names = dir.path().join("names.json");
    fs::write(&names, A_AND_B).unwrap();
    let line = refused(&["--names", names.to_str().unwrap(), "--network-id", "460cacee2d00a7e2"]);
    let expected = "ztmon: --names tells of members of 460cacee2d00a7e1 and of none of --network-id 460cacee2d00a7e2: ";
    assert!(line.starts_with(expected), "{line}");
    let line = refused(&["--network-id", "460c"]);
    assert!(line.contains("is no network id: 16 hex digits"), "{line}");
}
