//! `POST …/receive`: a long poll for messages under lease.
//!
//! The log knows deadlines; whether an order is still wanted the ledger knows. So orders pass it once more on
//! their way out: one whose ticket has come to its end is settled here and never delivered.

use super::consumers::Consumer;
use super::delivered::delivered;
use super::{in_range, not_internal};
use crate::http::{Answer, Refusal, answer, request};
use crate::pipeline::{claim_of, topics};
use crate::state::Core;
use http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;
use tidegate_client::wire;
use tidegate_queue::{Delivery, Queue, Receipt, ReceiveRequest};
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
/// Orders that the shared ledger does not know come again after.
const UNKNOWN_AGAIN_MS: u64 = 1_000;
/// Shortest lease under which a shared ledger is asked: one that ended meanwhile would cost an attempt.
const ASKING_MS: u64 = 10_000;

/// Whether the field is written; its default is the configuration's, not the wire type's.
#[derive(Deserialize)]
struct Written {
    lease_ms: Option<IgnoredAny>,
}

/// Cancel safe: what was leased for a client that went away is delivered again, at the latest when the lease ends.
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
        None => app.boot.queue.lease_ms,
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
    let consumer = Consumer::join(core, topic, group, asked.consumer.as_deref()).await?;
    let group = &*consumer.group;
    let asks = topic == topics::ORDERS && core.redis.is_some();
    let request = ReceiveRequest {
        topic,
        group,
        max: in_range("max", asked.max.into(), 1, MAX)? as usize,
        lease_ms: if asks { lease_ms.max(ASKING_MS) } else { lease_ms },
        tags: &asked.tags,
    };
    let _place = app.receives.try_acquire().map_err(|_| {
        Refusal::QueueBusy("too many receives are waiting; see waiting_receives_max in the configuration")
    })?;
    let end = Instant::now() + Duration::from_millis(asked.wait_ms.min(request::WAIT_S_MAX * 1_000));
    let mut slot = None;
    loop {
        let receive = poll_fn(|cx| {
            if consumer.is_gone(&app.queue, topic) {
                return Poll::Ready(Ok(Vec::new()));
            }
            app.queue.poll_receive(cx, &mut slot, &request)
        });
        let mut deliveries = tokio::select! {
            biased;
            leased = receive => leased?,
            () = sleep_until(end) => Vec::new(),
            () = app.stopping.wait() => Vec::new(),
        };
        if deliveries.is_empty() {
            return Ok(answer::json(StatusCode::OK, &wire::ReceiveAnswer::default()));
        }
        if topic == topics::ORDERS {
            deliveries = wanted(core, group, deliveries).await?;
        }
        if request.lease_ms > lease_ms {
            deliveries = leased_again(core, group, deliveries, lease_ms);
        }
        if !deliveries.is_empty() {
            for delivery in &mut deliveries {
                delivery.receipt =
                    consumer.receipt(std::mem::replace(&mut delivery.receipt, Receipt(String::new())));
            }
            return Ok(delivered(&deliveries));
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
        app.queue.put_back(topics::ORDERS, group, &over, 0);
        return Err(Refusal::Unknown { ticket: None });
    }
    // While this waited for the disk a deadline may have dropped one of them.
    kept.retain(|delivery| {
        let ended = ticket_of(delivery)
            .and_then(|ticket| ledger.status_of(ticket))
            .is_some_and(|(status, _)| status.is_terminal());
        if ended {
            // Its end is not durable yet, so it is not settled here: it comes again, and is settled then.
            app.queue.put_back(topics::ORDERS, group, std::slice::from_ref(&delivery.receipt), 0);
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
/// others for good. A gateway that slept wakes up with orders that another has adopted: it delivers none of them. What
/// cannot be told now goes back to the queue, and no worker's attempt is used up by that, however long it lasts.
async fn still_ours(core: &Core, group: &str, deliveries: Vec<Delivery>) -> Result<Vec<Delivery>, Refusal> {
    let (Some(redis), queue) = (&core.redis, &core.app.queue) else { return Ok(deliveries) };
    let mut unseen = Unseen { queue, group, asked: BTreeMap::new(), kept: Vec::new() };
    for delivery in deliveries {
        if let Some(ticket) = ticket_of(&delivery) {
            unseen.asked.entry(delivery.message.tag.clone()).or_default().push((delivery, ticket));
        } else {
            error!(position = %delivery.message.position, "an order message without a ticket");
        }
    }
    let mut refused = None;
    while let Some((sale, orders)) = unseen.asked.first_key_value() {
        let asked: Vec<(TicketId, u32)> =
            orders.iter().map(|(delivery, ticket)| (*ticket, claim_of(&delivery.message))).collect();
        let answers = redis.validate(sale, &asked).await;
        let Some((sale, orders)) = unseen.asked.pop_first() else { break };
        let (mut over, mut later, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        match answers {
            Ok(answers) => {
                for ((delivery, ticket), answer) in orders.into_iter().zip(answers) {
                    match answer {
                        Delivers::Yes => unseen.kept.push(delivery),
                        Delivers::Over => over.push(delivery.receipt),
                        Delivers::NotYet => later.push(delivery.receipt),
                        Delivers::Unknown => {
                            error!(%ticket, sale, "an order message without a ticket in the ledger; asked again until its deadline");
                            unknown.push(delivery.receipt);
                        }
                    }
                }
            }
            Err(error) => {
                later.extend(orders.into_iter().map(|(delivery, _)| delivery.receipt));
                refused = Some(error);
            }
        }
        queue.discard(topics::ORDERS, group, &over);
        queue.put_back(topics::ORDERS, group, &later, ASK_AGAIN_MS);
        queue.put_back(topics::ORDERS, group, &unknown, UNKNOWN_AGAIN_MS);
    }
    match refused {
        Some(error) if unseen.kept.is_empty() => Err(error.into()),
        _ => Ok(std::mem::take(&mut unseen.kept)),
    }
}

/// Orders under lease that nobody has seen yet. Those of a client that goes away meanwhile are put back.
struct Unseen<'a> {
    queue: &'a Queue,
    group: &'a str,
    asked: BTreeMap<String, Vec<(Delivery, TicketId)>>,
    kept: Vec<Delivery>,
}

impl Drop for Unseen<'_> {
    fn drop(&mut self) {
        let asked = std::mem::take(&mut self.asked).into_values().flatten().map(|(delivery, _)| delivery);
        let receipts: Vec<Receipt> =
            asked.chain(self.kept.drain(..)).map(|delivery| delivery.receipt).collect();
        if !receipts.is_empty() {
            self.queue.put_back(topics::ORDERS, self.group, &receipts, 0);
        }
    }
}

/// The same under leases of this length from now on; without those that are over by now.
fn leased_again(core: &Core, group: &str, deliveries: Vec<Delivery>, lease_ms: u64) -> Vec<Delivery> {
    let receipts: Vec<Receipt> = deliveries.iter().map(|delivery| delivery.receipt.clone()).collect();
    let renewed = core.app.queue.extend(topics::ORDERS, group, &receipts, lease_ms);
    let leased = deliveries.into_iter().zip(renewed);
    leased.filter_map(|(delivery, receipt)| Some(Delivery { receipt: receipt.ok()?, ..delivery })).collect()
}

fn ticket_of(delivery: &Delivery) -> Option<TicketId> {
    delivery.message.keys.first()?.parse().ok()
}
