//! `ztmon db info` and `db merge`, and imports of times that are captured live already.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run;
mod support;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use ::ztmon::report::thousands;
use run::{command, records, testdata, within, ztmon};
use serde_json::Value;
use support::numbers::{replay, report};
use support::serve::Setup;
use support::{eventually, real};
use tempfile::TempDir;

const REAL: &str = "real/tee-both.pcap";

/// A database into which `serve` has captured this.
fn captured_live(db: &Path, capture: &Path) {
    let serve = Setup::new(db).source(capture, "max").start();
    let all = replay(capture, &[]);
    eventually("all of it", || (report(db, "live") == all).then_some(()));
    serve.stop();
}

/// The real capture in two, at the middle of its records.
fn halves(dir: &TempDir) -> [String; 2] {
    let file = fs::read(testdata(REAL)).unwrap();
    let frames = records(&file);
    let (front, back) = frames.split_at(frames.len() / 2);
    [("front.pcap", front), ("back.pcap", back)].map(|(name, frames)| {
        let path = within(dir.path(), name);
        fs::write(&path, [&file[..24], &frames.concat()].concat()).unwrap();
        path
    })
}

fn pairs(db: &str, origin: &str) -> String {
    ztmon(&["report", "--quiet", "--db", db, "--by", "pair", "--origin", origin, "--format", "csv"]).ok()
}

fn json(db: &str) -> Value {
    serde_json::from_str(&ztmon(&["db", "info", "--db", db, "--format", "json"]).ok()).unwrap()
}

/// Packets and bytes of the real capture that a database has.
fn moved(db: &str, origin: &str) -> (u64, u64) {
    let rows = pairs(db, origin);
    let rows = rows.lines().skip(1).map(|row| row.split(',').map(str::to_owned).collect::<Vec<_>>());
    rows.filter(|row| row[4].starts_with("2026-11-22"))
        .map(|row| (row[3].parse::<u64>().unwrap(), row[2].parse::<u64>().unwrap()))
        .fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1))
}

#[test]
fn info_has_the_figures_that_sqlite_has() {
    let dir = tempfile::tempdir().unwrap();
    let db = within(dir.path(), "ztmon.db");
    captured_live(Path::new(&db), &real("tee-both.pcap"));
    let raw = testdata("link/raw-101.pcap");
    ztmon(&["replay", "--quiet", "--db", &db, &raw]).ok();
    let info = json(&db);
    let conn = rusqlite::Connection::open(&db).unwrap();
    let ask = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    for (field, sql) in [
        ("/schema_version", "PRAGMA user_version"),
        ("/bucket_seconds", "SELECT seconds FROM history"),
        ("/free_bytes", "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size"),
        ("/usage_rows", "SELECT count(*) FROM usage"),
        ("/day_rows", "SELECT count(*) FROM day_usage"),
        ("/days", "SELECT count(DISTINCT start) FROM day"),
        ("/buckets/0/seconds", "SELECT min(seconds) FROM bucket"),
        ("/buckets/0/buckets", "SELECT count(*) FROM bucket"),
        ("/networks/0/pairs", "SELECT count(*) FROM pair"),
        (
            "/networks/0/clients",
            "SELECT count(DISTINCT addr) FROM endpoint WHERE addr NOT IN ('external', 'multicast', 'other', 'beyond')",
        ),
        ("/networks/0/live_bytes", "SELECT sum(bytes) FROM traffic WHERE origin = 'live' AND source <> 'beyond'"),
        ("/networks/0/live_packets", "SELECT sum(packets) FROM traffic WHERE origin = 'live' AND source <> 'beyond'"),
        ("/networks/0/imported_bytes", "SELECT sum(bytes) FROM traffic WHERE origin = 'imported'"),
        ("/networks/0/imported_packets", "SELECT sum(packets) FROM traffic WHERE origin = 'imported'"),
        ("/imports/0/size_bytes", "SELECT size FROM import"),
        ("/imports/0/frames", "SELECT frames FROM import"),
    ] {
        assert_eq!(info.pointer(field).unwrap().as_i64(), Some(ask(sql)), "{field}: {info:#}");
    }
    let text = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(info["imports"][0]["sha256"], text("SELECT lower(hex(sha256)) FROM import"));
    let seconds = |field: &str| info["networks"][0][field].as_str().unwrap()[..19].to_owned();
    assert_eq!(seconds("first_seen"), text("SELECT min(first) FROM traffic")[..19]);
    assert_eq!(seconds("last_seen"), text("SELECT max(last) FROM traffic")[..19]);
    assert_eq!((&info["in_use"], &info["live_from"]), (&Value::Bool(false), &Value::Null));
    assert_eq!(info["networks"].as_array().unwrap().len() as i64, ask("SELECT count(*) FROM network"));
    drop(conn);

    let table = ztmon(&["db", "info", "--db", &db]).ok();
    for line in
        ["  older buckets  60 minutes", "  imports        1", "network without a name", "  live history   all of it"]
    {
        assert!(table.lines().any(|of| of == line), "{line}: {table}");
    }
    assert!(!table.contains(&raw));
    let listed = ztmon(&["db", "info", "--db", &db, "--imports"]).ok();
    assert!(listed.starts_with(&table) && listed.contains(&raw), "{listed}");
    let free_of_paths =
        listed.lines().filter(|line| !line.contains(dir.path().to_str().unwrap()) && !line.contains(&raw));
    assert!(free_of_paths.clone().count() > 10 && free_of_paths.clone().all(|line| line.len() <= 80), "{listed}");
}

