//! What is damaged is noticed, and what is sound of it saved.

use std::os::unix::fs::PermissionsExt;

use twox_hash::XxHash3_64;

use super::*;

/// The usage, the totals of what was captured live, and what was seen of the time.
type Shown = (Vec<Kept>, Vec<(End, Totals)>, Vec<(String, i64, Observed)>);

/// Everything that a report or `/metrics` could show of a database; none if it is refused.
pub fn shown(path: &Path) -> Option<Shown> {
    // The same by days and by buckets.
    let mut rows = read_cut(path, None, None..None, by_day).ok()?;
    rows.extend(read_cut(path, None, None..None, |second| Some(second.div_euclid(86_400) * 86_400 + 300)).ok()?);
    let mut observed = Vec::new();
    Reader::open(path).ok()?.observed(|name, start, seen| observed.push((name.to_owned(), start, *seen))).ok()?;
    let (writer, live) = Writer::open_with_live_totals(path, None).ok()?;
    assert_eq!(live, writer.live_totals().unwrap());
    Some((rows, live.into_iter().map(|live| (live.endpoint.end, live.totals)).collect(), observed))
}

/// A database with something of everything.
pub fn fill(db: &Path) {
    let mut writer = Writer::open(db).unwrap();
    let rows = |n: u64| (0..36).map(move |pair| packet(pair / 6, pair % 6, 7 * n, at(300 * n as i64 + 7)));
    for n in (0..40).filter(|n| n % 3 > 0) {
        store(&mut writer, Origin::Live, &rows(n).collect::<Vec<_>>());
    }
    store(&mut writer, Origin::Import, &(0..40).step_by(3).flat_map(rows).collect::<Vec<_>>());
    let network = writer.network("m", "zt0").unwrap();
    writer.begin().unwrap();
    writer.tell(network, &members::roster().of(Some(members::NETWORK))).unwrap();
    let import = Import {
        sha256: [1; 32],
        name: "a".to_owned(),
        size: 9,
        imported_at: at(1_700_000_000),
        frames: 3,
        seen: None,
    };
    writer.record_import(&import).unwrap();
    let seen: BTreeMap<_, _> = (0..20).map(|n| (300 * n, seen(0..15 * n as u32 + 15, n as u64))).collect();
    writer.add_observed(NetworkId(1), &seen).unwrap();
    writer.commit().unwrap();
}

/// How many flips to try: `ZTMON_FLIPS`.
fn flips() -> usize {
    std::env::var("ZTMON_FLIPS").ok().and_then(|text| text.parse().ok()).unwrap_or(600)
}

#[test]
fn no_flipped_bit_changes_a_total() {
    let (dir, db) = place();
    fill(&db);
    let truth = shown(&db).unwrap();
    let bytes = fs::read(&db).unwrap();
    let damaged = dir.path().join("damaged.db");
    let (mut noticed, mut harmless) = (0, 0);
    for n in 0..flips() {
        // Any bit, and the same in every run.
        let bit = XxHash3_64::oneshot(&n.to_le_bytes()) as usize % (8 * bytes.len());
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        for leftover in [wal(&damaged), shm(&damaged)] {
            fs::remove_file(leftover).ok();
        }
        fs::write(&damaged, &flipped).unwrap();
        match shown(&damaged) {
            None => noticed += 1,
            Some(as_it_was) => {
                assert_eq!(as_it_was, truth, "bit {bit} of {}", 8 * bytes.len());
                harmless += 1;
            }
        }
    }
    println!("{noticed} flips noticed, {harmless} without effect");
    assert!(noticed > flips() / 10, "{noticed}");
}

#[test]
fn what_is_added_to_a_damaged_database_makes_nothing_good() {
    let (_dir, db) = place();
    fill(&db);
    let conn = Connection::open(db.canonicalize().unwrap()).unwrap();
    conn.execute("UPDATE usage SET bytes = bytes + 1 WHERE bucket = 5 AND pair = 3", []).unwrap();
    drop(conn);
    let mut writer = Writer::open(&db).unwrap();
    store(&mut writer, Origin::Live, &[packet(0, 2, 9, at(300 * 7 + 9))]);
    drop(writer);
    let error = line(Reader::open(&db).unwrap().check());
    assert!(error.contains("the usage from 1970-01-01T00:35:00Z on is not what was written"), "{error}");
    assert!(error.contains("ztmon db repair --db") && error.contains("or give another --db"), "{error}");
}

/// Changes the database by SQL and says what is noticed then.
fn noticed(sql: &str) -> String {
    let (_dir, db) = place();
    fill(&db);
    let conn = Connection::open(db.canonicalize().unwrap()).unwrap();
    conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    conn.execute_batch(sql).unwrap();
    drop(conn);
    line(Reader::open(&db).unwrap().check())
}

