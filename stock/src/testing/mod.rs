//! For the tests of this crate and of those above it.
//!
//! ```text
//! journal.rs   a journal in memory with a durable position set by hand
//! redis/       Redis processes of one's own: servers, Sentinels, a Cluster, and a proxy before them
//! ```

mod journal;
pub mod redis;

pub use journal::{MemoryJournal, OwnedRecord};
