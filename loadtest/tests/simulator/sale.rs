//! The exact sale: stock, tickets, messages under lease, timers. Every rule has its defect.

use super::Bucket;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use tidegate_client::wire::{ProblemType, TicketStatus};

/// What a gateway may get wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    NoDecrement,
    SkipAppend,
    DoubleReturn,
    LateDelivery,
    LostAck,
    NoLimit,
    ForgetsKeys,
    IgnoresTokens,
    RefundsPaid,
    /// A gateway that comes back delivers what another has taken over.
    DeliversUnowned,
    /// Nobody takes over what a dead gateway held.
    NoTakeover,
    /// The second gateway counts otherwise.
    AuditsDiffer,
    /// What was not known yet exists, and the key gets another ticket.
    BothWays,
}

/// A gateway that nobody could ask anything for so long is given up.
const DEAD_AFTER_MS: u64 = 1_000;

pub(crate) struct Ticket {
    pub(crate) id: String,
    pub(crate) buyer: String,
    pub(crate) status: TicketStatus,
    pub(crate) version: u32,
    pub(crate) won_at_ms: u64,
    pub(crate) deadline_ms: u64,
    /// The gateway that delivers it and keeps its timers.
    owner: usize,
    pay_by_ms: Option<u64>,
    order_id: Option<String>,
    payment_id: Option<String>,
}

struct Message {
    id: usize,
    /// Ticket of an order.
    ticket: Option<String>,
    body: Value,
    deadline_ms: Option<u64>,
}

#[derive(Default)]
struct Group {
    /// By message: leased until, delivered times, settled.
    states: HashMap<usize, (u64, u32, bool)>,
    /// Messages left out because another gateway owns the ticket.
    skipped: BTreeSet<usize>,
}

#[derive(Default)]
struct Topic {
    messages: Vec<Message>,
    groups: HashMap<String, Group>,
}

/// What each gateway has for itself.
#[derive(Default)]
struct Gateway {
    orders: Topic,
    events: Topic,
    asked_ms: u64,
}

pub(crate) struct Sale {
    defect: Option<Defect>,
    bucket: Option<Bucket>,
    tokens: f64,
    tokens_at_ms: u64,
    name: String,
    settings: Value,
    open: bool,
    stock: u64,
    available: u64,
    returned: u64,
    tickets: BTreeMap<String, Ticket>,
    keys: HashMap<(String, String), String>,
    gateways: Vec<Gateway>,
    /// Orders asked for, to answer some of them as not known yet.
    asked: u64,
}

type Answer = (u16, Value);

fn refuse(problem: ProblemType) -> Answer {
    (problem.status(), json!({"type": problem.slug(), "title": problem.title(), "status": problem.status()}))
}

