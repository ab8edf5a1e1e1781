//! From the journal's records to the state they tell of: the same changes as live, without asking whether they
//! were allowed then, but refusing what can never have been written.

use super::index::Place;
use super::ledger::Ledger;
use super::machine::{Move, is_released, is_step};
use super::sale::Sale;
use super::ticket::NewTicket;
use crate::defects;
use crate::record::{Journal, Lsn, OrderRecord, Record, RestockRecord, SaleRecord, TransitionRecord};
use crate::types::{TicketId, TicketStatus};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The log tells what cannot have happened: do not serve from it; verify the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// A record of a sale that none before created.
    #[error("record at {lsn:?} names sale {sale:?}, which no record before it created")]
    UnknownSale {
        /// Sale.
        sale: String,
        /// Where.
        lsn: Lsn,
    },
    /// A transition of a ticket that none before reserved.
    #[error("transition at {lsn:?} moves ticket {ticket}, which no record before it reserved")]
    UnknownTicket {
        /// Ticket.
        ticket: TicketId,
        /// Where.
        lsn: Lsn,
    },
    /// Version or state do not follow from the ticket's records before.
    #[error(
        "transition at {lsn:?} moves ticket {ticket} from {from:?} to {to:?} as version {version}, \
         but it stands at {status:?} version {standing}"
    )]
    ImpossibleTransition {
        /// Ticket.
        ticket: TicketId,
        /// Where.
        lsn: Lsn,
        /// As recorded.
        from: TicketStatus,
        /// As recorded.
        to: TicketStatus,
        /// As recorded.
        version: u32,
        /// As folded so far.
        status: TicketStatus,
        /// As folded so far.
        standing: u32,
    },
    /// More units reserved than there were.
    #[error(
        "reservation at {lsn:?} takes {quantity} units for ticket {ticket} when {available} were available"
    )]
    Oversold {
        /// Ticket.
        ticket: TicketId,
        /// Where.
        lsn: Lsn,
        /// Taken.
        quantity: u32,
        /// There were.
        available: u64,
    },
    /// The reservation's own fields contradict each other or another ticket.
    #[error("reservation at {lsn:?} of ticket {ticket}: {what}")]
    ImpossibleOrder {
        /// Ticket.
        ticket: TicketId,
        /// Where.
        lsn: Lsn,
        /// What is wrong.
        what: &'static str,
    },
    /// A sale's stock or items cannot be as recorded.
    #[error("record at {lsn:?} of sale {sale:?}: {what}")]
    ImpossibleSale {
        /// Sale.
        sale: String,
        /// Where.
        lsn: Lsn,
        /// What is wrong.
        what: &'static str,
    },
    /// More than the limits allow: raise them, the log holds it.
    #[error("record at {lsn:?} exceeds the ledger's limit of {limit} {what}; raise the limit")]
    Full {
        /// Where.
        lsn: Lsn,
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
    },
}

impl<J: Journal> Ledger<J> {
    /// Takes over one record of the journal, in log order, during the start; nothing is appended. `lsn` is the
    /// record's position: that of its first byte, or what `append` answered for it, so long as it is the same one
    /// throughout. All folded records count as durable, so what they return is available at once.
    ///
    /// A repeated record changes nothing; so do records below the cut of the restored snapshot.
    pub fn fold(&self, record: &Record<'_>, lsn: Lsn) -> Result<(), FoldError> {
        // The cut itself is where the next record begins, and where the last one ended, which is then a repeat.
        if lsn < self.restored {
            return Ok(());
        }
        match record {
            Record::Sale(record) => self.fold_sale(record, lsn),
            Record::Restock(record) => self.fold_restock(record, lsn),
            Record::Order(record) => self.fold_order(record, lsn),
            Record::Transition(record) => self.fold_transition(record, lsn),
        }?;
        self.folded.fetch_max(lsn.0, Ordering::AcqRel);
        Ok(())
    }

    fn fold_sale(&self, record: &SaleRecord<'_>, lsn: Lsn) -> Result<(), FoldError> {
        let impossible = |what| FoldError::ImpossibleSale { sale: record.sale.to_owned(), lsn, what };
        let Some(sale) = self.find(record.sale) else {
            let mut sales = self.sales.write();
            let limit = u64::from(self.limits.sales_max);
            if sales.list.len() as u64 >= limit {
                return Err(FoldError::Full { lsn, what: "sales", limit });
            }
            self.create(&mut sales, record, lsn);
            return Ok(());
        };
        let mut state = sale.state.lock();
        if state.spec.stock != record.spec.stock {
            return Err(impossible("its stock differs from what it was created with"));
        }
        // A repeat of an older record must not undo a newer one.
        if lsn >= state.spec_lsn && !state.take_over(record, lsn, &self.groups) {
            return Err(impossible("too many items"));
        }
        Ok(())
    }

