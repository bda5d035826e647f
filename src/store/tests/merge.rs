//! Of several databases one: nothing twice, nothing lost, and the same as in a plain list.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::sums::{any_row, totals, usage};
use super::*;
use crate::traffic::Overlap;

/// Makes a database with live usage of the network "n", and an import for each set of files.
fn make(db: &Path, live: &[DeltaRow], sets: &[(&[u8], &[DeltaRow])]) {
    let mut writer = Writer::open(db).unwrap();
    store(&mut writer, Origin::Live, live);
    for (files, rows) in sets {
        take_in(&mut writer, files, rows);
    }
}

/// Imports files that are told apart by a number, with these rows in all.
fn take_in(writer: &mut Writer, files: &[u8], rows: &[DeltaRow]) {
    let mut source = Source::new(writer.network("n", "").unwrap(), Origin::Import);
    writer.begin().unwrap();
    writer.add(&mut source, &directory(), rows).unwrap();
    for file in files {
        let name = format!("{file}.pcap");
        let import =
            Import { sha256: [*file; 32], name, size: 9, imported_at: at(1_700_000_000), frames: 3, seen: None };
        writer.record_import(&import).unwrap();
    }
    writer.commit().unwrap();
}

/// Merges databases and checks what came out.
fn merged(dir: &Path, databases: &[&Path]) -> (PathBuf, Merged) {
    merged_by(dir, databases, None)
}

fn merged_by(dir: &Path, databases: &[&Path], overlap: Option<Overlap>) -> (PathBuf, Merged) {
    let into = dir.join("merged.db");
    let databases: Vec<_> = databases.iter().map(|path| path.to_path_buf()).collect();
    let merged = merge(&databases, &into, overlap).unwrap();
    Reader::open(&into).unwrap().check().unwrap();
    (into, merged)
}

/// Bytes by the start of their bucket.
fn bytes(db: &Path, origin: Origin) -> Vec<(i64, u32, u64)> {
    let mut sums = BTreeMap::new();
    for (_, span, row) in read(db, Some(origin), None..None) {
        *sums.entry((span.start, span.seconds)).or_insert(0) += row.counts.bytes;
    }
    sums.into_iter().map(|((start, seconds), bytes)| (start, seconds, bytes)).collect()
}

fn two() -> (TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.db"), dir.path().join("b.db"));
    (dir, a, b)
}

/// So many packets of a byte.
fn packets(src: u32, dst: u32, count: u64, time: i64) -> DeltaRow {
    DeltaRow { counts: Counts { bytes: count, packets: count, copies: 0 }, ..packet(src, dst, 1, at(time)) }
}

fn hour(row: DeltaRow) -> DeltaRow {
    row.widened(3600)
}

#[test]
fn each_bucket_comes_from_who_saw_more_of_it() {
    let (dir, a, b) = two();
    make(&a, &[packets(0, 1, 5, 0), packets(0, 1, 3, 300), packets(0, 1, 2, 900)], &[]);
    make(&b, &[packets(3, 1, 4, 0), packets(3, 1, 1, 10), packets(3, 1, 7, 300), packets(3, 1, 2, 600)], &[]);
    let (into, merged) = merged(dir.path(), &[&a, &b]);
    // The first bucket is as full in both: the first database's.
    assert_eq!(bytes(&into, Origin::Live), [(0, 300, 5), (300, 300, 7), (600, 300, 2), (900, 300, 2)]);
    let parts: Vec<_> = merged.parts.iter().map(|part| (part.live, part.seen_better)).collect();
    assert_eq!((parts, merged.left_out.len()), (vec![(2, 1), (2, 1)], 0));
    let (sent, received) = (live_totals(&Writer::open(&into).unwrap())[0].1, 16);
    assert_eq!((sent.sent_bytes, sent.seen), (7, Seen { first: at(0), last: at(900) }));
    assert_eq!(ask(&into, "SELECT sum(received_bytes) FROM total"), received);
    // Merged with one of its parts it stays as it is.
    let again = dir.path().join("again.db");
    merge(&[into.clone(), b], &again, None).unwrap();
    assert_eq!(read_all(&again), read_all(&into));
}

