//! What the façade's tests share: a data folder, a clock moved by hand, and one-line calls.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tempfile::TempDir;
use tidegate_queue::storage::DiskStorage;
use tidegate_queue::*;

pub const NOW_MS: u64 = 1_700_000_000_000;
pub const TOPIC: &str = "orders";
pub const GROUP: &str = "workers";

/// A data folder and its clock. Queues opened on it have no timer thread.
pub struct Folder {
    pub dir: TempDir,
    pub clock: Arc<ManualClock>,
}

impl Folder {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self { dir, clock: Arc::new(ManualClock::new(NOW_MS)) }
    }

    pub fn options(&self) -> QueueOptions {
        QueueOptions {
            dir: self.dir.path().to_path_buf(),
            flush: Durability::Sync,
            segment_bytes: 64 * 1024,
            pending_bytes_max: 1 << 20,
            topic_queues: 4,
            ack_sync_ms: 50,
            attempts_max: 3,
            retry_delays_ms: vec![1_000, 5_000],
            timer_thread: false,
        }
    }

    pub fn open(&self) -> Queue {
        self.open_with(self.options())
    }

    pub fn open_with(&self, options: QueueOptions) -> Queue {
        let storage = Arc::new(DiskStorage::new(self.dir.path()).expect("the folder is there"));
        Queue::open(options, storage, Arc::clone(&self.clock) as Arc<dyn Clock>).expect("the queue opens")
    }
}

/// A message for queue 0.
pub fn message(body: &[u8]) -> NewMessage<'_> {
    NewMessage { topic: TOPIC, queue: QueueChoice::Explicit(0), body, ..NewMessage::default() }
}

/// Appends, and waits until it may be received.
pub fn append(queue: &Queue, batch: &[NewMessage<'_>]) -> Appended {
    let appended = queue.append(batch, Space::New).expect("the log accepts");
    settle_down(queue);
    appended
}

/// Waits until everything accepted may be received.
pub fn settle_down(queue: &Queue) {
    let end = queue.end();
    queue.wait_durable(end).expect("the log is healthy");
    queue.wait_dispatched(end);
}

/// What is there at once.
pub fn receive(queue: &Queue, group: &str, max: usize, lease_ms: u64) -> Vec<Delivery> {
    receive_tagged(queue, group, max, lease_ms, &[])
}

pub fn receive_tagged(
    queue: &Queue,
    group: &str,
    max: usize,
    lease_ms: u64,
    tags: &[String],
) -> Vec<Delivery> {
    let request = ReceiveRequest { topic: TOPIC, group, max, lease_ms, tags };
    match queue.poll_receive(&mut Context::from_waker(Waker::noop()), &mut None, &request) {
        Poll::Ready(answer) => answer.expect("the receive is valid"),
        Poll::Pending => Vec::new(),
    }
}

pub fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|d| String::from_utf8_lossy(&d.message.body).into_owned()).collect()
}

pub fn ack(queue: &Queue, group: &str, delivery: &Delivery) -> Result<(), ReceiptError> {
    queue.ack(TOPIC, group, std::slice::from_ref(&delivery.receipt)).remove(0)
}

pub fn group_stats(queue: &Queue, group: &str) -> GroupStats {
    let topics = queue.stats();
    let topic = topics.iter().find(|topic| topic.topic == TOPIC).expect("the topic is known");
    topic.groups.iter().find(|stats| stats.group == group).expect("the group is known").clone()
}
