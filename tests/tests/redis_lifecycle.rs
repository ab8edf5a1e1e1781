//! Transitions race across two gateways: each order comes to exactly one end, its unit to exactly one place.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::collections::HashSet;
use tidegate_tests::{Fleet, Reply, Sale, Shop, eventually};
use tokio::task::JoinSet;

const ROUNDS: u64 = 60;

/// A transition that is repeated until its outcome is known.
async fn surely(shop: &Shop, ticket: &str, verb: &str, value: &str) -> Reply {
    eventually(&format!("{verb} is answered"), || async {
        let reply = shop.transition(ticket, verb, value).await;
        (reply.status != 503).then_some(reply)
    })
    .await
}

/// All events of the fleet so far, those of both logs.
async fn events(fleet: &Fleet, group: &str) -> Vec<serde_json::Value> {
    let mut all = Vec::new();
    for shop in fleet.shops() {
        loop {
            let messages = shop.receive("order-events", group, 1_024, 300).await;
            if messages.is_empty() {
                break;
            }
            shop.ack("order-events", group, &messages).await;
            all.extend(messages.iter().map(|message| message["body"].clone()));
        }
    }
    all
}

/// Every ticket's versions follow each other without a gap and agree wherever they stand, and at most one of them is
/// an end.
fn assert_one_end_each(events: &[serde_json::Value], tickets: &HashSet<String>) {
    const ENDS: [&str; 6] = ["paid", "cancelled", "expired", "rejected", "dropped", "failed"];
    for ticket in tickets {
        let mut steps: Vec<(u64, &str)> = events
            .iter()
            .filter(|event| event["ticket"] == **ticket && event["refund_required"] != json!(true))
            .map(|event| (event["version"].as_u64().unwrap(), event["to"].as_str().unwrap()))
            .collect();
        steps.sort_unstable();
        steps.dedup();
        let versions: Vec<u64> = steps.iter().map(|step| step.0).collect();
        assert_eq!(versions, (2..2 + versions.len() as u64).collect::<Vec<_>>(), "{ticket}: {steps:?}");
        let ends = steps.iter().filter(|step| ENDS.contains(&step.1)).count();
        assert_eq!(ends, 1, "{ticket}: {steps:?}");
    }
}

#[tokio::test]
async fn fm19_fm14_fm17_payment_against_the_pay_timer_and_late_money_is_told_of() {
    let (_redis, fleet) = Fleet::two().await;
    fleet.open("phone", &Sale::of(ROUNDS).with("pay_window_ms", 700)).await;
    let mut running = JoinSet::new();
    for n in 0..ROUNDS {
        let [a, b] = [fleet.shop((n % 2) as usize), fleet.shop(((n + 1) % 2) as usize)];
        running.spawn(async move {
            let buyer = format!("b{n}");
            let ticket = a.insist("phone", &buyer, "k").await;
            let pay_by = surely(&b, &ticket, "created", "row").await.expect(200).number("pay_by_ms");
            // Around the moment at which the timer fires, a little earlier or later each time.
            let clock = tidegate_queue::SystemClock::new();
            let at = pay_by - 20 + n % 8 * 5;
            eventually("the moment", || async {
                (tidegate_queue::Clock::now_ms(&clock) >= at).then_some(())
            })
            .await;
            let paid = surely(&b, &ticket, "paid", "money").await;
            let status = if paid.status == 200 { "paid" } else { "expired" };
            if paid.status != 200 {
                let paid = paid.expect_problem(409, "wrong-state");
                assert_eq!(paid.json["refund_required"], json!(true), "{}", paid.text);
            }
            a.until(&buyer, &ticket, status).await;
            assert_eq!(b.ticket(&buyer, &ticket).await.str("status"), status);
            (ticket, status)
        });
    }
    let (mut paid, mut late) = (HashSet::new(), HashSet::new());
    while let Some(ended) = running.join_next().await {
        let (ticket, status) = ended.unwrap();
        if status == "paid" {
            paid.insert(ticket)
        } else {
            late.insert(ticket)
        };
    }
    println!("{} were paid in time, {} too late", paid.len(), late.len());
    // Those that are certain: long after the end.
    let shop = fleet.shop(1);
    shop.inner
        .post("/v1/sales/phone/restock", &[], &json!({"restock_id": "one", "quantity": 1}))
        .await
        .expect(200);
    let ticket = fleet.shop(0).insist("phone", "last", "k").await;
    fleet.shop(0).transition(&ticket, "created", "row").await.expect(200);
    shop.until("last", &ticket, "expired").await;
    for shop in fleet.shops() {
        let reply = surely(&shop, &ticket, "paid", "late").await.expect_problem(409, "wrong-state");
        assert_eq!(reply.json["refund_required"], json!(true));
    }
    late.insert(ticket);
    let audit = fleet.audit("phone").await;
    assert_eq!((audit.number("sold"), audit.number("held")), (paid.len() as u64, 0));
    assert_eq!(audit.number("available"), ROUNDS + 1 - paid.len() as u64);
    let events = events(&fleet, "watchers").await;
    assert_one_end_each(&events, &paid.union(&late).cloned().collect());
    for ticket in &late {
        let told = events.iter().filter(|e| e["ticket"] == **ticket && e["refund_required"] == json!(true));
        assert!(told.count() >= 1, "nobody is told of the late money of {ticket}");
    }
}

