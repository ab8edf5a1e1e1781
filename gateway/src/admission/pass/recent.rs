//! Numbers remembered for a time, in bounded memory: two generations, of which the older is forgotten as a whole.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const SHARDS: usize = 16;

/// What was said of a number within the last `keep_ms`, and at most twice as long ago.
pub(super) struct Recent<V> {
    shards: [Mutex<Generations<V>>; SHARDS],
    unremembered: AtomicU64,
}

/// How long and how much is remembered. Told with each call: it may change, and what is remembered stays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// In ms.
    pub(super) keep_ms: u64,
    /// Numbers, about.
    pub(super) entries_max: usize,
}

struct Generations<V> {
    young: HashMap<u64, V, RandomState>,
    old: HashMap<u64, V, RandomState>,
    since_ms: u64,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        let generations = || Generations {
            young: HashMap::with_hasher(RandomState::default()),
            old: HashMap::with_hasher(RandomState::default()),
            since_ms: 0,
        };
        Self { shards: std::array::from_fn(|_| Mutex::new(generations())), unremembered: AtomicU64::new(0) }
    }
}

impl<V: Copy> Recent<V> {
    /// Decides by what is remembered of `number`, and remembers what the decision says. When there is no room for a
    /// new number, the decision stands and is not remembered.
    pub(super) fn change<R>(
        &self,
        number: u64,
        now_ms: u64,
        bounds: Bounds,
        decide: impl FnOnce(Option<V>) -> (R, Option<V>),
    ) -> R {
        let mut shard = self.shards[number as usize % SHARDS].lock();
        shard.turn(now_ms, bounds.keep_ms.max(1));
        let known = shard.young.get(&number).or_else(|| shard.old.get(&number)).copied();
        let (answer, next) = decide(known);
        if let Some(value) = next {
            if known.is_some() || shard.young.len() + shard.old.len() < (bounds.entries_max / SHARDS).max(1) {
                shard.old.remove(&number);
                shard.young.insert(number, value);
            } else {
                self.unremembered.fetch_add(1, Ordering::Relaxed);
            }
        }
        answer
    }

    /// As if nothing had been said of it.
    pub(super) fn forget(&self, number: u64) {
        let mut shard = self.shards[number as usize % SHARDS].lock();
        shard.young.remove(&number);
        shard.old.remove(&number);
    }

    /// Decisions for which there was no room.
    pub(super) fn unremembered(&self) -> u64 {
        self.unremembered.load(Ordering::Relaxed)
    }
}

impl<V> Generations<V> {
    fn turn(&mut self, now_ms: u64, keep_ms: u64) {
        let age_ms = now_ms.saturating_sub(self.since_ms);
        if age_ms < keep_ms {
            return;
        }
        // After two spans without a request the young ones are too old as well.
        let young = std::mem::take(&mut self.young);
        self.old = if age_ms < 2 * keep_ms { young } else { HashMap::default() };
        self.since_ms = now_ms;
    }
}
