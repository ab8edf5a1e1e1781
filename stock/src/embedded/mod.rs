//! The ledger in memory. It is whole in its journal: a start folds the newest snapshot and the log after it.
//!
//! ```text
//! ledger.rs          the façade: who is found where, look-ups
//! sales.rs           put, open, close, restock
//! reserve.rs         an order comes in
//! transition.rs      a ticket moves; what is overdue
//! settle.rs          returned units become available; generations
//! fold.rs            the same changes, from the journal's records
//! audit.rs           counters against a recount
//! snapshot.rs        the whole ledger as a stream of bytes
//! snapshot_ticket.rs one ticket of it
//! snapshot_store.rs  snapshot files: written whole or not at all, the previous one kept
//!
//! sale.rs            one sale under its lock      spec.rs       what an operator fixed
//! machine.rs         the ticket state machine     ticket.rs     one ticket, packed
//! detail.rs          what transitions brought     buyers.rs     one sale's buyers
//! group.rs           limit groups                 index.rs      ticket id to its place
//! due.rs             what falls due when          returning.rs  sales with units coming back
//! chunked.rs         a list that never copies itself
//! ```
//!
//! **Locks**, always taken in this order: list of sales → one sale → one limit group → leaves (index shard,
//! group names, returning). The journal is called with the sale's lock held and does not block.
//!
//! **Journal first.** Inside the lock the record is handed to the journal, and only when it was taken does the
//! state change: a refusal leaves nothing to undo, and the log tells the changes of a sale in their order.

mod audit;
mod buyers;
mod chunked;
mod detail;
mod due;
mod fold;
mod group;
mod index;
mod ledger;
mod machine;
mod reserve;
mod returning;
mod sale;
mod sales;
mod settle;
mod snapshot;
pub mod snapshot_store;
mod snapshot_ticket;
mod spec;
mod ticket;
mod transition;

pub use fold::FoldError;
pub use ledger::{Ledger, LedgerLimits};
pub use reserve::hash_of;
pub use sales::SalePut;
pub use snapshot::SnapshotError;
pub(crate) use spec::{UNITS_MAX, check_sale_id, check_spec};
pub use transition::Proposal;
