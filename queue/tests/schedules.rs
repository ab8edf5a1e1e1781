//! Group commit, acknowledgements against lease ends, and wake-ups, under a scheduler that tries interleavings of the
//! real code: `cargo test -p tidegate-queue --features shuttle --test schedules`. A schedule in which a thread waits
//! for ever fails as a deadlock. `TIDEGATE_SCHEDULES` says how many are tried of each test and kind, `TIDEGATE_SEED`
//! which; a failure prints the schedule, to be run again with `shuttle::replay`.
#![allow(clippy::unwrap_used)]

mod log_support;

use log_support::{body, faulty, options, try_append};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::{Condvar, Mutex};
use shuttle::{Config, Runner, thread};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use tidegate_queue::log::{CommitLog, LogOptions};
use tidegate_queue::storage::{FaultyCall, FaultyStorage, PowerLoss};
use tidegate_queue::*;

/// How deep a bug the priority scheduler looks for.
const PCT_DEPTH: usize = 3;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Runs `test` under both schedulers.
fn explore(test: impl Fn() + Send + Sync + 'static) {
    let (schedules, seed) = (number("TIDEGATE_SCHEDULES", 100) as usize, number("TIDEGATE_SEED", 1));
    let test = Arc::new(test);
    let mut config = Config::new();
    // Maps, paths and checksums of a debug build.
    config.stack_size = 1 << 20;
    let (random, pct) = (Arc::clone(&test), test);
    Runner::new(RandomScheduler::new_from_seed(seed, schedules), config.clone()).run(move || random());
    Runner::new(PctScheduler::new_from_seed(seed, PCT_DEPTH, schedules), config).run(move || pct());
}

fn open(storage: &Arc<FaultyStorage>, flush: Durability) -> Arc<CommitLog> {
    Arc::new(CommitLog::open(storage.as_storage(), &LogOptions { flush, ..options() }).unwrap())
}

#[test]
fn every_append_that_waits_is_told_and_what_it_is_told_is_there() {
    explore(|| {
        let (_dir, storage) = faulty();
        let log = open(&storage, Durability::Sync);
        let told = Arc::new(AtomicU64::new(0));
        let newest = Arc::clone(&told);
        log.on_durable(Box::new(move |durable| {
            let Durable::Up(up) = durable else { panic!("{durable:?}") };
            assert!(newest.swap(up.0, Ordering::SeqCst) < up.0, "listeners are told in order");
        }));
        let threads: Vec<_> = (0..3)
            .map(|number| {
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    for number in [number * 2, number * 2 + 1] {
                        let end = try_append(&log, Space::New, &[number]).unwrap();
                        log.wait_durable(end).unwrap();
                        assert!(log.durable() >= end && log.synced() >= end);
                        let seen: Vec<_> = log.scan(log.recovered().start).map(Result::unwrap).collect();
                        assert!(seen.iter().any(|record| record.body() == body(number)));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        log.close().unwrap();
        assert_eq!(told.load(Ordering::SeqCst), log.end().0);
    });
}

#[test]
fn a_failed_sync_tells_everybody_and_takes_back_nothing_that_was_told() {
    explore(|| {
        let (_dir, storage) = faulty();
        let log = open(&storage, Durability::Sync);
        storage.fail(FaultyCall::Sync, "commitlog/0", 2, ErrorKind::Other);
        let told = Arc::new(AtomicU64::new(0));
        let poisoned = Arc::clone(&told);
        log.on_durable(Box::new(move |durable| match durable {
            Durable::Up(_) | Durable::Synced(_) => {
                assert_eq!(poisoned.load(Ordering::SeqCst), 0, "nothing is durable after the end");
            }
            Durable::Poisoned(_) => assert_eq!(poisoned.fetch_add(1, Ordering::SeqCst), 0, "told once"),
        }));
        let threads: Vec<_> = (0..3)
            .map(|number| {
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    let end = try_append(&log, Space::New, &[number])?;
                    log.wait_durable(end).map(|()| number)
                })
            })
            .collect();
        let told: Vec<u64> = threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect();
        drop(log);
        storage.power_loss(0, PowerLoss::Everything);
        let log = open(&storage, Durability::Sync);
        let kept = log_support::numbers(&log);
        assert!(told.iter().all(|number| kept.contains(number)), "{told:?} told, {kept:?} kept");
        log.close().unwrap();
    });
}

#[test]
fn who_asks_for_the_disk_in_async_mode_is_told() {
    explore(|| {
        let (_dir, storage) = faulty();
        let log = open(&storage, Durability::Async { interval_ms: 60_000 });
        let threads: Vec<_> = (0..2)
            .map(|number| {
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    let end = try_append(&log, Space::New, &[number]).unwrap();
                    log.wait_synced(end).unwrap();
                    assert!(log.synced() >= end);
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        storage.power_loss(0, PowerLoss::Everything);
        drop(log);
        let log = open(&storage, Durability::Sync);
        assert_eq!(log_support::numbers(&log).len(), 2);
        log.close().unwrap();
    });
}

const TOPIC: &str = "orders";
const GROUP: &str = "workers";
const LEASE_MS: u64 = 1_000;

fn queue(storage: &Arc<FaultyStorage>, dir: &tempfile::TempDir, clock: &Arc<ManualClock>) -> Queue {
    let options = QueueOptions {
        segment_bytes: 64 << 10,
        topic_queues: 1,
        retry_delays_ms: vec![0],
        timer_thread: false,
        ..QueueOptions::new(dir.path())
    };
    Queue::open(options, storage.as_storage(), Arc::clone(clock) as Arc<dyn Clock>).unwrap()
}

fn append(queue: &Queue, body: &[u8]) {
    let message = NewMessage { topic: TOPIC, body, ..NewMessage::default() };
    queue.append(&[message], Space::New).unwrap();
}

fn receive(queue: &Queue, waker: &Waker, slot: &mut Option<WaitSlot>) -> Poll<Vec<Delivery>> {
    let request = ReceiveRequest { topic: TOPIC, group: GROUP, max: 1, lease_ms: LEASE_MS, tags: &[] };
    queue.poll_receive(&mut Context::from_waker(waker), slot, &request).map(Result::unwrap)
}

/// A thread that waits to be woken, and never looks by itself.
#[derive(Default)]
struct Sleeper(Mutex<bool>, Condvar);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

impl Sleeper {
    fn sleep(&self) {
        let mut woken = self.0.lock().unwrap();
        while !std::mem::take(&mut *woken) {
            woken = self.1.wait(woken).unwrap();
        }
    }
}

fn receive_asleep(queue: &Queue) -> Delivery {
    let sleeper = Arc::new(Sleeper::default());
    let (waker, mut slot) = (Waker::from(Arc::clone(&sleeper)), None);
    loop {
        match receive(queue, &waker, &mut slot) {
            Poll::Ready(found) => return found.into_iter().next().expect("who is ready has something"),
            Poll::Pending => sleeper.sleep(),
        }
    }
}

#[test]
fn fm34_an_acknowledgement_against_the_end_of_its_lease_has_one_winner() {
    explore(|| {
        let (dir, storage) = faulty();
        let clock = Arc::new(ManualClock::new(1_000));
        let queue = queue(&storage, &dir, &clock);
        append(&queue, b"once");
        let lease = receive_asleep(&queue);
        let acker = {
            let queue = queue.clone();
            thread::spawn(move || queue.ack(TOPIC, GROUP, &[lease.receipt]).remove(0).is_ok())
        };
        let taker = {
            let (queue, clock) = (queue.clone(), Arc::clone(&clock));
            thread::spawn(move || {
                clock.advance(LEASE_MS);
                queue.tick();
                match receive(&queue, Waker::noop(), &mut None) {
                    Poll::Ready(found) => {
                        assert_eq!(found[0].attempt, 2);
                        true
                    }
                    Poll::Pending => false,
                }
            })
        };
        let (acked, taken) = (acker.join().unwrap(), taker.join().unwrap());
        assert!(acked != taken, "acknowledged: {acked}, given to another: {taken}");
        queue.close().unwrap();
    });
}

#[test]
fn a_message_wakes_who_waits_for_it() {
    explore(|| {
        let (dir, storage) = faulty();
        let clock = Arc::new(ManualClock::new(1_000));
        let queue = queue(&storage, &dir, &clock);
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let queue = queue.clone();
                thread::spawn(move || {
                    let delivery = receive_asleep(&queue);
                    queue.ack(TOPIC, GROUP, &[delivery.receipt]).remove(0).unwrap();
                    delivery.message.offset
                })
            })
            .collect();
        append(&queue, b"one");
        append(&queue, b"two");
        let mut seen: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1]);
        queue.close().unwrap();
    });
}

