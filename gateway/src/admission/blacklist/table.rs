//! The bans as a request looks them up: made anew when they change, never changed. A request costs one hash look-up for
//! its buyer, and one for each length of network that is banned, mostly one or two.

use super::client::Client;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use ipnet::IpNet;
use smallvec::SmallVec;
use std::net::IpAddr;

/// Until when, Unix ms; `u64::MAX`: until it is lifted.
type UntilMs = u64;

/// Networks of one length: the leading bits of the address, as a number.
type Networks = HashMap<u128, UntilMs, RandomState>;

/// All bans that hold or will have ended by the time they are met.
#[derive(Debug, Default)]
pub(super) struct Table {
    buyers: HashMap<Box<str>, UntilMs, RandomState>,
    v4: SmallVec<[(u8, Networks); 2]>,
    v6: SmallVec<[(u8, Networks); 2]>,
}

impl Table {
    /// `None` when there is nothing to look up.
    pub(super) fn of<'c>(bans: impl Iterator<Item = (&'c Client, UntilMs)>) -> Option<Self> {
        let mut table = Self::default();
        let mut some = false;
        for (client, until_ms) in bans {
            some = true;
            match client {
                Client::Buyer(buyer) => drop(table.buyers.insert(buyer.clone(), until_ms)),
                Client::Network(network) => table.add(*network, until_ms),
            }
        }
        some.then_some(table)
    }

    fn add(&mut self, network: IpNet, until_ms: UntilMs) {
        let length = network.prefix_len();
        let by_length = if network.addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let at = by_length.iter().position(|(of, _)| *of == length).unwrap_or_else(|| {
            by_length.push((length, Networks::default()));
            by_length.len() - 1
        });
        by_length[at].1.insert(leading(network.addr(), length), until_ms);
    }

    pub(super) fn buyer(&self, buyer: &str) -> Option<UntilMs> {
        self.buyers.get(buyer).copied()
    }

    /// The longest of the bans that cover an address.
    pub(super) fn address(&self, address: IpAddr) -> Option<UntilMs> {
        let by_length = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let covers = |(length, networks): &(u8, Networks)| networks.get(&leading(address, *length)).copied();
        by_length.iter().filter_map(covers).max()
    }

    /// Whether any network is in it: else nobody needs to know the address.
    pub(super) fn has_networks(&self) -> bool {
        !self.v4.is_empty() || !self.v6.is_empty()
    }
}

fn leading(address: IpAddr, length: u8) -> u128 {
    let (bits, width) = match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    bits.checked_shr(u32::from(width - length.min(width))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_every_length_are_found() {
        let bans = ["ip:198.51.100.7", "ip:203.0.113.0/24", "ip:2001:db8::/48", "ip:0.0.0.0/0", "buyer:ann"];
        let clients = bans.map(|ban| Client::parse(ban).unwrap());
        let table = |count: usize| Table::of(clients[..count].iter().zip(1..)).unwrap();
        let (some, all) = (table(3), table(5));
        let of = |table: &Table, ip: &str| table.address(ip.parse().unwrap());
        assert_eq!(of(&some, "198.51.100.7"), Some(1));
        assert_eq!(of(&some, "198.51.100.8"), None);
        assert_eq!(of(&some, "203.0.113.99"), Some(2));
        assert_eq!(of(&some, "2001:db8:0:7::1"), Some(3));
        assert_eq!(of(&some, "2001:db9::1"), None);
        assert_eq!(of(&all, "198.51.100.7"), Some(4), "the longest counts");
        assert_eq!((all.buyer("ann"), all.buyer("ben")), (Some(5), None));
        assert!(Table::of(std::iter::empty()).is_none());
    }
}
