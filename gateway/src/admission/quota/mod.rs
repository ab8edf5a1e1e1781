//! Gate 5: per-client quotas, by buyer and by address. It stands before the shared token queue, so that one client
//! cannot drain everybody's tokens (failure mode 24).
//!
//! ```text
//! client.rs     one quota over one kind of client, with `governor`
//! newcomers.rs  how many strangers one address may bring: who is asked to wait and comes back is let in
//! fields.rs     what the answer says of them: `RateLimit-Policy` and `RateLimit`
//! ```
//!
//! The order is: newcomers, buyer, address. So a buyer who hammers spends nothing of the address that good buyers share
//! with them, and names that are made up never reach the table of buyers once their address is known for it. A
//! request that the address's quota refuses has cost the buyer one of theirs.

mod client;
mod fields;
mod newcomers;

pub use client::{ClientQuota, Left};
pub use newcomers::Newcomers;

use crate::config::{ClientQuota as Limit, Quota as Settings};
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Which quota it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaKind {
    /// By authenticated buyer.
    Buyer,
    /// By client address.
    Ip,
    /// Strangers of one address.
    Newcomers,
}

/// A client is over a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Which one.
    pub kind: QuotaKind,
    /// From now on, the first instant at which the same request may pass.
    pub retry_after: Duration,
    /// Requests at once, at most.
    pub burst: u32,
    /// In so many seconds a quota that was used up is whole again.
    pub window_s: u32,
    /// The address's client, when the judge is to know: a stranger of it was asked to come back.
    pub asked: Option<u64>,
}

/// A request within its quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Within {
    /// What the buyer has left; `None`: no quota by buyer.
    pub left: Option<Left>,
    /// The address's client, when it is told to the judge: this buyer was asked to come back, and did.
    pub kept: Option<u64>,
}

/// The quotas of gate 5.
#[derive(Debug, Default)]
pub struct Quotas {
    /// By authenticated buyer.
    pub buyer: Option<Arc<ClientQuota>>,
    /// By address; IPv6 by /64, which is what one customer gets.
    pub ip: Option<Arc<ClientQuota>>,
    /// By address too: buyers never seen there.
    pub newcomers: Option<Arc<Newcomers>>,
    /// Addresses that tell nothing of a client: our own proxies when they do not say for whom they ask, and the
    /// networks that the operator exempts. They have no quota by address.
    pub exempt: Vec<IpNet>,
}

impl Quotas {
    /// As configured; `proxies` are our own, which have no quota of their own. `previous`: what runs now, and by which
    /// settings; what is set as before goes on with all that it has counted.
    pub fn new(settings: &Settings, proxies: &[IpNet], previous: Option<(&Settings, &Self)>) -> Self {
        let clients_max = settings.clients_max;
        let previous = previous.filter(|(set, _)| set.clients_max == clients_max);
        let quota =
            |of: fn(&Settings) -> Option<Limit>, part: fn(&Self) -> &Option<Arc<ClientQuota>>| match previous
                .filter(|(set, _)| of(set) == of(settings))
            {
                Some((_, quotas)) => part(quotas).clone(),
                None => of(settings)
                    .and_then(|q| ClientQuota::new(q.per_s.into(), q.burst, clients_max))
                    .map(Arc::new),
            };
        let newcomers = match previous.filter(|(set, _)| set.newcomers == settings.newcomers) {
            Some((_, quotas)) => quotas.newcomers.clone(),
            None => settings.newcomers.and_then(|newcomers| {
                let [window, wait] = [newcomers.window_ms, newcomers.wait_ms].map(Duration::from_millis);
                Newcomers::new(newcomers.burst, window, wait, clients_max).map(Arc::new)
            }),
        };
        Self {
            buyer: quota(|set| set.buyer, |quotas| &quotas.buyer),
            ip: quota(|set| set.ip, |quotas| &quotas.ip),
            newcomers,
            exempt: proxies.iter().chain(&settings.exempt).copied().collect(),
        }
    }

