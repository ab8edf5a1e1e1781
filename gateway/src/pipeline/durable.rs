//! Waiting for durability without a wake-up per waiter: the log's writer thread wakes one task a core and
//! commit; that task wakes its core's waiters.

use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::task::{Poll, Waker};
use tidegate_queue::{Durable, Position, Queue};
use tidegate_stock::Lsn;
use tokio::sync::Notify;

/// The record is not durable yet, and nobody may be told of it: the disk is slow, or the log failed and the
/// process must restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the order is not known to be on disk yet")]
pub struct Unknown;

/// What the log's listener touches: one slot a core.
#[derive(Debug, Default)]
pub struct DurableSignal {
    slots: Mutex<Vec<Arc<Slot>>>,
    poisoned: AtomicBool,
    failed: Notify,
}

#[derive(Debug, Default)]
struct Slot {
    /// Waiters of this core; 0 spares the wake-up.
    waiting: AtomicU64,
    task: Mutex<Option<Waker>>,
}

impl DurableSignal {
    /// Registers with the log. Once per gateway.
    pub fn attach(queue: &Queue) -> Arc<Self> {
        let signal = Arc::new(Self::default());
        let listener = signal.clone();
        queue.on_durable(Box::new(move |event| listener.on_event(event)));
        signal
    }

    /// Whether the log has failed.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Completes when the log fails: the process must then end, and fold what the disk holds at its next start.
    /// Cancel safe.
    pub async fn poisoned(&self) {
        let mut failed = pin!(self.failed.notified());
        failed.as_mut().enable();
        if !self.is_poisoned() {
            failed.await;
        }
    }

    fn on_event(&self, event: Durable) {
        if matches!(event, Durable::Poisoned(_)) {
            self.poisoned.store(true, Ordering::Release);
            self.failed.notify_waiters();
        }
        // Pairs with the fence in `CoreDurable::wait`: either the waiter sees the new durable position, or
        // this sees the waiter.
        fence(Ordering::SeqCst);
        for slot in self.slots.lock().iter() {
            if slot.waiting.load(Ordering::Relaxed) > 0
                && let Some(task) = slot.task.lock().take()
            {
                task.wake();
            }
        }
    }
}

/// One core's waiters. Not `Send`: it stays on its thread.
pub struct CoreDurable {
    queue: Queue,
    signal: Arc<DurableSignal>,
    slot: Arc<Slot>,
    waiters: RefCell<Waiters>,
}

#[derive(Default)]
struct Waiters {
    by_position: BTreeMap<(Position, u64), Waker>,
    next_id: u64,
}

impl CoreDurable {
    /// A waiting place for the calling thread; [`Self::run`] must be polled on it.
    pub fn new(queue: Queue, signal: Arc<DurableSignal>) -> Rc<Self> {
        let slot = Arc::new(Slot::default());
        signal.slots.lock().push(slot.clone());
        Rc::new(Self { queue, signal, slot, waiters: RefCell::default() })
    }

    /// Wakes this core's waiters as the log advances. Runs until dropped.
    pub async fn run(self: Rc<Self>) {
        let mut ready: Vec<Waker> = Vec::new();
        poll_fn(|cx| {
            *self.slot.task.lock() = Some(cx.waker().clone());
            fence(Ordering::SeqCst);
            let everything = self.signal.is_poisoned();
            let durable = self.queue.durable();
            {
                let mut waiters = self.waiters.borrow_mut();
                while let Some(first) = waiters.by_position.first_entry() {
                    if !everything && first.key().0 > durable {
                        break;
                    }
                    ready.push(first.remove());
                }
            }
            for waker in ready.drain(..) {
                waker.wake();
            }
            Poll::<()>::Pending
        })
        .await;
    }

    /// Whether everything below `lsn` is durable.
    pub fn is_reached(&self, lsn: Lsn) -> bool {
        self.queue.durable() >= Position(lsn.0)
    }

    /// Completes once everything below `lsn` is durable, or the log has failed. Cancel safe.
    pub async fn wait(&self, lsn: Lsn) -> Result<(), Unknown> {
        let position = Position(lsn.0);
        let mut place = Place { core: self, key: None };
        poll_fn(|cx| {
            place.register(position, cx.waker());
            fence(Ordering::SeqCst);
            if self.queue.durable() >= position {
                Poll::Ready(Ok(()))
            } else if self.signal.is_poisoned() {
                Poll::Ready(Err(Unknown))
            } else {
                Poll::Pending
            }
        })
        .await
    }
}

/// A waiter's entry, taken out again when the waiter is done or dropped.
struct Place<'a> {
    core: &'a CoreDurable,
    key: Option<(Position, u64)>,
}

impl Place<'_> {
    fn register(&mut self, position: Position, waker: &Waker) {
        let mut waiters = self.core.waiters.borrow_mut();
        let key = *self.key.get_or_insert_with(|| {
            self.core.slot.waiting.fetch_add(1, Ordering::Relaxed);
            waiters.next_id += 1;
            (position, waiters.next_id)
        });
        waiters.by_position.insert(key, waker.clone());
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.core.waiters.borrow_mut().by_position.remove(&key);
            self.core.slot.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