#[test]
fn info_looks_while_serve_runs() {
    let dir = tempfile::tempdir().unwrap();
    let db = within(dir.path(), "ztmon.db");
    let serve = Setup::new(Path::new(&db)).source(&real("tee-both.pcap"), "max").start();
    let all = replay(&real("tee-both.pcap"), &[]);
    eventually("all of it", || (report(Path::new(&db), "live") == all).then_some(()));
    let info = json(&db);
    assert_eq!((&info["in_use"], info["networks"][0]["live_packets"].as_u64()), (&Value::Bool(true), Some(1731)));
    serve.stop();
    assert_eq!(json(&db)["in_use"], Value::Bool(false));
    assert!(ztmon(&["db", "info", "--db", &within(dir.path(), "none.db")]).nothing().contains("there is no database"));
}

#[test]
fn databases_merge_and_nothing_counts_twice() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, all, want] = ["a.db", "b.db", "all.db", "want.db"].map(|name| within(dir.path(), name));
    let (raw, two) = (testdata("link/raw-101.pcap"), testdata("tee/two-sided.pcap"));
    let real_file = testdata(REAL);
    for (db, files) in [(&a, [&real_file, &raw]), (&b, [&two, &real_file])] {
        files.iter().for_each(|file| drop(ztmon(&["replay", "--quiet", "--db", db, file]).ok()));
    }
    for file in [&real_file, &raw, &two] {
        ztmon(&["replay", "--quiet", "--db", &want, file]).ok();
    }
    let before = [&a, &b].map(|db| fs::read(db).unwrap());
    let said = ztmon(&["db", "merge", &a, &b, "--output", &all]).ok();
    let lines = [
        format!("{a}: 0 live buckets, 2 imported files"),
        format!("{b}: 0 live buckets, 1 imported files"),
        format!("{b}: not taken, as another database has them: 1 imported files"),
        format!("{all}: merged"),
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), lines);
    assert_eq!(pairs(&all, "all"), pairs(&want, "all"));
    ztmon(&["db", "check", "--db", &all]).ok();
    assert_eq!([&a, &b].map(|db| fs::read(db).unwrap()), before);
    // What it knows it does not take in again.
    assert!(ztmon(&["replay", "--db", &all, &two]).err.contains("left out, its bytes are already imported"));
    assert!(ztmon(&["db", "merge", &a, &b, "--output", &all]).nothing().contains("is there already"));
    ztmon(&["db", "merge", &a, "--output", &within(dir.path(), "one.db")]).nothing();
    ztmon(&["db", "merge", &a, &within(dir.path(), "none.db"), "--output", &within(dir.path(), "one.db")]).nothing();
}

#[test]
fn files_that_cannot_be_told_apart_are_left_out_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, all] = ["a.db", "b.db", "all.db"].map(|name| within(dir.path(), name));
    let [front, back] = halves(&dir);
    let raw = testdata("link/raw-101.pcap");
    ztmon(&["replay", "--quiet", "--db", &a, &front, &raw]).ok();
    ztmon(&["replay", "--quiet", "--db", &b, &front, &back]).ok();
    let merged = ztmon(&["db", "merge", &a, &b, "--output", &all]);
    assert_eq!(merged.code, Some(1), "{merged:?}");
    let [left_out] = merged.err.lines().collect::<Vec<_>>()[..] else { panic!("{merged:?}") };
    // The larger of the two is taken.
    assert!(
        left_out.starts_with(&format!("ztmon: left out: {a}: {raw}: imported together with {front}")),
        "{left_out}"
    );
    assert_eq!(pairs(&all, "all"), pairs(&b, "all"));
    ztmon(&["replay", "--quiet", "--db", &all, &raw]).ok();
}

