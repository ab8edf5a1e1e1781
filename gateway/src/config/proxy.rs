//! `[[proxy]]`: paths that an upstream answers, behind the same gates as an order.

use super::problem::Place;
use super::reader::Section;
use super::types::Listen;
use crate::proxy::{Address, canonical, tls_client};
use http::{HeaderName, HeaderValue, Method};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::ClientConfig;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const HOUR_MS: u64 = 3_600_000;
const RATE_MAX: u64 = 100_000_000;
/// Routes are looked at one after the other.
const ROUTES_MAX: usize = 256;
/// Upstreams of a route.
const UPSTREAMS_MAX: usize = 64;

/// One `[[proxy]]`.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "one for each gate that a route may leave out")]
pub struct ProxyRoute {
    /// In figures and messages.
    pub name: String,
    /// A last `/`: every path that begins so; else this one path. Canonical.
    pub path: String,
    /// Stands before the upstream in place of `path`.
    pub upstream_path: String,
    /// Those that are forwarded.
    pub methods: Vec<Method>,
    /// `methods` as `Allow` tells them.
    pub allow: HeaderValue,
    /// Who answers; at least one.
    pub upstreams: Vec<Address>,
    /// Which of them is asked next.
    pub balance: Balance,
    /// Towards `https://` upstreams; `None` when there are none.
    pub tls: Option<Arc<ClientConfig>>,
    /// Whether a buyer is needed.
    pub identity: Needed,
    /// Tells the upstream who the buyer is; removed when a client sends it.
    pub identity_header: HeaderName,
    /// Quotas of single clients count.
    pub quotas: bool,
    /// Banned clients are refused.
    pub blacklist: bool,
    /// Policies judge.
    pub policies: bool,
    /// A pass of this sale is needed.
    pub pass_of_sale: Option<String>,
    /// A token queue of its own; `None` is off.
    pub tokens: Option<RouteTokens>,
    /// A token of the shared queue is needed.
    pub shared_tokens: bool,
    /// Requests at the upstreams at once, over all cores.
    pub in_flight_max: usize,
    /// A connection, and its TLS, must be there after so many ms.
    pub connect_timeout_ms: u64,
    /// From the end of the request to the head of the answer.
    pub first_byte_timeout_ms: u64,
    /// Between two pieces of a body, either way.
    pub idle_timeout_ms: u64,
    /// Body of a request, in bytes.
    pub body_bytes_max: u64,
    /// Idle connections that a core keeps to each upstream.
    pub pool_idle_max: usize,
    /// … and how long.
    pub pool_idle_ms: u64,
    /// Failures in a row after which an upstream is left alone …
    pub fail_max: u32,
    /// … for so long.
    pub down_ms: u64,
    /// What the upstream sees as `Host`.
    pub host: HostRule,
    /// What is kept of its answers; `None`: nothing.
    pub cache: Option<super::CacheRoute>,
    /// Set on every request.
    pub add_headers: Vec<(HeaderName, HeaderValue)>,
}

/// The token queue of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteTokens {
    /// Requests a second, at least 1.
    pub rate_per_s: u32,
    /// … and at once, at least 1.
    pub burst: u32,
    /// A request waits for its turn at most so long.
    pub max_wait_ms: u64,
}

/// Which of a route's upstreams is asked next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest requests under way.
    LeastLoaded,
}

/// Whether a route needs to know the buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needed {
    /// 401 without one.
    Required,
    /// Told to the upstream when there is one.
    Optional,
    /// Nobody asks.
    None,
}

/// What the upstream sees as `Host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostRule {
    /// Its own name.
    Upstream,
    /// What the client asked for.
    Client,
    /// This.
    Fixed(HeaderValue),
}

pub(super) fn read(root: &mut Section<'_, '_>, listen: &Listen) -> Vec<ProxyRoute> {
    let mut names = HashSet::new();
    let mut paths: HashMap<String, String> = HashMap::new();
    let mut count = 0;
    root.tables("proxy", |section| {
        let route = route(section, listen);
        count += 1;
        if count == ROUTES_MAX + 1 {
            let place = section.place();
            section.problem(place, "name", format!("there are more than {ROUTES_MAX} routes"), None);
        }
        if !route.name.is_empty() && !names.insert(route.name.clone()) {
            let place = section.place_of("name");
            section.problem(place, "name", format!("the route \"{}\" is there twice", route.name), None);
        }
        if let Some(other) =
            paths.insert(route.path.clone(), route.name.clone()).filter(|_| !route.path.is_empty())
        {
            let place = section.place_of("path");
            let message = format!("\"{}\" is the path of route \"{other}\" already", route.path);
            section.problem(place, "path", message, Some("give each route a path of its own".to_owned()));
        }
        route
    })
}

