//! An embedded, durable CommitLog queue.
//!
//! ```text
//! storage/   the seam under every file write: the real disk, and a faulting one for tests
//! log/       CommitLog: segments → frames → records; group commit, recovery, verify
//! index/     ConsumeQueue: per topic and queue, 20-byte entries, derived from the log
//! group/     consumer groups: leases, ack, nack, retry, dead letters, their checkpoint
//! producer.rs, transaction.rs  numbered batches and half messages, derived from the log
//! timer/     delayed messages and deadlines, derived from the log
//! snapshot.rs what is derived from the log below a position, so that a start need not read it
//! catalog.rs which topics and groups there are, and how files are replaced as a whole
//! queue/     the façade: append, receive, ack …
//! ```
//!
//! Data flows one way: `append` → log (durable) → dispatcher (reads the durable log) → index, timers →
//! `receive`. No async runtime inside; what must wait takes a [`std::task::Context`].
#![deny(unsafe_code)]

mod catalog;
mod clock;
mod codec;
mod defects;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzz;
mod group;
mod index;
pub mod log;
mod message;
mod position;
mod producer;
mod queue;
mod reserved;
mod snapshot;
pub mod storage;
mod sync;
mod timer;
mod transaction;

pub use clock::{Clock, ManualClock, SystemClock};
pub use log::{OpenError, ReadError};
pub use message::{Deadlines, Message, NewMessage, QueueChoice, StartFrom};
pub use position::Position;
pub use queue::{
    Acknowledge, AppendError, Appended, Broadcast, Check, CheckpointError, Delivery, Durability, Durable,
    GroupCounts, GroupStats, Once, Outcome, Place, Policies, Producer, ProducerError, Queue, QueueOptions,
    QueueStats, RECEIVE_MAX, Receipt, ReceiptError, ReceiveError, ReceiveRequest, Report, ReportKind, Space,
    TopicStats, TransactionError, WaitSlot,
};
