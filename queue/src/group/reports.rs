//! Reports of one queue that the owner has still to settle: which offsets, which of them are in the
//! owner's hands, and when to give those again. Knows neither messages nor why they are reported.

use super::ranges::RangeSet;
use std::collections::{BTreeSet, HashMap};

/// A report in the owner's hands is given again after this time.
pub(crate) const REPEAT_AFTER_MS: u64 = 1_000;
/// Reports of one queue in the owner's hands, at most; more are given when some are settled.
const TAKEN_MAX: usize = 10_000;

/// Unsettled reports of one kind.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    ready: RangeSet,
    taken: HashMap<u64, u64>,
    again: BTreeSet<(u64, u64)>,
}

impl Reports {
    pub(crate) fn from_ranges(ranges: RangeSet) -> Self {
        Self { ready: ranges, ..Self::default() }
    }

    /// All unsettled ones; what is in the owner's hands included.
    pub(crate) fn to_ranges(&self) -> RangeSet {
        let mut all = self.ready.clone();
        for &offset in self.taken.keys() {
            all.insert(offset);
        }
        all
    }

    pub(crate) fn total(&self) -> u64 {
        self.ready.total() + self.taken.len() as u64
    }

    /// Unsettled reports below `end`.
    pub(crate) fn total_below(&self, end: u64) -> u64 {
        let taken = self.taken.keys().filter(|&&offset| offset < end).count();
        self.ready.total_below(end) + taken as u64
    }

    /// Its size in memory.
    pub(crate) fn weight(&self) -> usize {
        self.ready.ranges() + self.taken.len()
    }

    /// The smallest offset with an unsettled report.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let ready = self.ready.next_present(0);
        ready.into_iter().chain(self.taken.keys().copied()).min()
    }

    pub(crate) fn contains(&self, offset: u64) -> bool {
        self.ready.contains(offset) || self.taken.contains_key(&offset)
    }

    /// The smallest offset at or above `from` without an unsettled report.
    pub(crate) fn next_absent(&self, mut from: u64) -> u64 {
        loop {
            let mut next = self.ready.next_absent(from);
            while self.taken.contains_key(&next) {
                next += 1;
            }
            if next == from {
                return from;
            }
            from = next;
        }
    }

    pub(crate) fn add(&mut self, offset: u64) {
        if !self.taken.contains_key(&offset) {
            self.ready.insert(offset);
        }
    }

    /// Hands the next one out: those whose repetition is due before those never given.
    pub(crate) fn take(&mut self, now_ms: u64) -> Option<u64> {
        let offset = match self.again.first() {
            Some(&(at_ms, offset)) if at_ms <= now_ms => {
                self.again.pop_first();
                offset
            }
            _ if self.taken.len() >= TAKEN_MAX => return None,
            _ => self.ready.pop_first()?,
        };
        let again_at_ms = now_ms + REPEAT_AFTER_MS;
        self.taken.insert(offset, again_at_ms);
        self.again.insert((again_at_ms, offset));
        Some(offset)
    }

    /// False when there was none.
    pub(crate) fn settle(&mut self, offset: u64) -> bool {
        match self.taken.remove(&offset) {
            Some(at_ms) => self.again.remove(&(at_ms, offset)),
            None => self.ready.remove(offset),
        }
    }

    /// When the next one may be given; 0 for at once.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        if self.ready.total() > 0 && self.taken.len() < TAKEN_MAX {
            return Some(0);
        }
        self.again.first().map(|&(at_ms, _)| at_ms)
    }

    /// Forgets reports below `start`, whose messages are no longer kept.
    pub(crate) fn forget_below(&mut self, start: u64) {
        self.ready.remove_range(0, start);
        self.taken.retain(|&offset, _| offset >= start);
        self.again.retain(|&(_, offset)| offset >= start);
    }

    /// Forgets reports at or above `end` (offsets that a recovery found not to exist).
    pub(crate) fn clamp(&mut self, end: u64) {
        self.ready.remove_range(end, u64::MAX);
        self.taken.retain(|&offset, _| offset < end);
        self.again.retain(|&(_, offset)| offset < end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsettled_report_is_given_again_and_a_settled_one_never() {
        let mut reports = Reports::default();
        reports.add(4);
        reports.add(5);
        assert_eq!((reports.take(100), reports.take(100), reports.take(100)), (Some(4), Some(5), None));
        assert!(reports.settle(4));
        assert!(!reports.settle(4));
        assert_eq!(reports.next_due_ms(), Some(100 + REPEAT_AFTER_MS));
        assert_eq!(reports.take(99 + REPEAT_AFTER_MS), None);
        assert_eq!(reports.take(100 + REPEAT_AFTER_MS), Some(5));
        assert_eq!(reports.to_ranges().to_vec(), [(5, 6)]);
        assert_eq!((reports.next_absent(4), reports.next_absent(5)), (4, 6));
    }

    #[test]
    fn reports_in_the_owners_hands_are_bounded() {
        let mut reports = Reports::from_ranges([(0, TAKEN_MAX as u64 + 5)].into_iter().collect());
        assert_eq!(std::iter::from_fn(|| reports.take(1)).count(), TAKEN_MAX);
        assert!(reports.settle(3));
        assert_eq!(reports.take(1), Some(TAKEN_MAX as u64));
        assert_eq!(reports.next_absent(0), 3);
    }
}
