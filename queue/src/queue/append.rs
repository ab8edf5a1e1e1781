//! Appending: every message gets the next dense offset of its queue, in the order of the log.

use super::broker::Broker;
use super::topic::{QUEUES_MAX, Topic};
use super::{AppendError, Appended, Place, Policies, Space};
use crate::index::ConsumeQueue;
use crate::log::{Positions, Record, RecordKind, RecordParts};
use crate::sync::atomic::Ordering;
use crate::{NewMessage, Position, QueueChoice, reserved};
use smallvec::SmallVec;
use std::sync::Arc;

/// Messages of one batch, at most.
pub(super) const BATCH_MAX: usize = 10_000;

/// Next offset of every queue. Its lock is held around the log's append, so offsets are dense and rise in
/// log order, and a refused append advances none.
#[derive(Default)]
pub(super) struct Appender {
    /// By number of the topic.
    tails: Vec<Tail>,
    positions: Positions,
}

#[derive(Default)]
struct Tail {
    next: Vec<u64>,
    turn: u32,
}

impl Appender {
    pub(super) fn set_tails(&mut self, topic: &Topic, queues: &[Arc<ConsumeQueue>]) {
        let tail = self.tail(topic);
        tail.next = queues.iter().map(|queue| queue.end()).collect();
    }

    /// Next offsets of the topic's queues: what is accepted, not only what is durable.
    pub(super) fn next_offsets(&mut self, topic: &Topic) -> Vec<u64> {
        self.tail(topic).next.clone()
    }

    fn tail(&mut self, topic: &Topic) -> &mut Tail {
        let id = topic.id as usize;
        if self.tails.len() <= id {
            self.tails.resize_with(id + 1, Tail::default);
        }
        let tail = &mut self.tails[id];
        let queues = topic.queue_count() as usize;
        if tail.next.len() < queues {
            tail.next.resize(queues, 0);
        }
        tail
    }

    pub(super) fn choose(&mut self, topic: &Topic, choice: QueueChoice<'_>) -> Result<u32, AppendError> {
        let tail = self.tail(topic);
        let queues = tail.next.len() as u32;
        match choice {
            QueueChoice::RoundRobin => {
                tail.turn = (tail.turn + 1) % queues;
                Ok(tail.turn)
            }
            QueueChoice::Key(key) | QueueChoice::Ordered(key) => Ok(super::queue_of_key(key, queues)),
            QueueChoice::Explicit(queue) if queue < queues => Ok(queue),
            QueueChoice::Explicit(_) => Err(AppendError::Invalid("the topic has no such queue")),
        }
    }

    fn take_offset(&mut self, topic: u32, queue: u32) -> u64 {
        let next = &mut self.tails[topic as usize].next[queue as usize];
        *next += 1;
        *next - 1
    }

    fn give_offset_back(&mut self, topic: u32, queue: u32) {
        self.tails[topic as usize].next[queue as usize] -= 1;
    }
}

/// Which record is copied, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copied {
    /// A delayed message that is due, by its id: into its queue.
    Due(Position),
    /// A half message that is committed: into its queue, or to wait for its time.
    Half,
    /// A delayed message, by its id: to the end of the log, where it goes on waiting.
    Carried(Position),
}

/// What a message must not bring.
pub(super) fn check(message: &NewMessage<'_>, now_ms: u64) -> Result<(), AppendError> {
    if message.deliver_at_ms.is_some_and(|at_ms| at_ms > now_ms + Policies::DELAY_MAX_MS) {
        return Err(AppendError::Invalid("`deliver_at_ms` lies more than 40 days ahead"));
    }
    if message.properties.iter().any(|(name, _)| reserved::is_reserved(name)) {
        return Err(AppendError::Invalid("property names that begin with `tidegate.` are the queue's own"));
    }
    Ok(())
}

/// Names and values.
type Properties<'a> = SmallVec<[(&'a str, &'a str); 4]>;

