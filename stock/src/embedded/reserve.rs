//! An order comes in: the checks in their order, then one record, then the units are taken.

use super::index::Place;
use super::ledger::Ledger;
use super::sale::{Sale, SaleState, TICKETS_TOLD_MAX};
use super::ticket::NewTicket;
use crate::defects;
use crate::record::{Journal, JournalError, OrderRecord, Record};
use crate::types::{Reserve, ReserveOutcome, TicketId};
use crate::window::Window;
use parking_lot::Mutex;
use std::sync::atomic::Ordering;

/// FNV-1a, for idempotency keys and request bodies. It stands in the log, so it must never change; only a
/// buyer's own keys and bodies are ever compared with each other.
pub fn hash_of(text: &str) -> u64 {
    text.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

impl<J: Journal> Ledger<J> {
    /// Takes units for a buyer, or says why not. `Err`: the journal took nothing, nothing was reserved.
    ///
    /// A repeated idempotency key is answered before anything else is looked at but the sale itself. A ticket id
    /// that is taken by another reservation (64 equal random bits) is refused as `Busy`: a retry brings a fresh id.
    pub fn reserve(&self, r: &Reserve<'_>) -> Result<ReserveOutcome, JournalError> {
        let Some(sale) = self.find(r.sale) else { return Ok(ReserveOutcome::SaleNotFound) };
        let key_hash = r.idempotency_key.map(hash_of);
        let mut state = sale.state.lock();
        let buyer = state.buyers.find(r.buyer);
        if let Some(repeat) = repeat(&sale, &state, buyer, key_hash, r) {
            return Ok(repeat);
        }
        if r.quantity == 0 || r.quantity > state.spec.quantity_max {
            return Ok(ReserveOutcome::BadQuantity { quantity_max: state.spec.quantity_max });
        }
        match state.spec.window(state.switch, r.now_ms) {
            Window::Open => {}
            Window::NotOpen { opens_at_ms } => return Ok(ReserveOutcome::NotOpen { opens_at_ms }),
            Window::Closed => return Ok(ReserveOutcome::Closed),
        }
        let group = state.group.clone();
        let mut members = group.as_deref().map(Mutex::lock);
        let with_released = state.spec.limit_counts_released;
        let counted = match &members {
            Some(members) => members.counted(r.buyer, with_released),
            None => state.counted(buyer),
        };
        let wanted = counted + u64::from(r.quantity);
        if wanted > u64::from(state.spec.per_buyer_limit) && !defects::active("no-limit") {
            let (tickets, lsn) = match &members {
                Some(members) => members.tickets(r.buyer, with_released, TICKETS_TOLD_MAX),
                None => state.counted_tickets(buyer),
            };
            return Ok(ReserveOutcome::LimitReached { tickets, lsn });
        }
        match state.counters.available {
            0 => return Ok(ReserveOutcome::SoldOut { epoch: self.epoch(state.epoch_counter) }),
            available if available < u64::from(r.quantity) => {
                return Ok(ReserveOutcome::NotEnoughStock { available });
            }
            _ => {}
        }
        let Some(seat) = self.take_seat() else { return Ok(ReserveOutcome::LedgerFull) };
        let place = Place { sale: sale.index, slot: state.next_slot() };
        if let Err(other) = self.index.insert(r.ticket, place) {
            return same_ticket(&sale, &state, other, r).ok_or(JournalError::Busy);
        }
        let record = order_record(&sale, &state, r, key_hash);
        let lsn = match self.journal.append(&Record::Order(record)) {
            Ok(lsn) => lsn,
            Err(refused) => {
                self.index.remove(r.ticket);
                return Err(refused);
            }
        };
        seat.keep();
        self.live.fetch_add(1, Ordering::Relaxed);
        let new = NewTicket {
            id: r.ticket,
            buyer: r.buyer,
            item: state.item,
            quantity: r.quantity,
            won_at_ms: r.now_ms,
            deadline_after_ms: state.spec.order_deadline_ms as u32,
            key_hash,
            body_hash: r.body_hash,
            lsn,
        };
        let slot = state.reserve(&new, members.as_deref_mut());
        Ok(ReserveOutcome::Won { ticket: state.ticket_view(&sale.id, slot) })
    }

    /// What [`Ledger::reserve`] would answer to a key that it has seen, and nothing otherwise: lets a winner's
    /// retry be answered before the gates that stand in front of a new reservation.
    pub fn repeat(&self, r: &Reserve<'_>) -> Option<ReserveOutcome> {
        let key_hash = hash_of(r.idempotency_key?);
        let sale = self.find(r.sale)?;
        let state = sale.state.lock();
        repeat(&sale, &state, state.buyers.find(r.buyer), Some(key_hash), r)
    }

    /// One ticket's share of `tickets_max`, given back unless kept.
    pub(super) fn take_seat(&self) -> Option<Seat<'_>> {
        let before = self.tickets.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Some(&self.tickets));
        (before < self.limits.tickets_max).then_some(seat)
    }
}

pub(super) struct Seat<'a>(Option<&'a std::sync::atomic::AtomicU64>);

impl Seat<'_> {
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(tickets) = self.0 {
            tickets.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn repeat(
    sale: &Sale,
    state: &SaleState,
    buyer: Option<u32>,
    key_hash: Option<u64>,
    r: &Reserve<'_>,
) -> Option<ReserveOutcome> {
    let slot = state.slot_by_key(buyer?, key_hash?)?;
    if state.tickets[slot].body_hash != r.body_hash {
        return Some(ReserveOutcome::IdempotencyMismatch);
    }
    Some(ReserveOutcome::Repeat { ticket: state.ticket_view(&sale.id, slot) })
}

/// The id was used before: the very same reservation again is a repeat.
fn same_ticket(sale: &Sale, state: &SaleState, place: Place, r: &Reserve<'_>) -> Option<ReserveOutcome> {
    let same = |id: TicketId| place.sale == sale.index && state.holds(place.slot, id);
    if !same(r.ticket) {
        return None;
    }
    let ticket = state.ticket_view(&sale.id, place.slot);
    (*ticket.buyer == *r.buyer).then_some(ReserveOutcome::Repeat { ticket })
}

fn order_record<'a>(
    sale: &'a Sale,
    state: &'a SaleState,
    r: &Reserve<'a>,
    key_hash: Option<u64>,
) -> OrderRecord<'a> {
    OrderRecord {
        ticket: r.ticket,
        sale: &sale.id,
        item: &state.spec.item,
        buyer: r.buyer,
        quantity: r.quantity,
        won_at_ms: r.now_ms,
        // As the ticket tells it: `deadline_ms` of a clock at the end of time saturates in both.
        deadline_ms: r.now_ms.saturating_add(state.spec.order_deadline_ms),
        pay_window_ms: state.spec.pay_window_ms,
        key_hash,
        body_hash: r.body_hash,
        attributes: r.attributes,
    }
}
