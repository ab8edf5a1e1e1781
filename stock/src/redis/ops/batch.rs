//! `batch.lua`

use super::{Fence, OpError, Ops, script, status};
use crate::hash_of;
use crate::redis::keys::SaleKeys;
use crate::redis::note::Note;
use crate::redis::reply::Reply;
use crate::redis::ticket::{PackedTicket, hex};
use crate::types::{Reserve, SaleSpec, TicketId};
use ulid::ULID_LEN;

script!(BATCH, "batch");

/// In the place of a key's hash.
const NO_KEY: &str = "----------------";

/// One reservation as it is sent.
#[derive(Debug, Clone)]
pub struct ReserveCall {
    /// Fresh id.
    pub ticket: TicketId,
    quantity: String,
    /// Ticket, hash of the key or dashes, hash of the body: as the buyer's entry.
    entry: String,
    /// Ticket and hash of the buyer: as in the feed.
    win: String,
    deadline: String,
    /// As it is stored when it wins.
    pub packed: PackedTicket,
    bytes: Vec<u8>,
}

impl ReserveCall {
    /// By a spec, whose version the call's fence names.
    pub fn new(r: &Reserve<'_>, spec: &SaleSpec, gateway: &str) -> Self {
        let packed = PackedTicket::queued(r, spec, gateway);
        let mut id = [0; ULID_LEN];
        r.ticket.write_to(&mut id);
        let id = std::str::from_utf8(&id).expect("a ULID is ASCII");
        let key = if packed.key_hash.is_empty() { NO_KEY } else { &packed.key_hash };
        Self {
            ticket: r.ticket,
            quantity: r.quantity.to_string(),
            entry: [id, key, &packed.body_hash].concat(),
            win: [id, &hex(hash_of(r.buyer))].concat(),
            deadline: packed.deadline_ms.to_string(),
            bytes: packed.pack(),
            packed,
        }
    }

    /// The sale has changed since: the reservation is made by its present spec.
    pub fn follow(&mut self, spec: &SaleSpec) {
        self.packed.deadline_ms = self.packed.won_at_ms.saturating_add(spec.order_deadline_ms);
        self.packed.item.clone_from(&spec.item);
        self.packed.pay_window_ms = spec.pay_window_ms;
        self.deadline = self.packed.deadline_ms.to_string();
        self.bytes = self.packed.pack();
    }
}

/// What goes out in one call.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'b> {
    /// Now, Unix ms: the window goes by it.
    pub now_ms: u64,
    /// Notes whose records are in a durable log.
    pub notes: &'b [Note],
    /// Reservations, in order.
    pub reserves: &'b [ReserveCall],
}

/// What became of a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in `ReserveOutcome`; `pending`: no log is known to hold it yet")]
pub enum Reserved {
    Won,
    SoldOut,
    NotEnough {
        available: u64,
    },
    LimitReached {
        pending: bool,
        tickets: Vec<TicketId>,
    },
    IdempotencyMismatch,
    Repeat {
        pending: bool,
        ticket: TicketId,
        packed: Box<PackedTicket>,
    },
    BadQuantity,
    NotOpen,
    Closed,
    /// The id belongs to another buyer's reservation.
    TakenId,
    /// The id was resolved as absent before this came.
    Tombstone,
}

/// Answer of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchReply {
    /// Elements of the feed of wins by now: who sets the sold-out flag must know as many.
    pub feed: u64,
    /// Epoch counter by now.
    pub epoch: u64,
    /// Units left; negative after a recovery that found more sold than there were.
    pub available: i64,
    /// One for each reservation, in order.
    pub answers: Vec<Reserved>,
}

