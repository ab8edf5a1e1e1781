//! Many threads at once, with the real threads and the real clock.
#![allow(clippy::unwrap_used)]

mod queue_support;

use queue_support::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};
use tidegate_queue::storage::DiskStorage;
use tidegate_queue::*;

/// Wakes a parked thread, and remembers that it did.
struct Unpark(Thread, AtomicBool);

impl Unpark {
    fn new() -> Arc<Self> {
        Arc::new(Self(thread::current(), AtomicBool::new(false)))
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.store(true, Ordering::SeqCst);
        self.0.unpark();
    }
}

fn open(folder: &Folder, options: QueueOptions, clock: &Arc<SystemClock>) -> Queue {
    let storage = Arc::new(DiskStorage::new(folder.dir.path()).unwrap());
    Queue::open(options, storage, Arc::clone(clock) as Arc<dyn Clock>).unwrap()
}

/// Receives as a worker would: looks again only when it was woken. Who finds work after seconds without a
/// wake-up has been forgotten.
fn receive_parked(queue: &Queue, max: usize, lease_ms: u64, until: &dyn Fn() -> bool) -> Vec<Delivery> {
    const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);
    let unpark = Unpark::new();
    let waker = Waker::from(Arc::clone(&unpark));
    let mut slot = None;
    let mut forgotten = false;
    let request = ReceiveRequest { topic: TOPIC, group: GROUP, max, lease_ms, tags: &[] };
    while !until() {
        if let Poll::Ready(found) = queue.poll_receive(&mut Context::from_waker(&waker), &mut slot, &request)
        {
            assert!(!forgotten, "there was work, and no wake-up");
            return found.unwrap();
        }
        let started = Instant::now();
        while !unpark.1.swap(false, Ordering::SeqCst) && !until() {
            forgotten = started.elapsed() > FORGOTTEN_AFTER;
            if forgotten {
                break;
            }
            thread::park_timeout(Duration::from_millis(20));
        }
    }
    Vec::new()
}

