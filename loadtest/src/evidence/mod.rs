//! What was seen, by whom, when. Collected apart by buyers, workers, the event reader and the database; compared
//! only by the verdict. Nothing here judges.
//!
//! ```text
//! ticket.rs    ticket ids
//! buyers.rs    what buyers were told
//! workers.rs   what workers received, and what their acks, creations and payments were answered
//! orders.rs    what the workers' database holds at the end
//! faults.rs    what this program did to the gateway and its own workers
//! ```
//! Instants of our own are microseconds of [`crate::clock::Clock`]; `…_ms` are Unix times told by the gateway.

mod buyers;
mod faults;
mod orders;
mod ticket;
mod workers;

pub(crate) use buyers::{BuyersSaw, KeyConflict, Sighting, Told};
pub(crate) use faults::{ExitSeen, KillSeen, StopSeen};
pub(crate) use orders::{OrderRow, RowState};
pub(crate) use ticket::{Table, TicketId};
pub(crate) use workers::{AckSeen, CreatedSeen, Delivery, EventSeen, PaymentSeen, WorkersSaw};

use crate::scenario::{Sale, Tokens};
use tidegate_client::wire::{Audit, GroupOffsets, TicketStatus};

/// Everything the verdict may look at.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) sale: Sale,
    pub(crate) buyers_count: u32,
    /// Unix microseconds at instant 0.
    pub(crate) start_wall_us: u64,
    pub(crate) buyers: BuyersSaw,
    pub(crate) workers: WorkersSaw,
    /// Topic `order-events`, each event once, in order of receipt.
    pub(crate) events: Vec<EventSeen>,
    pub(crate) rows: Vec<OrderRow>,
    /// Each ticket that anyone heard of, asked for once more at the very end.
    pub(crate) last_look: Table<LastLook>,
    pub(crate) audit: Result<Audit, String>,
    /// One past the newest offset of each queue of `orders` before this run.
    pub(crate) offsets_before: Vec<(u32, u64)>,
    /// What group `order-workers` did not deliver, by the gateway's own account.
    pub(crate) offsets: Result<GroupOffsets, String>,
    pub(crate) tokens: Option<Tokens>,
    /// The scenario asked for a kill.
    pub(crate) kill_wanted: Option<u64>,
    pub(crate) kills: Vec<KillSeen>,
    pub(crate) stop_wanted: bool,
    pub(crate) stop: Option<StopSeen>,
    /// The gateway did not come up again after a kill: why.
    pub(crate) restart_failed: Option<String>,
    pub(crate) exit: Option<ExitSeen>,
}

/// What the gateway said of a ticket when all was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastLook {
    Ticket { status: TicketStatus, version: u32, quantity: u32, won_at_ms: u64 },
    NotFound,
    NoAnswer,
}

impl Evidence {
    /// Unix milliseconds of one of our instants.
    pub(crate) fn wall_ms(&self, at_us: u64) -> u64 {
        (self.start_wall_us + at_us) / 1_000
    }
}
