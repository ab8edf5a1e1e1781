//! Delayed messages by the instant they are due. A B-tree: any instant, ordered, about 20 bytes each.

use crate::Position;
use std::collections::BTreeMap;

/// Messages that are in the log and not yet in their queue.
#[derive(Debug, Default)]
pub(crate) struct Delays {
    /// With what each takes in the log once it is due.
    pending: BTreeMap<(u64, Position), u32>,
    bytes: u64,
    /// No earlier than this: the log refused the last attempt.
    blocked_until_ms: u64,
}

impl Delays {
    pub(crate) fn add(&mut self, deliver_at_ms: u64, position: Position, bytes: u32) {
        let before = self.pending.insert((deliver_at_ms, position), bytes);
        self.bytes += u64::from(bytes);
        self.bytes -= u64::from(before.unwrap_or(0));
    }

    /// The log holds the message in its queue: nothing is owed any more.
    pub(crate) fn delivered(&mut self, deliver_at_ms: u64, origin: Position) {
        let bytes = self.pending.remove(&(deliver_at_ms, origin));
        self.bytes -= u64::from(bytes.unwrap_or(0));
    }

    /// Takes the earliest one that is due.
    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<(u64, Position, u32)> {
        if now_ms < self.blocked_until_ms || self.pending.first_key_value()?.0.0 > now_ms {
            return None;
        }
        let ((at_ms, position), bytes) = self.pending.pop_first()?;
        self.bytes -= u64::from(bytes);
        Some((at_ms, position, bytes))
    }

    /// Puts one back that the log refused.
    pub(crate) fn refused(&mut self, deliver_at_ms: u64, position: Position, bytes: u32, until_ms: u64) {
        self.add(deliver_at_ms, position, bytes);
        self.blocked_until_ms = until_ms;
    }

    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.pending.first_key_value().map(|(&(at_ms, _), _)| at_ms.max(self.blocked_until_ms))
    }

    /// What all pending ones will take in the log.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }
}
