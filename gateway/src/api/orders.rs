//! `POST /v1/sales/{sale}/orders`: from the socket to the ledger, one ordered list.

use super::clients;
use super::passes::OrderPass;
use super::tickets::{self, placed, ticket_id};
use crate::admission::{SaleGate, client_address, tokens, wait};
use crate::config::Listen;
use crate::http::{Answer, Refusal, answer, body, request};
use crate::policy::{Facts, Judged};
use crate::state::{App, Core, Live};
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use hyper::body::Incoming;
use std::net::IpAddr;
use std::time::Duration;
use tidegate_client::wire::OrderRequest;
use tidegate_stock::{Reserve, ReserveOutcome, TicketStatus, TicketView, Window, hash_of};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Bytes of an idempotency key, at most.
const KEY_BYTES_MAX: usize = 255;
/// Pause asked of buyers who come before a sale whose opening nobody has fixed.
const UNSCHEDULED_RETRY: Duration = Duration::from_secs(5);

/// The gates in order, then the reservation. Each line passes the request on or ends it.
pub(super) async fn place(
    core: &Core,
    sale: &str,
    headers: &HeaderMap,
    body: Incoming,
    peer: IpAddr,
) -> Result<Answer, Refusal> {
    let app = &*core.app;
    let sale = app.sales.find(sale).ok_or_else(|| unknown_sale(app, sale))?; //          gate 1: known
    let key = idempotency_key(headers)?;
    not_paused(&sale)?;
    let winner = key.is_some() && may_have_won(core, &sale, headers, peer);
    if !winner {
        window_is_open(app, &sale)
            .inspect_err(|refusal| clients::came_early(core, refusal, headers, peer))?; //   gate 1: open
        not_sold_out(&sale)?; //                                                   gate 2
    }
    let live = core.live();
    clients::address_not_banned(core, &live, headers, peer)?; //                    gate 4: by network
    let buyer = live.identity.prove(headers, peer).map_err(Refusal::Unauthenticated)?; //  gate 3
    clients::buyer_not_banned(core, &buyer)?; //                                    gate 4: by buyer
    let left = clients::within_quota(core, &live, &sale.sale, &buyer, headers, peer)?; //  gate 5
    let order = Order::read(body, &live.config.listen).await?;
    let mut reserve = order.reserve(app, &sale, &buyer, key);
    if winner {
        // A winner is never told "sold out": the same key gets the same ticket, whatever the gates say now.
        if let Some(outcome) = core.repeat(&reserve).await? {
            return conclude(core, &sale, outcome, headers).await.map(|told| clients::with_left(told, left));
        }
        window_is_open(app, &sale)?;
        not_sold_out(&sale)?;
    }
    let mut pass = OrderPass::of(app, &live.passes, &sale, &buyer, headers)?; //                  gate 6
    let attributes = judge(core, &live, &reserve, headers, peer, &mut pass)?; //           gate 7
    reserve.attributes = attributes.as_deref().unwrap_or(reserve.attributes);
    let coming = wait::pass(app, &live, &sale)?; //                                gate 8
    let under_way = tokens::pass(app, &live, &sale).await?; //                      gate 9
    reserve.now_ms = app.clock.now_ms();
    pass.spend(key, reserve.now_ms)?;
    let outcome = core.reserve(&reserve).await.map_err(Refusal::from);
    drop((coming, under_way));
    pass.conclude(&outcome);
    conclude(core, &sale, outcome?, headers).await.map(|told| clients::with_left(told, left))
}

/// Why there is no gate for a name. With a shared ledger it is unknown only once all sales have been read.
pub(super) fn unknown_sale(app: &App, sale: &str) -> Refusal {
    let Some(shared) = app.stock.shared() else { return Refusal::SaleNotFound };
    match shared.unready() {
        Some(why) => Refusal::LedgerUnavailable(why.into()),
        None if shared.find(sale).is_some() => Refusal::SalePaused,
        None => Refusal::SaleNotFound,
    }
}

