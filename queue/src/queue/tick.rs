//! One step of the timers: delayed messages, deadlines, lease ends and retries that are due.

use super::AppendError;
use super::append::Copied;
use super::broker::Broker;
use crate::log::RecordKind;
use crate::sync::atomic::Ordering;
use crate::timer::{Expiring, Pending};
use std::task::Waker;

/// Items of one kind in one step; a longer backlog takes several, so that none holds a lock for long.
const STEP_MAX: usize = 4_096;
/// When the log refuses a due message, it is tried again after this time.
const REFUSED_RETRY_MS: u64 = 100;
/// A delayed message that cannot be read or appended is tried again after this time.
const FAULTY_RETRY_MS: u64 = 60_000;

impl Broker {
    /// Does what is due now. Leaves in `planned_ms` when to look again.
    pub(super) fn tick(&self) {
        let _one_at_a_time = self.ticking.lock();
        // Reset first: what is planned from here on either is seen below or stays planned.
        self.planned_ms.store(u64::MAX, Ordering::Release);
        let now_ms = self.clock.now_ms();
        self.deliver_delayed(now_ms);
        self.catch_groups_up();
        self.drop_late(now_ms);
        let groups_due_ms = self.promote(now_ms);
        let checks_due_ms = self.check_halves(now_ms);
        let carry_due_ms = self.carry_delayed(now_ms);
        let delays_due_ms = self.delays.lock().next_due_ms().unwrap_or(u64::MAX);
        let deadlines_due_ms = self.deadlines.lock().next_due_ms().unwrap_or(u64::MAX);
        let behind = if self.catch_ups.lock().is_empty() { u64::MAX } else { 0 };
        self.planned_ms.fetch_min(
            [groups_due_ms, checks_due_ms, carry_due_ms, delays_due_ms, deadlines_due_ms, behind]
                .into_iter()
                .min()
                .unwrap_or(u64::MAX),
            Ordering::AcqRel,
        );
    }

    /// Appends due messages to their queues. Exactly once: a crash before that is durable finds the delayed
    /// record without its delivery and does it again, a crash after it finds both.
    fn deliver_delayed(&self, now_ms: u64) {
        for _ in 0..STEP_MAX {
            let due = self.delays.lock().pop_due(now_ms);
            let Some(Pending { id, position, .. }) = due else { break };
            let record = match self.log.read(position) {
                Ok(record) if record.view().kind == RecordKind::Delayed => record,
                other => {
                    tracing::error!(%position, found = ?other.err(), "delayed message cannot be read");
                    self.delays.lock().postponed(id, now_ms + FAULTY_RETRY_MS);
                    continue;
                }
            };
            let appended = self.append_copy(&mut self.appender.lock(), &record, Copied::Due(id));
            match appended {
                Ok(_) => {}
                // Only this one is at fault: those behind it go on.
                Err(error @ AppendError::Invalid(_)) => {
                    tracing::error!(%position, %error, "delayed message does not go into its queue");
                    self.delays.lock().postponed(id, now_ms + FAULTY_RETRY_MS);
                }
                Err(error) => {
                    tracing::debug!(%position, %error, "log refuses a due message for now");
                    self.delays.lock().refused(id, now_ms + REFUSED_RETRY_MS);
                    break;
                }
            }
        }
    }

    /// Reports messages whose deadline is over to each group that still owed them.
    fn drop_late(&self, now_ms: u64) {
        let mut late: Vec<Expiring> = {
            let mut deadlines = self.deadlines.lock();
            std::iter::from_fn(|| deadlines.pop_due(now_ms)).take(STEP_MAX).collect()
        };
        late.sort_unstable_by_key(|expiring| (expiring.topic, expiring.queue, expiring.offset));
        let mut reported = false;
        for of_topic in late.chunk_by(|a, b| a.topic == b.topic) {
            let Some(topic) = self.topics.by_id(of_topic[0].topic) else { continue };
            for group in topic.groups() {
                let mut state = group.state.lock();
                state.grow(topic.queue_count() as usize);
                for expiring in of_topic {
                    reported |= state.queues[expiring.queue as usize].drop_late(expiring.offset);
                }
            }
        }
        if reported {
            self.wake_reporter();
            self.acks_changed();
        }
    }

