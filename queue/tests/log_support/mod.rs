//! What the log's tests share: tiny segments, appends of numbered records, and what a log holds.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use tidegate_queue::log::{CommitLog, LogOptions, OpenError, Positions, RecordParts};
use tidegate_queue::storage::{DiskStorage, FaultyStorage, PowerLoss, Storage};
use tidegate_queue::{AppendError, Durability, Position, Space};

pub(crate) const SEGMENT: u64 = 4096;

pub(crate) fn options() -> LogOptions {
    LogOptions {
        segment_bytes: SEGMENT,
        flush: Durability::Sync,
        pending_bytes_max: 1 << 20,
        ..LogOptions::default()
    }
}

pub(crate) fn open(storage: Arc<dyn Storage>) -> Result<CommitLog, OpenError> {
    CommitLog::open(storage, &options())
}

pub(crate) fn open_dir(dir: &Path) -> Result<CommitLog, OpenError> {
    open(Arc::new(DiskStorage::new(dir).unwrap()))
}

/// The body of record `number`: says which it is, with a length of its own.
pub(crate) fn body(number: u64) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(8 + (number as usize * 37) % 300, number as u8);
    body
}

pub(crate) fn try_append(log: &CommitLog, space: Space, numbers: &[u64]) -> Result<Position, AppendError> {
    let bodies: Vec<_> = numbers.iter().map(|number| body(*number)).collect();
    let parts: Vec<_> = bodies
        .iter()
        .zip(numbers)
        .map(|(body, number)| RecordParts {
            topic: "orders",
            tag: "t",
            keys: &["k1", "k2"],
            properties: &[("name", "value")],
            queue_offset: *number,
            body,
            ..RecordParts::default()
        })
        .collect();
    let mut positions = Positions::new();
    let range = log.append(space, &parts, &mut positions)?;
    assert_eq!(positions.len(), numbers.len());
    assert_eq!(positions[0], range.start);
    Ok(range.end)
}

/// Appends, waiting for a segment to become ready.
pub(crate) fn append(log: &CommitLog, numbers: &[u64]) -> Result<Position, AppendError> {
    let started = std::time::Instant::now();
    loop {
        match try_append(log, Space::New, numbers) {
            Err(AppendError::Busy) if started.elapsed().as_secs() < 20 => std::thread::yield_now(),
            other => return other,
        }
    }
}

/// Appends one batch and waits until it is durable.
pub(crate) fn append_durably(log: &CommitLog, numbers: &[u64]) -> Result<(), AppendError> {
    let end = append(log, numbers)?;
    log.wait_durable(end)
}

/// Numbers of all records, after checking that each is exactly what was appended.
pub(crate) fn numbers(log: &CommitLog) -> Vec<u64> {
    let records = log.scan(log.start()).map(Result::unwrap);
    records
        .map(|record| {
            let view = record.view();
            let number = u64::from_le_bytes(view.body[..8].try_into().unwrap());
            assert_eq!(view.body, body(number));
            assert_eq!((view.topic, view.tag, view.queue_offset), ("orders", "t", number));
            assert!(view.keys().eq(["k1", "k2"]));
            assert!(view.properties().eq([("name", "value")]));
            assert_eq!(log.read(record.position()).unwrap().view().body, view.body);
            number
        })
        .collect()
}

pub(crate) fn faulty() -> (tempfile::TempDir, Arc<FaultyStorage>) {
    let dir = tempfile::tempdir().unwrap();
    let storage = FaultyStorage::new(dir.path());
    (dir, storage)
}

/// Every way to lose power that the tests try.
pub(crate) fn power_losses() -> Vec<(u64, PowerLoss)> {
    let mut losses = vec![(0, PowerLoss::Everything)];
    for seed in 0..3 {
        losses.push((seed, PowerLoss::Blocks(512)));
        losses.push((seed, PowerLoss::Blocks(4096)));
    }
    losses
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Waits until so many segments are complete.
pub(crate) fn wait_for_segments(dir: &Path, count: usize) {
    let started = std::time::Instant::now();
    let complete = || {
        let entries = std::fs::read_dir(dir.join("commitlog")).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().file_name().len() == 20).count()
    };
    while complete() < count {
        assert!(started.elapsed().as_secs() < 20, "no {count} segments");
        std::thread::yield_now();
    }
}
