//! An order: as the buyer asks for it, as the worker gets it, and as its transitions are told.

use super::body::{borrow_object, borrow_raw};
use super::{TicketStatus, is_false, own};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// `POST /v1/sales/{sale}/orders`. An empty request body means the default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest<'a> {
    /// Units; absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<u32>,
    /// A JSON object that is handed to the worker as it is; absent: `{}`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none", deserialize_with = "borrow_object")]
    pub attributes: Option<Cow<'a, RawValue>>,
}

/// Body of a message in topic `orders` (key = ticket, tag = sale). Parse it from a slice or a `str`: it borrows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OrderBody<'a> {
    /// Ticket.
    #[serde(borrow)]
    pub ticket: Cow<'a, str>,
    /// Sale.
    #[serde(borrow)]
    pub sale: Cow<'a, str>,
    /// Item sold.
    #[serde(borrow)]
    pub item: Cow<'a, str>,
    /// Buyer.
    #[serde(borrow)]
    pub buyer: Cow<'a, str>,
    /// Units.
    pub quantity: u32,
    /// Reserved at, Unix ms.
    pub won_at_ms: u64,
    /// Order deadline, Unix ms.
    pub deadline_ms: u64,
    /// How long the created order may stay unpaid.
    pub pay_window_ms: u64,
    /// What the buyer sent along, a JSON object.
    #[serde(borrow, deserialize_with = "borrow_raw")]
    pub attributes: Cow<'a, RawValue>,
}

impl OrderBody<'_> {
    /// Copies what is borrowed.
    pub fn into_owned(self) -> OrderBody<'static> {
        OrderBody {
            ticket: own(self.ticket),
            sale: own(self.sale),
            item: own(self.item),
            buyer: own(self.buyer),
            quantity: self.quantity,
            won_at_ms: self.won_at_ms,
            deadline_ms: self.deadline_ms,
            pay_window_ms: self.pay_window_ms,
            attributes: Cow::Owned(self.attributes.into_owned()),
        }
    }
}

/// Body of a message in topic `order-events` (key and ordering key = ticket, tag = `to`, or `refund_required`
/// for money that came too late). Parse it from a slice or a `str`: it borrows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderEvent<'a> {
    /// Ticket.
    #[serde(borrow)]
    pub ticket: Cow<'a, str>,
    /// Sale.
    #[serde(borrow)]
    pub sale: Cow<'a, str>,
    /// Buyer.
    #[serde(borrow)]
    pub buyer: Cow<'a, str>,
    /// Units.
    pub quantity: u32,
    /// Version after the transition; no gaps per ticket.
    pub version: u32,
    /// State before.
    pub from: TicketStatus,
    /// State after; equal to `from` only where `refund_required`.
    pub to: TicketStatus,
    /// When, Unix ms.
    pub at_ms: u64,
    /// Brought by `created`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<Cow<'a, str>>,
    /// Brought by `created`, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pay_by_ms: Option<u64>,
    /// Brought by `paid`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub payment_id: Option<Cow<'a, str>>,
    /// Why it was released.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
    /// Money came for a ticket that is not payable.
    #[serde(default, skip_serializing_if = "is_false")]
    pub refund_required: bool,
}

impl OrderEvent<'_> {
    /// Copies what is borrowed.
    pub fn into_owned(self) -> OrderEvent<'static> {
        OrderEvent {
            ticket: own(self.ticket),
            sale: own(self.sale),
            buyer: own(self.buyer),
            quantity: self.quantity,
            version: self.version,
            from: self.from,
            to: self.to,
            at_ms: self.at_ms,
            order_id: self.order_id.map(own),
            pay_by_ms: self.pay_by_ms,
            payment_id: self.payment_id.map(own),
            reason: self.reason.map(own),
            refund_required: self.refund_required,
        }
    }
}
