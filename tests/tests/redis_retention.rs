//! What a gateway's log is kept for, with the ledger in Redis.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use tidegate_stock::testing::redis::RedisServer;
use tidegate_tests::{BOUND, Fleet, FleetSettings, Sale, Shop, eventually, eventually_within};

fn settings(redis: &RedisServer) -> FleetSettings {
    FleetSettings::new()
        .at(redis.port())
        .other("data.segment_bytes", "65536")
        .other("data.snapshot_bytes", "65536")
        .other("data.retention_ms", "1000")
}

/// Orders of so many buyers, each with what makes its record large, worked off; their tickets.
async fn sell(shop: &Shop, sale: &str, prefix: &str, count: usize) -> Vec<String> {
    let attributes = json!({ "attributes": { "note": "x".repeat(4_000) } });
    let mut tickets = Vec::new();
    for n in 0..count {
        let buyer = format!("{prefix}-{n}");
        let (headers, path) =
            ([("x-user-id", &*buyer), ("idempotency-key", "k")], format!("/v1/sales/{sale}/orders"));
        // Files so small are now and then not ready ahead of the orders.
        let ticket = eventually("the order is taken", || async {
            let reply = shop.public.post(&path, &headers, &attributes).await;
            assert!(matches!(reply.status, 202 | 503), "{}", reply.text);
            (reply.status == 202).then(|| reply.str("ticket").to_owned())
        });
        tickets.push(ticket.await);
    }
    tickets
}

/// All orders that wait are dealt with, and their tickets stay as they are.
async fn ack_all(shop: &Shop) {
    loop {
        let orders = shop.orders(32, 200).await;
        if orders.is_empty() {
            return;
        }
        shop.ack("orders", "order-workers", &orders).await;
    }
}

async fn reject(shop: &Shop, tickets: &[String]) {
    for ticket in tickets {
        eventually("the ticket is rejected", || async {
            (shop.transition(ticket, "rejected", "no").await.status == 200).then_some(())
        })
        .await;
    }
}

/// Names of the log's files.
fn segments(fleet: &Fleet, gateway: usize) -> Vec<String> {
    let folder = fleet.gateways[gateway].settings.data_dir().join("commitlog");
    let names =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.len() == 20).collect();
    names.sort();
    names
}

#[tokio::test]
async fn fm49_a_settled_sale_is_let_go_and_what_is_not_settled_comes_back_from_the_logs_that_are_left() {
    let redis = RedisServer::start();
    let mut fleet = Fleet::start_with(&[settings(&redis), settings(&redis)]).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("old", &Sale::of(1_000_000).with("order_deadline_ms", 3_600_000)).await;
    let old = sell(&a, "old", "o", 40).await;
    fleet.open("phone", &Sale::of(1_000_000).with("order_deadline_ms", 3_600_000)).await;
    let mut kept = sell(&a, "phone", "k", 5).await;
    kept.extend(sell(&b, "phone", "l", 5).await);
    ack_all(&a).await;
    reject(&a, &old).await;
    let more = sell(&a, "phone", "m", 40).await;
    kept.extend(more);
    assert_eq!(segments(&fleet, 0)[0], format!("{:020}", 0), "everything is kept for the sale that sells");

    // What belongs to the old sale alone may go when that is closed; the other one holds the rest.
    a.close("old").await;
    eventually("the old sale is at rest", || async {
        (redis.count(&["HEXISTS", "tidegate:1:{old}:s", "over"]) == 1).then_some(())
    })
    .await;
    for shop in [&a, &b] {
        let refused = shop.inner.post("/v1/sales/old/open", &[], &json!({})).await.expect(400);
        assert!(refused.text.contains("over for good"), "{}", refused.text);
    }
    ack_all(&a).await;
    let grown = std::cell::Cell::new(0);
    eventually_within(BOUND * 4, "the first files of the log are gone", || async {
        // Snapshots are made as the log grows.
        grown.set(grown.get() + 1);
        sell(&a, "phone", &format!("n{}", grown.get()), 3).await;
        (segments(&fleet, 0)[0] != format!("{:020}", 0)).then_some(())
    })
    .await;
    ack_all(&a).await;

    // All that is unsettled comes back; who belongs to the fleet is known without the log's beginning.
    let before = fleet.audit("phone").await;
    for gateway in &mut fleet.gateways {
        gateway.kill().await;
    }
    redis.command(&["FLUSHALL"]);
    fleet.gateways[0].relaunch();
    eventually("it listens", || async {
        a.inner.try_send("GET", "/healthz", &[], b"").await.is_ok().then_some(())
    })
    .await;
    let missing = fleet.gateways[1].gateway_id();
    fleet.until_waits_for("phone", &missing).await;
    fleet.gateways[1].restart().await;
    fleet.until_open("phone").await;
    let after = fleet.audit("phone").await;
    assert_eq!(after.json, before.json);
    for (n, ticket) in kept.iter().enumerate() {
        assert_ne!(
            fleet.shop(n % 2).transition(ticket, "created", "row").await.status,
            404,
            "{ticket} is lost"
        );
    }
    a.inner.post("/v1/sales/old/open", &[], &json!({})).await.expect(400);
    a.order("old", "late", "k").await.expect_problem(410, "sale-closed");
}
