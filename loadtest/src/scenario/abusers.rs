//! Clients who take what is meant for others: a new name for every request, and the next request at once.

use super::{Buyers, Scenario};
use crate::schedule::Arrival;
use crate::seeded::{Seed, Stream};
use serde::Deserialize;
use std::net::Ipv4Addr;

/// Buyers from here on are names that abusers made up.
const FIRST_NAME: u32 = 1 << 30;
/// Where the good buyers behind one NAT come from (a block for documentation, RFC 5737).
const NAT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The other good buyers have an address each (a block for benchmarks, RFC 2544) …
const HOMES: u32 = 0xC612_0000;
/// … and so have the abusers (shared address space, RFC 6598).
const ABUSERS: u32 = 0x6440_0000;

/// Present: the scenario runs twice by the same seed, first without them, and the two are compared. Each client has an
/// address, told to the gateway as a proxy in front of it would; the sale opens some time after clients begin to come.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Abusers {
    /// Of all clients, buyers and abusers.
    pub(crate) share: f64,
    /// From an answer to the same abuser's next request, under another name.
    pub(crate) again_after_ms: u64,
    /// Of the good buyers, those who share one address.
    pub(crate) nat_share: f64,
    /// The sale opens so long after the first client may come.
    pub(crate) opens_after_ms: u64,
    /// The gateway has its default quotas; `false`: none, to see what they are good for.
    #[serde(default = "yes")]
    pub(crate) protected: bool,
    /// Set by the run that they are compared with.
    #[serde(skip)]
    pub(crate) absent: bool,
}

const fn yes() -> bool {
    true
}

/// Whether this is a name that an abuser made up.
pub(crate) fn is_made_up(buyer: u32) -> bool {
    buyer >= FIRST_NAME
}

impl Abusers {
    /// Which values make no sense.
    pub(super) fn rules(&self) -> [(bool, &'static str); 3] {
        [
            (self.share > 0.0 && self.share < 1.0, "abusers.share lies between 0 and 1"),
            ((0.0..=1.0).contains(&self.nat_share), "abusers.nat_share lies between 0 and 1"),
            (self.again_after_ms > 0, "abusers.again_after_ms is at least 1"),
        ]
    }

    /// How many there are besides so many good buyers.
    pub(crate) fn count(&self, buyers: u32) -> u32 {
        if self.absent {
            0
        } else {
            (f64::from(buyers) * self.share / (1.0 - self.share)).round().max(1.0) as u32
        }
    }

    /// First requests of the abusers that one generator thread drives, of `abusers` in all: they come as evenly as
    /// buyers do, over the same time.
    pub(crate) fn arrivals(
        abusers: u32,
        buyers: &Buyers,
        seed: Seed,
        thread: u32,
        threads: u32,
    ) -> impl Iterator<Item = Arrival> + use<> {
        let within_us = buyers.arrive_within_ms as f64 * 1_000.0;
        (thread..abusers).step_by(threads as usize).map(move |abuser| {
            let buyer = FIRST_NAME + abuser;
            let place = seed.unit(Stream::Arrival, buyer.into());
            let share = (f64::from(abuser) + place) / f64::from(abusers);
            Arrival { at_us: (share * within_us) as u64, buyer }
        })
    }

    /// The name after this one, of the same of `abusers`.
    pub(crate) fn next_name(buyer: u32, abusers: u32) -> u32 {
        // A billion requests later they begin anew.
        buyer.checked_add(abusers).unwrap_or(FIRST_NAME + buyer % abusers)
    }

    /// From where a client comes, by seed.
    pub(crate) fn address(&self, buyer: u32, buyers: u32, seed: Seed) -> Ipv4Addr {
        if is_made_up(buyer) {
            return Ipv4Addr::from(ABUSERS + (buyer - FIRST_NAME) % self.count(buyers).max(1));
        }
        if self.is_behind_nat(buyer, seed) { NAT } else { Ipv4Addr::from(HOMES + buyer) }
    }

    /// Whether a good buyer shares the one address.
    pub(crate) fn is_behind_nat(&self, buyer: u32, seed: Seed) -> bool {
        seed.chance(Stream::Nat, buyer.into(), self.nat_share)
    }
}

impl Scenario {
    /// The same without abusers, when there are some.
    pub(crate) fn without_abusers(&self) -> Option<Self> {
        let abusers = self.abusers.filter(|abusers| !abusers.absent)?;
        Some(Self { abusers: Some(Abusers { absent: true, ..abusers }), ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_abuser_keeps_its_address_and_no_two_requests_have_one_name() {
        let Scenario { abusers, buyers, .. } = Scenario::load("abuse").unwrap();
        let abusers = abusers.unwrap();
        let count = abusers.count(760);
        assert_eq!(count, 40);
        let mut names = std::collections::HashSet::new();
        let mut addresses = std::collections::HashSet::new();
        for first in (0..2).flat_map(|thread| Abusers::arrivals(count, &buyers, Seed(1), thread, 2)) {
            assert!(first.at_us < buyers.arrive_within_ms * 1_000);
            let (mut name, address) = (first.buyer, abusers.address(first.buyer, 760, Seed(1)));
            assert!(addresses.insert(address));
            for _ in 0..100 {
                assert!(is_made_up(name) && names.insert(name));
                assert_eq!(abusers.address(name, 760, Seed(1)), address);
                name = Abusers::next_name(name, count);
            }
        }
        assert_eq!(addresses.len(), 40);
        let behind_nat = (0..760).filter(|buyer| abusers.is_behind_nat(*buyer, Seed(1))).count();
        assert!((120..190).contains(&behind_nat), "{behind_nat}");
    }
}
