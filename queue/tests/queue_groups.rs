//! Groups and leases: every group sees every message, nothing blocks what is behind it, and a receipt is
//! good for one lease only.
#![allow(clippy::unwrap_used)]

mod queue_support;

use queue_support::*;
use tidegate_queue::*;

#[test]
fn every_group_sees_every_message_of_every_queue() {
    let folder = Folder::new();
    let queue = folder.open();
    for n in 0..20u8 {
        append(&queue, &[NewMessage { queue: QueueChoice::RoundRobin, ..message(&[n]) }]);
    }
    for group in ["a", "b"] {
        let mut seen: Vec<u8> =
            receive(&queue, group, 100, 1_000).iter().map(|d| d.message.body[0]).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..20).collect::<Vec<u8>>());
        assert!(receive(&queue, group, 100, 1_000).is_empty());
    }
    assert_eq!(group_stats(&queue, "a").leased, 20);
}

#[test]
fn offsets_are_dense_and_a_refused_append_advances_none() {
    let folder = Folder::new();
    let queue = folder.open();
    assert_eq!(append(&queue, &[message(b"0")]).offset, 0);
    let bad = NewMessage { queue: QueueChoice::Explicit(9), ..message(b"x") };
    assert!(matches!(queue.append(&[message(b"x"), bad], Space::New), Err(AppendError::Invalid(_))));
    let large = vec![0; 2 << 20];
    assert!(queue.append(&[message(b"x"), message(&large)], Space::New).is_err());
    assert_eq!(append(&queue, &[message(b"1"), message(b"2")]).offset, 1);
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 1_000)), ["0", "1", "2"]);
}

#[test]
fn names_that_could_leave_the_folder_are_refused() {
    let folder = Folder::new();
    let queue = folder.open();
    for name in ["", "..", ".", "a/b", "a b", "é", &"x".repeat(128)] {
        let refused = queue.append(&[NewMessage { topic: name, ..message(b"x") }], Space::New);
        assert!(matches!(refused, Err(AppendError::Invalid(_))), "{name:?}");
        assert!(queue.put_group(TOPIC, name, StartFrom::First, None, None).is_err(), "{name:?}");
    }
}

#[test]
fn fm25_a_hot_queue_never_starves_the_others() {
    let folder = Folder::new();
    let queue = folder.open();
    let hot: Vec<NewMessage<'_>> = (0..200).map(|_| message(b"hot")).collect();
    append(&queue, &hot);
    let cold = |n| NewMessage { queue: QueueChoice::Explicit(n), ..message(b"cold") };
    append(&queue, &[cold(1), cold(2), cold(3)]);
    let first = receive(&queue, GROUP, 8, 60_000);
    assert_eq!(first.len(), 8, "what the others leave is filled up");
    assert_eq!(first.iter().filter(|d| &d.message.body[..] == b"cold").count(), 3);

    append(&queue, &[cold(1), cold(2), cold(3)]);
    let one_by_one: Vec<Delivery> = (0..4).flat_map(|_| receive(&queue, GROUP, 1, 60_000)).collect();
    assert_eq!(one_by_one.iter().filter(|d| &d.message.body[..] == b"cold").count(), 3);
}

#[test]
fn fm35_a_message_that_always_fails_does_not_block_those_behind_it() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"poison"), message(b"a"), message(b"b")]);
    let mut handled = Vec::new();
    for _ in 0..20 {
        for delivery in receive(&queue, GROUP, 1, 60_000) {
            if &delivery.message.body[..] == b"poison" {
                assert_eq!(queue.nack(TOPIC, GROUP, &[delivery.receipt], None), [Ok(())]);
            } else {
                ack(&queue, GROUP, &delivery).unwrap();
                handled.push(String::from_utf8(delivery.message.body.to_vec()).unwrap());
            }
        }
        if handled.len() == 2 {
            break;
        }
    }
    assert_eq!(handled, ["a", "b"]);

    // Attempts 2 and 3, then it is a dead letter.
    for (delay_ms, attempt) in [(1_000, 2), (5_000, 3)] {
        folder.clock.advance(delay_ms - 1);
        assert!(receive(&queue, GROUP, 1, 60_000).is_empty());
        folder.clock.advance(1);
        let again = receive(&queue, GROUP, 1, 60_000).remove(0);
        assert_eq!(again.attempt, attempt);
        queue.nack(TOPIC, GROUP, &[again.receipt], None)[0].unwrap();
    }
    folder.clock.advance(1 << 40);
    assert!(receive(&queue, GROUP, 1, 60_000).is_empty());
    let reports = queue.take_reports(10, None);
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].kind, ReportKind::DeadLettered);
    assert!(queue.dead_letters(TOPIC, GROUP, 10).is_empty(), "not before its report is settled");
    queue.settle(&reports[0]);
    assert!(queue.take_reports(10, None).is_empty());
    let dead = queue.dead_letters(TOPIC, GROUP, 10);
    assert_eq!(dead.len(), 1);
    let stats = group_stats(&queue, GROUP);
    assert_eq!((stats.backlog, stats.dead_letters, stats.acked), (0, 1, 2));
    assert_eq!((stats.queues[0].floor, &stats.queues[0].dead[..]), (3, &[(0, 1)][..]));

    assert!(queue.redrive(TOPIC, GROUP, dead[0].position));
    assert!(!queue.redrive(TOPIC, GROUP, dead[0].position));
    let redriven = receive(&queue, GROUP, 10, 60_000);
    assert_eq!((redriven.len(), redriven[0].attempt), (1, 1));
    ack(&queue, GROUP, &redriven[0]).unwrap();
    let stats = group_stats(&queue, GROUP);
    assert_eq!((stats.backlog, stats.dead_letters, stats.queues[0].floor), (0, 0, 3));
}

