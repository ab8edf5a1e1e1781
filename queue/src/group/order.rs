//! One at a time per ordering key: which offset of each key is out, which wait behind it, and what that makes of
//! their states.

use super::progress::{Progress, Track, TrackState};
use hashbrown::HashMap;
use std::collections::BTreeSet;

/// The offsets of one key that were looked at and are not settled.
#[derive(Debug)]
struct Line {
    /// May be delivered, again and again, until it is settled.
    holder: u64,
    parked: BTreeSet<u64>,
}

/// Keys of one queue in one group.
#[derive(Debug, Default)]
pub(crate) struct Order {
    lines: HashMap<u64, Line, foldhash::fast::RandomState>,
    key_of: HashMap<u64, u64, foldhash::fast::RandomState>,
}

impl Order {
    /// An offset of this key is looked at: true when it may be delivered, else it waits in line.
    pub(crate) fn enter(&mut self, offset: u64, key: u64) -> bool {
        self.key_of.insert(offset, key);
        let line = self.lines.entry(key).or_insert_with(|| Line { holder: offset, parked: BTreeSet::new() });
        if line.holder == offset {
            return true;
        }
        line.parked.insert(offset);
        false
    }

    /// An offset is settled: answers the one that may be delivered now in its place.
    pub(crate) fn leave(&mut self, offset: u64) -> Option<u64> {
        let key = self.key_of.remove(&offset)?;
        let line = self.lines.get_mut(&key)?;
        if line.holder != offset {
            line.parked.remove(&offset);
            return None;
        }
        let Some(next) = line.parked.pop_first() else {
            self.lines.remove(&key);
            return None;
        };
        line.holder = next;
        Some(next)
    }
}

impl Progress {
    /// A message of an ordered group is looked at: true when it may be leased, else it waits in line.
    pub(crate) fn may_go(&mut self, offset: u64, key: u64, deadline_ms: u64) -> bool {
        if self.order.enter(offset, key) {
            return true;
        }
        let attempt = self.untrack(offset).map_or(0, |track| track.attempt);
        self.next = self.next.max(offset + 1);
        self.track(offset, Track { attempt, deadline_ms, state: TrackState::Parked });
        false
    }

    /// Nobody waits in line any more, until [`Self::take_unordered`] is asked.
    pub(crate) fn forget_order(&mut self) {
        (self.order, self.in_line) = (Order::default(), false);
        let parked = |track: &Track| track.state == TrackState::Parked;
        let all: Vec<u64> = self.tracked.iter().filter(|(_, track)| parked(track)).map(|(o, _)| *o).collect();
        for offset in all {
            self.make_ready(offset);
        }
    }

    /// What has to be put into line after a start, oldest first; nothing when it was.
    pub(crate) fn take_unordered(&mut self) -> Vec<u64> {
        if std::mem::replace(&mut self.in_line, true) {
            return Vec::new();
        }
        let mut all: Vec<u64> = self.tracked.keys().copied().collect();
        all.sort_unstable();
        all
    }

    /// Puts one of those into line. A lease of now stays a lease.
    pub(crate) fn put_in_line(&mut self, offset: u64, key: u64) {
        let Some(&track) = self.tracked.get(&offset) else { return };
        match track.state {
            TrackState::Leased { .. } => drop(self.order.enter(offset, key)),
            _ => drop(self.may_go(offset, key, track.deadline_ms)),
        }
    }

    /// How many came to be first in line since the last call.
    pub(crate) fn take_released(&mut self) -> usize {
        std::mem::take(&mut self.released)
    }

    /// The offset is settled, or reported: the next of its key may go.
    pub(super) fn release(&mut self, offset: u64) {
        if let Some(next) = self.order.leave(offset)
            && self.tracked.get(&next).is_some_and(|track| track.state == TrackState::Parked)
        {
            self.make_ready(next);
            self.released += 1;
        }
    }

    pub(super) fn make_ready(&mut self, offset: u64) {
        if let Some(track) = self.untrack(offset) {
            self.track(offset, Track { state: TrackState::Ready, ..track });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_of_a_key_goes_when_the_one_before_is_settled() {
        let mut order = Order::default();
        assert!(order.enter(0, 7) && order.enter(1, 8));
        assert!(!order.enter(3, 7) && !order.enter(2, 7));
        assert!(order.enter(0, 7), "its own retry");
        assert_eq!(order.leave(3), None);
        assert_eq!(order.leave(0), Some(2));
        assert!(!order.enter(4, 7));
        assert_eq!((order.leave(2), order.leave(4), order.leave(1)), (Some(4), None, None));
        assert!(order.lines.is_empty() && order.key_of.is_empty());
    }
}
