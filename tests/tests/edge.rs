//! The socket's edge: TLS, PROXY protocol, connections of one client.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tidegate_tests::{Sale, Server, Settings, eventually, raw_exchange, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn openssl(folder: &Path, arguments: &str) -> Output {
    let done = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("install openssl");
    assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    done
}

/// A certificate for 127.0.0.1 that signs itself.
fn certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    openssl(
        folder,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 5 -subj /CN={name} \
             -addext subjectAltName=IP:127.0.0.1 -keyout {name}.key -out {name}.pem"
        ),
    );
    (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")))
}

/// Puts a pair where the gateway looks, each file whole or not at all.
fn put(settings: &Settings, pair: &(PathBuf, PathBuf)) {
    for (from, name) in [(&pair.0, "tls.pem"), (&pair.1, "tls.key")] {
        let new = settings.folder().join("new");
        std::fs::copy(from, &new).unwrap();
        std::fs::rename(&new, settings.folder().join(name)).unwrap();
    }
}

fn with_tls(settings: Settings) -> Settings {
    let path = |name: &str| settings.folder().join(name).to_str().unwrap().to_owned();
    let (cert, key) = (path("tls.pem"), path("tls.key"));
    settings.set_text("listen.tls.cert_file", &cert).set_text("listen.tls.key_file", &key)
}

/// What `curl` got, and over which version of HTTP; an error when there was no answer.
async fn curl(arguments: &[&str]) -> Result<String, String> {
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    let done = tokio::task::spawn_blocking(move || {
        Command::new("curl")
            .args(["-sS", "--max-time", "10", "-D", "-", "-w", "\nversion=%{http_version}"])
            .args(arguments)
            .output()
            .expect("install curl")
    });
    let done = done.await.unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.success() { Ok(text) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_serves_both_versions_of_http_and_takes_a_new_certificate_under_traffic() {
    let settings = with_tls(Settings::new().value("listen.idle_timeout_ms", "2000"));
    let pairs = tempfile::tempdir().unwrap();
    let (one, two) = (certificate(pairs.path(), "one"), certificate(pairs.path(), "two"));
    put(&settings, &one);
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    shop.inner.send("PUT", "/v1/sales/phone", &[], br#"{"item":"phone","stock":5}"#).await.expect(201);
    shop.inner.send("POST", "/v1/sales/phone/open", &[], b"").await.expect(200);
    let url = format!("https://{}/v1/sales/phone", shop.public.authority());
    let trust = |pair: &(PathBuf, PathBuf)| pair.0.to_str().unwrap().to_owned();
    let (of_one, of_two) = (trust(&one), trust(&two));
    for (version, expected) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for tls in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]] {
            let got = curl(&[&["--cacert", &of_one, version][..], &tls[..], &[url.as_str()][..]].concat())
                .await
                .unwrap();
            assert!(got.contains(&format!("version={expected}")) && got.contains("\"open\""), "{got}");
            let lower = got.to_lowercase();
            assert!(lower.contains("strict-transport-security: max-age="), "{got}");
            assert!(lower.contains("x-content-type-options: nosniff"), "{got}");
        }
    }
    curl(&["--cacert", &of_one, "--tls-max", "1.1", &url]).await.expect_err("too old");
    // An order, whole.
    let order = format!("https://{}/v1/sales/phone/orders", shop.public.authority());
    let got = curl(&["--cacert", &of_one, "-X", "POST", "-H", "x-user-id: ann", &order]).await.unwrap();
    assert!(got.contains("202") && got.contains("\"queued\""), "{got}");

    // Not TLS: no answer, and nothing breaks.
    let answer = raw_exchange(shop.public.authority(), b"GET / HTTP/1.1\r\nhost: t\r\n\r\n").await;
    assert!(!answer.starts_with("HTTP/"), "{answer}");

    // A new certificate, while requests go on without a failure.
    let bundle = pairs.path().join("both.pem");
    std::fs::write(&bundle, [std::fs::read(&one.0).unwrap(), std::fs::read(&two.0).unwrap()].concat())
        .unwrap();
    let both = bundle.to_str().unwrap().to_owned();
    let traffic = {
        let url = url.clone();
        tokio::spawn(async move {
            for _ in 0..60 {
                curl(&["--cacert", &both, &url]).await.expect("one of the two certificates");
            }
        })
    };
    put(&server.settings, &two);
    eventually("the new certificate is served", || async { curl(&["--cacert", &of_two, &url]).await.ok() })
        .await;
    curl(&["--cacert", &of_one, &url]).await.expect_err("the old one is gone");
    // A pair that does not belong together: the present one goes on, and the log says so once.
    put(&server.settings, &(one.0.clone(), two.1.clone()));
    let told = "a changed certificate cannot be taken";
    eventually("the bad pair is told", || async { server.stderr().contains(told).then_some(()) }).await;
    curl(&["--cacert", &of_two, &url]).await.expect("the present one goes on");
    traffic.await.unwrap();
    assert_eq!(server.stderr().matches(told).count(), 1);
    assert!(server.stderr().contains("the certificate ends soon"), "five days are fewer than fourteen");
    let metrics = shop.inner.get("/metrics", &[]).await.text;
    assert!(metrics.contains("tidegate_tls_certificate_not_after_seconds "), "{metrics}");
    assert!(metrics.contains("tidegate_tls_handshakes_total{result=\"failed\"}"), "{metrics}");
}

