//! Space ahead of the log: filled before it is used, allocated for what is owed, and the disk's water marks.
#![allow(clippy::unwrap_used)]

mod log_support;

use log_support::*;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_queue::log::{CommitLog, LogOptions, OpenError};
use tidegate_queue::storage::{DiskStorage, FaultyCall, FaultyStorage};
use tidegate_queue::{AppendError, Durability, Space};

/// Large enough that most of it is filled apart from the header.
const LARGE: u64 = 16 * SEGMENT;

fn open_large(storage: &Arc<FaultyStorage>) -> CommitLog {
    let options = LogOptions { segment_bytes: LARGE, ..options() };
    CommitLog::open(storage.as_storage(), &options).unwrap()
}

/// Repeats until it answers something; bounded.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{what} did not come");
        std::thread::yield_now();
    }
}

#[test]
fn the_next_segment_is_filled_and_a_reserve_only_allocated() {
    let (dir, storage) = faulty();
    let log = open_large(&storage);
    log.set_reserve(20 * LARGE);
    wait_for_segments(dir.path(), 24);
    // The first one at the open, and the next.
    until("the fill of the second segment", || (storage.fills() >= 2).then_some(()));
    let mut next = 0;
    while log.end().0 <= LARGE {
        append_durably(&log, &[next]).unwrap();
        next += 1;
    }
    until("the fill of the third segment", || (storage.fills() >= 3).then_some(()));
    let mut reserve = 20 * LARGE;
    wait_for_looks(&storage, || {
        reserve += 1;
        log.set_reserve(reserve);
    });
    assert_eq!(storage.fills(), 3);
}

#[test]
fn async_mode_writes_no_zeros_ahead() {
    let (dir, storage) = faulty();
    let flush = Durability::Async { interval_ms: 1 };
    let options = LogOptions { segment_bytes: LARGE, flush, ..options() };
    let log = CommitLog::open(storage.as_storage(), &options).unwrap();
    wait_for_segments(dir.path(), 2);
    let mut next = 0;
    while log.end().0 <= 2 * LARGE {
        append_durably(&log, &[next]).unwrap();
        next += 1;
    }
    wait_for_segments(dir.path(), 4);
    assert!(storage.fills() <= 1, "{}", storage.fills());
    assert!(numbers(&log).into_iter().eq(0..next));
}

#[test]
fn a_segment_that_cannot_be_filled_is_used_as_it_is() {
    let (_dir, storage) = faulty();
    for nth in 2..40 {
        storage.fail(FaultyCall::Fill, "commitlog/0", nth, ErrorKind::StorageFull);
    }
    let log = open_large(&storage);
    let mut next = 0;
    while log.end().0 <= 3 * LARGE {
        append_durably(&log, &[next]).unwrap();
        next += 1;
    }
    assert!(numbers(&log).into_iter().eq(0..next));
}

#[test]
fn a_failing_fill_poisons() {
    let (_dir, storage) = faulty();
    storage.fail(FaultyCall::Fill, "commitlog/0", 2, ErrorKind::Other);
    let log = open_large(&storage);
    until("poison", || (append_durably(&log, &[0]) == Err(AppendError::Poisoned)).then_some(()));
}

#[test]
fn zeros_on_their_way_never_meet_a_frame() {
    let (_dir, storage) = faulty();
    let log = open_large(&storage);
    until("the fill of the second segment", || (storage.fills() >= 2).then_some(()));
    storage.hold_fills(true);
    let mut next = 0;
    while storage.fills() < 3 {
        append_durably(&log, &[next]).unwrap();
        next += 1;
    }
    // The third segment is taken, and accepts, while zeros are on their way into it.
    while log.end().0 <= 2 * LARGE + 4096 {
        append(&log, &[next]).unwrap();
        next += 1;
    }
    let patience = Instant::now();
    while patience.elapsed() < Duration::from_millis(200) && log.durable().0 <= 2 * LARGE {
        std::thread::yield_now();
    }
    let beside = log.durable().0 > 2 * LARGE;
    storage.hold_fills(false);
    assert!(!beside, "a frame was written beside the zeros");
    log.wait_durable(log.end()).unwrap();
    assert!(numbers(&log).into_iter().eq(0..next));
}

#[test]
fn what_is_allocated_is_filled_and_used_on_a_full_disk() {
    let (dir, storage) = faulty();
    let log = open_large(&storage);
    log.set_reserve(4 * LARGE);
    wait_for_segments(dir.path(), 6);
    append_durably(&log, &[0]).unwrap();
    storage.set_quota(Some(storage.used()));
    let mut next = 1;
    let end = log.end().0 + 4 * LARGE;
    while log.end().0 < end {
        append_owed(&log, next);
        next += 1;
    }
    assert_eq!(log.room(), Err(AppendError::NoSpace));
    assert!(numbers(&log).into_iter().eq(0..next));
}

