//! What was seen of the time comes back, once, whatever became of the writer meanwhile.

use super::damage::fill;
use super::*;

fn all(db: &Path) -> Vec<(String, i64, Observed)> {
    let mut all = Vec::new();
    Reader::open(db).unwrap().observed(|network, start, seen| all.push((network.to_owned(), start, *seen))).unwrap();
    all
}

fn add(writer: &mut Writer, network: &str, more: &[(i64, Observed)]) {
    let network = writer.network(network, "").unwrap();
    writer.begin().unwrap();
    writer.add_observed(network, more.iter().map(|(start, seen)| (start, seen))).unwrap();
    writer.commit().unwrap();
}

#[test]
fn time_that_is_added_twice_counts_once_and_counts_sum_up() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    add(&mut writer, "n", &[(600, seen(0..100, 1)), (900, seen(0..300, 2))]);
    // A restart in the middle of the five minutes, and another device of the network.
    drop(writer);
    let mut writer = Writer::open(&db).unwrap();
    add(&mut writer, "n", &[(600, seen(50..200, 4)), (300, seen(299..300, 0))]);
    add(&mut writer, "m", &[(600, seen(0..0, 1))]);
    let of = |network: &str, start, seen| (network.to_owned(), start, seen);
    let mut both = seen(0..200, 1);
    both.add(&seen(0..0, 4));
    let expected = [
        of("n", 300, seen(299..300, 0)),
        of("n", 600, both),
        of("m", 600, seen(0..0, 1)),
        of("n", 900, seen(0..300, 2)),
    ];
    assert_eq!(all(&db), expected);
    Reader::open(&db).unwrap().check().unwrap();
    // Full ones need no bits; the view says it in words.
    assert_eq!(ask(&db, "SELECT sum(length(which)) FROM observed"), 2 * 38);
    let sql = "SELECT count(*) FROM coverage WHERE network = 'n' AND start = '1970-01-01T00:10:00Z'
               AND covered_seconds = 200 AND abs(coverage - 0.66667) < 0.001 AND copies_seen AND dropped_packets = 5";
    assert_eq!(ask(&db, sql), 1);
}

#[test]
fn what_is_rolled_back_was_not_seen() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let network = writer.network("n", "").unwrap();
    assert!(line(writer.add_observed(network, [(&0, &seen(0..9, 1))])).contains("no transaction is open"));
    writer.begin().unwrap();
    writer.add_observed(network, [(&0, &seen(0..9, 1))]).unwrap();
    let error = line(writer.add_observed(network, [(&300, &Observed { frames: u64::MAX, ..seen(0..9, 1) })]));
    assert!(error.contains("too large for the database"), "{error}");
    assert_eq!(all(&db), []);
}

#[test]
fn repair_keeps_what_is_sound() {
    let (dir, db) = place();
    fill(&db);
    let mut before = all(&db);
    let conn = Connection::open(db.canonicalize().unwrap()).unwrap();
    conn.execute_batch(
        "PRAGMA foreign_keys = OFF; UPDATE observed SET seconds = 0 WHERE start = 600;
         DELETE FROM network WHERE name = 'n'; PRAGMA wal_checkpoint(TRUNCATE)",
    )
    .unwrap();
    drop(conn);
    let sound = dir.path().join("sound.db");
    let lost = repair(&db, &sound).unwrap().lost;
    assert_eq!(lost[1], "rows of observed: 19 are kept, others may be lost, or of an earlier time");
    before.retain(|(_, start, _)| *start != 600);
    before.iter_mut().for_each(|(network, ..)| *network = "network-1".to_owned());
    assert_eq!(all(&sound), before);
}

#[test]
fn version_2_has_seen_nothing_and_is_repaired() {
    let (dir, db) = place();
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/store/version-2.db");
    fs::copy(old, &db).unwrap();
    let sound = dir.path().join("sound.db");
    assert_eq!(repair(&db, &sound).unwrap().lost, Vec::<String>::new());
    drop(Writer::open(&db).unwrap());
    for db in [db, sound] {
        Reader::open(&db).unwrap().check().unwrap();
        assert_eq!(all(&db), []);
    }
}

#[test]
fn what_was_seen_goes_with_the_days_that_are_deleted() {
    use super::age::{DAY, TODAY, live, of_days, writer_at};
    let (_dir, db) = place();
    let mut writer = writer_at(&db, TODAY);
    // Nothing moved on the second day.
    for day in [0, 2, 3] {
        super::age::fill(&mut writer, TODAY + day * DAY, 2);
    }
    let of = |network: &str| all(&db).iter().filter(|(of, ..)| of == network).count();
    let every_hour: Vec<_> = (0..4 * 24).map(|hour| (TODAY + 3600 * hour, seen(0..300, 1))).collect();
    add(&mut writer, "n", &every_hour);
    // Of a network in which nothing ever moved.
    let every_minutes: Vec<_> = (0..2 * 288).map(|n| (TODAY + DAY + 300 * n, seen(0..300, 1))).collect();
    add(&mut writer, "m", &every_minutes);
    // A clock that jumps deletes nothing, and back again.
    live(&mut writer, 60, TODAY + 1000 * DAY, of_days(10));
    assert_eq!((of("n"), of("m")), (96, 576));
    let mut now = TODAY;
    // All was written on the first day.
    for (day, left) in [(9, (96, 576)), (10, (96, 576)), (11, (72, 576)), (12, (48, 288)), (13, (24, 0)), (14, (0, 0))]
    {
        let passed = TODAY + day * DAY - now;
        now += passed;
        live(&mut writer, passed, now, of_days(10));
        assert_eq!((of("n"), of("m")), left, "on day {day}");
        Reader::open(&db).unwrap().check().unwrap();
    }
}
