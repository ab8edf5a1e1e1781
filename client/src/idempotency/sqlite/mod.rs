//! The three ways over SQLite.
//!
//! Begin the transaction with `TransactionBehavior::Immediate`: a deferred one that reads first and writes later
//! can fail with `SQLITE_BUSY` in the middle, however long the busy time-out.

mod processed;
mod unique_key;
mod version;

pub use processed::{Once, create_table, forget_before, once};
pub use unique_key::{Inserted, insert_once};
pub use version::{Updated, VersionError, update_at_version};

#[cfg(test)]
mod tests;