#[test]
fn every_change_behind_its_back_is_noticed() {
    for sql in [
        "UPDATE network SET name = 'x' WHERE id = 1",
        "UPDATE endpoint SET addr = '10.0.0.3' WHERE addr = '10.0.0.2'",
        "UPDATE endpoint SET id = 100 WHERE id = 2; UPDATE endpoint SET id = 2 WHERE id = 1; UPDATE endpoint SET id = 1 WHERE id = 100",
        "UPDATE pair SET id = 100 WHERE id = 2; UPDATE pair SET id = 2 WHERE id = 1; UPDATE pair SET id = 1 WHERE id = 100",
        "UPDATE bucket SET start = start + 300 WHERE id = 40",
        "DELETE FROM bucket WHERE id = 3",
        "DELETE FROM usage WHERE bucket = 3 AND pair = 3",
        "INSERT INTO usage SELECT 999, pair, bytes, packets, copies, first, last FROM usage WHERE bucket = 3",
        "UPDATE usage SET last = last + 1 WHERE bucket = 3 AND pair = 3",
        "UPDATE total SET sent_bytes = sent_bytes + 1 WHERE endpoint = 1 AND origin = 0",
        "DELETE FROM total WHERE endpoint = 1 AND origin = 0",
        "DELETE FROM import",
        "DELETE FROM seal WHERE name = 'total'",
        "UPDATE seal SET rows = rows + 1 WHERE name = 'pair'",
        "UPDATE bucket SET written = written + 1 WHERE id = 40",
        "UPDATE day SET start = start + 8640000 WHERE id = 1",
        "UPDATE day SET written = written + 1 WHERE id = 1",
        "DELETE FROM day WHERE id = 1",
        "DELETE FROM day_usage WHERE day = 1 AND pair = 3",
        "UPDATE day_usage SET bytes = bytes + 1 WHERE day = 1 AND pair = 3",
        "UPDATE day_usage SET first = first - 1 WHERE day = 1 AND pair = 3",
        "INSERT INTO day_usage SELECT 999, pair, bytes, packets, copies, first, last FROM day_usage WHERE day = 1",
        "UPDATE history SET clock = clock + 1",
        "UPDATE history SET live_from = 0",
        "DELETE FROM history",
        "UPDATE observed SET seconds = 300, which = x'' WHERE start = 600",
        "UPDATE observed SET dropped = 0 WHERE start = 600",
        "UPDATE observed SET start = 6000 WHERE start = 600",
        "DELETE FROM observed WHERE start = 600",
        "INSERT INTO observed SELECT 6000, network, seconds, which, frames, teed, dropped, pairs, singles, written, checksum
         FROM observed WHERE start = 600",
    ] {
        let error = noticed(sql);
        assert!(error.contains("is damaged: "), "{sql}: {error}");
    }
}

#[test]
fn a_writer_refuses_totals_that_are_not_what_it_wrote() {
    let (_dir, db) = place();
    fill(&db);
    let conn = Connection::open(db.canonicalize().unwrap()).unwrap();
    conn.execute("UPDATE total SET sent_bytes = 1 WHERE endpoint = 1 AND origin = 0", []).unwrap();
    drop(conn);
    assert!(line(Writer::open(&db)).contains("is damaged: row 1 of total is not what was written"));
}

#[test]
fn both_ways_of_opening_refuse_the_same() {
    let (_dir, db) = place();
    fill(&db);
    for name in table::TABLES.map(|table| table.name) {
        let change = |by: i64| {
            let conn = Connection::open(db.canonicalize().unwrap()).unwrap();
            conn.execute(&format!("UPDATE {name} SET checksum = checksum + ?1"), [by]).unwrap();
        };
        change(1);
        let error = line(Writer::open(&db));
        let row = if name == "observed" { 0 } else { 1 };
        assert!(error.contains(&format!("is damaged: row {row} of {name} is not what was written")), "{error}");
        assert_eq!(line(Writer::open_with_live_totals(&db, None)), error);
        change(-1);
    }
    Writer::open_with_live_totals(&db, None).unwrap();
}

#[test]
fn a_writer_notices_what_is_damaged_while_it_runs() {
    let (_dir, db) = place();
    fill(&db);
    let mut writer = Writer::open(&db).unwrap();
    let mut source = Source::new(writer.network("n", "").unwrap(), Origin::Live);
    writer.conn.execute("UPDATE total SET sent_bytes = 1 WHERE endpoint = 1 AND origin = 0", []).unwrap();
    writer.begin().unwrap();
    assert!(line(writer.add(&mut source, &directory(), &[packet(0, 1, 1, at(0))])).contains("is damaged"));
    assert!(line(writer.live_totals()).contains("is damaged"));
}

