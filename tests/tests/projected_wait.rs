//! Gate 8 at the doors: who is let in, what the refused are told, and what those who wait see.
#![allow(clippy::unwrap_used)]

use std::time::Duration;
use tidegate_tests::{Sale, Server, Settings, eventually};

fn with_gate(unmeasured_max: u64) -> Settings {
    let settings = Settings::new().value("admission.wait.enabled", "true");
    settings.set("admission.wait.unmeasured_max", unmeasured_max)
}

#[tokio::test]
async fn orders_that_would_come_too_late_are_refused_and_the_others_know_their_place() {
    let server = Server::start_with(with_gate(20)).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(1_000).with("order_deadline_ms", 3_000).with("per_buyer_limit", 2)).await;
    // Nothing is known of the workers: so many are let in, and each has its place.
    let mut tickets = Vec::new();
    for place in 1..=20 {
        let won = shop.order("phone", &format!("b{place}"), "k").await.expect(202);
        assert_eq!(won.number("position"), place, "{}", won.text);
        assert!(won.json.get("estimated_wait_ms").is_none(), "nothing is known of that: {}", won.text);
        tickets.push(won.str("ticket").to_owned());
    }
    let refused = shop.order("phone", "late", "k").await.expect_problem(429, "overloaded");
    assert!((3_000..=6_000).contains(&refused.number("retry_after_ms")), "{}", refused.text);
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((3..=6).contains(&seconds), "{}", refused.text);
    // A winner's retry passes, another order of the winner does not.
    let again = shop.order("phone", "b1", "k").await.expect(202);
    assert_eq!(again.str("ticket"), tickets[0]);
    shop.order("phone", "b1", "another").await.expect_problem(429, "overloaded");

    // Ten are dealt with: ten move up, and it is known how fast that goes.
    let messages = shop.orders(10, 5_000).await;
    assert_eq!(messages.len(), 10);
    shop.ack("orders", "order-workers", &messages).await;
    for (place, ticket) in (1..).zip(&tickets[10..]) {
        let seen = shop.ticket(&format!("b{}", place + 10), ticket).await.expect(200);
        assert_eq!(seen.number("position"), place, "{}", seen.text);
        assert!(seen.number("estimated_wait_ms") > 0, "{}", seen.text);
    }
    let metrics = shop.inner.get("/metrics", &[]).await.text;
    for figure in [
        "tidegate_order_backlog 10",
        "tidegate_order_drain_rate ",
        "tidegate_order_wait_seconds ",
        "outcome=\"overloaded\"} 2",
    ] {
        assert!(metrics.contains(figure), "{figure}: {metrics}");
    }

    // Nobody works on: what waits is dropped at its deadline, and with nobody before them orders are let in again.
    eventually("somebody is let in again", || async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let status = shop.order("phone", "later", "k").await.status;
        (status == 202).then_some(())
    })
    .await;
    let (last, buyer) = (&tickets[19], "b20");
    let seen = shop.until(buyer, last, "dropped").await;
    assert!(seen.json.get("position").is_none(), "{}", seen.text);
}

/// What a gateway finds in its log at its start is before whoever comes then.
#[tokio::test]
async fn orders_of_before_a_restart_count() {
    let mut server = Server::start_with(with_gate(5)).await;
    server.shop.open("phone", &Sale::of(100)).await;
    let mut last = String::new();
    for buyer in ["a", "b", "c", "d", "e"] {
        last = server.shop.order("phone", buyer, "k").await.expect(202).str("ticket").to_owned();
    }
    server.shop.order("phone", "f", "k").await.expect_problem(429, "overloaded");
    server.kill().await;
    server.restart().await;
    server.shop.order("phone", "f", "k").await.expect_problem(429, "overloaded");
    let seen = server.shop.ticket("e", &last).await.expect(200);
    assert_eq!(seen.number("position"), 5, "{}", seen.text);
    let messages = server.shop.orders(1, 5_000).await;
    server.shop.ack("orders", "order-workers", &messages).await;
    let seen = server.shop.ticket("e", &last).await.expect(200);
    assert_eq!(seen.number("position"), 4, "{}", seen.text);
}

#[tokio::test]
async fn a_gate_that_is_off_lets_everybody_wait() {
    let settings = with_gate(1).value("admission.wait.enabled", "false");
    let server = Server::start_with(settings).await;
    server.shop.open("phone", &Sale::of(100)).await;
    for buyer in 0..50 {
        server.shop.order("phone", &format!("b{buyer}"), "k").await.expect(202);
    }
}
