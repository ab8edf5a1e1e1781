//! Delayed messages: in the log, and not yet in their queue. What they are and where is the store's, when they are
//! due is the wheel's. An entry stays until the log is known to hold its delivery.

use super::store::{Entry, Place, Store};
use super::wheel::Wheel;
use crate::Position;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The list of what is due gives its memory back above this, once it is empty.
const DUE_KEPT: usize = 4_096;

/// A delayed message that is not yet known to be in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Not before, Unix ms.
    pub at_ms: u64,
    /// Where it was first appended: what its producer was told, and what its delivery names as its origin.
    pub id: Position,
    /// Where it stands: the same place, unless it was carried forward.
    pub position: Position,
    /// What it takes in the log once it is due.
    pub bytes: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Delays {
    store: Store,
    wheel: Wheel,
    /// Those that left the wheel. One that was forgotten meanwhile is found out when it is taken.
    due: BinaryHeap<Reverse<(u64, Position, u32)>>,
    /// What is neither delivered nor on its way.
    waiting: usize,
    bytes: u64,
    /// No earlier than this: the log refused the last attempt.
    blocked_until_ms: u64,
}

impl Delays {
    /// A delayed message of the log. One that is known already stays as it is.
    pub(crate) fn add(&mut self, at_ms: u64, position: Position, bytes: u32) {
        self.restore(Pending { at_ms, id: position, position, bytes });
    }

    /// The same of one that may have been carried.
    pub(crate) fn restore(&mut self, pending: Pending) {
        let Pending { at_ms, id, position, bytes } = pending;
        if self.store.find(id).is_none() {
            let index = self.store.insert(at_ms, id, position, bytes);
            self.wait(index);
        }
    }

    /// The log holds the message a second time, further on: that one counts. The first may be gone from the log.
    pub(crate) fn carried(&mut self, pending: Pending) {
        match self.store.find(pending.id) {
            Some(index) => self.store.moved(index, pending.position),
            None => self.restore(pending),
        }
    }

    /// The log holds the message in its queue: nothing is owed any more.
    pub(crate) fn delivered(&mut self, id: Position) {
        let Some(index) = self.store.find(id) else { return };
        match self.store[index].place {
            Place::Wheel => {
                self.wheel.remove(&mut self.store, index);
                self.waits_no_more(index);
            }
            Place::Due => self.waits_no_more(index),
            Place::Taken | Place::Free => {}
        }
        self.store.remove(index);
    }

    /// Takes the earliest one that is due; of several, the one that was appended first. It stays known until it is
    /// [`Self::delivered`], [`Self::refused`] or [`Self::postponed`]. `None` with [`Self::next_due_ms`] not in the
    /// future: so many come at once that it takes another call to find them, and others had better not wait.
    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<Pending> {
        if now_ms < self.blocked_until_ms {
            return None;
        }
        loop {
            if (self.due.is_empty() || self.wheel.is_turning()) && !self.turn(now_ms) {
                return None;
            }
            let &Reverse((at_ms, id, index)) = self.due.peek()?;
            if at_ms > now_ms {
                // The clock stepped back.
                return None;
            }
            self.due.pop();
            if self.due.is_empty() && self.due.capacity() > DUE_KEPT {
                self.due = BinaryHeap::new();
            }
            let entry = &mut self.store[index];
            if entry.place == Place::Due && (entry.at_ms, entry.id) == (at_ms, id) {
                entry.place = Place::Taken;
                let pending = entry.pending();
                self.waits_no_more(index);
                return Some(pending);
            }
        }
    }

    /// Puts one back that the log refused, and holds all back until then.
    pub(crate) fn refused(&mut self, id: Position, until_ms: u64) {
        self.put_back(id, None);
        self.blocked_until_ms = until_ms;
    }

    /// Puts one back that is at fault itself: the others go on.
    pub(crate) fn postponed(&mut self, id: Position, until_ms: u64) {
        self.put_back(id, Some(until_ms));
    }

    /// Nothing is due before this; then it is time to look, though perhaps only more closely.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        let due_ms = self.due.peek().map(|&Reverse((at_ms, ..))| at_ms);
        let at_ms = due_ms.or_else(|| self.wheel.next_turn_ms())?;
        Some(at_ms.max(self.blocked_until_ms))
    }

    /// What all that wait will take in the log.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many wait: neither delivered nor on their way into the log.
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// How many are not known to be delivered.
    pub(crate) fn held(&self) -> usize {
        self.store.len()
    }

    /// All that are not known to be delivered, in the order of the log.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Pending> {
        self.store.in_log_order().map(Entry::pending)
    }

    /// Some thousands of them, in no order; false when there are no more. Whatever is known from the first call to the
    /// last is in one of the pieces, though others come and go in between.
    pub(crate) fn piece(&self, number: usize, each: &mut dyn FnMut(Pending)) -> bool {
        let entries = self.store.piece(number);
        entries.map(|entries| entries.map(Entry::pending).for_each(each)).is_some()
    }

    /// One of them.
    pub(crate) fn get(&self, id: Position) -> Option<Pending> {
        Some(self.store[self.store.find(id)?].pending())
    }

    /// The log is needed from here on: no pending message stands below. At once, however many there are. What moved it
    /// is durable, in async mode perhaps not synced yet: sync the log before what lies below is deleted.
    pub(crate) fn oldest_position(&self) -> Option<Position> {
        self.store.in_log_order().next().map(|entry| entry.position)
    }

    /// The oldest in the log that was not yet [`Self::looked_at`] to be carried, and whether it waits.
    pub(crate) fn to_look_at(&self) -> Option<(Pending, bool)> {
        let entry = self.store.unseen()?;
        Some((entry.pending(), entry.place != Place::Taken))
    }

    /// Goes on behind this one; it comes again only where it was carried to, or after a restart.
    pub(crate) fn looked_at(&mut self, position: Position) {
        self.store.seen(position);
    }

    fn turn(&mut self, now_ms: u64) -> bool {
        let due = &mut self.due;
        self.wheel.expire(&mut self.store, now_ms, |store, index| {
            let entry = &mut store[index];
            entry.place = Place::Due;
            due.push(Reverse((entry.at_ms, entry.id, index)));
        })
    }

    fn wait(&mut self, index: u32) {
        self.waiting += 1;
        self.bytes += u64::from(self.store[index].bytes);
        if !self.wheel.insert(&mut self.store, index) {
            let entry = &mut self.store[index];
            entry.place = Place::Due;
            self.due.push(Reverse((entry.at_ms, entry.id, index)));
        }
    }

    fn waits_no_more(&mut self, index: u32) {
        self.waiting -= 1;
        self.bytes -= u64::from(self.store[index].bytes);
    }

    fn put_back(&mut self, id: Position, at_ms: Option<u64>) {
        let Some(index) = self.store.find(id).filter(|&index| self.store[index].place == Place::Taken) else {
            return;
        };
        let entry = &mut self.store[index];
        entry.at_ms = at_ms.unwrap_or(entry.at_ms);
        self.wait(index);
    }
}

impl Entry {
    fn pending(&self) -> Pending {
        Pending { at_ms: self.at_ms, id: self.id, position: self.position, bytes: self.bytes }
    }
}

#[cfg(test)]
#[path = "delay_tests.rs"]
mod tests;
