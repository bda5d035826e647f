use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::coverage::{Observed, Seconds};
use crate::time::{Bucket, SECOND};
use crate::traffic::{Counts, Delta, DeltaRow, Directory, End, Endpoint, Origin, Row, Totals};

mod access;
mod age;
mod coverage;
mod damage;
mod days;
mod log;
mod members;
mod merge;
mod merged;
mod remembered;
mod snapshot;
mod steps;
mod sums;

/// A directory of its own and a database to be in it.
fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("traffic with ?#%41 in its name.db");
    (dir, db)
}

fn client(last: u8) -> Endpoint {
    Endpoint {
        end: End::Addr([10, 0, 0, last].into()),
        mac: Some(format!("02:00:00:00:00:{last:02x}").parse().unwrap()),
    }
}

fn pseudo(end: End) -> Endpoint {
    Endpoint { end, mac: None }
}

/// Six endpoints, every one of which may send to every one: pair 6 a + b is a to b.
fn directory() -> Directory {
    let endpoints = vec![
        client(1),
        client(2),
        Endpoint { mac: client(9).mac, ..client(2) },
        Endpoint { end: "fd00::1".parse().unwrap(), mac: None },
        pseudo(End::External),
        pseudo(End::Beyond),
    ];
    let pairs = (0..6).flat_map(|a| (0..6).map(move |b| (a, b))).collect();
    let mut directory = Directory::default();
    directory.extend(&Delta { endpoints, pairs, rows: Vec::new() });
    directory
}

/// `bytes` in one packet at `time`.
fn packet(src: u32, dst: u32, bytes: u64, time: Timestamp) -> DeltaRow {
    let counts = Counts { bytes, packets: 1, copies: 1 };
    DeltaRow::new(6 * src + dst, time.bucket(), counts, Seen::at(time))
}

fn five_minutes(start: i64) -> Bucket {
    Bucket { start, seconds: 300 }
}

/// These seconds of five minutes, and so many of everything else.
fn seen(seconds: std::ops::Range<u32>, count: u64) -> Observed {
    let mut up = Seconds::default();
    up.mark(seconds);
    Observed { up, frames: 9 * count, teed: 8 * count, dropped: count, pairs: 4 * count, singles: count / 2 }
}

/// What the network "n" moved live.
fn live_totals(writer: &Writer) -> Vec<(End, Totals)> {
    let mut totals: Vec<_> =
        writer.live_totals().unwrap().into_iter().map(|live| (live.endpoint.end, live.totals)).collect();
    totals.sort_by_key(|(end, _)| *end);
    totals
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::new(seconds, 0)
}

/// Adds `rows` to the network "n" and commits.
fn store(writer: &mut Writer, origin: Origin, rows: &[DeltaRow]) {
    let mut source = Source::new(writer.network("n", "").unwrap(), origin);
    writer.begin().unwrap();
    writer.add(&mut source, &directory(), rows).unwrap();
    writer.commit().unwrap();
}

/// A row with its network and its interval.
type Kept = (String, Bucket, Row);

/// Bucket by bucket: a cut that is in every day, and between the last two buckets of it.
fn read(path: &Path, origin: Option<Origin>, range: std::ops::Range<Option<i64>>) -> Vec<Kept> {
    read_cut(path, origin, range, |second| Some((second.div_euclid(86_400) + 1) * 86_400 - 300)).unwrap()
}

fn read_cut(
    path: &Path,
    origin: Option<Origin>,
    range: std::ops::Range<Option<i64>>,
    next_cut: impl FnMut(i64) -> Option<i64>,
) -> Result<Vec<Kept>> {
    let mut rows = Vec::new();
    Reader::open(path)?.rows(origin, range, next_cut, |network, bucket, row| {
        rows.push((network.to_owned(), bucket, row));
        Ok(())
    })?;
    Ok(rows)
}

fn read_all(path: &Path) -> Vec<Row> {
    read(path, None, None..None).into_iter().map(|(_, _, row)| row).collect()
}

