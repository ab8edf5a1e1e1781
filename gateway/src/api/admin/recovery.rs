//! What an operator decides after a failure: to go on without a gateway's log, and which orders to give up when more was
//! sold than there was. Of a ledger in Redis only.

use crate::api::tickets::ticket_object;
use crate::http::{Answer, Refusal, answer, request};
use crate::ledger::LedgerError;
use crate::ledger::redis::CoreLedger;
use crate::state::Core;
use http::StatusCode;
use std::rc::Rc;
use tidegate_client::wire;
use tidegate_stock::redis::ops::Forgot;
use tidegate_stock::{TicketId, TicketStatus, Transition};

/// Tickets of one list or one call.
const TICKETS_MAX: usize = 100;
/// Bytes of a reason.
const REASON_BYTES_MAX: usize = 1_024;

fn shared(core: &Core) -> Result<&Rc<CoreLedger>, Refusal> {
    let why = "the ledger of this gateway is its own: it is whole whenever it runs";
    core.redis.as_ref().ok_or(Refusal::BadRequest(why.into()))
}

/// `GET /v1/sales/{sale}/recovery`
pub(in crate::api) async fn recovery(core: &Core, sale: &str) -> Result<Answer, Refusal> {
    let found = shared(core)?.recovery(sale).await.map_err(LedgerError::of_read)?;
    let (meta, recovery) = found.ok_or(Refusal::SaleNotFound)?;
    let told = wire::Recovery {
        sale: sale.to_owned(),
        paused: meta.paused.is_some(),
        reason: meta.paused,
        brought_in: recovery.brought_in,
        missing: recovery.missing,
        available: meta.stock.available,
        held: meta.stock.held,
        sold: meta.stock.sold,
    };
    Ok(answer::json(StatusCode::OK, &told))
}

/// `POST /v1/sales/{sale}/resume`
pub(in crate::api) async fn resume(core: &Core, sale: &str, body: &[u8]) -> Result<Answer, Refusal> {
    let asked: wire::ResumeRequest = request::parse_json(body)?;
    if asked.without_gateway.is_empty() || asked.without_gateway.len() > 128 {
        return Err(Refusal::BadRequest("`without_gateway` must have 1 to 128 bytes".into()));
    }
    shared(core)?.excuse(sale, &asked.without_gateway).await?;
    recovery(core, sale).await
}

/// `POST /v1/gateways/{gateway}/forget`
pub(in crate::api) async fn forget(core: &Core, gateway: &str) -> Result<Answer, Refusal> {
    match shared(core)?.forget(gateway).await? {
        Forgot::Since(since_ms) => {
            let gateway = gateway.to_owned();
            Ok(answer::json(StatusCode::OK, &wire::Forgotten { gateway, since_ms }))
        }
        Forgot::Alive => {
            let why = "this gateway lives: stop it first, or leave it; one that is alive cannot be forgotten";
            Err(Refusal::BadRequest(why.into()))
        }
        Forgot::Unknown => Err(Refusal::BadRequest("no gateway of this fleet has this id".into())),
    }
}

/// `GET /v1/sales/{sale}/excess`
pub(in crate::api) async fn excess(core: &Core, sale: &str) -> Result<Answer, Refusal> {
    let found = shared(core)?.excess(sale, TICKETS_MAX).await.map_err(LedgerError::of_read)?;
    let (excess, views) = found.ok_or(Refusal::SaleNotFound)?;
    let tickets = views.iter().map(|view| ticket_object(view).into_owned()).collect();
    Ok(answer::json(StatusCode::OK, &wire::Excess { sale: sale.to_owned(), excess, tickets }))
}

/// `POST /v1/sales/{sale}/excess`. Cancel safe: repeat it, what is released stays so.
pub(in crate::api) async fn release_excess(core: &Core, sale: &str, body: &[u8]) -> Result<Answer, Refusal> {
    let asked: wire::ReleaseExcess = request::parse_json(body)?;
    if asked.tickets.len() > TICKETS_MAX {
        return Err(Refusal::BadRequest(format!("`tickets` may name at most {TICKETS_MAX}").into()));
    }
    if asked.reason.is_empty() || asked.reason.len() > REASON_BYTES_MAX {
        return Err(Refusal::BadRequest(format!("`reason` must have 1 to {REASON_BYTES_MAX} bytes").into()));
    }
    for ticket in &asked.tickets {
        let id: TicketId = ticket.parse().map_err(|_| Refusal::TicketNotFound)?;
        let view =
            core.ticket(id).await?.filter(|view| &*view.sale == sale).ok_or(Refusal::TicketNotFound)?;
        let reason = asked.reason.as_str();
        match view.status {
            TicketStatus::Queued => drop(core.transition(id, Transition::Fail { reason }).await?),
            TicketStatus::AwaitingPayment => {
                drop(core.transition(id, Transition::Cancelled { reason }).await?);
            }
            _ => {}
        }
    }
    excess(core, sale).await
}
