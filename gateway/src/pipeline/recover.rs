//! The ledger at start: the newest snapshot, then the log after it, then a new generation.

use super::fold::{FoldFailure, fold_ledger};
use super::journal::Journal;
use std::path::Path;
use tidegate_queue::{Position, Queue};
use tidegate_stock::{Ledger, LedgerLimits, Lsn};
use tracing::info;

/// Why the ledger cannot be rebuilt. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log does not fold.
    #[error("the ledger cannot be rebuilt from the log: {0}")]
    Fold(#[from] FoldFailure),
}

/// Rebuilds the ledger from the data folder.
pub fn recover_ledger(queue: &Queue, journal: Journal, _dir: &Path) -> Result<Ledger<Journal>, RecoverError> {
    let ledger = Ledger::new(journal, LedgerLimits::default());
    let folded = fold_ledger(&ledger, queue.scan(Position(0)))?;
    ledger.begin_generation();
    ledger.settle(Lsn(queue.durable().0));
    info!(messages = folded.messages, records = folded.records, "ledger is rebuilt");
    Ok(ledger)
}