impl Broker {
    pub(super) fn append(&self, batch: &[NewMessage<'_>], space: Space) -> Result<Appended, AppendError> {
        self.append_locked(&mut self.appender.lock(), batch, space, None, None)
    }

    /// `mark`: a property of the queue's own for the first record. `places` gets one for each message.
    pub(super) fn append_locked(
        &self,
        appender: &mut Appender,
        batch: &[NewMessage<'_>],
        space: Space,
        mark: Option<(&str, &str)>,
        places: Option<&mut Vec<Place>>,
    ) -> Result<Appended, AppendError> {
        if batch.is_empty() || batch.len() > BATCH_MAX {
            return Err(AppendError::Invalid("a batch is 1 to 10000 messages"));
        }
        if space == Space::New && self.index_full.load(Ordering::Relaxed) {
            return Err(AppendError::NoSpace);
        }
        let born_at_ms = self.clock.now_ms();
        batch.iter().try_for_each(|message| check(message, born_at_ms))?;
        let waits = |message: &NewMessage<'_>| message.deliver_at_ms.is_some_and(|at_ms| at_ms > born_at_ms);
        let delayed = batch.iter().filter(|message| waits(message)).count();
        if delayed > 0 && space == Space::New {
            self.check_delayed(delayed)?;
        }
        // Of the few messages that the queue adds properties to.
        let mut marked: SmallVec<[Properties<'_>; 1]> = SmallVec::new();
        for (index, message) in batch.iter().enumerate() {
            let own: SmallVec<[(&str, &str); 2]> =
                mark.filter(|_| index == 0).into_iter().chain(super::order::property_of(message)).collect();
            if !own.is_empty() {
                marked.resize_with(index, SmallVec::new);
                marked.push(own.iter().chain(message.properties).copied().collect());
            }
        }
        let mut records: SmallVec<[RecordParts<'_>; 4]> = SmallVec::new();
        let mut taken: SmallVec<[(u32, u32); 4]> = SmallVec::new();
        let accepted = batch
            .iter()
            .try_for_each(|message| {
                let topic = self.topic_or_create(message.topic)?;
                let queue = appender.choose(&topic, message.queue)?;
                let (kind, queue_offset) = if waits(message) {
                    (RecordKind::Delayed, 0)
                } else {
                    taken.push((topic.id, queue));
                    (RecordKind::Message, appender.take_offset(topic.id, queue))
                };
                records.push(RecordParts {
                    kind,
                    topic: message.topic,
                    queue,
                    queue_offset,
                    tag: message.tag,
                    keys: message.keys,
                    properties: match marked.get(records.len()) {
                        Some(marked) if !marked.is_empty() => marked,
                        _ => message.properties,
                    },
                    born_at_ms,
                    deliver_at_ms: message.deliver_at_ms,
                    deadline_ms: message.deadline_ms,
                    origin: None,
                    body: message.body,
                });
                Ok(())
            })
            .and_then(|()| self.append_counted(appender, space, &records, delayed));
        match accepted {
            Ok((first, end)) => {
                if let Some(places) = places {
                    let each = appender.positions.iter().zip(&records);
                    places.extend(each.map(|(&id, record)| Place {
                        id,
                        queue: record.queue,
                        offset: record.queue_offset,
                    }));
                }
                let delayed = records[0].kind == RecordKind::Delayed;
                let (queue, offset) =
                    if delayed { (0, 0) } else { (records[0].queue, records[0].queue_offset) };
                Ok(Appended { first, end, queue, offset })
            }
            Err(error) => {
                taken.iter().for_each(|&(topic, queue)| appender.give_offset_back(topic, queue));
                Err(error)
            }
        }
    }

    /// Is there room for so many more delayed messages?
    pub(super) fn check_delayed(&self, more: usize) -> Result<(), AppendError> {
        let held = {
            let delays = self.delays.lock();
            delays.held() + self.delays_coming.load(Ordering::Relaxed)
        };
        if held + more > self.policies.delayed_max { Err(AppendError::TooManyDelayed) } else { Ok(()) }
    }

    /// Appends records with so many new delayed ones among them.
    fn append_counted(
        &self,
        appender: &mut Appender,
        space: Space,
        records: &[RecordParts<'_>],
        delayed: usize,
    ) -> Result<(Position, Position), AppendError> {
        // Before they are accepted: the dispatcher counts them off when it has seen them.
        self.delays_coming.fetch_add(delayed, Ordering::Relaxed);
        appender.append(&self.log, space, records).inspect_err(|_| {
            self.delays_coming.fetch_sub(delayed, Ordering::Relaxed);
        })
    }

    /// Appends the message of a delayed or half record again: see [`Copied`].
    pub(super) fn append_copy(
        &self,
        appender: &mut Appender,
        original: &Record,
        copied: Copied,
    ) -> Result<Appended, AppendError> {
        let view = original.view();
        let keys: SmallVec<[&str; 4]> = view.keys().collect();
        let mut properties: SmallVec<[(&str, &str); 4]> = SmallVec::new();
        if let Copied::Carried(_) = copied {
            properties.push((reserved::CARRIED, ""));
        }
        properties.extend(view.properties().filter(|(name, _)| reserved::is_copied(name)));
        let topic = self.topic_or_create(view.topic)?;
        let queue = appender.choose(&topic, QueueChoice::Explicit(view.queue))?;
        let born_at_ms = self.clock.now_ms();
        let (waits, origin, space) = match copied {
            Copied::Due(id) => (false, id, Space::Owed),
            Copied::Half => {
                (view.deliver_at_ms.is_some_and(|at_ms| at_ms > born_at_ms), view.position, Space::Owed)
            }
            // It saves space later. What is owed now must not lack it.
            Copied::Carried(id) => (true, id, Space::New),
        };
        let (kind, queue_offset) = if waits {
            (RecordKind::Delayed, 0)
        } else {
            (RecordKind::Message, appender.take_offset(topic.id, queue))
        };
        let record = RecordParts {
            kind,
            topic: view.topic,
            queue,
            queue_offset,
            tag: view.tag,
            keys: &keys,
            properties: &properties,
            born_at_ms,
            deliver_at_ms: view.deliver_at_ms,
            deadline_ms: view.deadline_ms,
            origin: Some(origin),
            body: view.body,
        };
        let new_delayed = usize::from(waits && copied == Copied::Half);
        match self.append_counted(appender, space, &[record], new_delayed) {
            Ok((first, end)) => {
                let (queue, offset) = if waits { (0, 0) } else { (queue, queue_offset) };
                Ok(Appended { first, end, queue, offset })
            }
            Err(error) => {
                if !waits {
                    appender.give_offset_back(topic.id, queue);
                }
                Err(error)
            }
        }
    }

    pub(super) fn put_topic(&self, name: &str, queues: u32) -> Result<(), AppendError> {
        if queues == 0 || queues > QUEUES_MAX {
            return Err(AppendError::Invalid("a topic has 1 to 1024 queues"));
        }
        let changed = {
            // Under the appender's lock: a message must not meet a queue that its tail does not know.
            let _appender = self.appender.lock();
            self.topics.put(name, queues).map_err(AppendError::Invalid)?.1
        };
        if changed {
            self.catalog_changed();
        }
        // Also when nothing changed: an earlier call may have grown the topic and failed to write it.
        self.store_catalog().map_err(|_| AppendError::NoSpace)
    }

    /// The topic, created on first use. It needs no sync of its own: a durable message brings its topic back.
    pub(super) fn topic_or_create(&self, name: &str) -> Result<Arc<Topic>, AppendError> {
        if let Some(topic) = self.topics.get(name) {
            return Ok(topic);
        }
        let (topic, created) =
            self.topics.put(name, self.options.topic_queues).map_err(AppendError::Invalid)?;
        if created {
            self.catalog_changed();
        }
        Ok(topic)
    }
}

impl Appender {
    pub(super) fn append(
        &mut self,
        log: &crate::log::CommitLog,
        space: Space,
        records: &[RecordParts<'_>],
    ) -> Result<(Position, Position), AppendError> {
        let range = log.append(space, records, &mut self.positions)?;
        Ok((range.start, range.end))
    }
}