    fn fold_restock(&self, record: &RestockRecord<'_>, lsn: Lsn) -> Result<(), FoldError> {
        let sale = self.sale_of(record.sale, lsn)?;
        let mut state = sale.state.lock();
        if let Some(&before) = state.restocks.get(record.restock_id) {
            let what = "a restock id came again with another quantity";
            let differs = FoldError::ImpossibleSale { sale: record.sale.to_owned(), lsn, what };
            return if before == record.quantity { Ok(()) } else { Err(differs) };
        }
        state.restock(record.restock_id, record.quantity, lsn);
        state.settle(lsn);
        Ok(())
    }

    fn fold_order(&self, record: &OrderRecord<'_>, lsn: Lsn) -> Result<(), FoldError> {
        let ticket = record.ticket;
        let impossible = |what| FoldError::ImpossibleOrder { ticket, lsn, what };
        let sale = self.sale_of(record.sale, lsn)?;
        let mut state = sale.state.lock();
        let place = Place { sale: sale.index, slot: state.next_slot() };
        if let Err(other) = self.index.insert(ticket, place) {
            // The first reservation counts; the index of a folding ledger has no entry without a ticket.
            let repeated = other.sale == sale.index && state.holds(other.slot, ticket);
            return if repeated { Ok(()) } else { Err(impossible("its id is another ticket's")) };
        }
        let Some(seat) = self.take_seat() else {
            return Err(FoldError::Full { lsn, what: "tickets", limit: self.limits.tickets_max });
        };
        let available = state.counters.available;
        if u64::from(record.quantity) > available && !oversells_on_purpose() {
            return Err(FoldError::Oversold { ticket, lsn, quantity: record.quantity, available });
        }
        let deadline_after_ms = record.deadline_ms.checked_sub(record.won_at_ms);
        let Some(deadline_after_ms) = deadline_after_ms.and_then(|after_ms| u32::try_from(after_ms).ok())
        else {
            return Err(impossible("its deadline is before the win or too far after it"));
        };
        let item = state.intern_item(record.item).ok_or_else(|| impossible("too many items in its sale"))?;
        seat.keep();
        self.live.fetch_add(1, Ordering::Relaxed);
        let new = NewTicket {
            id: ticket,
            buyer: record.buyer,
            item,
            quantity: record.quantity,
            won_at_ms: record.won_at_ms,
            deadline_after_ms,
            key_hash: record.key_hash,
            body_hash: record.body_hash,
            lsn,
        };
        let group = state.group.clone();
        state.reserve(&new, group.as_deref().map(Mutex::lock).as_deref_mut());
        Ok(())
    }

    fn fold_transition(&self, record: &TransitionRecord<'_>, lsn: Lsn) -> Result<(), FoldError> {
        let unknown = FoldError::UnknownTicket { ticket: record.ticket, lsn };
        let Some((sale, slot)) = self.locate(record.ticket) else { return Err(unknown) };
        let mut state = sale.state.lock();
        if !state.holds(slot, record.ticket) {
            return Err(unknown);
        }
        let group = state.group.clone();
        let mut members = group.as_deref().map(Mutex::lock);
        let ticket = &state.tickets[slot];
        let (status, standing) = (ticket.status, ticket.version());
        let impossible = FoldError::ImpossibleTransition {
            ticket: record.ticket,
            lsn,
            from: record.from,
            to: record.to,
            version: record.version,
            status,
            standing,
        };
        if record.refund_required {
            let Some(payment_id) = record.payment_id.filter(|_| record.from == record.to) else {
                return Err(impossible);
            };
            let known = lsn <= ticket.lsn || ticket.detail().refunds.contains(&payment_id);
            return if known {
                Ok(())
            } else if record.version == standing && record.to == status {
                state.note_refund(slot, payment_id, lsn, members.as_deref_mut());
                Ok(())
            } else {
                Err(impossible)
            };
        }
        // A repeat of the newest step must agree with it; one of an older step must at least be older.
        if record.version < standing || (record.version == standing && record.to == status) {
            return Ok(());
        }
        if record.version != standing + 1 || record.from != status || !is_step(record.from, record.to) {
            return Err(impossible);
        }
        let step = Move {
            to: Some(record.to),
            order_id: record.order_id,
            pay_by_ms: record.pay_by_ms,
            payment_id: record.payment_id,
            reason: record.reason,
        };
        state.apply(slot, &step, record.to, record.at_ms, lsn, members.as_deref_mut());
        if record.to.is_terminal() {
            self.live.fetch_sub(1, Ordering::Relaxed);
        }
        if is_released(record.to) {
            state.settle(lsn);
        }
        Ok(())
    }

    fn sale_of(&self, sale: &str, lsn: Lsn) -> Result<Arc<Sale>, FoldError> {
        self.find(sale).ok_or_else(|| FoldError::UnknownSale { sale: sale.to_owned(), lsn })
    }
}

/// A defect that oversells must survive its own restart: the verdict is to find it, not the fold.
fn oversells_on_purpose() -> bool {
    defects::active("no-decrement")
}
