//! One kept answer: what it is, how old it is, and how it is told.

use super::Asked;
use super::rules::Lifetime;
use crate::http::{Answer, Body, entity_tag};
use bytes::Bytes;
use http::header::{
    AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_LOCATION, DATE, ETAG, EXPIRES, HeaderMap, HeaderName,
    HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, VARY, VIA,
};
use http::{Response, StatusCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// RFC 9211.
pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// After an attempt for a newer answer has failed, the next one is made so much later.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Of a 200, what a 304 tells again (RFC 9110, 15.4.5).
const OF_NOT_MODIFIED: [HeaderName; 8] =
    [CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY, VIA];

/// An answer that more than one may have.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    /// The upstream's, without `Age` and `Content-Length`.
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Made of the body, where the upstream has no tag.
    own_tag: Option<HeaderValue>,
    /// For caches downstream, where the upstream says nothing or a script has said other.
    own_control: Option<HeaderValue>,
    pub(super) life: Lifetime,
    /// When it was asked for: what it took to come counts as age.
    asked_at: Instant,
    age_then: Duration,
    /// No attempt for a newer one before, in ms after `asked_at`.
    next_try_ms: AtomicU64,
    weight: usize,
}

/// What may be done with a page now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Told as it is.
    Fresh,
    /// Told as it is, and a newer one is asked for.
    WhileRevalidate,
    /// A newer one is waited for; when there is none, this one.
    IfError,
    /// Of no use.
    Over,
}

impl Page {
    /// `decided`: a script has set the time, so downstream caches are told that one.
    pub(super) fn new(
        status: StatusCode,
        mut headers: HeaderMap,
        body: Bytes,
        life: Lifetime,
        age_then: Duration,
        asked_at: Instant,
        decided: bool,
    ) -> Self {
        headers.remove(AGE);
        headers.remove(CONTENT_LENGTH);
        let tagless = status == StatusCode::OK && !headers.contains_key(ETAG);
        let own_tag = tagless.then(|| entity_tag::strong(&body));
        let silent = !(headers.contains_key(CACHE_CONTROL) || headers.contains_key(EXPIRES));
        let own_control = (decided || silent).then(|| {
            let control = match life.fresh.as_secs() {
                0 => "public, no-cache".to_owned(),
                seconds => format!("public, max-age={seconds}"),
            };
            HeaderValue::try_from(control).expect("words and a number are a header value")
        });
        let line = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 64;
        let weight = body.len() + headers.iter().map(line).sum::<usize>();
        let next_try_ms = AtomicU64::new(0);
        Self { status, headers, body, own_tag, own_control, life, asked_at, age_then, next_try_ms, weight }
    }

    /// Since the upstream made it.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.age_then + now.saturating_duration_since(self.asked_at)
    }

    /// What may be done with it.
    pub(super) fn state(&self, now: Instant) -> State {
        let (age, life) = (self.age(now), &self.life);
        if age < life.fresh {
            State::Fresh
        } else if age < life.fresh + life.while_revalidate {
            State::WhileRevalidate
        } else if age < life.fresh + life.if_error {
            State::IfError
        } else {
            State::Over
        }
    }

    /// Whether it may stand in for a newer one that cannot be had.
    pub(super) fn may_stand_in(&self, now: Instant) -> bool {
        self.age(now) < self.life.whole()
    }

    /// Whether it is time for an attempt for a newer one.
    pub(super) fn may_try(&self, now: Instant) -> bool {
        let since_ms = now.saturating_duration_since(self.asked_at).as_millis() as u64;
        since_ms >= self.next_try_ms.load(Ordering::Relaxed)
    }

    /// An attempt for a newer one has failed.
    pub(super) fn tried_in_vain(&self, now: Instant) {
        let next = now.saturating_duration_since(self.asked_at) + RETRY_PAUSE;
        self.next_try_ms.store(next.as_millis() as u64, Ordering::Relaxed);
    }

    /// Asks the upstream whether this one is still good; without a validator of the upstream's it is asked for anew.
    pub(super) fn make_conditional(&self, headers: &mut HeaderMap) {
        if let Some(tag) = self.headers.get(ETAG) {
            headers.insert(IF_NONE_MATCH, tag.clone());
        }
        if let Some(modified) = self.headers.get(LAST_MODIFIED) {
            headers.insert(IF_MODIFIED_SINCE, modified.clone());
        }
    }

    /// Its headers with what a 304 says of them (RFC 9111, 3.2).
    pub(super) fn headers_after(&self, not_modified: &HeaderMap) -> HeaderMap {
        let mut headers = self.headers.clone();
        for name in not_modified.keys().filter(|name| !is_of_body(name)) {
            headers.remove(name);
            for value in not_modified.get_all(name) {
                headers.append(name, value.clone());
            }
        }
        headers
    }

    /// The answer to `asked`: whole, its head alone, or 304. `how`: the parameters of `Cache-Status`.
    pub(super) fn answer(&self, asked: &Asked<'_>, now: Instant, how: &str) -> Answer {
        let mut answer = if self.is_known_to(asked.headers) {
            let mut answer = Response::new(Body::Full(None));
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            for name in &OF_NOT_MODIFIED {
                for value in self.headers.get_all(name) {
                    answer.headers_mut().append(name, value.clone());
                }
            }
            answer
        } else {
            let body = (!asked.is_head && !self.body.is_empty()).then(|| self.body.clone());
            let mut answer = Response::new(Body::Full(body));
            *answer.status_mut() = self.status;
            answer.headers_mut().clone_from(&self.headers);
            if self.status != StatusCode::NO_CONTENT {
                answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
            }
            answer
        };
        if let Some(tag) = &self.own_tag {
            answer.headers_mut().insert(ETAG, tag.clone());
        }
        if let Some(control) = &self.own_control {
            answer.headers_mut().insert(CACHE_CONTROL, control.clone());
        }
        answer.headers_mut().insert(AGE, HeaderValue::from(self.age(now).as_secs()));
        tell(&mut answer, how);
        answer
    }

    /// What is left of its freshness in whole seconds, as `Cache-Status` tells it; below 0 when it is stale.
    pub(super) fn ttl_s(&self, now: Instant) -> i64 {
        let (age, fresh) = (self.age(now), self.life.fresh);
        match fresh.checked_sub(age) {
            Some(left) => left.as_secs() as i64,
            None => -(age.saturating_sub(fresh).as_secs() as i64),
        }
    }

    /// Whether the client has it already.
    fn is_known_to(&self, headers: &HeaderMap) -> bool {
        if self.status != StatusCode::OK {
            return false;
        }
        if headers.contains_key(IF_NONE_MATCH) {
            let tag = self.headers.get(ETAG).or(self.own_tag.as_ref());
            return tag.is_some_and(|tag| entity_tag::named(headers, tag));
        }
        let date = |value: Option<&HeaderValue>| httpdate::parse_http_date(value?.to_str().ok()?).ok();
        match (date(headers.get(IF_MODIFIED_SINCE)), date(self.headers.get(LAST_MODIFIED))) {
            (Some(since), Some(modified)) => modified <= since,
            _ => false,
        }
    }

    /// Bytes that it holds, about.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }
}

/// Of the body that came with them, which a 304 has none of.
fn is_of_body(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH || *name == http::header::CONTENT_ENCODING || *name == http::header::CONTENT_TYPE
}

/// Adds this cache's word to `Cache-Status`.
pub(super) fn tell(answer: &mut Answer, how: &str) {
    if let Ok(value) = HeaderValue::try_from(format!("tidegate; {how}")) {
        answer.headers_mut().append(CACHE_STATUS, value);
    }
}
