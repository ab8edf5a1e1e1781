//! The second level: answers that all gateways of a fleet share through the Redis of their ledger, so that a page costs
//! the upstream one request and not one a gateway.
//!
//! That Redis never evicts, and a full one sells nothing: so there are a fixed number of places for answers, each of
//! bounded size; an answer's name says its place, and what comes later to a place replaces what is there. Nothing here
//! is needed: a Redis that is slow or away is left alone for a second, and the upstream is asked.

use super::key::Key;
use super::page::Page;
use super::rules::Lifetime;
use crate::config::CacheSettings;
use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_stock::redis::{RedisOptions, Shelf};
use tokio::time::{sleep, timeout};
use tracing::debug;

/// What one call may take.
const CALL_MAX: Duration = Duration::from_millis(200);
/// After a call that failed, none is made for so long.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a gateway has to bring an answer; then another one asks the upstream too.
const CLAIM: Duration = Duration::from_secs(3);
/// Between two looks for the answer that another gateway is bringing.
const LOOK: Duration = Duration::from_millis(20);
/// Beyond the body, for headers and the name.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// One core's way to the second level.
#[derive(Debug)]
pub(crate) struct Second {
    shelf: Shelf,
    places: u64,
    body_bytes_max: usize,
    silent_until: Cell<Option<Instant>>,
}

/// What the second level says of an answer.
#[derive(Debug)]
pub(super) enum Turn {
    /// It is there.
    Found(Box<Page>),
    /// This gateway is to bring it; the others wait for it.
    Ours(Claim),
    /// Nothing: ask the upstream.
    Alone,
}

/// The name under which others wait.
#[derive(Debug)]
pub(super) struct Claim(String);

#[derive(Serialize, Deserialize)]
struct Head {
    key: String,
    status: u16,
    headers: Vec<(String, String)>,
    fresh_ms: u64,
    while_revalidate_ms: u64,
    if_error_ms: u64,
}

impl Second {
    pub(crate) fn new(options: &Arc<RedisOptions>, settings: &CacheSettings) -> Option<Self> {
        (settings.shared_places > 0).then(|| Self {
            shelf: Shelf::new(options, "cache"),
            places: settings.shared_places,
            body_bytes_max: settings.shared_body_bytes_max,
            silent_until: Cell::new(None),
        })
    }

    /// Connects, so that the first answer need not wait for it.
    pub(crate) async fn warm(self: Rc<Self>) {
        let _ = self.shelf.get("0").await;
    }

    /// Looks for an answer that is good enough, waits for one that another gateway is bringing (at most [`CLAIM`]), or takes it
    /// upon this gateway to bring it. Cancel safe: a claim ends by itself.
    pub(super) async fn turn(&self, key: &Key, good: impl Fn(&Page) -> bool) -> Turn {
        if self.silent_until.get().is_some_and(|until| until > Instant::now()) {
            return Turn::Alone;
        }
        let digest = Sha256::digest(key.as_bytes());
        let (place, claim) = (self.place(&digest), claim_name(&digest));
        let end = Instant::now() + CLAIM;
        loop {
            let Some(found) = self.call(self.shelf.get(&place)).await else { return Turn::Alone };
            let page = found.and_then(|(bytes, left)| read(&bytes, key, left, Instant::now()));
            if let Some(page) = page.filter(|page| good(page)) {
                return Turn::Found(Box::new(page));
            }
            match self.call(self.shelf.claim(&claim, CLAIM)).await {
                None => return Turn::Alone,
                Some(true) => return Turn::Ours(Claim(claim)),
                Some(false) if Instant::now() >= end => return Turn::Alone,
                Some(false) => sleep(LOOK).await,
            }
        }
    }

    /// Brings what the upstream answered, if it is for all; those who wait for it go on in any case.
    pub(super) async fn bring(&self, claim: Claim, key: &Key, page: Option<&Page>) {
        if let Some(page) = page.filter(|page| page.body.len() <= self.body_bytes_max)
            && let Some(bytes) = written(page, key)
        {
            let left = page.life.whole().saturating_sub(page.age(Instant::now()));
            let place = self.place(&Sha256::digest(key.as_bytes()));
            self.call(self.shelf.put(&place, &bytes, left)).await;
        }
        self.call(self.shelf.remove(&claim.0)).await;
    }

