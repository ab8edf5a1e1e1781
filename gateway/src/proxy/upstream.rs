//! The addresses behind a route: whose turn it is, and who is left alone for a while.

use crate::config::Balance;
use http::HeaderValue;
use http::uri::Authority;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Where an upstream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// TLS.
    pub https: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    authority: HeaderValue,
}

impl Address {
    /// From `http://host:port` or `https://host:port`. The error does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: http::Uri = text.parse().map_err(|_| "is no URL")?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("is no URL that begins with http:// or https://"),
        };
        let authority: &Authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("has a login; put it into add_headers as \"Authorization: Basic …\"");
        }
        if uri.path_and_query().is_some_and(|path| path.as_str() != "/") || text.contains('#') {
            return Err("has a path");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        // The library finds no port in `:99999`.
        let written =
            authority.as_str().rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
        let port = match written {
            None if https => 443,
            None => 80,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or("has no port of 1 to 65535")?,
        };
        if host.is_empty() {
            return Err("names no host");
        }
        let authority = HeaderValue::from_str(authority.as_str()).map_err(|_| "names no host")?;
        Ok(Self { https, host, port, authority })
    }

    /// Whether a listener on this address would be asked.
    pub fn is(&self, listener: SocketAddr) -> bool {
        let ip = match &*self.host {
            "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            host => host.parse::<IpAddr>().ok(),
        };
        let same = |ip: IpAddr| ip == listener.ip() || (listener.ip().is_unspecified() && ip.is_loopback());
        self.port == listener.port() && ip.is_some_and(same)
    }

    /// As `Host` tells it.
    pub(super) fn authority(&self) -> &HeaderValue {
        &self.authority
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        let host = self.authority.to_str().unwrap_or(&self.host);
        write!(f, "{scheme}://{host}")
    }
}

/// One upstream of a route: what all cores know of it.
#[derive(Debug)]
pub(super) struct Upstream {
    /// Where.
    pub(super) address: Address,
    /// Tells the connections to it from those to others, also of an upstream of the same address before a reload.
    pub(super) id: u64,
    began: Instant,
    under_way: AtomicUsize,
    failures: AtomicU32,
    /// Left alone until so many ms after `began`.
    down_until_ms: AtomicU64,
}

impl Upstream {
    pub(super) fn new(address: Address) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            address,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            began: Instant::now(),
            under_way: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            down_until_ms: AtomicU64::new(0),
        }
    }

    fn ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_millis() as u64
    }

    /// Whether it is left alone now.
    pub(super) fn is_down(&self, now: Instant) -> bool {
        self.down_until_ms.load(Ordering::Relaxed) > self.ms(now)
    }

    /// It answered.
    pub(super) fn answered(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.down_until_ms.store(0, Ordering::Relaxed);
        }
    }

    /// It could not be reached, or did not answer. After `fail_max` in a row it is left alone for `pause`, and then each
    /// further failure sends it away again.
    pub(super) fn failed(&self, fail_max: u32, pause: Duration, now: Instant) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures >= fail_max {
            let until_ms = self.ms(now) + pause.as_millis() as u64;
            self.down_until_ms.store(until_ms, Ordering::Relaxed);
        }
    }
}

/// A request is under way to this upstream while it lives.
#[derive(Debug)]
pub(super) struct UnderWay(pub(super) Arc<Upstream>);

impl UnderWay {
    pub(super) fn new(upstream: &Arc<Upstream>) -> Self {
        upstream.under_way.fetch_add(1, Ordering::Relaxed);
        Self(upstream.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whose turn it is among those that were not `tried` yet. When all are down, whoever comes back first is asked: nobody
/// knows better.
pub(super) fn choose<'u>(
    upstreams: &'u [Arc<Upstream>],
    balance: Balance,
    turn: &AtomicUsize,
    tried: u64,
    now: Instant,
) -> Option<(usize, &'u Arc<Upstream>)> {
    let first = turn.fetch_add(1, Ordering::Relaxed);
    let mut in_turn = (0..upstreams.len())
        .map(|step| (first.wrapping_add(step)) % upstreams.len())
        .filter(|place| tried & (1 << place) == 0)
        .map(|place| (place, &upstreams[place]));
    let up = in_turn.clone().filter(|(_, upstream)| !upstream.is_down(now));
    let chosen = match balance {
        Balance::RoundRobin => {
            let mut up = up;
            up.next()
        }
        Balance::LeastLoaded => up.min_by_key(|(_, upstream)| upstream.under_way.load(Ordering::Relaxed)),
    };
    chosen.or_else(|| {
        in_turn.by_ref().min_by_key(|(_, upstream)| upstream.down_until_ms.load(Ordering::Relaxed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstreams(count: usize) -> Vec<Arc<Upstream>> {
        let address = |at| Address::parse(&format!("http://10.0.0.{at}:80")).unwrap();
        (1..=count).map(|at| Arc::new(Upstream::new(address(at)))).collect()
    }

    #[test]
    fn addresses_are_scheme_host_and_port() {
        let shown = |text: &str| {
            Address::parse(text).map(|address| (address.host.clone(), address.port, address.to_string()))
        };
        assert_eq!(shown("http://[::1]:81/").unwrap(), ("::1".into(), 81, "http://[::1]:81".into()));
        assert_eq!(
            shown("https://shop.local").unwrap(),
            ("shop.local".into(), 443, "https://shop.local".into())
        );
        for bad in [
            "shop.local:80",
            "ftp://a",
            "http://a/x",
            "http://a?x",
            "http://u:p@a",
            "http://a:0",
            "http://a:99999",
            "http://",
            "http://a/#x",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        let own = Address::parse("http://localhost:8080").unwrap();
        assert!(own.is("0.0.0.0:8080".parse().unwrap()) && own.is("127.0.0.1:8080".parse().unwrap()));
        assert!(!own.is("127.0.0.1:8081".parse().unwrap()));
    }

    #[test]
    fn one_after_the_other_and_never_one_that_is_down_unless_all_are() {
        let (all, turn, now) = (upstreams(3), AtomicUsize::new(0), Instant::now());
        let pick = |tried| choose(&all, Balance::RoundRobin, &turn, tried, now).map(|(place, _)| place);
        assert_eq!([pick(0), pick(0), pick(0), pick(0)], [Some(0), Some(1), Some(2), Some(0)]);
        let fail = |place: usize, pause| all[place].failed(2, Duration::from_secs(pause), now);
        fail(1, 5);
        assert!(!all[1].is_down(now), "once is not enough");
        fail(1, 5);
        assert!(all[1].is_down(now) && !all[1].is_down(now + Duration::from_secs(6)));
        for _ in 0..6 {
            assert_ne!(pick(0), Some(1));
        }
        for place in [0, 2] {
            fail(place, 9);
            fail(place, 9);
        }
        assert_eq!(pick(0), Some(1), "whoever comes back first");
        assert!(pick(0b010).is_some_and(|place| place != 1));
        assert_eq!(pick(0b111), None);
        all[1].answered();
        assert!(!all[1].is_down(now));
    }

    #[test]
    fn the_least_loaded_is_asked() {
        let (all, turn, now) = (upstreams(2), AtomicUsize::new(0), Instant::now());
        let pick = || choose(&all, Balance::LeastLoaded, &turn, 0, now).unwrap().0;
        let busy = UnderWay::new(&all[0]);
        assert_eq!([pick(), pick()], [1, 1]);
        drop(busy);
        let _busy = UnderWay::new(&all[1]);
        assert_eq!([pick(), pick()], [0, 0]);
    }
}
