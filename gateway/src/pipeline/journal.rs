//! Ledger records as log messages. The order message IS the reservation, the event IS the transition: one
//! record each, so there is nothing between the two that a crash could take away.

use super::settle::SettleQueue;
use crate::admission::SaleGates;
use crate::admission::wait::Drain;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use smallvec::{SmallVec, smallvec};
use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;
use tidegate_client::wire;
use tidegate_queue::{AppendError, Message, NewMessage, Queue, QueueChoice, Space};
use tidegate_stock::redis::ops::SaleRecorded;
use tidegate_stock::{
    JournalError, Lsn, OrderRecord, Record, RestockRecord, SaleRecord, SaleSpec, SaleSwitch, TicketId,
    TicketStatus, TransitionRecord,
};

/// Names in the log that are fixed.
pub mod topics {
    /// Order messages: the reservations.
    pub const ORDERS: &str = "orders";
    /// The group whose acknowledgements say that an order is dealt with.
    pub const ORDER_WORKERS: &str = "order-workers";
    /// Transitions.
    pub const ORDER_EVENTS: &str = "order-events";
    /// Sales and restocks.
    pub const LEDGER: &str = "%ledger";
    /// Delayed messages that fire at `pay_by`.
    pub const PAY_TIMERS: &str = "%pay-timers";
    /// The gateway's own group on it.
    pub const PAY_TIMERS_GROUP: &str = "%expiry";

    /// Topics that only the gateway writes: an order message from outside would be a forged reservation.
    pub fn is_reserved(topic: &str) -> bool {
        topic == ORDERS || topic == ORDER_EVENTS || topic.starts_with('%')
    }
}

/// Property of an order message: hash of the idempotency key, hexadecimal.
const KEY_HASH: &str = "key";
/// Property of an order message: hash of the request body, hexadecimal.
const BODY_HASH: &str = "body";

/// Property of an order message or an event: claim epoch of a shared ledger, decimal; absent when it is 0.
const CLAIM: &str = "claim";

/// The log as the ledger's journal.
#[derive(Clone)]
pub struct Journal {
    queue: Queue,
    /// Where an embedded ledger hears what became durable; a shared one clears notes instead.
    settle: Option<Arc<SettleQueue>>,
    sales: Arc<SaleGates>,
    drain: Arc<Drain>,
}

