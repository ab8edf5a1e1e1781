//! Returned units become available when the record of their return is durable; and generations of the epoch.

use super::ledger::Ledger;
use crate::record::{Journal, Lsn};
use crate::types::Reopened;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl<J: Journal> Ledger<J> {
    /// Makes the units available whose record is durable, and tells the sales that are so no longer sold out.
    ///
    /// To be called after each advance of `durable`, and now and then besides (every 100 ms): an advance may
    /// overtake the change it covers by an instant. Costs one load when nothing is coming back.
    pub fn settle(&self, durable: Lsn) -> Vec<Reopened> {
        let mut reopened = Vec::new();
        for index in self.returning.pop(durable) {
            let Some(sale) = self.at(index) else { continue };
            let mut state = sale.state.lock();
            if state.settle(durable) {
                reopened
                    .push(Reopened { sale: Arc::clone(&sale.id), epoch: self.epoch(state.epoch_counter) });
            }
        }
        reopened
    }

    /// Begins a new generation of all epochs: after the fold, before the first order.
    ///
    /// The generation follows the position of the newest record, so it rises with every recovery that has
    /// anything new in its log, and a counter can only rise by a record. Within a process it rises by each call.
    pub fn begin_generation(&self) {
        let folded = self.folded.load(Ordering::Acquire).max(self.restored.0);
        let next = (self.generation.load(Ordering::Acquire) + 1).max(folded + 1);
        self.generation.store(next, Ordering::Release);
    }
}
