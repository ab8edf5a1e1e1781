//! The façade: one handle over log, index, groups and timers.

use crate::log::OpenError;
use crate::storage::Storage;
use crate::{Clock, Message, NewMessage, Position, StartFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// How a queue is opened. All sizes in bytes, all times in milliseconds.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// Data folder; locked while open.
    pub dir: PathBuf,
    /// `Sync`: every append waits for an fdatasync (group commit). `Async { interval_ms }`: accepted means durable.
    pub flush: Durability,
    /// Size of one CommitLog segment.
    pub segment_bytes: u64,
    /// Bytes accepted and not yet written, at most; beyond it `append` answers `Busy`.
    pub pending_bytes_max: u64,
    /// Queues of a topic that is created on first use.
    pub topic_queues: u32,
    /// Acknowledgements are checkpointed at least this often.
    pub ack_sync_ms: u64,
    /// Attempts before a message is a dead letter of its group.
    pub attempts_max: u32,
    /// Delay before attempt 2, 3 …; the last one repeats.
    pub retry_delays_ms: Vec<u64>,
    /// Run the timer thread; tests that own the clock turn it off and call `tick`.
    pub timer_thread: bool,
}

/// Flush mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Group commit with fdatasync.
    Sync,
    /// fdatasync every `interval_ms`.
    Async {
        /// Between two syncs.
        interval_ms: u64,
    },
}

/// What an append may use of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// New work: refused while only the reserve is left.
    New,
    /// Owed work (transitions, timers of live tickets): may use the reserve.
    Owed,
}

/// What the log answers to an append that it accepted. Nothing is durable yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Position of the batch's first record.
    pub first: Position,
    /// The batch is durable once `durable() >= end`.
    pub end: Position,
    /// Queue and offset of the batch's first message (0, 0 when it is delayed).
    pub queue: u32,
    /// See `queue`.
    pub offset: u64,
}

/// Progress of durability, as the listener is told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// Everything below is durable.
    Up(Position),
    /// The first write or sync error. What was not durable then has an unknown fate; restart.
    Poisoned(Position),
}

/// Queue over a data folder. Clone freely.
#[derive(Clone)]
pub struct Queue {}

/// A lease on one message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// To ack, nack or extend with.
    pub receipt: Receipt,
    /// 1 for the first delivery.
    pub attempt: u32,
    /// The message.
    pub message: Message,
}

/// Boot epoch, group, queue, offset, lease number; text form is opaque and URL-safe.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt(pub String);

/// What a receive asks for.
#[derive(Debug, Clone)]
pub struct ReceiveRequest<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Group; created on first use, reading from first.
    pub group: &'a str,
    /// At most so many.
    pub max: usize,
    /// Lease duration; a lease also ends at the message's deadline.
    pub lease_ms: u64,
    /// Empty or `["*"]`: all.
    pub tags: &'a [String],
}

/// Something the owner must deal with; repeated (also after a restart) until `settle`d.
#[derive(Debug, Clone)]
pub struct Report {
    /// What happened.
    pub kind: ReportKind,
    /// In which group.
    pub group: String,
    /// To which message.
    pub message: Message,
}

/// Kinds of report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportKind {
    /// Its deadline passed before the group acknowledged it.
    Dropped,
    /// It used up its attempts.
    DeadLettered,
}

/// Figures of one topic.
#[derive(Debug, Clone)]
pub struct TopicStats {
    /// Name.
    pub topic: String,
    /// Messages appended since start.
    pub appended: u64,
    /// Its groups.
    pub groups: Vec<GroupStats>,
}

/// Figures of one group of a topic.
#[derive(Debug, Clone)]
pub struct GroupStats {
    /// Name.
    pub group: String,
    /// Messages neither acknowledged, dropped nor dead.
    pub backlog: u64,
    /// Age of the oldest of them.
    pub oldest_age_ms: u64,
    /// Under lease now.
    pub leased: u64,
    /// Acknowledged since start.
    pub acked: u64,
    /// Delivered since start, redeliveries included.
    pub delivered: u64,
    /// Dead letters kept.
    pub dead_letters: u64,
    /// Per queue.
    pub queues: Vec<QueueStats>,
}

/// What became of every offset of one queue in a group: `[start, end)` ranges.
#[derive(Debug, Clone)]
pub struct QueueStats {
    /// Queue number.
    pub queue: u32,
    /// First offset the group had to see.
    pub start: u64,
    /// One past the newest durable offset.
    pub end: u64,
    /// Everything below is settled.
    pub floor: u64,
    /// Dropped at the deadline.
    pub dropped: Vec<(u64, u64)>,
    /// Dead-lettered.
    pub dead: Vec<(u64, u64)>,
    /// Skipped: tag filter, group reset, or discarded by the owner.
    pub skipped: Vec<(u64, u64)>,
}

/// Why an append was refused. A refusal is definite: nothing of the batch is in the log.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum AppendError {
    /// No space.
    #[error("no space left for new messages in the log; free disk space, appends go on by themselves")]
    NoSpace,
    /// Bound on accepted bytes reached.
    #[error("the log has more accepted and unwritten bytes than allowed; retry shortly")]
    Busy,
    /// A write or sync failed before.
    #[error("a write to the log failed before; restart the process to recover")]
    Poisoned,
    /// Batch, topic name, key or body too large or malformed.
    #[error("message refused: {0}")]
    Invalid(&'static str),
}

