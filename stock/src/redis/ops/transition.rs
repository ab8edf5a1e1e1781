//! `transition.lua`

use super::batch::packed;
use super::{Fence, OpError, Ops, script, status};
use crate::redis::keys::SaleKeys;
use crate::redis::note::Note;
use crate::redis::reply::Reply;
use crate::redis::ticket::{PackedTicket, status_of};
use crate::types::{TicketId, TicketStatus, Transition};

script!(TRANSITION, "transition");

/// One transition as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitionCall {
    /// Of which ticket.
    pub ticket: TicketId,
    id: String,
    verb: &'static str,
    datum: String,
}

impl TransitionCall {
    /// A proposal.
    pub fn new(ticket: TicketId, transition: Transition<'_>) -> Self {
        let (verb, datum) = match transition {
            Transition::Created { order_id } => ("created", order_id),
            Transition::Rejected { reason } => ("rejected", reason),
            Transition::Paid { payment_id } => ("paid", payment_id),
            Transition::Cancelled { reason } => ("cancelled", reason),
            Transition::Expire => ("expire", ""),
            Transition::Drop => ("drop", ""),
            Transition::Fail { reason } => ("failed", reason),
        };
        Self { ticket, id: ticket.to_string(), verb, datum: datum.to_owned() }
    }
}

/// What became of it. `pending`: the newest record is not known to be in a log yet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in `TransitionOutcome`")]
pub enum Moved {
    /// The record is owed: append it, then clear the note.
    Done {
        ticket: Box<PackedTicket>,
        note: Note,
        from: TicketStatus,
    },
    Repeat {
        ticket: Box<PackedTicket>,
        pending: bool,
    },
    WrongState {
        ticket: Box<PackedTicket>,
        pending: bool,
        refund_required: bool,
    },
    /// As `WrongState` with `refund_required`, told for the first time: its record is owed.
    LateMoney {
        ticket: Box<PackedTicket>,
        note: Note,
    },
    NotDue {
        ticket: Box<PackedTicket>,
        pending: bool,
    },
    NotFound,
}

impl Ops {
    /// Moves tickets of one sale, in order. `Err`: nothing was done, unless [`OpError::is_unknown`].
    pub async fn transition(
        &self,
        keys: &SaleKeys,
        fence: &Fence,
        now_ms: u64,
        calls: &[TransitionCall],
    ) -> Result<Vec<Moved>, OpError> {
        let (generation, now) = (fence.generation.to_string(), now_ms.to_string());
        let mut args: Vec<&[u8]> = Vec::with_capacity(5 + 3 * calls.len());
        args.extend([self.channel.as_bytes(), keys.sale.as_bytes(), generation.as_bytes()]);
        args.extend([self.gateway.as_bytes(), now.as_bytes()]);
        for call in calls {
            args.extend([call.id.as_bytes(), call.verb.as_bytes(), call.datum.as_bytes()]);
        }
        let value =
            self.run_replicated(&TRANSITION, Some(&fence.lineage), &keys.first(6)[..6], &args).await?;
        let mut list = Reply::new("transition", &value).list()?;
        status(list.next()?)?;
        let answers = list.rest().map(moved).collect::<Result<Vec<_>, OpError>>()?;
        if answers.len() != calls.len() {
            return Err(Reply::new("transition", &value).bad("an answer for each transition").into());
        }
        Ok(answers)
    }
}

fn moved(reply: Reply<'_>) -> Result<Moved, OpError> {
    let mut list = reply.list()?;
    let code = list.next()?.int()?;
    if code == 7 {
        return Ok(Moved::NotFound);
    }
    let pending = list.next()?.int()? == 1;
    let ticket = Box::new(packed(&list.next()?)?);
    Ok(match code {
        1 => {
            let note = Note::new(list.next()?.text()?);
            let from = list.next()?;
            let from = status_of(from.text()?).ok_or_else(|| from.bad("a status letter"))?;
            Moved::Done { ticket, note, from }
        }
        2 => Moved::Repeat { ticket, pending },
        3 => Moved::WrongState { ticket, pending, refund_required: false },
        4 => Moved::LateMoney { ticket, note: Note::new(list.next()?.text()?) },
        5 => Moved::WrongState { ticket, pending, refund_required: true },
        6 => Moved::NotDue { ticket, pending },
        _ => return Err(reply.bad("the code of a transition").into()),
    })
}
