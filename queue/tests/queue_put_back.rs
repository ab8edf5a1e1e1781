//! What the owner leases and puts back unseen uses up no attempts; deadlines and receipts mean what they always do.
#![allow(clippy::unwrap_used)]

mod queue_support;

use queue_support::*;
use tidegate_queue::*;

fn put_back(queue: &Queue, delivery: &Delivery, delay_ms: u64) -> Result<(), ReceiptError> {
    queue.put_back(TOPIC, GROUP, std::slice::from_ref(&delivery.receipt), delay_ms).remove(0)
}

#[test]
fn what_is_put_back_is_delivered_again_as_the_same_attempt_however_often() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"a")]);
    for delay_ms in (0..50).map(|round| 100 * (round % 2)) {
        let lease = receive(&queue, GROUP, 10, 1_000).remove(0);
        assert_eq!(lease.attempt, 1);
        assert_eq!(put_back(&queue, &lease, delay_ms), Ok(()));
        assert_eq!(put_back(&queue, &lease, delay_ms), Err(ReceiptError::Expired), "it is given back");
        if delay_ms > 0 {
            folder.clock.advance(delay_ms - 1);
            assert!(receive(&queue, GROUP, 10, 1_000).is_empty(), "not before its time");
            folder.clock.advance(1);
        }
    }
    // Its own attempts are all left, and are counted as ever.
    for attempt in 1..=3 {
        let lease = receive(&queue, GROUP, 10, 1_000).remove(0);
        assert_eq!(lease.attempt, attempt);
        queue.nack(TOPIC, GROUP, &[lease.receipt], Some(0))[0].unwrap();
    }
    assert_eq!(queue.take_reports(10, None)[0].kind, ReportKind::DeadLettered);
}

#[test]
fn the_last_attempt_is_put_back_like_every_other() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"a")]);
    for _ in 1..3 {
        let lease = receive(&queue, GROUP, 1, 1_000).remove(0);
        queue.nack(TOPIC, GROUP, &[lease.receipt], Some(0))[0].unwrap();
    }
    for _ in 0..10 {
        let lease = receive(&queue, GROUP, 1, 1_000).remove(0);
        assert_eq!(lease.attempt, 3);
        put_back(&queue, &lease, 0).unwrap();
    }
    let queue_of_next_start = {
        queue.close().unwrap();
        folder.open()
    };
    let lease = receive(&queue_of_next_start, GROUP, 1, 1_000).remove(0);
    assert_eq!(lease.attempt, 3, "a start counts none either");
}

#[test]
fn a_deadline_holds_for_what_is_put_back() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[NewMessage { deadline_ms: Some(NOW_MS + 500), ..message(b"a") }]);
    let lease = receive(&queue, GROUP, 1, 60_000).remove(0);
    put_back(&queue, &lease, 10_000).unwrap();
    folder.clock.advance(500);
    queue.tick();
    assert!(receive(&queue, GROUP, 1, 60_000).is_empty());
    assert_eq!(queue.take_reports(10, None)[0].kind, ReportKind::Dropped);
}

#[test]
fn a_lease_that_is_over_cannot_be_put_back() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"a")]);
    let lease = receive(&queue, GROUP, 1, 1_000).remove(0);
    folder.clock.advance(1_000);
    assert_eq!(put_back(&queue, &lease, 0), Err(ReceiptError::Expired));
    assert_eq!(receive(&queue, GROUP, 1, 1_000).remove(0).attempt, 2);
}
