//! Loss detection: for a whole group, is every offset of every queue accounted for?
//!
//! A group must have seen `[start, end)` of each queue. An offset is explained when a worker received it, or when
//! the gateway says it was dropped at its deadline, dead-lettered, or skipped. Whatever is left was lost on the
//! way. Each worker keeps its own detector; merged they speak for the group.
//!
//! Each gateway has a log, and offsets, of its own: keep a detector for each ([`crate::Member::name`] tells them
//! apart) and compare it with that gateway's offsets.

mod intervals;

pub use intervals::{IntervalSet, TooManyRanges};

use crate::wire::{GroupOffsets, Message, Range};
use std::collections::BTreeMap;

/// Ranges kept per queue by default: far more than a queue's holes under any sane delivery order.
const RANGES_MAX: usize = 100_000;

/// Collects the offsets of one gateway that reached workers.
///
/// Bounded: a queue keeps at most so many separate ranges. Offsets that would need more are not recorded and the
/// detector says so ([`LossReport::saturated`]); they then show up as unexplained, never as explained.
#[derive(Debug, Clone)]
pub struct LossDetector {
    queues: BTreeMap<u32, IntervalSet>,
    ranges_max: usize,
    saturated: bool,
}

/// What one queue lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLoss {
    /// Queue number.
    pub queue: u32,
    /// Offsets nobody accounts for, ascending half-open ranges.
    pub unexplained: Vec<Range>,
    /// Offsets that were delivered though the queue does not reach so far: what was told before it was durable
    /// and then taken back, or told of another queue.
    pub beyond_end: Vec<Range>,
}

/// Verdict over a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossReport {
    /// Only queues that lack something.
    pub queues: Vec<QueueLoss>,
    /// Offsets the group had to see.
    pub expected: u64,
    /// Some deliveries were not recorded for want of room; unexplained offsets may be due to that.
    pub saturated: bool,
}

impl LossReport {
    /// Every offset is accounted for, and none is made up.
    pub fn holds(&self) -> bool {
        self.queues.is_empty()
    }

    /// Number of unexplained offsets.
    pub fn unexplained(&self) -> u64 {
        let ranges = self.queues.iter().flat_map(|queue| &queue.unexplained);
        ranges.map(|(from, to)| to - from).sum()
    }
}

impl Default for LossDetector {
    fn default() -> Self {
        Self::new(RANGES_MAX)
    }
}

impl LossDetector {
    /// Keeps at most `ranges_max` separate ranges per queue.
    pub fn new(ranges_max: usize) -> Self {
        Self { queues: BTreeMap::new(), ranges_max, saturated: false }
    }

    /// A worker received this; redeliveries change nothing.
    pub fn delivered(&mut self, queue: u32, offset: u64) {
        let set = self.queues.entry(queue).or_default();
        self.saturated |= set.insert_bounded((offset, offset.saturating_add(1)), self.ranges_max).is_err();
    }

    /// As [`LossDetector::delivered`], from the message.
    pub fn observe(&mut self, message: &Message<'_>) {
        self.delivered(message.queue, message.offset);
    }

    /// Takes over what another worker of the same group saw.
    pub fn merge(&mut self, other: &Self) {
        self.saturated |= other.saturated;
        for (queue, theirs) in &other.queues {
            let ours = self.queues.entry(*queue).or_default();
            for range in theirs.iter() {
                self.saturated |= ours.insert_bounded(range, self.ranges_max).is_err();
            }
        }
    }

    /// Offsets recorded.
    pub fn seen(&self) -> u64 {
        self.queues.values().map(IntervalSet::count).sum()
    }

    /// Compares with what the gateway says became of the group's offsets. Ask the gateway after the workers have
    /// stopped or are idle: what is still under way is unexplained.
    pub fn report(&self, offsets: &GroupOffsets) -> LossReport {
        let mut queues = Vec::new();
        let mut expected = 0;
        let mut known = Vec::with_capacity(offsets.queues.len());
        for stats in &offsets.queues {
            known.push(stats.queue);
            expected += stats.end.saturating_sub(stats.start);
            let delivered = self.queues.get(&stats.queue);
            let mut explained = delivered.cloned().unwrap_or_default();
            for range in stats.dropped.iter().chain(&stats.dead).chain(&stats.skipped) {
                explained.insert(*range);
            }
            let unexplained = explained.holes((stats.start, stats.end));
            let beyond_end = delivered.map(|set| set.within((stats.end, u64::MAX))).unwrap_or_default();
            if !unexplained.is_empty() || !beyond_end.is_empty() {
                queues.push(QueueLoss { queue: stats.queue, unexplained, beyond_end });
            }
        }
        for (queue, delivered) in &self.queues {
            if !known.contains(queue) {
                let beyond_end = delivered.iter().collect();
                queues.push(QueueLoss { queue: *queue, unexplained: Vec::new(), beyond_end });
            }
        }
        LossReport { queues, expected, saturated: self.saturated }
    }
}

#[cfg(test)]
mod tests;
