//! `POST /v1/tickets/{ticket}/created|rejected|paid|cancelled`: the worker proposes, the ledger decides, and the
//! answer waits for the record.

use crate::api::tickets::ticket_object;
use crate::http::{Answer, Refusal, answer, request};
use crate::state::Core;
use http::StatusCode;
use tidegate_client::wire::{CancelledRequest, CreatedRequest, PaidRequest, RejectedRequest, Ticket};
use tidegate_stock::{TicketId, TicketView, Transition, TransitionOutcome};

/// Bytes of an order or payment id.
const ID_BYTES_MAX: usize = 256;
/// Bytes of a reason.
const REASON_BYTES_MAX: usize = 1_024;

/// Cancel safe: repeating the call answers as the first one would have.
pub(in crate::api) async fn transition(
    core: &Core,
    ticket: &str,
    verb: &str,
    body: &[u8],
) -> Result<Answer, Refusal> {
    let id: TicketId = ticket.parse().map_err(|_| Refusal::TicketNotFound)?;
    match verb {
        "created" => {
            let asked: CreatedRequest<'_> = request::parse_json(body)?;
            let order_id = bounded("order_id", &asked.order_id, ID_BYTES_MAX)?;
            propose(core, id, Transition::Created { order_id }).await
        }
        "rejected" => {
            let asked: RejectedRequest<'_> = request::parse_json(body)?;
            let reason = bounded("reason", &asked.reason, REASON_BYTES_MAX)?;
            propose(core, id, Transition::Rejected { reason }).await
        }
        "paid" => {
            let asked: PaidRequest<'_> = request::parse_json(body)?;
            let payment_id = bounded("payment_id", &asked.payment_id, ID_BYTES_MAX)?;
            propose(core, id, Transition::Paid { payment_id }).await
        }
        "cancelled" => {
            let asked: CancelledRequest<'_> = request::parse_json(body)?;
            let reason = bounded("reason", &asked.reason, REASON_BYTES_MAX)?;
            propose(core, id, Transition::Cancelled { reason }).await
        }
        _ => Err(Refusal::NotFound),
    }
}

fn bounded<'t>(field: &'static str, text: &'t str, bytes_max: usize) -> Result<&'t str, Refusal> {
    if (1..=bytes_max).contains(&text.len()) {
        return Ok(text);
    }
    Err(Refusal::BadRequest(format!("`{field}` must have 1 to {bytes_max} bytes").into()))
}

async fn propose(core: &Core, id: TicketId, transition: Transition<'_>) -> Result<Answer, Refusal> {
    let outcome = core.app.ledger.transition(id, transition, core.app.clock.now_ms())?;
    match outcome {
        TransitionOutcome::Done(view) | TransitionOutcome::Repeat(view) => {
            durable(core, &view).await?;
            Ok(answer::json(StatusCode::OK, &ticket_object(&view)))
        }
        TransitionOutcome::WrongState { ticket, refund_required } => {
            durable(core, &ticket).await?;
            Err(wrong_state(&ticket, refund_required))
        }
        // Only timers' proposals can be early; a worker's that were would be told the state.
        TransitionOutcome::NotDue(ticket) => {
            durable(core, &ticket).await?;
            Err(wrong_state(&ticket, false))
        }
        TransitionOutcome::TicketNotFound => Err(Refusal::TicketNotFound),
    }
}

async fn durable(core: &Core, view: &TicketView) -> Result<(), Refusal> {
    core.told(view.lsn).await.map_err(|_| Refusal::Unknown { ticket: Some(view.ticket) })
}

fn wrong_state(view: &TicketView, refund_required: bool) -> Refusal {
    Refusal::WrongState { ticket: Box::new(into_owned(ticket_object(view))), refund_required }
}

fn into_owned(ticket: Ticket<'_>) -> Ticket<'static> {
    let own = |text: std::borrow::Cow<'_, str>| std::borrow::Cow::Owned(text.into_owned());
    Ticket {
        ticket: own(ticket.ticket),
        sale: own(ticket.sale),
        item: own(ticket.item),
        buyer: own(ticket.buyer),
        quantity: ticket.quantity,
        status: ticket.status,
        version: ticket.version,
        won_at_ms: ticket.won_at_ms,
        deadline_ms: ticket.deadline_ms,
        updated_at_ms: ticket.updated_at_ms,
        position: ticket.position,
        estimated_wait_ms: ticket.estimated_wait_ms,
        order_id: ticket.order_id.map(own),
        pay_by_ms: ticket.pay_by_ms,
        payment_id: ticket.payment_id.map(own),
        reason: ticket.reason.map(own),
    }
}
