//! The beginning of the log goes: what stays readable, and what every crash in the middle leaves.
#![allow(clippy::unwrap_used)]

mod log_support;

use log_support::*;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use tidegate_queue::log::{CommitLog, LogOptions, LogReader, OpenError, ReadError, salvage, verify};
use tidegate_queue::storage::{FaultyCall, FaultyStorage, PowerLoss, is_no_space};
use tidegate_queue::{AppendError, Durability, Position, Space};

/// A log of records 0 to `count`, and the positions of all of them.
fn log_of(storage: &Arc<FaultyStorage>, count: u64) -> (CommitLog, Vec<Position>) {
    let log = open(storage.as_storage()).unwrap();
    for number in 0..count {
        append_durably(&log, &[number]).unwrap();
    }
    let positions = log.scan(log.start()).map(|record| record.unwrap().position()).collect();
    (log, positions)
}

fn segments(dir: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(dir.join("commitlog")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut bases: Vec<_> = names.filter_map(|name| name.parse().ok()).collect();
    bases.sort_unstable();
    bases
}

#[test]
fn whole_segments_below_the_position_go_and_the_start_moves() {
    let (dir, storage) = faulty();
    let (log, positions) = log_of(&storage, 60);
    assert_eq!(log.start(), log.recovered().start);
    let kept = positions[40];
    assert_eq!(log.remove_below(Position(SEGMENT - 8)).unwrap(), 0, "a segment that reaches above it stays");
    assert_eq!(log.remove_below(Position(SEGMENT)).unwrap(), 1);
    assert_eq!(log.start(), Position(SEGMENT + 64));
    let gone = kept.0 / SEGMENT - 1;
    assert_eq!(log.remove_below(kept).unwrap() as u64, gone);
    assert_eq!(log.start(), Position(kept.0 / SEGMENT * SEGMENT + 64));
    assert_eq!(log.remove_below(kept).unwrap(), 0);
    assert_eq!(log.remove_below(Position(0)).unwrap(), 0);
    assert_eq!(segments(dir.path())[0], kept.0 / SEGMENT * SEGMENT);
    // What is left is all there, to be read from any place, and goes on.
    let first = 60 - numbers(&log).len() as u64;
    assert!(numbers(&log).into_iter().eq(first..60) && first > 30 && first <= 40);
    let removed = ReadError::Removed { position: positions[3], start: log.start() };
    assert_eq!(log.read(positions[3]).unwrap_err(), removed);
    assert_eq!(log.scan(positions[3]).next().unwrap().unwrap_err(), removed);
    let visited = log.visit(positions[3], &mut |_| panic!("nothing is there"));
    assert_eq!(visited, Err(removed));
    append_durably(&log, &[60]).unwrap();
    log.close().unwrap();
    drop(log);
    let report = verify(dir.path()).unwrap();
    assert!(report.is_sound() && report.clean && report.leftovers == 0, "{report}");
    assert_eq!(report.start.0, kept.0 / SEGMENT * SEGMENT + 64, "{report}");
    let reader = LogReader::open(dir.path()).unwrap();
    assert_eq!(reader.records().count() as u64, 61 - first);
    drop(reader);
    assert_eq!(salvage(dir.path()).unwrap(), []);
    let log = open_dir(dir.path()).unwrap();
    assert!(numbers(&log).into_iter().eq(first..=60));
}

#[test]
fn the_segment_that_is_written_stays() {
    let (dir, storage) = faulty();
    let (log, positions) = log_of(&storage, 30);
    log.remove_below(Position(u64::MAX)).unwrap();
    assert_eq!(log.start().0 / SEGMENT, positions[29].0 / SEGMENT);
    assert!(numbers(&log).ends_with(&[29]));
    for number in 30..60 {
        append_durably(&log, &[number]).unwrap();
        log.remove_below(Position(u64::MAX)).unwrap();
        assert!(segments(dir.path()).len() <= 4);
        assert!(numbers(&log).ends_with(&[number]));
    }
    storage.power_loss(1, PowerLoss::Everything);
    drop(log);
    let log = open(storage.as_storage()).unwrap();
    assert!(numbers(&log).ends_with(&[59]));
}

#[test]
fn what_is_not_on_disk_yet_stays() {
    let (_dir, storage) = faulty();
    let options = LogOptions { flush: Durability::Async { interval_ms: 1 }, ..options() };
    let log = CommitLog::open(storage.as_storage(), &options).unwrap();
    storage.hold_syncs_of("commitlog/0");
    let mut next = 0;
    while log.end().0 < 2 * SEGMENT {
        // Preparing a segment waits for a sync as well.
        match try_append(&log, Space::New, &[next]) {
            Ok(end) => {
                log.wait_durable(end).unwrap();
                next += 1;
            }
            Err(AppendError::Busy) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(log.remove_below(log.durable()).unwrap(), 0);
    assert!(numbers(&log).into_iter().eq(0..next));
    storage.release_syncs();
}

#[test]
fn fm32_a_reader_in_a_removed_segment_goes_on() {
    let (dir, storage) = faulty();
    let (log, positions) = log_of(&storage, 60);
    let mut scan = log.scan(log.start());
    let first = scan.next().unwrap().unwrap();
    let bytes = first.body();
    assert!(log.remove_below(positions[50]).unwrap() > 3);
    assert!(!segments(dir.path()).contains(&0));
    // The record that is held, the rest of the segment, and then a clear end.
    assert_eq!((&bytes[..], first.view().body), (&body(0)[..], &body(0)[..]));
    let mut read = 1;
    let error = loop {
        match scan.next().unwrap() {
            Ok(record) => {
                assert_eq!(record.view().body, body(read));
                read += 1;
            }
            Err(error) => break error,
        }
    };
    assert!(read > 3 && read < 50, "{read}");
    assert_eq!(error, ReadError::Removed { position: Position(SEGMENT), start: log.start() });
    assert!(scan.next().is_none());
    // Maps of removed files stay readable when the space is used again.
    for number in 60..120 {
        append_durably(&log, &[number]).unwrap();
    }
    assert_eq!(bytes, body(0));
}

#[test]
fn readers_and_appends_go_on_while_segments_go() {
    let (_dir, storage) = faulty();
    let log = Arc::new(open(storage.as_storage()).unwrap());
    append_durably(&log, &[0]).unwrap();
    let reader = {
        let log = Arc::clone(&log);
        std::thread::spawn(move || {
            let (mut last, mut from) = (0, log.start());
            while last < 1500 {
                for record in log.scan(from) {
                    match record {
                        Ok(record) => {
                            let number = u64::from_le_bytes(record.view().body[..8].try_into().unwrap());
                            assert!(number >= last, "{number} after {last}");
                            assert_eq!(record.view().body, body(number));
                            (last, from) = (number, record.position());
                        }
                        Err(ReadError::Removed { start, .. }) => from = start,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        })
    };
    let mut removed = 0;
    for number in 1..=1500 {
        append_durably(&log, &[number]).unwrap();
        if number % 7 == 0 {
            removed += log.remove_below(log.durable()).unwrap();
        }
    }
    reader.join().unwrap();
    assert!(removed > 100, "{removed}");
}

#[test]
fn crash_at_every_call_of_a_removal_keeps_what_is_above() {
    let source = tempfile::tempdir().unwrap();
    let (log, positions) = log_of(&FaultyStorage::new(source.path()), 60);
    drop(log);
    let kept = positions[40];
    let mut leftovers = 0;
    for at in 1.. {
        let mut completed = true;
        for loss in power_losses().into_iter().take(3).map(Some).chain([None]) {
            for second in (1 + at % 2..12).step_by(2) {
                let dir = tempfile::tempdir().unwrap();
                copy_dir(source.path(), dir.path());
                let storage = FaultyStorage::new(dir.path());
                let log = open(storage.as_storage()).unwrap();
                wait_for_segments(dir.path(), segments(source.path()).len());
                storage.kill_at_call(at);
                completed &= log.remove_below(kept).is_ok();
                match loss {
                    None => storage.kill(),
                    Some((seed, mode)) => storage.power_loss(seed + at, mode),
                }
                drop(log);
                leftovers += verify(dir.path()).unwrap().leftovers;
                // The start that repairs it is killed as well.
                storage.kill_at_call(second);
                drop(open(storage.as_storage()));
                storage.power_loss(second, loss.map_or(PowerLoss::Everything, |(_, mode)| mode));
                for _ in 0..2 {
                    let log = open(storage.as_storage())
                        .unwrap_or_else(|error| panic!("call {at}, {loss:?}, then {second}: {error}"));
                    let seen = numbers(&log);
                    let first = 60 - seen.len() as u64;
                    assert!(seen.into_iter().eq(first..60) && first <= 40, "call {at}, {loss:?}: {first}");
                    assert!(log.start() <= kept);
                    let below = segments(dir.path()).into_iter().filter(|base| base + 64 < log.start().0);
                    assert_eq!(below.count(), 0, "call {at}, {loss:?}");
                }
            }
        }
        if completed {
            assert!(at > 7, "{at}");
            break;
        }
    }
    assert!(leftovers > 0);
}

#[test]
fn a_failed_removal_is_repeated_by_the_next_one() {
    for (call, prefix) in [(FaultyCall::Remove, "commitlog/0"), (FaultyCall::SyncDir, "commitlog")] {
        let (dir, storage) = faulty();
        let (log, positions) = log_of(&storage, 60);
        wait_for_segments(dir.path(), positions[59].0 as usize / SEGMENT as usize + 2);
        storage.fail(call, prefix, 2 - u64::from(call == FaultyCall::SyncDir), ErrorKind::Other);
        log.remove_below(positions[40]).unwrap_err();
        let first = 60 - numbers(&log).len() as u64;
        append_durably(&log, &[60]).unwrap();
        log.remove_below(positions[40]).unwrap();
        assert_eq!(segments(dir.path())[0] + 64, log.start().0, "{call:?}");
        assert!(numbers(&log).into_iter().eq(first..=60), "{call:?}");
        log.close().unwrap();
    }
}

#[test]
fn a_checkpoint_that_fails_removes_nothing() {
    let (dir, storage) = faulty();
    let (log, positions) = log_of(&storage, 60);
    storage.fail(FaultyCall::Write, "checkpoint", 1, ErrorKind::StorageFull);
    assert!(is_no_space(&log.remove_below(positions[40]).unwrap_err()));
    assert_eq!((segments(dir.path())[0], numbers(&log).len()), (0, 60));
    storage.fail(FaultyCall::Sync, "checkpoint", 2, ErrorKind::Other);
    log.remove_below(positions[40]).unwrap_err();
    assert_eq!((segments(dir.path())[0], numbers(&log).len()), (0, 60));
    assert_eq!(append_durably(&log, &[60]), Err(AppendError::Poisoned));
    assert!(log.remove_below(positions[40]).is_err());
    storage.power_loss(0, PowerLoss::Everything);
    drop(log);
    let seen = numbers(&open(storage.as_storage()).unwrap());
    assert!(seen.len() == 60 || seen.len() < 30, "either start is a whole log: {seen:?}");
}

#[test]
fn a_closed_log_removes_nothing() {
    let (dir, storage) = faulty();
    let (log, positions) = log_of(&storage, 60);
    log.close().unwrap();
    assert!(log.remove_below(positions[40]).is_err());
    assert_eq!(segments(dir.path())[0], 0);
}

#[test]
fn the_first_kept_segment_missing_is_corruption_whatever_is_left_over() {
    let (dir, storage) = faulty();
    let (log, positions) = log_of(&storage, 60);
    storage.fail(FaultyCall::Remove, "commitlog/0", 1, ErrorKind::Other);
    log.remove_below(positions[40]).unwrap_err();
    let base = log.start().0 - 64;
    log.close().unwrap();
    drop(log);
    let report = verify(dir.path()).unwrap();
    assert!(report.is_sound() && report.leftovers as u64 == base / SEGMENT, "{report}");
    let missing = dir.path().join(format!("commitlog/{base:020}"));
    std::fs::remove_file(&missing).unwrap();
    let before = segments(dir.path());
    match open(storage.as_storage()) {
        Err(OpenError::Corrupt { file, .. }) => assert_eq!(file, missing),
        other => panic!("{:?}", other.err()),
    }
    assert_eq!(segments(dir.path()), before, "a refused start removes nothing");
}

#[test]
fn removed_space_is_used_again_on_a_full_disk() {
    let (_dir, storage) = faulty();
    let (log, _) = log_of(&storage, 60);
    storage.set_quota(Some(storage.used()));
    let mut next = 60;
    loop {
        match append(&log, &[next]) {
            Ok(_) => next += 1,
            Err(AppendError::NoSpace) => break,
            Err(error) => panic!("{error}"),
        }
    }
    log.wait_durable(log.end()).unwrap();
    assert!(log.remove_below(log.durable()).unwrap() > 3);
    let started = std::time::Instant::now();
    while try_append(&log, Space::New, &[next]).is_err() {
        assert!(started.elapsed().as_secs() < 20);
        std::thread::yield_now();
    }
}
