//! The cache of proxy routes against a real gateway and an upstream that counts: what costs the upstream a request, and
//! who is told what.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tidegate_tests::{Act, Http, Reply, Server, Settings, Upstream, eventually};

/// A gateway with a route `/shop/` that keeps answers; `keys` are further ones of the route.
async fn gateway(upstream: &Upstream, keys: &str) -> Server {
    Server::start_with(settings(upstream, keys)).await
}

fn settings(upstream: &Upstream, keys: &str) -> Settings {
    let route = format!(
        "[{{ name = \"shop\", path = \"/shop/\", upstream = \"{}\", identity = \"none\", {keys} }}]",
        upstream.url()
    );
    Settings::new().value("proxy", route).set("admission.quota.ip_per_s", 0)
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Numbers its answers, so that one can tell which one somebody got.
async fn counting(headers: &'static str) -> Upstream {
    Upstream::start(move |before, _| Act::Answer(answer("200 OK", headers, &format!("page {before}")))).await
}

async fn get(server: &Server, path: &str) -> Reply {
    server.shop.public.get(path, &[]).await
}

/// This gateway's word in `Cache-Status`.
fn how(reply: &Reply) -> &str {
    reply.header("cache-status")
}

async fn figure(server: &Server, line: &str) -> u64 {
    let page = server.shop.inner.get("/metrics", &[]).await.text;
    let found = page.lines().find_map(|have| have.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or_else(|| panic!("no {line} in {page}"))
}

#[tokio::test]
async fn a_thousand_who_ask_for_a_cold_page_at_once_cost_the_upstream_one_request() {
    let slow = Duration::from_millis(1_500);
    let upstream =
        Upstream::start(move |_, _| Act::Halves(Vec::new(), slow, answer("200 OK", "", "page"))).await;
    let server = gateway(&upstream, "cache_ttl_ms = 60000, rate_per_s = 1, burst = 1, max_wait_ms = 0").await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let http = Http::http2(&server.settings.public_url());
        for _ in 0..100 {
            let http = http.clone();
            asking.spawn(async move { http.get("/shop/a", &[]).await });
        }
    }
    let mut collapsed = 0;
    while let Some(reply) = asking.join_next().await {
        let reply = reply.unwrap().expect(200);
        assert_eq!(reply.text, "page");
        collapsed += usize::from(how(&reply).contains("collapsed"));
    }
    assert_eq!(upstream.seen().len(), 1);
    assert!(collapsed > 500, "only {collapsed} waited for another one's request");
    let later = get(&server, "/shop/a").await.expect(200);
    assert!(how(&later).starts_with("tidegate; hit; ttl="), "{}", how(&later));
    // One token a flight, none for what is kept: there was only one.
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(figure(&server, "tidegate_cache_flights_total{outcome=\"kept\"}").await, 1);
    assert_eq!(figure(&server, "tidegate_cache_requests_total{outcome=\"miss\"}").await, 1);
}

#[tokio::test]
async fn what_is_kept_takes_no_token_and_each_flight_takes_one() {
    let upstream = counting("").await;
    let keys = "cache_ttl_ms = 60000, rate_per_s = 1, burst = 2, max_wait_ms = 0";
    let server = gateway(&upstream, keys).await;
    let began = Instant::now();
    get(&server, "/shop/a").await.expect(200);
    for _ in 0..50 {
        get(&server, "/shop/a").await.expect(200);
    }
    get(&server, "/shop/b").await.expect(200);
    let mut refused = 0;
    for page in 0..50 {
        refused += u64::from(get(&server, &format!("/shop/cold-{page}")).await.status == 429);
    }
    let seen = upstream.seen().len() as u64;
    assert_eq!(seen + refused, 52, "a, b and the cold pages, each once or not at all");
    assert!(seen <= 2 + began.elapsed().as_secs() + 1, "{seen} requests upstream");
}

#[tokio::test]
async fn an_old_page_is_told_at_once_while_a_slow_upstream_is_asked_for_a_newer_one() {
    let upstream = Upstream::start(|before, _| match before {
        0 => Act::Answer(answer("200 OK", "", "old")),
        1 => Act::Halves(
            Vec::new(),
            Duration::from_secs(1),
            answer("200 OK", "Cache-Control: max-age=600\r\n", "new"),
        ),
        _ => Act::Hang,
    })
    .await;
    let server = gateway(&upstream, "cache_ttl_ms = 600, cache_stale_ms = 60000").await;
    assert_eq!(get(&server, "/shop/a").await.text, "old");
    let began = Instant::now();
    eventually("the page is stale", || async {
        let reply = get(&server, "/shop/a").await;
        assert_eq!(reply.text, "old");
        (began.elapsed() > Duration::from_millis(700)).then_some(())
    })
    .await;
    eventually("the newer page", || async { (get(&server, "/shop/a").await.text == "new").then_some(()) })
        .await;
    assert_eq!(upstream.seen().len(), 2, "one request, however many were told the old page");
    assert!(figure(&server, "tidegate_cache_requests_total{outcome=\"stale\"}").await > 0);
    assert_eq!(figure(&server, "tidegate_cache_requests_total{outcome=\"miss\"}").await, 1);
}

#[tokio::test]
async fn an_old_page_is_told_when_the_upstream_is_down_or_fails() {
    let upstream = Upstream::start(|before, _| {
        // Closes, so that nobody answers any more once it is gone.
        let said = if before == 0 { answer("200 OK", "", "old") } else { answer("503 Sorry", "", "no") };
        Act::AnswerAndClose(said)
    })
    .await;
    let keys = "cache_ttl_ms = 200, cache_stale_ms = 0, cache_stale_if_error_ms = 60000";
    let server = gateway(&upstream, keys).await;
    assert_eq!(get(&server, "/shop/a").await.text, "old");
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 0..3 {
        let reply = get(&server, "/shop/a").await.expect(200);
        assert_eq!(reply.text, "old");
        assert!(how(&reply).contains("upstream-failed"), "{}", how(&reply));
    }
    assert_eq!(upstream.seen().len(), 2, "a failing upstream is left alone for a while");
    drop(upstream);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(get(&server, "/shop/a").await.expect(200).text, "old");
    get(&server, "/shop/b").await.expect_problem(502, "upstream-unavailable");
}

#[tokio::test]
async fn an_error_is_told_to_all_who_wait_and_kept_for_nobody() {
    let slow = Duration::from_millis(700);
    let upstream =
        Upstream::start(move |_, _| Act::Halves(Vec::new(), slow, answer("503 Sorry", "", "no"))).await;
    let server = gateway(&upstream, "cache_ttl_ms = 60000").await;
    let http = Http::http2(&server.settings.public_url());
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let http = http.clone();
        asking.spawn(async move { http.get("/shop/a", &[]).await });
    }
    while let Some(reply) = asking.join_next().await {
        assert_eq!(reply.unwrap().expect(503).text, "no");
    }
    assert_eq!(upstream.seen().len(), 1);
    get(&server, "/shop/a").await.expect(503);
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn that_the_first_client_goes_away_does_not_lose_the_flight() {
    let slow = Duration::from_millis(800);
    let upstream =
        Upstream::start(move |_, _| Act::Halves(Vec::new(), slow, answer("200 OK", "", "page"))).await;
    let server = gateway(&upstream, "cache_ttl_ms = 60000").await;
    let http = server.shop.public.clone();
    let first = tokio::spawn(async move { http.try_send("GET", "/shop/a", &[], b"").await });
    eventually("the flight", || async { (upstream.seen().len() == 1).then_some(()) }).await;
    first.abort();
    let reply = get(&server, "/shop/a").await.expect(200);
    assert!(how(&reply).contains("collapsed") || how(&reply).contains("hit"), "{}", how(&reply));
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_page_is_revalidated_by_its_tag_and_clients_are_told_304() {
    let upstream = Upstream::start(|_, seen| {
        if seen.header("if-none-match").is_empty() {
            Act::Answer(answer("200 OK", "ETag: \"u1\"\r\nCache-Control: max-age=1\r\n", "page"))
        } else {
            Act::Answer(
                b"HTTP/1.1 304 Not Modified\r\nETag: \"u1\"\r\nCache-Control: max-age=60\r\n\r\n".to_vec(),
            )
        }
    })
    .await;
    let server = gateway(&upstream, "cache_ttl_ms = 60000, cache_stale_ms = 0").await;
    let first = get(&server, "/shop/a").await.expect(200);
    assert_eq!((first.header("etag"), first.header("cache-control")), ("\"u1\"", "max-age=1"));
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let second = get(&server, "/shop/a").await.expect(200);
    assert_eq!(second.text, "page");
    assert_eq!(upstream.seen()[1].header("if-none-match"), ["\"u1\""]);
    assert_eq!(second.header("cache-control"), "max-age=60");
    let known = server.shop.public.get("/shop/a", &[("if-none-match", "\"u1\"")]).await.expect(304);
    assert_eq!(known.text, "");
    let head = server.shop.public.send("HEAD", "/shop/a", &[], b"").await.expect(200);
    assert_eq!((head.header("content-length"), head.text.as_str()), ("4", ""));
    assert!(head.header("age").parse::<u64>().is_ok());
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn a_tag_is_made_where_the_upstream_has_none() {
    let upstream = counting("").await;
    let server = gateway(&upstream, "cache_ttl_ms = 60000").await;
    let head = server.shop.public.send("HEAD", "/shop/a", &[], b"").await.expect(200);
    assert_eq!(
        upstream.seen()[0].request_line(),
        "GET /shop/a HTTP/1.1",
        "what a HEAD brings is kept for GETs"
    );
    let tag = head.header("etag").to_owned();
    assert_eq!(head.header("cache-control"), "public, max-age=60");
    server.shop.public.get("/shop/a", &[("if-none-match", &tag)]).await.expect(304);
    assert_eq!(get(&server, "/shop/a").await.expect(200).header("etag"), tag);
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn what_is_one_buyers_reaches_nobody_else() {
    for own in [
        "Set-Cookie: session=1\r\n",
        "Cache-Control: private\r\n",
        "Vary: Cookie\r\n",
        "Cache-Control: no-store\r\n",
    ] {
        let upstream = counting(own).await;
        let server = gateway(&upstream, "cache_ttl_ms = 60000").await;
        let mut told = Vec::new();
        for _ in 0..4 {
            told.push(get(&server, "/shop/a").await.expect(200).text);
        }
        told.sort();
        told.dedup();
        assert_eq!(told.len(), 4, "{own}: {told:?}");
    }
}

#[tokio::test]
async fn who_says_who_they_are_gets_their_own_answer_and_leaves_nothing_behind() {
    let upstream = Upstream::start(|_, seen| {
        let name = [
            "cookie",
            "authorization",
            "x-user-id",
            "x-forwarded-for",
            "x-real-ip",
            "forwarded",
            "user-agent",
        ]
        .map(|name| seen.header(name).join(","))
        .join("|");
        Act::Answer(answer("200 OK", "Cache-Control: public, max-age=60\r\n", &format!("for {name}")))
    })
    .await;
    let server = gateway(&upstream, "cache_ttl_ms = 60000").await;
    let with = |name: &'static str, value: &'static str| {
        let http = server.shop.public.clone();
        async move { http.get("/shop/a", &[(name, value), ("user-agent", "x")]).await.expect(200).text }
    };
    let ann = with("cookie", "session=ann").await;
    assert!(ann.contains("session=ann"), "{ann}");
    let bob = with("authorization", "Bearer bob").await;
    assert!(bob.contains("Bearer bob") && !bob.contains("ann"), "{bob}");
    let nobody = with("accept", "*/*").await;
    assert_eq!(nobody, "for ||||||", "the upstream is told nothing of who asks first");
    assert!(with("cookie", "session=ann").await.contains("session=ann"));
    assert_eq!(with("accept", "text/html").await, nobody);
    assert_eq!(upstream.seen().len(), 4, "the anonymous page once, the others each for itself");
    let bypass = server.shop.public.get("/shop/a", &[("cookie", "x")]).await;
    assert_eq!(how(&bypass), "tidegate; fwd=bypass");
}

#[tokio::test]
async fn a_page_for_everybody_is_asked_for_without_what_tells_buyers_apart() {
    let upstream = Upstream::start(|_, seen| {
        let told = ["cookie", "authorization"].map(|name| seen.header(name).join(",")).concat();
        Act::Answer(answer("200 OK", "", &format!("[{told}]")))
    })
    .await;
    let server = gateway(&upstream, "cache_ttl_ms = 60000, cache_for = \"everybody\"").await;
    for header in [("cookie", "session=ann"), ("authorization", "Bearer bob")] {
        let reply = server.shop.public.get("/shop/a", &[header]).await.expect(200);
        assert_eq!(reply.text, "[]");
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn answers_are_told_apart_by_the_headers_of_the_route_alone() {
    let upstream = Upstream::start(|_, seen| {
        let language = seen.header("accept-language").join(",");
        Act::Answer(answer("200 OK", "Vary: Accept-Language\r\n", &format!("in {language}")))
    })
    .await;
    let server = gateway(&upstream, "cache_ttl_ms = 60000, cache_vary = [\"accept-language\"]").await;
    for _ in 0..2 {
        for (language, agent) in [("de", "a"), ("en", "b"), ("de", "c")] {
            let headers = [("accept-language", language), ("user-agent", agent)];
            let reply = server.shop.public.get("/shop/a", &headers).await.expect(200);
            assert_eq!(reply.text, format!("in {language}"));
        }
    }
    assert_eq!(upstream.seen().len(), 2);
    assert_eq!(get(&server, "/shop/a").await.text, "in ");
}

#[tokio::test]
async fn an_operator_and_a_change_make_pages_forgotten() {
    let upstream = counting("").await;
    let server = gateway(&upstream, "cache_ttl_ms = 60000").await;
    let text = async |path: &str| get(&server, path).await.expect(200).text;
    let (a, b) = (text("/shop/a").await, text("/shop/b/1").await);
    assert_eq!((text("/shop/a").await, text("/shop/b/1").await), (a.clone(), b.clone()));
    let inner = &server.shop.inner;
    let gone = inner.send("DELETE", "/v1/cache/shop?path=/shop/b", &[], b"").await.expect(200);
    assert_eq!(gone.number("forgotten"), 1);
    assert_eq!(text("/shop/a").await, a);
    assert_ne!(text("/shop/b/1").await, b);
    let gone = inner.send("DELETE", "/v1/cache/shop", &[], b"").await.expect(200);
    assert_eq!(gone.number("forgotten"), 2);
    let a_again = text("/shop/a").await;
    assert_ne!(a_again, a);
    inner.send("DELETE", "/v1/cache/none", &[], b"").await.expect_problem(404, "not-found");
    inner.send("DELETE", "/v1/cache/shop?path=/x", &[], b"").await.expect_problem(400, "bad-request");
    let posted = server.shop.public.send("POST", "/shop/a", &[], b"").await.expect(200);
    assert_eq!(how(&posted), "tidegate; fwd=method");
    assert_ne!(text("/shop/a").await, a_again, "a POST that was done changes its page");
}

#[tokio::test]
async fn what_is_too_large_is_streamed_to_each_and_not_kept() {
    let body: Arc<str> = "x".repeat(5_000).into();
    let sent = body.clone();
    let upstream = Upstream::start(move |_, _| Act::Answer(answer("200 OK", "", &sent))).await;
    let server =
        Server::start_with(settings(&upstream, "cache_ttl_ms = 60000").set("cache.body_bytes_max", 4_096))
            .await;
    for _ in 0..3 {
        assert_eq!(get(&server, "/shop/a").await.expect(200).text, *body);
    }
    assert_eq!(upstream.seen().len(), 4, "one to find out, then each its own");
    assert_eq!(figure(&server, "tidegate_cache_entries").await, 1, "only that it is not kept");
}

#[tokio::test]
async fn pages_are_there_before_anybody_asks_and_before_they_are_stale() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let upstream = Upstream::start(move |before, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Act::Answer(answer("200 OK", "", &format!("page {before}")))
    })
    .await;
    let keys = "upstream_path = \"/app/\", cache_ttl_ms = 3000, cache_preload = [\"/shop/a?x=1\"]";
    let server = gateway(&upstream, keys).await;
    eventually("the page is fetched", || async { (asked.load(Ordering::SeqCst) > 0).then_some(()) }).await;
    assert_eq!(upstream.seen()[0].request_line(), "GET /app/a?x=1 HTTP/1.1");
    eventually("it is kept", || async {
        (figure(&server, "tidegate_cache_entries").await == 1).then_some(())
    })
    .await;
    let reply = get(&server, "/shop/a?x=1").await.expect(200);
    assert!(how(&reply).starts_with("tidegate; hit; ttl="), "{}", how(&reply));
    eventually("it is fetched again", || async {
        let reply = get(&server, "/shop/a?x=1").await;
        assert!(how(&reply).starts_with("tidegate; hit; ttl="), "never stale: {}", how(&reply));
        assert!(!how(&reply).contains("ttl=-"), "never stale: {}", how(&reply));
        (reply.text != "page 0").then_some(())
    })
    .await;
}
