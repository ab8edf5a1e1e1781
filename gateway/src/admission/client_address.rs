//! From which address a request comes, behind trusted proxies too. Gate 5 counts by it.

use http::HeaderMap;
use http::header::HeaderName;
use ipnet::IpNet;
use std::net::IpAddr;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Proxies in a row that are followed, at most.
const HOPS_MAX: usize = 16;

/// The nearest address that is not one of our proxies'. `X-Forwarded-For` is read from its end, where our own
/// proxies write, and only as long as they are ours: what stands before is the client's word (failure mode 40).
pub fn client_address(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let ours = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut address = peer.to_canonical();
    let lines = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
    let hops = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.rsplit(','));
    for hop in hops.take(HOPS_MAX) {
        if !ours(address) {
            break;
        }
        match hop.trim().parse::<IpAddr>() {
            Ok(next) => address = next.to_canonical(),
            Err(_) => break,
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn seen(peer: &str, forwarded: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static(line));
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "127.0.0.0/8".parse().unwrap()];
        client_address(&headers, peer.parse().unwrap(), &trusted).to_string()
    }

    #[test]
    fn behind_our_proxies_the_client_is_whom_they_saw() {
        assert_eq!(seen("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(seen("10.0.0.1", &["198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(seen("10.0.0.1", &["198.51.100.7", "10.0.0.2"]), "198.51.100.7");
        assert_eq!(seen("::ffff:10.0.0.1", &["2001:db8::5"]), "2001:db8::5");
        assert_eq!(seen("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn fm40_what_a_client_writes_into_the_header_is_not_believed() {
        assert_eq!(seen("198.51.100.7", &["203.0.113.1"]), "198.51.100.7", "no proxy of ours");
        assert_eq!(
            seen("10.0.0.1", &["203.0.113.1, 198.51.100.7"]),
            "198.51.100.7",
            "only what ours has seen"
        );
        assert_eq!(seen("10.0.0.1", &["203.0.113.1, nonsense"]), "10.0.0.1");
    }
}