fn route(section: &mut Section<'_, '_>, listen: &Listen) -> ProxyRoute {
    let name = name(section);
    let path = path(section);
    let upstream_path = upstream_path(section, &path);
    let methods = methods(section);
    let upstreams = upstreams(section, listen);
    let tls = tls(section, &upstreams);
    let rate_per_s = section.number("rate_per_s", 0, 0..=RATE_MAX, "requests a second") as u32;
    let burst = section.number("burst", 100, 1..=RATE_MAX, "requests") as u32;
    let max_wait_ms = section.number("max_wait_ms", 200, 0..=60_000, "ms");
    let shared_tokens = section.flag("shared_tokens", false);
    if shared_tokens && rate_per_s > 0 {
        let place = section.place_of("shared_tokens");
        let help = "take rate_per_s out to use the queue of [admission.tokens], or shared_tokens to use one of its own";
        section.problem(place, "shared_tokens", "is true while rate_per_s is set", Some(help.to_owned()));
    }
    let identity = section.choice(
        "identity",
        &[("required", Needed::Required), ("optional", Needed::Optional), ("none", Needed::None)],
    );
    let host = host(section);
    let pass_of_sale = pass_of_sale(section);
    if pass_of_sale.is_some() && identity != Needed::Required {
        let place = section.place_of("pass_of_sale");
        let message = "is set while identity is not \"required\"";
        section.problem(place, "pass_of_sale", message, Some("a pass belongs to a buyer".to_owned()));
    }
    ProxyRoute {
        name,
        allow: HeaderValue::from_str(&methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", "))
            .unwrap_or(HeaderValue::from_static("")),
        methods,
        upstreams,
        balance: section.choice(
            "balance",
            &[("round_robin", Balance::RoundRobin), ("least_loaded", Balance::LeastLoaded)],
        ),
        tls,
        identity,
        identity_header: identity_header(section),
        quotas: section.flag("quotas", true),
        blacklist: section.flag("blacklist", true),
        policies: section.flag("policies", false),
        pass_of_sale,
        tokens: (rate_per_s > 0).then_some(RouteTokens { rate_per_s, burst, max_wait_ms }),
        shared_tokens,
        in_flight_max: section.number("in_flight_max", 256, 1..=1_000_000, "requests") as usize,
        connect_timeout_ms: section.number("connect_timeout_ms", 1_000, 10..=60_000, "ms"),
        first_byte_timeout_ms: section.number("first_byte_timeout_ms", 30_000, 10..=HOUR_MS, "ms"),
        idle_timeout_ms: section.number("idle_timeout_ms", 30_000, 10..=HOUR_MS, "ms"),
        body_bytes_max: section.number("body_bytes_max", MIB, 0..=1024 * GIB, "bytes"),
        pool_idle_max: section.number("pool_idle_max", 64, 0..=100_000, "connections") as usize,
        pool_idle_ms: section.number("pool_idle_ms", 30_000, 10..=HOUR_MS, "ms"),
        fail_max: section.number("fail_max", 3, 1..=1_000, "failures") as u32,
        down_ms: section.number("down_ms", 5_000, 10..=HOUR_MS, "ms"),
        cache: super::cache::route(section, &path, identity, &host),
        host,
        add_headers: section.parsed_list("add_headers", &[], "header such as \"X-Shop: main\"", added),
        path,
        upstream_path,
    }
}

/// Text that must be there; empty when it is not, and then that was told.
fn required(section: &mut Section<'_, '_>, key: &'static str) -> (String, Place) {
    match section.text_or(key, None) {
        Some((text, place)) if !text.is_empty() => (text, place),
        found => {
            if found.is_some() || !section.has(key) {
                let place = section.place();
                section.problem(place, key, "is missing in a [[proxy]]", None);
            }
            (String::new(), Place::Whole)
        }
    }
}

fn name(section: &mut Section<'_, '_>) -> String {
    let (name, place) = required(section, "name");
    let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if !name.is_empty() && (name.len() > 64 || !name.bytes().all(letters)) {
        let help = Some("use 1 to 64 of A-Z a-z 0-9 _ . -".to_owned());
        section.problem(place, "name", format!("\"{name}\" is no name of a route"), help);
    }
    name
}

fn path(section: &mut Section<'_, '_>) -> String {
    let (path, place) = required(section, "path");
    if path.is_empty() {
        return path;
    }
    match canonical(&path) {
        Err(fault) => section.problem(place, "path", format!("\"{path}\" is no path: {fault}"), None),
        Ok(plain) if plain != path => {
            section.problem(
                place,
                "path",
                format!("\"{path}\" can be written simpler"),
                Some(format!("write \"{plain}\"")),
            );
        }
        Ok(_) if path == "/v1" || path.starts_with("/v1/") => {
            let help = Some("the gateway answers /v1/… itself; take another path".to_owned());
            section.problem(place, "path", format!("\"{path}\" is the gateway's own"), help);
        }
        Ok(_) => {}
    }
    path
}

