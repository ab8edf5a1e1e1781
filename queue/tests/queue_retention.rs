//! What holds the log, what goes, and that everything owed stays.
#![allow(clippy::unwrap_used)]

mod queue_support;

use queue_support::*;
use std::sync::Arc;
use tidegate_queue::log::FIRST_POSITION;
use tidegate_queue::storage::{DiskStorage, FaultyCall};
use tidegate_queue::*;

const RETENTION_MS: u64 = 60_000;
const EXPIRY_MS: u64 = 600_000;
const SEGMENT: u64 = 4096;

fn policies() -> Policies {
    Policies { retention_ms: RETENTION_MS, group_expiry_ms: EXPIRY_MS, ..Policies::default() }
}

fn options(folder: &Folder) -> QueueOptions {
    QueueOptions { segment_bytes: SEGMENT, topic_queues: 1, ..folder.options() }
}

fn open_as(folder: &Folder, policies: Policies) -> Queue {
    let storage = Arc::new(DiskStorage::new(folder.dir.path()).unwrap());
    Queue::open_with(options(folder), policies, storage, Arc::clone(&folder.clock) as Arc<dyn Clock>).unwrap()
}

fn open(folder: &Folder) -> Queue {
    open_as(folder, policies())
}

/// Fills some segments.
fn fill(queue: &Queue) {
    for _ in 0..20 {
        append(queue, &[message(&[7; 900])]);
    }
}

fn delete(queue: &Queue) -> usize {
    queue.delete_unheld().unwrap()
}

fn drain(queue: &Queue, group: &str) -> usize {
    let mut count = 0;
    loop {
        let found = receive(queue, group, 100, 1_000);
        if found.is_empty() {
            return count;
        }
        count += found.len();
        for delivery in &found {
            ack(queue, group, delivery).unwrap();
        }
    }
}

/// Where the first segment on disk begins. How many there are is the keeper's, which prepares them ahead.
fn first_segment(folder: &Folder) -> u64 {
    let names = std::fs::read_dir(folder.dir.path().join("commitlog")).unwrap();
    let bases = names.filter_map(|name| name.unwrap().file_name().to_str().unwrap().parse().ok());
    bases.min().unwrap()
}

#[test]
fn what_is_old_and_done_goes_and_offsets_go_on_where_they_were() {
    let folder = Folder::new();
    let queue = open(&folder);
    assert!(receive(&queue, GROUP, 1, 1_000).is_empty());
    fill(&queue);
    drain(&queue, GROUP);
    assert_eq!(delete(&queue), 0, "young");
    assert_eq!(queue.keeping().held_by, HeldBy::Age);
    folder.clock.advance(RETENTION_MS);
    assert_eq!(first_segment(&folder), 0);
    let gone = delete(&queue);
    assert!(gone > 3, "{gone}: {:?}", queue.keeping());
    assert_eq!(first_segment(&folder), queue.start().0 - FIRST_POSITION.0);
    assert_eq!(queue.keeping().segments_deleted, gone as u64);
    assert_eq!(queue.keeping().kept_bytes, queue.end().0 - queue.start().0);
    assert!(queue.start() > FIRST_POSITION);
    let error = queue.scan(FIRST_POSITION).next().unwrap().unwrap_err();
    assert_eq!(error, ReadError::Removed { position: FIRST_POSITION, start: queue.start() });
    assert_eq!(delete(&queue), 0);
    // New groups begin with what is kept, also those that ask for more.
    let oldest = queue.scan(queue.start()).next().unwrap().unwrap().offset;
    queue.put_group(TOPIC, "offset", StartFrom::Offset(0), None, None).unwrap();
    queue.put_group(TOPIC, "time", StartFrom::TimeMs(0), None, None).unwrap();
    for group in ["first", "offset", "time"] {
        assert_eq!(receive(&queue, group, 1, 1_000)[0].message.offset, oldest, "{group}");
    }
    queue.reset_group(TOPIC, GROUP, StartFrom::Offset(1)).unwrap();
    assert_eq!(receive(&queue, GROUP, 1, 1_000)[0].message.offset, oldest);
    queue.close().unwrap();
    drop(queue);
    let queue = open(&folder);
    assert_eq!(append(&queue, &[message(b"next")]).offset, 20);
}

