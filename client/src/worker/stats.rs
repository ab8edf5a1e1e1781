//! Counters of a worker.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows; each on its own, no order between them is promised.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Live counters; read them with [`WorkerStats::summary`].
#[derive(Debug, Default)]
pub struct WorkerStats {
    pub(super) received: Counter,
    pub(super) redelivered: Counter,
    pub(super) acked: Counter,
    pub(super) nacked: Counter,
    pub(super) refused: Counter,
    pub(super) unsettled: Counter,
    pub(super) leases_extended: Counter,
    pub(super) leases_lost: Counter,
    pub(super) receives_failed: Counter,
}

/// What a worker has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct WorkerSummary {
    /// Messages that arrived, redeliveries included.
    pub received: u64,
    /// Of these, with an attempt above 1.
    pub redelivered: u64,
    /// Acks the gateway took.
    pub acked: u64,
    /// Nacks the gateway took.
    pub nacked: u64,
    /// Acks and nacks refused because the lease was over: the message comes again.
    pub refused: u64,
    /// Acks and nacks that got no answer: the message may come again.
    pub unsettled: u64,
    /// Lease extensions.
    pub leases_extended: u64,
    /// Leases that ended while the handler ran.
    pub leases_lost: u64,
    /// Receives that failed after the client's own retries.
    pub receives_failed: u64,
}

impl WorkerStats {
    /// The present figures.
    pub fn summary(&self) -> WorkerSummary {
        WorkerSummary {
            received: self.received.get(),
            redelivered: self.redelivered.get(),
            acked: self.acked.get(),
            nacked: self.nacked.get(),
            refused: self.refused.get(),
            unsettled: self.unsettled.get(),
            leases_extended: self.leases_extended.get(),
            leases_lost: self.leases_lost.get(),
            receives_failed: self.receives_failed.get(),
        }
    }
}
