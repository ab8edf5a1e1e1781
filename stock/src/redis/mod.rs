//! The ledger in Redis: one stock for several gateways. Every operation is one script; all keys of a sale are in one
//! hash slot; what stands where is told in `lua/stock/common.lua`.
//!
//! ```text
//! options.rs   how Redis is reached, and the bounds on every wait for it
//! link/        connections: checked before anything is sent, never renewed in silence
//! keys.rs      names in Redis, with the schema's version
//! ticket.rs    a ticket as it stands there, and its records
//! note.rs      the outbox's notes: records that no log is known to hold yet
//! reply.rs     reading what scripts answer
//! ops/         the operations, typed
//! process.rs   which of the processes with one gateway's id goes on
//! ```

pub mod keys;
pub mod link;
pub mod note;
pub mod ops;
pub mod options;
mod process;
mod reply;
mod shelf;
pub mod ticket;

pub use keys::SaleKeys;
pub use link::{CallError, Lineage, Link};
pub use note::{Note, Owed};
pub use ops::{Fence, OpError, Ops};
pub use options::{Address, Password, RedisOptions, Tls, Topology};
pub use process::{Ousted, Process};
pub use reply::BadReply;
pub use shelf::Shelf;
pub use ticket::PackedTicket;