#[test]
fn a_queue_whose_messages_are_all_deleted_goes_on_after_any_damage() {
    for damaged in [&[][..], &["snapshot/state"], &["snapshot/state", "snapshot/state.old"]] {
        let folder = Folder::new();
        let queue = open(&folder);
        queue.put_topic(TOPIC, 2).unwrap();
        let other = || NewMessage { queue: QueueChoice::Explicit(1), ..message(&[1; 900]) };
        assert!(receive(&queue, GROUP, 1, 1_000).is_empty());
        fill(&queue);
        for _ in 0..20 {
            append(&queue, &[other()]);
        }
        drain(&queue, GROUP);
        folder.clock.advance(RETENTION_MS);
        assert!(delete(&queue) > 8);
        assert!(queue.scan(queue.start()).all(|message| message.unwrap().queue == 1));
        queue.close().unwrap();
        drop(queue);
        for file in damaged {
            let path = folder.dir.path().join(file);
            let mut bytes = std::fs::read(&path).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
        let queue = open(&folder);
        assert_eq!(append(&queue, &[message(b"next")]).offset, 20, "{damaged:?}");
        assert_eq!(append(&queue, &[other()]).offset, 20, "{damaged:?}");
        assert_eq!(drain(&queue, GROUP), 2, "{damaged:?}");
    }
}

/// A reader in a segment that is deleted under it.
#[test]
fn fm32_a_reader_keeps_the_segment_that_retention_deletes() {
    let folder = Folder::new();
    let queue = open(&folder);
    for number in 0..20u8 {
        append(&queue, &[message(&[number; 900])]);
    }
    let held = queue.scan(queue.start()).next().unwrap().unwrap();
    let mut reading = queue.scan(queue.start());
    reading.next();
    folder.clock.advance(RETENTION_MS);
    assert!(delete(&queue) > 3, "nobody holds a topic without groups: {:?}", queue.keeping());
    assert_eq!(held.body, vec![0; 900]);
    assert_eq!(reading.next().unwrap().unwrap().body, vec![1; 900]);
    assert!(queue.find(held.position).is_none());
}

#[test]
fn fm49_a_group_holds_what_it_has_not_acknowledged_until_it_expires() {
    let folder = Folder::new();
    let queue = open(&folder);
    queue.put_group(TOPIC, "slow", StartFrom::First, None, None).unwrap();
    fill(&queue);
    drain(&queue, GROUP);
    folder.clock.advance(RETENTION_MS);
    assert_eq!(delete(&queue), 0);
    let since_ms = folder.clock.now_ms();
    folder.clock.advance(1_000);
    assert_eq!(delete(&queue), 0);
    let keeping = queue.keeping();
    assert_eq!(keeping.held_by, HeldBy::Group { topic: TOPIC.into(), group: "slow".into() });
    assert_eq!((keeping.floor, keeping.since_ms), (Position(128), since_ms));
    folder.clock.advance(EXPIRY_MS - 2 * RETENTION_MS);
    // The process being down is no idleness.
    queue.close().unwrap();
    drop(queue);
    let queue = open(&folder);
    folder.clock.advance(EXPIRY_MS);
    drop(queue);
    let queue = open(&folder);
    assert_eq!(delete(&queue), 0);
    // The rest of its time, from where it was when the process was closed.
    folder.clock.advance(RETENTION_MS + 1_000);
    let gone = delete(&queue);
    assert!(gone > 3, "{:?}", queue.keeping());
    let oldest = queue.scan(queue.start()).next().unwrap().unwrap().offset;
    assert_eq!(receive(&queue, "slow", 1, 1_000)[0].message.offset, oldest);
    assert_eq!(group_stats(&queue, "slow").queues[0].skipped, [(0, oldest)]);
}

#[test]
fn fm49_a_delayed_message_a_half_a_report_a_dead_letter_and_the_owner_hold() {
    let folder = Folder::new();
    let queue = open_as(&folder, Policies { owner_holds: true, check_first_ms: u64::MAX, ..policies() });
    let group = || (TOPIC.to_owned(), GROUP.to_owned());
    assert!(receive(&queue, GROUP, 1, 1_000).is_empty());
    let held_by = |queue: &Queue| {
        assert_eq!(delete(queue), 0);
        let keeping = queue.keeping();
        let header = FIRST_POSITION.0;
        assert!(keeping.floor.0 < SEGMENT + header, "{keeping:?}");
        keeping.held_by
    };
    // A dead letter, a report, a half message, a delayed one: all in the first segment.
    let at_ms = folder.clock.now_ms() + 10 * RETENTION_MS;
    append(&queue, &[message(b"dead")]);
    append(&queue, &[NewMessage { deadline_ms: Some(folder.clock.now_ms() + 5), ..message(b"late") }]);
    let half = queue.begin("shop", &message(b"half")).unwrap();
    append(&queue, &[NewMessage { deliver_at_ms: Some(at_ms), ..message(b"delayed") }]);
    fill(&queue);
    folder.clock.advance(10);
    queue.tick();
    for _ in 0..3 {
        let found = receive(&queue, GROUP, 1, 1_000);
        let delay = queue.nack(TOPIC, GROUP, &[found[0].receipt.clone()], Some(0));
        assert_eq!(delay, [Ok(())]);
    }
    drain(&queue, GROUP);
    folder.clock.advance(RETENTION_MS);

    assert_eq!(held_by(&queue), HeldBy::Owner);
    queue.release_below(queue.durable());
    queue.release_below(FIRST_POSITION);
    let (topic, name) = group();
    assert_eq!(held_by(&queue), HeldBy::Report { topic, group: name });
    let reports = queue.take_reports(10, None);
    assert_eq!(reports.len(), 2);
    for report in &reports {
        queue.settle(report);
    }
    let (topic, name) = group();
    assert_eq!(held_by(&queue), HeldBy::DeadLetter { topic, group: name });
    let dead = queue.dead_letters(TOPIC, GROUP, 10).remove(0);
    assert!(queue.redrive(TOPIC, GROUP, dead.position));
    let (topic, name) = group();
    assert_eq!(held_by(&queue), HeldBy::Group { topic, group: name });
    drain(&queue, GROUP);
    assert_eq!(held_by(&queue), HeldBy::Transaction);
    queue.roll_back(half.first).unwrap();
    assert_eq!(held_by(&queue), HeldBy::Delayed);
    // All that was owed is still there after a start.
    queue.close().unwrap();
    drop(queue);
    let queue = open(&folder);
    assert_eq!((queue.delayed(), queue.open_transactions()), (1, 0));
    assert_eq!(queue.commit(half.first), Err(TransactionError::Decided(Outcome::RolledBack)));
    assert_eq!(held_by(&queue), HeldBy::Delayed);
    folder.clock.advance(9 * RETENTION_MS);
    queue.tick();
    settle_down(&queue);
    let due = receive(&queue, GROUP, 10, 1_000);
    assert_eq!(bodies(&due), ["delayed"]);
    assert!(delete(&queue) > 3, "{:?}", queue.keeping());
}

#[test]
fn fm49_nothing_is_deleted_before_the_owner_has_spoken_since_the_start() {
    let folder = Folder::new();
    let holding = || Policies { owner_holds: true, ..policies() };
    let queue = open_as(&folder, holding());
    fill(&queue);
    folder.clock.advance(RETENTION_MS);
    assert_eq!((delete(&queue), queue.keeping().held_by), (0, HeldBy::Owner));
    queue.release_below(Position(2 * SEGMENT));
    assert_eq!(delete(&queue), 2);
    queue.close().unwrap();
    drop(queue);
    let queue = open_as(&folder, holding());
    assert_eq!((delete(&queue), queue.keeping().held_by), (0, HeldBy::Owner));
    assert!(queue.start().0 > 2 * SEGMENT);
}

#[test]
fn the_last_delivery_is_on_disk_before_the_delayed_message_goes() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let open = || {
        let clock = Arc::clone(&folder.clock) as Arc<dyn Clock>;
        let flush = Durability::Async { interval_ms: 1_000_000 };
        let options = QueueOptions { flush, ..options(&folder) };
        Queue::open_with(options, policies(), storage.as_storage(), clock).unwrap()
    };
    let queue = open();
    let at_ms = folder.clock.now_ms() + 1_000;
    append(&queue, &[NewMessage { deliver_at_ms: Some(at_ms), ..message(b"delayed") }]);
    fill(&queue);
    // So that none is made, and waited for, when something is deleted.
    for _ in 0..2 {
        queue.snapshot().unwrap();
        append(&queue, &[message(b"more")]);
    }
    folder.clock.advance(RETENTION_MS);
    queue.tick();
    settle_down(&queue);
    assert!(delete(&queue) > 3);
    storage.kill();
    drop(queue);
    storage.power_loss(1, tidegate_queue::storage::PowerLoss::Everything);
    let queue = open();
    queue.tick();
    settle_down(&queue);
    let found = receive(&queue, GROUP, 100, 100_000);
    assert_eq!(bodies(&found).iter().filter(|body| *body == "delayed").count(), 1);
}

