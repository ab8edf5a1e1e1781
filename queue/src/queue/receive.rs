//! Receiving: leases due and new messages, fairly over the queues of the topic, or waits for some.

use super::broker::{Broker, CatchUp};
use super::topic::Topic;
use super::{Delivery, RECEIVE_MAX, ReceiveError, ReceiveRequest};
use crate::group::progress::{Fate, NO_DEADLINE, Progress};
use crate::group::receipt::LeaseId;
use crate::group::{Group, GroupState, WaitSlot};
use crate::index::{ConsumeQueue, Entry, READ_MAX, tag_hash};
use crate::log::Record;
use crate::{Message, StartFrom};
use smallvec::SmallVec;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Offsets that one receive looks at, at most; a run of messages to skip must not hold the group's lock.
const LOOK_MAX: usize = 4_096;
/// A record that cannot be read is tried again after this time.
const UNREADABLE_RETRY_MS: u64 = 1_000;

/// Which tags a group wants.
struct Filter<'a>(SmallVec<[(u64, &'a str); 4]>);

impl<'a> Filter<'a> {
    fn new(tags: &'a [String]) -> Self {
        let each = || tags.iter().flat_map(|tags| tags.split("||")).map(str::trim);
        if each().any(|tag| tag == "*") {
            return Self(SmallVec::new());
        }
        Self(each().map(|tag| (tag_hash(tag), tag)).collect())
    }

    fn may_match(&self, hash: u64) -> bool {
        self.0.is_empty() || self.0.iter().any(|&(wanted, _)| wanted == hash)
    }

    fn matches(&self, tag: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|&(_, wanted)| wanted == tag)
    }
}

/// One receive at work, under the group's lock.
struct Receiving<'a> {
    broker: &'a Broker,
    group: &'a Group,
    state: &'a mut GroupState,
    filter: Filter<'a>,
    lease_ms: u64,
    max: usize,
    now_ms: u64,
    looks: usize,
    found: Vec<Delivery>,
    /// When the first of the new leases ends.
    first_end_ms: u64,
    reported: bool,
    /// Leases and waits that were ended here.
    promoted: usize,
}