/// A record of topic `%ledger`.
#[derive(Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
enum LedgerRecord<'a> {
    Sale {
        sale: Cow<'a, str>,
        spec: Cow<'a, SaleSpec>,
        switch: SaleSwitch,
        at_ms: u64,
        /// Of a shared ledger: rises with every change of the sale.
        #[serde(default, skip_serializing_if = "is_zero")]
        version: u64,
        /// Of a shared ledger: when the sale was made, which tells it from one made again after a loss.
        #[serde(default, skip_serializing_if = "is_zero")]
        born_ms: u64,
        /// Of a shared ledger: generation under which it was written.
        #[serde(default, skip_serializing_if = "is_zero")]
        generation: u64,
        /// Of a shared ledger: when it was put to rest.
        #[serde(default, skip_serializing_if = "is_zero")]
        over_ms: u64,
    },
    /// A gateway may sell from the same stock.
    Member {
        gateway: Cow<'a, str>,
        at_ms: u64,
        /// Number of a process of it; 0: not told.
        #[serde(default, skip_serializing_if = "is_zero")]
        process: u64,
    },
    /// An operator has given a gateway's log up.
    Forgotten {
        gateway: Cow<'a, str>,
        at_ms: u64,
    },
    Restock {
        sale: Cow<'a, str>,
        restock_id: Cow<'a, str>,
        quantity: u64,
        at_ms: u64,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

thread_local! {
    /// Encoded bodies; one buffer a thread instead of an allocation a record.
    static BODY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl tidegate_stock::Journal for Journal {
    fn append(&self, record: &Record<'_>) -> Result<Lsn, JournalError> {
        self.append_as(record, 0)
    }

    fn durable(&self) -> Lsn {
        Lsn(self.queue.durable().0)
    }
}

impl Journal {
    /// As `append`; `mark` is the claim epoch of an order or a transition: what a shared ledger tells its records apart
    /// by. 0 in a ledger of its own.
    pub fn append_as(&self, record: &Record<'_>, mark: u64) -> Result<Lsn, JournalError> {
        BODY.with_borrow_mut(|body| {
            body.clear();
            match record {
                Record::Order(order) => self.append_order(order, mark, body),
                Record::Transition(transition) => self.append_transition(transition, mark, body),
                Record::Sale(record) => {
                    self.append_ledger(record.sale, &sale_record(record, SaleRecorded::default()), body)
                }
                Record::Restock(RestockRecord { sale, restock_id, quantity, at_ms }) => {
                    let record = LedgerRecord::Restock {
                        sale: Cow::Borrowed(sale),
                        restock_id: Cow::Borrowed(restock_id),
                        quantity: *quantity,
                        at_ms: *at_ms,
                    };
                    let lsn = self.append_ledger(sale, &record, body)?;
                    if let Some(settle) = &self.settle {
                        settle.push_barrier(lsn);
                    }
                    Ok(lsn)
                }
            }
        })
    }

    /// Of an embedded ledger, over an open queue.
    pub fn new(queue: Queue, settle: Arc<SettleQueue>, sales: Arc<SaleGates>, drain: Arc<Drain>) -> Self {
        Self { queue, settle: Some(settle), sales, drain }
    }

    /// Of a gateway's share in a ledger that several have.
    pub fn shared(queue: Queue, sales: Arc<SaleGates>, drain: Arc<Drain>) -> Self {
        Self { queue, settle: None, sales, drain }
    }

    /// Writes down a sale of a shared ledger, as it stands there.
    pub fn append_sale(&self, record: &SaleRecord<'_>, told: SaleRecorded) -> Result<Lsn, JournalError> {
        BODY.with_borrow_mut(|body| {
            body.clear();
            self.append_ledger(record.sale, &sale_record(record, told), body)
        })
    }

    /// Writes down that a gateway may sell from the same stock, so its log is needed to rebuild the ledger; or that it is
    /// not needed any more.
    pub fn append_member(&self, word: &MemberWord) -> Result<Lsn, JournalError> {
        BODY.with_borrow_mut(|body| {
            body.clear();
            let (gateway, at_ms, process) = (Cow::Borrowed(&*word.gateway), word.at_ms, word.process);
            let record = match word.membership {
                Membership::Joined => LedgerRecord::Member { gateway, at_ms, process },
                Membership::Forgotten => LedgerRecord::Forgotten { gateway, at_ms },
            };
            self.append_ledger(&word.gateway, &record, body)
        })
    }

    /// Bytes in the log that the records of orders may take now. Or why none would be taken.
    pub fn room(&self) -> Result<u64, JournalError> {
        self.queue.room().map_err(refused)
    }

    fn append_order(
        &self,
        order: &OrderRecord<'_>,
        mark: u64,
        body: &mut Vec<u8>,
    ) -> Result<Lsn, JournalError> {
        #[cfg(feature = "defects")]
        if crate::defects::active("skip-append") {
            return Ok(Lsn(self.queue.durable().0));
        }
        let mut ticket = [0_u8; 26];
        let ticket = order.ticket.write_to(&mut ticket);
        let attributes = wire::parse_raw(order.attributes).unwrap_or(RawValue::NULL);
        encode(
            body,
            &wire::OrderBody {
                ticket: Cow::Borrowed(ticket),
                sale: Cow::Borrowed(order.sale),
                item: Cow::Borrowed(order.item),
                buyer: Cow::Borrowed(order.buyer),
                quantity: order.quantity,
                won_at_ms: order.won_at_ms,
                deadline_ms: order.deadline_ms,
                pay_window_ms: order.pay_window_ms,
                attributes: Cow::Borrowed(attributes),
            },
        );
        let body_hash = Hex::new(order.body_hash);
        let key_hash = order.key_hash.map(Hex::new);
        let mut decimal = itoa::Buffer::new();
        let mut properties: SmallVec<[(&str, &str); 3]> = smallvec![(BODY_HASH, body_hash.as_str())];
        if let Some(key_hash) = &key_hash {
            properties.push((KEY_HASH, key_hash.as_str()));
        }
        if mark > 0 {
            properties.push((CLAIM, decimal.format(mark)));
        }
        let message = NewMessage {
            topic: topics::ORDERS,
            // A sale's orders share a queue, so that a receive that goes round the queues is fair between sales.
            queue: QueueChoice::Key(order.sale),
            tag: order.sale,
            keys: &[ticket],
            properties: &properties,
            deliver_at_ms: None,
            deadline_ms: Some(order.deadline_ms),
            body,
        };
        let appended = self.queue.append(&[message], Space::New).map_err(refused)?;
        self.drain.accepted(appended.queue, appended.offset, Instant::now());
        // Under the sale's lock: nobody can find the sale sold out by this win before its winner is known, so
        // the winner's own retry cannot meet the flag unknown.
        if let Some(gate) = self.sales.find(order.sale) {
            gate.winners.insert(order.buyer);
        }
        Ok(Lsn(appended.end.0))
    }

    /// `created` brings the pay timer with it, in one atomic batch: no order without its timer.
    fn append_transition(
        &self,
        transition: &TransitionRecord<'_>,
        mark: u64,
        body: &mut Vec<u8>,
    ) -> Result<Lsn, JournalError> {
        let mut ticket = [0_u8; 26];
        let ticket = transition.ticket.write_to(&mut ticket);
        encode(
            body,
            &wire::OrderEvent {
                ticket: Cow::Borrowed(ticket),
                sale: Cow::Borrowed(transition.sale),
                buyer: Cow::Borrowed(transition.buyer),
                quantity: transition.quantity,
                version: transition.version,
                from: to_wire(transition.from),
                to: to_wire(transition.to),
                at_ms: transition.at_ms,
                order_id: transition.order_id.map(Cow::Borrowed),
                pay_by_ms: transition.pay_by_ms,
                payment_id: transition.payment_id.map(Cow::Borrowed),
                reason: transition.reason.map(Cow::Borrowed),
                refund_required: transition.refund_required,
            },
        );
        let keys = [ticket];
        let mut decimal = itoa::Buffer::new();
        let claim = [(CLAIM, decimal.format(mark))];
        let event = NewMessage {
            topic: topics::ORDER_EVENTS,
            queue: QueueChoice::Key(ticket),
            tag: if transition.refund_required { "refund_required" } else { to_wire(transition.to).as_str() },
            keys: &keys,
            properties: if mark > 0 { &claim } else { &[] },
            body,
            ..NewMessage::default()
        };
        let lsn = match transition.pay_by_ms {
            Some(pay_by_ms) => {
                let timer = NewMessage {
                    topic: topics::PAY_TIMERS,
                    queue: QueueChoice::Key(ticket),
                    keys: &keys,
                    deliver_at_ms: Some(pay_by_ms),
                    ..NewMessage::default()
                };
                self.append_batch(&[event, timer], Space::Owed)?
            }
            None => self.append_batch(&[event], Space::Owed)?,
        };
        if let Some(settle) = &self.settle {
            settle.push(lsn, transition.ticket);
        }
        Ok(lsn)
    }

    fn append_ledger(
        &self,
        sale: &str,
        record: &LedgerRecord<'_>,
        body: &mut Vec<u8>,
    ) -> Result<Lsn, JournalError> {
        encode(body, record);
        let message = NewMessage {
            topic: topics::LEDGER,
            queue: QueueChoice::Key(sale),
            keys: &[sale],
            body,
            ..NewMessage::default()
        };
        // An embedded ledger's operator can be refused; what other gateways rely on has to be written down.
        self.append_batch(&[message], if self.settle.is_some() { Space::New } else { Space::Owed })
    }

    fn append_batch(&self, batch: &[NewMessage<'_>], space: Space) -> Result<Lsn, JournalError> {
        self.queue.append(batch, space).map(|appended| Lsn(appended.end.0)).map_err(refused)
    }
}

fn sale_record<'a>(record: &SaleRecord<'a>, told: SaleRecorded) -> LedgerRecord<'a> {
    let SaleRecord { sale, spec, switch, at_ms } = *record;
    let SaleRecorded { version, born_ms, generation, over_ms } = told;
    let (sale, spec) = (Cow::Borrowed(sale), Cow::Borrowed(spec));
    LedgerRecord::Sale { sale, spec, switch, at_ms, version, born_ms, generation, over_ms }
}

/// Bytes in the log that the record of an order takes at most.
pub fn order_bytes_max(order: &OrderRecord<'_>) -> u64 {
    /// Headers, a frame's among them, names, numbers, hashes and ids.
    const FIXED: usize = 768;
    /// Of one byte in a JSON string.
    const ESCAPED_MAX: usize = 6;
    let names = ESCAPED_MAX * (order.item.len() + order.buyer.len()) + 2 * order.sale.len();
    (FIXED + names + order.attributes.len()) as u64
}

/// A refusal of the log in the ledger's words.
pub fn refused(error: AppendError) -> JournalError {
    match error {
        AppendError::NoSpace => JournalError::NoSpace,
        // Owed messages are not counted against the bound on delayed ones.
        AppendError::Busy | AppendError::TooManyDelayed => JournalError::Busy,
        AppendError::Poisoned => JournalError::Poisoned,
        AppendError::Invalid(why) => {
            // Names and sizes are checked where they enter; a refusal here is definite all the same.
            tracing::error!(why, "the log refused a ledger record");
            JournalError::Busy
        }
    }
}

fn encode(body: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(body, value).expect("plain structs with string keys always serialize");
}

/// A `u64` in hexadecimal without an allocation.
struct Hex([u8; 16]);

impl Hex {
    fn new(value: u64) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        Self(std::array::from_fn(|i| DIGITS[(value >> (60 - 4 * i)) as usize & 15]))
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits are ASCII")
    }
}