/// Killed, or refused by the disk, at each call of a deletion: what is kept is all there, and the next one deletes.
#[test]
fn a_deletion_that_ends_at_any_call_leaves_all_that_is_owed() {
    let calls =
        [FaultyCall::Write, FaultyCall::Sync, FaultyCall::Rename, FaultyCall::Remove, FaultyCall::SyncDir];
    let mut ended = 0;
    for (call, kills) in calls.into_iter().flat_map(|call| [(call, true), (call, false)]) {
        for nth in [1, 2, 3, 4, 6, 9, 12] {
            let folder = Folder::new();
            let storage = folder.faulty();
            let open = || {
                let clock = Arc::clone(&folder.clock) as Arc<dyn Clock>;
                Queue::open_with(options(&folder), policies(), storage.as_storage(), clock).unwrap()
            };
            let queue = open();
            assert!(receive(&queue, GROUP, 1, 1_000).is_empty());
            fill(&queue);
            drain(&queue, GROUP);
            let half = queue.begin("shop", &message(b"half")).unwrap();
            append(&queue, &[NewMessage { deliver_at_ms: Some(NOW_MS + 1_000), ..message(b"delayed") }]);
            append(&queue, &[message(&[9; 900])]);
            folder.clock.advance(RETENTION_MS);
            queue.snapshot().unwrap();
            if kills {
                storage.kill_at(call, "", nth);
            } else {
                storage.fail(call, "", nth, std::io::ErrorKind::StorageFull);
            }
            ended += usize::from(queue.delete_unheld().is_err());
            storage.kill();
            drop(queue);
            storage.power_loss(nth, tidegate_queue::storage::PowerLoss::Blocks(512));
            let queue = open();
            queue.tick();
            settle_down(&queue);
            let mut left: Vec<u8> = Vec::new();
            while let Some(found) = receive(&queue, GROUP, 1, 1_000).first() {
                left.push(found.message.body[0]);
                ack(&queue, GROUP, found).unwrap();
            }
            assert!(left.ends_with(&[9, b'd']), "{call:?} {nth}: {left:?}");
            queue.commit(half.first).unwrap();
            settle_down(&queue);
            assert_eq!(drain(&queue, GROUP), 1);
            assert_eq!(append(&queue, &[message(b"next")]).offset, 23);
            drain(&queue, GROUP);
            assert!(
                delete(&queue) > 0 || queue.start() > FIRST_POSITION,
                "{call:?} {nth}: {:?}",
                queue.keeping()
            );
        }
    }
    assert!(ended > 20, "only {ended} deletions were ended");
}

