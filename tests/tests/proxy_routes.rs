//! `[[proxy]]`: several upstreams, TLS, slow clients, and a reload while requests are under way.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::time::Duration;
use tidegate_tests::{Act, Reply, Server, Settings, Upstream, eventually, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ANN: (&str, &str) = ("x-user-id", "ann");

fn settings(routes: &str) -> Settings {
    Settings::new().set("listen.threads", 1).value("proxy", routes)
}

async fn get(server: &Server, path: &str) -> Reply {
    server.shop.public.get(path, &[ANN]).await
}

#[tokio::test]
async fn an_upstream_that_is_gone_costs_nobody_an_answer_and_is_left_alone() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let there = Upstream::ok().await;
    let route = format!(
        "[{{ name = \"a\", path = \"/a/\", upstream = [\"http://{gone}\", \"{}\"], fail_max = 2, down_ms = 60000 }}]",
        there.url()
    );
    let server = Server::start_with(settings(&route)).await;
    for _ in 0..8 {
        get(&server, "/a/").await.expect(200);
        server.shop.public.send("POST", "/a/", &[ANN], b"x").await.expect(200);
    }
    assert_eq!(there.seen().len(), 16);
    let metrics = server.shop.inner.get("/metrics", &[]).await.text;
    assert!(
        metrics.contains(&format!("proxy_upstream_down{{route=\"a\",upstream=\"http://{gone}\"}} 1")),
        "{metrics}"
    );
    assert!(metrics.contains("tidegate_proxy_requests_total{route=\"a\",outcome=\"2xx\"} 16"), "{metrics}");
}

#[tokio::test]
async fn requests_go_round_and_each_upstream_is_called_by_its_own_name() {
    let [one, two] = [Upstream::ok().await, Upstream::ok().await];
    let route =
        format!("[{{ name = \"a\", path = \"/a/\", upstream = [\"{}\", \"{}\"] }}]", one.url(), two.url());
    let server = Server::start_with(settings(&route)).await;
    for _ in 0..6 {
        get(&server, "/a/").await.expect(200);
    }
    for upstream in [&one, &two] {
        assert_eq!(upstream.seen().len(), 3);
        assert_eq!(upstream.seen()[0].header("host"), [upstream.addr.to_string()]);
    }
}

/// What `openssl` makes in a folder: an authority, a certificate for 127.0.0.1, and another authority.
fn certificates(folder: &std::path::Path) {
    let run = |line: &str| {
        let done =
            std::process::Command::new("openssl").args(line.split(' ')).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&done.stderr));
    };
    std::fs::write(folder.join("san"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    for name in ["ca", "other"] {
        run(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"
        ));
    }
    run(
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=upstream -keyout up.key -out up.csr",
    );
    run("x509 -req -in up.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out up.pem");
}

