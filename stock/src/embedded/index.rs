//! From a ticket id to its place (sale, slot), without a scan. Sharded, so that no table is large enough for its
//! growth to be felt.
//!
//! It is a hint: who looks up verifies the id under the sale's lock. So an entry may stand for a reservation
//! that is being made and is then refused.

use crate::types::TicketId;
use hashbrown::HashTable;
use parking_lot::Mutex;

const SHARDS: usize = 64;

/// Where a ticket lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) sale: u32,
    pub(super) slot: u32,
}

struct Entry {
    key: u64,
    place: Place,
}

/// See the module.
pub(super) struct TicketIndex {
    shards: Box<[Mutex<HashTable<Entry>>]>,
}

/// 64 of the id's bits, random in every ULID. Two ids that agree in them cannot both be sold: the second
/// reservation is refused and its caller tries again with a fresh id.
fn key_of(id: TicketId) -> u64 {
    (id.0 as u64) ^ ((id.0 >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn mix(key: u64) -> u64 {
    let mixed = (key ^ (key >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed ^ (mixed >> 32)
}

impl TicketIndex {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::new(HashTable::new())).collect() }
    }

    fn shard(&self, hash: u64) -> &Mutex<HashTable<Entry>> {
        // The table takes its own bits from both ends of the hash; these are from the middle.
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    /// Notes the id, or tells whose it is already.
    pub(super) fn insert(&self, id: TicketId, place: Place) -> Result<(), Place> {
        let key = key_of(id);
        let hash = mix(key);
        let mut shard = self.shard(hash).lock();
        if let Some(entry) = shard.find(hash, |entry| entry.key == key) {
            return Err(entry.place);
        }
        shard.insert_unique(hash, Entry { key, place }, |entry| mix(entry.key));
        Ok(())
    }

    pub(super) fn remove(&self, id: TicketId) {
        let key = key_of(id);
        let hash = mix(key);
        if let Ok(entry) = self.shard(hash).lock().find_entry(hash, |entry| entry.key == key) {
            entry.remove();
        }
    }

    pub(super) fn get(&self, id: TicketId) -> Option<Place> {
        let key = key_of(id);
        let hash = mix(key);
        self.shard(hash).lock().find(hash, |entry| entry.key == key).map(|entry| entry.place)
    }
}
