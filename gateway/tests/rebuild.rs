//! A ledger is rebuilt from all of the log or not at all, and never from a snapshot of another log's end.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use tidegate::pipeline::{FoldFailure, ReadOnly, RecoverError, rebuild};
use tidegate_queue::log::{FIRST_POSITION, salvage};
use tidegate_queue::storage::DiskStorage;
use tidegate_queue::{AppendError, NewMessage, Position, Queue, QueueOptions, ReadError, Space, SystemClock};
use tidegate_stock::embedded::snapshot_store::{Folder, SnapshotStore};
use tidegate_stock::{Ledger, LedgerLimits, Lsn};

const SEGMENT: u64 = 4096;

fn open(dir: &Path) -> Queue {
    let options = QueueOptions { segment_bytes: SEGMENT, ..QueueOptions::new(dir) };
    let storage = Arc::new(DiskStorage::new(dir).unwrap());
    Queue::open(options, storage, Arc::new(SystemClock::default())).unwrap()
}

fn append_past(queue: &Queue, position: u64) {
    while queue.end().0 < position {
        match queue.append(&[NewMessage { topic: "t", body: &[1; 500], ..NewMessage::default() }], Space::New)
        {
            Ok(appended) => queue.wait_durable(appended.end).unwrap(),
            Err(AppendError::Busy) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn rebuilt(dir: &Path, queue: &Queue) -> Result<(Position, usize), RecoverError> {
    let end = queue.durable();
    let recovered = rebuild(dir, &ReadOnly(end), queue.start()..end, |from| queue.scan(from))?;
    Ok((recovered.cut, recovered.passed_over.len()))
}

fn write_snapshot(dir: &Path, cut: u64) {
    let ledger = Ledger::new(ReadOnly(Position(cut)), LedgerLimits::default());
    let store = SnapshotStore::new(Folder::open(dir.join("ledger")).unwrap());
    store.save(Lsn(cut), |file| ledger.write_snapshot(Lsn(cut), file)).unwrap();
}

#[test]
fn a_log_without_its_beginning_is_refused_unless_a_snapshot_covers_it() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    append_past(&queue, 3 * SEGMENT);
    assert_eq!(rebuilt(dir.path(), &queue).unwrap(), (Position(0), 0));
    queue.close().unwrap();
    drop(queue);
    std::fs::remove_file(dir.path().join("commitlog").join(format!("{:020}", 0))).unwrap();
    salvage(dir.path()).unwrap();

    let queue = open(dir.path());
    let start = queue.start();
    assert!(start > FIRST_POSITION);
    match rebuilt(dir.path(), &queue) {
        Err(RecoverError::BeginningLost { start: told, .. }) => assert_eq!(told, start),
        other => panic!("{other:?}"),
    }
    write_snapshot(dir.path(), start.0);
    assert_eq!(rebuilt(dir.path(), &queue).unwrap(), (start, 0));
}

#[test]
fn a_snapshot_of_what_the_log_no_longer_holds_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    append_past(&queue, 1024);
    let end = queue.end();
    write_snapshot(dir.path(), end.0 + 8);
    assert_eq!(rebuilt(dir.path(), &queue).unwrap(), (Position(0), 1));
    write_snapshot(dir.path(), end.0);
    assert_eq!(rebuilt(dir.path(), &queue).unwrap(), (end, 1));
}

#[test]
fn a_log_that_cannot_be_read_to_its_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let end = Position(1024);
    let unreadable = std::iter::once(Err(ReadError::Absent(Position(512))));
    let rebuilt = rebuild(dir.path(), &ReadOnly(end), FIRST_POSITION..end, |_| unreadable);
    assert!(matches!(rebuilt, Err(RecoverError::Fold(FoldFailure::Read(_)))));
}
