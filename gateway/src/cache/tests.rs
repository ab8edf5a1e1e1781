//! Pages and the place where they are kept, on instants of the test's own.

use super::page::{Page, State};
use super::rules::Lifetime;
use super::store::{Kept, Store};
use super::{Asked, key};
use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

const S: Duration = Duration::from_secs(1);

fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

fn page(lines: &[(&'static str, &'static str)], age_s: u32, at: Instant) -> Page {
    let life = Lifetime { fresh: 10 * S, while_revalidate: 5 * S, if_error: 60 * S };
    Page::new(StatusCode::OK, map(lines), Bytes::from_static(b"page"), life, age_s * S, at, false)
}

fn asked(headers: &HeaderMap, is_head: bool) -> Asked<'_> {
    Asked { target: "/a", headers, host: None, is_head }
}

fn line<B>(answer: &Response<B>, name: HeaderName) -> &str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[test]
fn a_page_is_fresh_then_stale_then_a_stand_in_then_over() {
    let at = Instant::now();
    let page = page(&[], 2, at);
    for (after_s, state) in [
        (0, State::Fresh),
        (7, State::Fresh),
        (8, State::WhileRevalidate),
        (12, State::WhileRevalidate),
        (13, State::IfError),
        (67, State::IfError),
        (68, State::Over),
    ] {
        assert_eq!(page.state(at + after_s * S), state, "after {after_s} s, and 2 s old when it came");
    }
    assert_eq!((page.ttl_s(at), page.ttl_s(at + 8 * S), page.ttl_s(at + 11 * S)), (8, 0, -3));
    assert!(page.may_stand_in(at + 67 * S) && !page.may_stand_in(at + 68 * S));
}

#[test]
fn after_a_failed_attempt_the_next_one_waits() {
    let at = Instant::now();
    let page = page(&[], 0, at);
    let late = at + 20 * S;
    assert!(page.may_try(late));
    page.tried_in_vain(late);
    assert!(!page.may_try(late + S / 2) && page.may_try(late + S));
}

#[tokio::test]
async fn it_is_told_with_its_age_a_tag_and_a_word_for_caches() {
    let at = Instant::now();
    let page = page(&[("content-type", "text/plain")], 1, at);
    let none = HeaderMap::new();
    let told = page.answer(&asked(&none, false), at + 3 * S, "hit; ttl=6");
    assert_eq!((told.status(), line(&told, AGE)), (StatusCode::OK, "4"));
    assert_eq!(line(&told, CACHE_CONTROL), "public, max-age=10");
    assert_eq!(line(&told, HeaderName::from_static("cache-status")), "tidegate; hit; ttl=6");
    let tag = line(&told, ETAG).to_owned();
    assert_eq!(tag.len(), 34, "{tag}");
    assert_eq!(told.into_body().collect().await.unwrap().to_bytes(), "page");

    let head = page.answer(&asked(&none, true), at, "hit");
    assert_eq!((line(&head, CONTENT_LENGTH), line(&head, ETAG)), ("4", tag.as_str()));
    assert!(head.into_body().collect().await.unwrap().to_bytes().is_empty());

    let mut knows = HeaderMap::new();
    knows.insert(http::header::IF_NONE_MATCH, HeaderValue::from_str(&tag).unwrap());
    let known = page.answer(&asked(&knows, false), at, "hit");
    assert_eq!((known.status(), line(&known, ETAG)), (StatusCode::NOT_MODIFIED, tag.as_str()));
    assert!(!known.headers().contains_key(CONTENT_LENGTH) && !known.headers().contains_key("content-type"));
    assert_eq!(line(&known, CACHE_CONTROL), "public, max-age=10");
    assert!(known.into_body().collect().await.unwrap().to_bytes().is_empty());
}

#[test]
fn a_date_is_asked_for_where_no_tag_is() {
    let at = Instant::now();
    let page = page(&[("last-modified", "Sat, 21 Nov 2026 10:00:00 GMT")], 0, at);
    let status =
        |lines: &[(&'static str, &'static str)]| page.answer(&asked(&map(lines), false), at, "hit").status();
    let since = |date| ("if-modified-since", date);
    assert_eq!(status(&[since("Sat, 21 Nov 2026 10:00:00 GMT")]), StatusCode::NOT_MODIFIED);
    assert_eq!(status(&[since("Sat, 21 Nov 2026 09:59:59 GMT")]), StatusCode::OK);
    assert_eq!(status(&[since("no date")]), StatusCode::OK);
    let both = [since("Sat, 21 Nov 2026 10:00:00 GMT"), ("if-none-match", "\"other\"")];
    assert_eq!(status(&both), StatusCode::OK, "the tag goes first");
}

#[test]
fn the_upstream_is_asked_by_its_own_tag_and_its_304_changes_headers_alone() {
    let at = Instant::now();
    let plain = page(&[], 0, at);
    let mut sent = HeaderMap::new();
    plain.make_conditional(&mut sent);
    assert!(sent.is_empty(), "a tag of the gateway's own is nothing to the upstream");
    let lines =
        [("etag", "\"u\""), ("x-old", "1"), ("cache-control", "max-age=1"), ("content-type", "text/html")];
    let page = page(&lines, 0, at);
    page.make_conditional(&mut sent);
    assert_eq!(sent["if-none-match"], "\"u\"");
    let news = map(&[("cache-control", "max-age=9"), ("content-type", "none"), ("x-new", "2")]);
    let after = page.headers_after(&news);
    assert_eq!(
        (&after["cache-control"], &after["x-old"], &after["x-new"]),
        (
            &HeaderValue::from_static("max-age=9"),
            &HeaderValue::from_static("1"),
            &HeaderValue::from_static("2"),
        )
    );
    assert_eq!(after["content-type"], "text/html");
}

#[test]
fn what_is_kept_is_bounded_by_bytes_and_found_until_it_is_over() {
    let at = Instant::now();
    let store = Store::new(1 << 20);
    let none = HeaderMap::new();
    let name = |n: usize| {
        let target = format!("/{n}");
        key::of("shop", &Asked { target: &target, headers: &none, host: None, is_head: false }, &[])
    };
    let life = Lifetime { fresh: 10 * S, while_revalidate: Duration::ZERO, if_error: Duration::ZERO };
    for n in 0..10_000 {
        let body = Bytes::from(vec![b'x'; 1_000]);
        let page = Page::new(StatusCode::OK, HeaderMap::new(), body, life, Duration::ZERO, at, false);
        store.keep(name(n), Arc::new(page));
    }
    let (entries, bytes) = store.size();
    assert!(bytes <= 1 << 20 && entries > 300 && entries < 700, "{entries} entries, {bytes} bytes");
    let last = (0..10_000).rev().find(|&n| store.find(&name(n), at).is_some()).unwrap();
    assert!(store.find(&name(last), at + 10 * S).is_none(), "over");
    store.own(name(1), at);
    assert!(matches!(store.find(&name(1), at + 9 * S), Some(Kept::Own(_))));
    assert!(store.find(&name(1), at + 10 * S).is_none());
    assert!(store.forget_prefix("shop\n/") as u64 >= entries - 1);
    assert_eq!(store.size(), (0, 0));
}
