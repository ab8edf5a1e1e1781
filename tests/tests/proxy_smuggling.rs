//! Requests that two servers could read in two ways, sent through a route: refused, or brought into one form before the
//! gates look. The upstream records every byte.
#![allow(clippy::unwrap_used)]

use tidegate_tests::{Act, Http, Seen, Server, Settings, Upstream, eventually, raw_answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// `/shop/` is forwarded for proven buyers, `/open/` for all; nothing else is. No client is a trusted proxy but 127.0.0.1.
async fn gateway(upstream: &Upstream) -> Server {
    let url = upstream.url();
    let routes = format!(
        "[{{ name = \"shop\", path = \"/shop/\", upstream = \"{url}\" }}, \
          {{ name = \"open\", path = \"/open/\", upstream = \"{url}\", identity = \"none\", host = \"client\" }}]"
    );
    Server::start_with(Settings::new().set("listen.threads", 1).value("proxy", routes)).await
}

async fn send(server: &Server, bytes: &str) -> String {
    raw_answer(server.shop.public.authority(), bytes.as_bytes()).await
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_path_that_can_be_read_in_two_ways_goes_nowhere() {
    let upstream = Upstream::ok().await;
    let server = gateway(&upstream).await;
    for target in [
        "/shop/../admin",
        "/shop/..",
        "/shop/./x",
        "/open/../shop/x",
        "/open/%2e%2e/shop/x",
        "/open/.%2e/shop/x",
        "/open/%2E%2E/shop",
        "/open/..%2fshop",
        "/open/..%2Fshop",
        "/open/a%2fb",
        "/open/..;/shop/x",
        "/open/..;v=1/shop",
        "/open//shop/x",
        "//shop/x",
        "/open/..%5cshop",
        "/open/..\\shop",
        "/open/x%00.png",
        "/open/%0d%0aHost:%20x",
        "/open/%",
        "/open/%zz",
        "/open/%252e%252e/shop",
        "/open/%25%32%65%25%32%65/shop",
        "\\open\\x",
        "open/x",
        "*",
    ] {
        let answer =
            send(&server, &format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-User-Id: ann\r\n\r\n")).await;
        assert!([400, 404].contains(&status(&answer)), "{target}: {answer}");
    }
    assert_eq!(upstream.connections(), 0, "{:?}", upstream.seen());
    // What has one meaning reaches the upstream in the spelling that the gates saw.
    for (target, there) in [
        ("/op%65n/%7Euser", "/open/~user"),
        ("/open/caf%c3%a9?next=/../admin", "/open/caf%C3%A9?next=/../admin"),
        ("/open/a;b=1", "/open/a;b=1"),
        ("/open/x#/../../admin", "/open/x"),
        ("http://a/open/abs", "/open/abs"),
    ] {
        let answer = send(&server, &format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(status(&answer), 200, "{target}: {answer}");
        assert_eq!(
            upstream.seen().last().unwrap().request_line(),
            format!("GET {there} HTTP/1.1"),
            "{target}"
        );
    }
    // Another spelling of a path that needs a buyer needs one as well, and no spelling leads to the gateway's own.
    assert_eq!(status(&send(&server, "GET /%73hop/x HTTP/1.1\r\nHost: a\r\n\r\n").await), 401);
    assert_eq!(status(&send(&server, "GET /%761/sales/x HTTP/1.1\r\nHost: a\r\n\r\n").await), 404);
}

#[tokio::test]
async fn a_target_of_another_form_or_another_host_goes_nowhere() {
    let upstream = Upstream::ok().await;
    let server = gateway(&upstream).await;
    for request in [
        "GET http://b/open/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://u:p@a/open/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /open/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /open/x HTTP/1.1\r\n\r\n",
        "GET /open/x HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET /open/x HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET /open/x HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        "CONNECT /open/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "TRACE /open/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "FOO /open/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /open/x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET /open/x HTTP/1.1\r\nHost: a\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        "GET /open/x y HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /open/x\tHTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /open/x HTTP/1.1\nHost: a\r\nbad line\r\n\r\n",
    ] {
        let answer = send(&server, request).await;
        assert!((400..500).contains(&status(&answer)), "{request:?}: {answer}");
    }
    assert_eq!(upstream.connections(), 0, "{:?}", upstream.seen());
}

#[tokio::test]
async fn a_body_has_one_length_or_the_connection_ends() {
    let upstream = Upstream::ok().await;
    let server = gateway(&upstream).await;
    let smuggled = "GET /shop/admin HTTP/1.1\r\nHost: a\r\n\r\n";
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "Transfer\x0bEncoding: chunked",
    ] {
        let answer = send(
            &server,
            &format!("POST /open/x HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n0\r\n\r\n{smuggled}"),
        )
        .await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{headers:?}: {answer}");
        assert_eq!(status(&answer), 400, "{headers:?}: {answer}");
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    // With both, the chunks count (RFC 9112, 6.3), the upstream is told one of them, and the connection ends.
    for headers in
        ["Content-Length: 4\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 4"]
    {
        let answer = send(
            &server,
            &format!("POST /open/x HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n2\r\nhi\r\n0\r\n\r\n{smuggled}"),
        )
        .await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        let seen = upstream.seen().last().unwrap().clone();
        assert!(
            seen.header("content-length").is_empty() && seen.header("transfer-encoding") == ["chunked"],
            "{seen:?}"
        );
        assert_eq!(seen.body, b"2\r\nhi\r\n0\r\n\r\n");
    }
    // HTTP/1.0 knows no chunks.
    let old =
        send(&server, "POST /open/x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
            .await;
    assert_eq!(status(&old), 400, "{old}");
    // A body that some servers would not look for.
    for method in ["GET", "HEAD"] {
        let body = format!(
            "{method} /open/x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{smuggled}",
            smuggled.len()
        );
        assert_eq!(status(&send(&server, &body).await), 400);
    }
    let seen = upstream.seen();
    assert!(
        seen.len() == 2 && seen.iter().all(|seen| seen.request_line() == "POST /open/x HTTP/1.1"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn bad_chunks_end_the_upload_and_never_look_complete() {
    let upstream = Upstream::ok().await;
    let server = gateway(&upstream).await;
    for (n, chunks) in [
        "zz\r\nhi\r\n0\r\n\r\n",
        "2\r\nhiX\r\n0\r\n\r\n",
        "-2\r\nhi\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhi\r\n0\r\n\r\n",
        "2\nhi\n0\n\n",
    ]
    .into_iter()
    .enumerate()
    {
        let request = format!(
            "POST /open/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}GET /shop/admin HTTP/1.1\r\n\r\n"
        );
        let answer = send(&server, &request).await;
        assert!(!answer.contains(" 200 "), "{chunks:?}: {answer}");
        upstream.until_ended(upstream.connections()).await;
        assert!(upstream.seen().is_empty(), "{n}: {:?}", upstream.seen());
    }
    // Extensions and trailers are told nobody.
    let request = "POST /open/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-User-Id\r\n\r\n\
                   2;ext=\"1\"\r\nhi\r\n0\r\nX-User-Id: root\r\n\r\n";
    assert_eq!(status(&send(&server, request).await), 200);
    let seen = &upstream.seen()[0];
    assert_eq!(seen.body, b"2\r\nhi\r\n0\r\n\r\n");
    assert!(seen.header("trailer").is_empty());
}

#[tokio::test]
async fn nobody_but_the_gateway_says_who_the_buyer_is() {
    let upstream = Upstream::ok().await;
    let server = gateway(&upstream).await;
    let forged = [
        "X-User-Id: root",
        "X_User_Id: root",
        "x-user_id: root",
        "X.User.Id: root",
        "X-User-Id: ann\r\nConnection: X-User-Id",
        "Connection: close, x-user-id\r\nX-User-Id: root",
    ];
    for headers in forged {
        send(&server, &format!("GET /open/x HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n")).await;
        let seen = upstream.seen().last().unwrap().clone();
        assert!(
            !seen.head.to_lowercase().contains("root") && seen.header("x-user-id").is_empty(),
            "{headers}: {seen:?}"
        );
    }
    // On a route that asks, the proven one is told, whatever the connection's headers say.
    let headers = "X-User-Id: ann\r\nX_User_Id: root\r\nConnection: x-user-id";
    assert_eq!(
        status(&send(&server, &format!("GET /shop/x HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n")).await),
        200
    );
    assert_eq!(upstream.seen().last().unwrap().header("x-user-id"), ["ann"]);
    let twice =
        send(&server, "GET /shop/x HTTP/1.1\r\nHost: a\r\nX-User-Id: ann\r\nX-User-Id: root\r\n\r\n").await;
    assert_eq!(status(&twice), 401, "{twice}");
}

#[tokio::test]
async fn http2_brings_nothing_in_that_http1_would_read_otherwise() {
    let upstream = Upstream::ok().await;
    let server = gateway(&upstream).await;
    let http = Http::http2(&server.settings.public_url());
    http.get("/open/x?a=1", &[("te", "trailers"), ("cookie", "a=1")]).await.expect(200);
    http.send("POST", "/open/y", &[], b"body").await.expect(200);
    let seen = upstream.seen();
    assert_eq!(seen[0].request_line(), "GET /open/x?a=1 HTTP/1.1");
    assert_eq!((seen[0].header("host"), seen[0].header("cookie")), (vec![http.authority()], vec!["a=1"]));
    assert!(seen[0].header("te").is_empty() && seen[0].header("via") == ["2.0 tidegate"]);
    assert_eq!((seen[1].header("content-length"), &*seen[1].body), (vec!["4"], &b"body"[..]));
    http.get("/open/../shop/x", &[]).await.expect(400);
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn an_answer_of_one_request_never_reaches_another() {
    // The upstream says more than its answer: a second answer that nobody has asked for.
    let upstream = Upstream::start(|before, _: &Seen| {
        let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
        let good = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";
        Act::Answer(if before == 0 { format!("{good}{evil}") } else { good.to_owned() }.into_bytes())
    })
    .await;
    let server = gateway(&upstream).await;
    for _ in 0..4 {
        let reply = server.shop.public.get("/open/x", &[]).await;
        assert_eq!((reply.status, &*reply.text), (200, "good"));
    }
    // Two requests at once on one connection get their answers in order.
    let mut client = TcpStream::connect(server.shop.public.authority()).await.unwrap();
    client.write_all(b"GET /open/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /open/2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answers = String::new();
    client.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("good").count(), 2, "{answers}");
    let order: Vec<String> =
        upstream.seen().iter().rev().take(2).map(|seen| seen.request_line().to_owned()).collect();
    assert_eq!(order, ["GET /open/2 HTTP/1.1", "GET /open/1 HTTP/1.1"]);
    eventually("nothing is left under way", || async {
        let metrics = server.shop.inner.get("/metrics", &[]).await.text;
        metrics.contains("tidegate_proxy_in_flight{route=\"open\"} 0").then_some(())
    })
    .await;
}

/// The upstream answers before it has the body, and its connection stays: what comes after is still that body, however long
/// the client's connection was quiet in between.
#[tokio::test]
async fn a_body_that_was_answered_early_is_never_taken_for_a_request() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut head, mut piece) = (Vec::new(), [0; 1_024]);
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    let read = stream.read(&mut piece).await.unwrap();
                    head.extend_from_slice(&piece[..read]);
                }
                stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
                while stream.read(&mut piece).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    let route =
        format!("[{{ name = \"open\", path = \"/open/\", upstream = \"{url}\", identity = \"none\" }}]");
    let server = Server::start_with(Settings::new().set("listen.threads", 1).value("proxy", route)).await;
    let mut stream = TcpStream::connect(server.shop.public.authority()).await.unwrap();
    let head = "POST /open/x HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1_024];
    let read = stream.read(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&answer[..read]));
    // Longer than a connection must be quiet to be taken apart.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let _ = stream.write_all(b"GET /v1/sales/x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut after = Vec::new();
    let _ = tokio::time::timeout(std::time::Duration::from_secs(3), stream.read_to_end(&mut after)).await;
    let after = String::from_utf8_lossy(&after);
    assert!(!after.contains("HTTP/1.1"), "the body was answered as a request: {after}");
}
