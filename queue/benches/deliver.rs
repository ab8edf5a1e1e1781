//! P6 of the goals in process: receive and acknowledge in batches of 256, each round a group of its own over the same
//! messages of 300 B. One thread; the queue's own threads beside it.
//!
//! `cargo bench -p tidegate-queue --bench deliver`; prints a line of JSON a round.
#![allow(clippy::unwrap_used)]

mod common;

use common::{BODY_BYTES, Line, cpu_s, rounds, scratch};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use tidegate_queue::storage::DiskStorage;
use tidegate_queue::{
    AppendError, Durability, NewMessage, Queue, QueueOptions, ReceiveRequest, Space, SystemClock,
};

const MESSAGES: usize = 500_000;
const BATCH: usize = 256;

fn main() {
    let dir = scratch();
    let queue = open(dir.path());
    let body = [7; BODY_BYTES];
    let batch = vec![NewMessage { topic: "orders", body: &body, ..NewMessage::default() }; 1_000];
    for _ in 0..MESSAGES / batch.len() {
        while let Err(error) = queue.append(&batch, Space::New) {
            assert!(matches!(error, AppendError::Busy), "{error}");
            queue.wait_durable(queue.end()).unwrap();
        }
    }
    queue.wait_dispatched(queue.end());
    for round in 0..rounds() {
        drain(&queue, &format!("group-{round}"));
    }
    queue.close().unwrap();
}

fn open(dir: &std::path::Path) -> Queue {
    let options = QueueOptions { flush: Durability::Async { interval_ms: 1_000 }, ..QueueOptions::new(dir) };
    Queue::open(options, Arc::new(DiskStorage::new(dir).unwrap()), Arc::new(SystemClock::new())).unwrap()
}

fn drain(queue: &Queue, group: &str) {
    let request = ReceiveRequest { topic: "orders", group, max: BATCH, lease_ms: 60_000, tags: &[] };
    let mut cx = Context::from_waker(Waker::noop());
    let (started, cpu) = (Instant::now(), cpu_s());
    let mut count = 0;
    while let Poll::Ready(found) = queue.poll_receive(&mut cx, &mut None, &request) {
        let receipts: Vec<_> = found.unwrap().into_iter().map(|delivery| delivery.receipt).collect();
        assert!(queue.ack("orders", group, &receipts).iter().all(Result::is_ok));
        count += receipts.len();
    }
    assert_eq!(count, MESSAGES);
    Line::new(
        "P6",
        "receive + ack of 256, in process",
        count as f64 / started.elapsed().as_secs_f64(),
        "msg/s",
    )
    .goal(">= 300000")
    .also("cpu_us", (cpu_s() - cpu) * 1e6 / count as f64)
    .print();
}
