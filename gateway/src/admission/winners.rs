//! Who has already won in a sale, as hashes: what lets a winner's retry pass the gates that would tell
//! it "sold out". A false positive costs one look-up in the ledger; a false negative cannot happen.

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use parking_lot::RwLock;
use std::hash::BuildHasher;
use tidegate_stock::hash_of;

const SHARDS: usize = 16;

/// Winners of one sale. Bounded by the units that the sale ever sold.
#[derive(Debug)]
pub struct Winners {
    hasher: foldhash::quality::RandomState,
    /// 32 bits of each: a false positive in 70,000 look-ups among a million winners, for half of the memory.
    shards: [RwLock<HashSet<u32, FixedState>>; SHARDS],
}

impl Default for Winners {
    fn default() -> Self {
        Self {
            hasher: foldhash::quality::RandomState::default(),
            shards: std::array::from_fn(|_| RwLock::new(HashSet::with_hasher(FixedState::default()))),
        }
    }
}

impl Winners {
    /// Remembers a buyer.
    pub fn insert(&self, buyer: &str) {
        self.insert_hash(hash_of(buyer));
    }

    /// Remembers a buyer of whom only [`hash_of`] is known.
    pub fn insert_hash(&self, buyer_hash: u64) {
        let hash = self.hasher.hash_one(buyer_hash);
        self.shards[hash as usize % SHARDS].write().insert((hash >> 32) as u32);
    }

    /// Whether this buyer may have won.
    pub fn contains(&self, buyer: &str) -> bool {
        // Hashed twice: the inner hash is the same everywhere, the outer one nobody outside can aim at.
        let hash = self.hasher.hash_one(hash_of(buyer));
        self.shards[hash as usize % SHARDS].read().contains(&((hash >> 32) as u32))
    }
}
