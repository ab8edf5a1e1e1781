//! What the ledger writes down, and the trait of the log it writes to.

use crate::types::{SaleSpec, SaleSwitch, TicketId, TicketStatus};

/// Position in the journal: everything below is covered. Opaque, only grows.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Lsn(pub u64);

/// One record. Borrowed on the way in; the fold builds the same from what the log gives back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// A sale was created, changed, opened or closed: its whole state but the stock movements.
    Sale(SaleRecord<'a>),
    /// Units were added.
    Restock(RestockRecord<'a>),
    /// A reservation. It IS the order message.
    Order(OrderRecord<'a>),
    /// A ticket moved. It IS the order event; `to = AwaitingPayment` also needs the pay timer at `pay_by_ms`.
    Transition(TransitionRecord<'a>),
}

/// See [`Record::Sale`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleRecord<'a> {
    /// Sale.
    pub sale: &'a str,
    /// Spec.
    pub spec: &'a SaleSpec,
    /// Switch.
    pub switch: SaleSwitch,
    /// When.
    pub at_ms: u64,
}

/// See [`Record::Restock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestockRecord<'a> {
    /// Sale.
    pub sale: &'a str,
    /// Repeats of this id are one restock.
    pub restock_id: &'a str,
    /// Units.
    pub quantity: u64,
    /// When.
    pub at_ms: u64,
}

/// See [`Record::Order`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderRecord<'a> {
    /// Ticket.
    pub ticket: TicketId,
    /// Sale.
    pub sale: &'a str,
    /// Item.
    pub item: &'a str,
    /// Buyer.
    pub buyer: &'a str,
    /// Units.
    pub quantity: u32,
    /// When.
    pub won_at_ms: u64,
    /// Order deadline.
    pub deadline_ms: u64,
    /// For the worker.
    pub pay_window_ms: u64,
    /// Hash of (idempotency key), when one came.
    pub key_hash: Option<u64>,
    /// Hash of the request body.
    pub body_hash: u64,
    /// JSON object as text.
    pub attributes: &'a str,
}

/// See [`Record::Transition`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransitionRecord<'a> {
    /// Ticket.
    pub ticket: TicketId,
    /// Sale.
    pub sale: &'a str,
    /// Buyer.
    pub buyer: &'a str,
    /// Units.
    pub quantity: u32,
    /// Version after it.
    pub version: u32,
    /// State before.
    pub from: TicketStatus,
    /// State after; equal to `from` only for a late payment (`refund_required`).
    pub to: TicketStatus,
    /// When.
    pub at_ms: u64,
    /// Brought by `created`.
    pub order_id: Option<&'a str>,
    /// Brought by `created`.
    pub pay_by_ms: Option<u64>,
    /// Brought by `paid`.
    pub payment_id: Option<&'a str>,
    /// Why it was released.
    pub reason: Option<&'a str>,
    /// Money came for a ticket that is not payable.
    pub refund_required: bool,
}

/// Why the journal took nothing. Always definite: nothing of the record is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Disk full for new work.
    #[error("no space left in the order log")]
    NoSpace,
    /// Too much accepted and unwritten.
    #[error("the order log is behind; retry shortly")]
    Busy,
    /// A write failed before; restart.
    #[error("the order log has failed and the process must restart")]
    Poisoned,
}

/// The log under the ledger. Called under the sale's lock: must not block, must not call back.
pub trait Journal: Send + Sync + 'static {
    /// Hands one record over; its order relative to other calls is log order. The answer is the position
    /// that `durable` must reach before the record may be told of.
    fn append(&self, record: &Record<'_>) -> Result<Lsn, JournalError>;
    /// Everything up to here is durable.
    fn durable(&self) -> Lsn;
}
