//! Creating, changing and moving groups.

use super::ReceiveError;
use super::broker::Broker;
use super::topic::Topic;
use crate::StartFrom;
use crate::group::{Group, GroupConfig};
use crate::index::ConsumeQueue;
use std::sync::Arc;

impl Broker {
    /// The group; created, or else its attempts and delays changed when they are given.
    pub(super) fn put_group(
        &self,
        topic: &str,
        group: &str,
        start: StartFrom,
        attempts_max: Option<u32>,
        retry_delays_ms: Option<Vec<u64>>,
    ) -> Result<(Arc<Topic>, Arc<Group>), ReceiveError> {
        if attempts_max == Some(0) {
            return Err(ReceiveError::Invalid("attempts must be at least 1"));
        }
        super::topic::check_name(group).map_err(ReceiveError::Invalid)?;
        let topic = self.topic_or_create(topic).map_err(|error| match error {
            super::AppendError::Invalid(what) => ReceiveError::Invalid(what),
            _ => ReceiveError::Invalid("the topic cannot be created now"),
        })?;
        if topic.is_broadcast(group) {
            return Err(ReceiveError::Invalid(
                "this group is a broadcast: each consumer has its own; name yours",
            ));
        }
        let mut changed = attempts_max.is_some() || retry_delays_ms.is_some();
        let (group, created) = {
            // With the appender's lock `Last` is exactly what comes after this call.
            let mut appender = self.appender.lock();
            let next = appender.next_offsets(&topic);
            let config =
                || GroupConfig { starts: self.offsets(&topic, start, &next), ..GroupConfig::default() };
            topic.put_group(group, config).map_err(ReceiveError::Invalid)?
        };
        if created {
            let starts = {
                let mut state = group.state.lock();
                state.active_ms = self.clock.now_ms();
                state.config.starts.clone()
            };
            self.catch_up(&topic, &group, &starts);
            changed = true;
        }
        if changed {
            let mut state = group.state.lock();
            if attempts_max.is_some() {
                state.config.attempts_max = attempts_max;
            }
            if retry_delays_ms.is_some() {
                state.config.retry_delays_ms = retry_delays_ms;
            }
            drop(state);
            self.catalog_changed();
        }
        Ok((topic, group))
    }

    pub(super) fn delete_group(&self, topic: &str, group: &str) -> Result<bool, ReceiveError> {
        let mut gone = false;
        if let Some(topic) = self.topics.get(topic) {
            let consumers = topic.forget_broadcast(group);
            gone = consumers.is_some();
            let names = consumers.unwrap_or_default();
            for name in names.iter().map(AsRef::as_ref).chain([group]) {
                if let Some(group) = topic.remove_group(name) {
                    // Those who wait look again, and find a new group.
                    group.wake(u64::MAX);
                    gone = true;
                }
            }
        }
        if gone {
            self.catalog_changed();
            self.acks_changed();
        }
        self.store_catalog_for_receiver()?;
        // A checkpoint that still names it would bring it back.
        self.checkpoint(false).map_err(|error| {
            tracing::error!(%error, "acknowledgements cannot be written");
            ReceiveError::Invalid("the acknowledgements cannot be written now; see the log of the process")
        })?;
        Ok(gone)
    }

    pub(super) fn reset_group(&self, topic: &str, group: &str, to: StartFrom) -> Result<(), ReceiveError> {
        let unknown = ReceiveError::Invalid("no such group");
        let Some(topic) = self.topics.get(topic) else { return Err(unknown) };
        let Some(group) = topic.group(group) else { return Err(unknown) };
        let next = self.appender.lock().next_offsets(&topic);
        let offsets = self.offsets(&topic, to, &next);
        let wakers = {
            let mut state = group.state.lock();
            state.grow(offsets.len());
            for (progress, &offset) in state.queues.iter_mut().zip(&offsets) {
                progress.reset(offset);
            }
            // What it goes back to is kept for it from here on.
            state.active_ms = self.clock.now_ms();
            state.waiters.wake(u64::MAX)
        };
        wakers.into_iter().for_each(std::task::Waker::wake);
        self.catch_up(&topic, &group, &offsets);
        self.acks_changed();
        Ok(())
    }

    /// One offset for each queue of the topic; `next` are the offsets of the messages to come.
    fn offsets(&self, topic: &Topic, start: StartFrom, next: &[u64]) -> Vec<u64> {
        let queues = topic.queues();
        let each = queues.iter().zip(next).map(|(queue, &next)| match start {
            StartFrom::First => queue.oldest(),
            StartFrom::Last => next,
            StartFrom::Offset(offset) => offset.clamp(queue.oldest(), next),
            StartFrom::TimeMs(at_ms) => self.first_born(queue, at_ms).unwrap_or(next),
        });
        each.collect()
    }

    /// The first message born at or after `at_ms`, by bisection: they are born in the order of their offsets.
    fn first_born(&self, queue: &ConsumeQueue, at_ms: u64) -> Option<u64> {
        let (mut low, mut high) = (queue.oldest(), queue.end());
        while low < high {
            let middle = low + (high - low) / 2;
            // One that cannot be read counts as old.
            if self.born_at_ms(queue, middle).is_some_and(|born_at_ms| born_at_ms >= at_ms) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        (low < queue.end()).then_some(low)
    }
}
