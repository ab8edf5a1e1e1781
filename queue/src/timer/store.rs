//! Pending delayed messages: one entry each, found by id, linked in the order of the log. In many small pieces, so that
//! none that comes has to wait while a large one is moved.

use crate::Position;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::ops::{Index, IndexMut};

/// No entry.
pub(super) const NONE: u32 = u32::MAX;
/// Entries of a piece.
const PIECE: usize = 4_096;
/// Tables that ids are spread over.
const TABLES: usize = 128;

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
    pieces: Vec<Vec<Entry>>,
    free: u32,
    by_id: Box<[HashTable<u32>; TABLES]>,
    len: usize,
    oldest: u32,
    newest: u32,
    /// All entries that are older in the log than this one were looked at. `NONE`: all were.
    unseen: u32,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            pieces: Vec::new(),
            free: NONE,
            by_id: Box::new([const { HashTable::new() }; TABLES]),
            len: 0,
            oldest: NONE,
            newest: NONE,
            unseen: NONE,
        }
    }
}

impl Index<u32> for Store {
    type Output = Entry;

    fn index(&self, index: u32) -> &Entry {
        &self.pieces[index as usize / PIECE][index as usize % PIECE]
    }
}

impl IndexMut<u32> for Store {
    fn index_mut(&mut self, index: u32) -> &mut Entry {
        &mut self.pieces[index as usize / PIECE][index as usize % PIECE]
    }
}

impl Store {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn find(&self, id: Position) -> Option<u32> {
        self.by_id[table_of(id)].find(hash(id), |&index| self[index].id == id).copied()
    }

    /// A new entry, at no place yet. Its id must not be known.
    pub(super) fn insert(&mut self, at_ms: u64, id: Position, position: Position, bytes: u32) -> u32 {
        let (next, previous, older, newer) = (NONE, NONE, NONE, NONE);
        let entry = Entry { at_ms, id, position, bytes, next, previous, older, newer, place: Place::Free };
        let index = if self.free == NONE {
            self.push(entry)
        } else {
            let index = self.free;
            self.free = self[index].next;
            self[index] = entry;
            index
        };
        let pieces = &self.pieces;
        let id_of = |index: usize| pieces[index / PIECE][index % PIECE].id;
        self.by_id[table_of(id)].insert_unique(hash(id), index, |&index| hash(id_of(index as usize)));
        self.len += 1;
        self.link(index);
        index
    }

    /// Forgets an entry that is at no place any more.
    pub(super) fn remove(&mut self, index: u32) {
        self.unlink(index);
        let id = self[index].id;
        if let Ok(found) = self.by_id[table_of(id)].find_entry(hash(id), |&other| other == index) {
            found.remove();
            self.len -= 1;
        }
        let free = self.free;
        let entry = &mut self[index];
        (entry.place, entry.next) = (Place::Free, free);
        self.free = index;
        // Memory is given back when nothing is left.
        if self.len == 0 && self.pieces.len() > 1 {
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

    /// The entries of one piece; `None` when there are no more pieces.
    pub(super) fn piece(&self, number: usize) -> Option<impl Iterator<Item = &Entry>> {
        Some(self.pieces.get(number)?.iter().filter(|entry| entry.place != Place::Free))
    }

    fn push(&mut self, entry: Entry) -> u32 {
        if self.pieces.last().is_none_or(|piece| piece.len() == PIECE) {
            // The first one grows: a queue may have few delayed messages.
            let whole = if self.pieces.is_empty() { 0 } else { PIECE };
            self.pieces.push(Vec::with_capacity(whole));
        }
        let before = (self.pieces.len() - 1) * PIECE;
        let piece = self.pieces.last_mut().expect("one was pushed");
        piece.push(entry);
        (before + piece.len() - 1) as u32
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
        let link = if of == NONE { &mut self.oldest } else { &mut self[of].newer };
        *link = newer;
    }

    fn set_older(&mut self, of: u32, older: u32) {
        let link = if of == NONE { &mut self.newest } else { &mut self[of].older };
        *link = older;
    }

    /// Bytes that are allocated.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        let pieces = self.pieces.iter().map(|piece| piece.capacity() * size_of::<Entry>()).sum::<usize>();
        pieces + self.by_id.iter().map(HashTable::allocation_size).sum::<usize>()
    }
}

fn hash(id: Position) -> u64 {
    // Positions are the log's own: nobody chooses them.
    FixedState::default().hash_one(id.0)
}

fn table_of(id: Position) -> usize {
    // Of bits that a table does not choose its places by.
    (hash(id) >> 40) as usize % TABLES
}
