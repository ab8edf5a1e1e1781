//! Batches that are sent twice and appended once, and how much an append promises.
#![allow(clippy::unwrap_used)]

mod queue_support;

use queue_support::*;
use std::sync::Arc;
use tidegate_queue::storage::PowerLoss;
use tidegate_queue::*;

fn till(sequence: u64) -> Producer<'static> {
    Producer { id: "till 7", sequence }
}

#[test]
fn a_repeated_batch_answers_where_the_first_stands_also_across_restarts() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let queue = folder.open_on(&storage);
    append(&queue, &[message(b"before")]);
    let batch = [message(b"a"), message(b"b")];
    let first = queue.append_once(till(1), &batch, Space::New).unwrap();
    assert_eq!((first.repeated, first.appended.offset), (false, 1));
    let second = queue.append_once(till(1), &batch, Space::New).unwrap();
    assert_eq!(second, Once { repeated: true, ..first });
    assert!(!queue.append_once(till(2), &[message(b"c")], Space::New).unwrap().repeated);
    let other = Producer { id: "till 8", sequence: 1 };
    assert!(!queue.append_once(other, &[message(b"d")], Space::New).unwrap().repeated);
    queue.wait_durable(queue.end()).unwrap();
    storage.kill();
    drop(queue);
    storage.power_loss(1, PowerLoss::Everything);
    for _ in 0..2 {
        let queue = folder.open_on(&storage);
        let again = queue.append_once(till(1), &batch, Space::New).unwrap();
        assert!(again.repeated);
        assert_eq!((again.appended.first, again.appended.offset), (first.appended.first, 1));
        assert!(again.appended.end <= queue.durable());
        let seen = receive(&queue, "fresh", 10, 1);
        assert_eq!(bodies(&seen).concat(), "beforeabcd");
        assert!(seen.iter().all(|delivery| delivery.message.properties.is_empty()));
        folder.clock.advance(10);
        queue.reset_group(TOPIC, "fresh", StartFrom::First).unwrap();
        queue.close().unwrap();
    }
}

#[test]
fn a_batch_that_was_refused_or_lost_may_be_sent_again() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let queue = folder.open_on(&storage);
    let bad = NewMessage { queue: QueueChoice::Explicit(99), ..message(b"x") };
    assert!(queue.append_once(till(1), &[bad], Space::New).is_err());
    assert!(!queue.append_once(till(1), &[message(b"x")], Space::New).unwrap().repeated);
    settle_down(&queue);
    storage.hold_syncs_of("commitlog/0");
    queue.append_once(till(2), &[message(b"lost")], Space::New).unwrap();
    assert!(storage.wait_for_held_sync(1));
    storage.kill();
    drop(queue);
    storage.power_loss(1, PowerLoss::Everything);
    let queue = folder.open_on(&storage);
    assert!(queue.append_once(till(1), &[message(b"x")], Space::New).unwrap().repeated);
    assert!(!queue.append_once(till(2), &[message(b"again")], Space::New).unwrap().repeated);
    settle_down(&queue);
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 1_000)), ["x", "again"]);
}

#[test]
fn a_number_too_old_to_tell_is_refused_before_and_after_a_restart() {
    let folder = Folder::new();
    let queue = folder.open();
    for sequence in 0..40 {
        queue.append_once(till(sequence), &[message(b"x")], Space::New).unwrap();
    }
    for queue in [queue.clone(), {
        queue.close().unwrap();
        drop(queue);
        folder.open()
    }] {
        assert_eq!(queue.append_once(till(3), &[message(b"x")], Space::New), Err(ProducerError::TooOld));
        drop(queue);
    }
}