#[tokio::test]
async fn fm39_a_handshake_that_does_not_go_on_is_closed() {
    let settings = with_tls(Settings::new())
        .set("listen.tls.handshake_timeout_ms", 300)
        .set("listen.tls.handshakes_max", 4);
    let pairs = tempfile::tempdir().unwrap();
    let pair = certificate(pairs.path(), "one");
    put(&settings, &pair);
    let server = Server::start_with(settings).await;
    let authority = server.shop.public.authority();
    // A client hello that ends in the middle, one that is nonsense, and silence.
    let beginnings: [&[u8]; 4] =
        [b"", &[0x16, 3, 1, 2, 0, 1, 0, 1], &[0x16, 3, 1, 0xff, 0xff], &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]];
    for beginning in beginnings {
        let mut stream = TcpStream::connect(authority).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        let mut answer = Vec::new();
        let _ = within("a handshake that stops is closed", stream.read_to_end(&mut answer)).await;
        assert!(answer.len() < 64, "an alert at most: {answer:?}");
    }
    // More of them than may be under way: the others are closed at once, and then there is room again.
    let mut waiting = Vec::new();
    for _ in 0..40 {
        waiting.push(TcpStream::connect(authority).await.unwrap());
    }
    let url = format!("https://{authority}/v1/sales/none");
    let trusted = pair.0.to_str().unwrap();
    eventually("an honest client is served", || async { curl(&["--cacert", trusted, &url]).await.ok() })
        .await;
    let metrics = server.shop.inner.get("/metrics", &[]).await.text;
    let refused =
        metrics.lines().find(|line| line.contains("tls_handshakes_total{result=\"refused\"}")).unwrap();
    assert!(!refused.ends_with(" 0"), "{refused}");
}

/// A PROXY protocol header, version 2, of a client.
fn proxied(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend_from_slice(&client);
    header.extend_from_slice(&[10, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb]);
    header
}

