//! Who has already won in a sale, as hashes: what lets a winner's retry pass the gates that would tell
//! it "sold out". A false positive costs one look-up in the ledger; a false negative cannot happen.

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use parking_lot::RwLock;
use std::hash::BuildHasher;

const SHARDS: usize = 16;

/// Winners of one sale. Bounded by the units that the sale ever sold.
#[derive(Debug)]
pub struct Winners {
    hasher: foldhash::quality::RandomState,
    shards: [RwLock<HashSet<u64, FixedState>>; SHARDS],
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
        let hash = self.hasher.hash_one(buyer);
        self.shards[hash as usize % SHARDS].write().insert(hash);
    }

    /// Whether this buyer may have won.
    pub fn contains(&self, buyer: &str) -> bool {
        let hash = self.hasher.hash_one(buyer);
        self.shards[hash as usize % SHARDS].read().contains(&hash)
    }
}
