//! History grows older in small steps: after each of them, and wherever one ends, everything fits together.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;

use super::age::{DAY, Sums, TODAY, by_hour, check, fill, hours, lengths, of_days, writer_at};
use super::*;

/// A database with usage of eight days ago, and its writer, for which it is now.
fn old(db: &Path) -> (Writer, Timestamp) {
    let mut writer = writer_at(db, TODAY);
    for n in 0..3 {
        let rows: Vec<_> =
            (0..36).map(|pair| packet(pair / 6, pair % 6, 7, at(TODAY + 300 * n + i64::from(pair)))).collect();
        store(&mut writer, Origin::Live, &rows);
    }
    fill(&mut writer, TODAY, 24);
    let now = at(TODAY + 8 * DAY);
    writer.tick(now, Duration::from_secs(8 * 86_400));
    (writer, now)
}

fn by_days(db: &Path) -> Vec<Kept> {
    read_cut(db, None, None..None, by_day).unwrap()
}

#[test]
fn every_step_is_small_and_leaves_everything_fitting_together() {
    let (_dir, db) = place();
    let (mut writer, now) = old(&db);
    let before = (by_hour(&db, None), by_days(&db));
    let rows = |db: &Path| ask(db, "SELECT count(*) FROM usage");
    let mut left = rows(&db);
    while writer.upkeep_of(10, now, None).unwrap() {
        let now = rows(&db);
        assert!((left - 10..=left).contains(&now), "{left} {now}");
        left = now;
        check(&db);
        assert_eq!((by_hour(&db, None), by_days(&db)), before);
    }
    assert_eq!(lengths(&db), [(3600, 24 + 12)]);
    // Deleting is as slow, and takes each pair as a whole.
    let imported = by_hour(&db, Some(Origin::Import));
    while writer.upkeep_of(60, now, of_days(2)).unwrap() {
        let now = rows(&db);
        assert!((left - 60..=left).contains(&now), "{left} {now}");
        left = now;
        check(&db);
        let whole = |sums: &Sums| {
            sums.iter().all(|(hour, sum)| before.0.get(hour).is_some_and(|before| before.0.packets >= sum.0.packets))
        };
        assert!(whole(&by_hour(&db, None)));
    }
    assert_eq!(by_hour(&db, None), imported);
}

#[test]
fn a_reader_sees_one_state_while_history_grows_older() {
    let (_dir, db) = place();
    let (mut writer, now) = old(&db);
    let before = by_hour(&db, None);
    let cut = |second: i64| Some(second - second.rem_euclid(3600) + 3600);
    let (mut seen, mut steps) = (Vec::new(), 0);
    Reader::open(&db)
        .unwrap()
        .rows(None, None..None, cut, |_, bucket, row| {
            steps += u32::from(writer.upkeep_of(10, now, of_days(2)).unwrap());
            seen.push((bucket, row));
            Ok(())
        })
        .unwrap();
    assert!(steps > 40, "{steps}");
    assert_eq!(hours(seen), before);
}

#[test]
fn damage_is_neither_merged_nor_deleted() {
    for (sql, retain) in [
        ("UPDATE usage SET bytes = bytes + 1 WHERE bucket = 2 AND pair = 3", None),
        ("DELETE FROM usage WHERE bucket = 2 AND pair = 3", None),
        ("UPDATE bucket SET written = written - 1 WHERE id = 2", None),
        ("UPDATE day SET written = written - 1 WHERE id = 1", of_days(2)),
        ("UPDATE day_usage SET bytes = bytes + 1 WHERE day = 1 AND pair = 3", of_days(2)),
    ] {
        let (_dir, db) = place();
        let (mut writer, now) = old(&db);
        writer.conn.execute_batch(sql).unwrap();
        let usage = ask(&db, "SELECT sum(bytes) FROM usage");
        let error = loop {
            match writer.upkeep(now, retain) {
                Ok(more) => assert!(more, "{sql}"),
                Err(error) => break line::<()>(Err(error)),
            }
        };
        assert!(error.contains("is damaged: "), "{sql}: {error}");
        // Of a day that is deleted anyway, what is sound may be gone.
        assert!(sql.contains("day_usage") || ask(&db, "SELECT sum(bytes) FROM usage") == usage, "{sql}");
        // A flush still goes in, and makes nothing good.
        store(&mut writer, Origin::Live, &[packet(0, 1, 1, now)]);
        assert!(line(Reader::open(&db).unwrap().check()).contains("is damaged: "), "{sql}");
    }
}

/// Not a test but the process that the next test kills.
#[test]
fn upkeep_to_kill() {
    let Some(db) = std::env::var_os("ZTMON_TEST_DB").map(PathBuf::from) else { return };
    let (mut writer, now) = (Writer::open(&db).unwrap(), at(TODAY + 8 * DAY));
    writer.tick(now, Duration::from_secs(8 * 86_400));
    while writer.upkeep_of(3, now, of_days(2)).unwrap() {
        println!("one step");
    }
}

