//! Delayed messages by the instant they are due. A B-tree: any instant, ordered, about 20 bytes each.

use crate::Position;
use std::collections::BTreeSet;

/// Messages that are in the log and not yet in their queue.
#[derive(Debug, Default)]
pub(crate) struct Delays {
    pending: BTreeSet<(u64, Position)>,
    /// No earlier than this: the log refused the last attempt.
    blocked_until_ms: u64,
}

impl Delays {
    pub(crate) fn add(&mut self, deliver_at_ms: u64, position: Position) {
        self.pending.insert((deliver_at_ms, position));
    }

    /// The log holds the message in its queue: nothing is owed any more.
    pub(crate) fn delivered(&mut self, deliver_at_ms: u64, origin: Position) {
        self.pending.remove(&(deliver_at_ms, origin));
    }

    /// Takes the earliest one that is due.
    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<(u64, Position)> {
        if now_ms < self.blocked_until_ms || self.pending.first()?.0 > now_ms {
            return None;
        }
        self.pending.pop_first()
    }

    /// Puts one back that the log refused.
    pub(crate) fn refused(&mut self, deliver_at_ms: u64, position: Position, until_ms: u64) {
        self.pending.insert((deliver_at_ms, position));
        self.blocked_until_ms = until_ms;
    }

    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.pending.first().map(|&(at_ms, _)| at_ms.max(self.blocked_until_ms))
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }
}
