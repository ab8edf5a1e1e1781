//! Gates 4 and 5 against the real binary: who is asked to come back, who is banned, and what that does not touch.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::time::Duration;
use tidegate_tests::{
    Fleet, FleetSettings, Reply, Sale, Server, Settings, Shop, eventually, eventually_within, run_to_its_end,
};

/// An order through a trusted proxy that saw this address.
async fn order_from(shop: &Shop, buyer: &str, address: &str) -> Reply {
    let headers = [("x-user-id", buyer), ("x-forwarded-for", address)];
    shop.public.send("POST", "/v1/sales/phone/orders", &headers, b"").await
}

const NAT: &str = "198.51.100.7";

#[tokio::test]
async fn strangers_of_one_address_come_back_once_and_are_told_what_they_have_left() {
    let settings =
        Settings::new().set("admission.quota.newcomer_wait_ms", 300).set("admission.quota.buyer_per_s", 2);
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(50)).await;
    let won = order_from(shop, "b0", NAT).await.expect(202);
    assert_eq!(won.header("ratelimit-policy"), "\"buyer\";q=20;w=10");
    assert_eq!(won.header("ratelimit"), "\"buyer\";r=19;t=1");
    for n in 1..20 {
        let asked = order_from(shop, &format!("b{n}"), NAT).await.expect_problem(429, "client-quota");
        assert_eq!(asked.header("ratelimit-policy"), "\"newcomers\";q=1;w=600");
        assert_eq!((asked.retry_after_s(), asked.number("retry_after_ms")), (1, 300));
    }
    order_from(shop, "ann", "198.51.100.8").await.expect(202);
    tokio::time::sleep(Duration::from_millis(300)).await;
    for n in 1..20 {
        // Another name each time never comes back.
        order_from(shop, &format!("x{n}"), NAT).await.expect_problem(429, "client-quota");
    }
    // Who does is let in, and earns the address two more.
    order_from(shop, "b1", NAT).await.expect(202);
    for n in 0..2 {
        order_from(shop, &format!("new{n}"), NAT).await.expect(202);
    }
    order_from(shop, "another", NAT).await.expect_problem(429, "client-quota");
    for n in 2..20 {
        order_from(shop, &format!("b{n}"), NAT).await.expect(202);
    }
}

#[tokio::test]
async fn who_came_before_the_opening_is_no_stranger_when_it_opens() {
    let server = Server::start_with(Settings::new().set("admission.quota.newcomer_wait_ms", 300)).await;
    let shop = &server.shop;
    shop.put("phone", &Sale::of(50)).await;
    for n in 0..10 {
        order_from(shop, &format!("b{n}"), NAT).await.expect_problem(403, "sale-not-open");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    shop.inner.post("/v1/sales/phone/open", &[], &json!({})).await.expect(200);
    for n in 0..10 {
        order_from(shop, &format!("b{n}"), NAT).await.expect(202);
    }
}

#[tokio::test]
async fn exempt_networks_bring_as_many_strangers_as_they_like() {
    let settings = Settings::new().value("admission.quota.exempt", "[\"198.51.100.0/24\"]");
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(50)).await;
    for n in 0..30 {
        order_from(shop, &format!("b{n}"), NAT).await.expect(202);
    }
}

/// Bans a client by hand.
async fn ban(shop: &Shop, client: &str, body: &Value) -> Reply {
    let path = format!("/v1/blacklist/{client}");
    let body = serde_json::to_vec(body).unwrap();
    shop.inner.send("PUT", &path, &[], &body).await
}

async fn lift(shop: &Shop, client: &str) -> Reply {
    shop.inner.send("DELETE", &format!("/v1/blacklist/{client}"), &[], b"").await
}