#[test]
fn repair_saves_what_is_sound_and_keeps_the_old_file() {
    let (dir, db) = place();
    fill(&db);
    let before = read(&db, None, None..None);
    let conn = Connection::open(db.canonicalize().unwrap()).unwrap();
    conn.execute_batch(
        "PRAGMA foreign_keys = OFF;
         UPDATE usage SET bytes = bytes + 1 WHERE bucket = 5 AND pair = 3;
         UPDATE endpoint SET addr = '10.0.0.77' WHERE addr = '10.0.0.1';
         UPDATE total SET sent_bytes = 1 WHERE endpoint = 2 AND origin = 0;
         PRAGMA wal_checkpoint(TRUNCATE)",
    )
    .unwrap();
    drop(conn);
    let damaged = fs::read(&db).unwrap();
    let sound = dir.path().join("sound.db");
    let repaired = repair(&db, &sound).unwrap();
    assert_eq!(fs::read(&db).unwrap(), damaged);
    let lost: Vec<_> = repaired.lost.iter().map(String::as_str).collect();
    let of_time = "the usage from 1970-01-01T00:35:00Z to 1970-01-01T00:40:00Z (36 rows)";
    let of = |table: &str, kept| format!("rows of {table}: {kept} are kept, others may be lost, or of an earlier time");
    assert_eq!(lost, [&of("endpoint", 5), &of("total", 9), of_time]);
    Reader::open(&sound).unwrap().check().unwrap();
    let after = read(&sound, None, None..None);
    let bytes = |rows: &[Kept]| rows.iter().map(|(.., row)| row.counts.bytes).sum::<u64>();
    let lost: Vec<_> = before.iter().filter(|(_, bucket, _)| bucket.start == 2100).cloned().collect();
    assert_eq!(bytes(&after), bytes(&before) - bytes(&lost));
    // The lost address is other now; all else is as it was.
    let moved = |rows: &[Kept], src, dst| {
        rows.iter()
            .filter(|(_, bucket, row)| (row.src.end, row.dst.end) == (src, dst) && bucket.start != 2100)
            .map(|(.., row)| row.counts.bytes)
            .sum::<u64>()
    };
    let (gone, kept) = (client(1).end, End::External);
    assert_eq!((moved(&after, gone, kept), moved(&after, gone, gone)), (0, 0));
    assert_eq!(moved(&after, End::Other, kept), moved(&before, gone, kept));
    assert_eq!(moved(&after, kept, End::Other), moved(&before, kept, gone));
    assert_eq!(moved(&after, End::Other, End::Other), moved(&before, gone, gone));
    assert_eq!(moved(&after, kept, kept), moved(&before, kept, kept));
    assert!(line(repair(&db, &sound)).contains("is there already"));
}

#[test]
fn repair_saves_all_of_a_sound_database_even_without_its_header() {
    let (dir, db) = place();
    fill(&db);
    let truth = shown(&db).unwrap();
    let mut bytes = fs::read(&db).unwrap();
    bytes[3] ^= 4;
    fs::write(&db, bytes).unwrap();
    assert!(shown(&db).is_none());
    let sound = dir.path().join("sound.db");
    assert_eq!(repair(&db, &sound).unwrap().lost, Vec::<String>::new());
    assert_eq!(shown(&sound).unwrap(), truth);
}

/// As after a write that never came to the disk: everything verifies by itself.
#[test]
fn repair_raises_totals_of_an_earlier_time_to_their_usage() {
    let (dir, db) = place();
    fill(&db);
    let earlier = dir.path().join("earlier.db");
    fs::copy(&db, &earlier).unwrap();
    let mut writer = Writer::open(&db).unwrap();
    store(&mut writer, Origin::Live, &[packet(0, 1, 1_000_000, at(7))]);
    let truth = live_totals(&writer);
    drop(writer);
    let conn = Connection::open(db.canonicalize().unwrap()).unwrap();
    conn.execute("ATTACH ?1 AS earlier", [earlier.to_str()]).unwrap();
    conn.execute_batch("INSERT OR REPLACE INTO total SELECT * FROM earlier.total").unwrap();
    drop(conn);
    let sound = dir.path().join("sound.db");
    let lost = repair(&db, &sound).unwrap().lost;
    assert!(lost.len() == 1 && lost[0].starts_with("rows of total: "), "{lost:?}");
    let found = live_totals(&Writer::open(&sound).unwrap());
    for ((end, found), (_, truth)) in found.into_iter().zip(truth) {
        assert_eq!((found.sent_bytes, found.received_packets), (truth.sent_bytes, truth.received_packets), "{end}");
    }
}

#[test]
fn what_a_newer_version_wrote_is_not_repaired() {
    let (dir, db) = place();
    fill(&db);
    let conn = Connection::open(db.canonicalize().unwrap()).unwrap();
    conn.pragma_update(None, "user_version", migrate::newest() + 1).unwrap();
    drop(conn);
    assert!(line(repair(&db, &dir.path().join("sound.db"))).contains("was written by a newer ztmon"));
}

