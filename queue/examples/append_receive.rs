//! Append, two groups, a delayed message, a crash, and what is there afterwards. `cargo run -p tidegate-queue --example
//! append_receive`

use std::error::Error;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tidegate_queue::storage::DiskStorage;
use tidegate_queue::{Clock, ManualClock, NewMessage, Queue, QueueOptions, ReceiveRequest, Space};

/// The whole example; public for the test that runs it.
pub fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    // Moved by hand, so that nobody has to wait here. A service takes `SystemClock`, and leaves the timer thread on.
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let open = || {
        let options = QueueOptions { timer_thread: false, ..QueueOptions::new(dir.path()) };
        let storage = DiskStorage::new(dir.path()).expect("a folder that can be written");
        Queue::open(options, Arc::new(storage), clock.clone())
    };

    // One atomic batch: a message for now, and one for in a minute.
    let queue = open()?;
    let now = NewMessage { topic: "orders", body: b"now", ..NewMessage::default() };
    let later = NewMessage { body: b"later", deliver_at_ms: Some(clock.now_ms() + 60_000), ..now };
    let appended = queue.append(&[now, later], Space::New)?;
    queue.wait_durable(appended.end)?; // from here on no crash can take it
    queue.wait_dispatched(appended.end);

    // Each group sees every message. Billing acknowledges its own; shipping has leased its own when the process dies.
    assert_eq!(receive(&queue, "billing", true)?, ["now"]);
    assert_eq!(receive(&queue, "shipping", false)?, ["now"]);
    queue.checkpoint()?; // else acknowledgements are on disk after `ack_sync_ms`
    drop(queue); // no `close`: what a crash leaves

    // A minute later, in the next process.
    clock.advance(60_000);
    let queue = open()?;
    queue.tick();
    queue.wait_dispatched(queue.end());
    assert_eq!(receive(&queue, "billing", true)?, ["later"]);
    assert_eq!(receive(&queue, "shipping", true)?.len(), 2); // "now" again, and "later"
    Ok(queue.close()?)
}

fn receive(queue: &Queue, group: &str, acknowledge: bool) -> Result<Vec<String>, Box<dyn Error>> {
    let request = ReceiveRequest { topic: "orders", group, max: 10, lease_ms: 30_000, tags: &[] };
    let mut cx = Context::from_waker(Waker::noop()); // a task passes its own, and is woken when there is something
    let Poll::Ready(found) = queue.poll_receive(&mut cx, &mut None, &request) else { return Ok(Vec::new()) };
    let (mut bodies, mut receipts) = (Vec::new(), Vec::new());
    for delivery in found? {
        bodies.push(String::from_utf8_lossy(&delivery.message.body).into_owned());
        println!("{group}: {} (attempt {})", bodies[bodies.len() - 1], delivery.attempt);
        receipts.push(delivery.receipt);
    }
    if acknowledge {
        queue.ack("orders", group, &receipts);
    }
    Ok(bodies)
}
