//! Tickets as buyers see them: look-up, long poll, event stream, and the caller's own.

use crate::http::{Answer, Body, Refusal, answer, request};
use crate::pipeline::{to_wire, topics};
use crate::state::{App, Core};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidegate_client::wire::{Ticket, TicketList};
use tidegate_queue::Position;
use tidegate_stock::{TicketId, TicketStatus, TicketView};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Event streams open at once in a gateway; more are asked to poll.
const STREAMS_MAX: usize = 10_000;
/// An idle stream says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A fresh ticket id: 48 bits of time, 80 random bits from a cryptographic generator, so that nobody guesses
/// another buyer's.
pub(super) fn ticket_id(now_ms: u64) -> TicketId {
    let random = rand::random::<u128>() & ((1 << 80) - 1);
    TicketId((u128::from(now_ms) << 80) | random)
}

/// The ticket object of the interface.
pub(super) fn ticket_object(view: &TicketView) -> Ticket<'_> {
    Ticket {
        ticket: Cow::Owned(view.ticket.to_string()),
        sale: Cow::Borrowed(&view.sale),
        item: Cow::Borrowed(&view.item),
        buyer: Cow::Borrowed(&view.buyer),
        quantity: view.quantity,
        status: to_wire(view.status),
        version: view.version,
        won_at_ms: view.won_at_ms,
        deadline_ms: view.deadline_ms,
        updated_at_ms: view.updated_at_ms,
        position: None,
        estimated_wait_ms: None,
        order_id: view.order_id.as_deref().map(Cow::Borrowed),
        pay_by_ms: view.pay_by_ms,
        payment_id: view.payment_id.as_deref().map(Cow::Borrowed),
        reason: view.reason.as_deref().map(Cow::Borrowed),
    }
}

/// The ticket object for its buyer: while it is queued with its place in the queue. `known` is the place when it cannot be
/// looked up yet, because the order was written a moment ago.
pub(super) fn placed<'v>(app: &App, view: &'v TicketView, known: Option<u64>) -> Ticket<'v> {
    let mut ticket = ticket_object(view);
    if view.status == TicketStatus::Queued {
        let queue = app.drain.queue_of(&view.sale) as u32;
        // A ticket that Redis told does not know where its order stands in which log.
        let near = (view.lsn.0 > 0).then_some(Position(view.lsn.0));
        let ahead = near.and_then(|near| {
            app.queue.ahead(topics::ORDERS, topics::ORDER_WORKERS, queue, near, &ticket.ticket)
        });
        ticket.position = ahead.map(|ahead| ahead + 1).or(known);
        let wait =
            ticket.position.and_then(|at| app.drain.estimate(&view.sale, at, std::time::Instant::now()));
        ticket.estimated_wait_ms = wait.map(|wait| wait.as_millis() as u64);
    }
    ticket
}