fn ask(path: &Path, sql: &str) -> i64 {
    Connection::open(path.canonicalize().unwrap()).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

/// No cuts.
fn by_day(_: i64) -> Option<i64> {
    None
}

/// The whole error chain as `main` prints it.
fn line<T: std::fmt::Debug>(result: Result<T>) -> String {
    let line = format!("{:#}", result.unwrap_err());
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn added_twice_sums_up() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let mut source = Source::new(writer.network("n", "").unwrap(), Origin::Live);
    for time in [at(310), at(305), at(299)] {
        writer.begin().unwrap();
        writer.add(&mut source, &directory(), &[packet(0, 1, 7, time), packet(0, 1, 5, time)]).unwrap();
        writer.commit().unwrap();
    }
    let counts = |packets| Counts { bytes: 6 * packets, packets, copies: packets };
    let row = |packets, first, last| Row {
        src: client(1),
        dst: client(2),
        counts: counts(packets),
        seen: Seen { first: at(first), last: at(last) },
    };
    let (early, late) =
        (("n".to_owned(), five_minutes(0), row(2, 299, 299)), ("n".to_owned(), five_minutes(300), row(4, 305, 310)));
    assert_eq!(read(&db, None, None..None), [early.clone(), late.clone()]);
    assert_eq!(read(&db, Some(Origin::Live), Some(0)..Some(300)), [early]);
    assert_eq!(read(&db, None, Some(300)..None), [late]);
    let cut = line(Reader::open(&db).unwrap().rows(None, Some(1)..None, |_| None, |_, _, _| Ok(())));
    assert!(cut.contains("the nearest bounds are 1970-01-01T00:00:00Z and 1970-01-01T00:05:00Z"), "{cut}");
    assert_eq!(read(&db, Some(Origin::Import), None..None), []);
    let totals = live_totals(&writer);
    let seen = Seen { first: at(299), last: at(310) };
    let none = Totals::none(seen);
    assert_eq!(totals[0], (client(1).end, Totals { sent_bytes: 36, sent_packets: 6, ..none }));
    assert_eq!(totals[1], (client(2).end, Totals { received_bytes: 36, received_packets: 6, ..none }));
    assert_eq!(writer.addresses().unwrap(), 2);
}

#[test]
fn times_come_back_as_they_were_or_clamped() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let far = Timestamp(i128::from(u64::MAX) * SECOND);
    for time in [Timestamp(-far.0), Timestamp(-1), Timestamp(299_999_999_999), Timestamp::new(1_700_000_000, 1), far] {
        store(&mut writer, Origin::Live, &[packet(0, 1, 1, time)]);
    }
    let times: Vec<_> = read_all(&db).iter().map(|row| row.seen.first.to_string()).collect();
    let expected = [
        "0000-01-01T00:00:00Z",
        "1969-12-31T23:59:59.999999999Z",
        "1970-01-01T00:04:59.999999999Z",
        "2023-11-14T22:13:20.000000001Z",
        "9999-12-31T23:59:59.999999999Z",
    ];
    assert_eq!(times, expected);
    let totals = live_totals(&writer);
    assert_eq!(totals[0].1.seen.first.to_string(), expected[0]);
    assert_eq!(totals[0].1.seen.last.to_string(), expected[4]);
    drop(writer);
    let sql =
        "SELECT count(*) FROM traffic WHERE first = '0000-01-01T00:00:00.000000000Z' AND start = '0000-01-01T00:00:00Z'
               OR last = '9999-12-31T23:59:59.999999999Z' AND start = '9999-12-31T23:55:00Z'";
    assert_eq!(ask(&db, sql), 2);
}

#[test]
fn buckets_of_any_length_stand_side_by_side() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let hour = packet(0, 1, 7, at(7000)).widened(3600);
    store(&mut writer, Origin::Live, &[packet(0, 1, 5, at(3700)), hour, hour]);
    drop(writer);
    let rows = read(&db, None, None..None);
    let kept: Vec<_> = rows.iter().map(|(_, bucket, row)| (bucket.seconds, row.counts.bytes, row.seen.last)).collect();
    assert_eq!(kept, [(300, 5, at(3700)), (3600, 14, at(7000))]);
    assert_eq!(read(&db, None, Some(3600)..Some(7200)).len(), 2);
    let cut = line(Reader::open(&db).unwrap().rows(None, Some(3900)..None, |_| None, |_, _, _| Ok(())));
    assert!(cut.contains("falls inside a bucket that is kept as one"), "{cut}");
    Reader::open(&db).unwrap().check().unwrap();
}

