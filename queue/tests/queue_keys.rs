//! Look-up by key: what is durable and in its queue, the newest first, through crashes and lost files.
#![allow(clippy::unwrap_used)]

mod queue_support;

use queue_support::*;
use tidegate_queue::storage::PowerLoss;
use tidegate_queue::*;

fn keyed<'a>(keys: &'a [&'a str], body: &'a [u8]) -> NewMessage<'a> {
    NewMessage { keys, ..message(body) }
}

fn look_up(queue: &Queue, key: &str) -> Vec<String> {
    let found = queue.look_up_key(TOPIC, key, 100);
    found.iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect()
}

#[test]
fn the_newest_come_first_and_only_those_of_the_topic_with_that_key() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[keyed(&["a"], b"1"), keyed(&["a", "b", "a"], b"2"), message(b"none")]);
    append(&queue, &[NewMessage { topic: "other", ..keyed(&["a"], b"3") }, keyed(&["b"], b"4")]);
    append(&queue, &[keyed(&["a"], b"5"), keyed(&[""], b"6")]);
    assert_eq!(look_up(&queue, "a"), ["5", "2", "1"]);
    assert_eq!(look_up(&queue, "b"), ["4", "2"]);
    assert_eq!(look_up(&queue, ""), ["6"]);
    assert!(look_up(&queue, "c").is_empty() && queue.look_up_key("no such topic", "a", 9).is_empty());
    let newest = queue.look_up_key(TOPIC, "a", 2);
    assert_eq!(newest.iter().map(|message| message.offset).collect::<Vec<_>>(), [4, 1]);
    assert_eq!(newest[1].keys, ["a", "b", "a"]);
    assert!(queue.look_up_key(TOPIC, "a", 0).is_empty());
    assert_eq!(queue.find(newest[0].position).unwrap().body, newest[0].body);
    // Settled messages are found as well.
    for delivery in receive(&queue, GROUP, 10, 1_000) {
        ack(&queue, GROUP, &delivery).unwrap();
    }
    drop(queue);
    assert_eq!(look_up(&folder.open(), "a"), ["5", "2", "1"]);
}

#[test]
fn only_what_is_durable_is_found() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let queue = folder.open_on(&storage);
    append(&queue, &[keyed(&["a"], b"durable")]);
    storage.hold_syncs_of("commitlog");
    accept(&queue, &[keyed(&["a"], b"accepted")]);
    assert_eq!(look_up(&queue, "a"), ["durable"]);
    storage.kill();
    drop(queue);
    storage.power_loss(1, PowerLoss::Everything);
    storage.release_syncs();
    let queue = folder.open_on(&storage);
    assert_eq!(look_up(&queue, "a"), ["durable"]);
    append(&queue, &[keyed(&["a"], b"after")]);
    assert_eq!(look_up(&queue, "a"), ["after", "durable"]);
}

#[test]
fn delayed_and_half_messages_are_found_when_they_come_into_their_queue() {
    let folder = Folder::new();
    let queue = folder.open();
    let later = NewMessage { deliver_at_ms: Some(NOW_MS + 10), ..keyed(&["a"], b"later") };
    append(&queue, &[later]);
    let half = queue.begin("shop", &keyed(&["a"], b"half")).unwrap();
    settle_down(&queue);
    assert!(look_up(&queue, "a").is_empty());
    folder.clock.advance(10);
    queue.tick();
    settle_down(&queue);
    assert_eq!(look_up(&queue, "a"), ["later"]);
    queue.commit(half.first).unwrap();
    settle_down(&queue);
    assert_eq!(look_up(&queue, "a"), ["half", "later"]);
}

#[test]
fn a_look_up_is_bounded() {
    let folder = Folder::new();
    let queue = folder.open();
    for _ in 0..15 {
        append(&queue, &[keyed(&["hot"], b"x"); 100]);
    }
    append(&queue, &[keyed(&["cold"], b"y")]);
    assert_eq!(queue.look_up_key(TOPIC, "hot", usize::MAX).len(), LOOK_UP_MAX);
    assert_eq!(queue.look_up_key(TOPIC, "hot", 7).len(), 7);
    assert_eq!(look_up(&queue, "cold"), ["y"]);
    assert_eq!(queue.keys_reach(), queue.durable());
}
