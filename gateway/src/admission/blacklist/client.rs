//! Whom a ban is of: a buyer, or a network.

use crate::admission::network_of;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a buyer id, at most.
const BUYER_BYTES_MAX: usize = 128;
/// What one IPv6 customer gets.
const V6_CUSTOMER: u8 = 64;

/// A banned client, in the one spelling that it has in lists, files and Redis.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    /// By id.
    Buyer(Box<str>),
    /// By address; without host bits.
    Network(IpNet),
}

impl Client {
    /// `buyer:ID`, `ip:ADDRESS` or `ip:NETWORK/LENGTH`; an IPv6 address alone stands for its /64. The error says what is
    /// wanted.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(buyer) = text.strip_prefix("buyer:") {
            let fits = (1..=BUYER_BYTES_MAX).contains(&buyer.len());
            let visible = buyer.bytes().all(|byte| byte.is_ascii_graphic());
            return if fits && visible {
                Ok(Self::Buyer(buyer.into()))
            } else {
                Err("a buyer id has 1 to 128 visible ASCII characters")
            };
        }
        let Some(ip) = text.strip_prefix("ip:") else {
            return Err("a client is `buyer:ID`, `ip:ADDRESS` or `ip:NETWORK/LENGTH`");
        };
        let network = match ip.parse::<IpNet>() {
            Ok(IpNet::V6(network)) if network.addr().to_ipv4_mapped().is_some() => {
                return Err("this is an IPv4 network in IPv6 spelling: write it as a.b.c.d/length");
            }
            Ok(network) => network,
            Err(_) => match ip.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
                Ok(IpAddr::V4(ip)) => Ipv4Net::from(ip).into(),
                Ok(IpAddr::V6(ip)) => Ipv6Net::new_assert(ip, V6_CUSTOMER).into(),
                Err(_) => return Err("what follows `ip:` is neither an address nor a network"),
            },
        };
        Ok(Self::Network(network.trunc()))
    }

    /// The network behind [`network_of`]: one IPv4 address, or a /64.
    pub(super) fn of_network(network: u64) -> Self {
        let network = match u32::try_from(network) {
            Ok(v4) => Ipv4Net::from(Ipv4Addr::from(v4)).into(),
            Err(_) => Ipv6Net::new_assert(Ipv6Addr::from(u128::from(network) << 64), V6_CUSTOMER).into(),
        };
        Self::Network(network)
    }

    /// The client of one address.
    pub fn of_address(ip: IpAddr) -> Self {
        Self::of_network(network_of(ip))
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buyer(buyer) => write!(f, "buyer:{buyer}"),
            // An IPv6 address alone is spelt like its /64 when it is read again.
            Self::Network(IpNet::V4(network)) if network.prefix_len() == 32 => {
                write!(f, "ip:{}", network.addr())
            }
            Self::Network(network) => write!(f, "ip:{network}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_one_spelling() {
        let spelt = |text| Client::parse(text).map(|client| client.to_string());
        for (text, expected) in [
            ("buyer:ann", "buyer:ann"),
            ("ip:198.51.100.7", "ip:198.51.100.7"),
            ("ip:198.51.100.7/32", "ip:198.51.100.7"),
            ("ip:198.51.100.7/24", "ip:198.51.100.0/24"),
            ("ip:::ffff:198.51.100.7", "ip:198.51.100.7"),
            ("ip:2001:db8::7", "ip:2001:db8::/64"),
            ("ip:2001:db8::7/128", "ip:2001:db8::7/128"),
        ] {
            assert_eq!(spelt(text).as_deref(), Ok(expected), "{text}");
            assert_eq!(spelt(expected).as_deref(), Ok(expected));
        }
        for text in [
            "ann",
            "buyer:",
            "buyer:two words",
            "ip:",
            "ip:localhost",
            "ip:10.0.0.0/33",
            "ip:::ffff:198.51.100.0/120",
        ] {
            assert!(Client::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_quotas_count_by_is_what_is_banned() {
        for (address, client) in [("198.51.100.7", "ip:198.51.100.7"), ("2001:db8::7", "ip:2001:db8::/64")] {
            assert_eq!(Client::of_address(address.parse().unwrap()).to_string(), client);
        }
    }
}
