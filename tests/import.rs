//! `replay --db` and `report`: what goes into the database comes out again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run;

use std::fs;
use std::path::Path;

use run::{Run, command, fed, finish, records, testdata, within, ztmon};

const TWO_SIDED: &str = "tee/two-sided.pcap";

fn import(db: &str, files: &[&str]) -> Run {
    ztmon(&[&["replay", "--db", db], files].concat())
}

/// All that the database's reports can show.
fn content(db: &str) -> [String; 3] {
    [&["--origin", "import"][..], &["--by", "pair"], &["--origin", "live"]]
        .map(|args| ztmon(&[&["report", "--db", db, "--quiet"], args].concat()).ok())
}

#[test]
fn an_import_reports_what_replay_printed() {
    let folder = tempfile::tempdir().unwrap();
    let db = within(folder.path(), "ztmon.db");
    let real = testdata("real/tee-both.pcap");
    let printed = import(&db, &[&real]);
    // Importing changes nothing of what is printed.
    assert_eq!(printed, ztmon(&["replay", &real]));
    assert_eq!(ztmon(&["report", "--db", &db, "--origin", "import"]).ok(), printed.out);
    assert_eq!(ztmon(&["report", "--db", &db]).ok(), printed.out);
    assert_eq!(ztmon(&["report", "--db", &db, "--origin", "live"]).ok().lines().count(), 1, "the header alone");
    for args in [["--by", "pair"], ["--sort", "sent"], ["--top", "3"], ["--format", "table"]] {
        let replayed = ztmon(&[&["replay"], &args[..], &[&real]].concat()).ok();
        assert_eq!(ztmon(&[&["report", "--db", &db], &args[..]].concat()).ok(), replayed, "{args:?}");
    }
    // $ZTMON_DB names it as well.
    let mut report = command(&["report"]);
    report.env("ZTMON_DB", &db);
    assert_eq!(finish(report).ok(), printed.out);
    let json = ztmon(&["report", "--db", &db, "--format", "json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let summary = &json["summary"];
    assert_eq!((summary["packets"].as_u64(), summary["origin"].as_str()), (Some(1731), Some("all")));
    let rows = json["rows"].as_array().unwrap();
    let sum = |name: &str| rows.iter().map(|row| row[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("sent_bytes"), sum("received_bytes")), (summary["bytes"].as_u64().unwrap(), sum("sent_bytes")));
}

#[test]
fn a_file_is_imported_once() {
    let folder = tempfile::tempdir().unwrap();
    let db = within(folder.path(), "ztmon.db");
    let (two, raw) = (testdata(TWO_SIDED), testdata("link/raw-101.pcap"));
    import(&db, &[&two]).ok();
    let before = content(&db);

    let again = import(&db, &[&two]);
    assert!(again.err.contains(&format!("{two}: left out, its bytes are already imported at ")), "{again:?}");
    assert_eq!(again.ok().lines().count(), 1, "the header alone");
    assert_eq!(content(&db), before);
    // It is the bytes that count, not the name, and not how they come.
    let copy = within(folder.path(), "another-name");
    fs::copy(&two, &copy).unwrap();
    assert!(import(&db, &[&copy]).err.contains(&format!("{copy}: left out, ")));
    let run = fed(&["replay", "--db", &db, "-"], &fs::read(&two).unwrap());
    assert!(run.err.contains("standard input: left out, "), "{run:?}");
    assert_eq!(content(&db), before);
    // The rest of the set is imported, each file once.
    let run = import(&db, &[&raw, &copy, &raw]);
    assert_eq!(run.err.lines().filter(|line| line.contains(": left out, ")).count(), 2, "{run:?}");
    assert_eq!(run.ok(), ztmon(&["replay", &raw]).out);
    assert_ne!(content(&db), before);
}

#[test]
fn standard_input_is_imported_too() {
    let folder = tempfile::tempdir().unwrap();
    let db = within(folder.path(), "ztmon.db");
    let real = testdata("real/tee-both.pcap");
    let run = fed(&["replay", "--db", &db, "-"], &fs::read(&real).unwrap());
    assert_eq!(run, ztmon(&["replay", &real]));
    assert_eq!(ztmon(&["report", "--db", &db]).ok(), run.out);
}

/// A packet in one file and its copy in the other count once, if both are imported together.
#[test]
fn files_imported_together_are_one_history() {
    let folder = tempfile::tempdir().unwrap();
    let db = within(folder.path(), "ztmon.db");
    let file = fs::read(testdata("real/tee-both.pcap")).unwrap();
    let frames = records(&file);
    let paths: Vec<_> = [&frames[..1501], &frames[1501..]]
        .iter()
        .enumerate()
        .map(|(at, part)| {
            let path = within(folder.path(), &format!("part-{at}"));
            fs::write(&path, [&file[..24], &part.concat()].concat()).unwrap();
            path
        })
        .collect();
    let want = ztmon(&["replay", &testdata("real/tee-both.pcap")]);
    assert_eq!(import(&db, &[&paths[0], &paths[1]]), want);
    assert_eq!(ztmon(&["report", "--db", &db]).ok(), want.out);
}

#[test]
fn a_set_that_fails_leaves_the_database_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let db = within(folder.path(), "ztmon.db");
    import(&db, &[&testdata(TWO_SIDED)]).ok();
    let before = content(&db);
    let real = testdata("real/tee-both.pcap");
    let text = testdata("bad/no-capture-text.pcap");

    import(&db, &[&text, "no-such-file.pcap"]).nothing();
    #[cfg(feature = "live")]
    ztmon(&["replay", "--db", &db, "--filter", "host (", &real]).nothing();
    // A filter that only the second file's link type refuses: the first is not imported either.
    #[cfg(feature = "live")]
    {
        let (ethernet, raw) = (testdata("link/fragments-and-checksums.pcap"), testdata("link/raw-101.pcap"));
        let filter = ["--filter", "ether host e2:00:00:00:00:0a"];
        assert!(ztmon(&[&["replay", &ethernet], &filter[..]].concat()).err.starts_with("3 frames = 3 counted"));
        ztmon(&[&["replay", "--db", &db, &ethernet, &raw], &filter[..]].concat()).nothing();
    }
    assert_eq!(content(&db), before);
    // None of them counts as imported.
    assert_eq!(import(&db, &[&real]), ztmon(&["replay", &real]));
}

#[test]
fn what_came_before_damage_is_imported() {
    let folder = tempfile::tempdir().unwrap();
    let db = within(folder.path(), "ztmon.db");
    let cut = testdata("bad/pcap-record-cut.pcap");
    let run = import(&db, &["--quiet", &cut, "no-such-file.pcap"]);
    assert_eq!((run.code, run.err.lines().count()), (Some(1), 2), "{run:?}");
    assert_eq!(ztmon(&["report", "--db", &db]).ok(), run.out);
    assert!(run.out.contains("10.0.0.1,60,0,1,0,"), "{run:?}");
    assert!(import(&db, &[&cut]).err.contains("left out"));
}

#[test]
fn a_database_that_cannot_be_used_is_status_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = within(folder.path(), "text.db");
    fs::write(&path, "no database, but long enough that it could be one\n".repeat(100)).unwrap();
    let before = fs::read(&path).unwrap();
    for err in [import(&path, &[&testdata(TWO_SIDED)]).nothing(), ztmon(&["report", "--db", &path]).nothing()] {
        assert!(err.contains("text.db") && err.lines().count() == 1, "{err}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
    let nowhere = within(folder.path(), "no/such/folder/ztmon.db");
    import(&nowhere, &[&testdata(TWO_SIDED)]).nothing();
    assert!(!Path::new(&nowhere).exists());
}

// ---- report

#[test]
fn a_missing_database_names_the_places_tried() {
    let folder = tempfile::tempdir().unwrap();
    let db = within(folder.path(), "none.db");
    let err = ztmon(&["report", "--db", &db]).nothing();
    assert!(err.contains(&db) && err.lines().count() == 1, "{err}");
    let mut report = command(&["report"]);
    report.env("ZTMON_DB", &db);
    let err = finish(report).nothing();
    assert!(err.contains(&format!("{db} ($ZTMON_DB)")), "{err}");
    if !Path::new("/var/lib/ztmon/ztmon.db").exists() {
        let mut report = command(&["report"]);
        report.current_dir(folder.path());
        let err = finish(report).nothing();
        assert!(err.contains("/var/lib/ztmon/ztmon.db") && err.contains("./ztmon.db"), "{err}");
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "looking made something");
}

#[test]
fn bounds_fall_between_buckets() {
    // 100 bytes just before 23:00 on New Year's Eve and 200 at 23:00, then 100 and 200 in the first second of 2026.
    let folder = tempfile::tempdir().unwrap();
    let db = within(folder.path(), "ztmon.db");
    let run = import(&db, &["--tee", "none", &testdata("time/since-date.pcap"), &testdata("time/nanoseconds.pcap")]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let sent = |args: &[&str]| {
        let csv = ztmon(&[&["report", "--db", &db, "--tz", "UTC"], args].concat()).ok();
        csv.lines().nth(1).map_or(0, |row| row.split(',').nth(1).unwrap().parse::<u64>().unwrap())
    };
    assert_eq!(sent(&[]), 600);
    assert_eq!(sent(&["--since", "2026-01-01"]), 300);
    assert_eq!(sent(&["--until", "2026-01-01"]), 300);
    assert_eq!(sent(&["--since", "2025-12-31T23:00:00Z"]), 500);
    assert_eq!(sent(&["--since", "2025-12-31T22:55:00Z", "--until", "2025-12-31T23:00:00Z"]), 100);

    for flag in ["--since", "--until"] {
        let err = ztmon(&["report", "--db", &db, flag, "2026-01-01T00:07:30Z"]).nothing();
        assert!(err.contains(flag) && err.contains("2026-01-01T00:05:00Z and 2026-01-01T00:10:00Z"), "{err}");
    }
}

#[test]
fn output_never_replaces_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let db = within(folder.path(), "z.db");
    let capture = within(folder.path(), "a.pcap");
    std::fs::copy(testdata("link/raw-101.pcap"), &capture).unwrap();
    import(&db, &[&testdata("tee/two-sided.pcap")]).ok();
    let before = content(&db);
    let refused = |args: &[&str]| assert!(ztmon(args).nothing().contains("would replace what is read"), "{args:?}");
    refused(&["replay", "--db", &db, "--output", &db, &capture]);
    refused(&["replay", "--output", &capture, &capture]);
    refused(&["report", "--db", &db, "--output", &db]);
    refused(&["report", "--db", &db, "--output", &format!("{db}-wal")]);
    // Under another name, as standard input, and where the database is only just being made.
    let linked = within(folder.path(), "linked");
    fs::hard_link(&capture, &linked).unwrap();
    refused(&["replay", "--output", &linked, &capture]);
    let mut from_stdin = command(&["replay", "--output", &capture, "-"]);
    from_stdin.stdin(fs::File::open(&capture).unwrap());
    assert!(finish(from_stdin).nothing().contains("would replace what is read"));
    let new = within(folder.path(), "new.db");
    refused(&["replay", "--db", &new, "--output", &new, &capture]);
    assert_eq!(content(&db), before);
    assert_eq!(std::fs::read(&capture).unwrap(), std::fs::read(testdata("link/raw-101.pcap")).unwrap());
}

#[test]
fn a_run_that_fails_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (db, csv) = (within(folder.path(), "n.db"), within(folder.path(), "n.csv"));
    ztmon(&["replay", "--db", &db, "--output", &csv, "no-such.pcap"]).nothing();
    let capture = testdata("tee/two-sided.pcap");
    ztmon(&["replay", "--db", &db, "--output", &csv, "--filter", "host (", &capture]).nothing();
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn what_cannot_be_kept_for_a_second_reading_is_not_imported() {
    let folder = tempfile::tempdir().unwrap();
    let db = within(folder.path(), "z.db");
    let mut from_stdin = command(&["replay", "--db", &db, "-"]);
    from_stdin.env("TMPDIR", within(folder.path(), "missing"));
    from_stdin.stdin(fs::File::open(testdata("tee/two-sided.pcap")).unwrap());
    assert!(finish(from_stdin).nothing().contains("cannot keep a copy of standard input"));
    assert!(!Path::new(&db).exists());
}

#[test]
fn a_copy_of_standard_input_has_no_name() {
    let folder = tempfile::tempdir().unwrap();
    let (db, temporary) = (within(folder.path(), "z.db"), within(folder.path(), "tmp"));
    fs::create_dir(&temporary).unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut run = command(&["replay", "--quiet", "--db", &db, "-"]);
    let mut child = run.env("TMPDIR", &temporary).stdin(reader).stdout(std::process::Stdio::null()).spawn().unwrap();
    drop(run);
    // More than a pipe holds: by then it is being copied.
    std::io::Write::write_all(&mut writer, &vec![0; 1 << 20]).unwrap();
    let names = fs::read_dir(&temporary).unwrap().count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(names, 0);
}

#[test]
fn of_several_imports_at_once_none_takes_the_others_database_away() {
    let folder = tempfile::tempdir().unwrap();
    let capture = testdata("real/tee-both.pcap");
    for round in 0..20 {
        let db = within(folder.path(), &format!("{round}.db"));
        let start = |_| {
            let mut run = command(&["replay", "--quiet", "--db", &db, &capture]);
            run.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
        };
        let mut runs: Vec<_> = (0..3).map(start).collect();
        let codes: Vec<_> = runs.iter_mut().map(|run| run.wait().unwrap().code()).collect();
        assert!(codes.contains(&Some(0)), "{codes:?}");
        assert!(ztmon(&["report", "--db", &db]).ok().contains("\r\n10.147.20.12,452181,688165,"), "{codes:?}");
    }
}

#[test]
fn an_import_that_cannot_be_printed_is_done_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let db = within(folder.path(), "z.db");
    let capture = testdata("tee/two-sided.pcap");
    let run = ztmon(&["replay", "--db", &db, "--output", "/dev/full", &capture]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.contains("the import is done all the same"), "{run:?}");
    assert_eq!(ztmon(&["report", "--db", &db]).ok(), ztmon(&["replay", &capture]).ok());
}

#[test]
fn what_cannot_be_read_through_is_not_imported_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let db = within(folder.path(), "z.db");
    let directory = folder.path().display().to_string();
    let capture = testdata("tee/two-sided.pcap");
    assert!(import(&db, &[&directory, "no-such.pcap"]).nothing().contains("Is a directory"));
    let run = import(&db, &[&directory, &capture]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!(run.err.lines().filter(|line| line.contains("Is a directory")).count(), 1, "{run:?}");
    assert_eq!(run.out, ztmon(&["replay", &capture]).ok());
}
