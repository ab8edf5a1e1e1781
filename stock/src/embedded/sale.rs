//! One sale under its lock: counters, tickets, buyers. Changes are applied here, by the live ledger after the
//! journal took the record, and by the fold; so both do the same.
//!
//! Identity: `initial + restocked = available + live + returning + sold`. A returned or restocked unit is
//! `returning` (told as held) until its record is durable. Each step moves units between two of these, or adds
//! to `restocked` and `returning` alike.

use super::buyers::{Buyers, NONE};
use super::chunked::Chunked;
use super::due::DueList;
use super::group::{Group, Members};
use super::machine::{Move, is_released};
use super::ticket::{NewTicket, Ticket};
use crate::defects;
use crate::record::Lsn;
use crate::types::{SaleId, SaleSpec, SaleSwitch, Stock, TicketId, TicketStatus, TicketView};
use hashbrown::{HashMap, HashTable};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// A limit refusal names this many tickets at most.
pub(super) const TICKETS_TOLD_MAX: usize = 100;

/// One sale.
pub(super) struct Sale {
    pub(super) id: SaleId,
    /// Position in the ledger's list.
    pub(super) index: u32,
    pub(super) state: Mutex<SaleState>,
}

/// Units by where they are. Each is kept on its own, none is derived, so that the audit has something to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Counters {
    pub(super) initial: u64,
    pub(super) restocked: u64,
    pub(super) available: u64,
    /// Of tickets that are queued or await payment.
    pub(super) live: u64,
    /// Returned or restocked by a record that is not durable yet.
    pub(super) returning: u64,
    pub(super) sold: u64,
    /// Flow: units that tickets gave back, ever.
    pub(super) returned: u64,
}

/// See the module.
pub(super) struct SaleState {
    pub(super) spec: SaleSpec,
    pub(super) switch: SaleSwitch,
    pub(super) group: Option<Arc<Group>>,
    /// Items the sale ever had; tickets keep the one they were won for.
    pub(super) items: Vec<Arc<str>>,
    /// The present one among them.
    pub(super) item: u16,
    pub(super) counters: Counters,
    pub(super) epoch_counter: u64,
    /// Newest record of the sale or of any of its tickets.
    pub(super) lsn: Lsn,
    /// Newest record of spec and switch.
    pub(super) spec_lsn: Lsn,
    pub(super) restocks: HashMap<Box<str>, u64, foldhash::fast::RandomState>,
    pub(super) tickets: Chunked<Ticket>,
    pub(super) buyers: Buyers,
    /// Slots of tickets with an idempotency key, by (buyer, key), but for each buyer's newest: most buyers have one
    /// ticket, which is found without it.
    by_key: HashTable<u32>,
    pub(super) deadlines: DueList,
    pub(super) pay_bys: DueList,
    /// Units coming back, by the record that must be durable first.
    returning: VecDeque<(Lsn, u64)>,
}

fn key_slot_hash(buyer: u32, key_hash: u64) -> u64 {
    let mixed = (key_hash ^ u64::from(buyer).rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 32)
}

impl SaleState {
    pub(super) fn new(spec: SaleSpec, switch: SaleSwitch, group: Option<Arc<Group>>, lsn: Lsn) -> Self {
        let counters = Counters { initial: spec.stock, available: spec.stock, ..Counters::default() };
        Self {
            items: vec![Arc::from(spec.item.as_str())],
            item: 0,
            spec,
            switch,
            group,
            counters,
            epoch_counter: 0,
            lsn,
            spec_lsn: lsn,
            restocks: HashMap::default(),
            tickets: Chunked::new(),
            buyers: Buyers::new(),
            by_key: HashTable::new(),
            deadlines: DueList::default(),
            pay_bys: DueList::default(),
            returning: VecDeque::new(),
        }
    }

    pub(super) fn stock(&self) -> Stock {
        let Counters { initial, restocked, available, live, returning, sold, returned } = self.counters;
        Stock { initial, restocked, available, held: live + returning, sold, returned }
    }

    /// Where the next ticket will live.
    pub(super) fn next_slot(&self) -> u32 {
        self.tickets.len() as u32
    }

    /// The slot, if it holds this ticket.
    pub(super) fn holds(&self, slot: u32, id: TicketId) -> bool {
        self.tickets.get(slot).is_some_and(|ticket| ticket.id() == id)
    }

