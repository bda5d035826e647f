//! What grows older: longer buckets with the same sums, days that are deleted, and clocks that jump.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::time::Span;

pub const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;

/// A day in 2025, which begins there.
pub const TODAY: i64 = 20_250 * DAY;

pub fn of_days(days: i64) -> Option<Span> {
    Some(Span::seconds(days * DAY))
}

/// A writer that is opened at this time.
pub fn writer_at(db: &Path, wall: i64) -> Writer {
    let mut writer = Writer::open(db).unwrap();
    writer.tick(at(wall), Duration::ZERO);
    writer
}

/// Lets the writer live for so long until it is `wall`, and does what there is to be done then.
pub fn live(writer: &mut Writer, passed: i64, wall: i64, retain: Option<Span>) {
    writer.tick(at(wall), Duration::from_secs((writer.ticked + passed) as u64));
    while writer.upkeep(at(wall), retain).unwrap() {}
}

/// A packet every five minutes for so many hours from `start` on; the first half of them is imported, too.
pub fn fill(writer: &mut Writer, start: i64, hours: i64) {
    let rows: Vec<_> = (0..12 * hours).map(|n| packet(n as u32 % 3, 1, 10, at(start + 300 * n + 7))).collect();
    store(writer, Origin::Live, &rows);
    store(writer, Origin::Import, &rows[..rows.len() / 2]);
}

/// How many buckets there are of each length.
pub fn lengths(db: &Path) -> Vec<(i64, i64)> {
    let conn = Connection::open(db.canonicalize().unwrap()).unwrap();
    let mut select = conn.prepare("SELECT seconds, count(*) FROM bucket GROUP BY seconds").unwrap();
    let found = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    found.collect::<rusqlite::Result<_>>().unwrap()
}

pub type Sums = BTreeMap<(i64, String), (Counts, Seen)>;

/// What every pair moved in each hour.
pub fn by_hour(db: &Path, origin: Option<Origin>) -> Sums {
    let rows = read_cut(db, origin, None..None, |second| Some(second - second.rem_euclid(3600) + 3600)).unwrap();
    hours(rows.into_iter().map(|(_, bucket, row)| (bucket, row)))
}

pub fn hours(rows: impl IntoIterator<Item = (Bucket, Row)>) -> Sums {
    let mut sums = Sums::new();
    for (bucket, Row { src, dst, counts, seen }) in rows {
        let key = (bucket.widened(3600).start, format!("{src:?} {dst:?}"));
        let (sum, times) = sums.entry(key).or_insert((Counts::default(), seen));
        sum.add(counts);
        times.merge(seen);
    }
    sums
}

pub fn check(db: &Path) {
    Reader::open(db).unwrap().check().unwrap();
}

#[test]
fn buckets_that_are_a_week_old_become_longer_and_change_no_sum() {
    let (_dir, db) = place();
    let mut writer = writer_at(&db, TODAY);
    fill(&mut writer, TODAY, 48);
    let all = |db: &Path| {
        (by_hour(db, None), by_hour(db, Some(Origin::Live)), read_cut(db, None, None..None, by_day).unwrap())
    };
    let (before, totals) = (all(&db), live_totals(&writer));
    live(&mut writer, 7 * DAY, TODAY + 7 * DAY, None);
    assert_eq!(lengths(&db), [(300, 12 * (48 + 24))], "all of it ended less than a week ago");
    live(&mut writer, DAY, TODAY + 8 * DAY, None);
    assert_eq!(lengths(&db), [(300, 12 * 24), (3600, 24 + 24)]);
    live(&mut writer, 2 * DAY, TODAY + 10 * DAY, None);
    assert_eq!(lengths(&db), [(3600, 48 + 24)]);
    assert_eq!((all(&db), live_totals(&writer)), (before, totals));
    // What comes later to such an hour is on its own at first.
    let late = packet(0, 1, 5, at(TODAY + 600));
    store(&mut writer, Origin::Live, &[late, late]);
    assert_eq!(lengths(&db), [(300, 1), (3600, 48 + 24)]);
    live(&mut writer, 60, TODAY + 10 * DAY, None);
    assert_eq!(lengths(&db), [(3600, 48 + 24)]);
    let sum: u64 = by_hour(&db, None).values().map(|(counts, _)| counts.bytes).sum();
    assert_eq!(sum, 10 * 12 * (48 + 24) + 10);
    check(&db);
    // An hour is not cut any more, and the error says what would help.
    let cut = line(read_cut(&db, None, Some(TODAY + 900)..None, by_day));
    assert!(cut.contains("the nearest bounds are 2025-06-11T00:00:00Z and 2025-06-11T01:00:00Z; "), "{cut}");
    assert!(cut.contains("by 60 minutes: one that is made with a shorter --bucket can be cut there"), "{cut}");
}

