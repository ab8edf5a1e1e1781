//! Tickets as they stand; lost answers; what may be delivered.

use super::batch::{packed, ticket_id};
use super::{Fence, OpError, Ops, script};
use crate::redis::keys::SaleKeys;
use crate::redis::reply::Reply;
use crate::redis::ticket::{PackedTicket, hex};
use crate::types::TicketId;

script!(READ, "read");
script!(BUYER, "buyer");
script!(RESOLVE, "resolve");
script!(VALIDATE, "validate");

/// A ticket, and whether its newest record is in no log yet: then it may not be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Id.
    pub ticket: TicketId,
    /// As it stands.
    pub packed: PackedTicket,
    /// Not to be told yet.
    pub pending: bool,
}

/// What stands under an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ByKey {
    /// No such sale.
    NoSale,
    /// Never seen.
    Unknown,
    /// With another body.
    Mismatch,
    /// This ticket.
    Ticket(Box<Told>),
}

/// Whether an order may be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivers {
    /// To a worker.
    Yes,
    /// Over for this gateway, for good.
    Over,
    /// Over as Redis has it, but that is in no log yet: to be asked again.
    NotYet,
    /// Redis does not know the ticket.
    Unknown,
}

impl Ops {
    /// Tickets of a sale, each `None` when there is none of that id. Of a paused sale nothing is told.
    pub async fn read(&self, keys: &SaleKeys, ids: &[TicketId]) -> Result<Vec<Option<Told>>, OpError> {
        let names: Vec<String> = ids.iter().map(TicketId::to_string).collect();
        let args: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        let value = self.read_script(&READ, &keys.first(4)[..4], &args).await?;
        readable("read", &value)?;
        told("read", &value, ids)
    }

    /// Resolves reservations whose call was not answered: definite, and it stays so. A paused sale resolves nothing:
    /// a log may still bring the reservation in.
    pub async fn resolve(
        &self,
        keys: &SaleKeys,
        fence: &Fence,
        ids: &[TicketId],
    ) -> Result<Vec<Option<Told>>, OpError> {
        let names: Vec<String> = ids.iter().map(TicketId::to_string).collect();
        let generation = fence.generation.to_string();
        let mut args: Vec<&[u8]> = vec![generation.as_bytes()];
        args.extend(names.iter().map(String::as_bytes));
        let value = self.run_replicated(&RESOLVE, Some(&fence.lineage), &keys.first(8)[..8], &args).await?;
        readable("resolve", &value)?;
        told("resolve", &value, ids)
    }

    /// A buyer's tickets, oldest first, the newest `max` of them. `None`: no such sale.
    pub async fn tickets_of(
        &self,
        keys: &SaleKeys,
        buyer: &str,
        max: usize,
    ) -> Result<Option<Vec<Told>>, OpError> {
        let max = max.to_string();
        let args = [buyer.as_bytes(), max.as_bytes(), b"", b""];
        let value = self.read_script(&BUYER, &keys.first(4)[..4], &args).await?;
        let reply = Reply::new("buyer", &value);
        match refused(&reply) {
            Some(OpError::NoSale) => return Ok(None),
            Some(error) => return Err(error),
            None => {}
        }
        let mut tickets = Vec::new();
        for entry in reply.list()?.rest() {
            let mut entry = entry.list()?;
            let (pending, ticket) = (entry.next()?.int()? == 1, ticket_id(&entry.next()?)?);
            tickets.push(Told { ticket, packed: packed(&entry.next()?)?, pending });
        }
        Ok(Some(tickets))
    }

    /// What a reservation with this key would be told, and nothing is reserved.
    pub async fn by_key(
        &self,
        keys: &SaleKeys,
        buyer: &str,
        key_hash: u64,
        body_hash: u64,
    ) -> Result<ByKey, OpError> {
        let (key, body) = (hex(key_hash), hex(body_hash));
        let args = [buyer.as_bytes(), b"0", key.as_bytes(), body.as_bytes()];
        let value = self.read_script(&BUYER, &keys.first(4)[..4], &args).await?;
        let reply = Reply::new("buyer", &value);
        match refused(&reply) {
            Some(OpError::NoSale) => return Ok(ByKey::NoSale),
            Some(error) => return Err(error),
            None => {}
        }
        match reply.code() {
            Some(1) => return Ok(ByKey::Unknown),
            Some(5) => return Ok(ByKey::Mismatch),
            _ => {}
        }
        let mut list = reply.list()?;
        list.next()?;
        let (pending, ticket) = (list.next()?.int()? == 1, ticket_id(&list.next()?)?);
        Ok(ByKey::Ticket(Box::new(Told { ticket, packed: packed(&list.next()?)?, pending })))
    }

    /// Which orders this gateway may still deliver: (ticket, claim epoch of the record).
    pub async fn validate(
        &self,
        keys: &SaleKeys,
        fence: &Fence,
        orders: &[(TicketId, u32)],
    ) -> Result<Vec<Delivers>, OpError> {
        let texts: Vec<(String, String)> =
            orders.iter().map(|(ticket, epoch)| (ticket.to_string(), epoch.to_string())).collect();
        let generation = fence.generation.to_string();
        let mut args: Vec<&[u8]> = Vec::with_capacity(2 + 2 * orders.len());
        args.extend([generation.as_bytes(), self.gateway.as_bytes()]);
        for (ticket, epoch) in &texts {
            args.extend([ticket.as_bytes(), epoch.as_bytes()]);
        }
        let value = self.run(&VALIDATE, Some(&fence.lineage), &keys.first(4)[..4], &args).await?;
        let mut list = Reply::new("validate", &value).list()?;
        super::status(list.next()?)?;
        let mut answers = Vec::with_capacity(orders.len());
        for answer in list.rest() {
            answers.push(match answer.int()? {
                0 => Delivers::Over,
                1 => Delivers::Yes,
                3 => Delivers::NotYet,
                _ => Delivers::Unknown,
            });
        }
        if answers.len() != orders.len() {
            return Err(Reply::new("validate", &value).bad("an answer for each order").into());
        }
        Ok(answers)
    }
}

/// A status in the place of the first ticket says why none is told.
fn readable(script: &'static str, value: &redis::Value) -> Result<(), OpError> {
    let first = Reply::new(script, value).list()?.next();
    first.ok().and_then(|first| refused(&first)).map_or(Ok(()), Err)
}

/// A status in the place of an answer says why there is none.
fn refused(reply: &Reply<'_>) -> Option<OpError> {
    reply.bytes().ok()?;
    super::status(*reply).err()
}

fn told(script: &'static str, value: &redis::Value, ids: &[TicketId]) -> Result<Vec<Option<Told>>, OpError> {
    let reply = Reply::new(script, value);
    let mut tickets = Vec::with_capacity(ids.len());
    for (entry, &ticket) in reply.list()?.rest().zip(ids) {
        if entry.code() == Some(0) {
            tickets.push(None);
            continue;
        }
        let mut entry = entry.list()?;
        let pending = entry.next()?.int()? == 1;
        tickets.push(Some(Told { ticket, packed: packed(&entry.next()?)?, pending }));
    }
    if tickets.len() != ids.len() {
        return Err(reply.bad("an answer for each ticket").into());
    }
    Ok(tickets)
}
