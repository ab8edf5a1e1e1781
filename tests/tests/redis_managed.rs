//! A Redis that belongs to somebody else: TLS, users with few rights, prefixes, and settings that lose stock.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use tidegate_stock::testing::redis::{RedisServer, Setup, TlsFiles};
use tidegate_tests::{Fleet, FleetSettings, Sale, Server, eventually, run_to_its_end, workspace_dir};

/// What `openssl` makes in a folder: an authority, and a certificate for 127.0.0.1.
fn certificates(folder: &std::path::Path) -> TlsFiles {
    let run = |line: &str| {
        let done =
            std::process::Command::new("openssl").args(line.split(' ')).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&done.stderr));
    };
    run("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt");
    run("req -newkey rsa:2048 -nodes -subj /CN=redis -keyout redis.key -out redis.csr");
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    run(
        "x509 -req -in redis.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out redis.crt",
    );
    TlsFiles {
        ca: folder.join("ca.crt"),
        certificate: folder.join("redis.crt"),
        key: folder.join("redis.key"),
        client_certificates: false,
    }
}

/// A folder with the file `password`, which nobody else may read.
fn folder_with_password() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "s3cret\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    folder
}

#[tokio::test]
async fn tls_an_acl_user_a_password_file_and_a_prefix_once_from_end_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let tls = certificates(folder.path());
    let redis = Setup { tls: Some(tls.clone()), ..Setup::default() }.start();
    redis.command(&[
        "ACL",
        "SETUSER",
        "gate",
        "on",
        ">s3cret",
        "~shop:*",
        "&shop:*",
        "+@all",
        "-@dangerous",
        "+info",
    ]);
    let password = folder_with_password();
    let settings = FleetSettings::new()
        .redis("url", &format!("\"rediss://127.0.0.1:{}\"", redis.port()))
        .redis("ca_file", &format!("\"{}\"", tls.ca.display()))
        .redis("user", "\"gate\"")
        .redis("password_file", &format!("\"{}\"", password.path().join("password").display()))
        .redis("prefix", "\"shop:\"");
    let fleet = Fleet::start_with(&vec![settings; 2]).await;
    fleet.open("phone", &Sale::of(2)).await;
    let ticket = fleet.shop(0).win("phone", "ann").await;
    assert_eq!(fleet.shop(1).order("phone", "ann", "k").await.expect(202).str("ticket"), ticket);
    assert_eq!(fleet.shop(0).work_off().await, [ticket.as_str()]);
    fleet.audit("phone").await;
    let keys = format!("{:?}", redis.command(&["KEYS", "*"]));
    assert!(keys.contains("shop:1:{phone}:s") && !keys.contains("tidegate:"), "{keys}");
    for gateway in &fleet.gateways {
        assert!(!gateway.stderr().contains("s3cret"));
    }
}

/// The user that the handbook tells operators to create, as arguments of one command.
fn documented_user(password: &str) -> Vec<String> {
    let page = std::fs::read_to_string(workspace_dir().join("docs/redis.md")).unwrap();
    let rule =
        page.split("```").find(|block| block.trim_start().starts_with("ACL SETUSER tidegate")).unwrap();
    rule.replace("PASSWORD", password).split_whitespace().map(str::to_owned).collect()
}

fn command(redis: &RedisServer, parts: &[String]) -> String {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    format!("{:?}", redis.command(&parts))
}

#[tokio::test]
async fn the_documented_user_suffices_for_all_that_gateways_do_and_may_not_use_config() {
    let redis = RedisServer::start();
    command(&redis, &documented_user("s3cret"));
    for forbidden in ["CONFIG GET maxmemory", "KEYS *", "FLUSHALL", "HGET other x"] {
        let line = format!("ACL DRYRUN tidegate {forbidden}");
        let told = command(&redis, &line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(told.contains("permission"), "{forbidden}: {told}");
    }
    let password = folder_with_password();
    let settings = FleetSettings::new()
        .at(redis.port())
        .redis("user", "\"tidegate\"")
        .redis("password_file", &format!("\"{}\"", password.path().join("password").display()));
    let mut fleet = Fleet::start_with(&vec![settings; 2]).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    // Every kind of call: orders, all transitions, both timers, restocks, what operators ask …
    fleet.open("phone", &Sale::of(20).with("pay_window_ms", 500).with("order_deadline_ms", 60_000)).await;
    fleet.open("brief", &Sale::of(1).with("order_deadline_ms", 300)).await;
    let dropped = a.win("brief", "ann").await;
    let mut tickets = Vec::new();
    for n in 0..8 {
        tickets.push(fleet.shop(n % 2).win("phone", &format!("b{n}")).await);
    }
    for ticket in &tickets[..4] {
        b.transition(ticket, "created", "row").await.expect(200);
    }
    a.transition(&tickets[0], "paid", "money").await.expect(200);
    a.transition(&tickets[1], "cancelled", "buyer").await.expect(200);
    a.transition(&tickets[4], "rejected", "no").await.expect(200);
    b.until("b2", &tickets[2], "expired").await;
    b.until("ann", &dropped, "dropped").await;
    let late = b.transition(&tickets[2], "paid", "late").await.expect_problem(409, "wrong-state");
    assert_eq!(late.json["refund_required"], true);
    let restock = json!({ "restock_id": "one", "quantity": 2 });
    b.inner.post("/v1/sales/phone/restock", &[], &restock).await.expect(200);
    for path in ["", "/audit", "/excess", "/recovery"] {
        a.inner.get(&format!("/v1/sales/phone{path}"), &[]).await.expect(200);
    }
    assert_eq!(b.tickets_of("phone", "b0").await.unwrap().len(), 1);
    assert_eq!(a.inner.get("/v1/gateways", &[]).await.json["gateways"].as_array().unwrap().len(), 2);
    // … a gateway that is taken over, and one that comes back …
    fleet.gateways[0].kill().await;
    let mut delivered = b.orders(8, 10_000).await.len();
    while delivered < 3 {
        delivered += b.orders(8, 10_000).await.len();
    }
    fleet.gateways[0].restart().await;
    // … and the loss of everything.
    fleet.until_open("phone").await;
    redis.command(&["FLUSHALL"]);
    fleet.sells_again("phone", "after").await;
    a.close("phone").await;
    fleet.audit("phone").await;
    assert_eq!(format!("{:?}", redis.command(&["ACL", "LOG"])), "array([])", "a call was denied");
    for gateway in &fleet.gateways {
        assert!(!gateway.stderr().contains("s3cret"));
    }
}

#[tokio::test]
async fn a_redis_that_may_evict_keys_refuses_the_start_and_nothing_is_changed() {
    let redis = Setup::default().with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]).start();
    let settings = FleetSettings::new().at(redis.port()).gateway();
    let ended = run_to_its_end(&["serve", "--config", settings.write().to_str().unwrap()]);
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    for part in ["may evict keys", "allkeys-lru", "set maxmemory-policy noeviction"] {
        assert!(ended.stderr.contains(part), "`{part}` is not in: {}", ended.stderr);
    }
    assert!(!settings.data_dir().join("gateway.id").exists());
    assert_eq!(format!("{:?}", redis.command(&["DBSIZE"])), "int(0)");
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let gateway = Server::start_with(settings).await;
    gateway.shop.open("phone", &Sale::of(1)).await;
    gateway.shop.until_state("phone", "open").await;
    gateway.shop.win("phone", "ann").await;
}