    pub(super) fn slot_by_key(&self, buyer: u32, key_hash: u64) -> Option<u32> {
        let is_it = |slot: u32| {
            let ticket = &self.tickets[slot];
            ticket.buyer == buyer && ticket.keyed() && ticket.key_hash == key_hash
        };
        let newest = self.buyers[buyer].newest;
        if newest != NONE && is_it(newest) {
            return Some(newest);
        }
        self.by_key.find(key_slot_hash(buyer, key_hash), |&slot| is_it(slot)).copied()
    }

    /// Slots of a buyer's tickets, newest first.
    pub(super) fn slots_of(&self, buyer: Option<u32>) -> impl Iterator<Item = u32> {
        let next = move |slot: u32| (slot != NONE).then_some(slot);
        let newest = buyer.and_then(|buyer| next(self.buyers[buyer].newest));
        std::iter::successors(newest, move |&slot| next(self.tickets[slot].previous))
    }

    /// Units of this sale that count against the buyer's limit. With released ones the walk is no longer than
    /// the limit itself lets the list grow.
    pub(super) fn counted(&self, buyer: Option<u32>) -> u64 {
        if self.spec.limit_counts_released {
            self.slots_of(buyer).map(|slot| u64::from(self.tickets[slot].quantity)).sum()
        } else {
            buyer.map_or(0, |buyer| u64::from(self.buyers[buyer].held))
        }
    }

    /// The tickets behind [`Self::counted`], newest first, and the barrier of what they tell.
    pub(super) fn counted_tickets(&self, buyer: Option<u32>) -> (Vec<TicketId>, Lsn) {
        let mut lsn = Lsn(0);
        let mut tickets = Vec::new();
        let mut units = 0;
        let counted = self.counted(buyer);
        for slot in self.slots_of(buyer) {
            // The buyer may have many released tickets behind the last one that counts.
            if units == counted || tickets.len() == TICKETS_TOLD_MAX {
                break;
            }
            let ticket = &self.tickets[slot];
            if self.spec.limit_counts_released || !is_released(ticket.status) {
                tickets.push(ticket.id());
                units += u64::from(ticket.quantity);
                lsn = lsn.max(ticket.lsn);
            }
        }
        (tickets, lsn)
    }

    /// A reservation took effect.
    pub(super) fn reserve(&mut self, new: &NewTicket<'_>, group: Option<&mut Members>) -> u32 {
        let units = u64::from(new.quantity);
        if !defects::active("no-decrement") {
            self.counters.available -= units;
        }
        self.counters.live += units;
        self.insert(Ticket::new(new), new.buyer, group)
    }

    /// Stores a ticket and links it everywhere but in the counters and the ledger's index.
    pub(super) fn insert(&mut self, mut ticket: Ticket, buyer: &str, group: Option<&mut Members>) -> u32 {
        let slot = self.next_slot();
        let position = self.buyers.find_or_insert(buyer);
        let released = is_released(ticket.status);
        let buyer = &mut self.buyers[position];
        ticket.buyer = position;
        ticket.previous = std::mem::replace(&mut buyer.newest, slot);
        if !released {
            buyer.held = buyer.held.saturating_add(ticket.quantity);
        }
        if let Some(group) = group {
            group.add(&buyer.name, ticket.id(), ticket.quantity, ticket.lsn, released);
        }
        match ticket.status {
            TicketStatus::Queued => self.deadlines.push(ticket.deadline_ms(), slot),
            TicketStatus::AwaitingPayment => {
                if let Some(pay_by_ms) = ticket.detail().pay_by_ms {
                    self.pay_bys.push(pay_by_ms, slot);
                }
            }
            _ => {}
        }
        self.lsn = self.lsn.max(ticket.lsn);
        let previous = ticket.previous;
        self.tickets.push(ticket);
        self.index_key(previous);
        slot
    }

    /// A ticket is no longer its buyer's newest: from now on its key is found by the table.
    fn index_key(&mut self, slot: u32) {
        let Self { tickets, by_key, .. } = self;
        let hash = |slot: u32| key_slot_hash(tickets[slot].buyer, tickets[slot].key_hash);
        if slot != NONE && tickets[slot].keyed() {
            by_key.insert_unique(hash(slot), slot, |&other| hash(other));
        }
    }

