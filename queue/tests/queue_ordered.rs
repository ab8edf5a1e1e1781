//! Ordered groups: one at a time per key, in order, through retries and restarts. And broadcasts.
#![allow(clippy::unwrap_used)]

mod queue_support;

use queue_support::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use tidegate_queue::*;

fn keyed<'a>(key: &'a [&'a str], body: &'a [u8]) -> NewMessage<'a> {
    NewMessage { keys: key, ..message(body) }
}

/// Two customers, three messages of the first and two of the second, in one queue.
fn five(queue: &Queue) {
    let (a, b) = (["a"], ["b"]);
    append(
        queue,
        &[
            keyed(&a, b"a0"),
            keyed(&a, b"a1"),
            keyed(&b, b"b0"),
            keyed(&a, b"a2"),
            keyed(&b, b"b1"),
            message(b"free"),
        ],
    );
}

fn ordered(folder: &Folder) -> Queue {
    let queue = folder.open();
    queue.set_ordered(TOPIC, GROUP, true).unwrap();
    five(&queue);
    queue
}

#[test]
fn one_of_each_key_is_out_and_the_others_go_on() {
    let folder = Folder::new();
    let queue = ordered(&folder);
    let first = receive(&queue, GROUP, 10, 60_000);
    assert_eq!(bodies(&first), ["a0", "b0", "free"]);
    assert!(receive(&queue, GROUP, 10, 60_000).is_empty());
    ack(&queue, GROUP, &first[1]).unwrap();
    let second = receive(&queue, GROUP, 10, 60_000);
    assert_eq!(bodies(&second), ["b1"]);
    ack(&queue, GROUP, &first[0]).unwrap();
    let third = receive(&queue, GROUP, 10, 60_000);
    assert_eq!(bodies(&third), ["a1"]);
    ack(&queue, GROUP, &third[0]).unwrap();
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 60_000)), ["a2"]);
}

#[test]
fn a_retry_comes_before_what_is_behind_it_and_blocks_only_its_key() {
    let folder = Folder::new();
    let queue = ordered(&folder);
    let first = receive(&queue, GROUP, 10, 60_000);
    queue.nack(TOPIC, GROUP, &[first[0].receipt.clone()], Some(5_000))[0].unwrap();
    ack(&queue, GROUP, &first[1]).unwrap();
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 60_000)), ["b1"]);
    folder.clock.advance(5_000);
    let again = receive(&queue, GROUP, 10, 1_000);
    assert_eq!((bodies(&again), again[0].attempt), (vec!["a0".to_owned()], 2));
    // Its consumer goes away: the next one gets it, and nothing overtakes.
    folder.clock.advance(1_000);
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 1_000)), ["a0"]);
    // That was the last attempt.
    folder.clock.advance(1_000);
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 1_000)), ["a1"]);
    assert_eq!(queue.take_reports(9, None)[0].kind, ReportKind::DeadLettered);
}

#[test]
fn the_order_is_the_same_after_a_restart() {
    let folder = Folder::new();
    let queue = ordered(&folder);
    let first = receive(&queue, GROUP, 10, 60_000);
    queue.nack(TOPIC, GROUP, &[first[0].receipt.clone()], Some(5_000))[0].unwrap();
    queue.checkpoint().unwrap();
    drop(queue);
    let queue = folder.open();
    // a0 waits for its retry; a1 and a2 were in line behind it.
    let second = receive(&queue, GROUP, 10, 60_000);
    assert_eq!(bodies(&second), ["b0", "free"]);
    folder.clock.advance(5_000);
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 60_000)), ["a0"]);
}

#[test]
fn what_is_dropped_at_its_deadline_lets_the_next_go() {
    let folder = Folder::new();
    let queue = folder.open();
    queue.set_ordered(TOPIC, GROUP, true).unwrap();
    let key = ["a"];
    let late = |body| NewMessage { deadline_ms: Some(NOW_MS + 1_000), ..keyed(&key, body) };
    append(&queue, &[late(b"0"), late(b"1"), keyed(&key, b"2")]);
    let first = receive(&queue, GROUP, 10, 60_000);
    queue.nack(TOPIC, GROUP, &[first[0].receipt.clone()], Some(60_000))[0].unwrap();
    folder.clock.advance(1_000);
    queue.tick();
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 60_000)), ["2"]);
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn who_waits_is_woken_when_the_next_of_a_key_may_go() {
    let folder = Folder::new();
    let queue = ordered(&folder);
    let first = receive(&queue, GROUP, 10, 60_000);
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let request = ReceiveRequest { topic: TOPIC, group: GROUP, max: 1, lease_ms: 1_000, tags: &[] };
    let mut slot = None;
    assert!(queue.poll_receive(&mut Context::from_waker(&waker), &mut slot, &request).is_pending());
    ack(&queue, GROUP, &first[0]).unwrap();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(queue.poll_receive(&mut Context::from_waker(&waker), &mut slot, &request).is_ready());
}

#[test]
fn a_group_that_is_no_longer_ordered_delivers_what_waited_in_line() {
    let folder = Folder::new();
    let queue = ordered(&folder);
    assert_eq!(receive(&queue, GROUP, 10, 60_000).len(), 3);
    queue.set_ordered(TOPIC, GROUP, false).unwrap();
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 60_000)), ["a1", "a2", "b1"]);
}

