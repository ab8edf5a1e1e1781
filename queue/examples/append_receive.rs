//! Append, receive in two groups, a delayed message, a crash, and what is there afterwards.
//!
//! `cargo run -p tidegate-queue --example append_receive`

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tidegate_queue::storage::DiskStorage;
use tidegate_queue::{Clock, Delivery, ManualClock, NewMessage, Queue, QueueOptions, ReceiveRequest, Space};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // A clock moved by hand, so that the example need not wait. A service takes `SystemClock`.
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let open = || -> Result<Queue> {
        let options =
            QueueOptions { segment_bytes: 1 << 20, timer_thread: false, ..QueueOptions::new(dir.path()) };
        Ok(Queue::open(
            options,
            Arc::new(DiskStorage::new(dir.path())?),
            Arc::clone(&clock) as Arc<dyn Clock>,
        )?)
    };
    let queue = open()?;
    let now = NewMessage { topic: "orders", body: b"now", ..NewMessage::default() };
    let later = NewMessage { body: b"later", deliver_at_ms: Some(clock.now_ms() + 60_000), ..now };
    let appended = queue.append(&[now, later], Space::New)?;
    queue.wait_dispatched(appended.end);

    let billing = receive(&queue, "billing")?;
    queue.ack("orders", "billing", &[billing[0].receipt.clone()]);
    queue.checkpoint()?;
    receive(&queue, "shipping")?; // leased, and not acknowledged when the process dies
    drop(queue); // no close: as a crash would leave it

    let queue = open()?;
    clock.advance(60_000);
    queue.tick();
    queue.wait_dispatched(queue.end());
    assert_eq!(receive(&queue, "billing")?.len(), 1); // later
    assert_eq!(receive(&queue, "shipping")?.len(), 2); // now, again, and later
    Ok(queue.close()?)
}

fn receive(queue: &Queue, group: &str) -> Result<Vec<Delivery>> {
    let request = ReceiveRequest { topic: "orders", group, max: 10, lease_ms: 30_000, tags: &[] };
    let mut cx = Context::from_waker(Waker::noop()); // a service passes its task's, and is woken
    let Poll::Ready(found) = queue.poll_receive(&mut cx, &mut None, &request) else { return Ok(Vec::new()) };
    let found = found?;
    for delivery in &found {
        println!(
            "{group}: {} (attempt {})",
            String::from_utf8_lossy(&delivery.message.body),
            delivery.attempt
        );
    }
    Ok(found)
}
