//! The buyers of one sale: each name once, with the units held and the newest of the buyer's tickets.

use super::chunked::Chunked;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// No ticket, no buyer.
pub(super) const NONE: u32 = u32::MAX;

/// One buyer of one sale.
pub(super) struct Buyer {
    /// Not shared: a view copies it, and each of a million buyers saves the counters.
    pub(super) name: Box<str>,
    /// Units of tickets that are not released.
    pub(super) held: u32,
    /// Slot of the newest ticket; each ticket names the one before it.
    pub(super) newest: u32,
}

/// See the module.
pub(super) struct Buyers {
    list: Chunked<Buyer>,
    by_name: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
}

impl Buyers {
    pub(super) fn new() -> Self {
        Self {
            list: Chunked::new(),
            by_name: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.find(self.hasher.hash_one(name), |&position| &*self.list[position].name == name).copied()
    }

    pub(super) fn find_or_insert(&mut self, name: &str) -> u32 {
        if let Some(position) = self.find(name) {
            return position;
        }
        let position = self.list.push(Buyer { name: Box::from(name), held: 0, newest: NONE });
        let Self { list, by_name, hasher } = self;
        by_name.insert_unique(hasher.hash_one(name), position, |&other| hasher.hash_one(&*list[other].name));
        position
    }

    pub(super) fn get(&self, position: u32) -> Option<&Buyer> {
        self.list.get(position)
    }

    /// Also the position of the next new one.
    pub(super) fn len(&self) -> u32 {
        self.list.len() as u32
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Buyer> {
        self.list.iter()
    }
}

impl std::ops::Index<u32> for Buyers {
    type Output = Buyer;
    fn index(&self, position: u32) -> &Buyer {
        &self.list[position]
    }
}

impl std::ops::IndexMut<u32> for Buyers {
    fn index_mut(&mut self, position: u32) -> &mut Buyer {
        &mut self.list[position]
    }
}