impl Broker {
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        slot: &mut Option<WaitSlot>,
        request: &ReceiveRequest<'_>,
    ) -> Poll<Result<Vec<Delivery>, ReceiveError>> {
        if request.max == 0 || request.lease_ms == 0 {
            return Poll::Ready(Err(ReceiveError::Invalid("max and lease must be at least 1")));
        }
        let (topic, group) = match self.group_or_create(request.topic, request.group) {
            Ok(both) => both,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if slot.as_ref().is_some_and(|slot| !slot.waits_for(&group)) {
            *slot = None;
        }
        let queues = topic.queues();
        let mut state = group.state.lock();
        state.active_ms = self.clock.now_ms();
        let mut receiving = Receiving {
            broker: self,
            group: &group,
            state: &mut state,
            filter: Filter::new(request.tags),
            lease_ms: request.lease_ms,
            max: request.max.min(RECEIVE_MAX),
            now_ms: self.clock.now_ms(),
            looks: 0,
            found: Vec::new(),
            first_end_ms: u64::MAX,
            reported: false,
            promoted: 0,
        };
        receiving.fill(&queues);
        let (first_end_ms, reported, looks) = (receiving.first_end_ms, receiving.reported, receiving.looks);
        let surplus = receiving.surplus();
        let found = receiving.into_found();
        let id = slot.as_ref().map(WaitSlot::id);
        let place = if found.is_empty() {
            // Under the lock that the dispatcher takes after publishing: either its message was seen above,
            // or it sees this waiter.
            Some(state.waiters.register(id, cx.waker()))
        } else {
            state.delivered += found.len() as u64;
            if let Some(id) = id {
                state.waiters.leave(id);
            }
            None
        };
        let others = state.waiters.wake(surplus);
        drop(state);

        others.into_iter().for_each(Waker::wake);
        if reported {
            self.wake_reporter();
        }
        if looks > 0 {
            self.acks_changed();
        }
        self.plan(first_end_ms);
        match place {
            None => {
                *slot = None;
                Poll::Ready(Ok(found))
            }
            Some(Err(_)) => Poll::Ready(Err(ReceiveError::Busy)),
            Some(Ok(id)) => {
                if slot.is_none() {
                    *slot = Some(WaitSlot::new(group, id));
                }
                if looks >= LOOK_MAX {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }

    /// Topic and group; both are created on first use, the group reading from first.
    pub(super) fn group_or_create(
        &self,
        topic: &str,
        group: &str,
    ) -> Result<(Arc<Topic>, Arc<Group>), ReceiveError> {
        if let Some(topic) = self.topics.get(topic)
            && let Some(group) = topic.group(group)
        {
            return Ok((topic, group));
        }
        self.put_group(topic, group, StartFrom::First, None, None)
    }

    /// Tells a group that is new to them of the deadlines of the messages it has to see.
    pub(super) fn catch_up(&self, topic: &Topic, group: &Arc<Group>, starts: &[u64]) {
        let mut catch_ups = self.catch_ups.lock();
        for (number, queue) in topic.queues().iter().enumerate() {
            let next = starts.get(number).copied().unwrap_or(0).max(queue.oldest());
            let (end, queue) = (queue.end(), number as u32);
            if next < end {
                let group = Some(Arc::clone(group));
                catch_ups.push_back(CatchUp { topic: topic.id, group, queue, next, end });
            }
        }
        if !catch_ups.is_empty() {
            self.plan(0);
        }
    }
}

impl Receiving<'_> {
    fn into_found(self) -> Vec<Delivery> {
        self.found
    }

    /// Takes a fair share of every queue first, then fills up, beginning with another queue each time.
    fn fill(&mut self, queues: &[Arc<ConsumeQueue>]) {
        self.state.grow(queues.len());
        for (progress, queue) in self.state.queues.iter_mut().zip(queues) {
            // It was made, or moved, while messages were deleted that it would begin with.
            progress.raise(queue.oldest());
        }
        if self.state.config.ordered {
            self.broker.find_order(self.state, queues);
        }
        let attempts_max = self.broker.attempts_max(self.state);
        for progress in &mut self.state.queues {
            let promoted = progress.promote(self.now_ms, attempts_max, LOOK_MAX);
            self.reported |= promoted.reports > 0;
            self.promoted += promoted.ready;
        }
        let first = self.state.first_queue % queues.len();
        self.state.first_queue = first + 1;
        for share in [(self.max / queues.len()).max(1), self.max] {
            for number in (first..queues.len()).chain(0..first) {
                let until = (self.found.len() + share).min(self.max);
                self.take_retries(number, &queues[number], until);
                self.take_new(number, &queues[number], until);
                if self.found.len() >= self.max {
                    self.promoted += self.state.take_released();
                    return;
                }
            }
        }
        self.promoted += self.state.take_released();
    }

    /// Messages that came back here and were not taken: the timers will not find them any more, so it is now
    /// that others are woken for them.
    fn surplus(&self) -> u64 {
        if self.promoted == 0 {
            return 0;
        }
        let ready: usize = self.state.queues.iter().map(Progress::ready).sum();
        ready.min(self.promoted) as u64
    }

    fn take_retries(&mut self, number: usize, queue: &ConsumeQueue, until: usize) {
        while self.found.len() < until && self.looks < LOOK_MAX {
            let Some(offset) = self.state.queues[number].peek_ready() else { return };
            match queue.entry(offset) {
                Ok(Some(entry)) => self.look(number, offset, entry),
                Ok(None) => self.look(number, offset, Entry::LOST),
                Err(error) => return self.index_failed(&error),
            }
        }
    }

    fn take_new(&mut self, number: usize, queue: &ConsumeQueue, until: usize) {
        let end = queue.end();
        while self.found.len() < until && self.looks < LOOK_MAX {
            let Some(from) = self.state.queues[number].peek_new(end) else { return };
            // Messages that are skipped, or dropped before, make a longer look ahead worth its while.
            let ahead = (until - self.found.len()).clamp(4, READ_MAX);
            let entries = match queue.read(from, ahead) {
                Ok(entries) if entries.is_empty() => return,
                Ok(entries) => entries,
                Err(error) => return self.index_failed(&error),
            };
            for (offset, entry) in (from..).zip(entries) {
                if self.found.len() >= until {
                    return;
                }
                if self.state.queues[number].peek_new(end) != Some(offset) {
                    continue;
                }
                if !self.state.queues[number].has_room() {
                    self.state.starved = true;
                    return;
                }
                self.look(number, offset, entry);
            }
        }
    }

    /// Leases the message, unless it is late, unwanted or unreadable. In any case its offset is dealt with.
    fn look(&mut self, number: usize, offset: u64, entry: Entry) {
        self.looks += 1;
        if entry.size == 0 || !self.filter.may_match(entry.tag_hash) {
            return self.state.queues[number].settle(offset, Fate::Skipped);
        }
        let record = match self.broker.log.read(entry.position) {
            Ok(record) => record,
            Err(error) => return self.unreadable(number, offset, &error),
        };
        if !self.filter.matches(record.view().tag) {
            return self.state.queues[number].settle(offset, Fate::Skipped);
        }
        let deadline_ms = record.view().deadline_ms.unwrap_or(NO_DEADLINE);
        let ignore_deadline = crate::defects::active("late-delivery");
        if self.now_ms >= deadline_ms && !ignore_deadline {
            self.reported |= self.state.queues[number].drop_late(offset);
            return;
        }
        if self.state.config.ordered
            && let Some(key) = super::order::key_of(&record.view())
            && !self.state.queues[number].may_go(offset, key, deadline_ms)
        {
            return;
        }
        let lease_end_ms = self.now_ms.saturating_add(self.lease_ms);
        let until_ms = if ignore_deadline { lease_end_ms } else { lease_end_ms.min(deadline_ms) };
        self.lease(number, offset, until_ms, deadline_ms, &record);
    }

    fn lease(&mut self, number: usize, offset: u64, until_ms: u64, deadline_ms: u64, record: &Record) {
        let lease_number = self.state.next_lease_number();
        let attempt = self.state.queues[number].lease(offset, lease_number, until_ms, deadline_ms);
        self.first_end_ms = self.first_end_ms.min(until_ms);
        let id = LeaseId {
            boot_epoch: self.broker.log.recovered().boot_epoch,
            group: self.group.hash,
            queue: number as u32,
            offset,
            number: lease_number,
        };
        self.found.push(Delivery {
            receipt: id.to_receipt(),
            attempt,
            message: Message::from_record(record),
        });
    }

    fn unreadable(&mut self, number: usize, offset: u64, error: &crate::log::ReadError) {
        tracing::error!(topic = %self.group.topic, queue = number, offset, %error, "message cannot be read");
        let lease_number = self.state.next_lease_number();
        let at_ms = self.now_ms + UNREADABLE_RETRY_MS;
        let progress = &mut self.state.queues[number];
        progress.lease(offset, lease_number, at_ms, NO_DEADLINE);
        // No attempt: as a dead letter nobody could read it, nor settle its report. A salvage gives it up.
        progress.put_back(offset, at_ms, self.now_ms);
        self.first_end_ms = self.first_end_ms.min(at_ms);
    }

    /// What could not be looked at has no lease that ends: the timers wake those who wait then.
    fn index_failed(&mut self, error: &std::io::Error) {
        tracing::error!(topic = %self.group.topic, %error, "index cannot be read");
        let at_ms = self.now_ms + UNREADABLE_RETRY_MS;
        self.state.look_again_ms = Some(self.state.look_again_ms.map_or(at_ms, |planned| planned.min(at_ms)));
        self.first_end_ms = self.first_end_ms.min(at_ms);
    }
}
