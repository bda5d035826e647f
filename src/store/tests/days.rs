//! The sums of days are those of their buckets, and what reports get where nothing cuts a day.

use super::damage::{fill, shown};
use super::*;

const DAY: i64 = 86_400;

/// A packet of a byte every five minutes from the start of 1970 on, for three days.
fn three_days(db: &Path) {
    let rows: Vec<_> = (0..3 * 288).map(|n| packet(0, 1, 1, at(300 * n + 7))).collect();
    store(&mut Writer::open(db).unwrap(), Origin::Live, &rows);
}

/// The intervals of the rows, with the bytes in each.
fn intervals(rows: &[Kept]) -> Vec<(i64, u32, u64)> {
    rows.iter().map(|(_, span, row)| (span.start, span.seconds, row.counts.bytes)).collect()
}

#[test]
fn a_day_comes_as_one_where_nothing_cuts_it() {
    let (_dir, db) = place();
    three_days(&db);
    let whole = |day| (day * DAY, 86_400, 288);
    let read = |range, cuts: &[i64]| {
        let next = |second| cuts.iter().copied().find(|cut| *cut > second);
        intervals(&read_cut(&db, None, range, next).unwrap())
    };
    assert_eq!(read(None..None, &[]), [whole(0), whole(1), whole(2)]);
    assert_eq!(read(None..None, &[0, DAY, 2 * DAY, 3 * DAY]), [whole(0), whole(1), whole(2)]);
    assert_eq!(read(Some(DAY)..Some(2 * DAY), &[]), [whole(1)]);
    for found in [
        read(None..None, &[DAY + 300]),
        read(Some(0)..None, &[DAY, 2 * DAY - 300, 2 * DAY]),
        read(Some(-1)..Some(4 * DAY + 1), &[7 - DAY, DAY + 300, 5 * DAY + 7]),
    ] {
        let buckets: Vec<_> = (288..2 * 288).map(|n| (300 * n, 300, 1)).collect();
        assert_eq!(found, [&[whole(0)], &buckets[..], &[whole(2)]].concat());
    }
    // A bound cuts as well, and takes away what is on its other side.
    let late: Vec<_> = (288 - 12..288).map(|n| (300 * n, 300, 1)).collect();
    assert_eq!(read(Some(DAY - 3600)..Some(2 * DAY), &[]), [&late[..], &[whole(1)]].concat());
    let early: Vec<_> = (2 * 288..2 * 288 + 1).map(|n| (300 * n, 300, 1)).collect();
    assert_eq!(read(Some(DAY)..Some(2 * DAY + 300), &[]), [&[whole(1)], &early[..]].concat());
}

#[test]
fn a_cut_in_a_bucket_is_an_error_that_names_the_bounds() {
    let (_dir, db) = place();
    three_days(&db);
    let cut = line(read_cut(&db, None, None..None, |second| Some(DAY + 301).filter(|cut| *cut > second)));
    let names = "1970-01-02T00:05:01Z falls inside a bucket that is kept as one: the nearest bounds are \
                 1970-01-02T00:05:00Z and 1970-01-02T00:10:00Z";
    assert!(cut.ends_with(names), "{cut}");
    // Where there is nothing, nothing is cut.
    assert_eq!(read_cut(&db, Some(Origin::Import), Some(7)..None, by_day).unwrap(), []);
    assert_eq!(read_cut(&db, None, Some(9 * DAY + 7)..None, by_day).unwrap(), []);
}

#[test]
fn the_days_first_and_last_packets_are_exact() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let times = [Timestamp::new(DAY - 1, 999_999_999), at(7), Timestamp::new(4000, 1), Timestamp::new(-1, 3)];
    for time in times {
        store(&mut writer, Origin::Live, &[packet(0, 1, 1, time)]);
    }
    let seen: Vec<_> = read_cut(&db, None, None..None, by_day).unwrap().iter().map(|(.., row)| row.seen).collect();
    assert_eq!(seen, [Seen::at(times[3]), Seen { first: times[1], last: times[0] }]);
}

/// Every checksum is right, and yet the days are wrong.
#[test]
fn days_that_are_not_the_sums_of_their_buckets_are_noticed() {
    for sql in [
        "UPDATE day_usage SET bytes = bytes + 1 WHERE day = 1 AND pair = 3",
        "UPDATE day_usage SET last = last + 1 WHERE day = 1 AND pair = 3",
        "DELETE FROM day_usage WHERE day = 1 AND pair = 3",
        "INSERT INTO endpoint VALUES (99, 1, '10.9.9.9', '', 0); INSERT INTO pair VALUES (99, 1, 99, 0);
         INSERT INTO day_usage VALUES (1, 99, 1, 1, 1, 1, 1)",
        "DELETE FROM day_usage WHERE day = 1; DELETE FROM day WHERE id = 1",
        "INSERT INTO day SELECT 99, network, origin, start + 86400, seconds, 0, 0, 0, 0 FROM day WHERE id = 1",
        "UPDATE usage SET bytes = bytes + 1 WHERE bucket = 1 AND pair = 3",
    ] {
        let (_dir, db) = place();
        fill(&db);
        let conn = Connection::open(db.canonicalize().unwrap()).unwrap();
        conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        conn.execute_batch(sql).unwrap();
        migrate::seal(&conn).unwrap();
        drop(conn);
        let error = line(Reader::open(&db).unwrap().check());
        let says = "is damaged: the day from 1970-01-0";
        assert!(error.contains(says) && error.contains("is not the sum of its buckets"), "{sql}: {error}");
    }
}

