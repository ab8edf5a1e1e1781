//! The façade: one handle over log, index, groups and timers.
//!
//! ```text
//! options, answer, error, stats   what goes in and comes out
//! broker     the parts, opening and recovery
//! topic      topics in memory
//! append     offsets, in the order of the log
//! produce    numbered batches, levels of acknowledgement
//! transaction  half messages: begin, decide, check
//! dispatch   durable log → index, timers, waiting receivers
//! receive    leases
//! order      ordered groups
//! broadcast  groups of one consumer each
//! lease      ack, discard, nack, put back, extend
//! report     reports to the owner, dead letters
//! tick       one step of the timers
//! carry      delayed messages, on to the log's end
//! ahead      how many messages a group is owed before one of them
//! admin      groups: create, change, reset
//! keys       look-up by key
//! persist    catalog and acknowledgement checkpoint
//! snapshot   what a start need not read the log for
//! retention  what holds the log, and deleting what nothing holds
//! threads    dispatcher, timers, checkpoints
//! ```

mod admin;
mod ahead;
mod answer;
mod append;
mod broadcast;
mod broker;
mod carry;
mod dispatch;
mod error;
mod keys;
mod lease;
mod options;
mod order;
mod persist;
mod produce;
mod receive;
mod report;
mod retention;
mod snapshot;
mod stats;
mod threads;
mod tick;
mod topic;
mod transaction;

pub use crate::group::WaitSlot;
pub use crate::group::load::GroupLoad;
use crate::log::OpenError;
pub use answer::{
    Appended, Broadcast, Check, Delivery, Durable, Once, Outcome, Place, Producer, RECEIVE_MAX, Receipt,
    ReceiveRequest, Report, ReportKind,
};
pub use error::{AppendError, CheckpointError, ProducerError, ReceiptError, ReceiveError, TransactionError};
pub use keys::LOOK_UP_MAX;
pub use options::{Acknowledge, Durability, Policies, QueueOptions, RETRY_DELAYS_MS, Space};
pub use retention::{HeldBy, Keeping};
pub use stats::{GroupCounts, GroupStats, QueueStats, TopicStats};
pub use topic::QUEUES_MAX;

use crate::log::{ReadError, RecordKind};
use crate::storage::Storage;
use crate::sync::atomic::Ordering;
use crate::{Clock, Message, NewMessage, Position, StartFrom};
use broker::Broker;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use threads::Threads;

/// The queue that [`QueueChoice::Key`](crate::QueueChoice::Key) chooses in a topic with so many queues, at least 1.
pub fn queue_of_key(key: &str, queues: u32) -> u32 {
    (crate::index::tag_hash(key) % u64::from(queues)) as u32
}

/// Queue over a data folder. Clone freely. Dropping the last clone without [`Queue::close`] stops the threads
/// and leaves the folder as a crash would.
#[derive(Clone)]
pub struct Queue {
    /// Before the broker: the threads stop before the log does.
    threads: Arc<Threads>,
    broker: Arc<Broker>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("dir", &self.broker.options.dir).finish_non_exhaustive()
    }
}