#[tokio::test]
async fn a_redis_that_begins_to_evict_is_not_sold_on_until_it_is_set_right() {
    let (redis, fleet) = Fleet::two().await;
    fleet.open("phone", &Sale::of(10)).await;
    fleet.sells_again("phone", "before").await;
    redis.command(&["CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru"]);
    // What is set is seen by the next connections.
    for kind in ["normal", "pubsub"] {
        redis.command(&["CLIENT", "KILL", "TYPE", kind]);
    }
    for gateway in &fleet.gateways {
        eventually("the gateway says why it does not sell", || async {
            gateway.stderr().contains("set maxmemory-policy noeviction").then_some(())
        })
        .await;
        let shop = &gateway.shop;
        assert_eq!(shop.order("phone", "eve", "k").await.status, 503);
        eventually("the gateway is not ready", || async {
            (shop.inner.get("/readyz", &[]).await.status == 503).then_some(())
        })
        .await;
    }
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    fleet.sells_again("phone", "after").await;
    assert_eq!(fleet.audit("phone").await.number("held"), 4);
}

#[tokio::test]
async fn the_loss_of_one_fleets_keys_is_no_trouble_of_another_fleet_in_the_same_redis() {
    let redis = RedisServer::start();
    let settings =
        |prefix: &str| FleetSettings::new().at(redis.port()).redis("prefix", &format!("\"{prefix}\""));
    let one = Fleet::start_with(&vec![settings("one:"); 2]).await;
    let two = Fleet::start_with(&vec![settings("two:"); 2]).await;
    for fleet in [&one, &two] {
        fleet.open("phone", &Sale::of(100)).await;
        let listed = fleet.shop(0).inner.get("/v1/gateways", &[]).await.expect(200);
        assert_eq!(listed.json["gateways"].as_array().unwrap().len(), 2, "{}", listed.text);
    }
    let mut tickets = Vec::new();
    for n in 0..6 {
        let buyer = format!("b{n}");
        // The same buyers at both: what they hold at one counts nothing at the other.
        tickets.push((buyer.clone(), one.shop(n % 2).win("phone", &buyer).await));
        let other = two.shop(n % 2).win("phone", &buyer).await;
        one.shop(0).ticket(&buyer, &other).await.expect_problem(404, "ticket-not-found");
    }
    let generation =
        |fleet: &str| format!("{:?}", redis.command(&["HGET", &format!("{fleet}:1:{{phone}}:s"), "gen"]));
    let before = [generation("one"), generation("two")];
    let forget = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end";
    redis.command(&["EVAL", forget, "0", "one:*"]);
    // While the one fleet brings its logs in, the other is never refused anything.
    for n in 0..40 {
        two.shop(n % 2).win("phone", &format!("meanwhile-{n}")).await;
    }
    one.sells_again("phone", "after").await;
    for (buyer, ticket) in &tickets {
        for shop in one.shops() {
            assert_eq!(shop.insist("phone", buyer, "k").await, *ticket);
        }
    }
    assert_ne!(generation("one"), before[0]);
    assert_eq!(generation("two"), before[1], "the other fleet's sale was never paused");
    assert_eq!(one.audit("phone").await.number("held"), 8);
    assert_eq!(two.audit("phone").await.number("held"), 46);
    assert_eq!(one.shop(0).work_off().await.len() + one.shop(1).work_off().await.len(), 8);
}
