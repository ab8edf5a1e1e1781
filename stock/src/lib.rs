//! The stock ledger of a flash sale. See the crate map below.
//!
//! ```text
//! types.rs     ids, specs, outcomes
//! record.rs    what goes into the journal, and the `Journal` trait
//! embedded/    the ledger in memory, folded from its journal
//! ```
#![forbid(unsafe_code)]

pub mod record;
pub mod types;

pub use record::{Journal, JournalError, Lsn, OrderRecord, Record, RestockRecord, SaleRecord, TransitionRecord};
pub use types::*;
