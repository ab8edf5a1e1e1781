//! Purchase passes over HTTP: challenge, answer, order.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use tidegate_queue::{Clock, SystemClock};
use tidegate_tests::{Reply, Sale, Server, Settings, Shop, eventually, run_to_its_end};

/// What a front end does with the question.
fn solve(question: &str) -> i64 {
    let words: Vec<&str> = question.split(' ').collect();
    let (a, b): (i64, i64) = (words[0].parse().unwrap(), words[2].parse().unwrap());
    match words[1] {
        "+" => a + b,
        "-" => a - b,
        "×" => a * b,
        sign => panic!("{sign}"),
    }
}

async fn challenge(shop: &Shop, sale: &str, buyer: &str) -> Reply {
    shop.public.send("POST", &format!("/v1/sales/{sale}/challenge"), &[("x-user-id", buyer)], b"").await
}

async fn answer(shop: &Shop, sale: &str, buyer: &str, challenge: &str, answer: serde_json::Value) -> Reply {
    let body = json!({ "challenge": challenge, "answer": answer });
    shop.public.post(&format!("/v1/sales/{sale}/pass"), &[("x-user-id", buyer)], &body).await
}

async fn pass(shop: &Shop, sale: &str, buyer: &str) -> String {
    let asked = challenge(shop, sale, buyer).await.expect(200);
    assert_eq!(asked.str("kind"), "arithmetic");
    let right = solve(asked.str("question"));
    let given = answer(shop, sale, buyer, asked.str("challenge"), right.into()).await.expect(200);
    assert!(given.number("expires_at_ms") > asked.number("expires_at_ms"));
    given.str("pass").to_owned()
}

async fn order(shop: &Shop, sale: &str, buyer: &str, key: &str, pass: &str) -> Reply {
    let headers = [("x-user-id", buyer), ("idempotency-key", key), ("x-tidegate-pass", pass)];
    shop.public.send("POST", &format!("/v1/sales/{sale}/orders"), &headers, b"").await
}

fn with_pass(stock: u64) -> Sale {
    Sale::of(stock).with("requires_pass", true).with("per_buyer_limit", 5)
}

#[tokio::test]
async fn an_order_needs_a_pass_and_a_winner_needs_it_once() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &with_pass(2)).await;
    shop.order("phone", "ann", "k1").await.expect_problem(403, "pass-required");
    order(shop, "phone", "ann", "k1", "nonsense").await.expect_problem(403, "pass-invalid");
    let anns = pass(shop, "phone", "ann").await;
    let won = order(shop, "phone", "ann", "k1", &anns).await.expect(202);

    // A winner's retry gets its ticket, with the pass that is spent, without any, and after the close.
    let retried = order(shop, "phone", "ann", "k1", &anns).await.expect(202);
    assert_eq!(retried.str("ticket"), won.str("ticket"));
    shop.order("phone", "ann", "k1").await.expect(202);
    // Another order of the same buyer needs another pass.
    order(shop, "phone", "ann", "k2", &anns).await.expect_problem(403, "pass-invalid");
    shop.order("phone", "ann", "k2").await.expect_problem(403, "pass-required");
    let second = pass(shop, "phone", "ann").await;
    order(shop, "phone", "ann", "k2", &second).await.expect(202);
    let third = pass(shop, "phone", "ann").await;
    order(shop, "phone", "ann", "k3", &third).await.expect_problem(410, "sold-out");
    challenge(shop, "phone", "ann").await.expect_problem(410, "sold-out");
    shop.close("phone").await;
    challenge(shop, "phone", "ann").await.expect_problem(410, "sale-closed");
    let retried = order(shop, "phone", "ann", "k1", "").await.expect(202);
    assert_eq!(retried.str("ticket"), won.str("ticket"));
    assert_eq!(shop.audit("phone").await.number("held"), 2);
}

#[tokio::test]
async fn fm41_a_replayed_or_forged_pass_sells_nothing() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &with_pass(5)).await;
    shop.open("watch", &with_pass(5)).await;
    let anns = pass(shop, "phone", "ann").await;
    order(shop, "phone", "bob", "k", &anns).await.expect_problem(403, "pass-invalid");
    order(shop, "watch", "ann", "k", &anns).await.expect_problem(403, "pass-invalid");
    let forged = format!("{}{}", if anns.starts_with('B') { 'C' } else { 'B' }, &anns[1..]);
    order(shop, "phone", "ann", "k", &forged).await.expect_problem(403, "pass-invalid");
    let asked = challenge(shop, "phone", "ann").await.expect(200);
    let right = solve(asked.str("question"));
    answer(shop, "phone", "bob", asked.str("challenge"), right.into())
        .await
        .expect_problem(403, "pass-invalid");
    order(shop, "phone", "ann", "k", asked.str("challenge")).await.expect_problem(403, "pass-invalid");
    for sale in ["phone", "watch"] {
        assert_eq!(shop.audit(sale).await.number("held"), 0);
    }
    // Without a key every order is another one: the second finds the pass spent.
    let bare = [("x-user-id", "ann"), ("x-tidegate-pass", anns.as_str())];
    shop.public.send("POST", "/v1/sales/phone/orders", &bare, b"").await.expect(202);
    shop.public.send("POST", "/v1/sales/phone/orders", &bare, b"").await.expect_problem(403, "pass-invalid");
    assert_eq!(shop.audit("phone").await.number("held"), 1);
}

