//! How many messages a group is owed before one of them, and its figures without its lock: against books kept by hand.
#![allow(clippy::unwrap_used)]

mod queue_support;

use proptest::prelude::*;
use queue_support::*;
use std::collections::BTreeMap;
use tidegate_queue::*;

const QUEUES: usize = 2;

#[derive(Debug, Clone, Copy)]
enum Step {
    Append {
        queue: usize,
        count: u8,
        late: bool,
    },
    Receive {
        max: usize,
    },
    Ack {
        which: usize,
    },
    Nack {
        which: usize,
    },
    /// Time passes: messages with a deadline are late, leases end.
    Wait,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..QUEUES, 1_u8..6, any::<bool>()).prop_map(|(queue, count, late)| Step::Append { queue, count, late }),
        3 => (1_usize..6).prop_map(|max| Step::Receive { max }),
        4 => any::<usize>().prop_map(|which| Step::Ack { which }),
        1 => any::<usize>().prop_map(|which| Step::Nack { which }),
        1 => Just(Step::Wait),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..25)
}

/// One message, as the books have it.
#[derive(Debug, Clone)]
struct Written {
    key: String,
    began: Position,
    ended: Position,
    deadline_ms: Option<u64>,
    done: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_place_of_every_message_is_what_counting_tells(steps in steps()) {
        let folder = Folder::new();
        let mut queue = folder.open();
        // No message becomes a dead letter here.
        queue.put_group(TOPIC, GROUP, StartFrom::First, Some(1_000), None).unwrap();
        let mut load = queue.watch_group(TOPIC, GROUP).unwrap();
        let mut books: [Vec<Written>; QUEUES] = Default::default();
        let mut held: BTreeMap<(usize, u64), Receipt> = BTreeMap::new();
        for step in steps {
            let now_ms = folder.clock.now_ms();
            match step {
                Step::Append { queue: number, count, late } => {
                    for _ in 0..count {
                        let key = format!("{number}-{}", books[number].len());
                        let deadline_ms = late.then_some(now_ms + 10_000);
                        let (keys, number_u32) = ([key.as_str()], number as u32);
                        let new = NewMessage { keys: &keys, deadline_ms, queue: QueueChoice::Explicit(number_u32), ..message(b"x") };
                        let appended = append(&queue, &[new]);
                        let (began, ended) = (appended.first, appended.end);
                        books[number].push(Written { key, began, ended, deadline_ms, done: false });
                    }
                }
                Step::Receive { max } => {
                    for delivery in receive(&queue, GROUP, max, 60_000) {
                        held.insert((delivery.message.queue as usize, delivery.message.offset), delivery.receipt);
                    }
                }
                Step::Ack { which } | Step::Nack { which } if !held.is_empty() => {
                    let at = *held.keys().nth(which % held.len()).unwrap();
                    let receipt = [held.remove(&at).unwrap()];
                    if let Step::Ack { .. } = step {
                        let acked = queue.ack(TOPIC, GROUP, &receipt)[0].is_ok();
                        books[at.0][at.1 as usize].done |= acked;
                    } else {
                        queue.nack(TOPIC, GROUP, &receipt, Some(0));
                    }
                }
                Step::Ack { .. } | Step::Nack { .. } => {}
                Step::Wait => {
                    folder.clock.advance(10_000);
                    queue.tick();
                    let now_ms = folder.clock.now_ms();
                    for written in books.iter_mut().flatten() {
                        written.done |= written.deadline_ms.is_some_and(|at_ms| at_ms <= now_ms);
                    }
                }
                Step::Reopen => {
                    queue.close().unwrap();
                    drop(queue);
                    held.clear();
                    queue = folder.open();
                    load = queue.watch_group(TOPIC, GROUP).unwrap();
                }
            }
            let next = queue.next_offsets(TOPIC).unwrap();
            for (number, book) in books.iter().enumerate() {
                let open = book.iter().filter(|written| !written.done).count() as u64;
                prop_assert_eq!(next[number] - load.done(number), open, "queue {}", number);
                let mut ahead = 0;
                for written in book {
                    let expected = (!written.done).then_some(ahead);
                    for near in [written.began, written.ended] {
                        let told = queue.ahead(TOPIC, GROUP, number as u32, near, &written.key);
                        prop_assert_eq!(told, expected, "{:?} at {:?}", written, near);
                    }
                    let other = queue.ahead(TOPIC, GROUP, (1 - number) as u32, written.ended, &written.key);
                    prop_assert_eq!(other, None);
                    ahead += u64::from(!written.done);
                }
            }
            prop_assert_eq!(load.leased(), group_stats(&queue, GROUP).leased);
        }
    }
}

#[test]
fn who_waits_is_counted() {
    use std::task::{Context, Waker};
    let folder = Folder::new();
    let queue = folder.open();
    queue.put_group(TOPIC, GROUP, StartFrom::First, None, None).unwrap();
    let load = queue.watch_group(TOPIC, GROUP).unwrap();
    let request = ReceiveRequest { topic: TOPIC, group: GROUP, max: 1, lease_ms: 1_000, tags: &[] };
    let mut slot = None;
    assert!(queue.poll_receive(&mut Context::from_waker(Waker::noop()), &mut slot, &request).is_pending());
    assert_eq!((load.receivers(), load.queues()), (1, 4));
    drop(slot);
    assert_eq!(load.receivers(), 0);
    assert!(queue.watch_group(TOPIC, "nobody").is_none() && queue.next_offsets("nothing").is_none());
}