impl Sale {
    pub(crate) fn new(defect: Option<Defect>, bucket: Option<Bucket>, gateways: usize) -> Self {
        Self {
            defect,
            bucket,
            tokens: bucket.map_or(0.0, |bucket| bucket.burst as f64),
            tokens_at_ms: 0,
            name: String::new(),
            settings: Value::Null,
            open: false,
            stock: 0,
            available: 0,
            returned: 0,
            tickets: BTreeMap::new(),
            keys: HashMap::new(),
            gateways: (0..gateways).map(|_| Gateway::default()).collect(),
            asked: 0,
        }
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    pub(crate) fn put(&mut self, name: &str, settings: Value) -> Answer {
        self.stock = settings["stock"].as_u64().unwrap();
        self.available = self.stock;
        self.name = name.into();
        self.settings = settings;
        (201, self.sale_object())
    }

    pub(crate) fn open(&mut self) -> Answer {
        self.open = true;
        (200, self.sale_object())
    }

    pub(crate) fn sale_object(&self) -> Value {
        json!({
            "sale": self.name, "item": self.settings["item"], "state": "open", "per_buyer_limit": 1, "quantity_max": 1,
            "order_deadline_ms": self.settings["order_deadline_ms"], "pay_window_ms": self.settings["pay_window_ms"],
            "weight": 1, "requires_pass": false, "limit_counts_released": false, "initial": self.stock,
            "restocked": 0, "available": self.available, "held": self.held(), "sold": self.sold(),
            "returned": self.returned,
        })
    }

    fn count(&self, wanted: impl Fn(TicketStatus) -> bool) -> u64 {
        self.tickets.values().filter(|ticket| wanted(ticket.status)).count() as u64
    }

    fn held(&self) -> u64 {
        self.count(|status| !status.is_terminal())
    }

    fn sold(&self) -> u64 {
        self.count(|status| status == TicketStatus::Paid)
    }

    pub(crate) fn audit(&self, gateway: usize) -> Answer {
        let mut tickets = BTreeMap::new();
        for ticket in self.tickets.values() {
            *tickets.entry(ticket.status.as_str()).or_insert(0u64) += 1;
        }
        let right = self.available + self.held() + self.sold();
        let holds = right == self.stock;
        let returned = self.returned + u64::from(gateway > 0 && self.has(Defect::AuditsDiffer));
        let body = json!({
            "sale": self.name, "holds": holds, "initial": self.stock, "restocked": 0, "available": self.available,
            "held": self.held(), "sold": self.sold(), "returned": returned, "tickets": tickets,
            "identities": [{"name": "stock", "left": self.stock, "right": right, "holds": holds}],
        });
        (if holds { 200 } else { 409 }, body)
    }

    /// A gateway was asked something: it is there.
    pub(crate) fn heard_of(&mut self, gateway: usize, now_ms: u64) {
        self.gateways[gateway].asked_ms = now_ms;
    }

    fn alive(&self, gateway: usize, now_ms: u64) -> bool {
        self.gateways.len() == 1 || self.gateways[gateway].asked_ms + DEAD_AFTER_MS > now_ms
    }

    /// An order; of several gateways each leaves some unanswered, as if its ledger had not answered in time.
    pub(crate) fn order(&mut self, gateway: usize, buyer: &str, key: &str, now_ms: u64) -> Answer {
        self.asked += 1;
        let not_known_yet = self.gateways.len() > 1 && self.asked % 40 == 7;
        if !not_known_yet {
            return self.reserve(gateway, buyer, key, now_ms);
        }
        let mut id = format!("01NOT{:021}", self.asked);
        // Either way is right.
        if self.asked % 80 == 7
            && let (202, ticket) = self.reserve(gateway, buyer, key, now_ms)
        {
            ticket["ticket"].as_str().unwrap().clone_into(&mut id);
            if self.has(Defect::BothWays) {
                self.keys.remove(&(buyer.to_owned(), key.to_owned()));
            }
        }
        let problem = ProblemType::LedgerUnavailable;
        (503, json!({"type": problem.slug(), "title": problem.title(), "status": 503, "ticket": id}))
    }

    fn reserve(&mut self, gateway: usize, buyer: &str, key: &str, now_ms: u64) -> Answer {
        if !self.open {
            return refuse(ProblemType::SaleNotOpen);
        }
        let scoped = (buyer.to_owned(), key.to_owned());
        if let Some(id) = self.keys.get(&scoped).filter(|_| !self.has(Defect::ForgetsKeys)) {
            return (202, self.ticket_object(&self.tickets[id]));
        }
        if !self.take_token(now_ms) {
            return refuse(ProblemType::Overloaded);
        }
        let limited =
            self.tickets.values().any(|ticket| ticket.buyer == buyer && !ticket.status.is_released());
        let lenient = [Defect::NoLimit, Defect::ForgetsKeys, Defect::BothWays].map(|defect| self.has(defect));
        if limited && !lenient.contains(&true) {
            return refuse(ProblemType::LimitReached);
        }
        if self.available == 0 {
            return refuse(ProblemType::SoldOut);
        }
        let number = self.tickets.len() as u64;
        if !(self.has(Defect::NoDecrement) && number.is_multiple_of(2)) {
            self.available -= 1;
        }
        let id = format!("01SIM{number:021}");
        let deadline_ms = now_ms + self.settings["order_deadline_ms"].as_u64().unwrap();
        let ticket = Ticket {
            id: id.clone(),
            buyer: buyer.to_owned(),
            status: TicketStatus::Queued,
            version: 1,
            won_at_ms: now_ms,
            deadline_ms,
            owner: gateway,
            pay_by_ms: None,
            order_id: None,
            payment_id: None,
        };
        let answer = (202, self.ticket_object(&ticket));
        self.tickets.insert(id.clone(), ticket);
        self.keys.insert(scoped, id.clone());
        if !(self.has(Defect::SkipAppend) && number.is_multiple_of(8)) {
            self.queue(&id, gateway);
        }
        answer
    }

    /// The order's message, in this gateway's log.
    fn queue(&mut self, id: &str, gateway: usize) {
        let ticket = self.tickets.get_mut(id).unwrap();
        ticket.owner = gateway;
        let body = json!({
            "ticket": id, "sale": self.name, "item": self.settings["item"], "buyer": ticket.buyer, "quantity": 1,
            "won_at_ms": ticket.won_at_ms, "deadline_ms": ticket.deadline_ms,
            "pay_window_ms": self.settings["pay_window_ms"], "attributes": {},
        });
        let deadline_ms = Some(ticket.deadline_ms);
        self.gateways[gateway].orders.append(Some(id), body, deadline_ms);
    }

    /// What dead gateways held goes to one that lives.
    fn take_over(&mut self, now_ms: u64) {
        let Some(heir) = (0..self.gateways.len()).find(|gateway| self.alive(*gateway, now_ms)) else {
            return;
        };
        if self.has(Defect::NoTakeover) {
            return;
        }
        let live = self.tickets.values().filter(|ticket| !ticket.status.is_terminal());
        let left: Vec<String> =
            live.filter(|ticket| !self.alive(ticket.owner, now_ms)).map(|ticket| ticket.id.clone()).collect();
        for id in left {
            self.queue(&id, heir);
        }
    }

    fn take_token(&mut self, now_ms: u64) -> bool {
        let Some(bucket) = self.bucket.filter(|_| !self.has(Defect::IgnoresTokens)) else { return true };
        let since_ms = now_ms.saturating_sub(self.tokens_at_ms);
        self.tokens_at_ms = now_ms;
        self.tokens =
            (self.tokens + since_ms as f64 * bucket.rate_per_s as f64 / 1e3).min(bucket.burst as f64);
        let taken = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(taken));
        taken
    }