#[tokio::test]
async fn fm41_a_pass_that_has_expired_sells_nothing() {
    let settings = Settings::new().set("admission.pass.ttl_ms", 1_000).set("admission.pass.clock_skew_ms", 0);
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    shop.open("phone", &with_pass(5)).await;
    let asked = challenge(shop, "phone", "ann").await.expect(200);
    let right = solve(asked.str("question"));
    let given = answer(shop, "phone", "ann", asked.str("challenge"), right.into()).await.expect(200);
    eventually("the pass is over", || async {
        let sale = shop.public.get("/v1/sales/phone", &[]).await;
        (sale.number("now_ms") > given.number("expires_at_ms")).then_some(())
    })
    .await;
    let refused =
        order(shop, "phone", "ann", "k", given.str("pass")).await.expect_problem(403, "pass-invalid");
    assert!(refused.str("detail").contains("expired"), "{}", refused.text);
}

#[tokio::test]
async fn fm41_a_key_that_is_rotated_out_is_worth_nothing() {
    let settings = Settings::new();
    let file = settings.folder().join("pass.keys");
    let (old, new) = ("a".repeat(32), "b".repeat(32));
    std::fs::write(&file, &old).unwrap();
    let settings = settings.set_text("admission.pass.keys_file", file.to_str().unwrap());
    let mut server = Server::start_with(settings).await;
    server.shop.open("phone", &with_pass(5)).await;
    let first = pass(&server.shop, "phone", "ann").await;
    let second = pass(&server.shop, "phone", "ann").await;

    // The new key in front and the old one behind it, then the new one alone.
    std::fs::write(&file, format!("{new}\n{old}\n")).unwrap();
    server.stop().await;
    server.restart().await;
    order(&server.shop, "phone", "ann", "k1", &first).await.expect(202);
    let third = pass(&server.shop, "phone", "ann").await;
    std::fs::write(&file, format!("{new}\n")).unwrap();
    server.stop().await;
    server.restart().await;
    order(&server.shop, "phone", "ann", "k2", &second).await.expect_problem(403, "pass-invalid");
    order(&server.shop, "phone", "ann", "k3", &third).await.expect(202);
}

#[tokio::test]
async fn passes_are_given_before_the_sale_opens_and_survive_a_restart() {
    let mut server = Server::start_with(Settings::new().set("admission.pass.lead_ms", 60_000)).await;
    let now_ms = SystemClock::new().now_ms();
    let (soon, later) = (now_ms + 3_000, now_ms + 3_600_000);
    server.shop.put("soon", &with_pass(1).with("opens_at_ms", soon)).await;
    server.shop.put("later", &with_pass(1).with("opens_at_ms", later)).await;
    server.shop.put("some-day", &with_pass(1)).await;
    let early = challenge(&server.shop, "later", "ann").await.expect_problem(403, "sale-not-open");
    let wait_s = early.retry_after_s();
    assert!((3_500..=3_541).contains(&wait_s), "when passes are given, not when the sale opens: {wait_s}");
    pass(&server.shop, "some-day", "ann").await;
    let anns = pass(&server.shop, "soon", "ann").await;
    server.stop().await;
    server.restart().await;
    server.shop.until_state("soon", "open").await;
    order(&server.shop, "soon", "ann", "k", &anns).await.expect(202);
}

#[tokio::test]
async fn answers_are_bounded_and_so_is_asking() {
    let settings = Settings::new().set("admission.pass.attempts", 2).set("admission.pass.buyer_burst", 6);
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    shop.open("phone", &with_pass(1)).await;
    let asked = challenge(shop, "phone", "ann").await.expect(200);
    let right = solve(asked.str("question"));
    for detail in
        ["the answer is wrong", "the answer is wrong", "too many wrong answers: ask for a new challenge"]
    {
        let text = if detail.starts_with("too") { right } else { right + 1 };
        let refused = answer(shop, "phone", "ann", asked.str("challenge"), text.into()).await;
        assert_eq!(refused.expect_problem(403, "pass-invalid").str("detail"), detail);
    }
    let text = answer(shop, "phone", "ann", "x", json!("7")).await;
    text.expect_problem(403, "pass-invalid");
    challenge(shop, "phone", "ann").await.expect(200);
    let refused = challenge(shop, "phone", "ann").await;
    // One more may have come by in the meantime.
    let refused = if refused.status == 200 { challenge(shop, "phone", "ann").await } else { refused };
    assert_eq!(refused.expect_problem(429, "client-quota").retry_after_s(), 1);
    challenge(shop, "phone", "bob").await.expect(200);
    for (body, named) in
        [(json!({ "challenge": "x" }), "answer"), (json!({ "challenge": "x", "answer": 1, "x": 1 }), "x")]
    {
        let reply = shop.public.post("/v1/sales/phone/pass", &[("x-user-id", "carl")], &body).await;
        assert!(reply.expect_problem(400, "bad-request").str("detail").contains(named));
    }
    challenge(shop, "none", "ann").await.expect_problem(404, "sale-not-found");
    shop.public.get("/v1/sales/phone/pass", &[]).await.expect_problem(405, "method-not-allowed");
    shop.public
        .send("POST", "/v1/sales/phone/challenge", &[], b"")
        .await
        .expect_problem(401, "unauthenticated");
    let metrics = shop.inner.get("/metrics", &[]).await.text;
    assert!(metrics.contains("tidegate_wrong_answers_total 3"), "{metrics}");
}

#[test]
fn keys_that_anybody_could_guess_are_refused() {
    let settings = Settings::new().set_text("admission.pass.keys", "short");
    let path = settings.write();
    let ended = run_to_its_end(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("key 1 has 5 bytes; use at least 32"), "{}", ended.stderr);
}
