//! One topic's orders and how fast they are dealt with.
//!
//! An order counts until its message is settled in the workers' group, and the rate is that of the workers' own
//! acknowledgements. What matters is that an order is CREATED before its deadline; a worker acknowledges right after
//! `created`, so a message that is settled is an order that is created (or refused), and whatever is not created yet is
//! counted. That holds for a ledger in this process as for one in Redis, where another gateway may have taken the
//! worker's `created`, and its number is the log's own. An order that is dropped at its deadline leaves the backlog
//! like any other and does not count as drained: orders that die are no sign of workers at work.

use super::backlog::{Backlog, Load};
use super::meter::{Meter, Rate};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tidegate_queue::{GroupLoad, queue_of_key};

/// See the module. Shared by all cores; reading takes no lock.
#[derive(Debug)]
pub struct Drain {
    meter: Meter,
    backlog: Backlog,
}

impl Drain {
    /// Of the topic whose next orders get the offsets `next`; `group` are its workers.
    pub fn new(group: Arc<GroupLoad>, next: &[u64], now: Instant) -> Self {
        let drain = Self { meter: Meter::new(now), backlog: Backlog::new(group, next) };
        drain.refresh(now);
        drain
    }

    /// The log has accepted the order at `offset` of this queue.
    pub fn accepted(&self, queue: u32, offset: u64, now: Instant) {
        self.backlog.accept(queue as usize, offset + 1);
        self.meter.set_busy(true, now);
    }

    /// Workers have acknowledged so many orders.
    pub fn observe(&self, settled: u64, now: Instant) {
        self.meter.observe(settled, now);
        self.refresh(now);
    }

    /// Orders may have left otherwise: at their deadlines, as dead letters.
    pub fn refresh(&self, now: Instant) {
        self.meter.set_busy(self.backlog() > 0, now);
    }

    /// Orders settled a second while there are orders to be settled. `None` before anything was measured. A lull leaves
    /// it as it was.
    pub fn rate_per_s(&self, now: Instant) -> Option<f64> {
        self.rate(now).map(|rate| rate.per_s)
    }

    /// The rate with what it rests on. `None` before anything was measured.
    pub fn rate(&self, now: Instant) -> Option<Rate> {
        self.meter.rate(now)
    }

    /// Orders that workers have still to settle, those in their hands included.
    pub fn backlog(&self) -> u64 {
        self.backlog.orders()
    }

    pub(super) fn queues(&self) -> usize {
        self.backlog.queues()
    }

    /// The queue of a sale's orders.
    pub fn queue_of(&self, sale: &str) -> usize {
        queue_of_key(sale, self.backlog.queues() as u32) as usize
    }

    /// How many orders of a sale's queue are not settled.
    pub fn orders_of(&self, sale: &str) -> u64 {
        self.backlog.of(self.queue_of(sale))
    }

    /// Until the order at this position of its queue (1: the next) is settled. `None` when nothing is known of how fast
    /// workers are.
    pub fn estimate(&self, sale: &str, position: u64, now: Instant) -> Option<Duration> {
        let rate = self.rate_per_s(now)?;
        let sharing = self.load(self.queue_of(sale)).sharing;
        Duration::try_from_secs_f64((position * sharing) as f64 / rate).ok()
    }

    pub(super) fn load(&self, queue: usize) -> Load {
        self.backlog.load(queue)
    }

    /// One more order is on its way into the log; the count of its queue, to be taken back when it is there or is not
    /// coming.
    pub(super) fn come(&self, queue: usize) {
        if let Some(coming) = self.backlog.coming(queue) {
            coming.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub(super) fn came(&self, queue: usize) {
        if let Some(coming) = self.backlog.coming(queue) {
            coming.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
