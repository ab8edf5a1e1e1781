//! Under which name an answer is kept: route, target, host, and the headers that it may vary by.

use super::Asked;
use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write as _;
use std::sync::Arc;

/// Codings that are told apart, the one that is liked best first.
const CODINGS: [&str; 3] = ["br", "zstd", "gzip"];

/// Name of an answer. Lines: route, target, host, then one a header. None of them can hold a line's end.
pub(super) type Key = Arc<str>;

/// The name under which this request's answer is kept.
pub(super) fn of(route: &str, asked: &Asked<'_>, vary: &[HeaderName]) -> Key {
    let host = asked.host.map_or("", |host| host.to_str().unwrap_or(""));
    let mut key = String::with_capacity(route.len() + asked.target.len() + host.len() + 3 + 16 * vary.len());
    let _ = write!(key, "{route}\n{}\n{host}", asked.target);
    for name in vary {
        key.push('\n');
        if let Some(value) = told(asked.headers, name) {
            let _ = write!(key, "={}", value.as_bytes().escape_ascii());
        }
    }
    key.into()
}

/// What begins every name of this route's answers, or of those whose target begins with `path`.
pub(super) fn prefix(route: &str, path: &str) -> String {
    format!("{route}\n{path}")
}

/// The names of all answers to this target, whatever they vary by.
pub(super) fn is_target(key: &str, route: &str, target: &str) -> bool {
    let mut lines = key.split('\n');
    lines.next() == Some(route) && lines.next() == Some(target)
}

/// What the upstream is told of a header that answers vary by: the client's value, all lines of it; of `Accept-Encoding`
/// the codings alone, so that each browser's own spelling is not an answer of its own.
pub(super) fn told(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    if *name == ACCEPT_ENCODING {
        return codings(headers);
    }
    let mut all = first.as_bytes().to_vec();
    for line in lines {
        all.extend_from_slice(b", ");
        all.extend_from_slice(line.as_bytes());
    }
    HeaderValue::from_bytes(&all).ok()
}

fn codings(headers: &HeaderMap) -> Option<HeaderValue> {
    let accepted = |coding: &&&str| {
        headers.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok()).any(|line| {
            line.split(',').any(|part| {
                let mut words = part.split(';').map(str::trim);
                let is = words.next().is_some_and(|name| name.eq_ignore_ascii_case(coding));
                let refused = words.any(|word| {
                    let quality = word.strip_prefix("q=").or_else(|| word.strip_prefix("Q="));
                    quality.is_some_and(|quality| quality.parse::<f32>().is_ok_and(|quality| quality <= 0.0))
                });
                is && !refused
            })
        })
    };
    let known: Vec<&str> = CODINGS.iter().filter(accepted).copied().collect();
    if known.is_empty() { None } else { HeaderValue::from_str(&known.join(", ")).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn key(target: &str, lines: &[(&'static str, &'static str)], vary: &[&'static str]) -> Key {
        let headers = headers(lines);
        let vary: Vec<_> = vary.iter().map(|name| HeaderName::from_static(name)).collect();
        of("shop", &Asked { target, headers: &headers, host: None, is_head: false }, &vary)
    }

    #[test]
    fn only_the_named_headers_tell_answers_apart() {
        assert_eq!(key("/a", &[("cookie", "x")], &[]), key("/a", &[], &[]));
        assert_ne!(key("/a?b", &[], &[]), key("/a", &[], &[]));
        let by = ["accept-language"];
        assert_ne!(
            key("/a", &[("accept-language", "de")], &by),
            key("/a", &[("accept-language", "en")], &by)
        );
        assert_ne!(key("/a", &[("accept-language", "")], &by), key("/a", &[], &by), "empty is not absent");
        let two = ["x-a", "x-b"];
        assert_ne!(key("/a", &[("x-a", "1")], &two), key("/a", &[("x-b", "1")], &two));
        assert_ne!(key("/a", &[("x-a", "1\\n=2")], &two), key("/a", &[("x-a", "1"), ("x-b", "2")], &two));
    }

    #[test]
    fn encodings_are_told_apart_by_what_they_offer_alone() {
        let by = ["accept-encoding"];
        let of = |text| key("/a", &[("accept-encoding", text)], &by);
        assert_eq!(of("gzip, deflate, br"), of("br;q=1.0,gzip;q=0.5"));
        assert_ne!(of("gzip"), of("gzip, br"));
        assert_eq!(of("gzip;q=0"), key("/a", &[], &by));
        assert_eq!(of("identity"), key("/a", &[], &by));
    }

    #[test]
    fn names_are_found_by_route_path_and_target() {
        let found = key("/a/b?c", &[], &["x-a"]);
        assert!(found.starts_with(&prefix("shop", "")) && found.starts_with(&prefix("shop", "/a/")));
        assert!(!found.starts_with(&prefix("sho", "")) && !found.starts_with(&prefix("shop", "/b")));
        assert!(is_target(&found, "shop", "/a/b?c") && !is_target(&found, "shop", "/a/b"));
    }
}