const ASK: &[u8] =
    b"GET /v1/sales/phone/tickets HTTP/1.1\r\nhost: t\r\nx-user-id: ann\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn fm40_a_load_balancer_must_say_whose_connection_it_is_and_nobody_else_is_believed() {
    let settings = Settings::new()
        .value("listen.proxy_protocol_from", "[\"127.0.0.0/8\"]")
        .value("identity.trusted_proxies", "[\"198.51.100.0/24\"]")
        .set("listen.header_timeout_ms", 500);
    let server = Server::start_with(settings).await;
    let authority = server.shop.public.authority();
    server.shop.inner.send("PUT", "/v1/sales/phone", &[], br#"{"item":"phone","stock":5}"#).await.expect(201);
    let ask = async |header: &[u8]| raw_exchange(authority, &[header, ASK].concat()).await;
    // The proxy in front of the load balancer is believed, anybody else is not.
    let answer = ask(&proxied([198, 51, 100, 7])).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = ask(&proxied([203, 0, 113, 1])).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    // A health check speaks for the load balancer itself.
    let answer = ask(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00").await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    // Without a header, with an old one, with half of one: closed without an answer.
    assert_eq!(ask(b"").await, "");
    assert_eq!(ask(b"PROXY TCP4 198.51.100.7 10.0.0.1 1 2\r\n").await, "");
    let mut half = TcpStream::connect(authority).await.unwrap();
    half.write_all(&proxied([198, 51, 100, 7])[..20]).await.unwrap();
    let mut answer = Vec::new();
    let _ = within("half a header is closed", half.read_to_end(&mut answer)).await;
    assert_eq!(answer, b"");

    // Who is not a load balancer cannot take another address.
    let settings = Settings::new()
        .value("listen.proxy_protocol_from", "[\"192.0.2.0/24\"]")
        .value("identity.trusted_proxies", "[\"198.51.100.0/24\"]");
    let server = Server::start_with(settings).await;
    let answer =
        raw_exchange(server.shop.public.authority(), &[&proxied([198, 51, 100, 7])[..], ASK].concat()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer = raw_exchange(server.shop.public.authority(), ASK).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test]
async fn fm39_one_client_has_so_many_connections_and_a_trusted_proxy_any() {
    let settings = Settings::new()
        .value("listen.proxy_protocol_from", "[\"127.0.0.0/8\"]")
        .value("identity.trusted_proxies", "[\"198.51.100.0/24\"]")
        .set("listen.connections_per_ip_max", 3);
    let server = Server::start_with(settings).await;
    let authority = server.shop.public.authority();
    let hold = async |client: [u8; 4]| {
        let mut stream = TcpStream::connect(authority).await.unwrap();
        let head = [&proxied(client)[..], b"GET /nothing HTTP/1.1\r\nhost: t\r\n\r\n"].concat();
        stream.write_all(&head).await.unwrap();
        let mut answer = [0; 12];
        let answered = within("an answer or the end", stream.read_exact(&mut answer)).await.is_ok();
        answered.then_some(stream)
    };
    let mut held = Vec::new();
    for n in 0..3 {
        held.push(hold([203, 0, 113, 1]).await.unwrap_or_else(|| panic!("connection {n} is served")));
    }
    assert!(hold([203, 0, 113, 1]).await.is_none(), "one more");
    assert!(hold([203, 0, 113, 2]).await.is_some(), "somebody else");
    for _ in 0..6 {
        held.push(hold([198, 51, 100, 7]).await.expect("a trusted proxy speaks for many"));
    }
    held.clear();
    eventually("there is room again", || async { hold([203, 0, 113, 1]).await }).await;
    let metrics = server.shop.inner.get("/metrics", &[]).await.text;
    assert!(metrics.contains("tidegate_connections_closed_total{reason=\"client\"}"), "{metrics}");
}

#[tokio::test]
async fn every_inner_route_asks_for_its_scope() {
    let settings = Settings::new()
        .set_text("inner.worker_token", "worker-token")
        .set_text("inner.admin_token", "admin-token");
    let server = Server::start_with(settings).await;
    let worker = [
        ("POST", "/v1/topics/t/groups/g/receive"),
        ("POST", "/v1/topics/t/groups/g/ack"),
        ("POST", "/v1/topics/t/groups/g/nack"),
        ("POST", "/v1/topics/t/groups/g/extend"),
        ("POST", "/v1/topics/t/groups/g/reset"),
        ("GET", "/v1/topics/t/groups/g/offsets"),
        ("PUT", "/v1/topics/t/groups/g"),
        ("DELETE", "/v1/topics/t/groups/g"),
        ("POST", "/v1/topics/t/messages"),
        ("GET", "/v1/topics/t/messages"),
        ("PUT", "/v1/topics/t"),
        ("POST", "/v1/topics/t/transactions"),
        ("POST", "/v1/transactions/x"),
        ("POST", "/v1/producer-groups/g/checks"),
        ("POST", "/v1/tickets/x/created"),
        ("POST", "/v1/tickets/x/rejected"),
        ("POST", "/v1/tickets/x/paid"),
        ("POST", "/v1/tickets/x/cancelled"),
        ("GET", "/v1/gateways"),
        ("GET", "/metrics"),
    ];
    let admin = [
        ("PUT", "/v1/sales/s"),
        ("GET", "/v1/sales/s"),
        ("GET", "/v1/sales"),
        ("POST", "/v1/sales/s/open"),
        ("POST", "/v1/sales/s/close"),
        ("POST", "/v1/sales/s/restock"),
        ("GET", "/v1/sales/s/audit"),
        ("GET", "/v1/sales/s/recovery"),
        ("POST", "/v1/sales/s/resume"),
        ("GET", "/v1/sales/s/excess"),
        ("POST", "/v1/sales/s/excess"),
        ("GET", "/v1/audit"),
        ("GET", "/v1/topics"),
        ("GET", "/v1/topics/t/groups/g/dead-letters"),
        ("POST", "/v1/topics/t/groups/g/dead-letters/redrive"),
        ("POST", "/v1/gateways/g/forget"),
        ("POST", "/v1/reload"),
    ];
    let inner = &server.shop.inner;
    let status = async |(method, path): (&str, &str), token: &str| {
        let headers = [("authorization", token)];
        let headers = if token.is_empty() { &headers[..0] } else { &headers[..] };
        inner.send(method, path, headers, b"{\"nonsense\":1}").await.status
    };
    for route in worker.into_iter().chain(admin) {
        for token in
            ["", "Bearer", "Bearer x", "Bearer worker-toke", "Bearer worker-token2", "Basic worker-token"]
        {
            assert_eq!(status(route, token).await, 401, "{route:?} {token:?}");
        }
        let of_worker = status(route, "Bearer worker-token").await;
        assert_eq!(of_worker == 403, admin.contains(&route), "{route:?}: {of_worker}");
        assert_ne!(of_worker, 401, "{route:?}");
        let of_admin = status(route, "bearer admin-token").await;
        assert!(of_admin != 401 && of_admin != 403, "{route:?}: {of_admin}");
    }
    for path in ["/healthz", "/readyz", "/"] {
        assert_eq!(status(("GET", path), "").await, 200, "{path}");
    }
    let page = inner.get("/", &[]).await;
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'"));
}

#[tokio::test]
async fn no_answer_is_kept_or_guessed_at() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(1)).await;
    let ann = [("x-user-id", "ann"), ("idempotency-key", "k")];
    let ticket = shop.win("phone", "ann").await;
    let order = "/v1/sales/phone/orders";
    let answers = [
        shop.public.send("POST", order, &ann, b"").await,
        shop.public.get(&format!("/v1/tickets/{ticket}"), &ann).await,
        shop.public.get("/v1/sales/phone/tickets", &ann).await,
        shop.public.send("POST", order, &[("x-user-id", "eve")], b"").await,
        shop.public.send("POST", order, &[], b"").await,
        shop.public.get("/nothing", &[]).await,
        shop.inner.get("/nothing", &[]).await,
        shop.inner.get("/metrics", &[]).await,
    ];
    for answer in answers {
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{}", answer.text);
        assert_eq!(answer.headers["cache-control"], "no-store", "{}", answer.text);
        assert!(!answer.headers.contains_key("strict-transport-security"), "there is no TLS");
    }
}

