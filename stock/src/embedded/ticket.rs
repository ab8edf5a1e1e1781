//! One ticket in memory, packed: a million of them are held for as long as their sale is.

use super::detail::Detail;
use super::machine::Standing;
use crate::record::Lsn;
use crate::types::{TicketId, TicketStatus};

/// See the module. Who it belongs to (sale, buyer's name, item's name) stands with the sale.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ticket {
    // Two halves: a u128 would align the whole struct to 16 bytes.
    id_high: u64,
    id_low: u64,
    pub(super) lsn: Lsn,
    pub(super) won_at_ms: u64,
    /// Meaningful when `keyed`.
    pub(super) key_hash: u64,
    pub(super) body_hash: u64,
    /// What transitions brought; see [`Detail`].
    pub(super) packed: Option<Box<[u8]>>,
    /// Order deadline, after `won_at_ms`.
    pub(super) deadline_after_ms: u32,
    pub(super) quantity: u32,
    /// Position among the sale's buyers.
    pub(super) buyer: u32,
    /// The same buyer's ticket before this one.
    pub(super) previous: u32,
    /// Position among the sale's items.
    pub(super) item: u16,
    pub(super) status: TicketStatus,
    version_and_keyed: u8,
}

const KEYED: u8 = 0x80;

/// What a ticket begins with.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewTicket<'a> {
    pub(super) id: TicketId,
    pub(super) buyer: &'a str,
    pub(super) item: u16,
    pub(super) quantity: u32,
    pub(super) won_at_ms: u64,
    pub(super) deadline_after_ms: u32,
    pub(super) key_hash: Option<u64>,
    pub(super) body_hash: u64,
    pub(super) lsn: Lsn,
}

impl Ticket {
    /// Queued, version 1, not yet linked to its buyer.
    pub(super) fn new(new: &NewTicket<'_>) -> Self {
        Self {
            id_high: (new.id.0 >> 64) as u64,
            id_low: new.id.0 as u64,
            lsn: new.lsn,
            won_at_ms: new.won_at_ms,
            key_hash: new.key_hash.unwrap_or(0),
            body_hash: new.body_hash,
            packed: None,
            deadline_after_ms: new.deadline_after_ms,
            quantity: new.quantity,
            buyer: super::buyers::NONE,
            previous: super::buyers::NONE,
            item: new.item,
            status: TicketStatus::Queued,
            version_and_keyed: 1 | if new.key_hash.is_some() { KEYED } else { 0 },
        }
    }

    pub(super) fn id(&self) -> TicketId {
        TicketId(u128::from(self.id_high) << 64 | u128::from(self.id_low))
    }

    pub(super) fn keyed(&self) -> bool {
        self.version_and_keyed & KEYED != 0
    }

    /// Never above 3: no path through the state machine has more than two steps.
    pub(super) fn version(&self) -> u32 {
        u32::from(self.version_and_keyed & !KEYED)
    }

    pub(super) fn set_version(&mut self, version: u32) {
        self.version_and_keyed = (self.version_and_keyed & KEYED) | (version as u8 & !KEYED);
    }

    pub(super) fn deadline_ms(&self) -> u64 {
        self.won_at_ms.saturating_add(u64::from(self.deadline_after_ms))
    }

    pub(super) fn detail(&self) -> Detail<'_> {
        // Blocks are made by `pack`, or were checked when the snapshot was read.
        Detail::unpack(self.packed.as_deref(), self.won_at_ms).unwrap_or_default()
    }

    pub(super) fn standing(&self) -> Standing<'_> {
        Standing { status: self.status, deadline_ms: self.deadline_ms(), detail: self.detail() }
    }
}

const _: () = assert!(size_of::<Ticket>() <= 88);
