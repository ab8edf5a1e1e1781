//! Deadlines of messages by instant. Entries of messages that are settled meanwhile are not taken out one
//! by one: the heap is compacted whenever it has doubled, so it stays bounded by what is outstanding.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Not compacted below this.
const COMPACT_MIN: usize = 65_536;

/// A message with a deadline; ordered by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Expiring {
    pub deadline_ms: u64,
    /// Number of the topic in this process.
    pub topic: u32,
    pub queue: u32,
    pub offset: u64,
}

#[derive(Debug)]
pub(crate) struct DeadlineHeap {
    heap: BinaryHeap<Reverse<Expiring>>,
    compact_at: usize,
}

impl Default for DeadlineHeap {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), compact_at: COMPACT_MIN }
    }
}

impl DeadlineHeap {
    pub(crate) fn push(&mut self, expiring: Expiring) {
        self.heap.push(Reverse(expiring));
    }

    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<Expiring> {
        if self.heap.peek()?.0.deadline_ms > now_ms {
            return None;
        }
        self.heap.pop().map(|Reverse(expiring)| expiring)
    }

    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(expiring)| expiring.deadline_ms)
    }

    /// Takes everything out for a compaction, when it is time for one. The caller puts back what is still
    /// owed: it looks into the groups, whose locks must not be taken under this heap's.
    pub(crate) fn take_for_compaction(&mut self) -> Option<Vec<Expiring>> {
        if self.heap.len() < self.compact_at {
            return None;
        }
        let all = std::mem::take(&mut self.heap).into_vec();
        Some(all.into_iter().map(|Reverse(expiring)| expiring).collect())
    }

    /// Puts back what a compaction kept, beside what came meanwhile.
    pub(crate) fn put_back(&mut self, kept: Vec<Expiring>) {
        let mut kept: BinaryHeap<_> = kept.into_iter().map(Reverse).collect();
        self.heap.append(&mut kept);
        self.compact_at = (2 * self.heap.len()).max(COMPACT_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiring(deadline_ms: u64) -> Expiring {
        Expiring { deadline_ms, topic: 0, queue: 0, offset: deadline_ms }
    }

    #[test]
    fn due_ones_come_in_order_and_never_early() {
        let mut heap = DeadlineHeap::default();
        for at_ms in [30, 10, 20] {
            heap.push(expiring(at_ms));
        }
        assert_eq!(heap.pop_due(9), None);
        assert_eq!(heap.next_due_ms(), Some(10));
        let due: Vec<u64> = std::iter::from_fn(|| heap.pop_due(20)).map(|e| e.deadline_ms).collect();
        assert_eq!(due, [10, 20]);
    }

    #[test]
    fn what_is_settled_meanwhile_does_not_pile_up() {
        let mut heap = DeadlineHeap::default();
        let mut largest = 0;
        for at_ms in 0..1_000_000 {
            heap.push(expiring(at_ms));
            if let Some(all) = heap.take_for_compaction() {
                largest = largest.max(all.len());
                // All but a thousand are settled.
                heap.put_back(all.into_iter().filter(|e| e.offset < 1_000).collect());
            }
        }
        assert_eq!(largest, COMPACT_MIN);
        assert_eq!(std::iter::from_fn(|| heap.pop_due(999)).count(), 1_000);
    }
}