    /// A transition took effect: from one state to another, the stock in the same step.
    pub(super) fn apply(
        &mut self,
        slot: u32,
        step: &Move<'_>,
        to: TicketStatus,
        at_ms: u64,
        lsn: Lsn,
        group: Option<&mut Members>,
    ) {
        let ticket = &mut self.tickets[slot];
        let (packed, pay_by_ms) = {
            let mut detail = ticket.detail();
            detail.updated_at_ms = at_ms;
            detail.order_id = step.order_id.or(detail.order_id);
            detail.pay_by_ms = step.pay_by_ms.or(detail.pay_by_ms);
            detail.payment_id = step.payment_id.or(detail.payment_id);
            detail.reason = step.reason.or(detail.reason);
            (detail.pack(ticket.won_at_ms), detail.pay_by_ms)
        };
        ticket.packed = Some(packed);
        ticket.status = to;
        ticket.set_version(ticket.version() + 1);
        ticket.lsn = lsn;
        let (id, units, released) = (ticket.id(), ticket.quantity, is_released(to));
        let buyer = &mut self.buyers[ticket.buyer];
        if let Some(group) = group {
            group.update(&buyer.name, id, lsn, released);
        }
        self.lsn = self.lsn.max(lsn);
        if released {
            buyer.held = buyer.held.saturating_sub(units);
            self.counters.live -= u64::from(units);
            self.counters.returned += u64::from(units);
            self.bring_back(u64::from(units), lsn);
            if defects::active("double-return") {
                self.bring_back(u64::from(units), lsn);
            }
        } else if to == TicketStatus::Paid {
            self.counters.live -= u64::from(units);
            self.counters.sold += u64::from(units);
        } else if let Some(pay_by_ms) = pay_by_ms {
            self.pay_bys.push(pay_by_ms, slot);
        }
    }

    /// Money came for a ticket that is not payable: remembered, so that it is told of once.
    pub(super) fn note_refund(&mut self, slot: u32, payment_id: &str, lsn: Lsn, group: Option<&mut Members>) {
        let ticket = &mut self.tickets[slot];
        let packed = {
            let mut detail = ticket.detail();
            if detail.refunds.len() == super::detail::REFUNDS_MAX {
                detail.refunds.remove(0);
            }
            detail.refunds.push(payment_id);
            detail.pack(ticket.won_at_ms)
        };
        ticket.packed = Some(packed);
        ticket.lsn = lsn;
        if let Some(group) = group {
            let released = is_released(ticket.status);
            group.update(&self.buyers[ticket.buyer].name, ticket.id(), lsn, released);
        }
        self.lsn = self.lsn.max(lsn);
    }

    /// Units were added.
    pub(super) fn restock(&mut self, restock_id: &str, quantity: u64, lsn: Lsn) {
        self.restocks.insert(Box::from(restock_id), quantity);
        self.counters.restocked += quantity;
        self.bring_back(quantity, lsn);
        self.lsn = self.lsn.max(lsn);
    }

    fn bring_back(&mut self, units: u64, lsn: Lsn) {
        self.counters.returning += units;
        self.returning.push_back((lsn, units));
    }

    /// Units whose record is durable become available. Whether `available` left 0 by it.
    pub(super) fn settle(&mut self, durable: Lsn) -> bool {
        let was_empty = self.counters.available == 0;
        while let Some(&(lsn, units)) = self.returning.front() {
            if lsn > durable {
                break;
            }
            self.returning.pop_front();
            self.counters.returning -= units;
            self.counters.available += units;
        }
        let reopened = was_empty && self.counters.available > 0;
        if reopened {
            self.epoch_counter += 1;
        }
        reopened
    }

    pub(super) fn ticket_view(&self, sale: &SaleId, slot: u32) -> TicketView {
        let ticket = &self.tickets[slot];
        let detail = ticket.detail();
        TicketView {
            ticket: ticket.id(),
            sale: Arc::clone(sale),
            item: Arc::clone(&self.items[usize::from(ticket.item)]),
            buyer: Arc::from(&*self.buyers[ticket.buyer].name),
            quantity: ticket.quantity,
            status: ticket.status,
            version: ticket.version(),
            won_at_ms: ticket.won_at_ms,
            deadline_ms: ticket.deadline_ms(),
            updated_at_ms: detail.updated_at_ms,
            order_id: detail.order_id.map(Arc::from),
            pay_by_ms: detail.pay_by_ms,
            payment_id: detail.payment_id.map(Arc::from),
            reason: detail.reason.map(Arc::from),
            lsn: ticket.lsn,
        }
    }
}
