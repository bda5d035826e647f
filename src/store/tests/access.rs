//! Who may open what.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::*;

#[test]
fn a_newer_database_is_refused() {
    let (_dir, db) = place();
    drop(Writer::open(&db).unwrap());
    Connection::open(db.canonicalize().unwrap()).unwrap().pragma_update(None, "user_version", 1000).unwrap();
    assert!(line(Writer::open(&db)).contains("newer ztmon"));
    assert!(line(Reader::open(&db)).contains("newer ztmon"));
}

#[test]
fn a_writer_has_no_files_elsewhere() {
    let (_dir, db) = place();
    let writer = Writer::open(&db).unwrap();
    let temporary: i64 = writer.conn.query_row("PRAGMA temp_store", [], |row| row.get(0)).unwrap();
    assert_eq!(temporary, 2, "in memory");
}

#[test]
fn a_database_without_its_version_is_damaged() {
    let (_dir, db) = place();
    Writer::open(&db).unwrap();
    Connection::open(db.canonicalize().unwrap()).unwrap().pragma_update(None, "user_version", 0).unwrap();
    assert!(line(Reader::open(&db)).contains("is damaged: its header is not that of its tables"));
    assert!(line(Writer::open(&db)).contains("is damaged: its header is not that of its tables"));
}

#[test]
fn a_log_without_its_database_is_not_thrown_away() {
    let (dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    store(&mut writer, Origin::Live, &[packet(0, 1, 7, at(0))]);
    let crashed = dir.path().join("crashed.db");
    fs::copy(wal(&db), wal(&crashed)).unwrap();
    let log = fs::read(wal(&crashed)).unwrap();
    for make in [None, Some(""), Some("x")] {
        if let Some(text) = make {
            fs::write(&crashed, text).unwrap();
        }
        assert!(line(Writer::open(&crashed)).contains("is damaged: it is missing or too short"));
        assert!(make.is_none() || line(Reader::open(&crashed)).contains("is damaged: it is missing or too short"));
        assert_eq!(fs::read(wal(&crashed)).unwrap(), log);
    }
}

#[test]
fn the_database_of_another_program_is_refused_and_stays_as_it_is() {
    let (_dir, db) = place();
    fs::write(&db, "").unwrap();
    Connection::open(db.canonicalize().unwrap()).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let before = fs::read(&db).unwrap();
    assert!(line(Writer::open(&db)).contains("another program"));
    assert!(line(Reader::open(&db)).contains("another program"));
    assert_eq!(fs::read(&db).unwrap(), before);
}

#[test]
fn what_is_no_database_is_refused_and_stays_as_it_is() {
    let (dir, db) = place();
    assert!(line(Reader::open(&db)).contains("there is no"));
    assert!(!db.exists());
    assert!(line(Writer::open(&db.join("deeper"))).contains("No such file"));
    assert!(line(Writer::open(dir.path())).contains("not a file"));
    assert!(line(Reader::open(dir.path())).contains("not a file"));
    fs::write(&db, "").unwrap();
    assert!(line(Reader::open(&db)).contains("is empty"));
    for text in ["hello".to_owned(), "hello ".repeat(1000)] {
        fs::write(&db, &text).unwrap();
        assert!(line(Writer::open(&db)).contains("not a database"));
        assert!(line(Reader::open(&db)).contains("not a database"));
        assert_eq!(fs::read(&db).unwrap(), text.as_bytes());
    }
}

/// Not a test but the process that the next test kills.
#[test]
fn writer_to_kill() {
    let Some(db) = std::env::var_os("ZTMON_TEST_DB").map(PathBuf::from) else { return };
    let mut writer = Writer::open(&db).unwrap();
    for n in 1.. {
        store(&mut writer, Origin::Live, &[packet(0, 1, 1, at(0))]);
        println!("committed {n}");
    }
}

#[test]
fn a_killed_writer_leaves_what_it_committed() {
    let (_dir, db) = place();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::access::writer_to_kill", "--nocapture"])
        .env("ZTMON_TEST_DB", &db)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.ends_with("committed 20")).unwrap();
    // Beside another process's writer first.
    assert!(read_all(&db)[0].counts.bytes >= 20);
    assert!(line(Writer::open(&db)).contains("in use by another ztmon"));
    child.kill().unwrap();
    child.wait().unwrap();
    let told: u64 = lines.filter_map(|line| line.strip_prefix("committed ")?.parse().ok()).last().unwrap_or(20);
    assert!(wal(&db.canonicalize().unwrap()).exists());
    let found = read_all(&db)[0].counts.bytes;
    assert!(found == told || found == told + 1, "{found} of {told}");
    let writer = Writer::open(&db).unwrap();
    assert_eq!(live_totals(&writer)[0].1.sent_bytes, found);
}

#[test]
fn a_closed_database_is_readable_where_nothing_may_be_created() {
    let (dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    store(&mut writer, Origin::Live, &[packet(0, 1, 7, at(0))]);
    fs::copy(&db, dir.path().join("hot.db")).unwrap();
    fs::copy(wal(&db), wal(&dir.path().join("hot.db"))).unwrap();
    drop(writer);
    let allow = |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
    allow(0o555);
    if fs::write(dir.path().join("probe"), "").is_err() {
        assert_eq!(read_all(&db).len(), 1);
        // Committed rows that stand in a -wal only are never hidden: a copy is read.
        assert_eq!(read_all(&dir.path().join("hot.db")).len(), 1);
        // A reader that may create leaves an empty -wal. It does not lock others out.
        allow(0o755);
        assert_eq!(read_all(&db).len(), 1);
        allow(0o555);
        assert_eq!(read_all(&db).len(), 1);
        // A writer came and went unseen, then one comes while it is read.
        allow(0o755);
        drop(Writer::open(&db).unwrap());
        allow(0o555);
        let reader = Reader::open(&db).unwrap();
        allow(0o755);
        let _writer = Writer::open(&db).unwrap();
        assert!(line(reader.rows(None, None..None, by_day, |_, _, _| Ok(()))).contains("try again"));
    }
    allow(0o755);
}
