//! Why the ledger has no answer.

use crate::http::Refusal;
use tidegate_stock::{JournalError, SaleError, TicketId};

/// No answer of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The log took nothing; nothing was done.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It may have been done. With a ticket: it will be found under that id, or never.
    #[error("the outcome is not known yet")]
    Unknown {
        /// Which one.
        ticket: Option<TicketId>,
    },
    /// Nothing was done: the sale waits until the ledger is whole again.
    #[error("the sale is paused until the ledger is whole again")]
    Paused,
    /// Nothing was done; why.
    #[error("{0}")]
    Unavailable(&'static str),
}

impl LedgerError {
    /// What it means for a question that changes nothing: no outcome is open, only the answer is missing.
    #[must_use]
    pub fn of_read(self) -> Self {
        match self {
            Self::Unknown { ticket: None } => {
                Self::Unavailable("Redis did not answer in time; repeat the request")
            }
            other => other,
        }
    }
}

/// Why an operation on a sale has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SaleFailure {
    /// The ledger's own word.
    #[error(transparent)]
    Refused(#[from] SaleError),
    /// There is none.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Journal(error) => Self::Journal(error),
            LedgerError::Unknown { ticket } => Self::Unknown { ticket },
            LedgerError::Paused => Self::SalePaused,
            LedgerError::Unavailable(why) => Self::LedgerUnavailable(why.into()),
        }
    }
}

impl From<SaleFailure> for Refusal {
    fn from(failure: SaleFailure) -> Self {
        match failure {
            SaleFailure::Refused(error) => Self::Sale(error),
            SaleFailure::Ledger(error) => error.into(),
        }
    }
}
