//! What workers received, and what they were answered.

use super::{TicketId, Work};
use crate::clock::Micros;
use tidegate_client::wire::TicketStatus;

/// One message of topic `orders`, delivered once.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) ticket: TicketId,
    /// Index of the buyer; `None` when it is none of ours.
    pub(crate) buyer: Option<u32>,
    pub(crate) quantity: u32,
    /// The gateway that delivered it: queue and offset are its own.
    pub(crate) gateway: u32,
    pub(crate) queue: u32,
    pub(crate) offset: u64,
    pub(crate) deadline_ms: u64,
    /// The receive request left at.
    pub(crate) asked_us: Micros,
    /// Its answer was here at.
    pub(crate) received_us: Micros,
    pub(crate) ack: AckSeen,
}

/// What became of the ack of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckSeen {
    /// Not sent, or no answer came: nothing is promised.
    Unknown,
    /// Answered `ok` at.
    Ok(Micros),
    /// Answered `receipt-expired`.
    Refused,
}

/// `created` was answered 200.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CreatedSeen {
    pub(crate) ticket: TicketId,
    pub(crate) at_us: Micros,
}

/// A payment that was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PaymentSeen {
    pub(crate) ticket: TicketId,
    pub(crate) quantity: u32,
    /// 200; otherwise refused, and the money goes back.
    pub(crate) accepted: bool,
}

/// A message of topic `order-events`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventSeen {
    pub(crate) ticket: TicketId,
    /// As in [`Delivery::buyer`].
    pub(crate) buyer: Option<u32>,
    pub(crate) quantity: u32,
    pub(crate) version: u32,
    pub(crate) from: TicketStatus,
    pub(crate) to: TicketStatus,
    pub(crate) at_ms: u64,
    /// Money that came too late; not a transition.
    pub(crate) refund_required: bool,
}

/// All workers together.
#[derive(Debug, Default)]
pub(crate) struct WorkersSaw {
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) created: Vec<CreatedSeen>,
    /// When hands held orders.
    pub(crate) work: Vec<Work>,
    /// `created` calls that were refused because the ticket was released.
    pub(crate) closed: u64,
    pub(crate) payments: Vec<PaymentSeen>,
    /// Payments that were sent and never answered.
    pub(crate) payments_unknown: u64,
    /// Messages of other sales, handed back.
    pub(crate) foreign: u64,
    /// Bodies that could not be read; the first few.
    pub(crate) unreadable: Vec<String>,
}