#[test]
fn buckets_of_different_length_are_compared_over_the_longer() {
    let (dir, a, b) = two();
    make(&a, &[packets(0, 1, 5, 0), packets(0, 1, 5, 3300), packets(0, 1, 5, 7200)], &[]);
    make(&b, &[hour(packets(0, 1, 9, 600)), hour(packets(0, 1, 6, 7800)), hour(packets(0, 1, 1, 90_000))], &[]);
    let (into, _) = merged(dir.path(), &[&a, &b]);
    assert_eq!(bytes(&into, Origin::Live), [(0, 300, 5), (3300, 300, 5), (7200, 3600, 6), (90_000, 3600, 1)]);
}

#[test]
fn an_import_counts_once_whichever_have_it() {
    let (dir, a, b) = two();
    let (x, y, z) = (packets(0, 1, 1, 0), packets(0, 1, 20, 1), packets(1, 0, 300, 2));
    make(&a, &[], &[(&[1], &[x]), (&[2], &[y])]);
    make(&b, &[packets(0, 1, 4000, 5)], &[(&[3], &[z]), (&[1], &[x])]);
    let (into, merged) = merged_by(dir.path(), &[&a, &b], Some(Overlap::Add));
    assert_eq!(bytes(&into, Origin::Import), [(0, 300, 321)]);
    assert_eq!(bytes(&into, Origin::Live), [(0, 300, 4000)]);
    let parts: Vec<_> = merged.parts.iter().map(|part| (part.imports, part.imported_twice)).collect();
    assert_eq!((parts, merged.left_out.len()), (vec![(2, 0), (1, 1)], 0));
    let writer = Writer::open(&into).unwrap();
    assert!((1..4).all(|file| writer.imported(&[file; 32]).unwrap().is_some()));
}

#[test]
fn files_imported_together_count_together() {
    let (dir, a, b) = two();
    let (x, y, z) = (packets(0, 1, 1, 0), packets(0, 1, 20, 1), packets(1, 0, 300, 2));
    make(&a, &[], &[(&[1], &[x]), (&[4], &[packets(0, 1, 5000, 3)])]);
    make(&b, &[], &[(&[1, 2], &[x, y])]);
    let (into, merged) = merged(dir.path(), &[&a, &b]);
    assert_eq!((bytes(&into, Origin::Import), merged.left_out.len()), (vec![(0, 300, 5021)], 0));
    // Here none holds the other.
    let (c, beside) = (dir.path().join("c.db"), dir.path().join("beside.db"));
    make(&c, &[], &[(&[2, 3], &[y, z])]);
    let merged = merge(&[b, c], &beside, None).unwrap();
    assert_eq!(bytes(&beside, Origin::Import), [(0, 300, 320)]);
    assert_eq!(merged.left_out.len(), 1);
    assert!(merged.left_out[0].contains("b.db: 1.pcap: imported together with 2.pcap"), "{:?}", merged.left_out);
    // What was left out can be imported.
    assert_eq!(Writer::open(&beside).unwrap().imported(&[1; 32]).unwrap(), None);
}

#[test]
fn networks_with_one_device_stay_apart() {
    let (dir, a, b) = two();
    for (db, name) in [(&a, "8056c2e21c000001"), (&b, "8056c2e21c000002")] {
        let mut writer = Writer::open(db).unwrap();
        let mut source = Source::new(writer.network(name, "eth1").unwrap(), Origin::Live);
        writer.begin().unwrap();
        writer.add(&mut source, &directory(), &[packets(0, 1, 3, 0)]).unwrap();
        writer.commit().unwrap();
    }
    let (into, _) = merged(dir.path(), &[&a, &b]);
    assert_eq!(bytes(&into, Origin::Live), [(0, 300, 6)]);
    assert_eq!(ask(&into, "SELECT count(*) FROM network WHERE (device = 'eth1') = (name LIKE '%1')"), 2);
}

/// What a database has in totals and usage of imports, sent and received: bytes, and its first and last second.
fn imported(db: &Path) -> [i64; 4] {
    ["sum(sent_bytes)", "sum(received_bytes)", "min(first_seen)", "max(last_seen)"]
        .map(|of| ask(db, &format!("SELECT COALESCE({of}, -1) FROM total WHERE origin = 1")))
}

