//! Which tickets are overdue, without a scan over all of them: slots by the second (about) they fall due in.
//!
//! Entries of tickets that moved on are thrown out when their second is looked at, so moving costs nothing.

use std::collections::BTreeMap;

const BUCKET_SHIFT: u32 = 10;

/// See the module.
#[derive(Default)]
pub(super) struct DueList {
    buckets: BTreeMap<u64, Vec<u32>>,
}

impl DueList {
    pub(super) fn push(&mut self, due_ms: u64, slot: u32) {
        self.buckets.entry(due_ms >> BUCKET_SHIFT).or_default().push(slot);
    }

    /// Calls `propose` with the slots that fell due before `before_ms`, `max` at most. `due_of` tells when a
    /// slot is due, or `None` when it has moved on. What is proposed stays listed until it has moved.
    pub(super) fn collect(
        &mut self,
        before_ms: u64,
        max: usize,
        due_of: impl Fn(u32) -> Option<u64>,
        mut propose: impl FnMut(u32),
    ) -> usize {
        let mut proposed = 0;
        let mut emptied = Vec::new();
        for (&bucket, slots) in self.buckets.range_mut(..=before_ms >> BUCKET_SHIFT) {
            slots.retain(|&slot| due_of(slot).is_some());
            for &slot in slots.iter() {
                if proposed == max {
                    break;
                }
                if due_of(slot).is_some_and(|due_ms| due_ms < before_ms) {
                    propose(slot);
                    proposed += 1;
                }
            }
            if slots.is_empty() {
                emptied.push(bucket);
            }
            if proposed == max {
                break;
            }
        }
        for bucket in emptied {
            self.buckets.remove(&bucket);
        }
        proposed
    }
}