    pub(crate) fn ticket(&self, id: &str, buyer: &str) -> Option<(u32, Value)> {
        let ticket = self.tickets.get(id).filter(|ticket| ticket.buyer == buyer)?;
        Some((ticket.version, self.ticket_object(ticket)))
    }

    fn ticket_object(&self, ticket: &Ticket) -> Value {
        json!({
            "ticket": ticket.id, "sale": self.name, "item": self.settings["item"], "buyer": ticket.buyer,
            "quantity": 1, "status": ticket.status, "version": ticket.version, "won_at_ms": ticket.won_at_ms,
            "deadline_ms": ticket.deadline_ms, "updated_at_ms": ticket.won_at_ms, "order_id": ticket.order_id,
            "payment_id": ticket.payment_id, "pay_by_ms": ticket.pay_by_ms,
        })
    }

    pub(crate) fn created(&mut self, gateway: usize, id: &str, order_id: &str, now_ms: u64) -> Answer {
        let pay_window_ms = self.settings["pay_window_ms"].as_u64().unwrap();
        let Some(ticket) = self.tickets.get_mut(id) else { return refuse(ProblemType::TicketNotFound) };
        if ticket.order_id.as_deref() != Some(order_id) {
            if ticket.status != TicketStatus::Queued {
                return refuse(ProblemType::WrongState);
            }
            ticket.order_id = Some(order_id.to_owned());
            ticket.pay_by_ms = Some(now_ms + pay_window_ms);
            self.step(gateway, id, TicketStatus::AwaitingPayment, now_ms);
        }
        (200, self.ticket_object(&self.tickets[id]))
    }

    pub(crate) fn paid(&mut self, gateway: usize, id: &str, payment_id: &str, now_ms: u64) -> Answer {
        let Some(ticket) = self.tickets.get_mut(id) else { return refuse(ProblemType::TicketNotFound) };
        if ticket.payment_id.as_deref() != Some(payment_id) {
            if ticket.status != TicketStatus::AwaitingPayment {
                return refuse(ProblemType::WrongState);
            }
            ticket.payment_id = Some(payment_id.to_owned());
            self.step(gateway, id, TicketStatus::Paid, now_ms);
        }
        let answer = (200, self.ticket_object(&self.tickets[id]));
        if self.has(Defect::RefundsPaid) && id.ends_with('3') && self.tickets[id].status == TicketStatus::Paid
        {
            self.step(gateway, id, TicketStatus::Cancelled, now_ms);
        }
        answer
    }

    fn step(&mut self, gateway: usize, id: &str, to: TicketStatus, now_ms: u64) {
        let units = if self.has(Defect::DoubleReturn) { 2 } else { 1 };
        let ticket = self.tickets.get_mut(id).unwrap();
        let from = std::mem::replace(&mut ticket.status, to);
        ticket.version += 1;
        let event = json!({
            "ticket": id, "sale": self.name, "buyer": ticket.buyer, "quantity": 1, "version": ticket.version,
            "from": from, "to": to, "at_ms": now_ms,
        });
        if to.is_released() {
            self.available += units;
            self.returned += 1;
        }
        self.gateways[gateway].events.append(None, event, None);
    }

    pub(crate) fn fire_timers(&mut self, now_ms: u64) {
        self.take_over(now_ms);
        let due: Vec<(String, TicketStatus)> = self
            .tickets
            .values()
            .filter(|ticket| self.alive(ticket.owner, now_ms))
            .filter_map(|ticket| match ticket.status {
                TicketStatus::Queued if ticket.deadline_ms <= now_ms => {
                    // Without its message in the log nothing reports the drop.
                    let skipped = self.has(Defect::SkipAppend) && Self::skipped(&ticket.id);
                    (!skipped).then(|| (ticket.id.clone(), TicketStatus::Dropped))
                }
                TicketStatus::AwaitingPayment if ticket.pay_by_ms? <= now_ms => {
                    Some((ticket.id.clone(), TicketStatus::Expired))
                }
                _ => None,
            })
            .collect();
        for (id, to) in due {
            let owner = self.tickets[&id].owner;
            self.step(owner, &id, to, now_ms);
        }
    }