    /// Ends leases and waits. Answers when the next one ends.
    fn promote(&self, now_ms: u64) -> u64 {
        let mut next_ms = u64::MAX;
        let mut reports = false;
        for group in self.topics.all().iter().flat_map(|topic| topic.groups()) {
            let mut state = group.state.lock();
            let attempts_max = self.attempts_max(&state);
            let mut ready = match state.look_again_ms {
                Some(at_ms) if at_ms <= now_ms => {
                    state.look_again_ms = None;
                    u64::MAX
                }
                again => {
                    next_ms = next_ms.min(again.unwrap_or(u64::MAX));
                    0
                }
            };
            for progress in &mut state.queues {
                let promoted = progress.promote(now_ms, attempts_max, STEP_MAX);
                ready = ready.saturating_add(promoted.ready as u64);
                reports |= promoted.reports > 0;
                next_ms = next_ms.min(progress.next_due_ms().unwrap_or(u64::MAX));
                match progress.report_due_ms() {
                    // Those who are not asked for are no reason to wake again and again.
                    Some(at_ms) if at_ms <= now_ms => reports = true,
                    Some(at_ms) => next_ms = next_ms.min(at_ms),
                    None => {}
                }
            }
            let released = state.take_released() as u64;
            let wakers = state.waiters.wake(ready.saturating_add(released));
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
        }
        if reports {
            self.wake_reporter();
        }
        next_ms
    }

    /// Reads deadlines that a new or reset group has not been told of, or that a start has not read, one stretch at
    /// a time. Answers how many messages it has looked at.
    pub(super) fn catch_groups_up(&self) -> u64 {
        let Some(mut catch_up) = self.catch_ups.lock().pop_front() else { return 0 };
        let Some(queue) = self.topics.by_id(catch_up.topic).and_then(|topic| topic.queue(catch_up.queue))
        else {
            return 0;
        };
        catch_up.next = catch_up.next.max(queue.oldest());
        let first = catch_up.next;
        let until = catch_up.end.min(catch_up.next + STEP_MAX as u64);
        let mut found = Vec::new();
        while catch_up.next < until {
            let entries = match queue.read(catch_up.next, (until - catch_up.next) as usize) {
                Ok(entries) if !entries.is_empty() => entries,
                other => {
                    tracing::error!(error = ?other.err(), "index cannot be read; deadlines are seen at delivery only");
                    return catch_up.next - first;
                }
            };
            for (offset, entry) in (catch_up.next..).zip(&entries) {
                if let Ok(record) = self.log.read(entry.position)
                    && let Some(deadline_ms) = record.view().deadline_ms
                {
                    found.push(Expiring {
                        deadline_ms,
                        topic: catch_up.topic,
                        queue: catch_up.queue,
                        offset,
                    });
                }
            }
            catch_up.next += entries.len() as u64;
        }
        let mut open = vec![false; found.len()];
        for group in super::snapshot::groups_of(self, &catch_up) {
            let state = group.state.lock();
            for (open, expiring) in open.iter_mut().zip(&found) {
                *open |= !state.is_done(expiring.queue, expiring.offset);
            }
        }
        {
            let mut deadlines = self.deadlines.lock();
            for (expiring, _) in found.into_iter().zip(open).filter(|(_, open)| *open) {
                deadlines.push(expiring);
            }
        }
        let looked = catch_up.next - first;
        if catch_up.next < catch_up.end {
            self.catch_ups.lock().push_back(catch_up);
        }
        looked
    }

    /// Keeps the deadlines of messages that some group is still owed.
    pub(super) fn compact_deadlines(&self, mut all: Vec<Expiring>) {
        all.sort_unstable_by_key(|expiring| (expiring.topic, expiring.queue, expiring.offset));
        let mut kept = Vec::new();
        for of_topic in all.chunk_by(|a, b| a.topic == b.topic) {
            let Some(topic) = self.topics.by_id(of_topic[0].topic) else { continue };
            let mut open = vec![false; of_topic.len()];
            for group in topic.groups() {
                let state = group.state.lock();
                for (open, expiring) in open.iter_mut().zip(of_topic) {
                    *open |= !state.is_done(expiring.queue, expiring.offset);
                }
            }
            kept.extend(of_topic.iter().zip(open).filter(|(_, open)| *open).map(|(expiring, _)| *expiring));
        }
        self.deadlines.lock().put_back(kept);
    }
}
