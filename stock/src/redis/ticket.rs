//! A ticket as it stands in Redis: one msgpack array (field by field the list in `lua/stock/common.lua`).

use crate::record::{Lsn, OrderRecord, TransitionRecord};
use crate::types::{Reserve, SaleSpec, TicketId, TicketStatus, TicketView};
use crate::{SaleId, hash_of};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// All that is needed to deliver the order from another gateway, and to write each of its records again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the records")]
pub struct PackedTicket {
    #[serde(serialize_with = "write_status", deserialize_with = "read_status")]
    pub status: TicketStatus,
    pub version: u32,
    pub quantity: u32,
    pub buyer: String,
    pub won_at_ms: u64,
    pub deadline_ms: u64,
    pub updated_at_ms: u64,
    /// 16 hexadecimal digits, or empty.
    pub key_hash: String,
    pub body_hash: String,
    /// Gateway whose log delivers the order and fires its timers.
    pub owner: String,
    /// Raised with every change of hands.
    pub epoch: u32,
    pub item: String,
    pub attributes: String,
    pub pay_window_ms: u64,
    pub order_id: String,
    pub pay_by_ms: u64,
    pub payment_id: String,
    pub reason: String,
    pub created_at_ms: u64,
    /// Payments that came too late, the last few.
    pub refunds: Vec<String>,
    /// How many there ever were.
    pub refunds_ever: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn write_status<S: Serializer>(status: &TicketStatus, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(letter(*status))
}

fn read_status<'de, D: Deserializer<'de>>(from: D) -> Result<TicketStatus, D::Error> {
    let text = String::deserialize(from)?;
    status_of(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no ticket status")))
}

/// Its letter in Redis.
pub(super) fn letter(status: TicketStatus) -> &'static str {
    match status {
        TicketStatus::Queued => "q",
        TicketStatus::AwaitingPayment => "a",
        TicketStatus::Paid => "p",
        TicketStatus::Cancelled => "c",
        TicketStatus::Expired => "e",
        TicketStatus::Rejected => "r",
        TicketStatus::Dropped => "d",
        TicketStatus::Failed => "f",
    }
}

/// The status of a letter.
pub(super) fn status_of(letter: &str) -> Option<TicketStatus> {
    Some(match letter {
        "q" => TicketStatus::Queued,
        "a" => TicketStatus::AwaitingPayment,
        "p" => TicketStatus::Paid,
        "c" => TicketStatus::Cancelled,
        "e" => TicketStatus::Expired,
        "r" => TicketStatus::Rejected,
        "d" => TicketStatus::Dropped,
        "f" => TicketStatus::Failed,
        _ => return None,
    })
}

/// Hashes as they stand in Redis.
pub fn hex(hash: u64) -> String {
    format!("{hash:016x}")
}

fn from_hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

impl PackedTicket {
    /// As a reservation of this gateway that wins would be stored.
    pub fn queued(r: &Reserve<'_>, spec: &SaleSpec, owner: &str) -> Self {
        Self {
            status: TicketStatus::Queued,
            version: 1,
            quantity: r.quantity,
            buyer: r.buyer.to_owned(),
            won_at_ms: r.now_ms,
            deadline_ms: r.now_ms.saturating_add(spec.order_deadline_ms),
            updated_at_ms: r.now_ms,
            key_hash: r.idempotency_key.map(|key| hex(hash_of(key))).unwrap_or_default(),
            body_hash: hex(r.body_hash),
            owner: owner.to_owned(),
            epoch: 0,
            item: spec.item.clone(),
            attributes: r.attributes.to_owned(),
            pay_window_ms: spec.pay_window_ms,
            order_id: String::new(),
            pay_by_ms: 0,
            payment_id: String::new(),
            reason: String::new(),
            created_at_ms: 0,
            refunds: Vec::new(),
            refunds_ever: 0,
        }
    }

    /// As an order record of a log tells it.
    pub fn from_order(order: &OrderRecord<'_>, owner: &str, epoch: u32) -> Self {
        Self {
            status: TicketStatus::Queued,
            version: 1,
            quantity: order.quantity,
            buyer: order.buyer.to_owned(),
            won_at_ms: order.won_at_ms,
            deadline_ms: order.deadline_ms,
            updated_at_ms: order.won_at_ms,
            key_hash: order.key_hash.map(hex).unwrap_or_default(),
            body_hash: hex(order.body_hash),
            owner: owner.to_owned(),
            epoch,
            item: order.item.to_owned(),
            attributes: order.attributes.to_owned(),
            pay_window_ms: order.pay_window_ms,
            order_id: String::new(),
            pay_by_ms: 0,
            payment_id: String::new(),
            reason: String::new(),
            created_at_ms: 0,
            refunds: Vec::new(),
            refunds_ever: 0,
        }
    }