#[test]
fn an_import_of_what_another_has_live_is_refused_or_left_out_or_added() {
    let (dir, a, b) = two();
    make(&a, &[packets(0, 1, 5, 0), packets(0, 1, 5, 300)], &[]);
    let import = [packets(0, 1, 10, 7), packets(2, 1, 20, 400), packets(0, 1, 40, 600), packets(1, 0, 80, 900)];
    make(&b, &[packets(0, 1, 1, 900)], &[(&[1], &import)]);
    let refused = line(merge(&[a.clone(), b.clone()], &dir.path().join("refused.db"), None));
    let (a_name, b_name) = (a.display(), b.display());
    assert_eq!(
        refused,
        format!(
            "{a_name} has 1970-01-01T00:00:00Z to 1970-01-01T00:10:00Z of network n captured live, and imports of \
             {b_name} may hold the same packets: --overlap skip leaves out what is of such times, --overlap add counts \
             it all the same"
        )
    );
    assert!(!dir.path().join("refused.db").exists());
    // What b itself has both of stays.
    for (databases, by) in [([&a, &b], 1), ([&b, &a], 0)] {
        let (into, merged) = merged_by(dir.path(), &databases.map(|db| db.as_path()), Some(Overlap::Skip));
        assert_eq!(bytes(&into, Origin::Import), [(600, 300, 40), (900, 300, 80)]);
        assert_eq!(bytes(&into, Origin::Live), [(0, 300, 5), (300, 300, 5), (900, 300, 1)]);
        let left_out: Vec<_> = merged.parts.iter().map(|part| part.live_elsewhere).collect();
        assert_eq!(left_out[by], Counts { bytes: 30, packets: 30, copies: 0 });
        assert_eq!((left_out[1 - by], merged.left_out.len()), (Counts::default(), 0));
        assert_eq!(imported(&into), [120, 120, 600, 900]);
        // The file is known all the same.
        assert!(Writer::open(&into).unwrap().imported(&[1; 32]).unwrap().is_some());
        fs::remove_file(into).unwrap();
    }
    let (into, merged) = merged_by(dir.path(), &[&a, &b], Some(Overlap::Add));
    assert_eq!((imported(&into), merged.parts[1].live_elsewhere), ([150, 150, 7, 900], Counts::default()));
    // That was wanted: with one of its parts it stays as it is, whether that has the import or the live usage.
    for (number, databases) in [[&into, &a], [&a, &into], [&into, &b], [&b, &into]].into_iter().enumerate() {
        let again = dir.path().join(format!("{number}.db"));
        merge(&databases.map(Clone::clone), &again, None).unwrap();
        assert_eq!(read_all(&again), read_all(&into));
    }
}

#[test]
fn imports_overlap_hours_and_what_was_watched_in_silence_and_without_a_network_all() {
    let (dir, a, _) = two();
    make(&a, &[hour(packets(0, 1, 5, 0)), packets(0, 1, 5, 7200)], &[]);
    let mut writer = Writer::open(&a).unwrap();
    let network = writer.network("n", "").unwrap();
    writer.begin().unwrap();
    writer.add_observed(network, [(&10_800, &seen(0..300, 1))]).unwrap();
    writer.commit().unwrap();
    drop(writer);
    // Five minutes in a live hour; an hour with five live minutes; a time in which nothing moved; and one that is free.
    let import =
        [packets(0, 1, 1, 3300), hour(packets(0, 1, 2, 7200)), packets(0, 1, 4, 10_800), packets(0, 1, 8, 3600)];
    for (name, left) in [("n", 8), ("", 8), ("m", 15)] {
        let db = dir.path().join(format!("{name}.db"));
        let mut writer = Writer::open(&db).unwrap();
        let mut source = Source::new(writer.network(name, "").unwrap(), Origin::Import);
        writer.begin().unwrap();
        writer.add(&mut source, &directory(), &import).unwrap();
        writer.commit().unwrap();
        drop(writer);
        let (into, _) = merged_by(dir.path(), &[&db, &a], Some(Overlap::Skip));
        assert_eq!(imported(&into)[..2], [left, left], "{name}");
        fs::remove_file(&into).unwrap();
        let refused = merge(&[db, a.clone()], &into, None);
        assert_eq!(refused.is_err(), left == 8);
        if name.is_empty() {
            assert!(line(refused).contains("may hold the same packets (nothing says which network they are of): "));
        }
    }
}

