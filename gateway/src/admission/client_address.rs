//! From which address a request comes, behind trusted proxies too. Gate 5 counts by it.

use http::HeaderMap;
use http::header::HeaderName;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Proxies in a row that are followed, at most.
const HOPS_MAX: usize = 16;

/// The nearest address that is not one of our proxies'. `X-Forwarded-For` is read from its end, where our own
/// proxies write, and only as long as they are ours: what stands before is the client's word (failure mode 40).
pub fn client_address(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let ours = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut address = peer.to_canonical();
    let lines = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
    // Bytes, not text: a line that is no text as a whole may end with what our proxy wrote.
    let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    for hop in hops.take(HOPS_MAX) {
        if !ours(address) {
            break;
        }
        match parse(hop) {
            Some(next) => address = next,
            None => break,
        }
    }
    address
}

/// One hop: an address, as some proxies write it with a port, and v6 in brackets.
fn parse(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim();
    let bare = || hop.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let address = hop
        .parse::<IpAddr>()
        .ok()
        .or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()))
        .or_else(|| bare().map(IpAddr::V6))?;
    Some(address.to_canonical())
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
        for garbage in [
            "",
            ",",
            " , ",
            "unknown",
            "_hidden",
            "203.0.113.1:x",
            "[203.0.113.1]",
            "[::1",
            "1.2.3",
            "1.2.3.4/8",
        ] {
            assert_eq!(seen("10.0.0.1", &["203.0.113.1", garbage]), "10.0.0.1", "{garbage}");
        }
    }

    #[test]
    fn a_hop_may_have_a_port_and_brackets() {
        assert_eq!(seen("10.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(seen("10.0.0.1", &["[2001:db8::5]:4711, 10.0.0.2:80"]), "2001:db8::5");
        assert_eq!(seen("10.0.0.1", &["[2001:db8::5]"]), "2001:db8::5");
        assert_eq!(seen("10.0.0.1", &["[::ffff:198.51.100.7]:1"]), "198.51.100.7");
    }

    #[test]
    fn fm40_bytes_of_a_client_do_not_hide_what_our_proxy_wrote() {
        let mut headers = HeaderMap::new();
        headers.append(
            X_FORWARDED_FOR,
            HeaderValue::from_bytes(b"203.0.113.1, \xff\xfe, 198.51.100.7").unwrap(),
        );
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let seen = client_address(&headers, [10, 0, 0, 1].into(), &trusted);
        assert_eq!(seen.to_string(), "198.51.100.7");
    }

    #[test]
    fn an_endless_list_of_hops_is_read_so_far() {
        let hops = format!("198.51.100.7{}", ", 10.0.0.9".repeat(5_000));
        let mut headers = HeaderMap::new();
        headers.append(X_FORWARDED_FOR, HeaderValue::from_str(&hops).unwrap());
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let seen = client_address(&headers, [10, 0, 0, 1].into(), &trusted);
        assert_eq!(seen.to_string(), "10.0.0.9");
    }
}