/// Why a message of a ledger topic is no record.
#[derive(Debug, thiserror::Error)]
#[error("the record at position {position} of topic {topic} is not readable: {why}")]
pub struct DecodeError {
    position: tidegate_queue::Position,
    topic: String,
    why: String,
}

/// Claim epoch of an order message or an event.
pub fn claim_of(message: &Message) -> u32 {
    let found = message.properties.iter().find(|(property, _)| property == CLAIM);
    found.and_then(|(_, claim)| claim.parse().ok()).unwrap_or_default()
}

/// Whether a gateway belongs to a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    /// It does.
    Joined,
    /// An operator has given its log up.
    Forgotten,
}

/// A word on a gateway of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberWord {
    /// Its id.
    pub gateway: String,
    /// Whether its log is needed to rebuild the ledger.
    pub membership: Membership,
    /// Since when, by the clock of Redis.
    pub at_ms: u64,
    /// Number of a process of it, and a log that holds this word of its own gateway has all that came before that process;
    /// 0: not told.
    pub process: u64,
}

/// What only a log of a shared ledger tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SharedRecord {
    /// Whether a gateway's log is needed to rebuild the ledger.
    Member(MemberWord),
    /// Which of a sale's records this is.
    Sale(SaleRecorded),
}

/// Reads what a message of a shared ledger's log tells besides its record. `None`: nothing.
pub fn decode_shared(message: &Message) -> Option<SharedRecord> {
    if &*message.topic != topics::LEDGER {
        return None;
    }
    match serde_json::from_slice(&message.body).ok()? {
        LedgerRecord::Member { gateway, at_ms, process } => {
            let (gateway, membership) = (gateway.into_owned(), Membership::Joined);
            Some(SharedRecord::Member(MemberWord { gateway, membership, at_ms, process }))
        }
        LedgerRecord::Forgotten { gateway, at_ms } => {
            let (gateway, membership) = (gateway.into_owned(), Membership::Forgotten);
            Some(SharedRecord::Member(MemberWord { gateway, membership, at_ms, process: 0 }))
        }
        LedgerRecord::Sale { version, born_ms, generation, over_ms, .. } => {
            let version = version.max(1);
            Some(SharedRecord::Sale(SaleRecorded { version, born_ms, generation, over_ms }))
        }
        LedgerRecord::Restock { .. } => None,
    }
}

