//! Operations on sales: put, open, close, restock. Each is idempotent.

use super::ledger::{Ledger, Sales};
use super::sale::{Sale, SaleState};
use super::spec::{UNITS_MAX, check_sale_id, check_spec, group_of};
use crate::record::{Journal, Lsn, Record, RestockRecord, SaleRecord};
use crate::types::{SaleError, SaleId, SaleSpec, SaleSwitch, SaleView};
use parking_lot::Mutex;
use std::sync::Arc;

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SalePut {
    /// There was none of that name.
    Created,
    /// Something but `stock` differs from before.
    Changed,
    /// Nothing differs; nothing was recorded.
    Unchanged,
}

impl<J: Journal> Ledger<J> {
    /// Creates a sale, or changes everything of it but `stock`.
    pub fn put_sale(
        &self,
        sale: &str,
        spec: &SaleSpec,
        now_ms: u64,
    ) -> Result<(SaleView, SalePut), SaleError> {
        check_sale_id(sale)?;
        check_spec(spec)?;
        if let Some(sale) = self.find(sale) {
            return self.change(&sale, spec, now_ms);
        }
        let mut sales = self.sales.write();
        if let Some(sale) = sales.get(sale).map(Arc::clone) {
            drop(sales);
            return self.change(&sale, spec, now_ms);
        }
        if sales.list.len() >= self.limits.sales_max as usize {
            return Err(SaleError::Full { what: "sales", limit: u64::from(self.limits.sales_max) });
        }
        let record = SaleRecord { sale, spec, switch: SaleSwitch::Scheduled, at_ms: now_ms };
        let lsn = self.journal.append(&Record::Sale(record.clone()))?;
        let sale = self.create(&mut sales, &record, lsn);
        drop(sales);
        Ok((self.sale_view(&sale, &sale.state.lock()), SalePut::Created))
    }

    /// Opens by hand, whatever `opens_at_ms` says; also what was closed. It closes at `closes_at_ms`.
    pub fn open_sale(&self, sale: &str, now_ms: u64) -> Result<SaleView, SaleError> {
        self.switch(sale, SaleSwitch::Open, now_ms)
    }

    /// Closes by hand, whatever the window says. Tickets live on.
    pub fn close_sale(&self, sale: &str, now_ms: u64) -> Result<SaleView, SaleError> {
        self.switch(sale, SaleSwitch::Closed, now_ms)
    }

    /// Adds units; once for each `restock_id`. They are told as held until the record is durable, and available
    /// from the next [`Ledger::settle`] on.
    pub fn restock(
        &self,
        sale: &str,
        restock_id: &str,
        quantity: u64,
        now_ms: u64,
    ) -> Result<SaleView, SaleError> {
        let sale = self.find(sale).ok_or(SaleError::NotFound)?;
        let mut state = sale.state.lock();
        if let Some(&before) = state.restocks.get(restock_id) {
            if before != quantity {
                return Err(SaleError::RestockMismatch { quantity: before });
            }
            return Ok(self.sale_view(&sale, &state));
        }
        if quantity == 0 {
            return Err(SaleError::Invalid("quantity must be at least 1".to_owned()));
        }
        let units = (state.counters.initial + state.counters.restocked).checked_add(quantity);
        if units.is_none_or(|units| units > UNITS_MAX) {
            return Err(SaleError::Invalid("stock and restocks together must be at most 2^53".to_owned()));
        }
        if state.restocks.len() >= self.limits.restocks_per_sale_max as usize {
            let limit = u64::from(self.limits.restocks_per_sale_max);
            return Err(SaleError::Full { what: "restock ids of this sale", limit });
        }
        let record = RestockRecord { sale: &sale.id, restock_id, quantity, at_ms: now_ms };
        let lsn = self.journal.append(&Record::Restock(record))?;
        state.restock(restock_id, quantity, lsn);
        self.returning.push(lsn, sale.index);
        Ok(self.sale_view(&sale, &state))
    }

    /// Puts a new sale into the list; its record is in the journal.
    pub(super) fn create(&self, sales: &mut Sales, record: &SaleRecord<'_>, lsn: Lsn) -> Arc<Sale> {
        let group = group_of(record.spec, &self.groups);
        let state = SaleState::new(record.spec.clone(), record.switch, group, lsn);
        let index = sales.list.len() as u32;
        sales.push(Sale { id: SaleId::from(record.sale), index, state: Mutex::new(state) })
    }

    fn change(&self, sale: &Sale, spec: &SaleSpec, now_ms: u64) -> Result<(SaleView, SalePut), SaleError> {
        let mut state = sale.state.lock();
        if state.spec.stock != spec.stock {
            return Err(SaleError::StockAlreadySet { stock: state.spec.stock });
        }
        if &state.spec == spec {
            return Ok((self.sale_view(sale, &state), SalePut::Unchanged));
        }
        // Before the record, because it is what can still be refused; an item that is known and not used is harmless.
        if state.intern_item(&spec.item).is_none() {
            return Err(SaleError::Full { what: "items of this sale", limit: u64::from(u16::MAX) });
        }
        let record = SaleRecord { sale: &sale.id, spec, switch: state.switch, at_ms: now_ms };
        let lsn = self.journal.append(&Record::Sale(record.clone()))?;
        let taken = state.take_over(&record, lsn, &self.groups);
        debug_assert!(taken, "the item was interned above");
        Ok((self.sale_view(sale, &state), SalePut::Changed))
    }

    fn switch(&self, sale: &str, switch: SaleSwitch, now_ms: u64) -> Result<SaleView, SaleError> {
        let sale = self.find(sale).ok_or(SaleError::NotFound)?;
        let mut state = sale.state.lock();
        if state.switch != switch {
            let lsn = self.journal.append(&Record::Sale(state.record(&sale.id, switch, now_ms)))?;
            state.switch = switch;
            state.lsn = state.lsn.max(lsn);
            state.spec_lsn = lsn;
        }
        Ok(self.sale_view(&sale, &state))
    }
}
