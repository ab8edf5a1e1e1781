//! Waiting receives: woken when there is work, as many as there is work, and never forgotten.
#![allow(clippy::unwrap_used)]

mod queue_support;

use queue_support::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use tidegate_queue::*;

#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A receive that was polled once and waits.
struct Waiting {
    wakes: Arc<Counter>,
    slot: Option<WaitSlot>,
}

impl Waiting {
    fn new(queue: &Queue) -> Self {
        let mut waiting = Self { wakes: Arc::default(), slot: None };
        assert!(waiting.poll(queue).is_none());
        waiting
    }

    fn poll(&mut self, queue: &Queue) -> Option<Vec<Delivery>> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        let request = ReceiveRequest { topic: TOPIC, group: GROUP, max: 1, lease_ms: 1_000, tags: &[] };
        match queue.poll_receive(&mut Context::from_waker(&waker), &mut self.slot, &request) {
            Poll::Ready(found) => Some(found.unwrap()),
            Poll::Pending => None,
        }
    }

    fn woken(&self) -> bool {
        self.wakes.0.load(Ordering::SeqCst) > 0
    }
}

#[test]
fn only_as_many_are_woken_as_there_is_work() {
    let folder = Folder::new();
    let queue = folder.open();
    let mut waiting: Vec<Waiting> = (0..5).map(|_| Waiting::new(&queue)).collect();
    append(&queue, &[message(b"a"), message(b"b")]);
    let woken: Vec<bool> = waiting.iter().map(Waiting::woken).collect();
    assert_eq!(woken, [true, true, false, false, false]);
    assert_eq!(waiting[0].poll(&queue).unwrap().len(), 1);
    assert_eq!(waiting[1].poll(&queue).unwrap().len(), 1);
    assert!(waiting[2].poll(&queue).is_none());
}

#[test]
fn a_wake_up_of_one_who_left_is_passed_on() {
    let folder = Folder::new();
    let queue = folder.open();
    let mut waiting: Vec<Waiting> = (0..3).map(|_| Waiting::new(&queue)).collect();
    drop(waiting.remove(0));
    append(&queue, &[message(b"a")]);
    assert!(waiting[0].woken() && !waiting[1].woken(), "who left before is not in the line");
    drop(waiting.remove(0));
    assert!(waiting[0].woken(), "who left after the wake-up hands it on");
    assert_eq!(waiting[0].poll(&queue).unwrap().len(), 1);
}

#[test]
fn a_nack_a_retry_and_a_lease_end_wake() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"a")]);
    let lease = receive(&queue, GROUP, 1, 1_000).remove(0);
    let mut waiting = Waiting::new(&queue);
    queue.nack(TOPIC, GROUP, &[lease.receipt], Some(0))[0].unwrap();
    assert!(waiting.woken());
    let again = waiting.poll(&queue).unwrap().remove(0);

    let mut waiting = Waiting::new(&queue);
    queue.nack(TOPIC, GROUP, &[again.receipt], Some(500))[0].unwrap();
    folder.clock.advance(499);
    queue.tick();
    assert!(!waiting.woken());
    folder.clock.advance(1);
    queue.tick();
    assert!(waiting.woken());
    waiting.poll(&queue).unwrap();

    // Last attempt over: no work, but a report.
    let wakes = Arc::new(Counter::default());
    assert!(queue.take_reports(1, Some(&Waker::from(Arc::clone(&wakes)))).is_empty());
    folder.clock.advance(1_000);
    queue.tick();
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert_eq!(queue.take_reports(1, None)[0].kind, ReportKind::DeadLettered);
}

#[test]
fn the_line_is_bounded_and_says_so() {
    let folder = Folder::new();
    let queue = folder.open();
    let waiting: Vec<Waiting> = (0..10_000).map(|_| Waiting::new(&queue)).collect();
    let request = ReceiveRequest { topic: TOPIC, group: GROUP, max: 1, lease_ms: 1, tags: &[] };
    let answer = queue.poll_receive(&mut Context::from_waker(Waker::noop()), &mut None, &request);
    assert!(matches!(answer, Poll::Ready(Err(ReceiveError::Busy))));
    drop(waiting);
    Waiting::new(&queue);
}

#[test]
fn a_receive_that_ends_more_leases_than_it_takes_wakes_others() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"a"), message(b"b"), message(b"c")]);
    assert_eq!(receive(&queue, GROUP, 3, 1_000).len(), 3);
    let mut waiting: Vec<Waiting> = (0..3).map(|_| Waiting::new(&queue)).collect();
    folder.clock.advance(1_000);
    assert_eq!(receive(&queue, GROUP, 1, 60_000).len(), 1);
    queue.tick();
    let woken: Vec<bool> = waiting.iter().map(Waiting::woken).collect();
    assert_eq!(woken, [true, true, false]);
    assert_eq!(waiting[0].poll(&queue).unwrap().len(), 1);
    assert_eq!(waiting[1].poll(&queue).unwrap().len(), 1);
}

#[test]
fn those_who_wait_look_again_after_the_index_could_not_be_read() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"a")]);
    let index = folder.dir.path().join("consumequeue").join(TOPIC).join("0").join(format!("{:020}", 0));
    let entries = std::fs::read(&index).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&index).unwrap();
    file.set_len(0).unwrap();
    let mut waiting = Waiting::new(&queue);
    std::os::unix::fs::FileExt::write_all_at(&file, &entries, 0).unwrap();
    folder.clock.advance(1_000);
    queue.tick();
    assert!(waiting.woken());
    assert_eq!(waiting.poll(&queue).unwrap().len(), 1);
}

/// Two wakers of one task need not compare equal: an owner that asks again and again must not be woken by that.
#[test]
fn asking_for_reports_again_wakes_nobody() {
    let folder = Folder::new();
    let queue = folder.open();
    let owners: Vec<Arc<Counter>> = (0..100).map(|_| Arc::default()).collect();
    for owner in &owners {
        assert!(queue.take_reports(8, Some(&Waker::from(Arc::clone(owner)))).is_empty());
    }
    assert!(owners.iter().all(|owner| owner.0.load(Ordering::SeqCst) == 0));
}
