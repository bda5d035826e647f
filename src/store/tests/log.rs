//! A log beside a database is believed only if it is its own, of its time and whole.

use twox_hash::XxHash3_64;

use super::damage::{fill, shown};
use super::*;

/// A database as a crash leaves it: sixty commits are in its log, and the frames that begin them.
fn crashed(dir: &Path) -> (PathBuf, Vec<usize>) {
    let (db, copy) = (dir.join("running.db"), dir.join("crashed.db"));
    let mut writer = Writer::open(&db).unwrap();
    let mut starts = Vec::new();
    for n in 0..60 {
        starts.push(fs::metadata(wal(&db)).unwrap().len() as usize);
        store(&mut writer, Origin::Live, &[packet(0, 1, n, at(n as i64))]);
    }
    fs::copy(&db, &copy).unwrap();
    fs::copy(wal(&db), wal(&copy)).unwrap();
    (copy, starts)
}

#[test]
fn a_log_that_was_damaged_after_a_crash_is_not_believed() {
    let (dir, _) = place();
    let (db, starts) = crashed(dir.path());
    let log = fs::read(wal(&db)).unwrap();
    let frame = 4096 + 24;
    let last_but_one = starts[58];
    for n in 0..200_u64 {
        let bit = 8 * 32 + XxHash3_64::oneshot(&n.to_le_bytes()) as usize % (8 * (last_but_one - 32));
        let mut damaged = log.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(wal(&db), damaged).unwrap();
        let error = line(Reader::open(&db));
        let where_ = format!("damaged: frame {} of", (bit / 8 - 32) / frame + 1);
        assert!(error.contains(&where_) && error.contains("ztmon db repair --db"), "{error}");
        assert_eq!(line(Writer::open(&db)), error);
    }
    // Reading it has changed nothing.
    fs::write(wal(&db), log).unwrap();
    let sound = dir.path().join("sound.db");
    assert_eq!(repair(&db, &sound).unwrap().lost, Vec::<String>::new());
    assert_eq!(shown(&db), shown(&sound));
    assert_eq!(live_totals(&Writer::open(&db).unwrap())[0].1.sent_packets, 60);
}

#[test]
fn a_log_without_its_header_is_not_believed() {
    let (dir, _) = place();
    let (db, _) = crashed(dir.path());
    let log = fs::read(wal(&db)).unwrap();
    let mut damaged: Vec<_> = (0..32).map(|at| (at, at + 1)).collect();
    damaged.extend([(0, 32), (0, 512), (0, 4096), (0, 6000)]);
    for (from, to) in damaged {
        let mut log = log.clone();
        log[from..to].iter_mut().for_each(|byte| *byte = !*byte);
        fs::write(wal(&db), log).unwrap();
        let error = line(Writer::open(&db));
        assert!(error.contains("damaged: the header of "), "{from}..{to}: {error}");
        assert_eq!(line(Reader::open(&db)), error);
        fs::remove_file(shm(&db)).ok();
    }
}

/// Each attempt writes from where the last commit ended, and what failed stays behind it.
#[test]
fn commits_that_failed_are_no_damage() {
    let (dir, _) = place();
    let (db, _) = crashed(dir.path());
    let good = fs::read(wal(&db)).unwrap();
    let longer = |commits: u32| {
        let copy = dir.path().join("longer.db");
        for (from, to) in [(db.clone(), copy.clone()), (wal(&db), wal(&copy))] {
            fs::copy(from, to).unwrap();
        }
        fs::remove_file(shm(&copy)).ok();
        let mut writer = Writer::open(&copy).unwrap();
        let mut source = Source::new(writer.network("n", "").unwrap(), Origin::Live);
        writer.begin().unwrap();
        for n in 0..commits {
            writer.add(&mut source, &directory(), &[packet(0, 1, 1, at(300 * i64::from(n)))]).unwrap();
        }
        writer.commit().unwrap();
        fs::read(wal(&copy)).unwrap()
    };
    // The longest attempt first. Of each that failed the end is left, with its commit; the last one succeeded.
    let attempts = [longer(900), longer(500), longer(5)];
    let mut log = Vec::new();
    for attempt in &attempts {
        assert!(attempt[..good.len()] == good && (log.is_empty() || log.len() > attempt.len()));
        log.resize(log.len().max(attempt.len()), 0);
        log[..attempt.len()].copy_from_slice(attempt);
    }
    assert!(attempts[1].len() > attempts[2].len());
    fs::write(wal(&db), &log).unwrap();
    assert_eq!(live_totals(&Writer::open(&db).unwrap())[0].1.sent_packets, 65);
}