#[test]
fn what_two_observers_saw_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let [whole, part, all] = ["whole.db", "part.db", "all.db"].map(|name| within(dir.path(), name));
    let [front, _] = halves(&dir);
    captured_live(Path::new(&whole), &real("tee-both.pcap"));
    captured_live(Path::new(&part), Path::new(&front));
    ztmon(&["db", "merge", &part, &whole, "--output", &all]).ok();
    assert_eq!(pairs(&all, "live"), pairs(&whole, "live"));
    // It goes on where they were: with the counters of the better one.
    let serve = Setup::new(Path::new(&all)).source(&real("tee-both.pcap"), "max").start();
    let twice = replay(&real("tee-both.pcap"), &[]);
    let twice = twice.plus(&twice);
    eventually("both", || (serve.scrape().totals() == twice).then_some(()));
    serve.stop();
}

#[test]
fn a_merge_counts_no_import_that_another_has_live_unless_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let [live, imported, skipped, all, again] =
        ["live.db", "imported.db", "skipped.db", "all.db", "again.db"].map(|name| within(dir.path(), name));
    let whole = testdata(REAL);
    let other = testdata("link/raw-101.pcap");
    captured_live(Path::new(&live), Path::new(&whole));
    ztmon(&["replay", "--quiet", "--db", &imported, &whole]).ok();
    ztmon(&["replay", "--quiet", "--db", &imported, &other]).ok();
    let merge =
        |into: &str, flags: &[&str]| ztmon(&[&["db", "merge", &live, &imported, "--output", into], flags].concat());
    let refused = merge(&all, &[]).nothing();
    let begin = format!(
        "ztmon: {live} has 2026-11-22T11:15:00Z to 2026-11-22T11:25:00Z captured live, and imports of {imported} "
    );
    assert!(refused.starts_with(&begin) && refused.lines().count() == 1, "{refused}");
    assert!(refused.contains("--overlap skip") && refused.contains("--overlap add"), "{refused}");
    assert!(!Path::new(&all).exists());

    let said = merge(&skipped, &["--overlap", "skip"]).ok();
    let left_out = "left out, as another database captured that time live: 1,731 imported packets (1,757,455 bytes)";
    assert!(said.lines().any(|line| line == format!("{imported}: {left_out}")), "{said}");
    assert_eq!(report(Path::new(&skipped), "live"), replay(Path::new(&whole), &[]));
    assert_eq!(report(Path::new(&skipped), "import"), replay(Path::new(&other), &[]));
    ztmon(&["db", "check", "--db", &skipped]).ok();

    merge(&all, &["--overlap", "add"]).ok();
    assert_eq!(report(Path::new(&all), "import"), report(Path::new(&imported), "import"));
    assert_eq!(report(Path::new(&all), "live"), replay(Path::new(&whole), &[]));
    // What one of them has both of is its own affair.
    ztmon(&["db", "merge", &all, &imported, "--output", &again]).ok();
    assert_eq!(pairs(&again, "all"), pairs(&all, "all"));
}

/// A kill at any time leaves no output, or all of it.
#[test]
fn a_merge_that_is_killed_leaves_nothing_half() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a.db", "b.db"].map(|name| within(dir.path(), name));
    ztmon(&["replay", "--quiet", "--db", &a, &testdata(REAL)]).ok();
    ztmon(&["replay", "--quiet", "--db", &b, &testdata("tee/two-sided.pcap")]).ok();
    let before = [&a, &b].map(|db| pairs(db, "all"));
    for round in 0..8 {
        let place = tempfile::tempdir_in(dir.path()).unwrap();
        let into_there = within(place.path(), "all.db");
        let mut merge = command(&["db", "merge", &a, &b, "--output", &into_there]);
        let mut child = merge.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // As soon as there is something, and a little later each time.
        let files = || walk(place.path());
        while files() <= round / 2 && child.try_wait().unwrap().is_none() {}
        child.kill().unwrap();
        child.wait().unwrap();
        if Path::new(&into_there).exists() {
            ztmon(&["db", "check", "--db", &into_there]).ok();
        } else {
            ztmon(&["db", "merge", &a, &b, "--output", &into_there]).ok();
            assert_eq!(files(), 1, "what was left is gone");
        }
    }
    assert_eq!([&a, &b].map(|db| pairs(db, "all")), before);
}

