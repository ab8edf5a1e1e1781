//! Pending delayed messages: one entry each in one vector, found by id, linked in the order of the log.

use crate::Position;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::ops::{Index, IndexMut};

/// No entry.
pub(super) const NONE: u32 = u32::MAX;
/// A store that held more than this gives its memory back when it is empty.
const KEPT: usize = 65_536;

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: the entry is free.
    Free,
    /// In a slot of the wheel.
    Wheel,
    /// Due, not yet taken.
    Due,
    /// Taken, and on its way into the log.
    Taken,
}

/// One pending message.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at_ms: u64,
    pub(super) id: Position,
    pub(super) position: Position,
    pub(super) bytes: u32,
    /// In the list of its slot; of a free entry: the next free one.
    pub(super) next: u32,
    pub(super) previous: u32,
    /// In the order of the log.
    older: u32,
    newer: u32,
    pub(super) place: Place,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Store {
    entries: Vec<Entry>,
    free: u32,
    by_id: HashTable<u32>,
    oldest: u32,
    newest: u32,
    /// All entries that are older in the log than this one were looked at. `NONE`: all were.
    unseen: u32,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: NONE,
            by_id: HashTable::new(),
            oldest: NONE,
            newest: NONE,
            unseen: NONE,
        }
    }
}

impl Index<u32> for Store {
    type Output = Entry;

    fn index(&self, index: u32) -> &Entry {
        &self.entries[index as usize]
    }
}

impl IndexMut<u32> for Store {
    fn index_mut(&mut self, index: u32) -> &mut Entry {
        &mut self.entries[index as usize]
    }
}

impl Store {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn find(&self, id: Position) -> Option<u32> {
        self.by_id.find(hash(id), |&index| self[index].id == id).copied()
    }

    /// A new entry, at no place yet. Its id must not be known.
    pub(super) fn insert(&mut self, at_ms: u64, id: Position, position: Position, bytes: u32) -> u32 {
        let (next, previous, older, newer) = (NONE, NONE, NONE, NONE);
        let entry = Entry { at_ms, id, position, bytes, next, previous, older, newer, place: Place::Free };
        let index = if self.free == NONE {
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        } else {
            let index = self.free;
            self.free = self[index].next;
            self[index] = entry;
            index
        };
        let entries = &self.entries;
        self.by_id.insert_unique(hash(id), index, |&index| hash(entries[index as usize].id));
        self.link(index);
        index
    }

    /// Forgets an entry that is at no place any more.
    pub(super) fn remove(&mut self, index: u32) {
        self.unlink(index);
        let id = self[index].id;
        if let Ok(found) = self.by_id.find_entry(hash(id), |&other| other == index) {
            found.remove();
        }
        let free = self.free;
        let entry = &mut self[index];
        (entry.place, entry.next) = (Place::Free, free);
        self.free = index;
        if self.len() == 0 && self.entries.capacity() > KEPT {
            *self = Self::default();
        }
    }

    /// The message stands at another place of the log now.
    pub(super) fn moved(&mut self, index: u32, position: Position) {
        self.unlink(index);
        self[index].position = position;
        self.link(index);
    }

    /// In the order of the log.
    pub(super) fn in_log_order(&self) -> impl Iterator<Item = &Entry> {
        let entry = |index: u32| (index != NONE).then(|| &self[index]);
        std::iter::successors(entry(self.oldest), move |present| entry(present.newer))
    }

    /// The next one in the order of the log that was not looked at.
    pub(super) fn unseen(&self) -> Option<&Entry> {
        (self.unseen != NONE).then(|| &self[self.unseen])
    }

    /// This one was looked at, if it is the next one still.
    pub(super) fn seen(&mut self, position: Position) {
        if self.unseen().is_some_and(|entry| entry.position == position) {
            self.unseen = self[self.unseen].newer;
        }
    }

    /// Into the order of the log: at its end, where whoever reads the log puts them.
    fn link(&mut self, index: u32) {
        let position = self[index].position;
        let (mut older, mut newer) = (self.newest, NONE);
        while older != NONE && self[older].position > position {
            newer = older;
            older = self[older].older;
        }
        (self[index].older, self[index].newer) = (older, newer);
        self.set_newer(older, index);
        self.set_older(newer, index);
        if self.unseen == newer {
            self.unseen = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let (older, newer) = (self[index].older, self[index].newer);
        self.set_newer(older, newer);
        self.set_older(newer, older);
        if self.unseen == index {
            self.unseen = newer;
        }
    }

    fn set_newer(&mut self, of: u32, newer: u32) {
        let link = if of == NONE { &mut self.oldest } else { &mut self.entries[of as usize].newer };
        *link = newer;
    }

    fn set_older(&mut self, of: u32, older: u32) {
        let link = if of == NONE { &mut self.newest } else { &mut self.entries[of as usize].older };
        *link = older;
    }

    /// Bytes that are allocated.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.by_id.allocation_size()
    }
}

fn hash(id: Position) -> u64 {
    // Positions are the log's own: nobody chooses them.
    FixedState::default().hash_one(id.0)
}
