//! What may be kept of an answer, for whom and how long (RFC 9111, RFC 5861).

use super::control::Control;
use crate::config::CacheRoute;
use http::StatusCode;
use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_RANGE, DATE, EXPIRES, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, VARY,
};
use std::time::Duration;

/// Whatever an upstream says, nothing is fresh for longer.
const FRESH_MAX: Duration = Duration::from_hours(24);
/// … nor usable beyond that for longer.
const STALE_MAX: Duration = Duration::from_hours(24);

/// How an answer may be used, counted from its making.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime {
    /// As it is.
    pub(super) fresh: Duration,
    /// Beyond that, while one asks for a newer one.
    pub(super) while_revalidate: Duration,
    /// Beyond that, when a newer one cannot be had.
    pub(super) if_error: Duration,
}

impl Lifetime {
    /// Of what is not kept.
    pub(super) const NONE: Self =
        Self { fresh: Duration::ZERO, while_revalidate: Duration::ZERO, if_error: Duration::ZERO };

    /// After this nobody may have it.
    pub(super) fn whole(&self) -> Duration {
        self.fresh + self.while_revalidate.max(self.if_error)
    }
}

/// For whom an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// For everybody, so long.
    Keep(Lifetime),
    /// For all who wait for it now; nobody comes later.
    Now,
    /// For whoever asked, and nobody else. Why.
    Own(&'static str),
}

/// Judges the answer to a request that carried nothing of any client but the headers of `vary`.
///
/// `decided`: what the operator's script says of the time; it cannot make an answer everybody's that is one buyer's.
pub(super) fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    settings: &CacheRoute,
    decided: Option<Duration>,
) -> Verdict {
    let control = Control::of(headers);
    if headers.contains_key(SET_COOKIE) {
        return Verdict::Own("it sets a cookie");
    }
    if control.private || control.no_store {
        return Verdict::Own("the upstream keeps it from caches");
    }
    if !vary_is_in_key(headers, &settings.vary) {
        return Verdict::Own("it varies by a header that the route does not name");
    }
    if headers.contains_key(CONTENT_RANGE) || status == StatusCode::PARTIAL_CONTENT {
        return Verdict::Own("it is a part");
    }
    if control.no_cache {
        return Verdict::Own("the upstream wants to be asked each time");
    }
    if decided == Some(Duration::ZERO) {
        return Verdict::Own("the cache script says so");
    }
    let explicit = explicit(headers, &control);
    let fresh = match (status, decided, explicit) {
        (status, ..) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Verdict::Now;
        }
        (_, Some(decided), _) => decided,
        (_, None, Some(explicit)) => explicit,
        (
            StatusCode::OK
            | StatusCode::NON_AUTHORITATIVE_INFORMATION
            | StatusCode::MOVED_PERMANENTLY
            | StatusCode::PERMANENT_REDIRECT,
            None,
            None,
        ) => settings.ttl,
        // Nobody said that an answer of this kind may be kept.
        _ => return Verdict::Now,
    };
    let strict = control.must_revalidate || control.s_maxage_s.is_some();
    let stale = |told: Option<u64>, own: Duration| match told {
        _ if strict => Duration::ZERO,
        Some(seconds) => Duration::from_secs(seconds).min(STALE_MAX),
        None => own,
    };
    let life = Lifetime {
        fresh: fresh.min(FRESH_MAX),
        while_revalidate: stale(control.stale_while_revalidate_s, settings.stale_while_revalidate),
        if_error: stale(control.stale_if_error_s, settings.stale_if_error),
    };
    if life.whole().is_zero() { Verdict::Now } else { Verdict::Keep(life) }
}

/// How old an answer was when it came.
pub(super) fn age_at_first(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse().ok());
    // One that cannot be read says that there was a cache before this one, and nothing more.
    Duration::from_secs(seconds.unwrap_or(0)).min(FRESH_MAX)
}

/// What the upstream says of freshness itself: `s-maxage`, `max-age`, `Expires` less `Date`.
fn explicit(headers: &HeaderMap, control: &Control) -> Option<Duration> {
    if let Some(seconds) = control.s_maxage_s.or(control.max_age_s) {
        return Some(Duration::from_secs(seconds));
    }
    let date = |name| {
        headers.get(name).map(|value: &HeaderValue| {
            value.to_str().ok().and_then(|text| httpdate::parse_http_date(text).ok())
        })
    };
    match (date(EXPIRES)?, date(DATE).flatten()) {
        (Some(expires), Some(made)) => Some(expires.duration_since(made).unwrap_or_default()),
        // `Expires: 0` and its like are in the past; without a date there is nothing to measure by.
        _ => Some(Duration::ZERO),
    }
}