/// Clients on the list, as this gateway tells them.
async fn banned(shop: &Shop) -> Vec<String> {
    let list = shop.inner.get("/v1/blacklist", &[]).await.expect(200);
    let bans = list.json["bans"].as_array().unwrap();
    bans.iter().map(|ban| ban["client"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_banned_client_is_403_until_the_ban_is_lifted_and_all_others_order() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(50)).await;
    let put = ban(shop, "buyer:eve", &json!({ "reason": "resells" })).await.expect(200);
    assert_eq!(
        (put.str("client"), put.str("reason"), &put.json["manual"]),
        ("buyer:eve", "resells", &json!(true))
    );
    let refused = order_from(shop, "eve", "198.51.100.20").await.expect_problem(403, "blacklisted");
    assert!(refused.headers.get("retry-after").is_none(), "nobody knows when");
    order_from(shop, "ann", "198.51.100.20").await.expect(202);
    // A network by its length, an address alone, a /64; and for a time.
    let until_ms = put.number("since_ms") + 3_600_000;
    ban(shop, "ip:198.51.100.0%2F24", &json!({ "until_ms": until_ms })).await.expect(200);
    ban(shop, "ip:203.0.113.7", &json!({})).await.expect(200);
    ban(shop, "ip:2001:db8::1", &json!({})).await.expect(200);
    assert_eq!(banned(shop).await, ["buyer:eve", "ip:198.51.100.0/24", "ip:203.0.113.7", "ip:2001:db8::/64"]);
    let refused = order_from(shop, "ben", "198.51.100.99").await.expect_problem(403, "blacklisted");
    assert!((3_000..=3_600).contains(&refused.retry_after_s()), "{}", refused.retry_after_s());
    order_from(shop, "ben", "203.0.113.7").await.expect_problem(403, "blacklisted");
    order_from(shop, "ben", "2001:db8::ffff").await.expect_problem(403, "blacklisted");
    order_from(shop, "ben", "203.0.113.8").await.expect(202);
    order_from(shop, "cy", "2001:db8:0:1::1").await.expect(202);
    // What is not proven bans nobody: without an identity it is 401, not 403.
    shop.public.send("POST", "/v1/sales/phone/orders", &[], b"").await.expect_problem(401, "unauthenticated");
    let lifted = lift(shop, "ip:198.51.100.7%2F24").await.expect(200);
    assert_eq!((lifted.str("client"), &lifted.json["lifted"]), ("ip:198.51.100.0/24", &json!(true)));
    order_from(shop, "dan", "198.51.100.99").await.expect(202);
    assert_eq!(
        lift(shop, "ip:198.51.100.0%2F24").await.expect(200).json["lifted"],
        json!(false),
        "it may be repeated"
    );
    let metrics = shop.inner.get("/metrics", &[]).await.text;
    assert!(
        metrics.contains("outcome=\"blacklisted\"} 4") && metrics.contains("tidegate_bans 3"),
        "{metrics}"
    );
}

#[tokio::test]
async fn what_is_no_ban_is_told_so() {
    let settings = Settings::new().value("admission.quota.exempt", "[\"198.51.100.0/24\"]");
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    for client in ["eve", "ip:localhost", "buyer:", "ip:198.51.100.9", "ip:127.0.0.1"] {
        ban(shop, client, &json!({})).await.expect_problem(400, "bad-request");
    }
    for body in [json!({ "until_ms": 1 }), json!({ "untill_ms": 1 })] {
        ban(shop, "buyer:eve", &body).await.expect_problem(400, "bad-request");
    }
    assert!(banned(shop).await.is_empty());
    // A wider network may be banned; what is exempt of it orders all the same.
    shop.open("phone", &Sale::of(50)).await;
    ban(shop, "ip:198.51.0.0%2F16", &json!({})).await.expect(200);
    order_from(shop, "ann", "198.51.100.9").await.expect(202);
    order_from(shop, "ben", "198.51.101.9").await.expect_problem(403, "blacklisted");
}

#[tokio::test]
async fn a_ban_outlives_a_kill_and_keeps_a_winner_from_their_order_but_not_from_their_ticket() {
    let mut server = Server::start().await;
    let shop = server.shop.clone();
    shop.open("phone", &Sale::of(50)).await;
    let won = shop.order("phone", "eve", "k").await.expect(202);
    let ticket = won.str("ticket");
    assert_eq!(shop.order("phone", "eve", "k").await.expect(202).str("ticket"), ticket);
    ban(&shop, "buyer:eve", &json!({})).await.expect(200);
    server.kill().await;
    server.restart().await;
    let shop = server.shop.clone();
    assert_eq!(banned(&shop).await, ["buyer:eve"]);
    // Gate 4 is none of those that a winner's retry skips; the ticket stays theirs.
    shop.order("phone", "eve", "k").await.expect_problem(403, "blacklisted");
    assert_eq!(shop.ticket("eve", ticket).await.expect(200).str("status"), "queued");
    lift(&shop, "buyer:eve").await.expect(200);
    assert_eq!(shop.order("phone", "eve", "k").await.expect(202).str("ticket"), ticket);
    server.kill().await;
    server.restart().await;
    assert!(banned(&server.shop).await.is_empty(), "a lifted ban stays lifted");
}

#[tokio::test]
async fn who_goes_on_in_spite_of_the_quota_is_banned_and_longer_the_next_time() {
    let settings = Settings::new()
        .set("admission.quota.buyer_per_s", 1)
        .set("admission.quota.buyer_burst", 1)
        .set("admission.blacklist.refusals", 20)
        .set("admission.blacklist.ban_ms", 1_000);
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(50)).await;
    let hammer = async |address: &str| {
        eventually("the pest is banned", async || {
            let answer = order_from(shop, "pest", address).await;
            (answer.status == 403).then(|| answer.expect_problem(403, "blacklisted").retry_after_s())
        })
        .await
    };
    assert!(hammer("198.51.100.1").await <= 1);
    assert_eq!(banned(shop).await, ["buyer:pest"], "and not the address");
    order_from(shop, "ann", "198.51.100.1").await;
    eventually("the ban ends", async || banned(shop).await.is_empty().then_some(())).await;
    assert_eq!(hammer("198.51.100.2").await, 2);
}