impl Ops {
    /// Clears notes and reserves. `Err`: nothing was done, unless [`OpError::is_unknown`]. With `wait_replicas`, an
    /// `Ok` means that so many replicas have it.
    pub async fn batch(
        &self,
        keys: &SaleKeys,
        fence: &Fence,
        batch: &Batch<'_>,
    ) -> Result<BatchReply, OpError> {
        // Orders' notes return no units: they are cleared all at once.
        let (orders, others): (Vec<&Note>, Vec<&Note>) =
            batch.notes.iter().partition(|note| note.name().starts_with('o'));
        let numbers = [
            fence.generation,
            fence.version,
            batch.now_ms,
            orders.len() as u64,
            others.len() as u64,
            batch.reserves.len() as u64,
        ]
        .map(|n| n.to_string());
        let (head, counts) = numbers.split_at(4);
        let mut args: Vec<&[u8]> = Vec::with_capacity(8 + batch.notes.len() + 7 * batch.reserves.len());
        args.extend([self.channel.as_bytes(), keys.sale.as_bytes()]);
        args.extend(head.iter().map(String::as_bytes));
        args.extend(orders.iter().map(|note| note.name().as_bytes()));
        args.push(counts[0].as_bytes());
        args.extend(others.iter().map(|note| note.name().as_bytes()));
        args.push(counts[1].as_bytes());
        args.extend(batch.reserves.iter().map(|reserve| &reserve.win.as_bytes()[..ULID_LEN]));
        args.extend(batch.reserves.iter().map(|reserve| reserve.packed.buyer.as_bytes()));
        for reserve in batch.reserves {
            args.extend([
                reserve.quantity.as_bytes(),
                reserve.entry.as_bytes(),
                reserve.win.as_bytes(),
                reserve.deadline.as_bytes(),
                &reserve.bytes,
            ]);
        }
        let names = keys.first(7);
        let expected = Some(&fence.lineage);
        let value = if batch.reserves.is_empty() {
            self.run(&BATCH, expected, &names[..7], &args).await?
        } else {
            self.run_replicated(&BATCH, expected, &names[..7], &args).await?
        };
        let mut list = Reply::new("batch", &value).list()?;
        status(list.next()?)?;
        let (feed, epoch, available) = (list.next()?.count()?, list.next()?.count()?, list.next()?.int()?);
        let answers = list.rest().map(reserved).collect::<Result<Vec<_>, OpError>>()?;
        if answers.len() != batch.reserves.len() {
            return Err(Reply::new("batch", &value).bad("an answer for each reservation").into());
        }
        Ok(BatchReply { feed, epoch, available, answers })
    }
}

fn reserved(reply: Reply<'_>) -> Result<Reserved, OpError> {
    let simple = match reply.code() {
        Some(1) => Some(Reserved::Won),
        Some(2) => Some(Reserved::SoldOut),
        Some(5) => Some(Reserved::IdempotencyMismatch),
        Some(7) => Some(Reserved::BadQuantity),
        Some(8) => Some(Reserved::NotOpen),
        Some(9) => Some(Reserved::Closed),
        Some(10) => Some(Reserved::TakenId),
        Some(11) => Some(Reserved::Tombstone),
        Some(_) => return Err(reply.bad("the code of a reservation").into()),
        None => None,
    };
    if let Some(simple) = simple {
        return Ok(simple);
    }
    let mut list = reply.list()?;
    match list.next()?.int()? {
        3 => Ok(Reserved::NotEnough { available: list.next()?.count()? }),
        4 => {
            let pending = list.next()?.int()? == 1;
            let tickets = list.rest().map(|id| ticket_id(&id)).collect::<Result<_, _>>()?;
            Ok(Reserved::LimitReached { pending, tickets })
        }
        6 => {
            let (pending, ticket) = (list.next()?.int()? == 1, ticket_id(&list.next()?)?);
            let packed = Box::new(packed(&list.next()?)?);
            Ok(Reserved::Repeat { pending, ticket, packed })
        }
        _ => Err(reply.bad("the code of a reservation").into()),
    }
}

pub(super) fn ticket_id(reply: &Reply<'_>) -> Result<TicketId, OpError> {
    reply.text()?.parse().map_err(|_| reply.bad("a ticket id").into())
}

pub(super) fn packed(reply: &Reply<'_>) -> Result<PackedTicket, OpError> {
    PackedTicket::unpack(reply.bytes()?).map_err(|_| reply.bad("a packed ticket").into())
}
