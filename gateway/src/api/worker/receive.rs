//! `POST …/receive`: a long poll for messages under lease.
//!
//! The log knows deadlines; whether an order is still wanted the ledger knows. So orders pass it once more on
//! their way out: one whose ticket has come to its end is settled here and never delivered.

use super::{in_range, message_object, not_internal};
use crate::http::{Answer, Refusal, answer, request};
use crate::pipeline::{claim_of, topics};
use crate::state::Core;
use http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::time::Duration;
use tidegate_client::wire;
use tidegate_queue::{Delivery, Receipt, ReceiveRequest};
use tidegate_stock::redis::ops::Delivers;
use tidegate_stock::{Lsn, TicketId};
use tokio::time::{Instant, sleep_until};
use tracing::error;

/// Messages of one answer.
const MAX: u64 = 1_024;
/// Longest lease: 12 h.
const LEASE_MS_MAX: u64 = 43_200_000;
/// Tags of one filter.
const TAGS_MAX: usize = 64;

/// Orders that the shared ledger could not be asked about come again after.
const ASK_AGAIN_MS: u64 = 200;

/// Whether the field is written; its default is the configuration's, not the wire type's.
#[derive(Deserialize)]
struct Written {
    lease_ms: Option<IgnoredAny>,
}

/// Cancel safe: what was leased for a client that went away is delivered again when the lease ends.
pub(in crate::api) async fn receive(
    core: &Core,
    topic: &str,
    group: &str,
    body: &[u8],
) -> Result<Answer, Refusal> {
    not_internal(topic)?;
    let app = &core.app;
    let body = if body.is_empty() { b"{}" } else { body };
    let asked: wire::ReceiveRequest = request::parse_json(body)?;
    let lease_ms = match request::parse_json::<Written>(body)?.lease_ms {
        Some(_) => in_range("lease_ms", asked.lease_ms, 1, LEASE_MS_MAX)?,
        None => app.config.queue.lease_ms,
    };
    if asked.tags.len() > TAGS_MAX {
        return Err(Refusal::BadRequest(format!("`tags` may name at most {TAGS_MAX} tags").into()));
    }
    let everything = asked.tags.is_empty() || asked.tags.iter().any(|tag| tag == "*");
    if topic == topics::ORDERS && group == topics::ORDER_WORKERS && !everything {
        // What a filter leaves out is settled for the whole group: other sales' winners would lose their orders.
        let why = "`tags` must be [\"*\"] for this group: it owes every order to a worker; filter in a group of \
                   your own";
        return Err(Refusal::BadRequest(why.into()));
    }
    let request = ReceiveRequest {
        topic,
        group,
        max: in_range("max", asked.max.into(), 1, MAX)? as usize,
        lease_ms,
        tags: &asked.tags,
    };
    let _place = app.receives.try_acquire().map_err(|_| {
        Refusal::QueueBusy("too many receives are waiting; see waiting_receives_max in the configuration")
    })?;
    let end = Instant::now() + Duration::from_millis(asked.wait_ms.min(request::WAIT_S_MAX * 1_000));
    let mut slot = None;
    loop {
        let mut deliveries = tokio::select! {
            biased;
            leased = poll_fn(|cx| app.queue.poll_receive(cx, &mut slot, &request)) => leased?,
            () = sleep_until(end) => Vec::new(),
            () = app.stopping.wait() => Vec::new(),
        };
        if deliveries.is_empty() {
            return Ok(answer::json(StatusCode::OK, &wire::ReceiveAnswer::default()));
        }
        if topic == topics::ORDERS {
            deliveries = wanted(core, group, deliveries).await?;
        }
        if !deliveries.is_empty() {
            let messages = deliveries
                .iter()
                .map(|delivery| message_object(&delivery.message, &delivery.receipt.0, delivery.attempt))
                .collect();
            return Ok(answer::json(StatusCode::OK, &wire::ReceiveAnswer { messages }));
        }
    }
}

