//! Who asked, as the upstream is told: `X-Forwarded-For`, `-Proto`, `-Host`, `X-Real-IP`, `Forwarded` (RFC 7239), `Via`.
//!
//! What a trusted proxy in front wrote is added to. What anybody else wrote is replaced (failure mode 40).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Uri, Version};
use std::io::Write as _;
use std::net::IpAddr;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// Others of the family, which this gateway does not write.
const OTHERS: [HeaderName; 4] = [
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-original-url"),
];
const REWRITE_URL: HeaderName = HeaderName::from_static("x-rewrite-url");

/// Who asks, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client<'a> {
    /// The other end of the connection.
    pub(super) peer: IpAddr,
    /// Whether that is a trusted proxy.
    pub(super) trusted: bool,
    /// The client behind it.
    pub(super) address: IpAddr,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
    /// Host and port that were asked for.
    pub(super) authority: &'a str,
    /// Of the client's connection.
    pub(super) version: Version,
    /// Proven; `None`: not asked, or not known.
    pub(super) buyer: Option<&'a str>,
    /// The header by which a trusted proxy tells this gateway the buyer.
    pub(super) identity_header: Option<&'a HeaderName>,
}

impl Client<'_> {
    /// Tells the upstream.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        let peer = self.peer.to_canonical();
        let mut chain = Vec::with_capacity(48);
        let mut forwarded = Vec::with_capacity(96);
        if self.trusted {
            join(&mut chain, headers, &FOR);
            join(&mut forwarded, headers, &header::FORWARDED);
        } else {
            for name in [&PROTO, &HOST, &REWRITE_URL].into_iter().chain(&OTHERS) {
                headers.remove(name);
            }
        }
        let _ = write!(chain, "{peer}");
        let _ = match peer {
            IpAddr::V4(_) => write!(forwarded, "for={peer}"),
            IpAddr::V6(_) => write!(forwarded, "for=\"[{peer}]\""),
        };
        let _ = write!(forwarded, ";host=\"{}\";proto={}", self.authority, self.scheme);
        set(headers, FOR, &chain);
        set(headers, header::FORWARDED, &forwarded);
        set(headers, REAL_IP, self.address.to_string().as_bytes());
        if !headers.contains_key(&PROTO) {
            headers.insert(PROTO, HeaderValue::from_static(self.scheme));
        }
        if !headers.contains_key(&HOST) {
            set(headers, HOST, self.authority.as_bytes());
        }
        headers.append(header::VIA, via(self.version));
    }
}

/// The lines of a header as one list, with a comma behind.
fn join(into: &mut Vec<u8>, headers: &HeaderMap, name: &HeaderName) {
    // Bytes, not text: a line that is no text as a whole may end with what our proxy wrote.
    for line in headers.get_all(name) {
        let line = line.as_bytes().trim_ascii();
        if !line.is_empty() {
            into.extend_from_slice(line);
            into.extend_from_slice(b", ");
        }
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, text: &[u8]) {
    match HeaderValue::from_bytes(text) {
        Ok(value) => headers.insert(name, value),
        Err(_) => headers.remove(name),
    };
}

/// This gateway's line of `Via` for a message that came by `version`.
pub(super) fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_10 => "1.0 tidegate",
        Version::HTTP_2 => "2.0 tidegate",
        _ => "1.1 tidegate",
    })
}

/// The one host that a request asks for, or why it is none. A target that names another host than `Host` is refused:
/// two servers would take it for two sites.
pub(super) fn authority<'r>(
    uri: &'r Uri,
    headers: &'r HeaderMap,
    version: Version,
) -> Result<&'r str, &'static str> {
    let mut lines = headers.get_all(header::HOST).iter();
    let (line, more) = (lines.next(), lines.next());
    if more.is_some() {
        return Err("Host came twice");
    }
    let host = match line.map(HeaderValue::to_str) {
        None => None,
        Some(Ok(host)) if plain(host) => Some(host),
        Some(_) => return Err("Host is no host name"),
    };
    match (uri.authority(), host) {
        (Some(asked), _) if !plain(asked.as_str()) => Err("the target's host is no host name"),
        (Some(asked), Some(host)) if !asked.as_str().eq_ignore_ascii_case(host) => {
            Err("Host is not the host of the target")
        }
        (Some(asked), _) => Ok(asked.as_str()),
        (None, Some(host)) => Ok(host),
        (None, None) if version == Version::HTTP_10 => Ok("unknown"),
        (None, None) => Err("Host is missing"),
    }
}

/// Letters, digits, and what else stands in a name, an address or a port.
fn plain(host: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !host.is_empty() && host.len() <= 255 && host.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(peer: &str, trusted: bool, sent: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let client = Client {
            peer: peer.parse().unwrap(),
            trusted,
            address: "198.51.100.7".parse().unwrap(),
            scheme: "http",
            authority: "shop.example:8080",
            version: Version::HTTP_11,
            buyer: None,
            identity_header: None,
        };
        client.write(&mut headers);
        headers
    }

    #[test]
    fn fm40_what_a_client_says_of_itself_is_replaced() {
        let forged = [
            ("x-forwarded-for", "203.0.113.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "1"),
            ("x-real-ip", "203.0.113.1"),
            ("x-original-url", "/admin"),
            ("forwarded", "for=203.0.113.1"),
        ];
        let headers = written("198.51.100.7", false, &forged);
        assert_eq!(headers["x-forwarded-for"], "198.51.100.7");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "shop.example:8080");
        assert_eq!(headers["x-real-ip"], "198.51.100.7");
        assert_eq!(headers["forwarded"], "for=198.51.100.7;host=\"shop.example:8080\";proto=http");
        assert_eq!(headers["via"], "1.1 tidegate");
        assert!(!headers.contains_key("x-forwarded-port") && !headers.contains_key("x-original-url"));
    }

    #[test]
    fn what_a_trusted_proxy_says_is_added_to() {
        let sent = [
            ("x-forwarded-for", "198.51.100.7"),
            ("x-forwarded-for", "10.0.0.9"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=198.51.100.7;proto=https"),
            ("via", "1.1 edge"),
        ];
        let headers = written("::1", true, &sent);
        assert_eq!(headers["x-forwarded-for"], "198.51.100.7, 10.0.0.9, ::1");
        assert_eq!(headers["x-forwarded-proto"], "https");
        let forwarded = "for=198.51.100.7;proto=https, for=\"[::1]\";host=\"shop.example:8080\";proto=http";
        assert_eq!(headers["forwarded"], forwarded);
        assert_eq!(headers.get_all("via").iter().count(), 2);
    }

    #[test]
    fn a_request_asks_for_one_host() {
        let ask = |uri: &str, hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_static(host));
            }
            authority(&uri.parse().unwrap(), &headers, Version::HTTP_11).map(str::to_owned)
        };
        assert_eq!(ask("/x", &["shop:80"]).unwrap(), "shop:80");
        assert_eq!(ask("http://Shop:80/x", &["shop:80"]).unwrap(), "Shop:80");
        for (uri, hosts) in [
            ("/x", &["a", "b"][..]),
            ("/x", &[]),
            ("http://a/x", &["b"]),
            ("http://u@a/x", &["a"]),
            ("/x", &["a/b"]),
            ("/x", &["u@a"]),
            ("/x", &[""]),
        ] {
            assert!(ask(uri, hosts).is_err(), "{uri} {hosts:?}");
        }
    }
}
