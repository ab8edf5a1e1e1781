//! The beginning of an index: it moves with that of the log.

use super::{ConsumeQueue, READ_MAX};
use crate::Position;
use crate::sync::atomic::Ordering;
use std::io;

impl ConsumeQueue {
    /// The first offset at or after `from` whose message stands in the log, and where. Lost ones stand nowhere.
    pub(crate) fn first_standing(&self, mut from: u64) -> io::Result<Option<(u64, Position)>> {
        loop {
            let entries = self.read(from, READ_MAX)?;
            if entries.is_empty() {
                return Ok(None);
            }
            if let Some(index) = entries.iter().position(|entry| entry.size > 0) {
                return Ok(Some((from + index as u64, entries[index].position)));
            }
            from += entries.len() as u64;
        }
    }

    /// The first offset whose message stands at or after `start`, by bisection; the end when there is none.
    pub(crate) fn first_at(&self, start: Position) -> io::Result<u64> {
        let (mut low, mut high) = (self.oldest(), self.end());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_standing(middle)? {
                Some((offset, position)) if position < start => low = offset + 1,
                // From `middle` on nothing stands below `start`; what is lost in between is of no use to anybody.
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Nothing below `oldest` is given out any more. True when that is new. Never moves back.
    pub(crate) fn raise_oldest(&self, oldest: u64) -> bool {
        self.oldest.fetch_max(oldest, Ordering::AcqRel) < oldest
    }

    /// Removes files that hold only what is no longer given out.
    pub(crate) fn trim(&self) -> io::Result<()> {
        let oldest = self.oldest();
        if self.trimmed.load(Ordering::Acquire) == self.base(oldest) {
            return Ok(());
        }
        self.open.lock().retain(|(base, _)| *base + self.file_entries > oldest);
        let mut removed = false;
        for name in self.storage.list(&self.dir)? {
            let base = name.to_str().and_then(|name| name.parse::<u64>().ok());
            if base.is_some_and(|base| base + self.file_entries <= oldest) {
                self.storage.remove(&self.dir.join(name))?;
                removed = true;
            }
        }
        if removed {
            self.storage.sync_dir(&self.dir)?;
        }
        self.trimmed.store(self.base(oldest), Ordering::Release);
        Ok(())
    }
}
