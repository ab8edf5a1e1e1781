//! Half messages: seen by nobody until committed, decided once, asked for when forgotten, through crashes.
#![allow(clippy::unwrap_used)]

mod queue_support;

use queue_support::*;
use std::sync::Arc;
use tidegate_queue::storage::{FaultyStorage, PowerLoss};
use tidegate_queue::*;

const SHOP: &str = "shop";

fn begin(queue: &Queue, body: &[u8]) -> Position {
    let appended = queue.begin(SHOP, &message(body)).unwrap();
    queue.wait_durable(appended.end).unwrap();
    appended.first
}

/// Commits or rolls back, and waits until it is durable and seen.
fn decide(queue: &Queue, id: Position, commits: bool) -> Result<Appended, TransactionError> {
    let appended = if commits { queue.commit(id) } else { queue.roll_back(id) }?;
    settle_down(queue);
    Ok(appended)
}

fn crash(folder: &Folder, storage: &Arc<FaultyStorage>, queue: Queue) -> Queue {
    storage.kill();
    drop(queue);
    storage.power_loss(1, PowerLoss::Everything);
    folder.open_on(storage)
}

#[test]
fn a_half_message_is_seen_when_it_is_committed_and_not_before() {
    let folder = Folder::new();
    let queue = folder.open();
    let kept = begin(&queue, b"kept");
    let dropped = begin(&queue, b"dropped");
    append(&queue, &[message(b"plain")]);
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 60_000)), ["plain"]);
    assert!(queue.find(kept).is_none() && queue.scan(queue.start()).count() == 1);
    let appended = decide(&queue, kept, true).unwrap();
    decide(&queue, dropped, false).unwrap();
    let seen = receive(&queue, GROUP, 10, 60_000);
    assert_eq!(bodies(&seen), ["kept"]);
    assert_eq!((seen[0].message.position, seen[0].message.offset), (appended.first, appended.offset));
    assert!(seen[0].message.properties.is_empty(), "what the queue notes for itself is not shown");
    assert_eq!(queue.open_transactions(), 0);
}

#[test]
fn fm37_what_was_decided_first_stays_also_after_a_crash() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let mut queue = folder.open_on(&storage);
    let (yes, no) = (begin(&queue, b"yes"), begin(&queue, b"no"));
    let committed = decide(&queue, yes, true).unwrap();
    decide(&queue, no, false).unwrap();
    for _ in 0..2 {
        assert_eq!(decide(&queue, yes, false), Err(TransactionError::Decided(Outcome::Committed)));
        assert_eq!(decide(&queue, no, true), Err(TransactionError::Decided(Outcome::RolledBack)));
        assert_eq!(decide(&queue, yes, true).map(|again| again.first), Ok(committed.first));
        decide(&queue, no, false).unwrap();
        queue = crash(&folder, &storage, queue);
    }
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 60_000)), ["yes"]);
    assert_eq!(decide(&queue, Position(64), true), Err(TransactionError::Unknown));
}

#[test]
fn a_decision_that_a_crash_took_can_be_made_again_either_way() {
    for commits in [true, false] {
        let folder = Folder::new();
        let storage = folder.faulty();
        let queue = folder.open_on(&storage);
        let id = begin(&queue, b"x");
        storage.hold_syncs_of("commitlog/0");
        queue.commit(id).unwrap();
        assert!(storage.wait_for_held_sync(1));
        let queue = crash(&folder, &storage, queue);
        assert_eq!(queue.open_transactions(), 1);
        decide(&queue, id, commits).unwrap();
        assert_eq!(receive(&queue, GROUP, 10, 60_000).len(), usize::from(commits));
    }
}

#[test]
fn only_a_durable_half_message_can_be_committed() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let queue = folder.open_on(&storage);
    append(&queue, &[message(b"a")]);
    storage.hold_syncs();
    let half = queue.begin(SHOP, &message(b"x")).unwrap();
    assert_eq!(queue.commit(half.first), Err(TransactionError::NotDurable));
    storage.release_syncs();
    queue.wait_durable(half.end).unwrap();
    queue.commit(half.first).unwrap();
}

