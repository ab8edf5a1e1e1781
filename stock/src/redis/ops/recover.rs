//! A sale whose Redis has changed or has lost it: pause, re-apply, resume.

use super::sale::{SaleRecorded, spec_fields, spec_json, switch_text};
use super::{OpError, Ops, script};
use crate::hash_of;
use crate::record::{OrderRecord, RestockRecord, SaleRecord, TransitionRecord};
use crate::redis::keys::SaleKeys;
use crate::redis::link::Lineage;
use crate::redis::reply::Reply;
use crate::redis::ticket::{PackedTicket, hex, letter};
use crate::types::TicketId;
use redis::Cmd;

script!(PAUSE, "pause");
script!(REAPPLY, "reapply");
script!(RESUME, "resume");
script!(EXCUSE, "excuse");
script!(WITHDRAW, "withdraw");

/// Records of a log on their way into a paused sale.
#[derive(Debug, Default)]
pub struct Reapply {
    records: Vec<Vec<u8>>,
}

fn encode(record: &impl serde::Serialize) -> Vec<u8> {
    rmp_serde::to_vec(record).expect("numbers and strings always serialize")
}

impl Reapply {
    /// Records in it.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// A sale's record of a version.
    pub fn sale(&mut self, record: &SaleRecord<'_>, recorded: SaleRecorded) {
        let SaleRecorded { version, born_ms, over_ms, .. } = recorded;
        let [stock, opens, closes, limit, qmax, cr, deadline, paywin, item] = spec_fields(record.spec);
        let (switch, spec) = (switch_text(record.switch), spec_json(record.spec));
        self.records.push(encode(&(
            "S", version, switch, spec, stock, opens, closes, limit, qmax, cr, deadline, paywin, item,
            born_ms, over_ms,
        )));
    }

    /// A restock.
    pub fn restock(&mut self, record: &RestockRecord<'_>) {
        self.records.push(encode(&("R", record.restock_id, record.quantity)));
    }

    /// An order that stands in the log of `gateway` under a claim epoch.
    pub fn order(&mut self, record: &OrderRecord<'_>, gateway: &str, epoch: u32) {
        let packed = PackedTicket::from_order(record, gateway, epoch);
        self.records.push(encode(&("O", record.ticket.to_string(), hex(hash_of(record.buyer)), packed)));
    }

    /// A transition that stands in the log under a claim epoch, or late money.
    pub fn transition(&mut self, record: &TransitionRecord<'_>, epoch: u32) {
        let ticket = record.ticket.to_string();
        if record.refund_required {
            self.records.push(encode(&("F", ticket, record.payment_id.unwrap_or_default())));
            return;
        }
        self.records.push(encode(&(
            "T",
            ticket,
            record.version,
            letter(record.to),
            record.at_ms,
            record.buyer,
            record.quantity,
            epoch,
            record.order_id.unwrap_or_default(),
            record.pay_by_ms.unwrap_or_default(),
            record.payment_id.unwrap_or_default(),
            record.reason.unwrap_or_default(),
            hex(hash_of(record.buyer)),
        )));
    }
}

/// A recovery under way. One that another has overtaken (the server lost its data again) takes no records any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryId {
    id: String,
    lineage: Lineage,
}

/// Whether a recovery has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumed {
    /// The sale goes on in a new generation.
    Resumed {
        /// Which.
        generation: u64,
    },
    /// These have not re-applied their logs yet.
    Waiting(Vec<String>),
    /// Nothing to do, or another recovery has begun.
    Over,
    /// No log held the sale itself.
    NoSale,
}

/// Whose logs are in a recovery.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// In.
    pub brought_in: Vec<String>,
    /// Still to come.
    pub missing: Vec<String>,
}

/// What a sale would go on with, without a gateway's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excused {
    /// Units that would be sold again; negative: sold beyond the stock.
    pub available: i64,
    /// Units of live tickets known.
    pub live: u64,
    /// Units paid for.
    pub sold: u64,
}

impl Ops {
    /// Pauses a sale for everybody, unless it was activated under this very server and has this gateway's log, which
    /// holds it as `recorded`. From here on the recovery waits for this gateway and for `members`.
    /// `None`: it is not paused.
    pub async fn pause(
        &self,
        keys: &SaleKeys,
        lineage: &Lineage,
        recorded: Option<SaleRecorded>,
        members: &[String],
    ) -> Result<Option<RecoveryId>, OpError> {
        let recorded = recorded.unwrap_or_default();
        let numbers = [recorded.born_ms, recorded.generation].map(|n| n.to_string());
        let mut args: Vec<&[u8]> = vec![
            self.channel.as_bytes(),
            keys.sale.as_bytes(),
            lineage.0.as_bytes(),
            self.gateway.as_bytes(),
        ];
        args.extend(numbers.iter().map(String::as_bytes));
        args.extend(members.iter().map(String::as_bytes));
        let value = self.run(&PAUSE, Some(lineage), &keys.first(10), &args).await?;
        let mut list = Reply::new("pause", &value).list()?;
        let answer = list.next()?;
        match answer.text()? {
            "whole" => Ok(None),
            "paused" => {
                Ok(Some(RecoveryId { id: list.next()?.text()?.to_owned(), lineage: lineage.clone() }))
            }
            _ => Err(answer.bad("whether a sale is paused").into()),
        }
    }