#[tokio::test]
async fn fm19_payment_against_cancellation_ends_in_one_of_them() {
    let (_redis, fleet) = Fleet::two().await;
    fleet.open("phone", &Sale::of(ROUNDS)).await;
    let mut running = JoinSet::new();
    for n in 0..ROUNDS {
        let [a, b] = [fleet.shop((n % 2) as usize), fleet.shop(((n + 1) % 2) as usize)];
        running.spawn(async move {
            let buyer = format!("b{n}");
            let ticket = a.insist("phone", &buyer, "k").await;
            surely(&a, &ticket, "created", "row").await.expect(200);
            let (paid, cancelled) =
                tokio::join!(surely(&a, &ticket, "paid", "money"), surely(&b, &ticket, "cancelled", "buyer"));
            let end = match (paid.status, cancelled.status) {
                (200, 409) => "paid",
                (409, 200) => "cancelled",
                other => panic!("{other:?}: {} {}", paid.text, cancelled.text),
            };
            if end == "cancelled" {
                assert_eq!(paid.json["refund_required"], json!(true), "{}", paid.text);
            }
            for shop in [&a, &b] {
                assert_eq!(shop.ticket(&buyer, &ticket).await.str("status"), end);
            }
            (ticket, end)
        });
    }
    let (mut tickets, mut paid) = (HashSet::new(), 0);
    while let Some(ended) = running.join_next().await {
        let (ticket, end) = ended.unwrap();
        paid += u64::from(end == "paid");
        tickets.insert(ticket);
    }
    println!("{paid} of {ROUNDS} were paid");
    let audit = fleet.audit("phone").await;
    assert_eq!(
        (audit.number("sold"), audit.number("held"), audit.number("available")),
        (paid, 0, ROUNDS - paid)
    );
    assert_one_end_each(&events(&fleet, "watchers").await, &tickets);
}

#[tokio::test]
async fn fm45_created_against_the_deadline_is_either_the_workers_or_dropped() {
    let (_redis, fleet) = Fleet::two().await;
    fleet.open("phone", &Sale::of(ROUNDS).with("order_deadline_ms", 900)).await;
    let mut running = JoinSet::new();
    for n in 0..ROUNDS {
        let [a, b] = [fleet.shop((n % 2) as usize), fleet.shop(((n + 1) % 2) as usize)];
        running.spawn(async move {
            let buyer = format!("b{n}");
            let ticket = a.insist("phone", &buyer, "k").await;
            let deadline = b.ticket(&buyer, &ticket).await.expect(200).number("deadline_ms");
            let clock = tidegate_queue::SystemClock::new();
            let at = deadline - 20 + n % 8 * 5;
            eventually("the moment", || async {
                (tidegate_queue::Clock::now_ms(&clock) >= at).then_some(())
            })
            .await;
            let created = surely(&b, &ticket, "created", "row").await;
            if created.status == 200 {
                assert_eq!(a.ticket(&buyer, &ticket).await.str("status"), "awaiting_payment");
                surely(&a, &ticket, "paid", "money").await.expect(200);
                // The worker had written its row and died before it could tell: the next one tells the same.
                surely(&b, &ticket, "created", "row").await.expect(200);
                return (ticket, true);
            }
            created.expect_problem(409, "wrong-state");
            a.until(&buyer, &ticket, "dropped").await;
            assert_eq!(surely(&a, &ticket, "created", "row").await.status, 409, "the row must be undone");
            (ticket, false)
        });
    }
    let (mut tickets, mut paid) = (HashSet::new(), 0);
    while let Some(ended) = running.join_next().await {
        let (ticket, in_time) = ended.unwrap();
        paid += u64::from(in_time);
        tickets.insert(ticket);
    }
    println!("{paid} of {ROUNDS} were created in time");
    let audit = fleet.audit("phone").await;
    assert_eq!(
        (audit.number("sold"), audit.number("held"), audit.number("available")),
        (paid, 0, ROUNDS - paid)
    );
    assert_one_end_each(&events(&fleet, "watchers").await, &tickets);
}

