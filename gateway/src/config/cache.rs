//! `[cache]`, and what a `[[proxy]]` says of the cache.

use super::proxy::{HostRule, Needed};
use super::reader::Section;
use crate::proxy::canonical;
use http::HeaderName;
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const DAY_MS: u64 = 24 * 3_600_000;
/// Headers that the answers of a route may vary by.
const VARY_MAX: usize = 8;
/// Pages of a route that are fetched before anybody asks.
const PRELOAD_MAX: usize = 64;

/// Bounds of the response cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    /// Of all answers, in bytes.
    pub bytes_max: u64,
    /// Of one, in bytes; larger ones are not kept.
    pub body_bytes_max: usize,
    /// Requests that wait for answers at once.
    pub waiting_max: usize,
    /// Answers that gateways share in Redis, at most; 0: none.
    pub shared_places: u64,
    /// Body of such an answer, in bytes.
    pub shared_body_bytes_max: usize,
}

/// What is kept of a route's answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRoute {
    /// Fresh for so long, where the upstream does not say.
    pub ttl: Duration,
    /// Beyond that, told while a newer one is asked for.
    pub stale_while_revalidate: Duration,
    /// Beyond that, told while a newer one cannot be had.
    pub stale_if_error: Duration,
    /// Headers of a request that its answer may depend on.
    pub vary: Vec<HeaderName>,
    /// Also clients who say who they are get the answers that all others get.
    pub for_everybody: bool,
    /// Paths at the gateway, with queries, fetched before a sale opens.
    pub preload: Vec<String>,
}

pub(super) fn read(root: &mut Section<'_, '_>) -> CacheSettings {
    let mut section = root.section("cache");
    let settings = CacheSettings {
        bytes_max: section.number("bytes_max", 64 * MIB, MIB..=1024 * GIB, "bytes"),
        body_bytes_max: section.number("body_bytes_max", MIB, KIB..=64 * MIB, "bytes") as usize,
        waiting_max: section.number("waiting_max", 10_000, 1..=10_000_000, "requests") as usize,
        shared_places: section.number("shared_places", 512, 0..=65_536, "answers"),
        shared_body_bytes_max: section.number("shared_body_bytes_max", 64 * KIB, KIB..=16 * MIB, "bytes")
            as usize,
    };
    // A cache is divided into parts; what is larger than its part would never be kept.
    if settings.body_bytes_max as u64 > settings.bytes_max / 16 {
        let place = section.place_of("body_bytes_max");
        let message = format!("{} is more than a sixteenth of bytes_max", settings.body_bytes_max);
        section.problem(place, "body_bytes_max", message, Some("raise bytes_max, or lower it".to_owned()));
    }
    section.finish();
    settings
}

/// Of a `[[proxy]]` with this path; `None`: nothing is kept.
pub(super) fn route(
    section: &mut Section<'_, '_>,
    path: &str,
    identity: Needed,
    host: &HostRule,
) -> Option<CacheRoute> {
    let ttl_ms = section.number("cache_ttl_ms", 0, 0..=DAY_MS, "ms");
    let route = CacheRoute {
        ttl: Duration::from_millis(ttl_ms),
        stale_while_revalidate: Duration::from_millis(section.number(
            "cache_stale_ms",
            5_000,
            0..=DAY_MS,
            "ms",
        )),
        stale_if_error: Duration::from_millis(section.number(
            "cache_stale_if_error_ms",
            60_000,
            0..=DAY_MS,
            "ms",
        )),
        vary: vary(section),
        for_everybody: section.choice("cache_for", &[("anonymous", false), ("everybody", true)]),
        preload: preload(section, path),
    };
    if ttl_ms == 0 {
        return None;
    }
    if identity == Needed::Required && !route.for_everybody {
        let place = section.place_of("cache_ttl_ms");
        let message =
            "is set while identity is \"required\" and cache_for is \"anonymous\": nothing would be kept";
        let help = "set identity to \"none\"; or set cache_for to \"everybody\", if every buyer may get what any other gets";
        section.problem(place, "cache_ttl_ms", message, Some(help.to_owned()));
    }
    if *host == HostRule::Client && !route.preload.is_empty() {
        let place = section.place_of("cache_preload");
        let message = "is set while host is \"client\": which host should the pages be fetched for?";
        section.problem(place, "cache_preload", message, Some("name the host in `host`".to_owned()));
    }
    Some(route)
}