/// A shared ledger that is being made whole sells to nobody.
fn not_paused(sale: &SaleGate) -> Result<(), Refusal> {
    if sale.is_paused() { Err(Refusal::SalePaused) } else { Ok(()) }
}

fn window_is_open(app: &App, sale: &SaleGate) -> Result<(), Refusal> {
    match sale.window(|| app.clock.now_ms()) {
        Window::Open => Ok(()),
        Window::NotOpen { opens_at_ms } => Err(not_open(app, opens_at_ms)),
        Window::Closed => Err(Refusal::SaleClosed),
    }
}

fn not_open(app: &App, opens_at_ms: Option<u64>) -> Refusal {
    let until = |at_ms: u64| Duration::from_millis(at_ms.saturating_sub(app.clock.now_ms()));
    Refusal::SaleNotOpen { opens_at_ms, retry_after: opens_at_ms.map_or(UNSCHEDULED_RETRY, until) }
}

pub(super) fn not_sold_out(sale: &SaleGate) -> Result<(), Refusal> {
    if sale.is_sold_out() { Err(Refusal::SoldOut) } else { Ok(()) }
}

/// Whether the buyer that the request CLAIMS to be has won here; nothing is believed yet.
fn may_have_won(core: &Core, sale: &SaleGate, headers: &HeaderMap, peer: IpAddr) -> bool {
    core.live().identity.claimed(headers, peer).is_some_and(|buyer| sale.winners.contains(&buyer))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= KEY_BYTES_MAX => Ok(Some(key)),
        _ => Err(Refusal::BadRequest("Idempotency-Key must be 1 to 255 visible ASCII characters".into())),
    }
}

/// Asks the policies. Answers the attributes that replace the order's, when a policy added some; what tells one order
/// from another stays what the buyer sent.
fn judge(
    core: &Core,
    live: &Live,
    order: &Reserve<'_>,
    headers: &HeaderMap,
    peer: IpAddr,
    pass: &mut OrderPass<'_>,
) -> Result<Option<String>, Refusal> {
    let Some(policies) = &live.policies else { return Ok(None) };
    let address = client_address(headers, peer, live.config.identity.trusted_proxies());
    let (recent_by_buyer, recent_by_address) = policies.count(order.buyer, address, order.now_ms);
    let facts = Facts {
        sale: order.sale,
        buyer: order.buyer,
        address,
        quantity: order.quantity,
        has_pass: pass.is_good(),
        recent_by_buyer,
        recent_by_address,
        now_ms: order.now_ms,
        headers,
    };
    match policies.judge(core.index, &core.policy, &facts, order.attributes) {
        Judged::Allowed(attributes) => Ok(attributes),
        Judged::Denied(why) => Err(Refusal::DeniedByPolicy(why)),
        Judged::PassNeeded => pass.need().map(|()| None),
    }
}

/// What the buyer asks for.
struct Order {
    quantity: u32,
    /// A JSON object as text.
    attributes: bytes::Bytes,
}

impl Order {
    async fn read(body: Incoming, bounds: &Listen) -> Result<Self, Refusal> {
        let time_max = Duration::from_millis(bounds.header_timeout_ms);
        let bytes = body::read(body, bounds.body_bytes_max, time_max).await?;
        if bytes.is_empty() {
            return Ok(Self { quantity: 1, attributes: bytes::Bytes::from_static(b"{}") });
        }
        let parsed: OrderRequest<'_> = request::parse_json(&bytes)?;
        let attributes = match &parsed.attributes {
            Some(raw) => bytes.slice_ref(raw.get().as_bytes()),
            None => bytes::Bytes::from_static(b"{}"),
        };
        Ok(Self { quantity: parsed.quantity.unwrap_or(1), attributes })
    }