#[test]
fn a_log_that_begins_anew_may_have_half_a_header() {
    let (dir, _) = place();
    let (db, _) = crashed(dir.path());
    // All of it is in the database, and the next commit begins the log anew.
    let mut writer = Writer::open(&db).unwrap();
    writer.conn.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
    let (file, log) = (fs::read(&db).unwrap(), fs::read(wal(&db)).unwrap());
    store(&mut writer, Origin::Live, &[packet(0, 1, 1, at(0))]);
    let header = fs::read(wal(&db)).unwrap()[..32].to_vec();
    drop(writer);
    assert_ne!(header, log[..32]);
    for written in 0..=32 {
        let mut log = log.clone();
        log[..written].copy_from_slice(&header[..written]);
        fs::write(&db, &file).unwrap();
        fs::write(wal(&db), log).unwrap();
        assert_eq!(live_totals(&Writer::open(&db).unwrap())[0].1.sent_packets, 60, "{written}");
    }
}

#[test]
fn a_log_of_another_time_or_another_database_is_not_believed() {
    let (dir, db) = place();
    let (crashed, _) = crashed(dir.path());
    let old = fs::read(wal(&crashed)).unwrap();
    drop(Writer::open(&crashed).unwrap());
    assert!(!wal(&crashed).exists());
    fill(&db);
    for db in [&crashed, &db] {
        let (truth, file) = (read_all(db), fs::read(db).unwrap());
        fs::write(wal(db), &old[..old.len() - 1]).unwrap();
        for error in [line(Reader::open(db)), line(Writer::open(db))] {
            // SQLite itself notices another database's, sometimes.
            let older = error.contains("its -wal is older than it is, or another database's");
            assert!(error.contains("is damaged: ") && (older || db != &crashed), "{error}");
        }
        let sound = db.with_extension("sound");
        let lost = repair(db, &sound).unwrap().lost;
        assert!(lost.len() == 1 && lost[0].contains("it is of an earlier time"), "{lost:?}");
        assert_eq!(read_all(&sound), truth);
        assert!(fs::read(db).unwrap() == file, "what is refused stays as it is");
    }
}

#[test]
fn every_commit_takes_the_database_further() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let mark = |writer: &Writer| table::Mark::read(&writer.conn).unwrap().unwrap();
    let mut before = mark(&writer);
    for (name, device) in [("n", ""), ("n", "zt0"), ("m", "zt0")] {
        writer.network(name, device).unwrap();
        let after = mark(&writer);
        assert!(after.follows(before) && after != before, "{name} {device}");
        writer.network(name, device).unwrap();
        assert_eq!(mark(&writer), after, "nothing to commit");
        before = after;
    }
    store(&mut writer, Origin::Live, &[packet(0, 1, 1, at(0))]);
    assert!(mark(&writer).follows(before) && mark(&writer) != before);
}

#[test]
fn a_log_that_is_replaced_while_it_is_written_takes_no_commit() {
    let (_dir, db) = place();
    fill(&db);
    for name in [wal, shm] {
        let mut writer = Writer::open(&db).unwrap();
        let file = name(&db);
        let kept = file.with_extension("kept");
        fs::rename(&file, &kept).unwrap();
        assert!(line(writer.begin()).contains("was deleted, moved away or replaced"));
        fs::write(&file, "").unwrap();
        assert!(line(writer.begin()).contains("was deleted, moved away or replaced"));
        fs::rename(&kept, &file).unwrap();
        store(&mut writer, Origin::Live, &[packet(0, 1, 1, at(0))]);
    }
    Reader::open(&db).unwrap().check().unwrap();
}

#[test]
fn repair_says_what_a_damaged_log_takes_along() {
    let (dir, _) = place();
    let (db, starts) = crashed(dir.path());
    let mut log = fs::read(wal(&db)).unwrap();
    log[starts[30] + 100] ^= 1;
    fs::write(wal(&db), log).unwrap();
    let sound = dir.path().join("sound.db");
    let lost = repair(&db, &sound).unwrap().lost;
    assert!(lost.len() == 1 && lost[0].starts_with("what was committed after frame "), "{lost:?}");
    assert_eq!(live_totals(&Writer::open(&sound).unwrap())[0].1.sent_packets, 30);
}

#[test]
fn a_log_whose_last_transaction_is_half_written_ends_before_it() {
    let (dir, _) = place();
    let (db, starts) = crashed(dir.path());
    let (file, log) = (fs::read(&db).unwrap(), fs::read(wal(&db)).unwrap());
    for cut in (starts[59]..log.len()).step_by(1000) {
        // Cut off there; or the rest of the room was made, and nothing written to it yet.
        for mut torn in [log[..cut].to_vec(), log.clone()] {
            torn[cut..].fill(0);
            fs::write(&db, &file).unwrap();
            fs::write(wal(&db), torn).unwrap();
            fs::remove_file(shm(&db)).ok();
            assert_eq!(live_totals(&Writer::open(&db).unwrap())[0].1.sent_packets, 59, "{cut}");
        }
    }
}