#[test]
fn fm37_it_is_asked_for_again_and_again_and_then_rolled_back() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let mut queue = folder.open_on(&storage);
    let id = begin(&queue, b"x");
    folder.clock.advance(5_999);
    queue.tick();
    assert!(queue.take_checks(SHOP, 10, None).is_empty(), "not before its time");
    folder.clock.advance(1);
    for number in 1..=15 {
        queue.tick();
        queue.wait_durable(queue.end()).unwrap();
        assert!(queue.take_checks("other", 10, None).is_empty());
        let checks = queue.take_checks(SHOP, 10, None);
        assert_eq!(checks.iter().map(|check| (check.id, check.number)).collect::<Vec<_>>(), [(id, number)]);
        assert_eq!(&checks[0].message.body[..], b"x");
        assert!(queue.take_checks(SHOP, 10, None).is_empty(), "asked once each time");
        // Whoever was asked died, and so do we; the count goes on.
        if number % 4 == 0 {
            queue = crash(&folder, &storage, queue);
        }
        folder.clock.advance(30_000);
    }
    queue.tick();
    assert_eq!(queue.open_transactions(), 0);
    assert_eq!(queue.commit(id), Err(TransactionError::Decided(Outcome::RolledBack)));
    settle_down(&queue);
    assert!(receive(&queue, GROUP, 10, 60_000).is_empty());
}

#[test]
fn an_outage_of_any_length_rolls_nothing_back_unasked() {
    let folder = Folder::new();
    let queue = folder.open();
    let id = begin(&queue, b"x");
    drop(queue);
    folder.clock.advance(1_000_000_000);
    let queue = folder.open();
    queue.tick();
    queue.wait_durable(queue.end()).unwrap();
    assert_eq!(queue.take_checks(SHOP, 10, None).len(), 1);
    decide(&queue, id, true).unwrap();
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 60_000)), ["x"]);
}

#[test]
fn a_delayed_message_of_a_transaction_waits_for_both() {
    let folder = Folder::new();
    let queue = folder.open();
    let half =
        |at_ms| queue.begin(SHOP, &NewMessage { deliver_at_ms: Some(at_ms), ..message(b"x") }).unwrap();
    let (later, late) = (half(NOW_MS + 1_000), half(NOW_MS + 10));
    queue.wait_durable(queue.end()).unwrap();
    folder.clock.advance(10);
    decide(&queue, late.first, true).unwrap();
    decide(&queue, later.first, true).unwrap();
    assert_eq!(receive(&queue, GROUP, 10, 60_000).len(), 1);
    assert_eq!(queue.delayed(), 1);
    drop(queue);
    let queue = folder.open();
    folder.clock.advance(990);
    queue.tick();
    settle_down(&queue);
    assert_eq!(receive(&queue, "fresh", 10, 60_000).len(), 2);
    assert_eq!(queue.delayed(), 0);
}

#[test]
fn a_full_disk_refuses_new_half_messages_and_never_a_commit() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let queue = folder.open_on(&storage);
    append(&queue, &[message(b"first")]);
    let big = vec![7; 4_000];
    let mut ids = Vec::new();
    storage.set_quota(Some(storage.used() + 128 * 1024));
    loop {
        match queue.begin(SHOP, &message(&big)) {
            Ok(appended) => ids.push(appended.first),
            Err(TransactionError::Append(AppendError::NoSpace)) => break,
            Err(TransactionError::Append(AppendError::Busy)) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    queue.wait_durable(queue.end()).unwrap();
    assert!(ids.len() > 4, "{}", ids.len());
    for id in ids {
        decide(&queue, id, true).unwrap();
    }
}

#[test]
fn a_message_must_not_bring_what_the_queue_notes_for_itself() {
    let folder = Folder::new();
    let queue = folder.open();
    let forged = NewMessage { properties: &[("tidegate.producer", "1 x")], ..message(b"x") };
    assert!(matches!(queue.append(&[forged], Space::New), Err(AppendError::Invalid(_))));
    assert!(matches!(queue.begin(SHOP, &forged), Err(TransactionError::Append(AppendError::Invalid(_)))));
}