/// In a queue that the topic got after the group was made.
#[test]
fn a_group_that_never_asked_for_a_queue_goes_on_at_the_oldest_message_kept() {
    let folder = Folder::new();
    let queue = open(&folder);
    queue.put_group(TOPIC, "late", StartFrom::First, None, None).unwrap();
    queue.put_topic(TOPIC, 2).unwrap();
    let deadline_ms = Some(folder.clock.now_ms() + 2 * EXPIRY_MS);
    let late = || NewMessage { queue: QueueChoice::Explicit(1), deadline_ms, ..message(&[7; 900]) };
    for _ in 0..20 {
        append(&queue, &[late()]);
    }
    folder.clock.advance(EXPIRY_MS);
    assert!(delete(&queue) > 3, "{:?}", queue.keeping());
    let oldest = queue.scan(queue.start()).next().unwrap().unwrap().offset;
    assert_eq!(receive(&queue, "late", 1, 1_000)[0].message.offset, oldest);
    assert_eq!(group_stats(&queue, "late").queues[1].skipped, [(0, oldest)]);
    // What is deleted cannot be reported late: nobody could settle that, and the log would be kept for it.
    folder.clock.advance(EXPIRY_MS);
    queue.tick();
    assert_eq!(group_stats(&queue, "late").queues[1].dropped, [(oldest, 20)]);
}

