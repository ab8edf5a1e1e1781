//! An embedded, durable CommitLog queue: topics, groups with leases, delays, deadlines, transactions, in one folder and
//! without a server. [`Queue`] is the way in.
//!
//! ```
//! # use std::sync::Arc;
//! # use std::task::{Context, Poll, Waker};
//! use tidegate_queue::storage::DiskStorage;
//! use tidegate_queue::{NewMessage, Queue, QueueOptions, ReceiveRequest, Space, SystemClock};
//!
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let storage = Arc::new(DiskStorage::new(folder)?);
//! let queue = Queue::open(QueueOptions::new(folder), storage, Arc::new(SystemClock::new()))?;
//!
//! let message = NewMessage { topic: "orders", body: b"order 1", ..NewMessage::default() };
//! let appended = queue.append(&[message], Space::New)?;
//! queue.wait_durable(appended.end)?; // from here on no crash can take it
//!
//! # queue.wait_dispatched(appended.end);
//! # let mut cx = Context::from_waker(Waker::noop());
//! let request = ReceiveRequest { topic: "orders", group: "billing", max: 32, lease_ms: 30_000, tags: &[] };
//! let Poll::Ready(found) = queue.poll_receive(&mut cx, &mut None, &request) else { panic!("nothing yet") };
//! for delivery in found? {
//!     assert_eq!(delivery.message.body, "order 1");
//!     queue.ack("orders", "billing", &[delivery.receipt]);
//! }
//! queue.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `FORMAT.md` says what stands on disk and what each flush mode promises; `examples/` shows two groups, a delayed
//! message, a crash and what is there afterwards. Its files:
//!
//! ```text
//! storage/   the seam under every file write: the real disk, and a faulting one for tests
//! log/       CommitLog: segments → frames → records; group commit, recovery, verify
//! index/     ConsumeQueue: per topic and queue, 20-byte entries, derived from the log
//! keys/      look-up keys: where messages with a key stand, derived from the log
//! group/     consumer groups: leases, ack, nack, retry, dead letters, their checkpoint
//! producer.rs, transaction.rs  numbered batches and half messages, derived from the log
//! timer/     delayed messages and deadlines, derived from the log
//! snapshot.rs what is derived from the log below a position, so that a start need not read it
//! backup.rs  a copy of a folder in use
//! catalog.rs which topics and groups there are, and how files are replaced as a whole
//! queue/     the façade: append, receive, ack …
//! ```
//!
//! Data flows one way: `append` → log (durable) → dispatcher (reads the durable log) → index, timers →
//! `receive`. No async runtime inside; what must wait takes a [`std::task::Context`].
#![deny(unsafe_code)]

/// The code of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod backup;
mod catalog;
mod clock;
mod codec;
mod defects;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzz;
mod group;
mod index;
mod keys;
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

pub use backup::{Backup, Copied};
pub use clock::{Clock, ManualClock, SystemClock};
pub use log::{OpenError, ReadError};
pub use message::{Deadlines, Message, NewMessage, QueueChoice, StartFrom};
pub use position::Position;
pub use queue::{
    Acknowledge, AppendError, Appended, Broadcast, Check, CheckpointError, Delivery, Durability, Durable,
    GroupCounts, GroupLoad, GroupStats, HeldBy, Keeping, LOOK_UP_MAX, Once, Outcome, Place, Policies,
    Producer, ProducerError, QUEUES_MAX, Queue, QueueOptions, QueueStats, RECEIVE_MAX, RETRY_DELAYS_MS,
    Receipt, ReceiptError, ReceiveError, ReceiveRequest, Report, ReportKind, Space, TopicStats,
    TransactionError, WaitSlot, queue_of_key,
};
