//! Full disks, failing disks, slow disks: what is refused, what heals, and what is never acknowledged.
#![allow(clippy::unwrap_used)]

mod log_support;

use log_support::*;
use parking_lot::Mutex;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use tidegate_queue::log::{CommitLog, LogOptions};
use tidegate_queue::storage::{FaultyCall, PowerLoss};
use tidegate_queue::{AppendError, Durability, Durable, Position, Space};

/// Appends until refused with `NoSpace`; answers the next number.
fn fill(log: &CommitLog, mut next: u64) -> u64 {
    loop {
        match append(log, &[next]) {
            Ok(_) => next += 1,
            Err(AppendError::NoSpace) => return next,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn fm16_full_disk_refuses_and_drops_nothing_acknowledged() {
    let (_dir, storage) = faulty();
    let log = open(storage.as_storage()).unwrap();
    append_durably(&log, &[0]).unwrap();
    storage.set_quota(Some(storage.used() + SEGMENT));
    let next = fill(&log, 1);
    assert!(next > 20);
    let end = log.end();
    assert_eq!(try_append(&log, Space::New, &[next]), Err(AppendError::NoSpace));
    assert_eq!(log.end(), end, "a refusal consumes nothing");
    log.wait_durable(end).unwrap();
    assert!(numbers(&log).into_iter().eq(0..next));
    storage.power_loss(0, PowerLoss::Everything);
    drop(log);
    let log = open(storage.as_storage()).unwrap();
    assert!(numbers(&log).into_iter().eq(0..next));
}

#[test]
fn fm33_full_disk_heals_without_a_restart() {
    let (_dir, storage) = faulty();
    let log = open(storage.as_storage()).unwrap();
    append_durably(&log, &[0]).unwrap();
    storage.set_quota(Some(storage.used() + SEGMENT));
    let next = fill(&log, 1);
    storage.set_quota(None);
    let started = std::time::Instant::now();
    let end = loop {
        match try_append(&log, Space::New, &[next]) {
            Ok(end) => break end,
            Err(AppendError::NoSpace | AppendError::Busy) => assert!(started.elapsed().as_secs() < 20),
            Err(error) => panic!("{error}"),
        }
        std::thread::yield_now();
    };
    log.wait_durable(end).unwrap();
    assert!(numbers(&log).into_iter().eq(0..=next));
}

#[test]
fn fm31_segments_are_allocated_before_they_are_mapped_or_written() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_dir(dir.path()).unwrap();
    append_durably(&log, &[0]).unwrap();
    wait_for_segments(dir.path(), 2);
    for entry in std::fs::read_dir(dir.path().join("commitlog")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().len() == 20 {
            let meta = entry.metadata().unwrap();
            assert!(meta.blocks() * 512 >= meta.len() && meta.len() == SEGMENT, "{entry:?} is sparse");
        }
    }
}

#[test]
fn reserve_is_kept_for_owed_work_on_a_full_disk() {
    let (dir, storage) = faulty();
    let log = open(storage.as_storage()).unwrap();
    log.set_reserve(2 * SEGMENT);
    append_durably(&log, &[0]).unwrap();
    // Reserve and one segment for new work, besides the active one.
    wait_for_segments(dir.path(), 5);
    storage.set_quota(Some(storage.used()));
    let mut next = fill(&log, 1);
    let refused_at = log.end();
    let mut owed = 0;
    while let Ok(end) = try_append(&log, Space::Owed, &[next]) {
        log.wait_durable(end).unwrap();
        next += 1;
        owed = end.0 - refused_at.0;
        assert_eq!(try_append(&log, Space::New, &[next]), Err(AppendError::NoSpace));
    }
    assert!(owed >= 2 * SEGMENT, "{owed}");
    assert!(numbers(&log).into_iter().eq(0..next));
}

#[test]
fn fm30_a_failed_sync_is_never_followed_by_an_acknowledgement() {
    let (_dir, storage) = faulty();
    let log = open(storage.as_storage()).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    log.on_durable(Box::new(move |durable| listener.lock().push(durable)));
    append_durably(&log, &[0]).unwrap();
    let durable = log.durable();
    storage.fail(FaultyCall::Sync, "commitlog/0", 1, ErrorKind::Other);
    let end = append(&log, &[1]).unwrap();
    assert_eq!(log.wait_durable(end), Err(AppendError::Poisoned));
    for number in 2..5 {
        assert_eq!(try_append(&log, Space::Owed, &[number]), Err(AppendError::Poisoned));
    }
    assert_eq!(log.durable(), durable);
    assert_eq!(numbers(&log), [0]);
    assert_eq!(log.close(), Err(AppendError::Poisoned));
    assert_eq!(*told.lock(), [Durable::Up(durable), Durable::Poisoned(durable)]);
}

#[test]
fn every_failing_write_poisons_and_recovery_keeps_what_was_acknowledged() {
    for call in [FaultyCall::Write, FaultyCall::ShortWrite, FaultyCall::Sync] {
        for nth in 1..8 {
            let (_dir, storage) = faulty();
            let log = open(storage.as_storage()).unwrap();
            storage.fail(call, "commitlog/0", nth, ErrorKind::Other);
            let mut acked = 0;
            while append_durably(&log, &[acked]).is_ok() {
                acked += 1;
            }
            assert_eq!(acked, nth - 1, "{call:?}");
            assert!(numbers(&log).into_iter().eq(0..acked), "{call:?} {nth}");
            drop(log);
            storage.power_loss(nth, PowerLoss::Blocks(512));
            let log = open(storage.as_storage()).unwrap();
            let seen = numbers(&log);
            assert!(seen.len() as u64 == acked || seen.len() as u64 == acked + 1, "{call:?} {nth}: {seen:?}");
        }
    }
}

#[test]
fn nothing_is_seen_while_the_sync_is_held_back() {
    let (_dir, storage) = faulty();
    let log = open(storage.as_storage()).unwrap();
    append_durably(&log, &[0]).unwrap();
    let durable = log.durable();
    storage.hold_syncs();
    let end = append(&log, &[1, 2]).unwrap();
    assert!(storage.wait_for_held_sync(1));
    assert_eq!((log.durable(), log.synced()), (durable, durable));
    assert_eq!(numbers(&log), [0]);
    assert!(log.read(Position(durable.0 + 64)).is_err());
    storage.release_syncs();
    log.wait_durable(end).unwrap();
    assert_eq!(numbers(&log), [0, 1, 2]);
}

#[test]
fn async_mode_shows_what_is_written_and_syncs_later() {
    let (_dir, storage) = faulty();
    let flush = Durability::Async { interval_ms: 1 };
    let log = CommitLog::open(storage.as_storage(), &LogOptions { flush, ..options() }).unwrap();
    storage.hold_syncs_of("commitlog/0");
    let end = append(&log, &[0, 1]).unwrap();
    log.wait_durable(end).unwrap();
    assert_eq!(numbers(&log), [0, 1]);
    assert!(storage.wait_for_held_sync(1));
    assert!(log.synced() < end);
    storage.release_syncs();
    log.close().unwrap();
    assert_eq!(log.synced(), end);
}

#[test]
fn in_async_mode_a_listener_learns_what_is_on_disk() {
    let (_dir, storage) = faulty();
    let flush = Durability::Async { interval_ms: 1 };
    let log = CommitLog::open(storage.as_storage(), &LogOptions { flush, ..options() }).unwrap();
    let (told, tells) = std::sync::mpsc::channel();
    let told = Mutex::new(told);
    log.on_durable(Box::new(move |durable| told.lock().send(durable).unwrap_or_default()));
    let patience = std::time::Duration::from_secs(20);
    storage.hold_syncs_of("commitlog/0");
    let end = append(&log, &[0, 1]).unwrap();
    assert_eq!(tells.recv_timeout(patience), Ok(Durable::Up(end)));
    assert!(storage.wait_for_held_sync(1));
    assert!(tells.try_recv().is_err());
    storage.release_syncs();
    assert_eq!(tells.recv_timeout(patience), Ok(Durable::Synced(end)));
    assert_eq!(log.synced(), end);
    let end = append(&log, &[2]).unwrap();
    log.close().unwrap();
    assert_eq!(tells.iter().take(2).collect::<Vec<_>>(), [Durable::Up(end), Durable::Synced(end)]);
}

#[test]
fn accepted_bytes_have_a_bound() {
    let (_dir, storage) = faulty();
    let log =
        CommitLog::open(storage.as_storage(), &LogOptions { pending_bytes_max: 2048, ..options() }).unwrap();
    storage.hold_syncs_of("commitlog/0");
    let mut next = 0;
    while try_append(&log, Space::New, &[next]).is_ok() {
        next += 1;
        assert!(next < 20);
    }
    assert_eq!(try_append(&log, Space::Owed, &[next]), Err(AppendError::Busy));
    storage.release_syncs();
    append_durably(&log, &[next]).unwrap();
    assert!(numbers(&log).into_iter().eq(0..=next));
}

#[test]
fn a_batch_that_can_never_fit_is_invalid() {
    let (_dir, storage) = faulty();
    let log = open(storage.as_storage()).unwrap();
    let many: Vec<_> = (0..40).collect();
    assert!(matches!(try_append(&log, Space::New, &many), Err(AppendError::Invalid(_))));
    append_durably(&log, &[0]).unwrap();
}

#[test]
fn a_listener_that_comes_after_the_poisoning_is_told() {
    let (_dir, storage) = faulty();
    let log = open(storage.as_storage()).unwrap();
    storage.fail(FaultyCall::Sync, "commitlog/0", 1, ErrorKind::Other);
    let end = append(&log, &[0]).unwrap();
    assert_eq!(log.wait_durable(end), Err(AppendError::Poisoned));
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    log.on_durable(Box::new(move |durable| listener.lock().push(durable)));
    assert_eq!(told.lock().first(), Some(&Durable::Poisoned(log.durable())));
}

#[test]
fn a_large_reserve_is_prepared_as_long_as_the_disk_has_space() {
    let (dir, storage) = faulty();
    let log = open(storage.as_storage()).unwrap();
    log.set_reserve(80 * SEGMENT);
    append_durably(&log, &[0]).unwrap();
    wait_for_segments(dir.path(), 90);
    append_durably(&log, &[1]).unwrap();
}
