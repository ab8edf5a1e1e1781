//! The stock ledger of a flash sale. See the crate map below.
//!
//! ```text
//! types.rs     ids, specs, outcomes
//! window.rs    when a sale is open
//! record.rs    what goes into the journal, and the `Journal` trait
//! embedded/    the ledger in memory, folded from its journal
//! redis/       the ledger in Redis, shared by several gateways
//! testing/     a journal in memory, Redis processes (feature `testing`)
//! defects.rs   deliberate defects for the load test's verdict (feature `defects`)
//! ```
#![forbid(unsafe_code)]

mod defects;
pub mod embedded;
pub mod record;
pub mod redis;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod types;
mod window;

pub use embedded::{FoldError, Ledger, LedgerLimits, Proposal, SalePut, SnapshotError, hash_of};
pub use record::{
    Journal, JournalError, Lsn, OrderRecord, Record, RestockRecord, SaleRecord, TransitionRecord,
};
pub use types::*;
pub use window::Window;