#[test]
fn a_transaction_that_two_decide_is_decided_once() {
    explore(|| {
        let (dir, storage) = faulty();
        let clock = Arc::new(ManualClock::new(1_000));
        let queue = queue(&storage, &dir, &clock);
        let message = NewMessage { topic: TOPIC, body: b"half", ..NewMessage::default() };
        let half = queue.begin("payments", &message).unwrap();
        queue.wait_durable(half.end).unwrap();
        let (one, other) = (queue.clone(), queue.clone());
        let commit = thread::spawn(move || one.commit(half.first).is_ok());
        let undo = thread::spawn(move || other.roll_back(half.first).is_ok());
        let (committed, undone) = (commit.join().unwrap(), undo.join().unwrap());
        assert!(committed != undone, "committed: {committed}, rolled back: {undone}");
        queue.wait_durable(queue.end()).unwrap();
        queue.wait_dispatched(queue.end());
        assert_eq!(receive(&queue, Waker::noop(), &mut None).is_ready(), committed);
        queue.close().unwrap();
    });
}

/// A snapshot may be made between the moment at which a batch is in the log and the one at which its number is noted.
#[test]
fn a_number_is_in_every_snapshot_that_lies_behind_its_batch() {
    explore(|| {
        let (dir, storage) = faulty();
        let clock = Arc::new(ManualClock::new(1_000));
        let first = queue(&storage, &dir, &clock);
        let send = |queue: &Queue| {
            let message = NewMessage { topic: TOPIC, body: b"numbered", ..NewMessage::default() };
            let producer = Producer { id: "till", sequence: 1 };
            queue.append_once(producer, &[message], Space::New).unwrap().repeated
        };
        let (producer, keeper) = (first.clone(), first.clone());
        let sent = thread::spawn(move || send(&producer));
        let kept = thread::spawn(move || {
            keeper.wait_dispatched(Position(tidegate_queue::log::FIRST_POSITION.0 + 1));
            keeper.snapshot().unwrap();
        });
        assert!(!sent.join().unwrap());
        kept.join().unwrap();
        drop(first);
        let again = queue(&storage, &dir, &clock);
        assert!(send(&again), "the batch is there");
        again.close().unwrap();
    });
}