    /// Its bytes.
    pub fn pack(&self) -> Vec<u8> {
        rmp_serde::to_vec(self).expect("numbers and strings always serialize")
    }

    /// From its bytes.
    pub fn unpack(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }

    /// As told to the outside; `lsn` as the caller knows it.
    pub fn view(&self, ticket: TicketId, sale: &SaleId, lsn: Lsn) -> TicketView {
        // By where it stands, not by what it says: an empty reason is a reason.
        let when = |brought: bool, text: &str| brought.then(|| Arc::from(text));
        let created = self.pay_by_ms > 0;
        let paid = self.status == TicketStatus::Paid;
        TicketView {
            ticket,
            sale: sale.clone(),
            item: Arc::from(self.item.as_str()),
            buyer: Arc::from(self.buyer.as_str()),
            quantity: self.quantity,
            status: self.status,
            version: self.version,
            won_at_ms: self.won_at_ms,
            deadline_ms: self.deadline_ms,
            updated_at_ms: self.updated_at_ms,
            order_id: when(created, &self.order_id),
            pay_by_ms: created.then_some(self.pay_by_ms),
            payment_id: when(paid, &self.payment_id),
            reason: when(self.status.is_terminal() && !paid, &self.reason),
            lsn,
        }
    }

    /// The record of its reservation, whatever became of it since.
    pub fn order<'a>(&'a self, ticket: TicketId, sale: &'a str) -> OrderRecord<'a> {
        OrderRecord {
            ticket,
            sale,
            item: &self.item,
            buyer: &self.buyer,
            quantity: self.quantity,
            won_at_ms: self.won_at_ms,
            deadline_ms: self.deadline_ms,
            pay_window_ms: self.pay_window_ms,
            key_hash: from_hex(&self.key_hash),
            body_hash: from_hex(&self.body_hash).unwrap_or_default(),
            attributes: &self.attributes,
        }
    }

    /// The record of the step to `version`. `None`: it has not come that far, or the version is the order's.
    pub fn step<'a>(&'a self, ticket: TicketId, sale: &'a str, version: u32) -> Option<TransitionRecord<'a>> {
        if version < 2 || version > self.version {
            return None;
        }
        let created = version == 2 && (self.version > 2 || self.status == TicketStatus::AwaitingPayment);
        let (to, at_ms) = if created {
            (TicketStatus::AwaitingPayment, self.created_at_ms)
        } else {
            (self.status, self.updated_at_ms)
        };
        let paid = to == TicketStatus::Paid;
        let from = if version == 2 { TicketStatus::Queued } else { TicketStatus::AwaitingPayment };
        Some(TransitionRecord {
            ticket,
            sale,
            buyer: &self.buyer,
            quantity: self.quantity,
            version,
            from,
            to,
            at_ms,
            order_id: created.then_some(self.order_id.as_str()),
            pay_by_ms: created.then_some(self.pay_by_ms),
            payment_id: paid.then_some(self.payment_id.as_str()),
            reason: (!created && !paid).then_some(self.reason.as_str()),
            refund_required: false,
        })
    }

    /// The record of the late payment that was the `nth` ever. `None`: forgotten, or not yet.
    pub fn late_money<'a>(
        &'a self,
        ticket: TicketId,
        sale: &'a str,
        nth: u32,
        at_ms: u64,
    ) -> Option<TransitionRecord<'a>> {
        let forgotten = self.refunds_ever as usize - self.refunds.len();
        let payment_id = self.refunds.get((nth as usize).checked_sub(forgotten + 1)?)?;
        Some(TransitionRecord {
            ticket,
            sale,
            buyer: &self.buyer,
            quantity: self.quantity,
            version: self.version,
            from: self.status,
            to: self.status,
            at_ms,
            order_id: None,
            pay_by_ms: None,
            payment_id: Some(payment_id),
            reason: None,
            refund_required: true,
        })
    }
}
