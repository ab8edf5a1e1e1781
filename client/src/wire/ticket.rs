//! The ticket object and the requests that move a ticket on.

use super::own;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Ticket states, in wire spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// All of them, in the order of the state machine.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::AwaitingPayment,
        Self::Paid,
        Self::Cancelled,
        Self::Expired,
        Self::Rejected,
        Self::Dropped,
        Self::Failed,
    ];

    /// Anything but `Queued` and `AwaitingPayment`.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::AwaitingPayment)
    }

    /// A terminal state that gave the units back: the order is none.
    pub fn is_released(self) -> bool {
        self.is_terminal() && self != Self::Paid
    }

    /// Wire spelling; also the tag of the order event that leads here.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::AwaitingPayment => "awaiting_payment",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for TicketStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A ticket as told to buyers and workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket<'a> {
    /// Id: 26 characters.
    pub ticket: Cow<'a, str>,
    /// Sale.
    pub sale: Cow<'a, str>,
    /// Item sold.
    pub item: Cow<'a, str>,
    /// Who holds it.
    pub buyer: Cow<'a, str>,
    /// Units.
    pub quantity: u32,
    /// State.
    pub status: TicketStatus,
    /// 1 when queued, then one more for each transition, without gaps.
    pub version: u32,
    /// Reserved at, Unix ms.
    pub won_at_ms: u64,
    /// Order deadline, Unix ms.
    pub deadline_ms: u64,
    /// Last change, Unix ms.
    pub updated_at_ms: u64,
    /// While queued: orders ahead of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// While queued: projected wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_wait_ms: Option<u64>,
    /// The worker's order, once created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<Cow<'a, str>>,
    /// To be paid by, Unix ms, once created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pay_by_ms: Option<u64>,
    /// The payment, once paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_id: Option<Cow<'a, str>>,
    /// Why it was released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
}

impl Ticket<'_> {
    /// Copies what is borrowed.
    pub fn into_owned(self) -> Ticket<'static> {
        Ticket {
            ticket: own(self.ticket),
            sale: own(self.sale),
            item: own(self.item),
            buyer: own(self.buyer),
            quantity: self.quantity,
            status: self.status,
            version: self.version,
            won_at_ms: self.won_at_ms,
            deadline_ms: self.deadline_ms,
            updated_at_ms: self.updated_at_ms,
            position: self.position,
            estimated_wait_ms: self.estimated_wait_ms,
            order_id: self.order_id.map(own),
            pay_by_ms: self.pay_by_ms,
            payment_id: self.payment_id.map(own),
            reason: self.reason.map(own),
        }
    }
}

/// `GET /v1/sales/{sale}/tickets`: the caller's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TicketList<'a> {
    /// Oldest first.
    pub tickets: Vec<Ticket<'a>>,
}

/// `POST /v1/tickets/{ticket}/created`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreatedRequest<'a> {
    /// The worker's order row.
    #[serde(borrow)]
    pub order_id: Cow<'a, str>,
}

/// `POST /v1/tickets/{ticket}/rejected`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejectedRequest<'a> {
    /// Told to the buyer.
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
}

/// `POST /v1/tickets/{ticket}/paid`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaidRequest<'a> {
    /// The payment provider's id.
    #[serde(borrow)]
    pub payment_id: Cow<'a, str>,
}

/// `POST /v1/tickets/{ticket}/cancelled`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelledRequest<'a> {
    /// Told to the buyer.
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
}