#[test]
fn fm34_acks_racing_with_lease_ends_settle_each_message_exactly_once() {
    const MESSAGES: u32 = 500;
    let folder = Folder::new();
    let clock = Arc::new(SystemClock::new());
    let queue = open(
        &folder,
        QueueOptions {
            timer_thread: true,
            attempts_max: u32::MAX,
            segment_bytes: 1 << 20,
            ..folder.options()
        },
        &clock,
    );
    queue.put_topic(TOPIC, 4).unwrap();
    let acked = Arc::new(AtomicUsize::new(0));
    let give_up = Arc::new(AtomicBool::new(false));
    let (tell, told) = mpsc::channel();
    let workers: Vec<_> = (0..4u64)
        .map(|worker| {
            let (queue, acked, give_up, tell) =
                (queue.clone(), Arc::clone(&acked), Arc::clone(&give_up), tell.clone());
            thread::spawn(move || {
                let finished =
                    || acked.load(Ordering::SeqCst) >= MESSAGES as usize || give_up.load(Ordering::SeqCst);
                for round in 0u32.. {
                    if finished() {
                        break;
                    }
                    // From leases that end while the message is worked on to some that last on a busy machine too.
                    let lease_ms = 1 << (round % 10);
                    for delivery in receive_parked(&queue, 8, lease_ms, &finished) {
                        let number = u32::from_le_bytes(delivery.message.body[..4].try_into().unwrap());
                        let started = Instant::now();
                        while started.elapsed()
                            < Duration::from_micros(u64::from(number) * 7 % (900 + worker * 300))
                        {
                            thread::yield_now();
                        }
                        if ack(&queue, GROUP, &delivery).is_ok() {
                            tell.send(number).unwrap();
                            acked.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            })
        })
        .collect();
    for number in 0..MESSAGES {
        let body = number.to_le_bytes();
        accept(&queue, &[NewMessage { queue: QueueChoice::RoundRobin, ..message(&body) }]);
    }
    let started = Instant::now();
    while acked.load(Ordering::SeqCst) < MESSAGES as usize && started.elapsed().as_secs() < 60 {
        thread::park_timeout(Duration::from_millis(5));
    }
    give_up.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.join().unwrap();
    }
    drop(tell);
    let mut times: HashMap<u32, u32> = HashMap::new();
    for number in told {
        *times.entry(number).or_default() += 1;
    }
    assert_eq!(times.len(), MESSAGES as usize, "every message was acknowledged");
    assert!(times.values().all(|&times| times == 1), "none twice");
    let stats = group_stats(&queue, GROUP);
    assert_eq!((stats.acked, stats.backlog, stats.leased), (u64::from(MESSAGES), 0, 0));
    assert!(stats.delivered > u64::from(MESSAGES), "no lease ever ended: the race was not run");
}

#[test]
fn no_wake_up_is_lost_between_producers_and_parked_workers() {
    const MESSAGES: usize = 3_000;
    let folder = Folder::new();
    let clock = Arc::new(SystemClock::new());
    let queue = open(
        &folder,
        QueueOptions { timer_thread: true, segment_bytes: 1 << 20, ..folder.options() },
        &clock,
    );
    let seen = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..6)
        .map(|_| {
            let (queue, seen) = (queue.clone(), Arc::clone(&seen));
            thread::spawn(move || {
                let started = Instant::now();
                let finished = || seen.load(Ordering::SeqCst) >= MESSAGES || started.elapsed().as_secs() > 60;
                while !finished() {
                    let found = receive_parked(&queue, 1, 600_000, &finished);
                    seen.fetch_add(found.len(), Ordering::SeqCst);
                    for delivery in &found {
                        ack(&queue, GROUP, delivery).unwrap();
                    }
                }
            })
        })
        .collect();
    // One at a time at first, so that every message meets parked workers; then as fast as it goes.
    for n in 0..MESSAGES {
        let body = n.to_le_bytes();
        accept(&queue, &[NewMessage { queue: QueueChoice::RoundRobin, ..message(&body) }]);
        let started = Instant::now();
        while n < 200 && seen.load(Ordering::SeqCst) <= n {
            assert!(started.elapsed().as_secs() < 20, "message {n} woke nobody");
            thread::yield_now();
        }
    }
    for worker in workers {
        worker.join().unwrap();
    }
    assert_eq!(seen.load(Ordering::SeqCst), MESSAGES);
}

#[test]
fn the_timer_thread_delivers_and_drops_by_itself() {
    let folder = Folder::new();
    let clock = Arc::new(SystemClock::new());
    let queue = open(&folder, QueueOptions { timer_thread: true, ..folder.options() }, &clock);
    queue.put_group(TOPIC, GROUP, StartFrom::First, None, None).unwrap();
    let now_ms = clock.now_ms();
    let mortal = NewMessage { deadline_ms: Some(now_ms + 40), ..message(b"mortal") };
    let delayed = NewMessage { deliver_at_ms: Some(now_ms + 80), ..message(b"delayed") };
    let lease = {
        append(&queue, &[message(b"kept")]);
        receive(&queue, GROUP, 1, 600_000)
    };
    assert_eq!(lease.len(), 1);
    append(&queue, &[mortal, delayed]);
    let started = Instant::now();
    let waker = Waker::from(Unpark::new());
    let mut reports = Vec::new();
    while reports.is_empty() && started.elapsed().as_secs() < 20 {
        reports = queue.take_reports(10, Some(&waker));
        if reports.is_empty() {
            thread::park_timeout(Duration::from_secs(20));
        }
    }
    assert_eq!(&reports[0].message.body[..], b"mortal");
    assert!(clock.now_ms() >= now_ms + 40);
    let found = receive_parked(&queue, 1, 1_000, &|| started.elapsed().as_secs() > 20);
    assert_eq!(bodies(&found), ["delayed"]);
    assert!(clock.now_ms() >= now_ms + 80, "early");
    queue.close().unwrap();
}
