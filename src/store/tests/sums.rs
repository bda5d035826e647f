//! What goes in comes out: the same sums as in plain maps, and how fast.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A transaction, kept or rolled back.
#[derive(Clone, Debug)]
struct Step {
    origin: Origin,
    rows: Vec<DeltaRow>,
    kept: bool,
}

pub fn any_row() -> impl Strategy<Value = DeltaRow> {
    let offset = 0..300_000_000_000u64;
    (0..36u32, prop_oneof![-2..2i64, 286..290i64], 0..10_000u64, 0..20u64, offset.clone(), offset).prop_map(
        |(pair, n, bytes, packets, a, b)| {
            let bucket = five_minutes(n * 300);
            let counts = Counts { bytes, packets, copies: packets / 2 };
            DeltaRow { pair, bucket, counts, first: a.min(b), last: a.max(b) }
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    let origin = prop_oneof![Just(Origin::Live), Just(Origin::Import)];
    (origin, prop::collection::vec(any_row(), 0..40), prop::bool::weighted(0.8)).prop_map(|(origin, rows, kept)| Step {
        origin,
        rows,
        kept,
    })
}

pub type Usage = BTreeMap<(Bucket, Origin, String), (Counts, Seen)>;

pub fn usage(rows: impl IntoIterator<Item = (Bucket, Origin, Row)>) -> Usage {
    let mut usage = Usage::new();
    for (bucket, origin, row) in rows {
        let (counts, seen) = usage
            .entry((bucket, origin, format!("{:?} {:?}", row.src, row.dst)))
            .or_insert((Counts::default(), row.seen));
        counts.add(row.counts);
        seen.merge(row.seen);
    }
    usage
}

pub fn totals<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Vec<(End, Totals)> {
    let mut totals = BTreeMap::<End, Totals>::new();
    for Row { src, dst, counts, seen } in rows {
        let none = Totals::none(*seen);
        let sent = Totals { sent_bytes: counts.bytes, sent_packets: counts.packets, ..none };
        let received = Totals { received_bytes: counts.bytes, received_packets: counts.packets, ..none };
        totals.entry(src.end).or_insert(none).add(&sent);
        totals.entry(dst.end).or_insert(none).add(&received);
    }
    totals.remove(&End::Beyond);
    totals.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_deltas_sum_up_as_in_a_map(steps in prop::collection::vec(any_step(), 0..8)) {
        let (_dir, db) = place();
        let directory = directory();
        let mut writer = Writer::open(&db).unwrap();
        let network = writer.network("n", "").unwrap();
        let mut sources = [Source::new(network, Origin::Live), Source::new(network, Origin::Import)];
        let mut kept = Vec::new();
        for step in &steps {
            writer.begin().unwrap();
            writer.add(&mut sources[step.origin as usize], &directory, &step.rows).unwrap();
            if step.kept {
                writer.commit().unwrap();
                kept.extend(step.rows.iter().map(|row| (row.bucket, step.origin, directory.row(row))));
            } else {
                writer.rollback().unwrap();
            }
        }
        let mut read_back = Vec::new();
        for origin in [Origin::Live, Origin::Import] {
            read_back.extend(read(&db, Some(origin), None..None).into_iter().map(|(_, b, row)| (b, origin, row)));
        }
        // Of what was captured live: each import has its own.
        let live = |rows: &[(Bucket, Origin, Row)]| {
            rows.iter().copied().filter(|(_, origin, _)| *origin == Origin::Live).collect::<Vec<_>>()
        };
        prop_assert_eq!(live(&read_back).len(), usage(live(&read_back)).len(), "a pair has one row");
        prop_assert_eq!(usage(read_back), usage(kept.iter().copied()));
        // And by days; the check compares these with the buckets as well.
        let mut by_days = Vec::new();
        for origin in [Origin::Live, Origin::Import] {
            let rows = read_cut(&db, Some(origin), None..None, by_day).unwrap();
            by_days.extend(rows.into_iter().map(|(_, day, row)| (day, origin, row)));
        }
        prop_assert_eq!(live(&by_days).len(), usage(live(&by_days)).len(), "a pair has one row");
        let days = kept.iter().map(|(bucket, origin, row)| (bucket.widened(86_400), *origin, *row));
        prop_assert_eq!(usage(by_days), usage(days));
        Reader::open(&db).unwrap().check().unwrap();
        let live = kept.iter().filter(|(_, origin, _)| *origin == Origin::Live).map(|(_, _, row)| row);
        prop_assert_eq!(live_totals(&writer), totals(live));
        drop(writer);
        for (column, end) in [("sent", "source"), ("received", "destination")] {
            let total = ask(&db, &format!("SELECT coalesce(sum({column}_bytes), 0) FROM total"));
            let view = format!("SELECT coalesce(sum(bytes), 0) FROM traffic WHERE {end} <> 'beyond'");
            prop_assert_eq!(total, ask(&db, &view));
        }
    }
}

#[test]
fn all_that_was_sent_was_received() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    // The last packet's pair came beyond the limit: it has a row for either end.
    let rows = [packet(0, 1, 7, at(0)), packet(4, 3, 50, at(1)), packet(0, 5, 900, at(2)), packet(5, 1, 900, at(2))];
    store(&mut writer, Origin::Import, &rows);
    drop(writer);
    assert_eq!(ask(&db, "SELECT sum(sent_bytes) FROM total"), 957);
    assert_eq!(ask(&db, "SELECT sum(received_bytes) FROM total"), 957);
    assert_eq!(ask(&db, "SELECT sum(bytes) FROM traffic WHERE source <> 'beyond'"), 957);
    assert_eq!(ask(&db, "SELECT sum(bytes) FROM traffic WHERE destination <> 'beyond'"), 957);
}

#[test]
fn numbers_never_wrap() {
    const MAX: u64 = i64::MAX as u64;
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let mut source = Source::new(writer.network("n", "").unwrap(), Origin::Live);
    for rows in [
        vec![packet(0, 1, MAX + 1, at(0))],
        vec![packet(0, 1, MAX, at(0)), packet(0, 1, 1, at(0))],
        vec![packet(0, 1, MAX, at(0)), packet(0, 1, MAX, at(300)), packet(0, 1, MAX, at(600))],
    ] {
        writer.begin().unwrap();
        let error = line(writer.add(&mut source, &directory(), &rows));
        assert!(error.contains("too large"), "{error}");
        writer.rollback().unwrap();
    }
    assert_eq!(read_all(&db), []);
    store(&mut writer, Origin::Live, &[packet(0, 1, MAX, at(0))]);
    writer.begin().unwrap();
    let error = line(writer.add(&mut source, &directory(), &[packet(0, 1, 1, at(300))]));
    assert!(error.contains("too large"), "{error}");
    drop(writer);
    assert_eq!(read_all(&db)[0].counts.bytes, MAX);
}
