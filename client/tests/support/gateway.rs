//! A gateway in miniature: leases on messages, tickets with their states, all in memory. It keeps the contract;
//! tests steer it by gates and by moving tickets by hand. Several of them share a ledger and list each other.

use super::{Reply, Seen, Server};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

#[derive(Debug, Clone)]
struct Stored {
    offset: u64,
    tag: String,
    body: Value,
    attempt: u32,
    lease: u32,
    /// Not delivered before.
    hidden_until: Instant,
    settled: bool,
}

#[derive(Debug, Clone)]
pub struct TicketState {
    pub status: String,
    pub version: u32,
    pub order_id: Option<String>,
    pub payment_id: Option<String>,
}

#[derive(Default)]
struct State {
    groups: BTreeMap<String, Vec<Stored>>,
    /// Paths (by their end) that break the connection, with how often still; before or after the effect.
    broken: Vec<(String, u32, Lost)>,
    /// Paths (by their end) that wait until the gate is opened.
    gates: BTreeMap<String, Arc<Notify>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The request has no effect.
    Request,
    /// The request has its effect, the answer is lost.
    Answer,
}

/// What the list says: ids and inner addresses of the gateways with a heartbeat.
pub type Heartbeats = Arc<Mutex<Vec<(String, String)>>>;

#[derive(Clone, Default)]
pub struct FakeGateway {
    /// Empty: it belongs to no fleet and has no list.
    pub id: String,
    pub heartbeats: Heartbeats,
    state: Arc<Mutex<State>>,
    tickets: Arc<Mutex<BTreeMap<String, TicketState>>>,
    changed: Arc<Notify>,
}

pub const ORDERS: &str = "orders/order-workers";
pub const EVENTS: &str = "order-events/order-closer";

impl FakeGateway {
    pub async fn serve(&self) -> Server {
        let gateway = self.clone();
        Server::start(move |request| {
            let gateway = gateway.clone();
            async move { gateway.answer(request).await }
        })
        .await
    }

