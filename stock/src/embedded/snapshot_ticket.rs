//! One ticket in a snapshot's block. A buyer's name stands with the first ticket of that buyer, and nowhere else.

use super::buyers::Buyers;
use super::detail::Detail;
use super::ticket::{NewTicket, Ticket};
use crate::record::Lsn;
use crate::types::{TicketId, TicketStatus};
use std::sync::Arc;

const STATES: [TicketStatus; 8] = [
    TicketStatus::Queued,
    TicketStatus::AwaitingPayment,
    TicketStatus::Paid,
    TicketStatus::Cancelled,
    TicketStatus::Expired,
    TicketStatus::Rejected,
    TicketStatus::Dropped,
    TicketStatus::Failed,
];
const KEYED: u8 = 1;
const DETAILED: u8 = 2;

/// Appends one ticket. `buyers_named`: how many buyers the blocks so far have named.
pub(super) fn encode(ticket: &Ticket, buyers: &Buyers, buyers_named: &mut u32, out: &mut Vec<u8>) {
    let status = STATES.iter().position(|&status| status == ticket.status).unwrap_or(0);
    let keyed = if ticket.keyed() { KEYED } else { 0 };
    let detailed = if ticket.packed.is_some() { DETAILED } else { 0 };
    out.extend_from_slice(&[status as u8, ticket.version() as u8, keyed | detailed]);
    out.extend_from_slice(&ticket.id().0.to_le_bytes());
    out.extend_from_slice(&ticket.lsn.0.to_le_bytes());
    out.extend_from_slice(&ticket.won_at_ms.to_le_bytes());
    out.extend_from_slice(&ticket.deadline_after_ms.to_le_bytes());
    out.extend_from_slice(&ticket.quantity.to_le_bytes());
    out.extend_from_slice(&ticket.item.to_le_bytes());
    if ticket.keyed() {
        out.extend_from_slice(&ticket.key_hash.to_le_bytes());
    }
    out.extend_from_slice(&ticket.body_hash.to_le_bytes());
    out.extend_from_slice(&ticket.buyer.to_le_bytes());
    if ticket.buyer == *buyers_named {
        *buyers_named += 1;
        put_bytes(out, buyers[ticket.buyer].name.as_bytes());
    }
    if let Some(packed) = &ticket.packed {
        put_bytes(out, packed);
    }
}

/// A block being read.
pub(super) struct Block<'a> {
    rest: &'a [u8],
}

impl<'a> Block<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next ticket with its buyer's name; not linked yet. `None`: these bytes are no ticket.
    pub(super) fn next(&mut self, buyers: &Buyers) -> Option<(Ticket, Arc<str>)> {
        let rest = &mut self.rest;
        let [status, version, flags] = take::<3>(rest)?;
        let id = TicketId(u128::from_le_bytes(take(rest)?));
        let lsn = Lsn(take_u64(rest)?);
        let won_at_ms = take_u64(rest)?;
        let deadline_after_ms = take_u32(rest)?;
        let quantity = take_u32(rest)?;
        let item = u16::from_le_bytes(take(rest)?);
        let key_hash = if flags & KEYED == 0 { None } else { Some(take_u64(rest)?) };
        let body_hash = take_u64(rest)?;
        let position = take_u32(rest)?;
        let buyer = match buyers.get(position) {
            Some(buyer) => Arc::from(&*buyer.name),
            None if position == buyers.len() => Arc::from(std::str::from_utf8(take_bytes(rest)?).ok()?),
            None => return None,
        };
        let new = NewTicket {
            id,
            buyer: &buyer,
            item,
            quantity,
            won_at_ms,
            deadline_after_ms,
            key_hash,
            body_hash,
            lsn,
        };
        let mut ticket = Ticket::new(&new);
        ticket.status = *STATES.get(usize::from(status))?;
        ticket.set_version(version.into());
        if flags & DETAILED != 0 {
            let packed = take_bytes(rest)?;
            Detail::unpack(Some(packed), won_at_ms)?;
            ticket.packed = Some(Box::from(packed));
        }
        Some((ticket, buyer))
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_u32(rest)? as usize;
    let (bytes, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(bytes)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*bytes)
}

pub(super) fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(u32::from_le_bytes)
}

pub(super) fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_le_bytes)
}
