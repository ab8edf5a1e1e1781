//! No room left, in Redis or on one gateway's disk: refused before anything is changed, nothing acknowledged is dropped.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::time::Duration;
use tidegate_queue::storage::FaultyStorage;
use tidegate_stock::testing::redis::RedisServer;
use tidegate_tests::{Fleet, FleetSettings, InProcess, Sale, Server, eventually};

#[tokio::test]
async fn fm16_a_full_redis_refuses_before_it_changes_anything_and_drops_nothing() {
    let (redis, fleet) = Fleet::two().await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("phone", &Sale::of(100).with("order_deadline_ms", 600_000)).await;
    let mut tickets = Vec::new();
    for n in 0..10 {
        tickets.push(fleet.shop(n % 2).win("phone", &format!("b{n}")).await);
    }
    b.transition(&tickets[0], "created", "row").await.expect(200);
    fleet.audit("phone").await;
    let counters = || {
        let counters = ["HMGET", "tidegate:1:{phone}:s", "av", "live", "ret", "sold"];
        format!("{:?}", redis.command(&counters))
    };
    let before = counters();
    redis.command(&["CONFIG", "SET", "maxmemory", "1mb"]);
    for round in 0..3 {
        for shop in fleet.shops() {
            let reply = shop.order("phone", &format!("late-{round}"), "k").await;
            assert_eq!(reply.status, 503, "{}", reply.text);
            assert!(reply.retry_after_s() >= 1);
            for (verb, ticket) in [("created", &tickets[1]), ("paid", &tickets[0]), ("rejected", &tickets[2])]
            {
                let reply = shop.transition(ticket, verb, "x").await;
                assert_eq!(reply.status, 503, "{verb}: {}", reply.text);
            }
        }
    }
    assert_eq!(counters(), before, "something was changed by halves");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    fleet.sells_again("phone", "after").await;
    for (n, ticket) in tickets.iter().enumerate() {
        for shop in fleet.shops() {
            assert_eq!(shop.insist("phone", &format!("b{n}"), "k").await, *ticket);
        }
    }
    eventually("the payment is taken", || async {
        (a.transition(&tickets[0], "paid", "money").await.status == 200).then_some(())
    })
    .await;
    let mut delivered = [a.work_off().await, b.work_off().await].concat();
    for ticket in &tickets[1..] {
        assert!(delivered.contains(ticket), "{ticket} is not delivered");
    }
    delivered.sort();
    delivered.dedup();
    let audit = fleet.audit("phone").await;
    // Those who came late may have bought after all, when their presses were looked into again.
    assert_eq!(audit.number("held") as usize, delivered.len());
    assert_eq!(audit.number("sold"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm16_a_gateway_with_a_full_disk_takes_no_stock_while_another_sells_on() {
    let redis = RedisServer::start();
    let own = FleetSettings::new().at(redis.port());
    let settings = own.clone().gateway().set("data.segment_bytes", 256 << 10).set("listen.drain_ms", 200);
    let disk = FaultyStorage::new(settings.data_dir());
    let full = InProcess::start(&settings, disk.as_storage()).await;
    let other = Server::start_with(own.gateway()).await;
    let (a, b) = (&full.shop, &other.shop);
    a.open("phone", &Sale::of(1_000_000).with("order_deadline_ms", 600_000)).await;
    b.until_state("phone", "open").await;
    let paying = a.win("phone", "payer").await;
    a.transition(&paying, "created", "row").await.expect(200);
    disk.set_quota(Some(disk.used()));
    let attributes = json!({ "attributes": { "note": "x".repeat(2_000) } });
    let mut tickets = vec![paying.clone()];
    let refused = loop {
        let buyer = format!("b{}", tickets.len());
        let headers = [("x-user-id", &*buyer)];
        let reply = a.public.post("/v1/sales/phone/orders", &headers, &attributes).await;
        if reply.status != 202 {
            break reply;
        }
        tickets.push(reply.str("ticket").to_owned());
        assert!(tickets.len() < 5_000, "the disk never became full");
    };
    let refused = refused.expect_problem(503, "queue-unavailable");
    assert!(refused.retry_after_s() >= 1);
    assert_eq!(refused.json["ticket"], Value::Null, "a definite refusal leaves nothing to ask for");
    eventually("a load balancer is told", || async {
        (a.inner.get("/readyz", &[]).await.status == 503).then_some(())
    })
    .await;
    assert_eq!(b.audit("phone").await.number("held") as usize, tickets.len(), "a unit was taken for nobody");
    // The other one sells on, and owed work has its space on the full disk.
    for n in 0..20 {
        tickets.push(b.win("phone", &format!("other-{n}")).await);
    }
    a.transition(&paying, "paid", "money").await.expect(200);
    disk.set_quota(None);
    eventually("orders are taken again", || async {
        (a.order("phone", "late", "k").await.status == 202).then_some(())
    })
    .await;
    let audit = b.audit("phone").await;
    assert_eq!((audit.number("held") as usize, audit.number("sold")), (tickets.len(), 1));
    for ticket in &tickets {
        // Nobody's name: known, but not theirs to see. Transitions tell.
        assert_ne!(b.transition(ticket, "created", "row").await.status, 404, "{ticket} is lost");
    }
    full.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm16_a_log_that_is_behind_refuses_buyers_before_stock_is_taken_for_them() {
    const BUYERS: usize = 600;
    /// Who has no answer after this has won, and waits for the disk.
    const QUIET: Duration = Duration::from_millis(500);
    let redis = RedisServer::start();
    // Nobody else's sweep shall tidy up what this gateway leaves.
    let own = FleetSettings::new().at(redis.port()).redis("claim_after_ms", "60000");
    let settings = own.gateway().set("data.pending_bytes_max", 64 << 10).set("listen.drain_ms", 200);
    let disk = FaultyStorage::new(settings.data_dir());
    let behind = InProcess::start(&settings, disk.as_storage()).await;
    let shop = &behind.shop;
    shop.open("phone", &Sale::of(1_000_000).with("order_deadline_ms", 600_000)).await;
    let mut total = 0;
    for round in 0..3 {
        disk.hold_syncs();
        let mut presses = tokio::task::JoinSet::new();
        for n in 0..BUYERS {
            let shop = shop.clone();
            presses.spawn(async move { shop.order("phone", &format!("b{round}-{n}"), "k").await });
        }
        // While the disk does nothing the log takes what one commit writes, and 64 KiB; the others are refused.
        let mut refused = 0;
        let mut answer = |reply: tidegate_tests::Reply| {
            if reply.status == 202 {
                return 1;
            }
            let refusal = reply.expect_problem(503, "queue-unavailable");
            assert_eq!(refusal.json["ticket"], Value::Null, "stock was taken: {}", refusal.text);
            refused += 1;
            0
        };
        let mut won = 0;
        while let Ok(Some(reply)) = tokio::time::timeout(QUIET, presses.join_next()).await {
            won += answer(reply.unwrap());
        }
        assert_eq!(won, 0, "nothing is told before it is durable");
        assert!(presses.len() < BUYERS, "nobody was refused");
        disk.release_syncs();
        while let Some(reply) = presses.join_next().await {
            won += answer(reply.unwrap());
        }
        assert!(won > 0 && won + refused == BUYERS, "{won} won, {refused} were refused");
        total += won;
        eventually("every note is cleared, and nobody claimed one", || async {
            // One name stays in it for good.
            (redis.count(&["ZCARD", "tidegate:1:{phone}:o"]) == 1).then_some(())
        })
        .await;
        assert_eq!(shop.audit("phone").await.number("held") as usize, total);
    }
    behind.shutdown().await.unwrap();
}