#[test]
fn repair_makes_the_days_anew_and_loses_nothing() {
    for sql in [
        "UPDATE day_usage SET bytes = bytes + 1 WHERE day = 1 AND pair = 3",
        "DELETE FROM day",
        "UPDATE seal SET checksum = 0 WHERE name = 'day'",
    ] {
        let (dir, db) = place();
        fill(&db);
        let truth = shown(&db).unwrap();
        let conn = Connection::open(db.canonicalize().unwrap()).unwrap();
        conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        conn.execute_batch(sql).unwrap();
        drop(conn);
        assert!(shown(&db).is_none());
        let sound = dir.path().join("sound.db");
        assert_eq!(repair(&db, &sound).unwrap().lost, Vec::<String>::new(), "{sql}");
        assert_eq!(shown(&sound).unwrap(), truth);
    }
}

/// A database of version 2 with three days, made of one of today.
fn of_version_2(db: &Path) {
    fill(db);
    three_days(db);
    make_version_2(db);
}

/// Takes a database back to version 2. No bucket may have rows of several imports.
pub fn make_version_2(db: &Path) {
    let conn = Connection::open(db.canonicalize().unwrap()).unwrap();
    let schema = migrate::schema(2).unwrap();
    let of = |name| &schema.iter().find(|object| object.1 == name).unwrap().2;
    conn.execute_batch(&format!(
        "PRAGMA foreign_keys = OFF;
         DROP VIEW traffic; DROP VIEW traffic_by_day; DROP VIEW coverage; DROP TABLE observed; DROP TABLE day_usage; DROP TABLE day; DROP TABLE history;
         DROP TABLE assignment; DROP TABLE member; DROP TABLE address_name;
         ALTER TABLE import DROP COLUMN origin;
         CREATE TABLE kept AS SELECT * FROM bucket; DROP TABLE bucket; {};
         INSERT INTO bucket SELECT id, network, min(origin, 1), start, seconds, usage_rows, usage_checksum, 0 FROM kept;
         DROP TABLE kept; DELETE FROM seal WHERE name IN ('day', 'history', 'observed', 'member', 'assignment', 'address_name'); {};
         PRAGMA user_version = 2",
        of("bucket"),
        of("traffic")
    ))
    .unwrap();
    [&table::BUCKET_2, &table::IMPORT_2].iter().for_each(|table| table.seal_anew(&conn).unwrap());
}

#[test]
fn version_2_gets_its_days() {
    let (dir, db) = place();
    of_version_2(&db);
    let today = dir.path().join("today.db");
    fill(&today);
    three_days(&today);
    let mut truth = shown(&today).unwrap();
    truth.2.clear();
    let sound = dir.path().join("sound.db");
    assert_eq!(repair(&db, &sound).unwrap().lost, Vec::<String>::new());
    assert_eq!(shown(&sound).unwrap(), truth);
    drop(Writer::open(&db).unwrap());
    Reader::open(&db).unwrap().check().unwrap();
    assert_eq!(shown(&db).unwrap(), truth);
    // Everything grows older from now on.
    for db in [db, sound] {
        let clock =
            "SELECT (SELECT clock FROM history) = 3 * 86400 AND min(written) = 3 * 86400 AND max(written) = 3 * 86400";
        assert_eq!(ask(&db, &format!("{clock} FROM bucket")), 1);
        assert_eq!(ask(&db, &format!("{clock} FROM day")), 1);
    }
}

#[test]
fn a_damaged_database_of_version_2_is_refused_as_it_is_and_repaired() {
    for (sql, says) in [
        ("UPDATE usage SET bytes = bytes + 1 WHERE bucket = 5 AND pair = 3", "the usage from 1970-01-01T00:35:00Z on"),
        ("UPDATE bucket SET start = start + 3000000 WHERE id = 5", "row 5 of bucket"),
        ("DELETE FROM usage WHERE bucket = 5; DELETE FROM bucket WHERE id = 5", "rows of bucket are missing"),
    ] {
        let (dir, db) = place();
        of_version_2(&db);
        let conn = Connection::open(db.canonicalize().unwrap()).unwrap();
        conn.execute_batch(sql).unwrap();
        drop(conn);
        let before = fs::read(&db).unwrap();
        let error = line(Writer::open(&db));
        assert!(error.contains(&format!("is damaged: {says}")) && error.contains("ztmon db repair --db"), "{error}");
        assert_eq!(fs::read(&db).unwrap(), before);
        let sound = dir.path().join("sound.db");
        let lost = repair(&db, &sound).unwrap().lost;
        assert_eq!(lost.len(), 1, "{lost:?}");
        Reader::open(&sound).unwrap().check().unwrap();
    }
}

#[test]
fn what_is_not_asked_for_may_be_cut_anywhere() {
    let (_dir, db) = place();
    let hour = packet(0, 1, 1, at(7)).widened(3600);
    let late = packet(0, 1, 2, at(3 * DAY));
    store(&mut Writer::open(&db).unwrap(), Origin::Live, &[hour, late]);
    // Days of a zone whose hours begin a quarter of an hour off.
    let next = |second: i64| Some((second - 900).div_euclid(DAY) * DAY + DAY + 900);
    let next_hour = |second: i64| Some((second - 900).div_euclid(3600) * 3600 + 3600 + 900);
    for cuts in [next, next_hour] {
        let found = intervals(&read_cut(&db, None, Some(DAY)..None, cuts).unwrap());
        assert_eq!(found, [(3 * DAY, 300, 2)]);
        let error = read_cut(&db, None, None..Some(4 * DAY), next_hour).unwrap_err();
        assert!(format!("{error:#}").contains("1970-01-01T00:15:00Z falls inside a bucket"), "{error:#}");
    }
}