/// Why a receive failed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReceiveError {
    /// Bad name or parameter.
    #[error("receive refused: {0}")]
    Invalid(&'static str),
    /// Too many waiting.
    #[error("too many waiting receives on this group")]
    Busy,
}

/// Why a receipt was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum ReceiptError {
    /// Lease over, message settled, or from before a restart.
    #[error("receipt-expired")]
    Expired,
}
impl Queue {
    /// Opens or creates, recovers, and starts the threads.
    pub fn open(_options: QueueOptions, _storage: Arc<dyn Storage>, _clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        unimplemented!()
    }
    /// Appends one atomic batch: all of it survives a crash or none. Never blocks on the disk. Batches get
    /// positions and offsets in the order of the calls. `Err` is definite.
    pub fn append(&self, _batch: &[NewMessage<'_>], _space: Space) -> Result<Appended, AppendError> {
        unimplemented!()
    }
    /// Where the next record would go; everything accepted is below.
    pub fn end(&self) -> Position {
        unimplemented!()
    }
    /// Everything below is durable. One atomic load.
    pub fn durable(&self) -> Position {
        unimplemented!()
    }
    /// Blocks until `durable() >= position`; for tools and tests.
    pub fn wait_durable(&self, _position: Position) -> Result<(), AppendError> {
        unimplemented!()
    }
    /// Called by the writer thread once per commit; must be quick.
    pub fn on_durable(&self, _listener: Box<dyn Fn(Durable) + Send + Sync>) {
        unimplemented!()
    }
    /// Bytes kept free for [`Space::Owed`]; the owner sets it as its live tickets come and go.
    pub fn set_reserve(&self, _bytes: u64) {
        unimplemented!()
    }
    /// All durable records from `from` on, in log order, delayed ones at the place where they were appended.
    pub fn scan(&self, _from: Position) -> Box<dyn Iterator<Item = Message> + '_> {
        unimplemented!()
    }
    /// Leases up to `max` messages, or registers `cx` and is pending. Cancel safe: a pending call holds nothing
    /// but `slot`, which deregisters when dropped.
    pub fn poll_receive(&self, _cx: &mut Context<'_>, _slot: &mut Option<WaitSlot>, _request: &ReceiveRequest<'_>) -> Poll<Result<Vec<Delivery>, ReceiveError>> {
        unimplemented!()
    }
    /// Settles messages for good.
    pub fn ack(&self, _topic: &str, _group: &str, _receipts: &[Receipt]) -> Vec<Result<(), ReceiptError>> {
        unimplemented!()
    }
    /// Settles messages that the owner found must not be delivered; counted as skipped.
    pub fn discard(&self, _topic: &str, _group: &str, _receipts: &[Receipt]) -> Vec<Result<(), ReceiptError>> {
        unimplemented!()
    }
    /// Gives leases back: redelivered after `delay_ms`, or after the group's back-off.
    pub fn nack(&self, _topic: &str, _group: &str, _receipts: &[Receipt], _delay_ms: Option<u64>) -> Vec<Result<(), ReceiptError>> {
        unimplemented!()
    }
    /// Prolongs leases from now; answers new receipts, the old ones are void.
    pub fn extend(&self, _topic: &str, _group: &str, _receipts: &[Receipt], _lease_ms: u64) -> Vec<Result<Receipt, ReceiptError>> {
        unimplemented!()
    }
    /// Creates or changes a topic; the number of queues only grows.
    pub fn put_topic(&self, _topic: &str, _queues: u32) -> Result<(), AppendError> {
        unimplemented!()
    }
    /// Creates a group, or changes its attempts and delays.
    pub fn put_group(&self, _topic: &str, _group: &str, _start: StartFrom, _attempts_max: Option<u32>, _retry_delays_ms: Option<Vec<u64>>) -> Result<(), ReceiveError> {
        unimplemented!()
    }
    /// Moves a group.
    pub fn reset_group(&self, _topic: &str, _group: &str, _to: StartFrom) -> Result<(), ReceiveError> {
        unimplemented!()
    }
    /// Reports due now, at most `max`; the waker is woken when the next one may be due. A report that is not
    /// settled is given again.
    pub fn take_reports(&self, _max: usize, _waker: Option<&Waker>) -> Vec<Report> {
        unimplemented!()
    }
    /// The owner has dealt with the report (its own records are appended, at the latest at `end()` now).
    pub fn settle(&self, _report: &Report) {
        unimplemented!()
    }
    /// Dead letters of a group, oldest first.
    pub fn dead_letters(&self, _topic: &str, _group: &str, _max: usize) -> Vec<Message> {
        unimplemented!()
    }
    /// Puts a dead letter back into the group with attempts from 1. False when it is none.
    pub fn redrive(&self, _topic: &str, _group: &str, _id: Position) -> bool {
        unimplemented!()
    }
    /// By message id.
    pub fn find(&self, _id: Position) -> Option<Message> {
        unimplemented!()
    }
    /// Figures of all topics.
    pub fn stats(&self) -> Vec<TopicStats> {
        unimplemented!()
    }
    /// One step of the timers at the clock's present time, for tests without the timer thread.
    pub fn tick(&self) {
        unimplemented!()
    }
    /// Writes and syncs all that was accepted, checkpoints, stops the threads.
    pub fn close(&self) -> Result<(), AppendError> {
        unimplemented!()
    }
}
/// A registered waiter of `poll_receive`.
#[derive(Debug)]
pub struct WaitSlot {}