/// Imports of before they were told apart: by days they are.
#[test]
fn imports_of_the_past_are_told_apart_by_days() {
    const DAY: i64 = 86_400;
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    // The second and third share a day, and the fifth has no packets.
    for (file, first, last) in
        [(1, 10, 20), (2, DAY, 2 * DAY), (3, 2 * DAY + 307, 2 * DAY + 308), (4, 3 * DAY, 3 * DAY)]
    {
        let mut source = Source::new(writer.network("n", "").unwrap(), Origin::Import);
        writer.begin().unwrap();
        let rows = [packet(0, 1, 1, at(first)), packet(0, 1, 1, at(last))];
        writer.add(&mut source, &directory(), &rows).unwrap();
        let seen = Some(Seen { first: at(first), last: at(last) });
        let import = Import { sha256: [file; 32], name: String::new(), size: 1, imported_at: at(0), frames: 2, seen };
        writer.record_import(&import).unwrap();
        writer.commit().unwrap();
    }
    take_in(&mut writer, &[5], &[]);
    drop(writer);
    super::days::make_version_2(&db);
    drop(Writer::open(&db).unwrap());
    Reader::open(&db).unwrap().check().unwrap();
    let text = |sql: &str| -> String {
        Connection::open(db.canonicalize().unwrap()).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(text("SELECT group_concat(origin, ' ') FROM (SELECT origin FROM import ORDER BY id)"), "1 2 2 3 1");
    let starts = "SELECT group_concat(start || ':' || origin, ' ') FROM (SELECT * FROM bucket ORDER BY start)";
    assert_eq!(text(starts), "0:1 86400:2 172800:2 173100:2 259200:3");
    assert_eq!(text(&starts.replace("bucket", "day")), "0:1 86400:2 172800:2 259200:3");
}

/// Of what is too old only totals are left.
#[test]
fn totals_keep_what_is_no_longer_in_the_usage() {
    let without_usage = |db: &Path, sql: &str| {
        let conn = Connection::open(db.canonicalize().unwrap()).unwrap();
        conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        conn.execute_batch(sql).unwrap();
        migrate::seal(&conn).unwrap();
    };
    let old = "DELETE FROM usage WHERE bucket = 1; DELETE FROM bucket WHERE id = 1;
               DELETE FROM day_usage WHERE day = 1; DELETE FROM day WHERE id = 1;
               UPDATE history SET live_from = 86400";
    let (later, first) = (86_400, [packets(0, 1, 100, 0), packets(0, 1, 5, 86_400)]);
    let sent = |db: &Path| live_totals(&Writer::open(db).unwrap())[0].1.sent_bytes;
    for (of_b, want) in [
        // Another time: both have a past.
        (packets(0, 1, 7, 10 * later), 112),
        // The other has some of the same time, and may have seen the same.
        (packets(0, 1, 70, 600), 105),
        (packets(0, 1, 170, 600), 175),
    ] {
        let (dir, a, b) = two();
        make(&a, &first, &[]);
        without_usage(&a, old);
        make(&b, &[of_b], &[]);
        let (into, _) = merged(dir.path(), &[&a, &b]);
        assert_eq!((sent(&a), sent(&into)), (105, want));
        assert_eq!(ask(&into, "SELECT live_from FROM history"), 86_400);
    }
    // Two that know only totals of the same time: the larger counts.
    let (dir, a, b) = two();
    for (db, more) in [(&a, 1), (&b, 30)] {
        make(db, &[packets(0, 1, 100 + more, 0), packets(0, 1, 5, later)], &[]);
        without_usage(db, old);
    }
    let (into, _) = merged(dir.path(), &[&a, &b]);
    assert_eq!(sent(&into), 135);
}

#[test]
fn ages_stay_as_they_were() {
    let (dir, a, b) = two();
    for (db, clock) in [(&a, 1000), (&b, 5000)] {
        make(db, &[packets(0, 1, 1, clock * 300)], &[]);
        let conn = Connection::open(db.canonicalize().unwrap()).unwrap();
        conn.execute_batch(&format!("UPDATE history SET clock = {clock}; UPDATE bucket SET written = {clock} - 7"))
            .unwrap();
        migrate::seal(&conn).unwrap();
    }
    let (into, _) = merged(dir.path(), &[&a, &b]);
    assert_eq!(ask(&into, "SELECT clock FROM history"), 5000);
    for table in ["bucket", "day"] {
        assert_eq!(ask(&into, &format!("SELECT count(*) FROM {table} WHERE written = 4993")), 2);
    }
}

#[test]
fn what_cannot_be_merged_leaves_nothing() {
    let (dir, a, b) = two();
    make(&a, &[packets(0, 1, 1, 0)], &[]);
    make(&b, &[packets(0, 1, 1, 0)], &[]);
    let before = fs::read(&a).unwrap();
    let linked = dir.path().join("linked.db");
    std::os::unix::fs::symlink(&a, &linked).unwrap();
    let into = dir.path().join("into.db");
    let refused =
        |paths: &[&PathBuf]| line(merge(&paths.iter().map(|path| path.to_path_buf()).collect::<Vec<_>>(), &into, None));
    assert!(refused(&[&a, &linked]).contains("is given twice"));
    assert!(refused(&[&a, &dir.path().join("none.db")]).contains("there is no"));
    let conn = Connection::open(b.canonicalize().unwrap()).unwrap();
    conn.execute("UPDATE usage SET bytes = bytes + 1", []).unwrap();
    drop(conn);
    let damaged = refused(&[&a, &b]);
    assert!(damaged.contains("b.db is damaged: the usage from 1970-01-01T00:00:00Z"), "{damaged}");
    assert!(line(merge(&[a.clone(), b], &a, None)).contains("is there already"));
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left.iter().filter(|path| path.extension().is_none_or(|of| of == "db")).count(), 3, "{left:?}");
    assert_eq!(fs::read(&a).unwrap(), before);
}

