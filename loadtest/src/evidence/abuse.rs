//! Who got what, with abusers and without.

use super::BuyersSaw;
use crate::scenario::{Abusers, is_made_up};
use crate::seeded::Seed;

/// Units by who won them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Units {
    /// To good buyers, those behind the NAT among them.
    pub(crate) good: u64,
    /// To those behind the NAT.
    pub(crate) nat: u64,
    /// To made-up names.
    pub(crate) abusers: u64,
}

/// A run with abusers, and the one that it is compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AbuseSeen {
    pub(crate) units: Units,
    /// The same seed without abusers.
    pub(crate) without: Units,
    /// Requests that were answered while there was something to win: of good buyers, of abusers.
    pub(crate) contest: [u64; 2],
}

impl Units {
    /// As the buyers were told.
    pub(crate) fn of(buyers: &BuyersSaw, abusers: &Abusers, seed: Seed) -> Self {
        let mut units = Self::default();
        for told in buyers.tickets.values() {
            let quantity = u64::from(told.quantity);
            if is_made_up(told.buyer) {
                units.abusers += quantity;
            } else {
                units.good += quantity;
                units.nat += if abusers.is_behind_nat(told.buyer, seed) { quantity } else { 0 };
            }
        }
        units
    }
}