#[test]
fn a_disk_too_full_for_a_snapshot_is_no_reason_to_keep_what_no_snapshot_holds() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let clock = Arc::clone(&folder.clock) as Arc<dyn Clock>;
    let queue = Queue::open_with(options(&folder), policies(), storage.as_storage(), clock).unwrap();
    fill(&queue);
    for _ in 0..2 {
        queue.snapshot().unwrap();
        append(&queue, &[message(b"more")]);
    }
    let older = queue.dispatched();
    fill(&queue);
    folder.clock.advance(RETENTION_MS);
    storage.fail(FaultyCall::Write, "snapshot", 1, std::io::ErrorKind::StorageFull);
    assert!(delete(&queue) > 3, "{:?}", queue.keeping());
    assert!(queue.start() < older);
    assert!(delete(&queue) > 3, "{:?}", queue.keeping());
    assert!(queue.start() > older);
}

#[test]
fn what_is_put_back_into_a_group_that_was_idle_for_too_long_waits_for_it_anew() {
    for redrive in [true, false] {
        let folder = Folder::new();
        let queue = open(&folder);
        let dead = append(&queue, &[message(b"dead")]).first;
        queue.put_group(TOPIC, GROUP, StartFrom::First, Some(1), None).unwrap();
        let lease = receive(&queue, GROUP, 1, 1_000).remove(0);
        queue.nack(TOPIC, GROUP, &[lease.receipt], None).remove(0).unwrap();
        queue.take_reports(1, None).iter().for_each(|report| queue.settle(report));
        fill(&queue);
        folder.clock.advance(EXPIRY_MS);
        assert_eq!(delete(&queue), 0, "a dead letter is kept");
        if redrive {
            assert!(queue.redrive(TOPIC, GROUP, dead));
        } else {
            queue.reset_group(TOPIC, GROUP, StartFrom::First).unwrap();
        }
        assert_eq!(delete(&queue), 0, "{:?}", queue.keeping());
        assert_eq!(bodies(&receive(&queue, GROUP, 1, 1_000)), ["dead"]);
        folder.clock.advance(EXPIRY_MS);
        assert!(delete(&queue) > 3, "{:?}", queue.keeping());
    }
}