#[test]
fn how_long_old_buckets_are_is_settled_when_the_database_is_made() {
    for (seconds, flag) in [(900, "15m"), (1800, "30m"), (3600, "60m")] {
        let (_dir, db) = place();
        let mut writer = Writer::open_kept_by(&db, Some(seconds).filter(|seconds| *seconds != 3600)).unwrap();
        fill(&mut writer, TODAY, 24);
        live(&mut writer, 0, TODAY + 9 * DAY, None);
        assert_eq!(lengths(&db), [(seconds.into(), (DAY + DAY / 2) / i64::from(seconds))]);
        drop(writer);
        for other in [900, 1800, 3600].into_iter().filter(|other| *other != seconds) {
            let refused = line(Writer::open_kept_by(&db, Some(other)));
            assert!(refused.contains(&format!("was made with --bucket {flag}: ")), "{refused}");
        }
        Writer::open_with_live_totals(&db, Some(seconds)).unwrap();
        // What would help is said only where it would.
        let cut = line(read_cut(&db, None, Some(TODAY + 300)..None, by_day));
        assert_eq!(cut.contains("shorter --bucket"), seconds > 900, "{cut}");
    }
}

#[test]
fn live_days_are_deleted_when_their_time_is_over_and_imports_never() {
    let (_dir, db) = place();
    let mut writer = writer_at(&db, TODAY);
    for day in 0..4 {
        fill(&mut writer, TODAY + day * DAY, 24);
        live(&mut writer, DAY, TODAY + (day + 1) * DAY, of_days(10));
    }
    let imported = by_hour(&db, Some(Origin::Import));
    let (live_hours, totals) = (by_hour(&db, Some(Origin::Live)), live_totals(&writer));
    live(&mut writer, 7 * DAY, TODAY + 11 * DAY - 1, of_days(10));
    assert_eq!(by_hour(&db, Some(Origin::Live)), live_hours);
    assert_eq!(Reader::open(&db).unwrap().live_from().unwrap(), None);
    for day in 1..=4 {
        live(&mut writer, DAY, TODAY + (10 + day) * DAY, of_days(10));
        let left: Sums = live_hours
            .iter()
            .filter(|((hour, _), _)| *hour >= TODAY + day * DAY)
            .map(|(k, v)| (k.clone(), *v))
            .collect();
        assert_eq!(by_hour(&db, Some(Origin::Live)), left);
        assert_eq!(Reader::open(&db).unwrap().live_from().unwrap(), Some(at(TODAY + day * DAY)));
        check(&db);
    }
    assert_eq!(by_hour(&db, Some(Origin::Import)), imported);
    assert_eq!(live_totals(&writer), totals, "what was ever moved stays");
    // What is captured with such a time, as the clock is wrong, is kept as long.
    store(&mut writer, Origin::Live, &[packet(0, 1, 5, at(TODAY))]);
    live(&mut writer, 9 * DAY, TODAY + 23 * DAY, of_days(10));
    assert_eq!(by_hour(&db, Some(Origin::Live)).len(), 1);
    live(&mut writer, 2 * DAY, TODAY + 25 * DAY, of_days(10));
    assert_eq!(by_hour(&db, Some(Origin::Live)).len(), 0);
    assert_eq!(Reader::open(&db).unwrap().live_from().unwrap(), Some(at(TODAY + 4 * DAY)), "it goes on, never back");
}