#[tokio::test]
async fn an_address_of_ever_new_names_is_banned_and_a_nat_beside_it_is_not() {
    let settings =
        Settings::new().set("admission.quota.newcomer_wait_ms", 300).set("admission.blacklist.strangers", 20);
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(5_000)).await;
    let next = std::cell::Cell::new(0);
    eventually("the abuser's address is banned", async || {
        let n = next.replace(next.get() + 1);
        // As many good buyers come from the NAT, and come back as they are told.
        let _ = order_from(shop, &format!("b{n}"), NAT).await;
        if n > 40 {
            let _ = order_from(shop, &format!("b{}", n - 40), NAT).await;
        }
        (order_from(shop, &format!("x{n}"), "203.0.113.7").await.status == 403).then_some(())
    })
    .await;
    assert_eq!(banned(shop).await, ["ip:203.0.113.7"]);
    let bans = shop.inner.get("/v1/blacklist", &[]).await.expect(200);
    assert_eq!((&bans.json["bans"][0]["manual"], &bans.json["bans"][0]["times"]), (&json!(false), &json!(1)));
}

#[tokio::test]
async fn a_full_list_says_so() {
    let server = Server::start_with(Settings::new().set("admission.blacklist.bans_max", 2)).await;
    for buyer in ["a", "b", "b"] {
        ban(&server.shop, &format!("buyer:{buyer}"), &json!({})).await.expect(200);
    }
    let refused = ban(&server.shop, "buyer:c", &json!({})).await.expect_problem(400, "bad-request");
    assert!(refused.text.contains("bans_max"), "{}", refused.text);
    lift(&server.shop, "buyer:a").await.expect(200);
    ban(&server.shop, "buyer:c", &json!({})).await.expect(200);
}