#[test]
fn fm34_an_ack_before_the_lease_ends_is_final_and_one_after_is_refused() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"early"), message(b"late")]);
    let leases = receive(&queue, GROUP, 2, 1_000);
    folder.clock.advance(999);
    ack(&queue, GROUP, &leases[0]).unwrap();
    folder.clock.advance(1);
    assert_eq!(
        ack(&queue, GROUP, &leases[1]),
        Err(ReceiptError::Expired),
        "over, though not yet redelivered"
    );
    queue.tick();
    let again = receive(&queue, GROUP, 10, 1_000);
    assert_eq!(bodies(&again), ["late"], "what was acknowledged never comes back");
    assert_eq!(again[0].attempt, 2);
    assert_eq!(ack(&queue, GROUP, &leases[1]), Err(ReceiptError::Expired), "the lease is another's now");
    ack(&queue, GROUP, &again[0]).unwrap();
    assert_eq!(ack(&queue, GROUP, &again[0]), Err(ReceiptError::Expired));
}

#[test]
fn extending_gives_a_new_receipt_and_voids_the_old_one() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"x")]);
    let lease = receive(&queue, GROUP, 1, 1_000).remove(0);
    folder.clock.advance(900);
    let renewed = queue.extend(TOPIC, GROUP, std::slice::from_ref(&lease.receipt), 1_000).remove(0).unwrap();
    folder.clock.advance(900);
    queue.tick();
    assert!(receive(&queue, GROUP, 1, 1_000).is_empty());
    assert_eq!(ack(&queue, GROUP, &lease), Err(ReceiptError::Expired));
    assert_eq!(queue.ack(TOPIC, GROUP, &[renewed]), [Ok(())]);
}

#[test]
fn a_receipt_is_good_in_its_own_group_and_process_only() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"x")]);
    let lease = receive(&queue, "a", 1, 60_000).remove(0);
    receive(&queue, "b", 1, 60_000);
    assert_eq!(ack(&queue, "b", &lease), Err(ReceiptError::Expired));
    assert_eq!(ack(&queue, "none", &lease), Err(ReceiptError::Expired));
    drop(queue);
    let queue = folder.open();
    assert_eq!(bodies(&receive(&queue, "a", 1, 60_000)), ["x"]);
    assert_eq!(ack(&queue, "a", &lease), Err(ReceiptError::Expired));
}

#[test]
fn tags_are_filtered_and_the_rest_is_counted_as_skipped() {
    let folder = Folder::new();
    let queue = folder.open();
    let tagged = |tag| NewMessage { tag, ..message(b"x") };
    append(&queue, &["a", "b", "c", "", "a"].map(tagged));
    let tags = |tags: &[&str]| tags.iter().map(ToString::to_string).collect::<Vec<_>>();
    let seen = |group, filter: &[&str]| {
        let found = receive_tagged(&queue, group, 10, 1_000, &tags(filter));
        found.iter().map(|d| d.message.tag.clone()).collect::<Vec<_>>()
    };
    assert_eq!(seen("all", &["*"]), ["a", "b", "c", "", "a"]);
    assert_eq!(seen("either", &["a || c"]), ["a", "c", "a"]);
    assert_eq!(seen("list", &["b", "c"]), ["b", "c"]);
    let stats = group_stats(&queue, "either");
    assert_eq!(stats.queues[0].skipped, [(1, 2), (3, 4)]);
    assert_eq!((stats.backlog, stats.leased), (3, 3));
}

#[test]
fn a_group_starts_where_it_says_and_can_be_moved() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"0"), message(b"1")]);
    folder.clock.advance(1_000);
    append(&queue, &[message(b"2")]);
    let start = |group, start| queue.put_group(TOPIC, group, start, None, None).unwrap();
    start("first", StartFrom::First);
    start("last", StartFrom::Last);
    start("offset", StartFrom::Offset(1));
    start("time", StartFrom::TimeMs(NOW_MS + 1));
    start("future", StartFrom::TimeMs(NOW_MS + 5_000));
    append(&queue, &[message(b"3")]);
    for (group, expected) in
        [("first", "0123"), ("last", "3"), ("offset", "123"), ("time", "23"), ("future", "3")]
    {
        let found = receive(&queue, group, 10, 60_000);
        assert_eq!(bodies(&found).concat(), expected, "{group}");
        for delivery in &found {
            ack(&queue, group, delivery).unwrap();
        }
    }
    queue.reset_group(TOPIC, "first", StartFrom::Offset(2)).unwrap();
    assert_eq!(bodies(&receive(&queue, "first", 10, 60_000)).concat(), "23");
    queue.reset_group(TOPIC, "first", StartFrom::Offset(0)).unwrap();
    assert_eq!(bodies(&receive(&queue, "first", 10, 60_000)).concat(), "0123");
    queue.reset_group(TOPIC, "first", StartFrom::Last).unwrap();
    assert!(receive(&queue, "first", 10, 60_000).is_empty());
    let stats = group_stats(&queue, "first");
    assert_eq!((stats.backlog, stats.queues[0].floor, &stats.queues[0].skipped[..]), (0, 4, &[(0, 4)][..]));
}

#[test]
fn discarded_messages_are_settled_and_count_as_skipped() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"x"), message(b"y")]);
    let leases = receive(&queue, GROUP, 2, 60_000);
    assert_eq!(queue.discard(TOPIC, GROUP, &[leases[0].receipt.clone()]), [Ok(())]);
    let stats = group_stats(&queue, GROUP);
    assert_eq!((stats.acked, &stats.queues[0].skipped[..], stats.queues[0].floor), (0, &[(0, 1)][..], 1));
    assert_eq!(queue.group_counts(TOPIC, GROUP).unwrap().backlog, 1);
}
