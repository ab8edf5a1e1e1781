//! From a reservation to its end: the journal that makes a win one durable record, the waiting for
//! durability, and what happens once it is reached.
//!
//! ```text
//! journal.rs     ledger records → log messages (the order message IS the reservation)
//! recover.rs     the ledger at start: newest snapshot, the log after it, a new generation
//! fold.rs        log messages → ledger, at start and for the offline audit
//! durable.rs     waiting for durability, one wake-up a core and commit
//! settle.rs      what becomes true with durability: returned units, news of tickets
//! proposals.rs   order deadlines, dead letters and pay timers propose; the ledger decides
//! snapshots.rs   folds a copy of the ledger in the background and writes it down
//! watch.rs       who waits for news of a ticket
//! checks.rs      who waits for checks of transactions
//! ```

mod checks;
mod durable;
mod fold;
mod journal;
mod proposals;
pub mod recover;
mod settle;
pub mod snapshots;
mod watch;

pub use checks::CheckNews;
pub use durable::{CoreDurable, DurableSignal, Unknown};
pub use fold::{FoldFailure, Folded, fold_ledger};
pub(crate) use journal::{DecodeError, decode};
pub use journal::{
    Journal, MemberWord, Membership, SharedRecord, claim_of, decode_shared, order_bytes_max, refused,
    to_wire, topics,
};
pub use proposals::run_proposals;
pub use recover::{RecoverError, Recovered, rebuild, recover_ledger};
pub(crate) use settle::settle_durable;
pub use settle::{SettleQueue, run_settle, size_reserve};
pub use snapshots::ReadOnly;
pub use watch::{TicketWatch, Watcher};
