//! Ids, specifications, outcomes.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Ticket id: a ULID with 80 random bits. 26 characters in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(pub u128);

/// Sale id as it stands in paths: `[A-Za-z0-9_.-]{1,64}`.
pub type SaleId = Arc<str>;

/// What an operator fixes for a sale. Serialized into the journal and the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleSpec {
    /// Item sold.
    pub item: String,
    /// For people.
    pub title: Option<String>,
    /// Units put on sale at creation.
    pub stock: u64,
    /// Units one buyer may hold.
    pub per_buyer_limit: u32,
    /// Units one order may ask for.
    pub quantity_max: u32,
    /// Opens by itself at, Unix ms; `None`: opened by hand.
    pub opens_at_ms: Option<u64>,
    /// Closes by itself at, Unix ms.
    pub closes_at_ms: Option<u64>,
    /// Queued orders are dropped after.
    pub order_deadline_ms: u64,
    /// Created orders expire after.
    pub pay_window_ms: u64,
    /// Share of the token queue.
    pub weight: u32,
    /// A pass is needed.
    pub requires_pass: bool,
    /// Sales of one group share the per-buyer limit.
    pub limit_group: Option<String>,
    /// Released units still count against the buyer's limit.
    pub limit_counts_released: bool,
}

/// Operator's switch, orthogonal to the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaleSwitch {
    /// Follows `opens_at_ms` / `closes_at_ms`.
    Scheduled,
    /// Opened by hand; closes at `closes_at_ms`.
    Open,
    /// Closed by hand.
    Closed,
}

/// Ticket states, in wire spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TicketStatus {
    /// Reserved, waiting for a worker.
    Queued,
    /// Created by a worker, not yet paid.
    AwaitingPayment,
    /// Sold.
    Paid,
    /// Released by the buyer or the shop.
    Cancelled,
    /// Released by the pay timer.
    Expired,
    /// Released by the worker.
    Rejected,
    /// Released by the order deadline.
    Dropped,
    /// Released as a dead letter.
    Failed,
}

impl TicketStatus {
    /// Anything but `Queued` and `AwaitingPayment`.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::AwaitingPayment)
    }
}

/// One order on its way in. `now_ms` comes from the caller's clock.
#[derive(Debug, Clone, Copy)]
pub struct Reserve<'a> {
    /// Fresh id to use if this wins.
    pub ticket: TicketId,
    /// Sale.
    pub sale: &'a str,
    /// Authenticated buyer.
    pub buyer: &'a str,
    /// Units.
    pub quantity: u32,
    /// The buyer's `Idempotency-Key`, scoped to (sale, buyer).
    pub idempotency_key: Option<&'a str>,
    /// Hash of the request body, compared when the key repeats.
    pub body_hash: u64,
    /// The buyer's attributes, a JSON object as text, `{}` when none; carried to the worker as they are.
    pub attributes: &'a str,
    /// Now, Unix ms.
    pub now_ms: u64,
}

/// Sold-out flag's epoch: compared as a pair; a flag of an older epoch never overwrites a newer state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Epoch {
    /// Rises with each recovery.
    pub generation: u64,
    /// Rises whenever `available` leaves 0.
    pub counter: u64,
}

/// What became of a reserve. `lsn`: not to be told before `Journal::durable` has reached it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReserveOutcome {
    /// Units are held for this ticket.
    Won {
        /// The ticket as it stands.
        ticket: TicketView,
    },
    /// The same idempotency key again: the same ticket.
    Repeat {
        /// The ticket as it stands.
        ticket: TicketView,
    },
    /// The same key with another body.
    IdempotencyMismatch,
    /// The buyer holds as many units as one may.
    LimitReached {
        /// Which tickets hold them.
        tickets: Vec<TicketId>,
        /// Barrier before this may be told.
        lsn: Lsn,
    },
    /// Some units are left, but fewer than asked.
    NotEnoughStock {
        /// How many.
        available: u64,
    },
    /// None left.
    SoldOut {
        /// Epoch to set the flag under.
        epoch: Epoch,
    },
    /// Before the window; opens then, if known.
    NotOpen {
        /// Unix ms.
        opens_at_ms: Option<u64>,
    },
    /// After the window.
    Closed,
    /// No such sale.
    SaleNotFound,
    /// More than `quantity_max`, or zero.
    BadQuantity {
        /// The most one order may ask.
        quantity_max: u32,
    },
    /// The ledger holds as many tickets as its limits allow; nothing was reserved.
    LedgerFull,
}
pub use crate::record::Lsn;