#[tokio::test]
async fn the_log_names_no_buyer_at_any_level() {
    let settings =
        Settings::new().set_text("log.level", "trace").value("identity.trusted_proxies", "[\"127.0.0.0/8\"]");
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(2)).await;
    let headers = [
        ("x-user-id", "secret-buyer-ann"),
        ("idempotency-key", "secret-key"),
        ("x-forwarded-for", "203.0.113.77"),
        ("authorization", "Bearer secret-token"),
    ];
    let body = br#"{"attributes":{"note":"secret-note"}}"#;
    let order = "/v1/sales/phone/orders";
    let won = shop.public.send("POST", order, &headers, body).await.expect(202);
    shop.public.send("POST", order, &headers, b"{\"secret-field\":1}").await.expect(400);
    let path = format!("/v1/tickets/{}", won.str("ticket"));
    shop.public.get(&path, &headers).await.expect(200);
    let http2 = tidegate_tests::Http::http2(&server.settings.public_url());
    http2.send("POST", order, &headers, body).await.expect(202);
    raw_exchange(shop.public.authority(), b"POST /secret-path HTTP/1.1\r\nx-user-id secret-buyer\r\n\r\n")
        .await;
    let received = shop
        .inner
        .send("POST", "/v1/topics/orders/groups/order-workers/receive", &[], br#"{"wait_ms":2000}"#)
        .await
        .expect(200);
    assert!(received.text.contains("secret-buyer-ann"), "the worker is told");
    let log = server.stderr();
    assert!(log.contains("gateway is open"));
    for secret in ["secret-", "203.0.113.77"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{}", line.unwrap_or_default());
    }
}