impl Queue {
    /// Opens or creates, recovers, and starts the threads.
    pub fn open(
        options: QueueOptions,
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        Self::open_with(options, Policies::default(), storage, clock)
    }
    /// The same with policies of one's own.
    pub fn open_with(
        options: QueueOptions,
        policies: Policies,
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let dir = options.dir.clone();
        let (broker, dispatcher) = Broker::open(options, policies, storage, clock)?;
        let broker = Arc::new(broker);
        let threads =
            Threads::start(&broker, dispatcher).map_err(|source| OpenError::Io { path: dir, source })?;
        Ok(Self { threads: Arc::new(threads), broker })
    }
    /// Appends one atomic batch: all of it survives a crash or none. Never blocks on the disk. Batches get
    /// positions and offsets in the order of the calls. `Err` is definite.
    pub fn append(&self, batch: &[NewMessage<'_>], space: Space) -> Result<Appended, AppendError> {
        self.broker.append(batch, space)
    }
    /// Appends one atomic batch, unless this producer has sent this number before: then it answers where that
    /// stands. Also across restarts. Not durable before `appended.end` is.
    pub fn append_once(
        &self,
        producer: Producer<'_>,
        batch: &[NewMessage<'_>],
        space: Space,
    ) -> Result<Once, ProducerError> {
        self.broker.append_once(producer, batch, space, None)
    }
    /// As [`Queue::append_once`], or [`Queue::append`] without a producer; also tells where each message of the batch
    /// went, in their order, or nothing for a batch that was there before.
    pub fn append_placed(
        &self,
        producer: Option<Producer<'_>>,
        batch: &[NewMessage<'_>],
        space: Space,
    ) -> Result<(Once, Vec<Place>), ProducerError> {
        self.broker.append_placed(producer, batch, space)
    }
    /// Appends one atomic batch and waits for as much as `acknowledge` says; only [`Acknowledge::Disk`] blocks. A
    /// task that must not block appends, and waits for the listener's word. `None` is answered for
    /// [`Acknowledge::None`] alone. An `Err` of [`Acknowledge::Disk`] is definite unless it is
    /// [`AppendError::Poisoned`].
    pub fn send(
        &self,
        batch: &[NewMessage<'_>],
        space: Space,
        acknowledge: Acknowledge,
    ) -> Result<Option<Appended>, AppendError> {
        self.broker.send(batch, space, acknowledge)
    }
    /// Begins a transaction: appends a half message, which no group sees until it is committed. Its id is
    /// `first`; wait until `end` is durable before what it stands for is done. `producer_group` is asked for it
    /// when it is not decided in time (see [`Queue::take_checks`]).
    pub fn begin(
        &self,
        producer_group: &str,
        message: &NewMessage<'_>,
    ) -> Result<Appended, TransactionError> {
        self.broker.begin(producer_group, message)
    }
    /// Commits a half message: its message goes into its topic (or waits for its delivery time). Answers where,
    /// and the same again when it is repeated. Not durable before `end` is.
    pub fn commit(&self, id: Position) -> Result<Appended, TransactionError> {
        self.broker.decide(id, Outcome::Committed)
    }
    /// Rolls a half message back: nobody will ever see it. Not durable before `end` is.
    pub fn roll_back(&self, id: Position) -> Result<Appended, TransactionError> {
        self.broker.decide(id, Outcome::RolledBack)
    }
    /// What became of a half message; `None` while it is not decided. Its decision may not be durable yet.
    pub fn outcome(&self, id: Position) -> Result<Option<Outcome>, TransactionError> {
        self.broker.outcome(id)
    }
    /// Half messages of a producer group that should have been decided by now, at most `max`: commit or roll each
    /// back, or leave it for the next check. The waker is woken when there may be more; a call replaces the waker
    /// of the call before, whatever its group.
    pub fn take_checks(&self, producer_group: &str, max: usize, waker: Option<&Waker>) -> Vec<Check> {
        self.broker.take_checks(producer_group, max, waker)
    }
    /// Half messages that are not decided.
    pub fn open_transactions(&self) -> usize {
        self.broker.halves.lock().len()
    }
    /// Where the next record would go; everything accepted is below.
    pub fn end(&self) -> Position {
        self.broker.log.end()
    }
    /// Where the log begins: [`crate::log::FIRST_POSITION`] until its beginning is deleted. Moves with retention, so
    /// a scan that begins here may find that it has moved.
    pub fn start(&self) -> Position {
        self.broker.log.start()
    }
    /// The owner of derived state needs nothing below `position` any more: what it has derived from there is on disk.
    /// With [`Policies::owner_holds`] nothing is deleted before the first call since the open. A position below an
    /// earlier one is ignored.
    pub fn release_below(&self, position: Position) {
        self.broker.release_below(position);
    }
    /// Everything below is on disk, and in the log after any crash; in async mode it trails [`Queue::durable`].
    /// One atomic load.
    pub fn synced(&self) -> Position {
        self.broker.log.synced()
    }
    /// Everything below is durable. One atomic load.
    pub fn durable(&self) -> Position {
        self.broker.log.durable()
    }
    /// Blocks until `durable() >= position`; for tools and tests.
    pub fn wait_durable(&self, position: Position) -> Result<(), AppendError> {
        self.broker.log.wait_durable(position)
    }
    /// Blocks until `synced() >= position`; in async mode the sync is made at once.
    pub fn wait_synced(&self, position: Position) -> Result<(), AppendError> {
        self.broker.log.wait_synced(position)
    }
    /// A number drawn at random when the folder was made, and kept with it: tells its positions from those of others.
    pub fn id(&self) -> u64 {
        self.broker.log.log_id()
    }
    /// Called by the writer thread once per commit, in async mode also once per sync; must be quick.
    pub fn on_durable(&self, listener: Box<dyn Fn(Durable) + Send + Sync>) {
        self.broker.log.on_durable(listener);
    }
    /// Bytes kept free for [`Space::Owed`]; the owner sets it as its live tickets come and go. What pending delayed
    /// messages will take is kept free besides.
    pub fn set_reserve(&self, bytes: u64) {
        self.broker.owner_reserve.store(bytes, Ordering::Relaxed);
        self.broker.size_reserve(&self.broker.delays.lock());
    }
    /// Whether new work would be accepted now, and if not, why: for a readiness probe.
    pub fn takes_new(&self) -> Result<(), AppendError> {
        self.room().map(drop)
    }
    /// Bytes of records that appends of [`Space::New`] would be accepted with now, if nobody else appends: for an owner
    /// that must know before it decides on several. Or why none would be.
    pub fn room(&self) -> Result<u64, AppendError> {
        if self.broker.index_full.load(Ordering::Relaxed) {
            return Err(AppendError::NoSpace);
        }
        self.broker.log.room()
    }
    /// All durable messages from `from` on (a record's position, or the end of one, or [`Queue::start`]), in log
    /// order, delayed ones at the place where they were appended. After an `Err` it ends: what came before is then
    /// not all there is. Of what is deleted it answers [`ReadError::Removed`]; a scan that is ahead of a deletion
    /// goes on.
    pub fn scan(&self, from: Position) -> impl Iterator<Item = Result<Message, ReadError>> + '_ {
        self.broker.log.scan(from).filter_map(move |record| match record {
            Ok(record) => match record.view().kind {
                // It was told of where it stood first.
                RecordKind::Delayed if carry::origin(&record.view()).is_some() => None,
                RecordKind::Message | RecordKind::Delayed => Some(Ok(Message::from_record(&record))),
                RecordKind::Control | RecordKind::Half => None,
            },
            Err(error) => Some(Err(error)),
        })
    }
    /// Leases up to `max` messages, or registers `cx` and is pending. Cancel safe: a pending call holds nothing
    /// but `slot`, which deregisters when dropped.
    pub fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        slot: &mut Option<WaitSlot>,
        request: &ReceiveRequest<'_>,
    ) -> Poll<Result<Vec<Delivery>, ReceiveError>> {
        self.broker.poll_receive(cx, slot, request)
    }
    /// Settles messages for good.
    pub fn ack(&self, topic: &str, group: &str, receipts: &[Receipt]) -> Vec<Result<(), ReceiptError>> {
        self.broker.ack(topic, group, receipts)
    }
    /// Settles messages that the owner found must not be delivered; counted as skipped.
    pub fn discard(&self, topic: &str, group: &str, receipts: &[Receipt]) -> Vec<Result<(), ReceiptError>> {
        self.broker.discard(topic, group, receipts)
    }
    /// Gives leases back: redelivered after `delay_ms`, or after the group's back-off.
    pub fn nack(
        &self,
        topic: &str,
        group: &str,
        receipts: &[Receipt],
        delay_ms: Option<u64>,
    ) -> Vec<Result<(), ReceiptError>> {
        self.broker.nack(topic, group, receipts, delay_ms)
    }
    /// Puts messages back that the owner has leased and that nobody has seen: redelivered after `delay_ms`, and the
    /// attempt does not count, however often that is done. Their deadlines hold. A receipt whose lease is over has
    /// cost its attempt, and is answered [`ReceiptError::Expired`].
    pub fn put_back(
        &self,
        topic: &str,
        group: &str,
        receipts: &[Receipt],
        delay_ms: u64,
    ) -> Vec<Result<(), ReceiptError>> {
        self.broker.put_back(topic, group, receipts, delay_ms)
    }
    /// Prolongs leases from now; answers new receipts, the old ones are void.
    pub fn extend(
        &self,
        topic: &str,
        group: &str,
        receipts: &[Receipt],
        lease_ms: u64,
    ) -> Vec<Result<Receipt, ReceiptError>> {
        self.broker.extend(topic, group, receipts, lease_ms)
    }
    /// Creates or changes a topic; the number of queues only grows.
    pub fn put_topic(&self, topic: &str, queues: u32) -> Result<(), AppendError> {
        self.broker.put_topic(topic, queues)
    }
    /// How many queues the topic has; `None` when there is no such topic.
    pub fn queues_of(&self, topic: &str) -> Option<u32> {
        Some(self.broker.topics.get(topic)?.queue_count())
    }
    /// Creates a group, or changes its attempts and delays.
    pub fn put_group(
        &self,
        topic: &str,
        group: &str,
        start: StartFrom,
        attempts_max: Option<u32>,
        retry_delays_ms: Option<Vec<u64>>,
    ) -> Result<(), ReceiveError> {
        self.broker.put_group(topic, group, start, attempts_max, retry_delays_ms)?;
        self.broker.store_catalog_for_receiver()
    }
    /// Makes a group ordered, or not: of each ordering key (that of [`crate::QueueChoice::Ordered`], else a message's first
    /// look-up key) one message at a time is out, in the order of its queue, and the next when it is settled; other
    /// keys go on. Keys are ordered within a queue: send them with [`crate::QueueChoice::Ordered`]. What is out when this
    /// is called stays out.
    pub fn set_ordered(&self, topic: &str, group: &str, ordered: bool) -> Result<(), ReceiveError> {
        self.broker.set_ordered(topic, group, ordered)
    }
    /// Makes a broadcast, or changes it, for its consumers of now as well (their start excepted). Refused where a group has
    /// that name.
    pub fn put_broadcast(&self, topic: &str, name: &str, broadcast: Broadcast) -> Result<(), ReceiveError> {
        self.broker.put_broadcast(topic, name, broadcast)
    }
    /// What was put under this name; `None`: it is no broadcast.
    pub fn broadcast(&self, topic: &str, name: &str) -> Option<Broadcast> {
        self.broker.broadcast(topic, name)
    }
    /// One consumer of a broadcast: it sees every message of the topic, whatever others see, and goes on where it
    /// stopped when it comes back. Answers the group that it receives with, `BROADCAST%CONSUMER`. Blocks on the disk when
    /// the consumer is new. One that was idle for `group_expiry_ms` is forgotten when the next new one joins, and begins
    /// anew when it comes back; [`Queue::delete_group`] forgets it at once.
    pub fn join_broadcast(
        &self,
        topic: &str,
        broadcast: &str,
        consumer: &str,
        settings: Broadcast,
    ) -> Result<String, ReceiveError> {
        self.broker.join_broadcast(topic, broadcast, consumer, settings)
    }
    /// The groups of a broadcast's consumers.
    pub fn consumers(&self, topic: &str, broadcast: &str) -> Vec<String> {
        self.broker.consumers(topic, broadcast)
    }
    /// Forgets a group with all that it was owed, or a broadcast with its consumers; leases and reports are void. False when there was none. A
    /// receive of that name makes a new one.
    pub fn delete_group(&self, topic: &str, group: &str) -> Result<bool, ReceiveError> {
        self.broker.delete_group(topic, group)
    }
    /// Moves a group.
    pub fn reset_group(&self, topic: &str, group: &str, to: StartFrom) -> Result<(), ReceiveError> {
        self.broker.reset_group(topic, group, to)
    }
    /// Reports due now, at most `max`; the waker is woken when the next one may be due. There is one owner: a
    /// call replaces the waker of the call before. A report that is not settled is given again.
    pub fn take_reports(&self, max: usize, waker: Option<&Waker>) -> Vec<Report> {
        self.broker.take_reports(max, waker)
    }
    /// The owner has dealt with the report (its own records are appended, at the latest at `end()` now).
    pub fn settle(&self, report: &Report) {
        self.broker.settle(report);
    }
    /// Dead letters of a group, oldest first.
    pub fn dead_letters(&self, topic: &str, group: &str, max: usize) -> Vec<Message> {
        self.broker.dead_letters(topic, group, max)
    }
    /// Puts a dead letter back into the group with attempts from 1. False when it is none.
    pub fn redrive(&self, topic: &str, group: &str, id: Position) -> bool {
        self.broker.redrive(topic, group, id)
    }
    /// By message id. Of a delayed message that is the id that its producer was told, as long as the message is kept;
    /// where it stands by then is told by a delivery.
    pub fn find(&self, id: Position) -> Option<Message> {
        self.broker.find(id)
    }
    /// The newest messages of a topic with this look-up key, newest first, at most `max` and at most [`LOOK_UP_MAX`].
    /// Delayed and half messages are not among them before they come into their queue. Finds what may be
    /// received, up to [`Queue::keys_reach`]; when that is behind, it first reads on for a moment. Blocks on the disk.
    pub fn look_up_key(&self, topic: &str, key: &str, max: usize) -> Vec<Message> {
        self.broker.look_up_key(topic, key, max)
    }
    /// How far the key index is. Behind [`Queue::dispatched`] a look-up may miss messages: for moments after a start, and
    /// while the index is made anew because its files were lost or damaged, or cannot be written because the disk is full.
    pub fn keys_reach(&self) -> Position {
        self.broker.keys.reach()
    }
    /// Figures of all topics.
    pub fn stats(&self) -> Vec<TopicStats> {
        self.broker.stats()
    }
    /// One step of the timers at the clock's present time, for tests without the timer thread.
    pub fn tick(&self) {
        self.broker.tick();
    }
    /// Writes and syncs all that was accepted, checkpoints, stops the threads.
    pub fn close(&self) -> Result<(), AppendError> {
        let drained = self.wait_durable(self.end());
        self.threads.stop();
        // Written in any case: how long groups were idle.
        self.broker.acks_changed.store(true, Ordering::Release);
        if let (Ok(()), Err(error)) = (drained, self.broker.checkpoint(true)) {
            tracing::warn!(%error, "last acknowledgements are not checkpointed; their messages come again");
        }
        if let Err(error) = self.broker.snapshot() {
            tracing::warn!(%error, "no snapshot is made; the next start reads more of the log");
        }
        self.broker.log.close()
    }
    /// Blocks until everything below `position` may be received; for tools and tests.
    pub fn wait_dispatched(&self, position: Position) {
        let mut dispatched = self.broker.dispatched.lock();
        self.broker.dispatch_moved.wait_while(&mut dispatched, |at| *at < position);
    }
    /// Everything below may be received: index and timers know of it.
    pub fn dispatched(&self) -> Position {
        self.broker.dispatched()
    }
    /// How much of the log is kept, what holds it and since when, as was found when it was last looked.
    pub fn keeping(&self) -> Keeping {
        self.broker.keeping()
    }
    /// Deletes the segments that are older than `retention_ms` and that nothing holds; the queue does so by itself.
    /// Answers how many went. What an error leaves, a later call or the next start deletes. Blocks on the disk.
    pub fn delete_unheld(&self) -> Result<usize, CheckpointError> {
        self.broker.delete_unheld()
    }
    /// Makes a snapshot now, so that a start reads only what comes after it; the queue does so by itself after every
    /// `snapshot_every_bytes`. Blocks on the disk.
    pub fn snapshot(&self) -> Result<(), CheckpointError> {
        self.broker.snapshot()
    }
    /// Writes the acknowledgements to disk now, if they changed; the timer thread does so every `ack_sync_ms`.
    /// Blocks until the log is on disk as far as the acknowledgements rest on it.
    pub fn checkpoint(&self) -> Result<(), CheckpointError> {
        self.broker.checkpoint(false)
    }
    /// How many messages of its queue the group is still owed before the message with `key` that begins or ends at
    /// `near`. `None` when it is not in this queue, cannot be received yet, or the group is done with it. Bisects the part
    /// of the index that the group is not done with.
    pub fn ahead(&self, topic: &str, group: &str, queue: u32, near: Position, key: &str) -> Option<u64> {
        self.broker.ahead(topic, group, queue, near, key)
    }
    /// The figures of one group that are cheap enough for the request path; `None` when there is no such group.
    pub fn group_counts(&self, topic: &str, group: &str) -> Option<GroupCounts> {
        self.broker.group_counts(topic, group)
    }
    /// The figures of one group that may be read without its lock, kept from here on; `None` when there is no such group.
    pub fn watch_group(&self, topic: &str, group: &str) -> Option<Arc<GroupLoad>> {
        self.broker.topics.get(topic)?.group(group).map(|group| group.state.watch())
    }
    /// The offset that the next message of each queue gets: what is accepted, not only what is durable. `None` when
    /// there is no such topic.
    pub fn next_offsets(&self, topic: &str) -> Option<Vec<u64>> {
        let topic = self.broker.topics.get(topic)?;
        Some(self.broker.appender.lock().next_offsets(&topic))
    }
    /// The instant at which a message of this delay level is due when it is appended now, for
    /// [`NewMessage::deliver_at_ms`]. Levels begin at 1; see [`Policies::delay_levels_ms`].
    pub fn deliver_at_level(&self, level: u32) -> Result<u64, AppendError> {
        let delay_ms =
            (level as usize).checked_sub(1).and_then(|at| self.broker.policies.delay_levels_ms.get(at));
        let delay_ms = delay_ms.ok_or(AppendError::Invalid("no such delay level: they are 1 to 18"))?;
        Ok(self.broker.clock.now_ms().saturating_add(*delay_ms))
    }
    /// Delayed messages that are not due yet.
    pub fn delayed(&self) -> usize {
        self.broker.delays.lock().len()
    }
}