/// A ticket as told to the outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketView {
    /// Id.
    pub ticket: TicketId,
    /// Sale.
    pub sale: SaleId,
    /// Item.
    pub item: Arc<str>,
    /// Buyer.
    pub buyer: Arc<str>,
    /// Units.
    pub quantity: u32,
    /// State.
    pub status: TicketStatus,
    /// 1 when queued, then one more for each transition, without gaps.
    pub version: u32,
    /// Reserved at.
    pub won_at_ms: u64,
    /// Order deadline.
    pub deadline_ms: u64,
    /// Last change.
    pub updated_at_ms: u64,
    /// Set by `created`.
    pub order_id: Option<Arc<str>>,
    /// Set by `created`.
    pub pay_by_ms: Option<u64>,
    /// Set by `paid`.
    pub payment_id: Option<Arc<str>>,
    /// Set by `rejected`, `cancelled`, `failed`, `dropped`, `expired`.
    pub reason: Option<Arc<str>>,
    /// Position of its newest record: not to be told before that is durable.
    pub lsn: Lsn,
}

/// What moves a ticket on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition<'a> {
    /// Worker: the order row exists.
    Created {
        /// Row's id.
        order_id: &'a str,
    },
    /// Worker: not creatable.
    Rejected {
        /// Why.
        reason: &'a str,
    },
    /// Worker: money came.
    Paid {
        /// Payment's id.
        payment_id: &'a str,
    },
    /// Worker: cancelled by buyer or shop.
    Cancelled {
        /// Why.
        reason: &'a str,
    },
    /// Pay timer proposes.
    Expire,
    /// Order deadline proposes.
    Drop,
    /// Dead letter proposes.
    Fail {
        /// Why.
        reason: &'a str,
    },
}

/// What became of a transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransitionOutcome {
    /// It took effect now.
    Done(TicketView),
    /// The same transition with the same data took effect before.
    Repeat(TicketView),
    /// The state does not allow it.
    WrongState {
        /// As it stands.
        ticket: TicketView,
        /// Money came for a ticket that is not payable; an event tells so.
        refund_required: bool,
    },
    /// A timer's proposal that is not due (clock of the proposer ahead).
    NotDue(TicketView),
    /// No such ticket.
    TicketNotFound,
}

/// Sale as told to the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleView {
    /// Id.
    pub sale: SaleId,
    /// Spec.
    pub spec: SaleSpec,
    /// Switch.
    pub switch: SaleSwitch,
    /// Stock counters.
    pub stock: Stock,
    /// Epoch.
    pub epoch: Epoch,
    /// Barrier before this may be told.
    pub lsn: Lsn,
}

/// `initial + restocked = available + held + sold`, at all times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stock {
    /// Put on sale at creation.
    pub initial: u64,
    /// Added since.
    pub restocked: u64,
    /// May be reserved now.
    pub available: u64,
    /// Reserved, or awaiting payment, or returning (release not yet durable).
    pub held: u64,
    /// Paid.
    pub sold: u64,
    /// Came back, ever (a flow, not part of the identity).
    pub returned: u64,
}

/// One checked equation of an audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Name.
    pub name: String,
    /// Left side.
    pub left: i128,
    /// Right side.
    pub right: i128,
    /// Equal.
    pub holds: bool,
}

/// Audit of one sale: the counters against a recount of its tickets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Sale.
    pub sale: SaleId,
    /// All identities hold.
    pub holds: bool,
    /// Counters.
    pub stock: Stock,
    /// Tickets by state.
    pub tickets: Vec<(TicketStatus, u64)>,
    /// The equations.
    pub identities: Vec<Identity>,
    /// Barrier before this may be told.
    pub lsn: Lsn,
}

/// Why a sale operation was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SaleError {
    /// Unknown.
    #[error("no sale of that name")]
    NotFound,
    /// Stock differs from what the sale was created with.
    #[error("the sale exists with a stock of {stock}; add units with restock")]
    StockAlreadySet {
        /// As created.
        stock: u64,
    },
    /// The same restock id with another quantity.
    #[error("restock id was used before with quantity {quantity}")]
    RestockMismatch {
        /// Then.
        quantity: u64,
    },
    /// Bad spec.
    #[error("{0}")]
    Invalid(String),
    /// A bound of the ledger is reached.
    #[error("the ledger's limit of {limit} {what} is reached")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
    },
    /// Journal refused.
    #[error(transparent)]
    Journal(#[from] crate::JournalError),
}

/// Units came back and are durable: the flag may fall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reopened {
    /// Sale.
    pub sale: SaleId,
    /// New epoch.
    pub epoch: Epoch,
}

impl TicketId {
    /// Its text, written into `buffer`: no allocation.
    pub fn write_to<'b>(&self, buffer: &'b mut [u8; ulid::ULID_LEN]) -> &'b str {
        ulid::Ulid(self.0).array_to_str(buffer)
    }
}

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.write_to(&mut [0; ulid::ULID_LEN]))
    }
}

impl std::str::FromStr for TicketId {
    type Err = ulid::DecodeError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ulid::Ulid::from_string(text).map(|ulid| Self(ulid.0))
    }
}
