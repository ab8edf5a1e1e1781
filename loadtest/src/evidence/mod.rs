//! What was seen, by whom, when. Collected apart by buyers, workers, the event reader and the database; compared
//! only by the verdict. Nothing here judges.
//!
//! ```text
//! ticket.rs    ticket ids
//! abuse.rs     who got what, with abusers and without
//! buyers.rs    what buyers were told
//! workers.rs   what workers received, and what their acks, creations and payments were answered
//! proxied.rs   what a service behind the gateway saw, and who asked for it
//! orders.rs    what the workers' database holds at the end
//! overload.rs  how busy workers were, and how quickly buyers were refused
//! faults.rs    what this program did to gateways, Redis and its own workers
//! ```
//! Instants of our own are microseconds of [`crate::clock::Clock`]; `…_ms` are Unix times told by the gateway.

mod abuse;
mod buyers;
mod faults;
mod orders;
mod overload;
mod proxied;
mod ticket;
mod workers;

pub(crate) use abuse::{AbuseSeen, Units};
pub(crate) use buyers::{BuyersSaw, KeyConflict, NotYetKnown, Sighting, Told};
pub(crate) use faults::{ExitSeen, FaultKind, FaultSeen, FaultWanted, StopSeen};
pub(crate) use orders::{OrderRow, RowState};
pub(crate) use overload::{OverloadSeen, Work};
pub(crate) use proxied::{ClientsSaw, ProxySaw, UpstreamSaw};
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
    /// Those tickets of which another gateway said something else.
    pub(crate) looks_apart: Vec<LookApart>,
    /// What was found of tickets that a buyer was told of as not known yet.
    pub(crate) not_yet_known: Table<LastLook>,
    /// Of the first gateway.
    pub(crate) audit: Result<Audit, String>,
    /// Of the others, with their numbers.
    pub(crate) other_audits: Vec<(u32, Result<Audit, String>)>,
    /// Of each gateway that is there at the end.
    pub(crate) offsets: Vec<OffsetsSeen>,
    /// Several gateways share the ledger: the record of one ticket may stand in two logs.
    pub(crate) shared: bool,
    pub(crate) tokens: Option<Tokens>,
    /// Of a service behind the gateway.
    pub(crate) proxied: Option<ProxySaw>,
    pub(crate) faults_wanted: Vec<FaultWanted>,
    pub(crate) faults: Vec<FaultSeen>,
    pub(crate) overload: Option<OverloadSeen>,
    pub(crate) stop_wanted: bool,
    pub(crate) stop: Option<StopSeen>,
    /// What was killed did not come up again: why.
    pub(crate) restart_failed: Option<String>,
    pub(crate) exit: Option<ExitSeen>,
    pub(crate) abuse: Option<AbuseSeen>,
}

/// What the gateway said of a ticket when all was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastLook {
    Ticket { status: TicketStatus, version: u32, quantity: u32, won_at_ms: u64 },
    NotFound,
    NoAnswer,
}

/// Another word on a ticket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LookApart {
    pub(crate) ticket: TicketId,
    pub(crate) gateway: u32,
    pub(crate) said: LastLook,
}

/// What group `order-workers` of one gateway did not deliver, by its own account.
#[derive(Debug)]
pub(crate) struct OffsetsSeen {
    pub(crate) gateway: u32,
    /// One past the newest offset of each queue of `orders` before this run.
    pub(crate) before: Vec<(u32, u64)>,
    pub(crate) offsets: Result<GroupOffsets, String>,
}

impl Evidence {
    /// The folder of a gateway was deleted at: what only it knew of tickets won until then is gone.
    pub(crate) fn folder_lost_us(&self) -> Option<u64> {
        let lost = self.faults.iter().filter(|fault| fault.kind == FaultKind::DeleteGateway);
        lost.map(|fault| fault.at_us).max()
    }

    /// Unix milliseconds of one of our instants.
    pub(crate) fn wall_ms(&self, at_us: u64) -> u64 {
        (self.start_wall_us + at_us) / 1_000
    }
}