#[tokio::test]
async fn gateways_of_one_redis_share_their_bans_and_a_restart_finds_them_there() {
    let (redis, mut fleet) = Fleet::two().await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("phone", &Sale::of(50)).await;
    let within_a_second = Duration::from_secs(1);
    ban(&a, "buyer:eve", &json!({})).await.expect(200);
    ban(&a, "ip:203.0.113.7", &json!({})).await.expect(200);
    eventually_within(within_a_second, "the other gateway knows", async || {
        (banned(&b).await.len() == 2).then_some(())
    })
    .await;
    order_from(&b, "eve", "198.51.100.1").await.expect_problem(403, "blacklisted");
    order_from(&b, "ann", "203.0.113.7").await.expect_problem(403, "blacklisted");
    fleet.gateways[1].kill().await;
    lift(&a, "ip:203.0.113.7").await.expect(200);
    fleet.gateways[1].restart().await;
    let b = fleet.shop(1);
    eventually("it is found in Redis", async || (banned(&b).await == ["buyer:eve"]).then_some(())).await;
    lift(&b, "buyer:eve").await.expect(200);
    eventually_within(within_a_second, "it is lifted everywhere", async || {
        banned(&a).await.is_empty().then_some(())
    })
    .await;
    fleet.until_open("phone").await;
    a.insist("phone", "eve", "k").await;
    // Redis forgets: whoever sees it first puts back what it knows.
    ban(&a, "buyer:mallory", &json!({})).await.expect(200);
    eventually("both know", async || (banned(&b).await.len() == 1).then_some(())).await;
    redis.command(&["DEL", "tidegate:1:{gate}:bans"]);
    eventually("it is in Redis again", async || {
        (redis.count(&["HEXISTS", "tidegate:1:{gate}:bans", "buyer:mallory"]) == 1).then_some(())
    })
    .await;
    assert_eq!(
        (banned(&a).await, banned(&b).await),
        (vec!["buyer:mallory".into()], vec!["buyer:mallory".into()])
    );
}

#[tokio::test]
async fn a_buyer_banned_by_one_gateway_s_judge_is_banned_at_the_other() {
    let redis = tidegate_stock::testing::redis::RedisServer::start();
    let settings = FleetSettings::new()
        .at(redis.port())
        .other("admission.quota.buyer_per_s", "1")
        .other("admission.quota.buyer_burst", "1")
        .other("admission.blacklist.refusals", "20");
    let fleet = Fleet::start_with(&[settings.clone(), settings]).await;
    fleet.open("phone", &Sale::of(50)).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    eventually("the pest is banned", async || {
        (order_from(&a, "pest", "198.51.100.1").await.status == 403).then_some(())
    })
    .await;
    eventually_within(Duration::from_secs(1), "there too", async || {
        (banned(&b).await == ["buyer:pest"]).then_some(())
    })
    .await;
    order_from(&b, "pest", "198.51.100.2").await.expect_problem(403, "blacklisted");
}

#[tokio::test]
async fn the_command_line_lists_adds_and_removes() {
    let server = Server::start().await;
    let inner = format!("http://{}", server.shop.inner.authority());
    let run = |arguments: &[&str]| {
        let ended = run_to_its_end(&[&["blacklist", "--inner", &inner], arguments].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    };
    run(&["add", "ip:2001:db8::7", "--reason", "scrapes"]);
    let list = run(&["list"]);
    assert!(
        list.contains("ip:2001:db8::/64") && list.contains("scrapes") && list.contains("operator"),
        "{list}"
    );
    assert!(run(&["remove", "ip:2001:db8::/64"]).contains("is lifted"));
    assert!(run(&["remove", "ip:2001:db8::/64"]).contains("was not there"));
    assert_eq!(run(&["--json", "list"]).trim(), "[]");
}