#[test]
fn allocated_segments_are_not_sparse() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 1 << 20, ..options() };
    let log = CommitLog::open(Arc::new(DiskStorage::new(dir.path()).unwrap()), &options).unwrap();
    log.set_reserve(4 << 20);
    wait_for_segments(dir.path(), 6);
    for entry in std::fs::read_dir(dir.path().join("commitlog")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().len() == 20 {
            let meta = entry.metadata().unwrap();
            assert!(meta.blocks() * 512 >= meta.len() && meta.len() == 1 << 20, "{entry:?} is sparse");
        }
    }
}

#[test]
fn a_log_that_is_faster_than_zeros_are_written_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 4 << 20, ..options() };
    let storage = || Arc::new(DiskStorage::new(dir.path()).unwrap());
    let log = CommitLog::open(storage(), &options).unwrap();
    let mut next = 0;
    while log.end().0 < 20 << 20 {
        let batch: Vec<_> = (next..next + 500).collect();
        next += 500;
        append(&log, &batch).unwrap();
    }
    log.wait_durable(log.end()).unwrap();
    assert!(numbers(&log).into_iter().eq(0..next));
    drop(log);
    let log = CommitLog::open(storage(), &options).unwrap();
    assert!(numbers(&log).into_iter().eq(0..next));
}

fn open_marked(storage: &Arc<FaultyStorage>) -> CommitLog {
    let options = LogOptions { disk_low_bytes: 2 * SEGMENT, disk_high_bytes: 6 * SEGMENT, ..options() };
    CommitLog::open(storage.as_storage(), &options).unwrap()
}

/// The keeper looks at the disk a few times more.
fn wait_for_looks(storage: &FaultyStorage, mut meanwhile: impl FnMut()) {
    let before = storage.looks();
    until("a look at the disk", || {
        meanwhile();
        (storage.looks() >= before + 3).then_some(())
    });
}

fn refused(log: &CommitLog, next: &mut u64) {
    until("the refusal", || match append(log, &[*next]) {
        Ok(_) => {
            *next += 1;
            None
        }
        Err(AppendError::NoSpace) => Some(()),
        Err(error) => panic!("{error}"),
    });
}

fn prepared(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("commitlog")).unwrap().count()
}

#[test]
fn fm33_below_the_low_mark_new_work_is_refused_until_the_high_mark() {
    let (dir, storage) = faulty();
    let log = open_marked(&storage);
    log.set_reserve(2 * SEGMENT);
    append_durably(&log, &[0]).unwrap();
    wait_for_segments(dir.path(), 5);
    // Something else takes the disk.
    storage.set_quota(Some(storage.used() + SEGMENT));
    let mut next = 1;
    refused(&log, &mut next);
    assert_eq!(log.room(), Err(AppendError::NoSpace));
    // What is owed goes on, although there is no more of the disk for the log.
    let files = prepared(dir.path());
    let end = until("owed work", || try_append(&log, Space::Owed, &[next]).ok());
    next += 1;
    log.wait_durable(end).unwrap();
    assert_eq!(try_append(&log, Space::New, &[next]), Err(AppendError::NoSpace));
    // Above the low mark, below the high one: it would only come and go.
    storage.set_quota(Some(storage.used() + 5 * SEGMENT));
    wait_for_looks(&storage, || ());
    assert_eq!(try_append(&log, Space::New, &[next]), Err(AppendError::NoSpace));
    assert_eq!(prepared(dir.path()), files, "takes nothing more while the disk is low");
    storage.set_quota(Some(storage.used() + 9 * SEGMENT));
    let end = until("healing", || try_append(&log, Space::New, &[next]).ok());
    log.wait_durable(end).unwrap();
    assert!(log.room().is_ok());
    assert!(numbers(&log).into_iter().eq(0..=next));
}

#[test]
fn a_start_on_a_disk_below_the_low_mark_takes_no_new_work() {
    let (_dir, storage) = faulty();
    storage.set_quota(Some(8192 + 2 * SEGMENT));
    let log = open_marked(&storage);
    assert_eq!(try_append(&log, Space::New, &[0]), Err(AppendError::NoSpace));
    append_owed(&log, 0);
    storage.set_quota(None);
    until("healing", || try_append(&log, Space::New, &[1]).ok());
}

fn append_owed(log: &CommitLog, number: u64) {
    let end = until("owed work", || try_append(log, Space::Owed, &[number]).ok());
    log.wait_durable(end).unwrap();
}

#[test]
fn marks_the_wrong_way_round_are_refused() {
    let (_dir, storage) = faulty();
    let options = LogOptions { disk_low_bytes: 2, disk_high_bytes: 1, ..options() };
    assert!(matches!(CommitLog::open(storage.as_storage(), &options), Err(OpenError::Invalid(_))));
}
