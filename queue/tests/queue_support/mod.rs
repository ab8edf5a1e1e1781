//! What the façade's tests share: a data folder, a clock moved by hand, and one-line calls.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tempfile::TempDir;
use tidegate_queue::storage::{DiskStorage, FaultyStorage};
use tidegate_queue::*;

pub(crate) const NOW_MS: u64 = 1_700_000_000_000;
pub(crate) const TOPIC: &str = "orders";
pub(crate) const GROUP: &str = "workers";

/// A data folder and its clock. Queues opened on it have no timer thread.
pub(crate) struct Folder {
    pub(crate) dir: TempDir,
    pub(crate) clock: Arc<ManualClock>,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self { dir, clock: Arc::new(ManualClock::new(NOW_MS)) }
    }

    pub(crate) fn options(&self) -> QueueOptions {
        QueueOptions {
            dir: self.dir.path().to_path_buf(),
            flush: Durability::Sync,
            segment_bytes: 64 * 1024,
            pending_bytes_max: 1 << 20,
            disk_low_bytes: Some(0),
            disk_high_bytes: Some(0),
            topic_queues: 4,
            ack_sync_ms: 50,
            attempts_max: 3,
            retry_delays_ms: vec![1_000, 5_000],
            timer_thread: false,
        }
    }

    pub(crate) fn open(&self) -> Queue {
        self.open_with(self.options())
    }

    pub(crate) fn open_with(&self, options: QueueOptions) -> Queue {
        let storage = Arc::new(DiskStorage::new(self.dir.path()).expect("the folder is there"));
        Queue::open(options, storage, Arc::clone(&self.clock) as Arc<dyn Clock>).expect("the queue opens")
    }

    pub(crate) fn open_by(&self, policies: Policies) -> Queue {
        let storage = Arc::new(DiskStorage::new(self.dir.path()).expect("the folder is there"));
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Queue::open_with(self.options(), policies, storage, clock).expect("the queue opens")
    }

    /// A storage that can lose power, over this folder.
    pub(crate) fn faulty(&self) -> Arc<FaultyStorage> {
        FaultyStorage::new(self.dir.path())
    }

    pub(crate) fn open_on(&self, storage: &Arc<FaultyStorage>) -> Queue {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Queue::open(self.options(), storage.as_storage(), clock).expect("the queue opens")
    }
}

/// A message for queue 0.
pub(crate) fn message(body: &[u8]) -> NewMessage<'_> {
    NewMessage { topic: TOPIC, queue: QueueChoice::Explicit(0), body, ..NewMessage::default() }
}

/// Appends; with tiny segments the log may first have to make one ready.
pub(crate) fn accept(queue: &Queue, batch: &[NewMessage<'_>]) -> Appended {
    let started = std::time::Instant::now();
    loop {
        match queue.append(batch, Space::New) {
            Err(AppendError::Busy) if started.elapsed().as_secs() < 20 => std::thread::yield_now(),
            other => return other.expect("the log accepts"),
        }
    }
}

/// Appends, and waits until it may be received.
pub(crate) fn append(queue: &Queue, batch: &[NewMessage<'_>]) -> Appended {
    let appended = accept(queue, batch);
    settle_down(queue);
    appended
}

/// Waits until everything accepted may be received.
pub(crate) fn settle_down(queue: &Queue) {
    let end = queue.end();
    queue.wait_durable(end).expect("the log is healthy");
    queue.wait_dispatched(end);
}

/// What is there at once.
pub(crate) fn receive(queue: &Queue, group: &str, max: usize, lease_ms: u64) -> Vec<Delivery> {
    receive_tagged(queue, group, max, lease_ms, &[])
}

pub(crate) fn receive_tagged(
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

pub(crate) fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|d| String::from_utf8_lossy(&d.message.body).into_owned()).collect()
}

pub(crate) fn ack(queue: &Queue, group: &str, delivery: &Delivery) -> Result<(), ReceiptError> {
    queue.ack(TOPIC, group, std::slice::from_ref(&delivery.receipt)).remove(0)
}

pub(crate) fn group_stats(queue: &Queue, group: &str) -> GroupStats {
    let topics = queue.stats();
    let topic = topics.iter().find(|topic| topic.topic == TOPIC).expect("the topic is known");
    topic.groups.iter().find(|stats| stats.group == group).expect("the group is known").clone()
}
