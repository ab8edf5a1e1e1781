//! Hot reload: taken whole or not at all, whatever is under way (failure mode 43).
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tidegate_tests::{Reply, Sale, Server, Settings, Shop, eventually, run_to_its_end};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The file of a running gateway, rewritten as an operator would.
struct File {
    path: PathBuf,
    first: String,
}

impl File {
    fn of(server: &Server) -> Self {
        let path = server.settings.folder().join("tidegate.toml");
        let first = std::fs::read_to_string(&path).unwrap();
        Self { path, first }
    }

    /// The first file with other values for these keys.
    fn with(&self, values: &[(&str, &str)]) -> &Self {
        let kept = |line: &&str| !values.iter().any(|(key, _)| line.starts_with(&format!("{key} = ")));
        let mut text = String::new();
        for line in self.first.lines().filter(kept) {
            writeln!(text, "{line}").unwrap();
        }
        for (key, value) in values {
            writeln!(text, "{key} = {value}").unwrap();
        }
        self.write(&text)
    }

    fn write(&self, text: &str) -> &Self {
        let fresh = self.path.with_extension("new");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(&fresh, &self.path).unwrap();
        self
    }
}

async fn reload(shop: &Shop) -> Reply {
    shop.inner.post("/v1/reload", &[], &json!({})).await
}

/// Buyer `a-…` by one header, `b-…` by the other; a policy that lets in only those whom its own header named.
const BY_HEADER: [(&str, &str); 2] = [("a", "X-A"), ("b", "X-B")];

