//! Orders that are not dealt with yet, by queue of the topic: what the log has accepted less what the workers' group is
//! done with, and what is on its way into the log. No counter of its own that could drift: a restart, an adopted
//! ticket, a dead letter that is driven again, all are in the log's numbers already.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_queue::{GroupLoad, QUEUES_MAX};

/// See the module. Reading takes no lock.
#[derive(Debug)]
pub(super) struct Backlog {
    /// One past the newest offset that the log has accepted, by number of the queue.
    accepted: Box<[AtomicU64]>,
    /// Admitted and not in the log yet, by number of the queue.
    coming: Box<[AtomicU64]>,
    group: Arc<GroupLoad>,
}

/// What an order that is admitted now would have before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    /// Orders of its own queue, those in workers' hands and those on their way into the log included.
    pub(super) own: u64,
    /// … of all queues.
    pub(super) all: u64,
    /// Queues with orders, its own included whether it has any or not: receives go round them.
    pub(super) sharing: u64,
    /// Orders in workers' hands, prefetched ones included.
    pub(super) leased: u64,
    /// Receives that wait for an order.
    pub(super) receivers: u64,
}

impl Backlog {
    /// `next` are the offsets that the next orders of each queue get.
    pub(super) fn new(group: Arc<GroupLoad>, next: &[u64]) -> Self {
        let zeros = || (0..QUEUES_MAX).map(|_| AtomicU64::new(0)).collect();
        let backlog = Self { accepted: zeros(), coming: zeros(), group };
        for (queue, next) in next.iter().enumerate() {
            backlog.accept(queue, *next);
        }
        backlog
    }

    /// The log has accepted orders of this queue up to `next`, exclusively.
    pub(super) fn accept(&self, queue: usize, next: u64) {
        if let Some(accepted) = self.accepted.get(queue) {
            accepted.fetch_max(next, Ordering::AcqRel);
        }
    }

    /// One more order is on its way into this queue, or not any more.
    pub(super) fn coming(&self, queue: usize) -> Option<&AtomicU64> {
        self.coming.get(queue)
    }

    /// Queues that orders go into.
    pub(super) fn queues(&self) -> usize {
        self.group.queues() as usize
    }

    /// Orders that are not dealt with, without those on their way.
    pub(super) fn orders(&self) -> u64 {
        (0..self.queues()).map(|queue| self.of(queue)).sum()
    }

    /// … of one queue.
    pub(super) fn of(&self, queue: usize) -> u64 {
        // Settled first: an order that is accepted and settled between the two reads would count as less than none.
        let done = self.group.done(queue);
        self.accepted.get(queue).map_or(0, |next| next.load(Ordering::Acquire).saturating_sub(done))
    }

    /// As an order of `queue` would meet it.
    pub(super) fn load(&self, queue: usize) -> Load {
        let mut load =
            Load { leased: self.group.leased(), receivers: self.group.receivers(), ..Load::default() };
        for number in 0..self.queues() {
            let orders =
                self.of(number) + self.coming.get(number).map_or(0, |coming| coming.load(Ordering::Acquire));
            load.all += orders;
            load.sharing += u64::from(orders > 0 || number == queue);
            if number == queue {
                load.own = orders;
            }
        }
        load
    }
}