    fn skipped(id: &str) -> bool {
        id[5..].parse::<u64>().unwrap().is_multiple_of(8)
    }

    fn topic(&mut self, gateway: usize, topic: &str) -> &mut Topic {
        let gateway = &mut self.gateways[gateway];
        if topic == "orders" { &mut gateway.orders } else { &mut gateway.events }
    }

    pub(crate) fn receive(
        &mut self,
        gateway: usize,
        topic: &str,
        group: &str,
        max: u64,
        lease_ms: u64,
        now_ms: u64,
    ) -> Vec<Value> {
        let late = self.has(Defect::LateDelivery);
        let everything = self.has(Defect::DeliversUnowned);
        let topic_name = topic.to_owned();
        let gone: HashSet<String> = self
            .tickets
            .values()
            .filter(|ticket| ticket.owner != gateway && !everything)
            .map(|ticket| ticket.id.clone())
            .collect();
        let topic = self.topic(gateway, topic);
        let Group { states, skipped } = topic.groups.entry(group.to_owned()).or_default();
        let mut given = Vec::new();
        for message in &topic.messages {
            if given.len() as u64 == max {
                break;
            }
            let state = states.entry(message.id).or_default();
            let stale = message.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms) && !late;
            if state.2 || state.0 > now_ms || stale {
                continue;
            }
            if message.ticket.as_ref().is_some_and(|ticket| gone.contains(ticket)) {
                state.2 = true;
                skipped.insert(message.id);
                continue;
            }
            *state = (now_ms + lease_ms, state.1 + 1, false);
            given.push(json!({
                "receipt": format!("{}-{}", message.id, state.1), "id": format!("m{}", message.id),
                "topic": topic_name, "queue": 0, "offset": message.id, "tag": "", "keys": [], "properties": {},
                "attempt": state.1, "born_at_ms": 0, "deadline_ms": message.deadline_ms, "body": message.body,
            }));
        }
        given
    }

    /// A gateway that starts again knows of no lease: what was on its way when it was killed comes at once.
    pub(crate) fn forget_leases(&mut self, gateway: usize) {
        let Gateway { orders, events, .. } = &mut self.gateways[gateway];
        let groups = orders.groups.values_mut().chain(events.groups.values_mut());
        groups.flat_map(|group| group.states.values_mut()).for_each(|state| state.0 = 0);
    }

    pub(crate) fn ack(
        &mut self,
        gateway: usize,
        topic: &str,
        group: &str,
        receipts: &[Value],
        now_ms: u64,
    ) -> Vec<Value> {
        let forgets = self.has(Defect::LostAck);
        let states = &mut self.topic(gateway, topic).groups.entry(group.to_owned()).or_default().states;
        receipts
            .iter()
            .map(|receipt| {
                let (id, lease) = receipt.as_str().unwrap().split_once('-').unwrap();
                let id: usize = id.parse().unwrap();
                let state = states.entry(id).or_default();
                let ok = lease.parse() == Ok(state.1) && state.0 > now_ms;
                if ok && !(forgets && id.is_multiple_of(8)) {
                    state.2 = true;
                }
                json!({"receipt": receipt, "ok": ok})
            })
            .collect()
    }

    pub(crate) fn offsets(&mut self, gateway: usize, topic: &str, group: &str, now_ms: u64) -> Value {
        let name = topic.to_owned();
        let topic = self.topic(gateway, topic);
        let end = topic.messages.len();
        let Group { states, skipped } = topic.groups.entry(group.to_owned()).or_default();
        let skipped: Vec<_> = skipped.iter().map(|id| (*id, id + 1)).collect();
        let dropped: Vec<_> = topic
            .messages
            .iter()
            .filter(|message| !states.get(&message.id).is_some_and(|state| state.2))
            .filter(|message| message.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms))
            .map(|message| (message.id, message.id + 1))
            .collect();
        json!({"topic": name, "group": group, "queues": [
            {"queue": 0, "start": 0, "end": end, "floor": 0, "dropped": dropped, "dead": [],
             "skipped": skipped},
        ]})
    }
}

impl Topic {
    fn append(&mut self, ticket: Option<&str>, body: Value, deadline_ms: Option<u64>) {
        let (id, ticket) = (self.messages.len(), ticket.map(str::to_owned));
        self.messages.push(Message { id, ticket, body, deadline_ms });
    }
}
