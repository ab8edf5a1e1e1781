//! The ticket state machine: what a transition means for a ticket as it stands. Decides, changes nothing.
//!
//! The state alone decides; the clock can only hold back a timer's proposal that is not due.

use super::detail::Detail;
use crate::types::{TicketStatus, Transition};

/// Reason of an expired ticket.
pub(super) const REASON_PAY_WINDOW: &str = "pay_window";
/// Reason of a dropped ticket.
pub(super) const REASON_ORDER_DEADLINE: &str = "order_deadline";

/// The decision.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan<'a> {
    /// The ticket moves.
    Move(Move<'a>),
    /// It did before, with the same data.
    Repeat,
    /// The state does not allow it.
    Refuse,
    /// Money for a ticket that is not payable, told of for the first time.
    Refund,
    /// The same money again.
    RefundAgain,
    /// A timer's proposal before its time.
    NotDue,
}

/// A step, with what it brings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Move<'a> {
    /// `None` only in the default.
    pub(super) to: Option<TicketStatus>,
    pub(super) order_id: Option<&'a str>,
    pub(super) pay_by_ms: Option<u64>,
    pub(super) payment_id: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
}

/// What the machine looks at.
pub(super) struct Standing<'t> {
    pub(super) status: TicketStatus,
    pub(super) deadline_ms: u64,
    pub(super) detail: Detail<'t>,
}

/// Whether the ticket's units went back to the stock.
pub(super) fn is_released(status: TicketStatus) -> bool {
    status.is_terminal() && status != TicketStatus::Paid
}

/// The steps of the diagram in the design; the fold refuses all others.
pub(super) fn is_step(from: TicketStatus, to: TicketStatus) -> bool {
    use TicketStatus::{AwaitingPayment, Cancelled, Dropped, Expired, Failed, Paid, Queued, Rejected};
    matches!(
        (from, to),
        (Queued, AwaitingPayment | Rejected | Dropped | Failed)
            | (AwaitingPayment, Paid | Cancelled | Expired)
    )
}

pub(super) fn plan<'a>(
    standing: &Standing<'_>,
    transition: Transition<'a>,
    pay_window_ms: u64,
    now_ms: u64,
) -> Plan<'a> {
    use TicketStatus::{AwaitingPayment, Cancelled, Dropped, Expired, Failed, Paid, Queued, Rejected};
    let detail = &standing.detail;
    let release = |from: TicketStatus, to: TicketStatus, reason: &'a str| {
        if standing.status == from {
            Plan::Move(Move { to: Some(to), reason: Some(reason), ..Move::default() })
        } else if standing.status == to && detail.reason == Some(reason) {
            Plan::Repeat
        } else {
            Plan::Refuse
        }
    };
    match transition {
        Transition::Created { order_id } => match standing.status {
            Queued => Plan::Move(Move {
                to: Some(AwaitingPayment),
                order_id: Some(order_id),
                pay_by_ms: Some(now_ms.saturating_add(pay_window_ms)),
                ..Move::default()
            }),
            AwaitingPayment | Paid if detail.order_id == Some(order_id) => Plan::Repeat,
            _ => Plan::Refuse,
        },
        Transition::Paid { payment_id } => {
            // First of all: this money was said to be refunded, so it can pay for nothing any more.
            if detail.refunds.contains(&payment_id) {
                return Plan::RefundAgain;
            }
            match standing.status {
                AwaitingPayment => {
                    Plan::Move(Move { to: Some(Paid), payment_id: Some(payment_id), ..Move::default() })
                }
                Paid if detail.payment_id == Some(payment_id) => Plan::Repeat,
                _ => Plan::Refund,
            }
        }
        Transition::Rejected { reason } => release(Queued, Rejected, reason),
        Transition::Cancelled { reason } => release(AwaitingPayment, Cancelled, reason),
        Transition::Fail { reason } => release(Queued, Failed, reason),
        Transition::Drop if standing.status == Queued && now_ms < standing.deadline_ms => Plan::NotDue,
        Transition::Drop => release(Queued, Dropped, REASON_ORDER_DEADLINE),
        Transition::Expire
            if standing.status == AwaitingPayment
                && detail.pay_by_ms.is_none_or(|pay_by| now_ms < pay_by) =>
        {
            Plan::NotDue
        }
        Transition::Expire => release(AwaitingPayment, Expired, REASON_PAY_WINDOW),
    }
}