#[test]
fn what_was_not_committed_is_not_there() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let mut source = Source::new(writer.network("n", "").unwrap(), Origin::Live);
    assert!(line(writer.add(&mut source, &directory(), &[])).contains("no transaction is open"));
    writer.begin().unwrap();
    writer.add(&mut source, &directory(), &[packet(0, 1, 7, at(0))]).unwrap();
    assert_eq!(read_all(&db), []);
    drop(writer);
    assert_eq!(read_all(&db), []);
    assert_eq!(ask(&db, "SELECT count(*) FROM endpoint"), 0);
}

#[test]
fn what_was_committed_survives_a_kill() {
    let (dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    store(&mut writer, Origin::Live, &[packet(0, 1, 7, at(0))]);
    let killed = dir.path().join("killed.db");
    fs::copy(&db, &killed).unwrap();
    fs::copy(wal(&db), wal(&killed)).unwrap();
    std::mem::forget(writer);
    assert_eq!(read_all(&killed).len(), 1);
    let mut writer = Writer::open(&killed).unwrap();
    store(&mut writer, Origin::Live, &[packet(0, 1, 7, at(0))]);
    assert_eq!(read_all(&killed)[0].counts.bytes, 14);
}

#[test]
fn rolled_back_ids_are_forgotten() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let mut source = Source::new(writer.network("n", "").unwrap(), Origin::Live);
    writer.begin().unwrap();
    writer.add(&mut source, &directory(), &[packet(0, 1, 7, at(0))]).unwrap();
    writer.rollback().unwrap();
    writer.rollback().unwrap();
    // What comes first now gets the ids that the pair had.
    let mut other = Source::new(writer.network("m", "").unwrap(), Origin::Live);
    writer.begin().unwrap();
    writer.add(&mut other, &directory(), &[packet(4, 1, 100, at(0))]).unwrap();
    writer.commit().unwrap();
    // A transaction left open by an error is rolled back by the next.
    writer.begin().unwrap();
    writer.add(&mut source, &directory(), &[packet(3, 1, 1000, at(0))]).unwrap();
    writer.begin().unwrap();
    writer.add(&mut source, &directory(), &[packet(0, 1, 7, at(0))]).unwrap();
    writer.commit().unwrap();
    let rows = read(&db, None, None..None);
    let found: Vec<_> = rows.iter().map(|(n, _, row)| (n.as_str(), row.src, row.counts.bytes)).collect();
    assert_eq!(found, [("n", client(1), 7), ("m", pseudo(End::External), 100)]);
}

#[test]
fn a_second_writer_is_refused_until_the_first_is_gone() {
    let (_dir, db) = place();
    let writer = Writer::open(&db).unwrap();
    let refused = line(Writer::open(&db));
    assert!(refused.contains("is in use by another ztmon") && refused.contains(db.to_str().unwrap()), "{refused}");
    drop(writer);
    Writer::open(&db).unwrap();
}

#[test]
fn after_a_full_disk_the_same_rows_are_added_once() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let mut source = Source::new(writer.network("n", "").unwrap(), Origin::Live);
    let rows: Vec<_> = (0..1000).map(|n| packet(0, 1, 7, at(300 * n))).collect();
    let limit = |writer: &Writer, pages: i64| {
        writer.conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    };
    limit(&writer, 15);
    writer.begin().unwrap();
    let error = line(writer.add(&mut source, &directory(), &rows));
    assert!(error.contains("disk is full"), "{error}");
    assert!(line(writer.commit()).contains("no transaction"));
    limit(&writer, 1 << 30);
    writer.begin().unwrap();
    writer.add(&mut source, &directory(), &rows).unwrap();
    writer.commit().unwrap();
    assert_eq!(live_totals(&writer)[0].1.sent_bytes, 7000);
}