#[tokio::test]
async fn an_upstream_with_tls_is_asked_when_its_certificate_is_believed() {
    let settings = Settings::new().set("listen.threads", 1);
    let folder = settings.folder().to_owned();
    certificates(&folder);
    let port = tidegate_tests::free_ports()[0];
    let mut server_process = std::process::Command::new("openssl")
        .args([
            "s_server",
            "-accept",
            &port.to_string(),
            "-cert",
            "up.pem",
            "-key",
            "up.key",
            "-www",
            "-quiet",
        ])
        .current_dir(&folder)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("openssl listens", || async { TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop) })
        .await;
    let route = |name: &str| {
        let ca = folder.join(format!("{name}.pem"));
        format!(
            "{{ name = \"{name}\", path = \"/{name}/\", upstream = \"https://127.0.0.1:{port}\", ca_file = \"{}\" }}",
            ca.display()
        )
    };
    let settings = settings.value("proxy", format!("[{}, {}]", route("ca"), route("other")));
    let server = Server::start_with(settings).await;
    let believed = get(&server, "/ca/").await;
    let refused = get(&server, "/other/").await;
    server_process.kill().unwrap();
    server_process.wait().unwrap();
    assert!(believed.expect(200).text.contains("Ciphers"));
    refused.expect_problem(502, "upstream-unavailable");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_upstream_back_and_not_the_memory() {
    const SIZE: usize = 256 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let route = format!(
        "[{{ name = \"a\", path = \"/a/\", upstream = \"http://{}\" }}]",
        listener.local_addr().unwrap()
    );
    let server = Server::start_with(settings(&route)).await;
    let rss = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    let before = rss();
    let mut client = TcpStream::connect(server.shop.public.authority()).await.unwrap();
    client
        .write_all(b"GET /a/ HTTP/1.1\r\nHost: a\r\nX-User-Id: ann\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    let mut head = [0; 4096];
    assert!(upstream.read(&mut head).await.unwrap() > 0);
    upstream
        .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let (piece, mut written) = (vec![7; 1 << 20], 0);
    // Until nothing is taken any more: the sockets' buffers are full.
    while let Ok(result) = tokio::time::timeout(Duration::from_millis(500), upstream.write_all(&piece)).await
    {
        result.unwrap();
        written += piece.len();
        assert!(written < SIZE / 2, "all of it is taken, and nobody reads");
    }
    let grown = rss().saturating_sub(before);
    assert!(grown < 16, "{grown} MiB for one client that does not read");
    drop(client);
    let ended = within("the upstream sees that nobody listens", async {
        loop {
            if upstream.write_all(&piece).await.is_err() {
                return true;
            }
        }
    });
    assert!(ended.await);
}

#[tokio::test]
async fn a_reload_changes_routes_and_lets_no_further_burst_through() {
    let slow = Upstream::start(|before, _| match before {
        0 => Act::Halves(
            b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf".to_vec(),
            Duration::from_secs(2),
            b"half".to_vec(),
        ),
        _ => Act::text("old"),
    })
    .await;
    let new = Upstream::start(|_, _| Act::text("new")).await;
    let limited = |name: &str, upstream: &Upstream| {
        let limit = "rate_per_s = 1, burst = 3, max_wait_ms = 0";
        format!("{{ name = \"{name}\", path = \"/{name}/\", upstream = \"{}\", {limit} }}", upstream.url())
    };
    let server = Server::start_with(settings(&format!("[{}]", limited("a", &slow)))).await;
    let under_way = {
        let http = server.shop.public.clone();
        tokio::spawn(async move { http.get("/a/", &[ANN]).await })
    };
    eventually("it is at the upstream", || async { (slow.seen().len() == 1).then_some(()) }).await;
    let file = server.settings.folder().join("tidegate.toml");
    let first = std::fs::read_to_string(&file).unwrap();
    let rest: String = first
        .lines()
        .filter(|line| !line.starts_with("proxy = "))
        .map(|line| line.to_owned() + "\n")
        .collect();
    let reload = async |routes: &str| {
        std::fs::write(&file, format!("{rest}proxy = [{routes}]\n")).unwrap();
        server.shop.inner.post("/v1/reload", &[], &json!({})).await
    };
    reload(&format!("{}, {}", limited("a", &new), limited("b", &new))).await.expect(200);
    // The same tokens go on: one of three is used.
    let answers: Vec<u16> = [get(&server, "/a/").await, get(&server, "/a/").await, get(&server, "/a/").await]
        .map(|reply| reply.status)
        .to_vec();
    assert_eq!(answers, [200, 200, 429]);
    assert_eq!(get(&server, "/b/").await.expect(200).text, "new");
    assert_eq!(under_way.await.unwrap().expect(200).text, "halfhalf", "it ends where it began");
    // A mistake changes nothing.
    let refused = reload("{ name = \"a\", path = \"/v1/x/\" }").await;
    assert_eq!(refused.status / 100, 4, "{}", refused.text);
    get(&server, "/b/").await.expect(200);
    reload("").await.expect(200);
    get(&server, "/b/").await.expect_problem(404, "not-found");
    assert_eq!((slow.seen().len(), new.seen().len()), (1, 4));
}
