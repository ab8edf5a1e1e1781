//! `POST /v1/tickets/{ticket}/created|rejected|paid|cancelled`: the worker proposes, the ledger decides, and the
//! answer waits for the record.

use crate::api::tickets::ticket_object;
use crate::http::{Answer, Refusal, answer, request};
use crate::state::Core;
use http::StatusCode;
use tidegate_client::wire::{CancelledRequest, CreatedRequest, PaidRequest, RejectedRequest};
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
    match core.transition(id, transition).await? {
        TransitionOutcome::Done(view) | TransitionOutcome::Repeat(view) => {
            Ok(answer::json(StatusCode::OK, &ticket_object(&view)))
        }
        TransitionOutcome::WrongState { ticket, refund_required } => {
            Err(wrong_state(&ticket, refund_required))
        }
        // Only timers' proposals can be early; a worker's that were would be told the state.
        TransitionOutcome::NotDue(ticket) => Err(wrong_state(&ticket, false)),
        TransitionOutcome::TicketNotFound => Err(Refusal::TicketNotFound),
    }
}

fn wrong_state(view: &TicketView, refund_required: bool) -> Refusal {
    Refusal::WrongState { ticket: Box::new(ticket_object(view).into_owned()), refund_required }
}
