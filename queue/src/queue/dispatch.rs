//! The dispatcher: reads what became durable, in log order, and tells index, timers and waiting receivers.
//! Recovery is the same code, started at the beginning of the log. (RocketMQ calls it reput.)

use super::broker::Broker;
use super::topic::Topic;
use crate::Position;
use crate::index::{ConsumeQueue, ENTRY_BYTES, Entry, tag_hash};
use crate::log::{ReadError, RecordKind, RecordView};
use crate::sync::atomic::Ordering;
use crate::timer::{Delays, Expiring, Pending};
use crate::{keys, transaction};
use hashbrown::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Records of one step; the index is written and receivers are woken once for all of them.
const STEP_RECORDS: usize = 4_096;

/// Where the dispatcher stands, and what it has read and not yet written.
pub(super) struct Dispatcher {
    at: Position,
    /// The index may hold entries from before: compare, and write only what differs.
    compare: bool,
    runs: HashMap<(u32, u32), Run, foldhash::fast::RandomState>,
    expiring: Vec<Expiring>,
    delayed: Vec<(u64, Position, u32)>,
    /// How many of them are new, and counted as coming.
    came: usize,
    carried: Vec<Pending>,
    keys: Vec<keys::Entry>,
    key_buffer: Vec<u8>,
    delivered: Vec<Position>,
    /// Of half messages, in log order.
    halves: Vec<transaction::Event>,
    last_topic: Option<Arc<Topic>>,
    /// Queues whose index has no space ahead.
    cramped: Vec<Arc<ConsumeQueue>>,
}

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum DispatchError {
    /// The log is damaged below what is durable; the next start says where, and nothing is delivered past it.
    #[error("the log cannot be read: {0}")]
    Log(#[from] ReadError),
    /// The index of some queue cannot be written. All else is done; the next step tries it again.
    #[error("the index cannot be written: {0}")]
    Index(#[from] io::Error),
}

impl From<DispatchError> for io::Error {
    fn from(error: DispatchError) -> Self {
        match error {
            DispatchError::Log(error) => Self::new(io::ErrorKind::InvalidData, error),
            DispatchError::Index(error) => error,
        }
    }
}

/// New entries of one queue.
struct Run {
    topic: Arc<Topic>,
    queue: Arc<ConsumeQueue>,
    from: u64,
    entries: Vec<u8>,
}

impl Run {
    fn end(&self) -> u64 {
        self.from + (self.entries.len() / ENTRY_BYTES) as u64
    }
}

impl Dispatcher {
    pub(super) fn new(at: Position, compare: bool) -> Self {
        Self {
            at,
            compare,
            runs: HashMap::default(),
            expiring: Vec::new(),
            delayed: Vec::new(),
            came: 0,
            carried: Vec::new(),
            keys: Vec::new(),
            key_buffer: Vec::new(),
            delivered: Vec::new(),
            halves: Vec::new(),
            last_topic: None,
            cramped: Vec::new(),
        }
    }

    pub(super) fn recovered(&mut self) {
        self.compare = false;
    }

    /// Forgets a step that was not read to its end.
    fn forget(&mut self) {
        self.runs.clear();
        self.expiring.clear();
        self.delayed.clear();
        self.carried.clear();
        self.keys.clear();
        self.delivered.clear();
        self.halves.clear();
    }

    fn see(&mut self, broker: &Broker, record: &RecordView<'_>) {
        self.halves.extend(super::transaction::event(record, &broker.policies));
        // While running they are noted when they are accepted.
        if self.compare
            && let Some((id, sequence, appended)) = super::produce::numbered(record)
        {
            broker.producers.lock().note(id, sequence, appended, record.born_at_ms);
        }
        broker.keys.see(record, &mut self.keys, &mut self.key_buffer);
        match record.kind {
            RecordKind::Message => self.see_message(broker, record),
            RecordKind::Delayed => self.see_delayed(broker, record),
            // Its queue must be there when it is committed.
            RecordKind::Half => drop(self.topic(broker, record)),
            RecordKind::Control => {}
        }
    }

    fn see_delayed(&mut self, broker: &Broker, record: &RecordView<'_>) {
        let carried = super::carry::origin(record);
        self.came += usize::from(carried.is_none());
        let Some(at_ms) = record.deliver_at_ms.filter(|_| self.topic(broker, record).is_some()) else {
            return;
        };
        let (position, bytes) = (record.position, record.encoded_len() as u32);
        match carried {
            Some(id) => self.carried.push(Pending { at_ms, id, position, bytes }),
            None => self.delayed.push((at_ms, position, bytes)),
        }
    }

    fn see_message(&mut self, broker: &Broker, record: &RecordView<'_>) {
        let Some(topic) = self.topic(broker, record) else { return };
        let Some(queue) = topic.queue(record.queue) else { return };
        let run = self.runs.entry((topic.id, record.queue)).or_insert_with(|| {
            if queue.end() == 0 && record.queue_offset > 0 {
                // What was before is no longer kept.
                queue.begin_at(record.queue_offset);
            }
            Run { topic: Arc::clone(&topic), from: queue.end(), queue, entries: Vec::new() }
        });
        if let Some(deadline_ms) = record.deadline_ms {
            let (queue, offset) = (record.queue, record.queue_offset);
            run.queue.note_deadline(offset);
            self.expiring.push(Expiring { deadline_ms, topic: topic.id, queue, offset });
        }
        if let (Some(_), Some(origin)) = (record.deliver_at_ms, record.origin) {
            self.delivered.push(origin);
        }
        // A snapshot's index may be a little ahead of it.
        if record.queue_offset < run.end() {
            return;
        }
        while run.end() < record.queue_offset {
            run.entries.extend_from_slice(&Entry::LOST.encode());
        }
        let size = record.encoded_len() as u32;
        let entry = Entry { position: record.position, size, tag_hash: tag_hash(record.tag) };
        run.entries.extend_from_slice(&entry.encode());
    }

    /// The record's topic, with its queue. A record of a topic that the catalog does not know brings it back.
    fn topic(&mut self, broker: &Broker, record: &RecordView<'_>) -> Option<Arc<Topic>> {
        if let Some(topic) = &self.last_topic
            && *topic.name == *record.topic
            && record.queue < topic.queue_count()
        {
            return Some(Arc::clone(topic));
        }
        let queues = match broker.topics.get(record.topic) {
            Some(_) => record.queue + 1,
            None => broker.options.topic_queues.max(record.queue + 1),
        };
        match broker.topics.put(record.topic, queues) {
            Ok((topic, changed)) => {
                if changed {
                    broker.catalog_changed();
                }
                self.last_topic = Some(Arc::clone(&topic));
                Some(topic)
            }
            Err(what) => {
                tracing::error!(position = %record.position, topic = record.topic, what, "record is not dispatched");
                None
            }
        }
    }
}

impl Broker {
    /// One step: true when more is durable than was read.
    pub(super) fn dispatch(&self, dispatcher: &mut Dispatcher) -> Result<bool, DispatchError> {
        let mut records = 0;
        let visited = self.log.visit(dispatcher.at, &mut |record| {
            dispatcher.see(self, &record);
            records += 1;
            if records < STEP_RECORDS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let from = dispatcher.at;
        dispatcher.at = visited.inspect_err(|_| dispatcher.forget())?;
        if self.keys.take(from, dispatcher.at, &dispatcher.keys) {
            self.bells.keys.ring();
        }
        dispatcher.keys.clear();
        let compare = dispatcher.compare;
        let mut failed = None;
        // A run that cannot be written stays, and grows by what is owed only: the others go on without it.
        let done = dispatcher.runs.extract_if(|_, run| {
            run.queue.write(run.from, &run.entries, compare).map_err(|error| failed = Some(error)).is_ok()
        });
        let written: Vec<Run> = done.map(|(_, run)| run).collect();
        self.publish_timers(dispatcher);
        publish(&written);
        if !compare {
            self.make_room(dispatcher, &written, failed.is_some());
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        *self.dispatched.lock() = dispatcher.at;
        self.dispatch_moved.notify_all();
        if dispatcher.at.0 >= self.next_snapshot.load(Ordering::Relaxed) && !compare {
            self.bells.keeper.ring();
        }
        Ok(records == STEP_RECORDS)
    }

    /// Refuses new messages while the index has not the space for more of them.
    fn make_room(&self, dispatcher: &mut Dispatcher, written: &[Run], failed: bool) {
        let cramped = &mut dispatcher.cramped;
        for Run { queue, .. } in written {
            if !cramped.iter().any(|present| Arc::ptr_eq(present, queue)) {
                cramped.push(Arc::clone(queue));
            }
        }
        cramped.retain(|queue| !queue.make_room());
        let full = failed || !cramped.is_empty();
        if self.index_full.swap(full, Ordering::Relaxed) != full {
            let what = if full { "has no space ahead: new messages are refused" } else { "has space again" };
            tracing::warn!("the index {what}");
        }
    }

    /// Tells the log what to keep free.
    pub(super) fn size_reserve(&self, delays: &Delays) {
        self.log.set_reserve(
            self.owner_reserve
                .load(Ordering::Relaxed)
                .saturating_add(delays.bytes())
                .saturating_add(self.half_bytes.load(Ordering::Relaxed)),
        );
    }

    fn publish_timers(&self, dispatcher: &mut Dispatcher) {
        if !dispatcher.halves.is_empty() {
            dispatcher.halves.drain(..).for_each(|event| self.half_event(event));
            let next = self.halves.lock().next_due_ms();
            self.plan(next.unwrap_or(u64::MAX));
        }
        let came = std::mem::take(&mut dispatcher.came);
        let moved = !dispatcher.carried.is_empty() || !dispatcher.delivered.is_empty();
        if came > 0 || moved {
            let mut delays = self.delays.lock();
            // In this order: within a step a message can be carried only after it was delayed, and delivered only
            // after both.
            let delayed = dispatcher.delayed.drain(..);
            delayed.for_each(|(at_ms, position, bytes)| delays.add(at_ms, position, bytes));
            dispatcher.carried.drain(..).for_each(|carried| delays.carried(carried));
            // A recovery finds what was not counted.
            if !dispatcher.compare {
                self.delays_coming.fetch_sub(came, Ordering::Relaxed);
            }
            dispatcher.delivered.drain(..).for_each(|origin| delays.delivered(origin));
            self.size_reserve(&delays);
            let next = delays.next_due_ms();
            drop(delays);
            self.plan(next.unwrap_or(u64::MAX));
        }
        if !dispatcher.expiring.is_empty() {
            let (next, all) = {
                let mut deadlines = self.deadlines.lock();
                // A report needs the index: those of a run that is not written wait for it.
                let runs = &dispatcher.runs;
                let indexed = |expiring: &mut Expiring| !runs.contains_key(&(expiring.topic, expiring.queue));
                dispatcher.expiring.extract_if(.., indexed).for_each(|expiring| deadlines.push(expiring));
                (deadlines.next_due_ms(), deadlines.take_for_compaction())
            };
            if let Some(all) = all {
                self.compact_deadlines(all);
            }
            self.plan(next.unwrap_or(u64::MAX));
        }
    }
}

/// Lets receivers see what was written, and wakes them.
fn publish(written: &[Run]) {
    let mut by_topic: HashMap<u32, (Arc<Topic>, u64), foldhash::fast::RandomState> = HashMap::default();
    for run in written {
        run.queue.publish(run.end());
        let new = run.end() - run.from;
        run.topic.appended.fetch_add(new, Ordering::Relaxed);
        by_topic.entry(run.topic.id).or_insert_with(|| (Arc::clone(&run.topic), 0)).1 += new;
    }
    for (topic, new) in by_topic.values() {
        for group in topic.groups() {
            group.wake(*new);
        }
    }
}
