//! The façade's frame: what the ledger holds, and look-ups. The operations are in the files beside it.

use super::group::Groups;
use super::index::TicketIndex;
use super::returning::Returning;
use super::sale::Sale;
use crate::record::{Journal, Lsn};
use crate::types::{Epoch, SaleId, SaleView, TicketId, TicketStatus, TicketView};
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bounds on what is kept. Reached, the ledger refuses and forgets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerLimits {
    /// Sales, closed ones included.
    pub sales_max: u32,
    /// Tickets of all sales, terminal ones included; about 200 to 250 bytes each.
    pub tickets_max: u64,
    /// Restock ids one sale remembers.
    pub restocks_per_sale_max: u32,
}

impl Default for LedgerLimits {
    fn default() -> Self {
        Self { sales_max: 10_000, tickets_max: 50_000_000, restocks_per_sale_max: 10_000 }
    }
}

/// The embedded ledger. Shared by `Arc` between threads; no call blocks but on short locks.
///
/// A start: [`Ledger::restore`] (or [`Ledger::new`] without a snapshot), [`Ledger::fold`] for each record after
/// it in log order, [`Ledger::begin_generation`], then the rest.
///
/// Answers carry an [`Lsn`]: they may be told to anybody only when [`Journal::durable`] has reached it.
pub struct Ledger<J> {
    pub(super) journal: J,
    pub(super) limits: LedgerLimits,
    pub(super) sales: RwLock<Sales>,
    pub(super) index: TicketIndex,
    pub(super) groups: Groups,
    pub(super) returning: Returning,
    /// Tickets of all sales.
    pub(super) tickets: AtomicU64,
    /// Those of them that are not terminal.
    pub(super) live: AtomicU64,
    pub(super) generation: AtomicU64,
    /// Newest folded record.
    pub(super) folded: AtomicU64,
    /// Everything up to here came from the snapshot.
    pub(super) restored: Lsn,
    /// Which sale the next search for overdue tickets begins with.
    pub(super) due_turn: AtomicU64,
}

/// All sales: they only become more.
#[derive(Default)]
pub(super) struct Sales {
    pub(super) list: Vec<Arc<Sale>>,
    pub(super) by_name: HashMap<SaleId, u32, foldhash::fast::RandomState>,
}

impl Sales {
    pub(super) fn get(&self, sale: &str) -> Option<&Arc<Sale>> {
        self.by_name.get(sale).map(|&index| &self.list[index as usize])
    }

    pub(super) fn push(&mut self, sale: Sale) -> Arc<Sale> {
        let sale = Arc::new(sale);
        self.by_name.insert(Arc::clone(&sale.id), sale.index);
        self.list.push(Arc::clone(&sale));
        sale
    }
}

impl<J> std::fmt::Debug for Ledger<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger")
            .field("sales", &self.sales.read().list.len())
            .field("tickets", &self.tickets)
            .finish_non_exhaustive()
    }
}

impl<J: Journal> Ledger<J> {
    /// Empty: to be folded, then used.
    pub fn new(journal: J, limits: LedgerLimits) -> Self {
        Self {
            journal,
            limits,
            sales: RwLock::default(),
            index: TicketIndex::new(),
            groups: Groups::default(),
            returning: Returning::new(),
            tickets: AtomicU64::new(0),
            live: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            folded: AtomicU64::new(0),
            restored: Lsn(0),
            due_turn: AtomicU64::new(0),
        }
    }

    /// The journal it writes to.
    pub fn journal(&self) -> &J {
        &self.journal
    }

    /// The ticket as it stands; also tells what became of a reservation whose answer was lost: `None` is
    /// definite, nothing was taken under that id.
    pub fn ticket(&self, id: TicketId) -> Option<TicketView> {
        let (sale, slot) = self.locate(id)?;
        let state = sale.state.lock();
        state.holds(slot, id).then(|| state.ticket_view(&sale.id, slot))
    }

    /// State and barrier alone: cheaper than [`Ledger::ticket`].
    pub fn status_of(&self, id: TicketId) -> Option<(TicketStatus, Lsn)> {
        let (sale, slot) = self.locate(id)?;
        let state = sale.state.lock();
        state.holds(slot, id).then(|| (state.tickets[slot].status, state.tickets[slot].lsn))
    }

    /// A buyer's tickets in one sale, oldest first. `None`: no such sale.
    pub fn tickets_of(&self, sale: &str, buyer: &str) -> Option<Vec<TicketView>> {
        let sale = self.find(sale)?;
        let state = sale.state.lock();
        let slots = state.slots_of(state.buyers.find(buyer));
        let mut views: Vec<_> = slots.map(|slot| state.ticket_view(&sale.id, slot)).collect();
        views.reverse();
        Some(views)
    }

    /// One sale as it stands.
    pub fn sale(&self, sale: &str) -> Option<SaleView> {
        let sale = self.find(sale)?;
        Some(self.sale_view(&sale, &sale.state.lock()))
    }

    /// All sales, in the order they were created.
    pub fn sales(&self) -> Vec<SaleView> {
        self.all_sales().iter().map(|sale| self.sale_view(sale, &sale.state.lock())).collect()
    }

    /// Tickets that are not terminal: what the log must keep room for.
    pub fn live_tickets(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    /// The newest record of the ticket that has waited longest for a worker, by the place of that record; `None`: none
    /// waits. Looks at every ticket, each sale under its lock: for the start, or for a ledger that nobody else uses.
    pub fn oldest_queued(&self) -> Option<Lsn> {
        let oldest_of = |sale: &Sale| {
            let state = sale.state.lock();
            let queued = state.tickets.iter().filter(|ticket| ticket.status == TicketStatus::Queued);
            queued.map(|ticket| ticket.lsn).min()
        };
        self.all_sales().iter().filter_map(|sale| oldest_of(sale)).min()
    }

    /// All buyers who ever had a ticket in the sale. `f` runs under the sale's lock: it must be short and must
    /// not call the ledger.
    pub fn winners(&self, sale: &str, f: &mut dyn FnMut(&str)) {
        let Some(sale) = self.find(sale) else { return };
        let state = sale.state.lock();
        for buyer in state.buyers.iter() {
            f(&buyer.name);
        }
    }

    pub(super) fn find(&self, sale: &str) -> Option<Arc<Sale>> {
        self.sales.read().get(sale).map(Arc::clone)
    }

    pub(super) fn all_sales(&self) -> Vec<Arc<Sale>> {
        self.sales.read().list.clone()
    }

    pub(super) fn at(&self, index: u32) -> Option<Arc<Sale>> {
        self.sales.read().list.get(index as usize).map(Arc::clone)
    }

    /// Where the ticket would be; to be verified under the sale's lock.
    pub(super) fn locate(&self, id: TicketId) -> Option<(Arc<Sale>, u32)> {
        let place = self.index.get(id)?;
        Some((self.at(place.sale)?, place.slot))
    }

    pub(super) fn epoch(&self, counter: u64) -> Epoch {
        Epoch { generation: self.generation.load(Ordering::Acquire), counter }
    }

    pub(super) fn sale_view(&self, sale: &Sale, state: &super::sale::SaleState) -> SaleView {
        SaleView {
            sale: Arc::clone(&sale.id),
            spec: state.spec.clone(),
            switch: state.switch,
            stock: state.stock(),
            epoch: self.epoch(state.epoch_counter),
            lsn: state.lsn,
        }
    }
}
