//! Runs a handler over a group's messages, from all gateways: long polls, bounded concurrency, leases that are
//! extended while the handler runs, batched acks, graceful stop.
//!
//! ```text
//! settings.rs    what can be set, and the bounds
//! run.rs         follows the fleet: one source for each gateway; the stop
//! source.rs      one gateway: receive loop, back-off while it is away
//! room.rs        free handlers, and how many of them one gateway may ask for
//! lease.rs       one message: handler, lease extension, verdict
//! settle.rs      acks and nacks, batched
//! stats.rs       counters
//! ```
//!
//! Delivery is at least once: a message comes again when its handler asks for it, when the lease ends first,
//! when an ack is lost, and after a restart of either side. So handlers are idempotent; see
//! [`crate::idempotency`].
//!
//! Each gateway has its own receive loop, so that one which is slow, hangs or is dead holds up none of the others.
//! They share the handlers: whichever has waited longest for a free one is next, and none asks for more than its
//! share of them at once, so that a gateway with a long backlog does not crowd out the others. Acks and extensions
//! go to the gateway that delivered.

mod lease;
mod room;
mod run;
mod settings;
mod settle;
mod source;
mod stats;

pub use settings::Worker;
pub(crate) use stats::Counter;
pub use stats::{WorkerStats, WorkerSummary};

use std::fmt::Display;

/// A handler's wish to see the message again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// After how long; `None`: the group's back-off.
    pub delay_ms: Option<u64>,
    /// For the log.
    pub reason: String,
}

impl Retry {
    /// After `delay_ms`.
    pub fn after_ms(delay_ms: u64, reason: impl Display) -> Self {
        Self { delay_ms: Some(delay_ms), reason: reason.to_string() }
    }

    /// After the group's back-off.
    pub fn backoff(reason: impl Display) -> Self {
        Self { delay_ms: None, reason: reason.to_string() }
    }
}

/// Any error in a handler means: again, after the group's back-off.
impl<E: std::error::Error> From<E> for Retry {
    fn from(error: E) -> Self {
        Self::backoff(error)
    }
}