#[test]
fn a_clock_that_jumps_deletes_nothing_and_merges_nothing() {
    let (_dir, db) = place();
    let mut writer = writer_at(&db, TODAY);
    fill(&mut writer, TODAY, 24);
    live(&mut writer, DAY, TODAY + DAY, of_days(400));
    fill(&mut writer, TODAY + DAY, 1);
    let (before, kept) = (by_hour(&db, None), lengths(&db));
    let mut now = TODAY + DAY;
    for jump in [2 * YEAR, -2 * YEAR, 0, 2 * YEAR, -now, 100 * YEAR, i64::MAX / 2, i64::MIN / 2] {
        for _ in 0..4 {
            now += 900;
            live(&mut writer, 900, now.saturating_add(jump), of_days(400));
        }
        assert_eq!((by_hour(&db, None), lengths(&db)), (before.clone(), kept.clone()), "{jump}");
    }
    // All the jumps have cost nothing that the right time would not have: it is a week old at last, and no more.
    live(&mut writer, 8 * DAY, now + 8 * DAY, of_days(400));
    assert_eq!(lengths(&db), [(3600, 24 + 12 + 2)]);
    assert_eq!(by_hour(&db, None), before);
}

/// A small computer without a clock of its own begins in 1970, every time.
#[test]
fn a_clock_that_begins_in_1970_deletes_nothing_and_is_caught_up_with() {
    let (_dir, db) = place();
    let mut writer = writer_at(&db, 5);
    store(&mut writer, Origin::Live, &[packet(0, 1, 1, at(10))]);
    // It is told the time, and runs for 300 days.
    live(&mut writer, 60, TODAY, of_days(400));
    fill(&mut writer, TODAY, 24);
    live(&mut writer, DAY, TODAY + DAY, of_days(400));
    let before = by_hour(&db, None);
    for day in (2..300).step_by(7) {
        live(&mut writer, 7 * DAY, TODAY + day * DAY, of_days(400));
        drop(writer);
        writer = writer_at(&db, 5);
        store(&mut writer, Origin::Live, &[packet(0, 1, 1, at(10))]);
    }
    let after = by_hour(&db, None);
    assert_eq!(
        after.iter().filter(|((hour, _), _)| *hour >= TODAY).collect::<Vec<_>>(),
        before.iter().skip(1).collect::<Vec<_>>()
    );
    assert_eq!(after.first_key_value().unwrap().1.0.bytes, 1 + 43, "written to all the time");
    // What has been captured with the right time is deleted when it is over.
    live(&mut writer, 110 * DAY, TODAY + 410 * DAY, of_days(400));
    assert_eq!(by_hour(&db, Some(Origin::Live)).len(), 1);
    assert!(lengths(&db).iter().all(|(seconds, _)| *seconds == 3600));
}

/// What was captured with a clock that was ahead by decades is like all else.
#[test]
fn a_clock_that_begins_in_2099_stops_nothing() {
    let (_dir, db) = place();
    let mut writer = writer_at(&db, TODAY + 74 * YEAR);
    fill(&mut writer, TODAY, 24);
    live(&mut writer, 399 * DAY, TODAY + 399 * DAY, of_days(400));
    assert_eq!(by_hour(&db, Some(Origin::Live)).len(), 24 * 3);
    live(&mut writer, 3 * DAY, TODAY + 402 * DAY, of_days(400));
    assert_eq!(by_hour(&db, Some(Origin::Live)).len(), 0);
}

#[test]
fn the_clock_never_stands_and_goes_at_most_twice_as_fast() {
    let (_dir, db) = place();
    let mut writer = writer_at(&db, TODAY);
    let mut clock = TODAY;
    for (uptime, wall, passed) in [
        (100, TODAY + 100, 100),
        (200, TODAY + 250, 150),
        (300, TODAY + YEAR, 200),
        (400, TODAY, 100),
        (400, TODAY + YEAR, 0),
        (300, TODAY + YEAR, 0),
        (500, TODAY + 500, 100),
    ] {
        writer.tick(at(wall), Duration::from_secs(uptime));
        clock += passed;
        assert_eq!(writer.history.clock, clock, "{uptime}");
    }
    // It is kept, and goes on from there.
    writer.upkeep(at(TODAY), None).unwrap();
    drop(writer);
    assert_eq!(writer_at(&db, TODAY + YEAR).history.clock, clock);
    assert_eq!(ask(&db, "SELECT clock FROM history"), clock);
}