fn coupled(folder: &std::path::Path, which: usize) -> [(&'static str, String); 2] {
    let (letter, header) = BY_HEADER[which];
    let policy = folder.join(format!("{letter}.lua"));
    let text =
        format!("if string.sub(request.buyer, 1, 2) ~= '{letter}-' then return 'deny' end return 'allow'");
    std::fs::write(&policy, text).unwrap();
    [
        ("identity.header", format!("\"{header}\"")),
        ("admission.policy.files", format!("[\"{}\"]", policy.display())),
    ]
}

/// Orders without a pause until told to end; every answer must be a win, by one setting or the other.
struct Load {
    end: Arc<AtomicBool>,
    orders: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn on(shop: &Shop) -> Self {
        let (end, orders) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let tasks = (0..4).map(|_| {
            let (shop, end, orders) = (shop.clone(), end.clone(), orders.clone());
            tokio::spawn(async move {
                while !end.load(Ordering::Relaxed) {
                    let n = orders.fetch_add(1, Ordering::Relaxed);
                    let (a, b) = (format!("a-{n}"), format!("b-{n}"));
                    let headers = [("x-a", &*a), ("x-b", &*b)];
                    let path = "/v1/sales/phone/orders";
                    shop.public.post(path, &headers, &json!({})).await.expect(202);
                }
            })
        });
        let tasks = tasks.collect();
        Self { end, orders, tasks }
    }

    /// Waits until so many more orders were placed.
    async fn more(&self, count: usize) {
        let until = self.orders.load(Ordering::Relaxed) + count;
        eventually("orders go on", || async {
            let ended = self.tasks.iter().any(tokio::task::JoinHandle::is_finished);
            (ended || self.orders.load(Ordering::Relaxed) >= until).then_some(())
        })
        .await;
    }

    async fn end(self) {
        self.end.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

async fn selling() -> Server {
    let settings = Settings::new();
    let values = coupled(settings.folder(), 0);
    let settings = values.into_iter().fold(settings, |settings, (key, value)| settings.value(key, value));
    let server = Server::start_with(settings).await;
    server.shop.open("phone", &Sale::of(1_000_000)).await;
    server
}

async fn buyer_now(shop: &Shop, n: &str) -> String {
    let (a, b) = (format!("a-{n}"), format!("b-{n}"));
    let won = shop.public.post("/v1/sales/phone/orders", &[("x-a", &a), ("x-b", &b)], &json!({})).await;
    won.expect(202).str("buyer").to_owned()
}

/// Keys with their values, and what is told of them.
type Case<'c> = (&'c [(&'c str, &'c str)], &'c [&'c str]);

#[tokio::test]
async fn fm43_a_bad_reload_changes_nothing_and_fails_no_request() {
    let server = selling().await;
    let (shop, file, folder) = (&server.shop, File::of(&server), server.settings.folder());
    let load = Load::on(shop);
    let other = coupled(folder, 1);
    let other: Vec<(&str, &str)> = other.iter().map(|(key, value)| (*key, value.as_str())).collect();
    std::fs::write(folder.join("broken.lua"), "if return 'allow'").unwrap();
    let broken = format!("[\"{}\"]", folder.join("broken.lua").display());
    // Each along with the good change of the other two keys, which must not be taken either.
    let cases: [Case<'_>; 8] = [
        (&[("listen.publik", "1")], &["listen.publik: unknown key; did you mean \"public\"?"]),
        (&[("admission.quota.buyer_burst", "0")], &["admission.quota.buyer_burst: 0 is out of range, 1 to"]),
        (
            &[("identity.mode", "\"jwt\""), ("identity.jwt_key_file", "\"/nowhere\"")],
            &["cannot read /nowhere"],
        ),
        (&[("admission.policy.files", &broken)], &["broken.lua"]),
        (
            &[("listen.public", "\"127.0.0.1:1\""), ("data.dir", "\"elsewhere\""), ("queue.lease_ms", "100")],
            &[
                "listen.public: cannot be changed while the gateway runs",
                "data.dir: cannot be changed while the gateway runs",
                "queue.lease_ms: cannot be changed while the gateway runs",
            ],
        ),
        (
            &[("sale", "[{ id = \"phone\", item = \"thing\", stock = 7 }]")],
            &["sale.stock: the sale \"phone\" was created with 1000000 units, not 7; write 1000000"],
        ),
        (&[("log.level", "\"\"\"")], &["this is no TOML"]),
        (
            &[("admission.tokens.rate_per_s", "\"many\""), ("listen.drain_ms", "-1")],
            &["rate_per_s: expected", "drain_ms: -1"],
        ),
    ];
    for (number, (case, told)) in cases.into_iter().enumerate() {
        let values: Vec<_> =
            other.iter().filter(|(key, _)| !case.iter().any(|(bad, _)| bad == key)).collect();
        let values: Vec<(&str, &str)> = values.into_iter().copied().chain(case.iter().copied()).collect();
        file.with(&values);
        let refused = reload(shop).await.expect_problem(422, "config-refused");
        let problems: Vec<&str> =
            refused.json["problems"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        for told in told {
            let line = problems.iter().find(|line| line.contains(told));
            assert!(
                line.is_some_and(|line| line.contains("tidegate.toml:") || told.contains("/nowhere")),
                "{told}: {problems:#?}"
            );
        }
        load.more(20).await;
        assert!(
            buyer_now(shop, &format!("case-{number}")).await.starts_with("a-"),
            "{case:?} changed something"
        );
    }
    std::fs::remove_file(&file.path).unwrap();
    let refused = reload(shop).await.expect_problem(422, "config-refused");
    assert!(refused.text.contains("cannot read"), "{}", refused.text);
    server.hang_up();
    eventually("the log says why", || async {
        server.stderr().contains("the configuration was not reloaded").then_some(())
    })
    .await;
    let metrics = shop.inner.get("/metrics", &[]).await.text;
    assert!(metrics.contains("tidegate_config_reloads_total{outcome=\"taken\"} 0\n"), "{metrics}");
    load.more(20).await;
    load.end().await;
    assert!(buyer_now(shop, "last").await.starts_with("a-"));
}

#[tokio::test]
async fn fm43_a_good_reload_is_met_whole_or_not_at_all() {
    let server = selling().await;
    let (shop, file, folder) = (&server.shop, File::of(&server), server.settings.folder());
    let load = Load::on(shop);
    for round in 0..30 {
        let which = (round + 1) % 2;
        let values = coupled(folder, which);
        let values: Vec<(&str, &str)> = values.iter().map(|(key, value)| (*key, value.as_str())).collect();
        file.with(&values);
        // A request that is under way while the settings change: its buyer is known, its policy not asked yet.
        let slow = Slow::begin(shop, round).await;
        if round % 5 == 4 {
            server.hang_up();
            let (letter, _) = BY_HEADER[which];
            let looks = AtomicUsize::new(0);
            eventually("the signal reloads", || async {
                let look = looks.fetch_add(1, Ordering::Relaxed);
                let buyer = buyer_now(shop, &format!("signal-{round}-{look}")).await;
                buyer.starts_with(letter).then_some(())
            })
            .await;
        } else {
            let reloaded = reload(shop).await.expect(200);
            assert_eq!(reloaded.json["changed"], json!(["admission.policy.files", "identity.header"]));
            let (letter, _) = BY_HEADER[which];
            assert!(buyer_now(shop, &format!("now-{round}")).await.starts_with(letter), "at once");
        }
        let (letter, _) = BY_HEADER[round % 2];
        slow.end(&format!("{letter}-slow-{round}")).await;
        load.more(10).await;
    }
    load.end().await;
    let said = server.stderr();
    assert_eq!(said.matches("the configuration was reloaded").count(), 30, "a line each");
}

/// An order whose body comes late.
struct Slow(tokio::net::TcpStream);

impl Slow {
    async fn begin(shop: &Shop, round: usize) -> Self {
        let mut stream = tokio::net::TcpStream::connect(shop.public.authority()).await.unwrap();
        let head = format!(
            "POST /v1/sales/phone/orders HTTP/1.1\r\nhost: x\r\nx-a: a-slow-{round}\r\nx-b: b-slow-{round}\r\n\
             content-length: 2\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // The gateway asks for the body only once it is read, behind the gate that tells the buyer.
        let mut asked = [0; 25];
        stream.read_exact(&mut asked).await.unwrap();
        assert!(asked.starts_with(b"HTTP/1.1 100"), "{asked:?}");
        Self(stream)
    }

    async fn end(mut self, buyer: &str) {
        self.0.write_all(b"{}").await.unwrap();
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
        assert!(answer.contains(&format!("\"buyer\":\"{buyer}\"")), "{buyer}: {answer}");
    }
}

#[tokio::test]
async fn sales_of_the_file_are_created_and_changed_and_what_operators_did_stays() {
    let server =
        Server::start_with(Settings::new().value(
            "sale",
            "[{ id = \"a\", item = \"x\", stock = 1 }, { id = \"b\", item = \"x\", stock = 1 }]",
        ))
        .await;
    let (shop, file) = (&server.shop, File::of(&server));
    let path = "/v1/sales/a";
    let changed = json!({ "item": "by hand", "stock": 1 });
    shop.inner.send("PUT", path, &[], changed.to_string().as_bytes()).await.expect(200);
    let none: Vec<Value> = Vec::new();
    let told = reload(shop).await.expect(200).json;
    assert_eq!(
        told,
        json!({ "changed": none, "sales_created": none, "sales_changed": none, "sales_left": none })
    );
    assert_eq!(shop.inner.get(path, &[]).await.str("item"), "by hand", "the file did not change it");
    let sales = "[{ id = \"a\", item = \"y\", stock = 1, quantity_max = 1 }, { id = \"c\", item = \"z\", stock = 3 }]";
    file.with(&[("sale", sales), ("listen.body_bytes_max", "1_000"), ("log.level", "\"warn\"")]);
    let told = reload(shop).await.expect(200).json;
    let expected = json!({
        "changed": ["listen.body_bytes_max", "log.level"],
        "sales_created": ["c"], "sales_changed": ["a"], "sales_left": ["b"],
    });
    assert_eq!(told, expected);
    assert_eq!(shop.inner.get(path, &[]).await.str("item"), "y");
    shop.inner.get("/v1/sales/b", &[]).await.expect(200);
    assert_eq!(shop.inner.get("/v1/sales/c", &[]).await.number("available"), 3);
    // The new level counts: a reload is told at `info`.
    let lines = server.stderr().matches("was reloaded").count();
    reload(shop).await.expect(200);
    assert_eq!(server.stderr().matches("was reloaded").count(), lines);
    shop.inner.get("/v1/reload", &[]).await.expect_problem(405, "method-not-allowed");
}

#[tokio::test]
async fn fm43_what_is_counted_of_clients_and_tokens_of_operators_survive() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("admin.token");
    std::fs::write(&token, "first").unwrap();
    let server = Server::start_with(
        Settings::new()
            .set("admission.quota.buyer_per_s", 1)
            .set("admission.quota.buyer_burst", 2)
            .set_text("inner.worker_token", "w")
            .set_text("inner.admin_token_file", token.to_str().unwrap()),
    )
    .await;
    let (shop, file) = (&server.shop, File::of(&server));
    let put = json!({ "item": "x", "stock": 9, "per_buyer_limit": 9 }).to_string();
    let first = [("authorization", "Bearer first")];
    shop.inner.send("PUT", "/v1/sales/s", &first, put.as_bytes()).await.expect(201);
    shop.inner.post("/v1/sales/s/open", &first, &json!({})).await.expect(200);
    let order = async || shop.public.send("POST", "/v1/sales/s/orders", &[("x-user-id", "ann")], b"").await;
    order().await.expect(202);
    order().await.expect(202);
    // A new secret in the same file, and another limit; the buyer's quota is not among what changed.
    std::fs::write(&token, "second").unwrap();
    file.with(&[("listen.connections_max", "500")]);
    let told = shop.inner.post("/v1/reload", &first, &json!({})).await.expect(200);
    assert_eq!(told.json["changed"], json!(["inner.admin_token_file", "listen.connections_max"]));
    assert!(!told.text.contains("second") && !server.stderr().contains("second"), "no secrets");
    order().await.expect_problem(429, "client-quota");
    shop.inner.post("/v1/reload", &first, &json!({})).await.expect_problem(401, "unauthenticated");
    let tool =
        |token: &str| run_to_its_end(&["reload", "--inner", &server.settings.inner_url(), "--token", token]);
    let done = tool("second");
    assert_eq!(
        (done.code, done.stdout.trim()),
        (Some(0), "reloaded: nothing was changed in it"),
        "{}",
        done.stderr
    );
    file.with(&[("listen.drain_ms", "-1")]);
    let refused = tool("second");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("tidegate.toml:") && refused.stderr.contains("drain_ms"),
        "{}",
        refused.stderr
    );
}