    /// The first gateway of a fleet.
    pub fn of_fleet(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    /// One more, with a log of its own over the same ledger.
    pub fn beside(&self, id: &str) -> Self {
        Self {
            id: id.to_owned(),
            heartbeats: Arc::clone(&self.heartbeats),
            tickets: Arc::clone(&self.tickets),
            ..Self::default()
        }
    }

    /// Has a heartbeat under this address from now on.
    pub fn join(&self, url: &str) {
        self.heartbeats.lock().push((self.id.clone(), url.to_owned()));
    }

    /// Its heartbeat is gone.
    pub fn leave(&self) {
        self.heartbeats.lock().retain(|(id, _)| *id != self.id);
    }

    /// Serves again at the address of an earlier server, which was dropped.
    pub async fn serve_at(&self, url: &str) -> Server {
        let address = url.strip_prefix("http://").unwrap();
        let listener = super::within("the port is free", async {
            loop {
                match tokio::net::TcpListener::bind(address).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
        .await;
        let gateway = self.clone();
        Server::start_on(listener, move |request| {
            let gateway = gateway.clone();
            async move { gateway.answer(request).await }
        })
    }

    /// A message into `topic/group`.
    pub fn push(&self, group: &str, tag: &str, body: Value) {
        let mut state = self.state.lock();
        let queue = state.groups.entry(group.to_owned()).or_default();
        queue.push(Stored {
            offset: queue.len() as u64,
            tag: tag.to_owned(),
            body,
            attempt: 0,
            lease: 0,
            hidden_until: Instant::now(),
            settled: false,
        });
        drop(state);
        self.changed.notify_waiters();
    }

    /// A winner: ticket and order message.
    pub fn win(&self, ticket: &str) {
        self.set_ticket(ticket, "queued", 1, None);
        self.push(
            ORDERS,
            "s",
            json!({"ticket": ticket, "sale": "s", "item": "i", "buyer": "b", "quantity": 1, "won_at_ms": 1,
                "deadline_ms": 9, "pay_window_ms": 9, "attributes": {}}),
        );
    }

    /// Puts a ticket where it shall stand, without an event.
    pub fn set_ticket(&self, ticket: &str, status: &str, version: u32, order_id: Option<&str>) {
        let state = TicketState {
            status: status.to_owned(),
            version,
            order_id: order_id.map(str::to_owned),
            payment_id: None,
        };
        self.tickets.lock().insert(ticket.to_owned(), state);
    }

    /// Moves a ticket on, with its event.
    pub fn transit(&self, ticket: &str, to: &str) {
        let (from, version) = {
            let mut tickets = self.tickets.lock();
            let ticket = tickets.get_mut(ticket).unwrap();
            ticket.version += 1;
            (std::mem::replace(&mut ticket.status, to.to_owned()), ticket.version)
        };
        self.push(
            EVENTS,
            to,
            json!({"ticket": ticket, "sale": "s", "buyer": "b", "quantity": 1, "version": version, "from": from,
                "to": to, "at_ms": 5}),
        );
    }

    pub fn ticket(&self, ticket: &str) -> TicketState {
        self.tickets.lock()[ticket].clone()
    }

    /// The next `times` requests whose path ends so get no answer.
    pub fn lose(&self, path_end: &str, times: u32, lost: Lost) {
        self.state.lock().broken.push((path_end.to_owned(), times, lost));
    }

    /// Requests whose path ends so wait until the gate is notified, once each.
    pub fn gate(&self, path_end: &str) -> Arc<Notify> {
        let gate = Arc::new(Notify::new());
        self.state.lock().gates.insert(path_end.to_owned(), Arc::clone(&gate));
        gate
    }

    pub fn ungate(&self, path_end: &str) {
        self.state.lock().gates.remove(path_end);
    }

    pub fn unsettled(&self, group: &str) -> usize {
        let state = self.state.lock();
        state.groups.get(group).map_or(0, |queue| queue.iter().filter(|message| !message.settled).count())
    }

    /// Leases that run now.
    pub fn leased(&self, group: &str) -> usize {
        let (state, now) = (self.state.lock(), Instant::now());
        let leased = |message: &&Stored| !message.settled && message.lease > 0 && message.hidden_until > now;
        state.groups.get(group).map_or(0, |queue| queue.iter().filter(leased).count())
    }

    pub fn attempts(&self, group: &str) -> Vec<u32> {
        self.state.lock().groups[group].iter().map(|message| message.attempt).collect()
    }

    /// Ends every lease of a group now: whoever holds one has lost it.
    pub fn end_leases(&self, group: &str) {
        for message in self.state.lock().groups.get_mut(group).unwrap() {
            message.lease += 1;
            message.hidden_until = Instant::now();
        }
        self.changed.notify_waiters();
    }

    /// Waits until the condition holds; it is looked at after every request.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        super::within(what, async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if holds(self) {
                    return;
                }
                changed.await;
            }
        })
        .await;
    }

    async fn answer(&self, request: Seen) -> Reply {
        let gate = self
            .state
            .lock()
            .gates
            .iter()
            .find(|(end, _)| request.path.ends_with(*end))
            .map(|(_, gate)| Arc::clone(gate));
        if let Some(gate) = gate {
            gate.notified().await;
        }
        let lost = {
            let mut state = self.state.lock();
            state
                .broken
                .iter_mut()
                .find(|(end, times, _)| *times > 0 && request.path.ends_with(end.as_str()))
                .map(|(_, times, lost)| {
                    *times -= 1;
                    *lost
                })
        };
        if lost == Some(Lost::Request) {
            return Reply::Drop;
        }
        let reply = self.carry_out(&request).await;
        self.changed.notify_waiters();
        if lost == Some(Lost::Answer) { Reply::Drop } else { reply }
    }

    async fn carry_out(&self, request: &Seen) -> Reply {
        let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            ["v1", "topics", topic, "groups", group, "receive"] => {
                self.receive(&format!("{topic}/{group}"), &request.body).await
            }
            ["v1", "topics", topic, "groups", group, verb] => {
                self.change_leases(&format!("{topic}/{group}"), verb, &request.body)
            }
            ["v1", "gateways"] if !self.id.is_empty() => self.list(),
            ["v1", "tickets", ticket, verb] => self.change_ticket(ticket, verb, &request.body),
            _ => Reply::problem(404, "not-found"),
        }
    }

    fn list(&self) -> Reply {
        let mut gateways: Vec<Value> = self
            .heartbeats
            .lock()
            .iter()
            .map(|(id, inner)| json!({"gateway": id, "inner": inner, "this": *id == self.id}))
            .collect();
        if gateways.iter().all(|gateway| gateway["this"] == json!(false)) {
            gateways.push(json!({"gateway": self.id, "this": true}));
        }
        Reply::Json(200, json!({"gateways": gateways}))
    }

    async fn receive(&self, group: &str, body: &Value) -> Reply {
        let ends = Instant::now() + Duration::from_millis(body["wait_ms"].as_u64().unwrap());
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (messages, next_visible) = self.lease(group, body);
            if !messages.is_empty() || Instant::now() >= ends {
                // Tests that wait for a lease to be taken are told by the answer that follows.
                return Reply::Json(200, json!({"messages": messages}));
            }
            let until = next_visible.map_or(ends, |visible| visible.min(ends));
            let _woken = tokio::time::timeout_at(until, changed).await;
        }
    }

    fn lease(&self, group: &str, body: &Value) -> (Vec<Value>, Option<Instant>) {
        let now = Instant::now();
        let max = body["max"].as_u64().unwrap() as usize;
        let lease = Duration::from_millis(body["lease_ms"].as_u64().unwrap());
        let tags: BTreeSet<&str> =
            body["tags"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let (topic, _) = group.split_once('/').unwrap();
        let mut state = self.state.lock();
        let queue = state.groups.entry(group.to_owned()).or_default();
        let mut messages = Vec::new();
        for message in queue.iter_mut().filter(|message| !message.settled && message.hidden_until <= now) {
            if !tags.contains("*") && !tags.contains(message.tag.as_str()) {
                message.settled = true;
            } else if messages.len() < max {
                message.attempt += 1;
                message.lease += 1;
                message.hidden_until = now + lease;
                messages.push(json!({"receipt": format!("{}:{}", message.offset, message.lease),
                    "id": message.offset.to_string(), "topic": topic, "queue": 0, "offset": message.offset,
                    "tag": message.tag, "keys": [], "properties": {}, "attempt": message.attempt, "born_at_ms": 1,
                    "deadline_ms": null, "body": message.body}));
            }
        }
        (messages, queue.iter().filter(|message| !message.settled).map(|message| message.hidden_until).min())
    }

    fn change_leases(&self, group: &str, verb: &str, body: &Value) -> Reply {
        let now = Instant::now();
        let mut state = self.state.lock();
        let queue = state.groups.entry(group.to_owned()).or_default();
        let results: Vec<Value> = body["receipts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|receipt| {
                let receipt = receipt.as_str().unwrap();
                let (offset, lease) = receipt.split_once(':').unwrap();
                let message = &mut queue[offset.parse::<usize>().unwrap()];
                // Acks are idempotent; the rest needs the lease.
                if verb == "ack" && message.settled && lease == message.lease.to_string() {
                    return json!({"receipt": receipt, "ok": true});
                }
                if message.settled || lease != message.lease.to_string() || message.hidden_until <= now {
                    return json!({"receipt": receipt, "ok": false, "error": "receipt-expired"});
                }
                match verb {
                    "ack" => message.settled = true,
                    "nack" => {
                        message.lease += 1;
                        message.hidden_until =
                            now + Duration::from_millis(body["delay_ms"].as_u64().unwrap_or(20));
                    }
                    "extend" => {
                        message.lease += 1;
                        message.hidden_until =
                            now + Duration::from_millis(body["lease_ms"].as_u64().unwrap());
                        return json!({"receipt": format!("{offset}:{}", message.lease), "ok": true});
                    }
                    other => panic!("{other}"),
                }
                json!({"receipt": receipt, "ok": true})
            })
            .collect();
        Reply::Json(200, json!({"results": results}))
    }

    fn change_ticket(&self, id: &str, verb: &str, body: &Value) -> Reply {
        let mut tickets = self.tickets.lock();
        let Some(ticket) = tickets.get_mut(id) else { return Reply::problem(404, "ticket-not-found") };
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        let allowed = match verb {
            "created" if ticket.status == "queued" => {
                ticket.status = "awaiting_payment".into();
                ticket.order_id = text("order_id");
                ticket.version += 1;
                true
            }
            // A repeat with the same data is answered with the ticket as it stands now.
            "created" => ticket.order_id.is_some() && ticket.order_id == text("order_id"),
            "paid" if ticket.status == "awaiting_payment" => {
                ticket.status = "paid".into();
                ticket.payment_id = text("payment_id");
                ticket.version += 1;
                true
            }
            "paid" => ticket.payment_id.is_some() && ticket.payment_id == text("payment_id"),
            other => panic!("{other}"),
        };
        let mut object = json!({"ticket": id, "sale": "s", "item": "i", "buyer": "b", "quantity": 1,
            "status": ticket.status, "version": ticket.version, "won_at_ms": 1, "deadline_ms": 9,
            "updated_at_ms": 5});
        for (name, value) in [("order_id", &ticket.order_id), ("payment_id", &ticket.payment_id)] {
            if let Some(value) = value {
                object[name] = json!(value);
            }
        }
        if allowed {
            return Reply::Json(200, object);
        }
        let body = json!({"type": "wrong-state", "title": "t", "status": 409, "detail": ticket.status,
            "ticket": object, "refund_required": verb == "paid"});
        Reply::problem_with(409, body, &[])
    }
}
