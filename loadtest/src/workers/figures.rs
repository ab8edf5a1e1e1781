//! Counts while the run goes on: for progress, the instant of a kill, and the report.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// All workers together.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    received: AtomicU64,
    redelivered: AtomicU64,
    acked: AtomicU64,
    created: AtomicU64,
    paid: AtomicU64,
    standing: AtomicU64,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident $add:ident;)*) => { $(
        $(#[$doc])*
        pub(crate) fn $name(&self) -> u64 { self.$name.load(Relaxed) }
        pub(super) fn $add(&self, count: u64) { self.$name.fetch_add(count, Relaxed); }
    )* };
}

impl Figures {
    counters! {
        /// Deliveries.
        received add_received;
        /// Deliveries of a message that had been delivered before.
        redelivered add_redelivered;
        /// Acks answered `ok`.
        acked add_acked;
        /// Distinct tickets whose `created` was answered 200.
        created add_created;
        /// Payments accepted.
        paid add_paid;
    }

    /// Workers that stand still now.
    pub(crate) fn standing(&self) -> u64 {
        self.standing.load(Relaxed)
    }

    pub(super) fn stand(&self) {
        self.standing.fetch_add(1, Relaxed);
    }

    pub(super) fn walk(&self) {
        self.standing.fetch_sub(1, Relaxed);
    }
}