    /// Brings records in. `false`: this recovery is over.
    pub async fn reapply(
        &self,
        keys: &SaleKeys,
        recovery: &RecoveryId,
        records: &Reapply,
    ) -> Result<bool, OpError> {
        let mut args: Vec<&[u8]> = vec![recovery.id.as_bytes(), self.gateway.as_bytes()];
        args.extend(records.records.iter().map(Vec::as_slice));
        let value = self.run(&REAPPLY, Some(&recovery.lineage), &keys.first(10), &args).await?;
        Ok(Reply::new("reapply", &value).text()? == "ok")
    }

    /// Ends the recovery if all members have re-applied; `done`: this gateway has; `generation`: the newest that it has
    /// seen, which Redis may have forgotten. `members` are waited for, `forgotten` are not.
    pub async fn resume(
        &self,
        keys: &SaleKeys,
        recovery: &RecoveryId,
        done: bool,
        generation: u64,
        members: &[String],
        forgotten: &[String],
    ) -> Result<Resumed, OpError> {
        let done: &[u8] = if done { b"1" } else { b"0" };
        let (generation, count) = (generation.to_string(), forgotten.len().to_string());
        let mut args: Vec<&[u8]> = vec![
            self.channel.as_bytes(),
            keys.sale.as_bytes(),
            recovery.id.as_bytes(),
            recovery.lineage.0.as_bytes(),
            self.gateway.as_bytes(),
            done,
            generation.as_bytes(),
            count.as_bytes(),
        ];
        args.extend(forgotten.iter().map(String::as_bytes));
        args.extend(members.iter().map(String::as_bytes));
        let value = self.run_replicated(&RESUME, Some(&recovery.lineage), &keys.first(10), &args).await?;
        let mut list = Reply::new("resume", &value).list()?;
        let answer = list.next()?;
        match answer.text()? {
            "resumed" => Ok(Resumed::Resumed { generation: list.next()?.count()? }),
            "waiting" => {
                let mut missing = Vec::new();
                for gateway in list.rest() {
                    missing.push(gateway.text()?.to_owned());
                }
                missing.sort();
                Ok(Resumed::Waiting(missing))
            }
            "over" => Ok(Resumed::Over),
            "nosale" => Ok(Resumed::NoSale),
            _ => Err(answer.bad("how a recovery stands").into()),
        }
    }

    /// Who has brought a log in, and who has still to.
    pub async fn recovery(&self, keys: &SaleKeys) -> Result<Recovery, OpError> {
        let [applied, members] = keys.recovery();
        let mut brought_in = Cmd::new();
        brought_in.arg("SMEMBERS").arg(applied);
        let mut missing = Cmd::new();
        missing.arg("SDIFF").arg(members).arg(applied);
        let mut lists = [Vec::new(), Vec::new()];
        for (list, command) in lists.iter_mut().zip([brought_in, missing]) {
            let value = match self.link.command(keys.meta(), None, &command).await? {
                redis::Value::Set(values) => redis::Value::Array(values),
                other => other,
            };
            for gateway in Reply::new("SMEMBERS", &value).list()?.rest() {
                list.push(gateway.text()?.to_owned());
            }
            list.sort();
        }
        let [brought_in, missing] = lists;
        Ok(Recovery { brought_in, missing })
    }

    /// Live tickets, those due last first.
    pub async fn due_last(&self, keys: &SaleKeys, max: usize) -> Result<Vec<TicketId>, OpError> {
        let mut range = Cmd::new();
        range.arg("ZREVRANGE").arg(keys.due()).arg(0).arg(max.saturating_sub(1));
        let value = self.link.command(keys.due(), None, &range).await?;
        let mut tickets = Vec::new();
        for id in Reply::new("ZREVRANGE", &value).list()?.rest() {
            tickets.push(id.text()?.parse().map_err(|_| id.bad("a ticket id"))?);
        }
        Ok(tickets)
    }

    /// Logs that these gateways are said to have brought in do not count, as far as this recovery still goes on.
    pub async fn withdraw(
        &self,
        keys: &SaleKeys,
        recovery: &RecoveryId,
        gateways: &[String],
    ) -> Result<(), OpError> {
        let mut args: Vec<&[u8]> = vec![recovery.id.as_bytes()];
        args.extend(gateways.iter().map(String::as_bytes));
        self.run_replicated(&WITHDRAW, Some(&recovery.lineage), &keys.first(10), &args).await?;
        Ok(())
    }

    /// An operator goes on without a gateway's log. `None`: the sale is not paused.
    pub async fn excuse(&self, keys: &SaleKeys, gateway: &str) -> Result<Option<Excused>, OpError> {
        let value = self.run(&EXCUSE, None, &keys.first(10), &[gateway.as_bytes()]).await?;
        let mut list = Reply::new("excuse", &value).list()?;
        if list.next()?.text()? != "excused" {
            return Ok(None);
        }
        let (available, live, sold) = (list.next()?.int()?, list.next()?.count()?, list.next()?.count()?);
        Ok(Some(Excused { available, live, sold }))
    }
}