#[test]
fn what_a_kill_has_left_is_taken_over_and_nothing_else() {
    use super::fresh::Fresh;
    let (dir, a, b) = two();
    [&a, &b].iter().for_each(|db| make(db, &[packets(0, 1, 1, 0)], &[]));
    let into = dir.path().join("into.db");
    let (left, strange) = (dir.path().join("into.db.unfinished"), "strange.txt");
    fs::create_dir(&left).unwrap();
    ["new.db", "new.db-wal", "damaged.db", strange].iter().for_each(|name| fs::write(left.join(name), "?").unwrap());
    let other = Fresh::new(&into).unwrap();
    let merge = || merge(&[a.clone(), b.clone()], &into, None);
    assert!(line(merge()).starts_with("another ztmon is writing "));
    drop(other);
    merge().unwrap();
    let stays: Vec<_> = fs::read_dir(&left).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(stays, [strange]);
    fs::remove_file(&into).unwrap();
    fs::remove_dir_all(&left).unwrap();
    std::os::unix::fs::symlink(dir.path(), &left).unwrap();
    assert!(line(merge()).contains("into.db.unfinished is in the way: "));
    fs::remove_file(&left).unwrap();
    merge().unwrap();
    assert!(!left.exists());
}

/// One of the databases: live usage of two networks, some of it by the hour, and which files it has imported.
#[derive(Clone, Debug)]
struct Made {
    live: Vec<(bool, DeltaRow)>,
    files: Vec<usize>,
}

fn any_made() -> impl Strategy<Value = Made> {
    let row = (prop::bool::ANY, any_row(), prop::bool::weighted(0.2))
        .prop_map(|(network, row, long)| (network, if long { hour(row) } else { row }));
    let files = prop::sample::subsequence(vec![0, 1, 2, 3], 0..4);
    (prop::collection::vec(row, 0..30), files).prop_map(|(live, files)| Made { live, files })
}

/// Whether a database has live usage of the imports' network in a time.
fn is_live(made: &Made, span: Bucket) -> bool {
    let overlaps = |row: &DeltaRow| row.bucket.start < span.end() && span.start < row.bucket.end();
    made.live.iter().any(|(network, row)| !network && overlaps(row))
}