/// Keeps the orders whose tickets are under way; settles the others for good. What either says of a ticket is
/// durable first: settling an order whose end a crash then takes back would lose it.
async fn wanted(core: &Core, group: &str, deliveries: Vec<Delivery>) -> Result<Vec<Delivery>, Refusal> {
    #[cfg(feature = "defects")]
    if crate::defects::active("late-delivery") {
        return Ok(deliveries);
    }
    let app = &core.app;
    let Some(ledger) = app.stock.embedded() else { return still_ours(core, group, deliveries).await };
    let mut newest = Lsn(0);
    let mut over: Vec<Receipt> = Vec::new();
    let mut kept = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        match ticket_of(&delivery).and_then(|ticket| ledger.status_of(ticket)) {
            Some((status, lsn)) => {
                newest = newest.max(lsn);
                if status.is_terminal() {
                    over.push(delivery.receipt);
                } else {
                    kept.push(delivery);
                }
            }
            // Not ours to judge: it stays leased, comes again, and ends as a dead letter that people see.
            None => {
                error!(position = %delivery.message.position, "an order message without a ticket in the ledger");
            }
        }
    }
    if core.told(newest).await.is_err() {
        // Nobody may hear of any of them yet: back to the queue at once, not when their leases end.
        over.extend(kept.into_iter().map(|delivery| delivery.receipt));
        app.queue.nack(topics::ORDERS, group, &over, Some(0));
        return Err(Refusal::Unknown { ticket: None });
    }
    // While this waited for the disk a deadline may have dropped one of them.
    kept.retain(|delivery| {
        let ended = ticket_of(delivery)
            .and_then(|ticket| ledger.status_of(ticket))
            .is_some_and(|(status, _)| status.is_terminal());
        if ended {
            // Its end is not durable yet, so it is not settled here: it comes again, and is settled then.
            app.queue.nack(topics::ORDERS, group, std::slice::from_ref(&delivery.receipt), Some(0));
        }
        !ended
    });
    if !over.is_empty() {
        // One whose lease ended meanwhile comes again and is settled then.
        app.queue.discard(topics::ORDERS, group, &over);
    }
    Ok(kept)
}

/// With a shared ledger: keeps the orders that are under way and this gateway's to deliver, one call a sale; settles the
/// others for good. A gateway that slept wakes up with orders that another has adopted: it delivers none of them.
async fn still_ours(core: &Core, group: &str, deliveries: Vec<Delivery>) -> Result<Vec<Delivery>, Refusal> {
    let (Some(redis), queue) = (&core.redis, &core.app.queue) else { return Ok(deliveries) };
    let mut by_sale: BTreeMap<String, Vec<(Delivery, TicketId)>> = BTreeMap::new();
    for delivery in deliveries {
        if let Some(ticket) = ticket_of(&delivery) {
            by_sale.entry(delivery.message.tag.clone()).or_default().push((delivery, ticket));
        } else {
            error!(position = %delivery.message.position, "an order message without a ticket");
        }
    }
    let (mut kept, mut over, mut later) = (Vec::new(), Vec::new(), Vec::new());
    let mut refused = None;
    for (sale, orders) in by_sale {
        let asked: Vec<(TicketId, u32)> =
            orders.iter().map(|(delivery, ticket)| (*ticket, claim_of(&delivery.message))).collect();
        match redis.validate(&sale, &asked).await {
            Ok(answers) => {
                for ((delivery, ticket), answer) in orders.into_iter().zip(answers) {
                    match answer {
                        Delivers::Yes => kept.push(delivery),
                        Delivers::Over => over.push(delivery.receipt),
                        // Not ours to judge: it stays leased, comes again, and ends as a dead letter that people see.
                        Delivers::Unknown => {
                            error!(%ticket, "an order message without a ticket in the ledger");
                        }
                    }
                }
            }
            Err(error) => {
                later.extend(orders.into_iter().map(|(delivery, _)| delivery.receipt));
                refused = Some(error);
            }
        }
    }
    if !over.is_empty() {
        queue.discard(topics::ORDERS, group, &over);
    }
    if !later.is_empty() {
        queue.nack(topics::ORDERS, group, &later, Some(ASK_AGAIN_MS));
    }
    match refused {
        Some(error) if kept.is_empty() => Err(error.into()),
        _ => Ok(kept),
    }
}

fn ticket_of(delivery: &Delivery) -> Option<TicketId> {
    delivery.message.keys.first()?.parse().ok()
}
