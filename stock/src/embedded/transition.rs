//! A ticket moves: workers, timers and dead letters propose, the state machine decides, the stock moves with it.

use super::ledger::Ledger;
use super::machine::{self, Move, Plan, is_released};
use super::sale::SaleState;
use crate::record::{Journal, JournalError, Record, TransitionRecord};
use crate::types::{TicketId, TicketStatus, Transition, TransitionOutcome};
use parking_lot::Mutex;
use std::sync::atomic::Ordering;

/// What to propose for an overdue ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proposal {
    /// [`Transition::Drop`].
    Drop,
    /// [`Transition::Expire`].
    Expire,
}

impl<J: Journal> Ledger<J> {
    /// Moves a ticket, or says why not. `Err`: the journal took nothing, the ticket stands as before.
    ///
    /// Money for a ticket that is not payable is recorded once per payment id (the ticket remembers the last 8)
    /// and refused; a payment that was refused so is refused ever after, because its refund is under way.
    pub fn transition(
        &self,
        id: TicketId,
        transition: Transition<'_>,
        now_ms: u64,
    ) -> Result<TransitionOutcome, JournalError> {
        let Some((sale, slot)) = self.locate(id) else { return Ok(TransitionOutcome::TicketNotFound) };
        let mut state = sale.state.lock();
        if !state.holds(slot, id) {
            return Ok(TransitionOutcome::TicketNotFound);
        }
        let pay_window_ms = state.spec.pay_window_ms;
        let plan = machine::plan(&state.tickets[slot].standing(), transition, pay_window_ms, now_ms);
        let refused = |state: &SaleState, refund_required| {
            let ticket = state.ticket_view(&sale.id, slot);
            Ok(TransitionOutcome::WrongState { ticket, refund_required })
        };
        let group = state.group.clone();
        match plan {
            Plan::Repeat => Ok(TransitionOutcome::Repeat(state.ticket_view(&sale.id, slot))),
            Plan::NotDue => Ok(TransitionOutcome::NotDue(state.ticket_view(&sale.id, slot))),
            Plan::Refuse => refused(&state, false),
            Plan::RefundAgain => refused(&state, true),
            Plan::Refund => {
                let Transition::Paid { payment_id } = transition else { return refused(&state, false) };
                let step = Move { payment_id: Some(payment_id), ..Move::default() };
                let mut members = group.as_deref().map(Mutex::lock);
                let lsn = self
                    .journal
                    .append(&Record::Transition(record(&state, &sale.id, slot, &step, now_ms)))?;
                state.note_refund(slot, payment_id, lsn, members.as_deref_mut());
                refused(&state, true)
            }
            Plan::Move(step) => {
                let to = step.to.unwrap_or(TicketStatus::Queued);
                let mut members = group.as_deref().map(Mutex::lock);
                let lsn = self
                    .journal
                    .append(&Record::Transition(record(&state, &sale.id, slot, &step, now_ms)))?;
                state.apply(slot, &step, to, now_ms, lsn, members.as_deref_mut());
                if to.is_terminal() {
                    self.live.fetch_sub(1, Ordering::Relaxed);
                }
                if is_released(to) {
                    self.returning.push(lsn, sale.index);
                }
                Ok(TransitionOutcome::Done(state.ticket_view(&sale.id, slot)))
            }
        }
    }

    /// Tickets overdue by more than `grace_ms`, `max` at most: the safety net behind the queue's own reports. A
    /// ticket is told again until it has moved. Costs what is overdue and the sales, not the tickets.
    pub fn due(&self, now_ms: u64, grace_ms: u64, max: usize) -> Vec<(TicketId, Proposal)> {
        let Some(before_ms) = now_ms.checked_sub(grace_ms) else { return Vec::new() };
        let sales = self.all_sales();
        let mut proposals = Vec::new();
        // Another sale first each time: one whose tickets cannot be moved now must not hide the others.
        let turn = self.due_turn.fetch_add(1, Ordering::Relaxed) as usize % sales.len().max(1);
        for sale in sales[turn..].iter().chain(&sales[..turn]) {
            let mut state = sale.state.lock();
            let SaleState { tickets, deadlines, pay_bys, .. } = &mut *state;
            let deadline = |slot: u32| {
                let ticket = &tickets[slot];
                (ticket.status == TicketStatus::Queued).then(|| ticket.deadline_ms())
            };
            let left = max - proposals.len();
            let propose = |slot| proposals.push((tickets[slot].id(), Proposal::Drop));
            deadlines.collect(before_ms, left, deadline, propose);
            let pay_by = |slot: u32| {
                let ticket = &tickets[slot];
                (ticket.status == TicketStatus::AwaitingPayment).then(|| ticket.detail().pay_by_ms)?
            };
            let left = max - proposals.len();
            let propose = |slot| proposals.push((tickets[slot].id(), Proposal::Expire));
            pay_bys.collect(before_ms, left, pay_by, propose);
            if proposals.len() == max {
                break;
            }
        }
        proposals
    }
}

/// The record of a step; one without `to` is late money, which moves nothing.
fn record<'a>(
    state: &'a SaleState,
    sale: &'a str,
    slot: u32,
    step: &Move<'a>,
    at_ms: u64,
) -> TransitionRecord<'a> {
    let ticket = &state.tickets[slot];
    TransitionRecord {
        ticket: ticket.id(),
        sale,
        buyer: &state.buyers[ticket.buyer].name,
        quantity: ticket.quantity,
        version: ticket.version() + u32::from(step.to.is_some()),
        from: ticket.status,
        to: step.to.unwrap_or(ticket.status),
        at_ms,
        order_id: step.order_id,
        pay_by_ms: step.pay_by_ms,
        payment_id: step.payment_id,
        reason: step.reason,
        refund_required: step.to.is_none(),
    }
}