/// What is to come out, told without the store.
fn expected(made: &[Made], files: &[Vec<DeltaRow>], overlap: Overlap) -> Vec<(Bucket, Origin, String, Row)> {
    let directory = directory();
    let mut kept = Vec::new();
    for network in [false, true] {
        let of = |database: &Made| -> Vec<DeltaRow> {
            database.live.iter().filter(|(of, _)| *of == network).map(|(_, row)| *row).collect()
        };
        let by_database: Vec<_> = made.iter().map(of).collect();
        let rows = || by_database.iter().flatten();
        let in_hours: Vec<_> = rows().map(|row| row.bucket).filter(|span| span.seconds == 3600).collect();
        let widest = |span: Bucket| if in_hours.contains(&span.widened(3600)) { span.widened(3600) } else { span };
        let mut contests: Vec<_> = rows().map(|row| widest(row.bucket)).collect();
        contests.sort_unstable();
        contests.dedup();
        for contest in contests {
            let within = |rows: &[DeltaRow]| -> Vec<DeltaRow> {
                rows.iter().filter(|row| widest(row.bucket) == contest).copied().collect()
            };
            let packets = |rows: &[DeltaRow]| -> i64 {
                let counted = rows.iter().filter(|row| directory.pair(row.pair).0.end != End::Beyond);
                counted.map(|row| row.counts.packets as i64).sum()
            };
            let candidates = by_database.iter().map(|rows| within(rows)).filter(|rows| !rows.is_empty());
            // Of equals the first.
            let best = candidates.reduce(|best, next| if packets(&next) > packets(&best) { next } else { best });
            let name = if network { "m" } else { "n" };
            let best = best.into_iter().flatten();
            kept.extend(best.map(|row| (row.bucket, Origin::Live, name.to_owned(), directory.row(&row))));
        }
    }
    for (file, rows) in files.iter().enumerate() {
        let have_it: Vec<_> = made.iter().filter(|database| database.files.contains(&file)).collect();
        if !have_it.is_empty() {
            let counts = |row: &&DeltaRow| {
                let is_wanted = have_it.iter().any(|database| is_live(database, row.bucket));
                overlap == Overlap::Add || is_wanted || !made.iter().any(|database| is_live(database, row.bucket))
            };
            kept.extend(
                rows.iter().filter(counts).map(|row| (row.bucket, Origin::Import, "n".to_owned(), directory.row(row))),
            );
        }
    }
    kept
}

/// A cut that no hour has in it.
fn in_every_day(second: i64) -> Option<i64> {
    Some((second - 3600).div_euclid(86_400) * 86_400 + 90_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_databases_merge_as_in_a_list(
        made in prop::collection::vec(any_made(), 2..4),
        files in prop::collection::vec(prop::collection::vec(any_row(), 0..8), 4..=4),
        overlap in prop::sample::select(vec![Overlap::Skip, Overlap::Add]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (at, database) in made.iter().enumerate() {
            let db = dir.path().join(format!("{at}.db"));
            let mut writer = Writer::open(&db).unwrap();
            for (network, name) in [(false, "n"), (true, "m")] {
                let mut source = Source::new(writer.network(name, "").unwrap(), Origin::Live);
                let rows: Vec<_> = database.live.iter().filter(|(of, _)| *of == network).map(|(_, row)| *row).collect();
                writer.begin().unwrap();
                writer.add(&mut source, &directory(), &rows).unwrap();
                writer.commit().unwrap();
            }
            for file in &database.files {
                take_in(&mut writer, &[*file as u8], &files[*file]);
            }
            paths.push(db);
        }
        let into = dir.path().join("merged.db");
        prop_assert_eq!(merge(&paths, &into, Some(overlap)).unwrap().left_out, Vec::<String>::new());
        Reader::open(&into).unwrap().check().unwrap();
        let want = expected(&made, &files, overlap);
        let refused = merge(&paths, &dir.path().join("refused.db"), None).is_err();
        prop_assert_eq!(refused, expected(&made, &files, Overlap::Skip).len() < expected(&made, &files, Overlap::Add).len());
        for network in ["n", "m"] {
            let mut found = Vec::new();
            for origin in [Origin::Live, Origin::Import] {
                let rows = read_cut(&into, Some(origin), None..None, in_every_day).unwrap().into_iter().filter(|(of, ..)| of == network);
                found.extend(rows.map(|(_, span, row)| (span, origin, row)));
            }
            let want = want.iter().filter(|(.., of, _)| of == network).map(|(span, origin, _, row)| (*span, *origin, *row));
            prop_assert_eq!(usage(found), usage(want));
        }
        let live: Vec<_> = want.iter().filter(|(_, origin, ..)| *origin == Origin::Live).map(|(.., row)| row).collect();
        let mut sums = BTreeMap::<End, Totals>::new();
        for (end, more) in live_totals(&Writer::open(&into).unwrap()) {
            sums.entry(end).and_modify(|sum| sum.add(&more)).or_insert(more);
        }
        prop_assert_eq!(sums.into_iter().collect::<Vec<_>>(), totals(live));
        let imported = |(_, origin, _, row): &&(Bucket, Origin, String, Row)| {
            *origin == Origin::Import && row.src.end != End::Beyond
        };
        let bytes: u64 = want.iter().filter(imported).map(|(.., row)| row.counts.bytes).sum();
        let sent = "SELECT COALESCE(sum(sent_bytes), 0) FROM total WHERE origin = 1";
        prop_assert_eq!(ask(&into, sent), bytes as i64);
    }
}