#[test]
fn each_consumer_of_a_broadcast_sees_every_message_and_goes_on_where_it_was() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"0")]);
    let join = |queue: &Queue, consumer| {
        queue.join_broadcast(TOPIC, "news", consumer, Broadcast::default()).unwrap()
    };
    let (one, two) = (join(&queue, "one"), join(&queue, "two"));
    append(&queue, &[message(b"1")]);
    for delivery in receive(&queue, &one, 10, 60_000) {
        ack(&queue, &one, &delivery).unwrap();
    }
    assert_eq!(bodies(&receive(&queue, &two, 10, 60_000)), ["0", "1"]);
    queue.close().unwrap();
    drop(queue);
    let queue = folder.open();
    append(&queue, &[message(b"2")]);
    assert_eq!(bodies(&receive(&queue, &join(&queue, "one"), 10, 60_000)), ["2"]);
    assert!(queue.delete_group(TOPIC, &one).unwrap());
    assert!(!queue.delete_group(TOPIC, &one).unwrap());
    drop(queue);
    let queue = folder.open();
    assert!(queue.group_counts(TOPIC, &one).is_none() && queue.group_counts(TOPIC, &two).is_some());
}

#[test]
fn a_broadcast_is_remembered_and_goes_with_all_its_consumers() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"before")]);
    let news = Broadcast { start: StartFrom::Last, attempts_max: Some(2), retry_delays_ms: Some(vec![7]) };
    queue.put_broadcast(TOPIC, "news", news.clone()).unwrap();
    drop(queue);
    let queue = folder.open();
    assert_eq!(queue.broadcast(TOPIC, "news"), Some(news.clone()));
    assert_eq!((queue.broadcast(TOPIC, "other"), queue.broadcast("other", "news")), (None, None));
    let one = queue.join_broadcast(TOPIC, "news", "one", news.clone()).unwrap();
    append(&queue, &[message(b"after")]);
    assert_eq!(bodies(&receive(&queue, &one, 10, 60_000)), ["after"]);
    // Nobody consumes under the name of the broadcast itself, and no group can take its name.
    assert!(queue.put_group(TOPIC, "news", StartFrom::First, None, None).is_err());
    assert!(queue.put_broadcast(TOPIC, "a%b", Broadcast::default()).is_err());
    assert!(queue.join_broadcast(TOPIC, "news", "a%b", Broadcast::default()).is_err());
    queue.put_group(TOPIC, GROUP, StartFrom::First, None, None).unwrap();
    assert!(queue.put_broadcast(TOPIC, GROUP, Broadcast::default()).is_err());
    assert_eq!(queue.consumers(TOPIC, "news"), ["news%one"]);
    assert!(queue.delete_group(TOPIC, "news").unwrap());
    drop(queue);
    let queue = folder.open();
    assert!(queue.broadcast(TOPIC, "news").is_none() && queue.consumers(TOPIC, "news").is_empty());
}

#[test]
fn the_key_that_a_message_was_sent_with_goes_before_its_look_up_keys() {
    let folder = Folder::new();
    let queue = folder.open();
    queue.put_topic(TOPIC, 1).unwrap();
    queue.set_ordered(TOPIC, GROUP, true).unwrap();
    let keys = [["x"], ["y"]];
    let sent = |keys, body, deliver_at_ms| NewMessage {
        queue: QueueChoice::Ordered("customer"),
        keys,
        deliver_at_ms,
        properties: &[("own", "1")],
        ..message(body)
    };
    append(&queue, &[sent(&keys[0], b"0", None)]);
    let half = queue.begin("shop", &sent(&keys[1], b"1", None)).unwrap();
    queue.wait_durable(half.end).unwrap();
    queue.commit(half.first).unwrap();
    append(&queue, &[sent(&keys[1], b"2", Some(NOW_MS + 10))]);
    folder.clock.advance(10);
    queue.tick();
    settle_down(&queue);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let one = receive(&queue, GROUP, 10, 60_000);
        assert_eq!(one.len(), 1, "one at a time");
        assert_eq!(one[0].message.properties, [("own".to_owned(), "1".to_owned())]);
        seen.extend(bodies(&one));
        ack(&queue, GROUP, &one[0]).unwrap();
    }
    assert_eq!(seen, ["0", "1", "2"]);
}

#[test]
fn consumers_of_a_broadcast_that_do_not_come_back_make_room() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"0")]);
    let join = |consumer: &str| queue.join_broadcast(TOPIC, "news", consumer, Broadcast::default());
    // As many groups as a topic may have. By a receive they are made without waiting for the disk.
    let first: Vec<String> = (0..1_000).map(|number| format!("news%c{number}")).collect();
    for group in &first {
        assert_eq!(receive(&queue, group, 1, 1).len(), 1);
    }
    folder.clock.advance(Policies::default().group_expiry_ms - 1);
    // This one is there still.
    assert_eq!(receive(&queue, &first[7], 10, 1_000).len(), 1);
    assert!(join("new").is_err());
    folder.clock.advance(1);
    let new = join("new").unwrap();
    let mut left = queue.consumers(TOPIC, "news");
    left.sort();
    assert_eq!(left, [first[7].clone(), new]);
    assert_eq!(bodies(&receive(&queue, &join("c3").unwrap(), 10, 1_000)), ["0"], "it begins anew");
}