/// Turns a log message back into the ledger record that it carries and hands it to `f`. `Ok(None)`: a
/// message without one.
pub(crate) fn decode<R>(
    message: &Message,
    f: impl FnOnce(&Record<'_>) -> R,
) -> Result<Option<R>, DecodeError> {
    let bad = |why: String| DecodeError { position: message.position, topic: message.topic.clone(), why };
    let json = |error: serde_json::Error| bad(error.to_string());
    let ticket = |text: &str| text.parse::<TicketId>().map_err(|error| bad(error.to_string()));
    match &*message.topic {
        topics::ORDERS => {
            let order: wire::OrderBody<'_> = serde_json::from_slice(&message.body).map_err(json)?;
            let hash = |name: &str| {
                let found = message.properties.iter().find(|(property, _)| property == name);
                found.map(|(_, hex)| u64::from_str_radix(hex, 16)).transpose()
            };
            let not_hex = |_| bad("a hash in the properties is not hexadecimal".to_owned());
            Ok(Some(f(&Record::Order(OrderRecord {
                ticket: ticket(&order.ticket)?,
                sale: &order.sale,
                item: &order.item,
                buyer: &order.buyer,
                quantity: order.quantity,
                won_at_ms: order.won_at_ms,
                deadline_ms: order.deadline_ms,
                pay_window_ms: order.pay_window_ms,
                key_hash: hash(KEY_HASH).map_err(not_hex)?,
                body_hash: hash(BODY_HASH).map_err(not_hex)?.unwrap_or_default(),
                attributes: order.attributes.get(),
            }))))
        }
        topics::ORDER_EVENTS => {
            let event: wire::OrderEvent<'_> = serde_json::from_slice(&message.body).map_err(json)?;
            Ok(Some(f(&Record::Transition(TransitionRecord {
                ticket: ticket(&event.ticket)?,
                sale: &event.sale,
                buyer: &event.buyer,
                quantity: event.quantity,
                version: event.version,
                from: from_wire(event.from),
                to: from_wire(event.to),
                at_ms: event.at_ms,
                order_id: event.order_id.as_deref(),
                pay_by_ms: event.pay_by_ms,
                payment_id: event.payment_id.as_deref(),
                reason: event.reason.as_deref(),
                refund_required: event.refund_required,
            }))))
        }
        topics::LEDGER => Ok(match serde_json::from_slice(&message.body).map_err(json)? {
            LedgerRecord::Sale { sale, spec, switch, at_ms, .. } => {
                Some(f(&Record::Sale(SaleRecord { sale: &sale, spec: &spec, switch, at_ms })))
            }
            LedgerRecord::Restock { sale, restock_id, quantity, at_ms } => {
                Some(f(&Record::Restock(RestockRecord {
                    sale: &sale,
                    restock_id: &restock_id,
                    quantity,
                    at_ms,
                })))
            }
            LedgerRecord::Member { .. } | LedgerRecord::Forgotten { .. } => None,
        }),
        _ => Ok(None),
    }
}

/// The ledger and the wire spell states alike; neither crate knows of the other.
pub fn to_wire(status: TicketStatus) -> wire::TicketStatus {
    match status {
        TicketStatus::Queued => wire::TicketStatus::Queued,
        TicketStatus::AwaitingPayment => wire::TicketStatus::AwaitingPayment,
        TicketStatus::Paid => wire::TicketStatus::Paid,
        TicketStatus::Cancelled => wire::TicketStatus::Cancelled,
        TicketStatus::Expired => wire::TicketStatus::Expired,
        TicketStatus::Rejected => wire::TicketStatus::Rejected,
        TicketStatus::Dropped => wire::TicketStatus::Dropped,
        TicketStatus::Failed => wire::TicketStatus::Failed,
    }
}

fn from_wire(status: wire::TicketStatus) -> TicketStatus {
    match status {
        wire::TicketStatus::Queued => TicketStatus::Queued,
        wire::TicketStatus::AwaitingPayment => TicketStatus::AwaitingPayment,
        wire::TicketStatus::Paid => TicketStatus::Paid,
        wire::TicketStatus::Cancelled => TicketStatus::Cancelled,
        wire::TicketStatus::Expired => TicketStatus::Expired,
        wire::TicketStatus::Rejected => TicketStatus::Rejected,
        wire::TicketStatus::Dropped => TicketStatus::Dropped,
        wire::TicketStatus::Failed => TicketStatus::Failed,
    }
}
