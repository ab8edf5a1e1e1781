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

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}