/// The ticket, if the caller may see it. What it shows is durable.
async fn visible(
    core: &Core,
    ticket: &str,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<TicketView, Refusal> {
    let live = core.live();
    let caller = if live.identity.is_authenticated() {
        Some(live.identity.prove(headers, peer).map_err(Refusal::Unauthenticated)?)
    } else {
        None
    };
    let id: TicketId = ticket.parse().map_err(|_| Refusal::TicketNotFound)?;
    let view = core.ticket(id).await?.ok_or(Refusal::TicketNotFound)?;
    if caller.is_some_and(|caller| *caller != *view.buyer) {
        return Err(Refusal::TicketNotFound);
    }
    core.told(view.lsn).await.map_err(|_| Refusal::Unknown { ticket: Some(id) })?;
    Ok(view)
}

/// `GET /v1/tickets/{ticket}?wait=N&version=V`
pub(super) async fn get(
    core: &Core,
    ticket: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<Answer, Refusal> {
    let wait_s = request::query_number(query, "wait")?.unwrap_or(0).min(request::WAIT_S_MAX);
    let past = request::query_number(query, "version")?;
    let mut view = visible(core, ticket, headers, peer).await?;
    if wait_s > 0 && !view.status.is_terminal() {
        let past = past.unwrap_or(u64::from(view.version));
        let unchanged = |view: &TicketView| u64::from(view.version) <= past;
        if let Some(news) = wait_while(core, view.ticket, Duration::from_secs(wait_s), unchanged).await? {
            view = news;
        }
    }
    Ok(answer::json(StatusCode::OK, &placed(&core.app, &view, None)))
}

/// Waits until `waiting` is false of the ticket's durable state, at most `wait`; answers the state at the
/// end. Ends early when the gateway stops. `None`: too many wait, or no such ticket. Cancel safe.
pub(super) async fn wait_while(
    core: &Core,
    ticket: TicketId,
    wait: Duration,
    waiting: impl Fn(&TicketView) -> bool,
) -> Result<Option<TicketView>, Refusal> {
    let app = &core.app;
    let Some(watcher) = app.watch.watch(ticket) else { return Ok(None) };
    let end = Instant::now() + wait;
    loop {
        // Armed before the look-up, so that no change falls between the two.
        let changed = watcher.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let Some(view) = core.ticket(ticket).await? else { return Ok(None) };
        core.told(view.lsn).await.map_err(|_| Refusal::Unknown { ticket: Some(ticket) })?;
        if !waiting(&view) || app.stopping.is_set() || timeout_at(end, changed).await.is_err() {
            return Ok(Some(view));
        }
    }
}

/// `GET /v1/sales/{sale}/tickets`
pub(super) async fn own(
    core: &Core,
    sale: &str,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<Answer, Refusal> {
    let live = core.live();
    let buyer = live.identity.prove(headers, peer).map_err(Refusal::Unauthenticated)?;
    let views = core.tickets_of(sale, &buyer).await?.ok_or(Refusal::SaleNotFound)?;
    if let Some(newest) = views.iter().map(|view| view.lsn).max() {
        core.told(newest).await.map_err(|_| Refusal::Unknown { ticket: None })?;
    }
    let tickets = views.iter().map(|view| placed(&core.app, view, None)).collect();
    Ok(answer::json(StatusCode::OK, &TicketList { tickets }))
}

/// `GET /v1/tickets/{ticket}/events`: server-sent events until the ticket is at its end.
pub(super) async fn events(
    core: &Rc<Core>,
    ticket: &str,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<Answer, Refusal> {
    let view = visible(core, ticket, headers, peer).await?;
    let last_seen: Option<u32> = headers
        .get(LAST_EVENT_ID)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.trim().parse().ok());
    let permit = StreamPermit::take(core.clone())
        .ok_or(Refusal::QueueBusy("too many event streams are open; poll the ticket instead"))?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::task::spawn_local(stream(permit, view.ticket, last_seen, sender));
    let mut answer = Response::new(Body::Stream(receiver));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    answer.headers_mut().insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

/// One of the bounded number of streams.
struct StreamPermit(Rc<Core>);

impl StreamPermit {
    fn take(core: Rc<Core>) -> Option<Self> {
        if core.app.streams.fetch_add(1, Ordering::Relaxed) >= STREAMS_MAX {
            core.app.streams.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self(core))
    }

    fn app(&self) -> &App {
        &self.0.app
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.app().streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sends the present state unless the client has seen it, then each change, then ends with the ticket.
async fn stream(
    permit: StreamPermit,
    ticket: TicketId,
    mut last_seen: Option<u32>,
    sender: mpsc::Sender<Bytes>,
) {
    let core = &permit.0;
    loop {
        let unseen = |view: &TicketView| last_seen.is_none_or(|seen| view.version > seen);
        let news = tokio::select! {
            news = wait_while(core, ticket, KEEP_ALIVE, |view| !unseen(view)) => news,
            () = sender.closed() => return,
        };
        let Ok(Some(view)) = news else { return };
        let piece = if unseen(&view) { event(&core.app, &view) } else { Bytes::from_static(b": alive\n\n") };
        last_seen = Some(view.version);
        if sender.send(piece).await.is_err() || view.status.is_terminal() || permit.app().stopping.is_set() {
            return;
        }
    }
}

fn event(app: &App, view: &TicketView) -> Bytes {
    let mut piece = format!("event: ticket\nid: {}\ndata: ", view.version).into_bytes();
    serde_json::to_writer(&mut piece, &placed(app, view, None)).expect("wire types always serialize");
    piece.extend_from_slice(b"\n\n");
    piece.into()
}
