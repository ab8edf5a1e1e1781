//! Reports to the owner, and dead letters.

use super::broker::Broker;
use super::topic::Topic;
use super::{Report, ReportKind};
use crate::group::Group;
use crate::sync::atomic::Ordering;
use crate::timer::Expiring;
use crate::{Message, Position};
use std::sync::Arc;
use std::task::Waker;

/// A report whose message has not been read yet.
struct Taken {
    kind: ReportKind,
    topic: Arc<Topic>,
    group: Arc<Group>,
    queue: u32,
    offset: u64,
}

impl Broker {
    pub(super) fn take_reports(&self, max: usize, waker: Option<&Waker>) -> Vec<Report> {
        // Registered before the look: what comes in between wakes.
        if let Some(waker) = waker {
            let replaced = self.report_waker.lock().replace(waker.clone());
            drop(replaced);
        }
        let groups: Vec<(Arc<Topic>, Arc<Group>)> = self
            .topics
            .all()
            .into_iter()
            .flat_map(|topic| topic.groups().into_iter().map(move |group| (Arc::clone(&topic), group)))
            .collect();
        let now_ms = self.clock.now_ms();
        let mut taken = Vec::new();
        let first = self.first_reporter.fetch_add(1, Ordering::Relaxed) % groups.len().max(1);
        for (topic, group) in groups[first..].iter().chain(&groups[..first]) {
            take_from(topic, group, now_ms, max, &mut taken);
        }
        let repeat_at_ms = now_ms + crate::group::reports::REPEAT_AFTER_MS;
        if !taken.is_empty() {
            self.plan(repeat_at_ms);
        }
        taken.iter().filter_map(|taken| self.read_report(taken)).collect()
    }

    fn read_report(&self, taken: &Taken) -> Option<Report> {
        let message = self.read_message(&taken.topic, taken.queue, taken.offset);
        if message.is_none() {
            let (topic, queue, offset) = (&taken.topic.name, taken.queue, taken.offset);
            tracing::error!(%topic, queue, offset, "reported message cannot be read; it stays reported");
        }
        Some(Report { kind: taken.kind, group: taken.group.name.to_string(), message: message? })
    }

    fn read_message(&self, topic: &Topic, queue: u32, offset: u64) -> Option<Message> {
        let entry = topic.queue(queue)?.entry(offset).ok().flatten()?;
        self.log.read(entry.position).ok().as_ref().map(Message::from_record)
    }

    pub(super) fn settle(&self, report: &Report) {
        let message = &report.message;
        let group = self.topics.get(&message.topic).and_then(|topic| topic.group(&report.group));
        let Some(group) = group else { return };
        let (wakers, more) = {
            let mut state = group.state.lock();
            let Some(progress) = state.queues.get_mut(message.queue as usize) else { return };
            match report.kind {
                ReportKind::Dropped => progress.settle_drop(message.offset),
                ReportKind::DeadLettered => progress.settle_dead(message.offset),
            }
            let more = progress.report_due_ms() == Some(0);
            (state.wake_starved(), more)
        };
        wakers.into_iter().for_each(Waker::wake);
        if more {
            self.wake_reporter();
        }
        self.acks_changed();
    }

    /// Wakes the owner: there are reports.
    pub(super) fn wake_reporter(&self) {
        let waker = self.report_waker.lock().take();
        waker.into_iter().for_each(Waker::wake);
    }

    pub(super) fn dead_letters(&self, topic: &str, group: &str, max: usize) -> Vec<Message> {
        let Some(topic) = self.topics.get(topic) else { return Vec::new() };
        let Some(group) = topic.group(group) else { return Vec::new() };
        let offsets: Vec<(u32, u64)> = {
            let state = group.state.lock();
            let each = state.queues.iter().enumerate();
            each.flat_map(|(queue, progress)| progress.kept_dead().take(max).map(move |o| (queue as u32, o)))
                .collect()
        };
        let mut messages: Vec<Message> =
            offsets.iter().filter_map(|&(queue, offset)| self.read_message(&topic, queue, offset)).collect();
        messages.sort_unstable_by_key(|message| message.position);
        messages.truncate(max);
        messages
    }

    pub(super) fn redrive(&self, topic: &str, group: &str, id: Position) -> bool {
        let Some(topic) = self.topics.get(topic) else { return false };
        let Some(group) = topic.group(group) else { return false };
        let Ok(record) = self.log.read(id) else { return false };
        let view = record.view();
        // A late one could only be dropped again.
        if *view.topic != *topic.name || view.deadline_ms.is_some_and(|at_ms| at_ms <= self.clock.now_ms()) {
            return false;
        }
        let wakers = {
            let mut state = group.state.lock();
            let Some(progress) = state.queues.get_mut(view.queue as usize) else { return false };
            if !progress.redrive(view.queue_offset) {
                return false;
            }
            // It is kept for the group from here on, which may have been idle for too long.
            state.active_ms = self.clock.now_ms();
            state.waiters.wake(1)
        };
        if let Some(deadline_ms) = view.deadline_ms {
            let (queue, offset) = (view.queue, view.queue_offset);
            self.deadlines.lock().push(Expiring { deadline_ms, topic: topic.id, queue, offset });
            self.plan(deadline_ms);
        }
        wakers.into_iter().for_each(Waker::wake);
        self.acks_changed();
        true
    }
}

fn take_from(topic: &Arc<Topic>, group: &Arc<Group>, now_ms: u64, max: usize, taken: &mut Vec<Taken>) {
    let mut state = group.state.lock();
    for (queue, progress) in state.queues.iter_mut().enumerate() {
        while taken.len() < max {
            let Some((kind, offset)) = progress.take_report(now_ms) else { break };
            let (topic, group, queue) = (Arc::clone(topic), Arc::clone(group), queue as u32);
            taken.push(Taken { kind, topic, group, queue, offset });
        }
    }
}