fn vary(section: &mut Section<'_, '_>) -> Vec<HeaderName> {
    let names = section.parsed_list("cache_vary", &[], "name of an HTTP header", |text| {
        HeaderName::from_bytes(text.as_bytes()).ok().filter(|name| !is_of_one_client(name))
    });
    if names.len() > VARY_MAX {
        let place = section.place_of("cache_vary");
        section.problem(place, "cache_vary", format!("names more than {VARY_MAX} headers"), None);
    }
    names
}

/// A name that tells clients apart would make each one's answer an answer of its own; or it frames the message.
fn is_of_one_client(name: &HeaderName) -> bool {
    use http::header::{AUTHORIZATION, COOKIE, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE, VIA};
    crate::proxy::is_framing(name)
        || [AUTHORIZATION, COOKIE, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE, VIA].contains(name)
}

fn preload(section: &mut Section<'_, '_>, route: &str) -> Vec<String> {
    let Some((paths, place)) = section.texts_or("cache_preload") else { return Vec::new() };
    let mut problem = |message: String, help: Option<String>| {
        section.problem(place.clone(), "cache_preload", message, help);
    };
    if paths.len() > PRELOAD_MAX {
        problem(format!("names more than {PRELOAD_MAX} pages"), None);
    }
    for text in &paths {
        let path = text.split('?').next().unwrap_or("");
        let is_routes = if route.ends_with('/') { path.starts_with(route) } else { path == route };
        match canonical(path) {
            Err(fault) => problem(format!("\"{text}\" is no path: {fault}"), None),
            Ok(plain) if plain != path => {
                problem(format!("\"{text}\" can be written simpler"), Some(format!("write \"{plain}\"")));
            }
            Ok(_) if !is_routes => {
                let help = Some(format!("name paths as clients ask for them: {route} …"));
                problem(format!("\"{text}\" is no path of this route"), help);
            }
            Ok(_) if http::uri::PathAndQuery::try_from(text.as_str()).is_err() => {
                problem(format!("\"{text}\" is no path with a query"), None);
            }
            Ok(_) => {}
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::time::Duration;

    fn load(text: &str) -> Result<Config, String> {
        let config = Config::parse(std::path::Path::new("t.toml"), text, std::iter::empty()).0;
        config.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    fn route(lines: &str) -> String {
        format!("[[proxy]]\nname = \"shop\"\npath = \"/shop/\"\nupstream = \"http://127.0.0.1:9\"\n{lines}")
    }

    #[test]
    fn a_route_keeps_nothing_unless_it_says_so() {
        assert!(load(&route("")).unwrap().proxy[0].cache.is_none());
        let text = route("identity = \"none\"\ncache_ttl_ms = 1500\ncache_vary = [\"Accept-Language\"]\n");
        let cache = load(&text).unwrap().proxy[0].cache.clone().unwrap();
        assert_eq!((cache.ttl, cache.vary.len()), (Duration::from_millis(1_500), 1));
        assert!(!cache.for_everybody);
    }

    #[test]
    fn what_would_keep_nothing_or_too_much_is_told() {
        let told = |lines: &str| load(&route(lines)).unwrap_err();
        assert!(told("cache_ttl_ms = 1000").contains("nothing would be kept"));
        assert!(load(&route("cache_ttl_ms = 1000\ncache_for = \"everybody\"")).is_ok());
        assert!(told("cache_vary = [\"Cookie\"]").contains("cache_vary"));
        for path in ["/other", "/shop/../x", "/shop/%61", "shop"] {
            assert!(told(&format!("cache_preload = [\"{path}\"]")).contains("cache_preload"), "{path}");
        }
        assert!(load(&route("cache_preload = [\"/shop/a?b=c\"]")).is_ok());
        assert!(load("[cache]\nbytes_max = 1048576\n").unwrap_err().contains("body_bytes_max"));
    }
}