#[test]
fn a_reader_sees_what_is_committed_beside_a_writer() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let reader = Reader::open(&db).unwrap();
    let count = |reader: &Reader| {
        let mut rows = 0;
        let add = |_: &str, _: Bucket, _: Row| {
            rows += 1;
            Ok(())
        };
        reader.rows(None, None..None, by_day, add).unwrap();
        rows
    };
    assert_eq!(count(&reader), 0);
    store(&mut writer, Origin::Live, &[packet(0, 1, 7, at(0)), packet(1, 0, 7, at(0))]);
    assert_eq!(count(&reader), 2);
    // One read is of one moment, whatever is committed meanwhile.
    let mut seen = 0;
    let mut add_meanwhile = |_: &str, _: Bucket, _: Row| {
        seen += 1;
        store(&mut writer, Origin::Live, &[packet(0, 3, 7, at(86_400 * seen))]);
        Ok(())
    };
    reader.rows(None, None..None, by_day, &mut add_meanwhile).unwrap();
    assert_eq!((seen, count(&reader)), (2, 4));
    let stopped = reader.rows(None, None..None, by_day, |_, _, _| anyhow::bail!("stop"));
    assert_eq!(line(stopped), "stop");
    drop(reader);
    drop(writer);
    assert_eq!(read_all(&db).len(), 4);
}

#[test]
fn live_and_imported_stay_apart() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    store(&mut writer, Origin::Live, &[packet(0, 1, 7, at(0)), packet(0, 2, 1, at(0))]);
    store(&mut writer, Origin::Import, &[packet(0, 1, 100, at(0)), packet(3, 0, 100, at(0))]);
    let totals = live_totals(&writer);
    let sums: Vec<_> = totals.iter().map(|(end, t)| (end.to_string(), t.sent_bytes, t.received_bytes)).collect();
    assert_eq!(sums, [("10.0.0.1".to_owned(), 8, 0), ("10.0.0.2".to_owned(), 0, 8)]);
    assert_eq!(read(&db, Some(Origin::Live), None..None).len(), 2);
    assert_eq!(read(&db, Some(Origin::Import), None..None).len(), 2);
    assert_eq!(read(&db, None, None..None).len(), 4);
}

#[test]
fn an_import_is_known_by_its_hash() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let seen = Some(Seen { first: Timestamp::new(5, 6), last: Timestamp::new(7, 8) });
    let import =
        Import { sha256: [1; 32], name: "a.pcap".to_owned(), size: 9, imported_at: at(1_700_000_000), frames: 3, seen };
    let empty = Import { sha256: [2; 32], seen: None, ..import.clone() };
    assert!(line(writer.record_import(&import)).contains("no transaction"));
    writer.begin().unwrap();
    writer.record_import(&import).unwrap();
    writer.record_import(&empty).unwrap();
    writer.commit().unwrap();
    assert_eq!(writer.imported(&[1; 32]).unwrap(), Some(import.clone()));
    assert_eq!(writer.imported(&[2; 32]).unwrap(), Some(empty));
    assert_eq!(writer.imported(&[3; 32]).unwrap(), None);
    writer.begin().unwrap();
    assert!(line(writer.record_import(&import)).contains("UNIQUE"));
}

#[test]
fn a_network_is_known_by_its_name_or_its_device() {
    const A: &str = "8056c2e21c000001";
    const B: &str = "8056c2e21c000002";
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let none = writer.network("", "").unwrap();
    let unknown = writer.network("eth1", "eth1").unwrap();
    assert_eq!(writer.network(A, "eth1").unwrap(), unknown, "what had the device's name is renamed");
    assert_eq!(writer.network("eth1", "eth1").unwrap(), unknown, "and found when its name is unknown again");
    let other = writer.network(B, "eth1").unwrap();
    assert_ne!(other, unknown, "a device may come to another network");
    assert_eq!(writer.network("eth1", "eth1").unwrap(), other, "and stands for the last one");
    assert_eq!(writer.network(A, "").unwrap(), unknown);
    assert_eq!(writer.network("", "").unwrap(), none);
    drop(writer);
    assert_eq!(
        ask(&db, "SELECT group_concat(name) = ',8056c2e21c000001,8056c2e21c000002' FROM network ORDER BY id"),
        1
    );
    assert_eq!(ask(&db, "SELECT count(*) FROM network WHERE device = 'eth1' AND name = '8056c2e21c000002'"), 1);
}
