//! What a gateway's log is kept for, with the ledger in Redis.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use tidegate_stock::testing::redis::RedisServer;
use tidegate_tests::{Fleet, FleetSettings, Sale, Shop, eventually};

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
        let reply = shop
            .public
            .post(&format!("/v1/sales/{sale}/orders"), &[("x-user-id", &*buyer)], &attributes)
            .await;
        tickets.push(reply.expect(202).str("ticket").to_owned());
    }
    tickets
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
    fleet.open("old", &Sale::of(1_000)).await;
    let old = sell(&a, "old", "o", 40).await;
    fleet.open("phone", &Sale::of(1_000).with("order_deadline_ms", 3_600_000)).await;
    let mut kept = sell(&a, "phone", "k", 5).await;
    kept.extend(sell(&b, "phone", "l", 5).await);
    a.work_off().await;
    reject(&a, &old).await;
    let more = sell(&a, "phone", "m", 40).await;
    kept.extend(more);
    assert_eq!(segments(&fleet, 0)[0], format!("{:020}", 0), "everything is kept for the sale that sells");

    // What belongs to the old sale alone may go when that is closed; the other one holds the rest.
    a.close("old").await;
    eventually("the old sale is at rest on both", || async {
        for shop in [&a, &b] {
            let reply = shop.inner.post("/v1/sales/old/open", &[], &json!({})).await;
            if reply.status != 400 {
                assert_eq!(reply.status, 200, "{}", reply.text);
                shop.close("old").await;
                return None;
            }
        }
        Some(())
    })
    .await;
    a.work_off().await;
    let grown = std::cell::Cell::new(0);
    eventually("the first files of the log are gone", || async {
        // Snapshots are made as the log grows.
        grown.set(grown.get() + 1);
        sell(&a, "phone", &format!("n{}", grown.get()), 3).await;
        (segments(&fleet, 0)[0] != format!("{:020}", 0)).then_some(())
    })
    .await;
    a.work_off().await;

    // All that is unsettled comes back; who belongs to the fleet is known without the log's beginning.
    let before = fleet.audit("phone").await;
    for gateway in &mut fleet.gateways {
        gateway.kill().await;
    }
    redis.command(&["FLUSHALL"]);
    fleet.gateways[0].relaunch();
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
    a.order("old", "late", "k").await.expect_problem(409, "sale-closed");
}
