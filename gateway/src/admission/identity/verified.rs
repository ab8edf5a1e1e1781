//! Tokens that have proved good: a signature is checked once, not once a request.
//!
//! Only what was verified is remembered, by the SHA-256 of the whole token, so nobody fills it without tokens of the
//! issuer, and no other token is taken for one that is in it. Bounded: two generations, of which the older is
//! forgotten as a whole; what is asked for stays in the younger.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

const SHARDS: usize = 16;

/// Stands for a token.
pub(super) type Fingerprint = [u8; 32];

/// What is known of a verified token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// Whose it is.
    pub(super) buyer: Box<str>,
    /// The last instant at which it is good, with the skew that is granted; Unix ms.
    pub(super) until_ms: u64,
}

/// Verified tokens under one set of keys.
pub(super) struct Verified {
    shards: [Mutex<Generations>; SHARDS],
    /// Of one generation of one shard; 0 remembers nothing.
    entries_max: usize,
}

#[derive(Default)]
struct Generations {
    young: HashMap<Fingerprint, Known, RandomState>,
    old: HashMap<Fingerprint, Known, RandomState>,
}

/// Of a whole token.
pub(super) fn fingerprint(token: &str) -> Fingerprint {
    Sha256::digest(token.as_bytes()).into()
}

impl Verified {
    /// Room for about `tokens_max` tokens.
    pub(super) fn new(tokens_max: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            entries_max: tokens_max.div_ceil(2 * SHARDS),
        }
    }

    /// The buyer of a token that was verified before and is still in time.
    pub(super) fn buyer(&self, token: &Fingerprint, now_ms: u64) -> Option<String> {
        let mut shard = self.shards[usize::from(token[0]) % SHARDS].lock();
        let generations = &mut *shard;
        if let Some(known) = generations.young.get(token) {
            return (now_ms <= known.until_ms).then(|| known.buyer.to_string());
        }
        let known = generations.old.remove(token).filter(|known| now_ms <= known.until_ms)?;
        let buyer = known.buyer.to_string();
        generations.put(*token, known, self.entries_max);
        Some(buyer)
    }

    /// Remembers a token.
    pub(super) fn put(&self, token: Fingerprint, known: Known) {
        if self.entries_max > 0 {
            self.shards[usize::from(token[0]) % SHARDS].lock().put(token, known, self.entries_max);
        }
    }

    /// How many are remembered.
    pub(super) fn count(&self) -> usize {
        let count = |shard: &Mutex<Generations>| {
            let shard = shard.lock();
            shard.young.len() + shard.old.len()
        };
        self.shards.iter().map(count).sum()
    }
}

impl Generations {
    fn put(&mut self, token: Fingerprint, known: Known, entries_max: usize) {
        if self.young.len() >= entries_max {
            // Swapped, not replaced: the memory of the older is used again.
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(token, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(buyer: &str, until_ms: u64) -> Known {
        Known { buyer: buyer.into(), until_ms }
    }

    #[test]
    fn a_token_is_known_until_its_end() {
        let verified = Verified::new(100);
        let token = fingerprint("a.b.c");
        assert_eq!(verified.buyer(&token, 0), None);
        verified.put(token, known("ann", 10));
        assert_eq!(verified.buyer(&token, 10).as_deref(), Some("ann"));
        assert_eq!(verified.buyer(&token, 11), None);
        assert_eq!(verified.buyer(&fingerprint("a.b.d"), 0), None);
    }

    #[test]
    fn memory_is_bounded_and_what_is_asked_for_stays() {
        let max = 3_200;
        let verified = Verified::new(max);
        let ours = fingerprint("ours");
        verified.put(ours, known("ann", u64::MAX));
        for number in 0..20 * max {
            verified.put(fingerprint(&number.to_string()), known("x", u64::MAX));
            assert_eq!(verified.buyer(&ours, 0).as_deref(), Some("ann"), "after {number} others");
        }
        assert!(verified.count() <= max, "{}", verified.count());
        let nothing = Verified::new(0);
        nothing.put(ours, known("ann", u64::MAX));
        assert_eq!(nothing.buyer(&ours, 0), None);
    }
}
