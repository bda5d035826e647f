//! What another thread reads while the writer goes on.

use super::*;

fn bytes(snapshot: &Reader) -> u64 {
    let mut sum = 0;
    let each = |_: &str, _, row: Row| {
        sum += row.counts.bytes;
        Ok(())
    };
    snapshot.rows(Some(Origin::Live), None..None, |_| None, each).unwrap();
    sum
}

#[test]
fn a_snapshot_has_what_was_committed_when_it_was_taken() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let empty = writer.snapshot().unwrap();
    store(&mut writer, Origin::Live, &[packet(0, 1, 7, at(0))]);
    let one = writer.snapshot().unwrap();
    store(&mut writer, Origin::Live, &[packet(0, 1, 30, at(0))]);
    store(&mut writer, Origin::Import, &[packet(0, 1, 1000, at(0))]);
    writer.begin().unwrap();
    assert!(line(writer.snapshot()).contains("a transaction is open"));
    writer.rollback().unwrap();
    let all = writer.snapshot().unwrap();
    assert_eq!([&empty, &one, &all].map(bytes), [0, 7, 37]);
    let mut seen = Vec::new();
    one.first_seen(None, |network, endpoint, first| seen.push((network.to_owned(), endpoint, first))).unwrap();
    assert_eq!(seen, [("n".to_owned(), client(1), at(0)), ("n".to_owned(), client(2), at(0))]);
    // Nor does one that is dropped take the writer's locks along.
    drop((empty, one, all));
    assert!(line(Writer::open(&db)).contains("another"), "the writer still has it");
    store(&mut writer, Origin::Live, &[packet(0, 1, 100, at(0))]);
    assert_eq!(bytes(&writer.snapshot().unwrap()), 137);
}

#[test]
fn what_is_committed_between_rows_and_their_seal_is_no_damage() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let reader = writer.snapshot().unwrap();
    // From now on every look is of a moment of its own, as another process's are.
    reader.conn.execute_batch("ROLLBACK").unwrap();
    let made = std::thread::scope(|scope| {
        let making = scope.spawn(|| {
            (1..=100).for_each(|number| {
                writer.network(&format!("n{number}"), "").unwrap();
                // What `live_from` reads.
                writer.begin().unwrap();
                writer.history.live_from = Some(number);
                writer.history.write(&writer.conn).unwrap();
                writer.commit().unwrap();
            });
        });
        let mut found = 0;
        while !making.is_finished() {
            let names = reader.networks().unwrap().len();
            assert!(found <= names, "{names} after {found}");
            found = names;
            reader.live_from().unwrap();
        }
        reader.networks().unwrap().len()
    });
    assert_eq!((made, reader.live_from().unwrap()), (100, Some(at(100))));
}

#[test]
fn looks_of_one_moment_fit_together() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let network = writer.network("n", "").unwrap();
    store(&mut writer, Origin::Live, &[packet(0, 1, 7, at(0))]);
    let reader = writer.snapshot().unwrap();
    reader.conn.execute_batch("ROLLBACK").unwrap();
    let observed = || {
        let mut starts = Vec::new();
        reader.observed(|_, start, _| starts.push(start)).unwrap();
        starts
    };
    let moment = reader.moment().unwrap();
    assert_eq!(bytes(&reader), 7);
    store(&mut writer, Origin::Live, &[packet(0, 1, 30, at(300))]);
    writer.begin().unwrap();
    writer.add_observed(network, &BTreeMap::from([(300, seen(0..300, 1))])).unwrap();
    writer.commit().unwrap();
    assert_eq!((bytes(&reader), observed()), (7, vec![]), "two looks, one moment");
    drop(moment);
    assert_eq!((bytes(&reader), observed()), (37, vec![300]));
}