#[test]
fn upkeep_that_is_killed_leaves_everything_fitting_together() {
    let (_dir, db) = place();
    let (writer, now) = old(&db);
    let before = by_hour(&db, Some(Origin::Import));
    drop(writer);
    for killed_after in [1, 20, 30, 20] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::steps::upkeep_to_kill", "--nocapture"])
            .env("ZTMON_TEST_DB", &db)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(lines.filter(|line| line.ends_with("one step")).take(killed_after).count(), killed_after);
        child.kill().unwrap();
        child.wait().unwrap();
        check(&db);
        assert_eq!(by_hour(&db, Some(Origin::Import)), before);
    }
    let mut writer = Writer::open(&db).unwrap();
    writer.tick(now, Duration::from_secs(8 * 86_400));
    while writer.upkeep(now, of_days(2)).unwrap() {}
    check(&db);
    assert_eq!(by_hour(&db, None), before);
}

/// What happens to a database.
#[derive(Clone, Debug)]
enum Event {
    /// So many bytes of each of these pairs in five minutes of a day, by these numbers.
    Flush(Origin, u8, u16, Vec<(u8, u16)>),
    /// Time passes, and the machine's clock may be wrong afterwards; both in hours.
    Wait(u8, i32),
    /// A few steps of so many rows.
    Steps(u8, u8),
    /// The writer is closed and opened again.
    Restart,
}

fn any_event() -> impl Strategy<Value = Event> {
    let origin = prop_oneof![3 => Just(Origin::Live), 1 => Just(Origin::Import)];
    let rows = prop::collection::vec((0..36u8, 0..1000u16), 1..6);
    let wrong = prop_oneof![4 => Just(0), 1 => -1_000_000..1_000_000i32];
    prop_oneof![
        4 => (origin, 0..3u8, 0..288u16, rows).prop_map(|(origin, day, five, rows)| Event::Flush(origin, day, five, rows)),
        3 => (1..60u8, wrong).prop_map(|(hours, wrong)| Event::Wait(hours, wrong)),
        4 => (1..12u8, 1..80u8).prop_map(|(steps, rows)| Event::Steps(steps, rows)),
        1 => Just(Event::Restart),
    ]
}

/// What every pair moved, by origin and day: its hours, and when it was last written to.
type Plain = std::collections::BTreeMap<(Origin, i64, String), (Sums, i64)>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Against a plain list of what was written: everything is there, hour by hour, as long as it is not too old by the
    /// time that passed; imports always.
    #[test]
    fn history_grows_older_as_a_plain_list_does(events in prop::collection::vec(any_event(), 1..30)) {
        const RETAIN: i64 = 10;
        let (_dir, db) = place();
        let (mut now, mut wall, mut opened) = (TODAY, TODAY, TODAY);
        let mut writer = writer_at(&db, wall);
        let mut plain = Plain::new();
        for event in events {
            writer.tick(at(wall), Duration::from_secs((now - opened) as u64));
            match event {
                Event::Flush(origin, day, five, rows) => {
                    let time = now - now % DAY - i64::from(day) * 3 * DAY + 300 * i64::from(five);
                    let rows: Vec<_> = rows.iter().map(|(pair, bytes)| {
                        packet(u32::from(*pair) / 6, u32::from(*pair) % 6, (*bytes).into(), Timestamp::new(time, (*bytes).into()))
                    }).collect();
                    store(&mut writer, origin, &rows);
                    for row in rows.iter().map(|row| directory().row(row)) {
                        let pair = format!("{:?} {:?}", row.src, row.dst);
                        let (sums, written) = plain.entry((origin, time - time % DAY, pair)).or_default();
                        *written = now;
                        for (hour, more) in hours([(at(time).bucket(), row)]) {
                            let (counts, seen) = sums.entry(hour).or_insert((Counts::default(), more.1));
                            counts.add(more.0);
                            seen.merge(more.1);
                        }
                    }
                }
                Event::Wait(hours, wrong) => {
                    now += i64::from(hours) * 3600;
                    wall = now + i64::from(wrong) * 3600;
                }
                Event::Steps(steps, rows) => {
                    for _ in 0..steps {
                        if !writer.upkeep_of(rows.into(), at(wall), of_days(RETAIN)).unwrap() {
                            break;
                        }
                    }
                }
                Event::Restart => {
                    drop(writer);
                    writer = writer_at(&db, wall);
                    opened = now;
                }
            }
            check(&db);
            for origin in [Origin::Live, Origin::Import] {
                let found = by_hour(&db, Some(origin));
                let mut expected = Sums::new();
                plain.retain(|(of, day, _), (sums, written)| {
                    let is_there = sums.keys().any(|hour| found.contains_key(hour));
                    if *of != origin || is_there {
                        expected.extend(sums.iter().filter(|_| *of == origin).map(|(hour, sum)| (hour.clone(), *sum)));
                        return true;
                    }
                    // At most twice as fast as time passes.
                    assert_eq!(origin, Origin::Live);
                    assert!(*day + DAY + RETAIN * DAY <= wall && 2 * (now - *written) >= RETAIN * DAY, "{day} {written} {now}");
                    false
                });
                prop_assert_eq!(&found, &expected);
            }
        }
    }
}
