//! The database through the program: older ones, damaged ones, and `ztmon db`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run;

use std::fs;
use std::path::{Path, PathBuf};

use run::ztmon;
use tempfile::TempDir;
use ztmon::store::{Reader, Writer};

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A database with a real capture in it.
fn database() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    ztmon(&["replay", "--quiet", "--db", text(&db), text(&testdata("real/tee-both.pcap"))]).ok();
    (dir, db)
}

fn report(db: &Path, more: &[&str]) -> String {
    ztmon(&[&["report", "--quiet", "--format", "csv", "--db", text(db)], more].concat()).ok()
}

/// Changes the bytes of a row of a table, behind SQLite's back, until a report notices it.
fn damage(db: &Path, table: &str, args: &[&str]) {
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let page: u32 = rusqlite::Connection::open(db).unwrap().query_row(sql, [table], |row| row.get(0)).unwrap();
    let mut bytes = fs::read(db).unwrap();
    let args = [args, &["--by", "pair"]].concat();
    let sound = report(db, &args);
    for at in ((page as usize - 1) * 4096..page as usize * 4096).rev() {
        bytes[at] ^= 1;
        fs::write(db, &bytes).unwrap();
        let ended = ztmon(&[&["report", "--quiet", "--format", "csv", "--db", text(db)], &args[..]].concat());
        if ended.code == Some(2) && ended.err.contains("the usage from") {
            return;
        }
        assert!(ended.code == Some(2) || ended.out == sound, "byte {at}");
        bytes[at] ^= 1;
    }
    panic!("nothing is noticed");
}

/// Makes a report read buckets, not days.
const OF_BUCKETS: [&str; 2] = ["--since", "2026-11-22T11:15:00Z"];

#[test]
fn databases_of_every_earlier_version_are_brought_up_to_date() {
    let migrations = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations")).unwrap().count();
    let dir = tempfile::tempdir().unwrap();
    for version in 1..migrations {
        let db = dir.path().join(format!("version-{version}.db"));
        fs::copy(testdata(&format!("store/version-{version}.db")), &db).unwrap();
        let refused = ztmon(&["report", "--db", text(&db)]).nothing();
        assert!(refused.contains("was written by an older ztmon: start serve or replay --db on it once"), "{refused}");
        let repaired = dir.path().join(format!("repaired-{version}.db"));
        if version > 1 {
            ztmon(&["db", "repair", "--db", text(&db), "--output", text(&repaired)]).ok();
        }
        drop(Writer::open(&db).unwrap());
        Reader::open(&db).unwrap().check().unwrap();
        for (origin, ending) in [("all", "csv"), ("live", "live.csv"), ("import", "import.csv")] {
            let expected = fs::read_to_string(testdata(&format!("store/version-{version}.{ending}"))).unwrap();
            assert_eq!(report(&db, &["--by", "pair", "--origin", origin]), expected, "{version} {origin}");
            if version > 1 {
                assert_eq!(report(&repaired, &["--by", "pair", "--origin", origin]), expected, "{version} {origin}");
            }
        }
    }
}

#[test]
fn a_damaged_database_is_refused_with_the_two_ways_on() {
    let (_dir, db) = database();
    assert_eq!(ztmon(&["db", "check", "--db", text(&db)]).ok(), format!("{} is sound\n", db.display()));
    damage(&db, "usage", &OF_BUCKETS);
    let damaged = fs::read(&db).unwrap();
    for verb in [&[&["report"], &OF_BUCKETS[..]].concat()[..], &["db", "check"]] {
        let line = ztmon(&[verb, &["--db", text(&db)]].concat()).nothing();
        assert_eq!(line.lines().count(), 1, "{line}");
        let says = format!("{} is damaged: ", db.display());
        let ways = format!("(ztmon db repair --db {}) or give another --db\n", db.display());
        assert!(line.contains(&says) && line.ends_with(&ways), "{line}");
    }
    let repaired = ztmon(&["db", "repair", "--db", text(&db)]);
    assert_eq!(repaired.code, Some(1), "{repaired:?}");
    assert!(repaired.err.starts_with("ztmon: lost: the usage from "), "{repaired:?}");
    assert_eq!(fs::read(&db).unwrap(), damaged, "the old one stays as it is");
    let sound = PathBuf::from(format!("{}.repaired", db.display()));
    ztmon(&["db", "check", "--db", text(&sound)]).ok();
    let again = ztmon(&["db", "repair", "--db", text(&db)]).nothing();
    assert!(again.contains("is there already"), "{again}");
}

#[test]
fn damaged_sums_of_a_day_cost_nothing() {
    let (_dir, db) = database();
    let sound = report(&db, &["--by", "pair"]);
    damage(&db, "day_usage", &[]);
    ztmon(&["db", "check", "--db", text(&db)]).nothing();
    ztmon(&["db", "repair", "--db", text(&db)]).ok();
    assert_eq!(report(&PathBuf::from(format!("{}.repaired", db.display())), &["--by", "pair"]), sound);
}

#[test]
fn forgetting_needs_to_know_whom() {
    let (_dir, db) = database();
    let before = fs::read(&db).unwrap();
    let refused = ztmon(&["db", "forget", "--db", text(&db)]).nothing();
    assert!(refused.contains("--addr") && refused.contains("--last-seen-before"), "{refused}");
    let dry = ztmon(&["db", "forget", "--db", text(&db), "--less-than", "1TB", "--dry-run"]).ok();
    assert!(dry.contains("would forget 12 address(es)"), "{dry}");
    assert_eq!(fs::read(&db).unwrap(), before);
}

#[test]
fn what_is_forgotten_is_other_in_reports() {
    let (_dir, db) = database();
    let sums = |text: &str| {
        let columns =
            |line: &str| line.split(',').skip(1).take(4).map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>();
        text.lines().skip(1).map(columns).reduce(|a, b| a.iter().zip(b).map(|(a, b)| a + b).collect()).unwrap()
    };
    let before = report(&db, &[]);
    let said = ztmon(&[
        "db",
        "forget",
        "--db",
        text(&db),
        "--addr",
        "100.64.5.0/24",
        "--last-seen-before",
        "2100-01-01",
        "--tz",
        "UTC",
    ])
    .ok();
    assert!(said.contains("forgot 2 address(es)"), "{said}");
    let after = report(&db, &[]);
    assert_eq!(sums(&after), sums(&before));
    assert!(before.contains("\n100.64.5.11,") && !after.contains("\n100.64.5."), "{after}");
    assert!(after.contains("\nother,"), "{after}");
    ztmon(&["db", "check", "--db", text(&db)]).ok();
}
