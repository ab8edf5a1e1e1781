//! One quota over one kind of client, with `governor`.
//!
//! Memory is bounded: beyond `clients_max` tracked clients, the ones not yet tracked share a fixed table of buckets by
//! hash until old clients are forgotten (failure mode 27).

use super::{Exceeded, QuotaKind};
use foldhash::fast::FixedState;
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

type Keyed = RateLimiter<u64, DashMapStateStore<u64, FixedState>, DefaultClock, StateInformationMiddleware>;

/// Checks between two looks at the number of tracked clients.
const CHECKS_PER_SWEEP: u32 = 4096;
/// Buckets that clients share when the table is full.
const SHARED_BUCKETS: u64 = 65_536;

/// One quota over one kind of client.
pub struct ClientQuota {
    hasher: foldhash::quality::RandomState,
    own: Keyed,
    shared: Keyed,
    clock: DefaultClock,
    burst: u32,
    window_s: u32,
    clients_max: usize,
    checks: AtomicU32,
    full: AtomicBool,
}

/// What a client may still ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Requests that would pass at once.
    pub requests: u32,
    /// Of so many.
    pub burst: u32,
    /// In so many seconds a quota that was used up is whole again.
    pub window_s: u32,
}

/// When a client may come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    /// From now.
    pub retry_after: Duration,
    burst: u32,
    window_s: u32,
}

impl Until {
    pub(super) fn of(self, kind: QuotaKind) -> Exceeded {
        let Self { retry_after, burst, window_s } = self;
        Exceeded { kind, retry_after, burst, window_s, asked: None }
    }
}

impl std::fmt::Debug for ClientQuota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientQuota").field("tracked", &self.own.len()).finish_non_exhaustive()
    }
}

impl ClientQuota {
    /// `per_s` requests a second on the long run and `burst` at once. `None` when `per_s` is 0: the quota is off.
    pub fn new(per_s: f64, burst: u32, clients_max: usize) -> Option<Self> {
        let limit = NonZeroU32::new(burst.max(1))?;
        let quota = Quota::with_period(Duration::try_from_secs_f64(1.0 / per_s).ok()?)?.allow_burst(limit);
        let keyed = || {
            RateLimiter::dashmap_with_hasher(quota, FixedState::default())
                .with_middleware::<StateInformationMiddleware>()
        };
        Some(Self {
            hasher: foldhash::quality::RandomState::default(),
            own: keyed(),
            shared: keyed(),
            clock: DefaultClock::default(),
            burst: limit.get(),
            window_s: quota.burst_size_replenished_in().as_secs_f64().ceil().clamp(1.0, f64::from(u32::MAX))
                as u32,
            clients_max,
            checks: AtomicU32::new(0),
            full: AtomicBool::new(false),
        })
    }

    /// Takes one request off the client's quota, or tells when to come back.
    pub fn check(&self, client: &impl std::hash::Hash) -> Result<Left, Until> {
        let key = self.hasher.hash_one(client);
        if self.checks.fetch_add(1, Ordering::Relaxed) % CHECKS_PER_SWEEP == CHECKS_PER_SWEEP - 1 {
            self.sweep();
        }
        let checked = if self.full.load(Ordering::Relaxed) {
            self.shared.check_key(&(key % SHARED_BUCKETS))
        } else {
            self.own.check_key(&key)
        };
        let (burst, window_s) = (self.burst, self.window_s);
        match checked {
            Ok(state) => Ok(Left { requests: state.remaining_burst_capacity(), burst, window_s }),
            Err(until) => Err(Until { retry_after: until.wait_time_from(self.clock.now()), burst, window_s }),
        }
    }

    /// Requests at once, and in how many seconds a quota that was used up is whole again.
    pub(super) fn limits(&self) -> (u32, u32) {
        (self.burst, self.window_s)
    }

    /// Forgets clients whose bucket is full again, and decides whether newcomers share buckets.
    fn sweep(&self) {
        if self.own.len() > self.clients_max {
            self.own.retain_recent();
        }
        self.full.store(self.own.len() > self.clients_max, Ordering::Relaxed);
    }

    #[cfg(test)]
    fn tracked(&self) -> usize {
        self.own.len() + self.shared.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_over_its_quota_is_told_when_to_come_back_and_others_pass() {
        let quota = ClientQuota::new(1.0, 2, 1_000).unwrap();
        assert!(quota.check(&"a").is_ok());
        assert!(quota.check(&"a").is_ok());
        let wait = quota.check(&"a").unwrap_err().retry_after;
        assert!(wait <= Duration::from_secs(1) && wait > Duration::from_millis(500), "{wait:?}");
        assert!(quota.check(&"b").is_ok());
    }

    #[test]
    fn fm27_random_clients_do_not_grow_the_table_without_bound() {
        let quota = ClientQuota::new(0.001, 1, 10_000).unwrap();
        for client in 0_u64..1_000_000 {
            let _ = quota.check(&client);
        }
        assert!(quota.tracked() <= 10_000 + CHECKS_PER_SWEEP as usize + SHARED_BUCKETS as usize);
    }

    #[test]
    fn off_when_the_rate_is_zero() {
        assert!(ClientQuota::new(0.0, 5, 10).is_none());
    }
}
