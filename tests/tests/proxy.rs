//! `[[proxy]]`: what an upstream gets, and what a client gets of it, over real connections.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};
use tidegate_tests::{Act, Http, Reply, Server, Settings, Upstream, eventually, raw_answer, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A gateway on one core with one route `/shop/` to these upstreams; `keys` are further ones of the route.
async fn gateway(upstreams: &[&str], keys: &str) -> Server {
    Server::start_with(settings(upstreams, keys)).await
}

fn settings(upstreams: &[&str], keys: &str) -> Settings {
    let keys = if keys.is_empty() { String::new() } else { format!(", {keys}") };
    let route = format!("[{{ name = \"shop\", path = \"/shop/\", upstream = {upstreams:?}{keys} }}]");
    Settings::new().set("listen.threads", 1).value("proxy", route)
}

const ANN: (&str, &str) = ("x-user-id", "ann");

async fn get(server: &Server, path: &str) -> Reply {
    server.shop.public.get(path, &[ANN]).await
}

/// Sends these bytes; answers the status line and the body's text.
async fn raw(server: &Server, bytes: &str) -> String {
    raw_answer(server.shop.public.authority(), bytes.as_bytes()).await
}

#[tokio::test]
async fn a_request_reaches_the_upstream_cleaned_and_the_answer_comes_back_cleaned() {
    let upstream = Upstream::start(|_, _| {
        let head = "HTTP/1.1 201 Created\r\nConnection: x-own\r\nKeep-Alive: timeout=5\r\nX-Own: secret\r\nX-Kept: yes\r\n\
                    Proxy-Authenticate: Basic\r\nTransfer-Encoding: chunked\r\nTrailer: x-end\r\n\r\n";
        Act::Answer(format!("{head}2\r\nok\r\n0\r\nX-End: 1\r\n\r\n").into_bytes())
    })
    .await;
    let keys = "upstream_path = \"/app/\", add_headers = [\"X-Shop: main\"]";
    let server = gateway(&[&upstream.url()], keys).await;
    let sent = "POST /shop/caf%c3%a9/%41?q=%2e%2e HTTP/1.1\r\nHost: shop.example\r\nX-User-Id: ann\r\n\
                X_User_Id: eve\r\nConnection: close, X-Hop, X-Forwarded-For\r\nX-Hop: 1\r\nTE: trailers\r\n\
                Keep-Alive: 5\r\nProxy-Authorization: Basic eA==\r\nX-Forwarded-For: 203.0.113.9\r\nX-Tidegate-Pass: p\r\n\
                Content-Length: 4\r\nExpect: 100-continue\r\nAccept: */*\r\n\r\nbody";
    let answer = raw(&server, sent).await;
    assert!(answer.contains("HTTP/1.1 201 Created"), "{answer}");
    let lower = answer.to_lowercase();
    assert!(
        lower.contains("x-kept: yes") && lower.contains("via: 1.1 tidegate") && answer.contains("ok"),
        "{answer}"
    );
    for gone in ["x-own", "keep-alive", "proxy-authenticate", "trailer", "x-end"] {
        assert!(!lower.contains(gone), "{gone} in {answer}");
    }
    let seen = &upstream.seen()[0];
    assert_eq!(seen.request_line(), "POST /app/caf%C3%A9/A?q=%2e%2e HTTP/1.1");
    assert_eq!(seen.body, b"body");
    let header = |name: &str| seen.header(name).join("|");
    assert_eq!(header("host"), upstream.addr.to_string());
    assert_eq!(
        (header("x-user-id"), header("x-shop"), header("content-length")),
        ("ann".into(), "main".into(), "4".into())
    );
    // 127.0.0.1 is trusted by default; the line itself was declared to be of the connection only.
    assert_eq!(
        (header("x-forwarded-for"), header("x-forwarded-host")),
        ("127.0.0.1".into(), "shop.example".into())
    );
    assert_eq!(header("forwarded"), "for=127.0.0.1;host=\"shop.example\";proto=http");
    assert_eq!((header("via"), header("accept")), ("1.1 tidegate".into(), "*/*".into()));
    for gone in [
        "x_user_id",
        "connection",
        "x-hop",
        "te",
        "keep-alive",
        "proxy-authorization",
        "expect",
        "x-tidegate-pass",
    ] {
        assert_eq!(header(gone), "", "{gone}");
    }
}

#[tokio::test]
async fn connections_are_kept_and_one_that_was_closed_meanwhile_costs_a_get_nothing() {
    // Answers, then closes when the next request comes: as a server does whose idle time ran out just then.
    let upstream = Upstream::start(|before, _| match before {
        2 | 5 => Act::AnswerAndClose(Vec::new()),
        _ => Act::text("ok"),
    })
    .await;
    let server = gateway(&[&upstream.url()], "").await;
    for _ in 0..2 {
        get(&server, "/shop/").await.expect(200);
    }
    assert_eq!(upstream.connections(), 1);
    assert_eq!(get(&server, "/shop/").await.expect(200).text, "ok");
    assert_eq!(
        (upstream.connections(), upstream.seen().len()),
        (2, 4),
        "sent once more, on a new connection"
    );
    get(&server, "/shop/").await.expect(200);
    // A POST may have been done: it is not sent again.
    server.shop.public.send("POST", "/shop/", &[ANN], b"x").await.expect_problem(502, "upstream-unavailable");
    assert_eq!(upstream.seen().len(), 6);
}

#[tokio::test]
async fn an_upstream_that_is_gone_or_silent_is_a_problem_document() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = gateway(&[&format!("http://{gone}")], "").await;
    get(&server, "/shop/").await.expect_problem(502, "upstream-unavailable");

    let silent = Upstream::start(|_, _| Act::Hang).await;
    let server = gateway(&[&silent.url()], "first_byte_timeout_ms = 200").await;
    let began = Instant::now();
    get(&server, "/shop/").await.expect_problem(504, "upstream-timeout");
    assert!(began.elapsed() >= Duration::from_millis(200));
    let metrics = server.shop.inner.get("/metrics", &[]).await.text;
    let counted = "tidegate_proxy_requests_total{route=\"shop\",outcome=\"upstream-timeout\"} 1";
    assert!(metrics.contains(counted) && metrics.contains("le=\"+Inf\",route=\"shop\"} 0"), "{metrics}");
    silent.until_ended(1).await;

    for nonsense in [
        "",
        "nonsense\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ] {
        let bad = Upstream::start(|_, _| Act::AnswerAndClose(nonsense.as_bytes().to_vec())).await;
        let server = gateway(&[&bad.url()], "").await;
        get(&server, "/shop/").await.expect_problem(502, "upstream-unavailable");
        assert_eq!(bad.seen().len(), 1, "{nonsense:?}: a new connection says the same again");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_short_does_not_look_complete() {
    for cut in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let upstream = Upstream::start(|_, _| Act::AnswerAndClose(cut.as_bytes().to_vec())).await;
        let server = gateway(&[&upstream.url()], "").await;
        let answer = raw(&server, "GET /shop/ HTTP/1.1\r\nHost: a\r\nX-User-Id: ann\r\n\r\n").await;
        assert!(answer.contains("half") && !answer.ends_with("0\r\n\r\n"), "{answer}");
        for http in [server.shop.public.clone(), Http::http2(&server.settings.public_url())] {
            let error = http.try_send("GET", "/shop/", &[ANN], b"").await.unwrap_err();
            assert!(!error.is_empty());
        }
    }
    // One that stops in the middle and keeps its connection is cut too.
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
    let upstream =
        Upstream::start(|_, _| Act::Halves(half.to_vec(), Duration::from_mins(1), Vec::new())).await;
    let server = gateway(&[&upstream.url()], "idle_timeout_ms = 200").await;
    assert!(server.shop.public.try_send("GET", "/shop/", &[ANN], b"").await.is_err());
}

#[tokio::test]
async fn answers_without_a_body_are_whole() {
    let upstream = Upstream::start(|_, seen| {
        Act::Answer(match seen.request_line() {
            line if line.starts_with("HEAD") => b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n".to_vec(),
            line if line.contains("/204") => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
            _ => b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 99\r\n\r\n".to_vec(),
        })
    })
    .await;
    let server = gateway(&[&upstream.url()], "").await;
    for http in [server.shop.public.clone(), Http::http2(&server.settings.public_url())] {
        let head = http.send("HEAD", "/shop/", &[ANN], b"").await.expect(200);
        assert_eq!((head.header("content-length"), &*head.text), ("1234", ""));
        http.get("/shop/204", &[ANN]).await.expect(204);
        let same = http.get("/shop/304", &[ANN]).await.expect(304);
        assert_eq!((same.header("etag"), &*same.text), ("\"x\"", ""));
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_body_above_the_bound_is_refused_and_never_whole_at_the_upstream() {
    let upstream = Upstream::ok().await;
    let server = gateway(&[&upstream.url()], "body_bytes_max = 10, idle_timeout_ms = 300").await;
    let post = |body: &'static [u8]| server.shop.public.send("POST", "/shop/", &[ANN], body);
    post(b"0123456789").await.expect(200);
    post(b"0123456789a").await.expect_problem(413, "payload-too-large");
    let head = "POST /shop/ HTTP/1.1\r\nHost: a\r\nX-User-Id: ann\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = raw(&server, &format!("{head}8\r\n01234567\r\n8\r\n01234567\r\n0\r\n\r\n")).await;
    assert!(chunked.starts_with("HTTP/1.1 413"), "{chunked}");
    let slow = raw(&server, &format!("{head}2\r\n01\r\n")).await;
    assert!(slow.starts_with("HTTP/1.1 408"), "{slow}");
    assert_eq!(upstream.seen().len(), 1);
    raw(&server, &format!("{head}2\r\n01\r\n0\r\n\r\n")).await;
    assert_eq!(upstream.seen()[1].body, b"2\r\n01\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_request_at_the_upstream() {
    let upstream = Upstream::start(|_, _| Act::Hang).await;
    let server = gateway(&[&upstream.url()], "in_flight_max = 1").await;
    for round in 1..=3 {
        let mut client = TcpStream::connect(server.shop.public.authority()).await.unwrap();
        client.write_all(b"GET /shop/ HTTP/1.1\r\nHost: a\r\nX-User-Id: ann\r\n\r\n").await.unwrap();
        eventually("the request is at the upstream", || async {
            (upstream.seen().len() == round).then_some(())
        })
        .await;
        // Its place is taken meanwhile …
        assert!(get(&server, "/shop/").await.expect_problem(429, "overloaded").retry_after_s() >= 1);
        drop(client);
        upstream.until_ended(round).await;
    }
    // … and an upload that ends early never looks complete.
    let mut client = TcpStream::connect(server.shop.public.authority()).await.unwrap();
    let half = "POST /shop/ HTTP/1.1\r\nHost: a\r\nX-User-Id: ann\r\nContent-Length: 10\r\n\r\nhalf";
    client.write_all(half.as_bytes()).await.unwrap();
    eventually("the upload is at the upstream", || async { (upstream.connections() == 4).then_some(()) })
        .await;
    drop(client);
    upstream.until_ended(4).await;
    assert_eq!(upstream.seen().len(), 3);
}

#[tokio::test]
async fn bodies_stream_both_ways_a_piece_at_a_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = gateway(&[&format!("http://{}", listener.local_addr().unwrap())], "").await;
    within("both ways", async {
        let mut client = TcpStream::connect(server.shop.public.authority()).await.unwrap();
        let head = "PUT /shop/ HTTP/1.1\r\nHost: a\r\nX-User-Id: ann\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        let (mut upstream, _) = listener.accept().await.unwrap();
        until(&mut upstream, "one").await;
        client.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
        until(&mut upstream, "two").await;
        upstream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nthree\r\n").await.unwrap();
        until(&mut client, "three").await;
        upstream.write_all(b"4\r\nfour\r\n0\r\n\r\n").await.unwrap();
        until(&mut client, "four").await;
    })
    .await;
}

async fn until(stream: &mut TcpStream, text: &str) {
    let mut came = Vec::new();
    while !String::from_utf8_lossy(&came).contains(text) {
        assert!(stream.read_buf(&mut came).await.unwrap() > 0, "ended before {text}");
    }
}

#[tokio::test]
async fn who_has_no_token_is_refused_and_the_upstream_sees_no_more_than_its_rate() {
    let upstream = Upstream::ok().await;
    let server = gateway(&[&upstream.url()], "rate_per_s = 5, burst = 3, max_wait_ms = 0").await;
    let began = Instant::now();
    let mut refused = 0;
    for _ in 0..40 {
        let reply = get(&server, "/shop/").await;
        if reply.status == 429 {
            refused += 1;
            assert!(reply.expect_problem(429, "overloaded").retry_after_s() >= 1);
        }
    }
    let allowed = began.elapsed().as_secs_f64() * 5.0 + 3.0;
    let came = upstream.seen().len();
    assert!(came >= 3 && came as f64 <= allowed && came + refused == 40, "{came} of {allowed}");
}

#[tokio::test]
async fn the_gates_stand_before_the_upstream() {
    let upstream = Upstream::ok().await;
    let settings = settings(&[&upstream.url()], "methods = [\"GET\", \"POST\"]")
        .set("admission.quota.buyer_per_s", 1)
        .set("admission.quota.buyer_burst", 2);
    let server = Server::start_with(settings).await;
    let public = &server.shop.public;
    public.get("/shop/", &[]).await.expect_problem(401, "unauthenticated");
    let refused =
        public.send("DELETE", "/shop/", &[ANN], b"").await.expect_problem(405, "method-not-allowed");
    assert_eq!(refused.header("allow"), "GET, POST");
    for _ in 0..2 {
        get(&server, "/shop/").await.expect(200);
    }
    get(&server, "/shop/").await.expect_problem(429, "client-quota");
    get(&server, "/elsewhere").await.expect_problem(404, "not-found");
    get(&server, "/v1/elsewhere").await.expect_problem(404, "not-found");
    assert_eq!(upstream.seen().len(), 2);
}