    /// Takes one answer away.
    pub(super) async fn forget(&self, key: &Key) {
        self.call(self.shelf.remove(&self.place(&Sha256::digest(key.as_bytes())))).await;
    }

    /// Takes all answers away, of all routes.
    pub(crate) async fn forget_all(&self) -> bool {
        for place in 0..self.places {
            if self.call(self.shelf.remove(&place.to_string())).await.is_none() {
                return false;
            }
        }
        true
    }

    fn place(&self, digest: &[u8]) -> String {
        let number = digest[..8].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        (number % self.places).to_string()
    }

    async fn call<T, E: std::fmt::Display>(&self, call: impl Future<Output = Result<T, E>>) -> Option<T> {
        match timeout(CALL_MAX, call).await {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => debug!(%error, "the second level of the cache"),
            Err(_) => debug!("the second level of the cache does not answer in time"),
        }
        self.silent_until.set(Some(Instant::now() + PAUSE));
        None
    }
}

fn claim_name(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    digest[..16].iter().fold("claim:".to_owned(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

/// A page as bytes: a line of JSON, then the body. `None`: a header is no text, or they are too many.
fn written(page: &Page, key: &Key) -> Option<Vec<u8>> {
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    let ms = |time: Duration| time.as_millis() as u64;
    let head = Head {
        key: key.to_string(),
        status: page.status.as_u16(),
        headers: page.headers.iter().map(text).collect::<Option<_>>()?,
        fresh_ms: ms(page.life.fresh),
        while_revalidate_ms: ms(page.life.while_revalidate),
        if_error_ms: ms(page.life.if_error),
    };
    let mut bytes = serde_json::to_vec(&head).ok()?;
    if bytes.len() > HEAD_BYTES_MAX {
        return None;
    }
    bytes.push(b'\n');
    bytes.extend_from_slice(&page.body);
    Some(bytes)
}

/// The page of this name; `left`: how long it may still be used for anything. Its age comes of that, so no gateway's
/// clock is compared with another's.
fn read(bytes: &[u8], key: &Key, left: Duration, now: Instant) -> Option<Page> {
    let line = bytes.iter().position(|&byte| byte == b'\n')?;
    let head: Head = serde_json::from_slice(&bytes[..line]).ok().filter(|head: &Head| *head.key == **key)?;
    let life = Lifetime {
        fresh: Duration::from_millis(head.fresh_ms),
        while_revalidate: Duration::from_millis(head.while_revalidate_ms),
        if_error: Duration::from_millis(head.if_error_ms),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &head.headers {
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
    }
    let status = StatusCode::from_u16(head.status).ok()?;
    let age = life.whole().saturating_sub(left);
    let body = Bytes::copy_from_slice(&bytes[line + 1..]);
    Some(Page::new(status, headers, body, life, age, now, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_comes_back_as_it_went_and_as_old_as_it_is() {
        let at = Instant::now();
        let life = Lifetime {
            fresh: Duration::from_secs(10),
            while_revalidate: Duration::ZERO,
            if_error: Duration::from_secs(30),
        };
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        let body = Bytes::from_static(b"a\nb");
        let page = Page::new(StatusCode::OK, headers, body, life, Duration::ZERO, at, false);
        let key: Key = "shop\n/a\n".into();
        let bytes = written(&page, &key).unwrap();
        let back = read(&bytes, &key, Duration::from_secs(33), at).unwrap();
        assert_eq!((back.status, &back.headers, &back.body), (page.status, &page.headers, &page.body));
        assert_eq!((back.life, back.age(at)), (life, Duration::from_secs(7)));
        assert!(read(&bytes, &"shop\n/b\n".into(), Duration::from_secs(33), at).is_none(), "another's place");
        assert!(read(b"junk", &key, Duration::from_secs(33), at).is_none());
    }
}
