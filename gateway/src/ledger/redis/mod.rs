//! This gateway's share of a ledger in Redis.
//!
//! ```text
//! shared.rs     what all threads know: sales and how they stand, who may sell, where tickets are
//! core.rs       one thread's way to Redis: questions and answers
//! batcher.rs    what comes while a call is under way goes out together in the next one
//! room.rs       room in the log for the wins of calls under way
//! owed.rs       records appended for a note: cleared once they are durable
//! roll.rs       whose logs make up the ledger
//! start.rs      what this gateway's own log tells at start; the gateway's id
//! book.rs       what this gateway's own log tells besides orders, in snapshots
//! trouble.rs    what is wrong with Redis, for whoever asks
//!
//! On the settle thread, which alone decides whether a sale may sell:
//! follow.rs     looks at every sale, hears the news, follows the feed of wins
//! sweep.rs      claims what nobody cleared, proposes what is overdue, adopts the tickets of the dead
//! fleet.rs      heartbeats, and the joins of others
//! keep.rs       puts settled sales to rest, and lets the log go that nothing needs
//! passes.rs     reads this gateway's log for the recoveries, once for all that wait
//! recover.rs    brings this gateway's log in when Redis has changed or has lost a sale
//! ```

mod batcher;
mod book;
mod core;
mod fleet;
mod follow;
mod keep;
mod owed;
mod passes;
mod recover;
mod roll;
mod room;
mod shared;
mod start;
mod sweep;
mod trouble;

pub use self::core::CoreLedger;
pub use fleet::{Tells, run_fleet};
pub use follow::{run_follow, run_news};
pub use keep::run_keep;
pub use shared::{SaleShared, Shared};
pub use start::{StartFailure, start};
pub use sweep::run_sweep;
