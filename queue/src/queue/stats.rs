//! Figures of topics and groups.

use super::broker::Broker;
use super::topic::Topic;
use crate::group::Group;
use crate::index::ConsumeQueue;
use crate::sync::atomic::Ordering;
use std::sync::Arc;

/// Figures of one topic.
#[derive(Debug, Clone)]
pub struct TopicStats {
    /// Name.
    pub topic: String,
    /// How many queues it has.
    pub queues: u32,
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
    /// The oldest of these ranges were forgotten, because there were too many.
    pub truncated: bool,
}

/// The few figures of a group that are cheap enough to ask for on every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupCounts {
    /// Messages neither acknowledged, dropped nor dead.
    pub backlog: u64,
    /// Under lease now.
    pub leased: u64,
    /// Acknowledged since start.
    pub acked: u64,
    /// Delivered since start, redeliveries included.
    pub delivered: u64,
}

impl Broker {
    pub(super) fn stats(&self) -> Vec<TopicStats> {
        let now_ms = self.clock.now_ms();
        let mut topics: Vec<_> = self.topics.all();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
            .iter()
            .map(|topic| TopicStats {
                topic: topic.name.to_string(),
                queues: topic.queue_count(),
                appended: topic.appended.load(Ordering::Relaxed),
                groups: topic.groups().iter().map(|group| self.group_stats(topic, group, now_ms)).collect(),
            })
            .collect()
    }

    pub(super) fn group_counts(&self, topic: &str, group: &str) -> Option<GroupCounts> {
        let topic = self.topics.get(topic)?;
        let group = topic.group(group)?;
        let queues = topic.queues();
        let mut state = group.state.lock();
        state.grow(queues.len());
        let mut counts =
            GroupCounts { acked: state.acked, delivered: state.delivered, ..GroupCounts::default() };
        for (progress, queue) in state.queues.iter().zip(&queues) {
            counts.backlog += progress.backlog(queue.end());
            counts.leased += progress.leased() as u64;
        }
        Some(counts)
    }

    fn group_stats(&self, topic: &Topic, group: &Group, now_ms: u64) -> GroupStats {
        let queues = topic.queues();
        let mut oldest: Vec<(Arc<ConsumeQueue>, u64)> = Vec::new();
        let mut stats = {
            let mut state = group.state.lock();
            state.grow(queues.len());
            let mut stats = GroupStats {
                group: group.name.to_string(),
                backlog: 0,
                oldest_age_ms: 0,
                leased: 0,
                acked: state.acked,
                delivered: state.delivered,
                dead_letters: 0,
                queues: Vec::with_capacity(queues.len()),
            };
            for (number, (progress, queue)) in state.queues.iter().zip(&queues).enumerate() {
                let end = queue.end();
                stats.backlog += progress.backlog(end);
                stats.leased += progress.leased() as u64;
                stats.dead_letters += progress.dead_letters();
                stats.queues.push(progress.stats(number as u32, end));
                if progress.oldest() < end {
                    oldest.push((Arc::clone(queue), progress.oldest()));
                }
            }
            stats
        };
        // The log is read without the group's lock.
        let born = oldest.iter().filter_map(|(queue, offset)| self.born_at_ms(queue, *offset)).min();
        stats.oldest_age_ms = born.map_or(0, |born_at_ms| now_ms.saturating_sub(born_at_ms));
        stats
    }

    /// When a message was appended; `None` when it cannot be read.
    pub(super) fn born_at_ms(&self, queue: &ConsumeQueue, offset: u64) -> Option<u64> {
        let entry = queue.entry(offset).ok().flatten()?;
        Some(self.log.read(entry.position).ok()?.view().born_at_ms)
    }
}
