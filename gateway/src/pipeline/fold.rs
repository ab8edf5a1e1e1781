//! The ledger from the log: at start, for the background snapshot, and for the offline audit.

use super::journal::{self, DecodeError, SharedRecord};
use tidegate_queue::{Message, ReadError};
use tidegate_stock::{FoldError, Ledger, Lsn};

/// Why a log does not fold into a ledger.
#[derive(Debug, thiserror::Error)]
pub enum FoldFailure {
    /// The log cannot be read to its end: a ledger of a part of it would sell again what is sold.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log is one of several that make up a ledger in Redis.
    #[error(
        "this data folder belongs to a gateway whose ledger is in Redis: its log holds only a part of the orders; set \
         [ledger] kind = \"redis\" to serve it, and audit the running gateways with `tidegate sale audit`"
    )]
    Shared,
    /// A record cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A record does not fit the ones before it.
    #[error(transparent)]
    Fold(#[from] FoldError),
}

/// What a fold has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Folded {
    /// Messages looked at.
    pub messages: u64,
    /// Ledger records among them.
    pub records: u64,
}

/// Folds log messages, in log order, into `ledger`. Fails with the first that cannot be read.
pub fn fold_ledger<J: tidegate_stock::Journal>(
    ledger: &Ledger<J>,
    messages: impl Iterator<Item = Result<Message, ReadError>>,
) -> Result<Folded, FoldFailure> {
    let mut folded = Folded::default();
    for message in messages {
        let message = message?;
        folded.messages += 1;
        if matches!(journal::decode_shared(&message), Some(SharedRecord::Member(_))) {
            return Err(FoldFailure::Shared);
        }
        let lsn = Lsn(message.position.0);
        if let Some(result) = journal::decode(&message, |record| ledger.fold(record, lsn))? {
            result?;
            folded.records += 1;
        }
    }
    Ok(folded)
}