/// How many files and directories there are below.
fn walk(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| 1 + if entry.path().is_dir() { walk(&entry.path()) } else { 0 }).sum()
}

#[test]
fn an_import_of_what_is_live_already_is_refused_or_left_out_or_added() {
    let dir = tempfile::tempdir().unwrap();
    let db = within(dir.path(), "ztmon.db");
    let [front, _] = halves(&dir);
    captured_live(Path::new(&db), Path::new(&front));
    let live = pairs(&db, "live");
    // The whole capture goes on for longer than its first half.
    let whole = testdata(REAL);
    let refused = ztmon(&["replay", "--db", &db, &whole]).nothing();
    assert!(refused.lines().count() == 1 && refused.contains("--overlap skip") && refused.contains("--overlap add"));
    let info = json(&db);
    let first = info["networks"][0]["first_seen"].as_str().unwrap();
    // The five minutes that the first packet is in.
    let span = refused.split("the database has ").nth(1).unwrap();
    assert!(span.starts_with("2026-11-22T") && span[..20] <= *first && span.contains(" to 2026-11-22T"), "{refused}");
    assert_eq!((pairs(&db, "all"), json(&db)["imports"].as_array().unwrap().len()), (live.clone(), 0));
    // Another time is not refused.
    ztmon(&["replay", "--quiet", "--db", &db, &testdata("link/raw-101.pcap")]).ok();

    let skipping = within(dir.path(), "skipping.db");
    fs::copy(&db, &skipping).unwrap();
    let skipped = ztmon(&["replay", "--db", &skipping, "--overlap", "skip", &whole]);
    assert_eq!(skipped.code, Some(0), "{skipped:?}");
    assert_eq!(skipped.out, ztmon(&["replay", &whole]).ok(), "all that was counted is printed");
    let (packets, bytes) = moved(&skipping, "import");
    assert!(packets > 0 && packets < 1731, "{packets}");
    let line = format!(
        "ztmon: left out of the database, as their time was captured live: {} packets ({} bytes); added: {} packets ({} \
         bytes); what is printed is of both",
        thousands(1731 - packets),
        thousands(1_757_455 - bytes),
        thousands(packets),
        thousands(bytes)
    );
    assert!(skipped.err.lines().any(|of| of == line), "{line}: {skipped:?}");
    let quietly = within(dir.path(), "quietly.db");
    fs::copy(&db, &quietly).unwrap();
    let quiet = ztmon(&["replay", "--quiet", "--db", &quietly, "--overlap", "skip", &whole]);
    assert_eq!((quiet.err, quiet.out), (format!("{line}\n"), skipped.out));
    let conn = rusqlite::Connection::open(&skipping).unwrap();
    let twice = "SELECT count(*) FROM bucket AS one JOIN bucket AS other ON one.start = other.start
                 WHERE one.origin = 0 AND other.origin > 0";
    assert_eq!(conn.query_row(twice, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    drop(conn);
    assert_eq!(pairs(&skipping, "live"), live);

    ztmon(&["replay", "--quiet", "--db", &db, "--overlap", "add", &whole]).ok();
    let imported = report(Path::new(&db), "import");
    assert_eq!(imported, replay(Path::new(&whole), &[]).plus(&replay(Path::new(&testdata("link/raw-101.pcap")), &[])));
    let alone = ztmon(&["replay", "--overlap", "add", &whole]).nothing();
    assert!(alone.contains("--db"), "{alone}");
}

#[test]
fn an_import_into_another_network_overlaps_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = within(dir.path(), "ztmon.db");
    let id = |id| ["--network-id", id];
    let serve = Setup::new(Path::new(&db)).args(id("8056c2e21c000001")).source(&real("tee-both.pcap"), "max").start();
    let packets = |db: &str| json(db)["networks"][0]["live_packets"].as_u64();
    eventually("all of it", || (packets(&db) == Some(1731)).then_some(()));
    serve.stop();
    let file = testdata(REAL);
    let import = |flags: &[&str]| ztmon(&[&["replay", "--quiet", "--db", &db, &file], flags].concat());
    let refused = import(&id("8056c2e21c000001")).nothing();
    assert!(refused.contains(" of network 8056c2e21c000001 ") && !refused.contains("nothing says"), "{refused}");
    let refused = import(&[]).nothing();
    assert!(refused.contains("nothing says which network they are of"), "{refused}");
    import(&id("8056c2e21c000002")).ok();
}