/// The schema's text is part of the file, and so are who may read it and how long it says it is.
#[test]
fn repair_mends_the_schema_and_the_length_and_keeps_the_file_private() {
    let (dir, db) = place();
    fill(&db);
    let truth = shown(&db).unwrap();
    let conn = Connection::open(db.canonicalize().unwrap()).unwrap();
    let garbage = "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'CREATE', 'CREBTE')";
    conn.execute_batch(garbage).unwrap();
    drop(conn);
    let mut bytes = fs::read(&db).unwrap();
    bytes[28..32].copy_from_slice(&[0, 0, 0, 2]);
    fs::write(&db, bytes).unwrap();
    fs::set_permissions(&db, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(shown(&db).is_none());
    let sound = dir.path().join("sound.db");
    assert_eq!(repair(&db, &sound).unwrap().lost, Vec::<String>::new());
    assert_eq!(shown(&sound).unwrap(), truth);
    assert_eq!(fs::metadata(&sound).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn an_older_database_gets_checksums_only_if_it_fits_together() {
    let (dir, db) = place();
    fs::copy("testdata/store/version-1.db", &db).unwrap();
    let conn = Connection::open(db.canonicalize().unwrap()).unwrap();
    conn.execute_batch("UPDATE total SET sent_packets = sent_packets + 1000000").unwrap();
    drop(conn);
    let before = fs::read(&db).unwrap();
    let error = line(Writer::open(&db));
    assert!(error.contains("damaged, and of a version without checksums: "), "{error}");
    assert_eq!(fs::read(&db).unwrap(), before);
    assert!(line(repair(&db, &dir.path().join("sound.db"))).contains("restore a backup"));
}

#[test]
fn a_database_in_use_is_not_repaired() {
    let (dir, db) = place();
    let _writer = Writer::open(&db).unwrap();
    assert!(line(repair(&db, &dir.path().join("sound.db"))).contains("in use by another ztmon"));
}

#[test]
fn a_damaged_database_forgets_nobody() {
    let (_dir, db) = place();
    fill(&db);
    let mut writer = Writer::open(&db).unwrap();
    writer.conn.execute("UPDATE usage SET bytes = bytes + 1", []).unwrap();
    let live = live_totals(&writer);
    assert!(line(writer.forget(|_, _| true, false)).contains("is damaged"));
    assert_eq!(live_totals(&writer), live);
    assert_eq!(writer.conn.query_row("PRAGMA foreign_keys", [], |row| row.get(0)), Ok(1));
}

#[test]
fn forgotten_clients_are_other_in_reports_and_gone_from_the_counters() {
    let (_dir, db) = place();
    fill(&db);
    let before = read(&db, None, None..None);
    let mut writer = Writer::open(&db).unwrap();
    let live = live_totals(&writer);
    let which = |addr, totals: &Totals| addr == std::net::IpAddr::from([10, 0, 0, 2]) && totals.sent_bytes > 0;
    let checks_keys = |writer: &Writer| {
        assert_eq!(writer.conn.query_row("PRAGMA foreign_keys", [], |row| row.get(0)), Ok(1));
    };
    let dry = writer.forget(which, true).unwrap();
    checks_keys(&writer);
    assert_eq!(live_totals(&writer), live);
    let folded = writer.forget(which, false).unwrap();
    checks_keys(&writer);
    assert_eq!((folded, folded.addresses), (dry, 1));
    let counters: Vec<_> = live.into_iter().filter(|(end, _)| *end != client(2).end).collect();
    assert_eq!(live_totals(&writer), counters);
    assert_eq!(writer.forget(which, false).unwrap(), Forgotten::default());
    writer.shrink().unwrap();
    // It comes back as one that was never seen.
    store(&mut writer, Origin::Live, &[packet(1, 0, 5, at(0))]);
    assert_eq!(live_totals(&writer).iter().find(|(end, _)| *end == client(2).end).unwrap().1.sent_bytes, 5);
    drop(writer);
    assert_eq!(ask(&db, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
    Reader::open(&db).unwrap().check().unwrap();
    let after = read(&db, None, None..None);
    let sums = |rows: &[Kept], old: End, new: End| {
        let mut sums = std::collections::BTreeMap::<_, Counts>::new();
        for (network, bucket, row) in rows {
            let end = |end| if end == old { new } else { end };
            let key = (network.clone(), *bucket, end(row.src.end), end(row.dst.end));
            sums.entry(key).or_default().add(row.counts);
        }
        sums
    };
    let without_return: Vec<_> = after.into_iter().filter(|(.., row)| row.counts.bytes != 5).collect();
    assert_eq!(sums(&without_return, End::Other, End::Other), sums(&before, client(2).end, End::Other));
}