#[tokio::test]
async fn fm14_an_order_that_always_fails_becomes_a_dead_letter_and_its_unit_comes_back() {
    let (_redis, fleet) = Fleet::two().await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    let group = json!({ "max_attempts": 2, "retry_delays_ms": [10] });
    for shop in fleet.shops() {
        let path = "/v1/topics/orders/groups/order-workers";
        shop.inner.send("PUT", path, &[], group.to_string().as_bytes()).await.expect(200);
    }
    fleet.open("phone", &Sale::of(3)).await;
    let ticket = a.win("phone", "ann").await;
    for _ in 0..2 {
        let messages = a.orders(1, 10_000).await;
        assert_eq!(messages[0]["body"]["ticket"], *ticket);
        let receipts = json!({ "receipts": [messages[0]["receipt"]] });
        a.inner.post("/v1/topics/orders/groups/order-workers/nack", &[], &receipts).await.expect(200);
    }
    b.until("ann", &ticket, "failed").await;
    assert_eq!(fleet.audit("phone").await.number("available"), 3);
    assert!(b.orders(1, 0).await.is_empty());
}

#[tokio::test]
async fn fm13_fm15_fm55_restock_and_create_count_once_on_both_gateways_mid_sale() {
    let (_redis, fleet) = Fleet::two().await;
    fleet.open("phone", &Sale::of(20)).await;
    let mut running = JoinSet::new();
    for n in 0..40 {
        let shop = fleet.shop(n % 2);
        running.spawn(async move {
            // Buyers who come for the first 20 units and for those that are added.
            eventually("a unit", || async {
                let reply = shop.order("phone", &format!("b{n}"), "k").await;
                assert!(matches!(reply.status, 202 | 410 | 503), "{}", reply.text);
                (reply.status == 202).then_some(())
            })
            .await;
        });
    }
    for n in 0..16 {
        let shop = fleet.shop(n % 2);
        running.spawn(async move {
            let id = format!("delivery-{}", n / 8);
            eventually("the restock is known", || async {
                let body = json!({ "restock_id": id, "quantity": 10 });
                let reply = shop.inner.post("/v1/sales/phone/restock", &[], &body).await;
                assert!(matches!(reply.status, 200 | 503), "{}", reply.text);
                (reply.status == 200).then_some(())
            })
            .await;
            let body = json!({ "item": "thing", "stock": 20 }).to_string();
            shop.inner.send("PUT", "/v1/sales/phone", &[], body.as_bytes()).await.expect(200);
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    for shop in fleet.shops() {
        let body = json!({ "restock_id": "delivery-0", "quantity": 11 });
        let reply = shop.inner.post("/v1/sales/phone/restock", &[], &body).await;
        reply.expect_problem(409, "restock-mismatch");
        let body = json!({ "item": "thing", "stock": 21 }).to_string();
        let reply = shop.inner.send("PUT", "/v1/sales/phone", &[], body.as_bytes()).await;
        reply.expect_problem(409, "stock-already-set");
        shop.until_state("phone", "sold_out").await;
    }
    let audit = fleet.audit("phone").await;
    assert_eq!((audit.number("initial"), audit.number("restocked"), audit.number("held")), (20, 20, 40));
}