    /// Takes one request off the quotas, or tells which one was exceeded. Asks for the address only when it counts.
    pub fn check(&self, buyer: &str, address: impl FnOnce() -> IpAddr) -> Result<Within, Exceeded> {
        let network = self.network(address);
        let mut kept = None;
        if let (Some(newcomers), Some(network)) = (&self.newcomers, network) {
            kept = newcomers.visit(network, buyer)?.then_some(network);
        }
        let left = self.buyer.as_ref().map(|quota| quota.check(&buyer)).transpose();
        let left = left.map_err(|until| until.of(QuotaKind::Buyer))?;
        if let (Some(quota), Some(network)) = (&self.ip, network) {
            quota.check(&network).map_err(|until| until.of(QuotaKind::Ip))?;
        }
        Ok(Within { left, kept })
    }

    /// Takes one request of nobody known off the address's quota, or tells that it was exceeded.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Exceeded> {
        match (&self.ip, self.network(|| address)) {
            (Some(quota), Some(network)) => {
                quota.check(&network).map(drop).map_err(|until| until.of(QuotaKind::Ip))
            }
            _ => Ok(()),
        }
    }

    /// Notes that this buyer was here before their order counts: before the sale opens, or for a pass.
    pub fn seen(&self, buyer: &str, address: impl FnOnce() -> IpAddr) {
        let Some(newcomers) = &self.newcomers else { return };
        if let Some(network) = self.network(address) {
            let _ = newcomers.visit(network, buyer);
        }
    }

    /// The client behind an address; `None` where nothing is counted by address.
    fn network(&self, address: impl FnOnce() -> IpAddr) -> Option<u64> {
        if self.ip.is_none() && self.newcomers.is_none() {
            return None;
        }
        let address = address();
        (!self.exempt.iter().any(|network| network.contains(&address))).then(|| network_of(address))
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

    fn quotas() -> Quotas {
        Quotas {
            buyer: ClientQuota::new(0.001, 2, 1_000).map(Arc::new),
            ip: ClientQuota::new(0.001, 4, 1_000).map(Arc::new),
            newcomers: None,
            exempt: vec!["10.0.0.0/8".parse().unwrap()],
        }
    }

    const HOME: fn() -> IpAddr = || [198, 51, 100, 7].into();

    #[test]
    fn fm24_a_buyer_who_hammers_takes_nothing_of_the_address_they_share() {
        let quotas = quotas();
        let refused = (0..1_000).filter(|_| quotas.check("pest", HOME).is_err()).count();
        assert_eq!(refused, 998);
        assert!(quotas.check("ann", HOME).is_ok(), "the address has two left");
        assert!(quotas.check("ben", HOME).is_ok());
        assert_eq!(quotas.check("cy", HOME).unwrap_err().kind, QuotaKind::Ip);
        assert!(quotas.check("cy", || [198, 51, 100, 8].into()).is_ok(), "another address");
    }

    #[test]
    fn an_address_that_tells_nothing_of_a_client_has_no_quota() {
        let quotas = quotas();
        for n in 0..100 {
            assert!(quotas.check(&format!("b{n}"), || [10, 1, 2, 3].into()).is_ok());
        }
    }

    #[test]
    fn what_a_buyer_has_left_is_told() {
        let quotas = quotas();
        assert_eq!(quotas.check("ann", HOME).unwrap().left.map(|left| left.requests), Some(1));
        assert_eq!(quotas.check("ann", HOME).unwrap().left.map(|left| left.requests), Some(0));
        let exceeded = quotas.check("ann", HOME).unwrap_err();
        assert_eq!((exceeded.kind, exceeded.burst, exceeded.window_s), (QuotaKind::Buyer, 2, 2_000));
        assert!(exceeded.retry_after > Duration::from_secs(990));
    }

    #[test]
    fn one_ipv6_customer_is_one_client() {
        let of = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
    }
}