fn upstream_path(section: &mut Section<'_, '_>, path: &str) -> String {
    let Some((text, place)) = section.text_or("upstream_path", None) else { return path.to_owned() };
    let prefix = path.ends_with('/');
    match canonical(&text) {
        Err(fault) => {
            section.problem(place, "upstream_path", format!("\"{text}\" is no path: {fault}"), None);
        }
        Ok(_) if prefix && !text.ends_with('/') => {
            let message = format!("\"{text}\" stands for a path that ends in /, and does not");
            section.problem(place, "upstream_path", message, Some(format!("write \"{text}/\"")));
        }
        Ok(plain) => return plain.into_owned(),
    }
    path.to_owned()
}

fn methods(section: &mut Section<'_, '_>) -> Vec<Method> {
    let all = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let methods: Vec<Method> = section.parsed_list("methods", &all, "method that can be forwarded", |text| {
        // CONNECT makes a tunnel past the gates, TRACE shows headers that the gateway added.
        let known = all.contains(&text);
        known.then(|| Method::from_bytes(text.as_bytes()).ok()).flatten()
    });
    if methods.is_empty() && section.has("methods") {
        let place = section.place_of("methods");
        section.problem(place, "methods", "holds no method", Some("leave it out to forward all".to_owned()));
    }
    methods
}

fn upstreams(section: &mut Section<'_, '_>, listen: &Listen) -> Vec<Address> {
    let Some((texts, place)) = section.text_or_texts("upstream") else {
        if !section.has("upstream") {
            let place = section.place();
            let help = Some("such as \"http://10.0.0.5:8000\", or a list of them".to_owned());
            section.problem(place, "upstream", "is missing in a [[proxy]]", help);
        }
        return Vec::new();
    };
    if texts.is_empty() || texts.len() > UPSTREAMS_MAX {
        let message = format!("names {} upstreams, it must be 1 to {UPSTREAMS_MAX}", texts.len());
        section.problem(place.clone(), "upstream", message, None);
    }
    let mut upstreams: Vec<Address> = Vec::new();
    for text in texts {
        match Address::parse(&text) {
            // Not the text itself: it may hold a password.
            Err(why) => {
                let help =
                    Some("such as \"http://10.0.0.5:8000\"; a path goes into upstream_path".to_owned());
                section.problem(place.clone(), "upstream", why, help);
            }
            Ok(address) if address.is(listen.public) || address.is(listen.inner) => {
                let message = format!("{address} is a listener of this gateway: requests would go round");
                section.problem(place.clone(), "upstream", message, None);
            }
            Ok(address) if upstreams.contains(&address) => {
                section.problem(place.clone(), "upstream", format!("{address} is there twice"), None);
            }
            Ok(address) => upstreams.push(address),
        }
    }
    upstreams
}

fn tls(section: &mut Section<'_, '_>, upstreams: &[Address]) -> Option<Arc<ClientConfig>> {
    let ca_file = section.text_or("ca_file", None);
    let encrypted = upstreams.iter().any(|upstream| upstream.https);
    if let Some((_, place)) = ca_file.as_ref().filter(|_| !encrypted && !upstreams.is_empty()) {
        let help = Some("write https:// in upstream, or take ca_file out".to_owned());
        section.problem(place.clone(), "ca_file", "is set and no upstream is https://", help);
        return None;
    }
    if !encrypted {
        return None;
    }
    match tls_client(ca_file.as_ref().map(|(path, _)| Path::new(path))) {
        Ok(config) => Some(Arc::new(config)),
        Err(why) => {
            let place = ca_file.map_or_else(|| section.place(), |(_, place)| place);
            section.problem(place, "ca_file", why, None);
            None
        }
    }
}

fn pass_of_sale(section: &mut Section<'_, '_>) -> Option<String> {
    let (sale, place) = section.text_or("pass_of_sale", None)?;
    if sale.is_empty() {
        section.problem(place, "pass_of_sale", "is empty", Some("name a sale, or leave it out".to_owned()));
        return None;
    }
    Some(sale)
}

fn identity_header(section: &mut Section<'_, '_>) -> HeaderName {
    section.parsed("identity_header", "X-User-Id", "the name of an HTTP header", |text| {
        HeaderName::from_bytes(text.as_bytes()).ok().filter(|name| !crate::proxy::is_framing(name))
    })
}

fn host(section: &mut Section<'_, '_>) -> HostRule {
    let what = "\"upstream\", \"client\" or a host name";
    section.parsed("host", "upstream", what, |text| match text {
        "upstream" => Some(HostRule::Upstream),
        "client" => Some(HostRule::Client),
        name => {
            let authority: http::uri::Authority = name.parse().ok()?;
            let plain = !authority.as_str().contains('@');
            plain.then(|| HeaderValue::from_str(name).ok().map(HostRule::Fixed)).flatten()
        }
    })
}

fn added(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
    let value = HeaderValue::from_str(value.trim()).ok()?;
    (!crate::proxy::is_framing(&name)).then_some((name, value))
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
