//! The order of the log is the order of the queues, whoever appends and whatever is refused.
#![allow(clippy::unwrap_used)]

mod queue_support;

use queue_support::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use tidegate_queue::*;

#[test]
fn fm47_offsets_rise_in_the_order_of_the_log_without_holes_whoever_appends_and_whatever_is_refused() {
    const THREADS: u64 = 6;
    const BATCHES: u64 = 200;
    let folder = Folder::new();
    // So little may wait that appends are refused all the time.
    let queue = folder.open_with(QueueOptions {
        pending_bytes_max: 2_000,
        segment_bytes: 64 << 10,
        topic_queues: 2,
        ..folder.options()
    });
    queue.put_topic(TOPIC, 2).unwrap();
    let refused = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (queue, refused) = (queue.clone(), &refused);
            scope.spawn(move || {
                let mut last = Position(0);
                for n in 0..BATCHES {
                    let body = [thread.to_le_bytes(), n.to_le_bytes()].concat();
                    // Both queues in one batch: a refusal gives both offsets back.
                    let on = |number| NewMessage { queue: QueueChoice::Explicit(number), ..message(&body) };
                    let appended = loop {
                        match queue.append(&[on(0), on(1), on(0)], Space::New) {
                            Err(AppendError::Busy) => {
                                refused.fetch_add(1, Ordering::Relaxed);
                                thread::yield_now();
                            }
                            other => break other.unwrap(),
                        }
                    };
                    assert!(appended.first > last, "positions rise in the order of the calls");
                    last = appended.first;
                }
            });
        }
    });
    settle_down(&queue);
    assert!(refused.load(Ordering::Relaxed) > 0, "nothing was refused: the race was not run");
    let mut next = [0, 0];
    let mut newest: HashMap<u64, u64> = HashMap::new();
    for message in queue.scan(queue.start()).map(Result::unwrap) {
        let expected = &mut next[message.queue as usize];
        assert_eq!(message.offset, *expected, "queue {} at {}", message.queue, message.position);
        *expected += 1;
        let word = |at: usize| u64::from_le_bytes(message.body[at..at + 8].try_into().unwrap());
        let before = newest.insert(word(0), word(8)).unwrap_or(0);
        assert!(before <= word(8), "the order in which thread {} was answered", word(0));
    }
    assert_eq!(next, [THREADS * BATCHES * 2, THREADS * BATCHES]);
}
