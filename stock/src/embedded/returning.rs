//! Which sales have units that come back, by the position their record ends at: so that a settle looks only at
//! sales it has something for.

use crate::record::Lsn;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module. A leaf among the locks: nothing else is locked inside it.
pub(super) struct Returning {
    heap: Mutex<BinaryHeap<Reverse<(Lsn, u32)>>>,
    /// Lowest position in the heap; `u64::MAX` when empty. Lets a settle with nothing to do cost one load.
    lowest: AtomicU64,
}

impl Returning {
    pub(super) fn new() -> Self {
        Self { heap: Mutex::new(BinaryHeap::new()), lowest: AtomicU64::new(u64::MAX) }
    }

    /// Called under the sale's lock, after the sale's own list holds the units.
    pub(super) fn push(&self, lsn: Lsn, sale: u32) {
        let mut heap = self.heap.lock();
        heap.push(Reverse((lsn, sale)));
        self.note_lowest(&heap);
    }

    /// The sales with something at or below `durable`, each once.
    pub(super) fn pop(&self, durable: Lsn) -> Vec<u32> {
        if self.lowest.load(Ordering::Acquire) > durable.0 {
            return Vec::new();
        }
        let mut sales = Vec::new();
        let mut heap = self.heap.lock();
        while let Some(&Reverse((lsn, sale))) = heap.peek() {
            if lsn > durable {
                break;
            }
            heap.pop();
            sales.push(sale);
        }
        self.note_lowest(&heap);
        drop(heap);
        sales.sort_unstable();
        sales.dedup();
        sales
    }

    fn note_lowest(&self, heap: &BinaryHeap<Reverse<(Lsn, u32)>>) {
        let lowest = heap.peek().map_or(u64::MAX, |&Reverse((lsn, _))| lsn.0);
        self.lowest.store(lowest, Ordering::Release);
    }
}