/// Whether all that the answer varies by is in the key. An answer without a coding is good for every `Accept-Encoding`.
fn vary_is_in_key(headers: &HeaderMap, key: &[HeaderName]) -> bool {
    let uncoded = !headers.contains_key(CONTENT_ENCODING);
    if !uncoded && !key.contains(&http::header::ACCEPT_ENCODING) {
        // Not everybody could read it.
        return false;
    }
    headers.get_all(VARY).iter().all(|line| {
        line.to_str().is_ok_and(|line| {
            line.split(',').map(str::trim).filter(|name| !name.is_empty()).all(|name| {
                (uncoded && name.eq_ignore_ascii_case("accept-encoding"))
                    || key.iter().any(|known| name.eq_ignore_ascii_case(known.as_str()))
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> CacheRoute {
        CacheRoute {
            ttl: Duration::from_secs(10),
            stale_while_revalidate: Duration::from_secs(5),
            stale_if_error: Duration::from_mins(1),
            vary: vec![HeaderName::from_static("accept-language")],
            for_everybody: false,
            preload: Vec::new(),
        }
    }

    fn of(status: u16, lines: &[(&'static str, &str)]) -> Verdict {
        decided(status, lines, None)
    }

    fn decided(status: u16, lines: &[(&'static str, &str)], decided: Option<Duration>) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        judge(StatusCode::from_u16(status).unwrap(), &headers, &settings(), decided)
    }

    fn keep(fresh: u64, while_revalidate: u64, if_error: u64) -> Verdict {
        let [fresh, while_revalidate, if_error] =
            [fresh, while_revalidate, if_error].map(Duration::from_secs);
        Verdict::Keep(Lifetime { fresh, while_revalidate, if_error })
    }

    #[test]
    fn without_a_word_of_the_upstream_the_route_decides() {
        assert_eq!(of(200, &[]), keep(10, 5, 60));
        assert_eq!(of(301, &[]), keep(10, 5, 60));
        for status in [302, 404, 410, 403, 429, 500, 503] {
            assert_eq!(of(status, &[]), Verdict::Now, "{status}");
        }
        assert_eq!(of(404, &[("cache-control", "max-age=3")]), keep(3, 5, 60));
        assert_eq!(of(500, &[("cache-control", "max-age=3")]), Verdict::Now, "an error is never kept");
    }

    #[test]
    fn the_upstreams_word_goes_first() {
        assert_eq!(of(200, &[("cache-control", "max-age=3")]), keep(3, 5, 60));
        assert_eq!(
            of(200, &[("cache-control", "max-age=3, s-maxage=7")]),
            keep(7, 0, 0),
            "s-maxage is strict"
        );
        assert_eq!(of(200, &[("cache-control", "max-age=3, must-revalidate")]), keep(3, 0, 0));
        let told = [("cache-control", "max-age=3, stale-while-revalidate=1, stale-if-error=2")];
        assert_eq!(of(200, &told), keep(3, 1, 2));
        assert_eq!(of(200, &[("cache-control", "max-age=0, must-revalidate")]), Verdict::Now);
        assert_eq!(of(200, &[("cache-control", "max-age=99999999")]), keep(86_400, 5, 60));
        let date = ("date", "Sat, 21 Nov 2026 10:00:00 GMT");
        assert_eq!(of(200, &[date, ("expires", "Sat, 21 Nov 2026 10:00:08 GMT")]), keep(8, 5, 60));
        assert_eq!(of(200, &[date, ("expires", "0")]), keep(0, 5, 60));
    }

    #[test]
    fn what_is_one_buyers_is_kept_for_nobody() {
        for headers in [
            ("set-cookie", "session=1"),
            ("cache-control", "private"),
            ("cache-control", "private=\"x\", max-age=60"),
            ("cache-control", "no-store"),
            ("cache-control", "no-cache"),
            ("vary", "*"),
            ("vary", "Cookie"),
            ("vary", "accept-language, user-agent"),
            ("content-encoding", "gzip"),
            ("content-range", "bytes 0-1/5"),
        ] {
            assert!(matches!(of(200, &[headers]), Verdict::Own(_)), "{headers:?}");
            let asked = decided(200, &[headers], Some(Duration::from_secs(5)));
            assert!(matches!(asked, Verdict::Own(_)), "no script may share {headers:?}");
        }
        assert!(matches!(of(206, &[]), Verdict::Own(_)));
        assert_eq!(of(200, &[("vary", "Accept-Language, accept-encoding")]), keep(10, 5, 60));
    }

    #[test]
    fn a_script_sets_the_time_or_says_no() {
        assert_eq!(
            decided(200, &[("cache-control", "max-age=3")], Some(Duration::from_secs(8))),
            keep(8, 5, 60)
        );
        assert_eq!(decided(404, &[], Some(Duration::from_secs(8))), keep(8, 5, 60));
        assert!(matches!(decided(200, &[], Some(Duration::ZERO)), Verdict::Own(_)));
        assert_eq!(decided(503, &[], Some(Duration::from_secs(8))), Verdict::Now);
    }
}
