//! What the writer remembers of the rows that it wrote is what stands there, or is forgotten.

use super::age::{DAY, TODAY, check, lengths, live, writer_at};
use super::*;

/// A writer that has added to a bucket, its day and totals, and one that adds to the same rows.
fn writer(db: &Path) -> (Writer, impl Fn(&mut Writer) -> Result<()>) {
    let mut writer = Writer::open(db).unwrap();
    let add = |writer: &mut Writer| {
        let mut source = Source::new(writer.network("n", "")?, Origin::Live);
        writer.begin()?;
        writer.add(&mut source, &directory(), &[packet(0, 1, 7, at(9)), packet(1, 0, 5, at(10))])?;
        writer.commit()
    };
    add(&mut writer).unwrap();
    (writer, add)
}

#[test]
fn what_is_damaged_meanwhile_is_noticed_or_right_again_once_it_is_written() {
    for (sql, mended) in [
        ("UPDATE usage SET bytes = bytes + 1 WHERE pair = 1", true),
        ("UPDATE day_usage SET first = first - 1 WHERE pair = 2", true),
        ("UPDATE total SET sent_bytes = 1 WHERE endpoint = 1", true),
        ("UPDATE total SET checksum = 1 WHERE endpoint = 2", true),
        ("UPDATE bucket SET usage_checksum = 1", true),
        ("UPDATE day SET usage_rows = 9", true),
        ("UPDATE usage SET pair = 9 WHERE pair = 1", false),
        ("DELETE FROM day_usage WHERE pair = 2", false),
    ] {
        let (_dir, db) = place();
        let (mut writer, add) = writer(&db);
        writer.conn.execute_batch(&format!("PRAGMA foreign_keys = OFF; {sql}; PRAGMA foreign_keys = ON")).unwrap();
        let noticed = || line(Reader::open(&db).unwrap().check());
        assert!(noticed().contains("is damaged"), "{sql}");
        // Nothing reads it but the check: it is written as it has to be.
        match add(&mut writer) {
            Ok(()) => check(&db),
            Err(error) => assert!(!mended && format!("{error:#}").contains("is damaged"), "{sql}: {error:#}"),
        }
        assert_eq!(Reader::open(&db).unwrap().check().is_ok(), mended, "{sql}");
        if mended {
            assert_eq!(read_all(&db).iter().map(|row| row.counts.bytes).sum::<u64>(), 2 * 12, "{sql}");
            assert_eq!(live_totals(&writer)[0].1.sent_bytes, 2 * 7, "{sql}");
        }
    }
}

#[test]
fn what_is_damaged_and_not_written_stays_damaged() {
    let (_dir, db) = place();
    let (mut writer, _) = writer(&db);
    writer.conn.execute("UPDATE usage SET bytes = bytes + 1 WHERE pair = 2", []).unwrap();
    for n in 0..3 {
        store(&mut writer, Origin::Live, &[packet(0, 1, 1, at(20 + n))]);
    }
    assert!(line(Reader::open(&db).unwrap().check()).contains("the usage from 1970-01-01T00:00:00Z on"));
}

#[test]
fn a_transaction_that_is_rolled_back_is_forgotten() {
    let (_dir, db) = place();
    let (mut writer, add) = writer(&db);
    let mut source = Source::new(writer.network("n", "").unwrap(), Origin::Live);
    for end in [Writer::rollback, |writer: &mut Writer| {
        // As on a disk that fails: what is rolled back is so without a word to the writer.
        writer.conn.execute_batch("ROLLBACK")?;
        assert!(line(writer.commit()).contains("no transaction is open"));
        Ok(())
    }] {
        writer.begin().unwrap();
        writer.add(&mut source, &directory(), &[packet(0, 1, 1000, at(9)), packet(3, 4, 1000, at(9))]).unwrap();
        end(&mut writer).unwrap();
        add(&mut writer).unwrap();
        check(&db);
    }
    assert_eq!(read_all(&db).iter().map(|row| row.counts.bytes).sum::<u64>(), 3 * 12);
    assert_eq!(live_totals(&writer)[0].1.sent_bytes, 3 * 7);
}

#[test]
fn buckets_that_became_longer_or_were_deleted_are_forgotten() {
    let (_dir, db) = place();
    let mut writer = writer_at(&db, TODAY);
    let late = packet(0, 1, 7, at(TODAY + 9));
    let retain = Some(crate::time::Span::seconds(20 * DAY));
    store(&mut writer, Origin::Live, &[late]);
    live(&mut writer, 10 * DAY, TODAY + 10 * DAY, retain);
    assert_eq!(lengths(&db), [(3600, 1)]);
    store(&mut writer, Origin::Live, &[late]);
    check(&db);
    assert_eq!(lengths(&db), [(300, 1), (3600, 1)]);
    live(&mut writer, 30 * DAY, TODAY + 40 * DAY, retain);
    assert_eq!(lengths(&db), []);
    store(&mut writer, Origin::Live, &[late]);
    check(&db);
    assert_eq!(lengths(&db), [(300, 1)]);
    assert_eq!(read_all(&db)[0].counts.bytes, 7);
    assert_eq!(live_totals(&writer)[0].1.sent_bytes, 3 * 7);
}

#[test]
fn clients_that_were_forgotten_are_not_remembered() {
    let (_dir, db) = place();
    let (mut writer, add) = writer(&db);
    let before = read_all(&db).len();
    writer.forget(|addr, _| addr == std::net::IpAddr::from([10, 0, 0, 2]), false).unwrap();
    add(&mut writer).unwrap();
    check(&db);
    assert_eq!(read_all(&db).len(), 2 * before);
    let sent: Vec<_> = live_totals(&writer).iter().map(|(_, totals)| totals.sent_bytes).collect();
    assert_eq!(sent, [2 * 7, 5]);
}

#[test]
fn more_rows_than_are_remembered_sum_up_just_so() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let mut source = Source::new(writer.network("n", "").unwrap(), Origin::Live);
    let count = level::REMEMBERED as u32 + 9;
    let ends = (0..=count).map(|n| Endpoint { end: End::Addr((0x0a00_0000 + n).to_be_bytes().into()), mac: None });
    let pairs = (0..count).map(|n| (n, n + 1)).collect();
    let mut directory = Directory::default();
    directory.extend(&Delta { endpoints: ends.collect(), pairs, rows: Vec::new() });
    let rows: Vec<_> = (0..count).map(|pair| DeltaRow { pair, ..packet(0, 0, 3, at(9)) }).collect();
    for _ in 0..3 {
        writer.begin().unwrap();
        writer.add(&mut source, &directory, &rows).unwrap();
        writer.commit().unwrap();
    }
    check(&db);
    assert_eq!(read_all(&db).iter().filter(|row| row.counts.bytes == 9).count(), count as usize);
    assert_eq!(
        writer.live_totals().unwrap().iter().map(|live| live.totals.sent_bytes).sum::<u64>(),
        9 * u64::from(count)
    );
}