#[test]
fn a_delayed_batch_is_known_by_its_number_and_not_by_its_delivery() {
    let folder = Folder::new();
    let queue = folder.open();
    let delayed = NewMessage { deliver_at_ms: Some(NOW_MS + 10), ..message(b"x") };
    let first = queue.append_once(till(1), &[delayed], Space::New).unwrap();
    settle_down(&queue);
    folder.clock.advance(10);
    queue.tick();
    settle_down(&queue);
    assert_eq!(receive(&queue, GROUP, 10, 1_000).len(), 1);
    drop(queue);
    let queue = folder.open();
    let again = queue.append_once(till(1), &[delayed], Space::New).unwrap();
    assert_eq!((again.repeated, again.appended.first), (true, first.appended.first));
}

#[test]
fn levels_of_acknowledgement_promise_what_they_say() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let options = QueueOptions { flush: Durability::Async { interval_ms: 600_000 }, ..folder.options() };
    let queue =
        Queue::open(options, storage.as_storage(), Arc::clone(&folder.clock) as Arc<dyn Clock>).unwrap();
    let send = |body: &[u8], level| queue.send(&[message(body)], Space::New, level).unwrap();
    // Ten minutes to the next sync, and yet it is on disk.
    let on_disk = send(b"disk", Acknowledge::Disk).unwrap();
    assert!(queue.synced() >= on_disk.end);
    let accepted = send(b"memory", Acknowledge::Memory).unwrap();
    assert!(queue.synced() < accepted.end);
    assert_eq!(send(b"none", Acknowledge::None), None);
    let refused = NewMessage { queue: QueueChoice::Explicit(99), ..message(b"refused") };
    assert_eq!(queue.send(&[refused], Space::New, Acknowledge::None), Ok(None));
    settle_down(&queue);
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 1_000)), ["disk", "memory", "none"]);
    storage.kill();
    drop(queue);
    storage.power_loss(1, PowerLoss::Everything);
    let queue = folder.open_on(&storage);
    assert_eq!(bodies(&receive(&queue, "fresh", 10, 1_000)), ["disk"]);
}

#[test]
fn a_disk_that_fails_is_no_acknowledgement() {
    for flush in [Durability::Sync, Durability::Async { interval_ms: 600_000 }] {
        let folder = Folder::new();
        let storage = folder.faulty();
        let options = QueueOptions { flush, ..folder.options() };
        let clock = Arc::clone(&folder.clock) as Arc<dyn Clock>;
        let queue = Queue::open(options, storage.as_storage(), clock).unwrap();
        storage.fail(tidegate_queue::storage::FaultyCall::Sync, "commitlog/0", 1, std::io::ErrorKind::Other);
        let sent = queue.send(&[message(b"x")], Space::New, Acknowledge::Disk);
        assert_eq!(sent, Err(AppendError::Poisoned));
    }
}

#[test]
fn each_message_of_a_batch_is_told_its_place() {
    let folder = Folder::new();
    let queue = folder.open();
    let in_queue = |number, body| NewMessage { queue: QueueChoice::Explicit(number), ..message(body) };
    let later = NewMessage { deliver_at_ms: Some(NOW_MS + 10), ..message(b"later") };
    let batch = [in_queue(1, b"a"), in_queue(2, b"b"), later, in_queue(1, b"c")];
    let (once, places) = queue.append_placed(Some(till(1)), &batch, Space::New).unwrap();
    assert_eq!((once.repeated, places[0].id), (false, once.appended.first));
    let told: Vec<_> = places.iter().map(|place| (place.queue, place.offset)).collect();
    assert_eq!(told, [(1, 0), (2, 0), (0, 0), (1, 1)]);
    settle_down(&queue);
    for (place, sent) in places.iter().zip(&batch) {
        assert_eq!(queue.find(place.id).unwrap().body, sent.body);
    }
    let (again, none) = queue.append_placed(Some(till(1)), &batch, Space::New).unwrap();
    assert_eq!((again.repeated, again.appended, none.len()), (true, once.appended, 0));
    let (_, places) = queue.append_placed(None, &batch[..1], Space::New).unwrap();
    assert_eq!((places[0].queue, places[0].offset), (1, 2));
}