    fn attributes(&self) -> &str {
        std::str::from_utf8(&self.attributes).unwrap_or("{}")
    }

    fn reserve<'r>(
        &'r self,
        app: &App,
        sale: &'r SaleGate,
        buyer: &'r str,
        key: Option<&'r str>,
    ) -> Reserve<'r> {
        let now_ms = app.clock.now_ms();
        Reserve {
            ticket: ticket_id(now_ms),
            sale: &sale.sale,
            buyer,
            quantity: self.quantity,
            idempotency_key: key,
            body_hash: hash_of(self.attributes()) ^ u64::from(self.quantity),
            attributes: self.attributes(),
            now_ms,
        }
    }
}

/// Tells the buyer, once what is told is durable.
async fn conclude(
    core: &Core,
    sale: &SaleGate,
    outcome: ReserveOutcome,
    headers: &HeaderMap,
) -> Result<Answer, Refusal> {
    match outcome {
        ReserveOutcome::Won { ticket } => {
            core.app.outcomes.count_won(core.index);
            // The last of its queue, a moment ago.
            let place = core.app.drain.orders_of(&sale.sale);
            tell(core, ticket, Some(place), headers).await
        }
        ReserveOutcome::Repeat { ticket } => {
            core.app.outcomes.count_repeat(core.index);
            tell(core, ticket, None, headers).await
        }
        ReserveOutcome::SoldOut { epoch } => {
            sale.sold_out(epoch);
            Err(Refusal::SoldOut)
        }
        ReserveOutcome::LimitReached { tickets, lsn } => {
            core.told(lsn).await.map_err(|_| Refusal::Unknown { ticket: None })?;
            Err(Refusal::LimitReached(tickets))
        }
        ReserveOutcome::NotEnoughStock { available } => Err(Refusal::NotEnoughStock { available }),
        ReserveOutcome::IdempotencyMismatch => Err(Refusal::IdempotencyMismatch),
        ReserveOutcome::NotOpen { opens_at_ms } => Err(not_open(&core.app, opens_at_ms)),
        ReserveOutcome::Closed => Err(Refusal::SaleClosed),
        ReserveOutcome::SaleNotFound => Err(Refusal::SaleNotFound),
        ReserveOutcome::LedgerFull => {
            Err(Refusal::LedgerFull("the ledger holds as many tickets as its limits allow"))
        }
        ReserveOutcome::BadQuantity { quantity_max } => Err(Refusal::BadRequest(
            format!("`quantity` must be between 1 and {quantity_max} in this sale").into(),
        )),
    }
}

async fn tell(
    core: &Core,
    ticket: TicketView,
    place: Option<u64>,
    headers: &HeaderMap,
) -> Result<Answer, Refusal> {
    core.told(ticket.lsn).await.map_err(|_| Refusal::Unknown { ticket: Some(ticket.ticket) })?;
    let id = ticket.ticket;
    let mut status = StatusCode::ACCEPTED;
    let mut told = ticket;
    if let Some(wait) = preferred_wait(headers) {
        let news = tickets::wait_while(core, id, wait, |view| view.status == TicketStatus::Queued);
        if let Some(view) = news.await? {
            if view.status != TicketStatus::Queued {
                status = StatusCode::OK;
            }
            told = view;
        }
    }
    let mut answer = answer::json(status, &placed(&core.app, &told, place));
    let location = HeaderValue::from_str(&format!("/v1/tickets/{id}"));
    answer.headers_mut().insert(LOCATION, location.expect("a ticket id is ASCII"));
    Ok(answer)
}

/// `Prefer: wait=N` (RFC 7240), in seconds.
fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok()).find_map(|value| {
        let wait = value.split(',').find_map(|preference| preference.trim().strip_prefix("wait="))?;
        let seconds: u64 = wait.trim().parse().ok()?;
        (seconds > 0).then(|| Duration::from_secs(seconds.min(request::WAIT_S_MAX)))
    })
}
