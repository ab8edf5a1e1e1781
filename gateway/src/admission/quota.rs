//! Gate 5: per-client quotas, by buyer and by address, with `governor`.
//!
//! It stands before the shared token queue, so that one client cannot drain everybody's tokens (failure
//! mode 24). Memory is bounded: beyond `clients_max` tracked clients, the ones not yet tracked share a
//! fixed table of buckets by hash until old clients are forgotten (failure mode 27).

use foldhash::fast::FixedState;
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

type Keyed = RateLimiter<
    u64,
    DashMapStateStore<u64, FixedState>,
    DefaultClock,
    NoOpMiddleware<governor::clock::QuantaInstant>,
>;

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
    clients_max: usize,
    checks: AtomicU32,
    full: std::sync::atomic::AtomicBool,
}

impl std::fmt::Debug for ClientQuota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientQuota").field("tracked", &self.own.len()).finish_non_exhaustive()
    }
}

fn keyed(quota: Quota) -> Keyed {
    RateLimiter::dashmap_with_hasher(quota, FixedState::default())
}

impl ClientQuota {
    /// `None` when `per_s` is 0: the quota is off.
    pub fn new(per_s: f64, burst: u32, clients_max: usize) -> Option<Self> {
        let burst = NonZeroU32::new(burst.max(1))?;
        let quota = Quota::with_period(Duration::try_from_secs_f64(1.0 / per_s).ok()?)?.allow_burst(burst);
        Some(Self {
            hasher: foldhash::quality::RandomState::default(),
            own: keyed(quota),
            shared: keyed(quota),
            clock: DefaultClock::default(),
            clients_max,
            checks: AtomicU32::new(0),
            full: std::sync::atomic::AtomicBool::new(false),
        })
    }

    /// Takes one request off the client's quota, or tells when to come back.
    pub fn check(&self, client: &impl std::hash::Hash) -> Result<(), Duration> {
        let key = self.hasher.hash_one(client);
        if self.checks.fetch_add(1, Ordering::Relaxed) % CHECKS_PER_SWEEP == CHECKS_PER_SWEEP - 1 {
            self.sweep();
        }
        let refused = if self.full.load(Ordering::Relaxed) {
            self.shared.check_key(&(key % SHARED_BUCKETS))
        } else {
            self.own.check_key(&key)
        };
        refused.map_err(|until| until.wait_time_from(self.clock.now()))
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

/// Both quotas of gate 5.
#[derive(Debug, Default)]
pub struct Quotas {
    /// By authenticated buyer.
    pub buyer: Option<ClientQuota>,
    /// By address; IPv6 by /64, which is what one customer gets.
    pub ip: Option<ClientQuota>,
}

impl Quotas {
    /// From the configuration.
    pub fn new(settings: &crate::config::Quota) -> Self {
        let quota = |quota: Option<crate::config::ClientQuota>| {
            quota.and_then(|quota| ClientQuota::new(quota.per_s.into(), quota.burst, settings.clients_max))
        };
        Self { buyer: quota(settings.buyer), ip: quota(settings.ip) }
    }

    /// Takes one request off both quotas, or tells when to come back. Asks for the address only when it counts.
    pub fn check(&self, buyer: &str, address: impl FnOnce() -> IpAddr) -> Result<(), Duration> {
        if let Some(quota) = &self.ip {
            quota.check(&network_of(address()))?;
        }
        match &self.buyer {
            Some(quota) => quota.check(&buyer),
            None => Ok(()),
        }
    }
}

/// What counts as one client: an IPv4 address, or the /64 of an IPv6 one.
pub(crate) fn network_of(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        // Mapped into a range that no routed /64 uses, so that the two kinds never share a key.
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
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
        let wait = quota.check(&"a").unwrap_err();
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

    #[test]
    fn one_ipv6_customer_is_one_client() {
        let of = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
    }
}
