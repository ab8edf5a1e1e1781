//! Redis is slow, stutters, or is down: what clients are told meanwhile, and what is left afterwards.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegate_tests::{Fleet, Reply, Sale, eventually};
use tokio::task::JoinSet;

/// What a buyer waits at most when Redis does not answer, by the issue.
const PROMISE: Duration = Duration::from_millis(300);
/// For a test machine that has other things to do.
const MARGIN: Duration = Duration::from_millis(700);

/// Sends so many orders at once to each gateway; the answers, and how long each took.
async fn press(fleet: &Fleet, sale: &str, prefix: &str, count: usize) -> Vec<(Reply, Duration)> {
    let mut presses = Vec::new();
    for n in 0..count {
        for (index, shop) in fleet.shops().into_iter().enumerate() {
            let (sale, buyer) = (sale.to_owned(), format!("{prefix}-{index}-{n}"));
            presses.push(tokio::spawn(async move {
                let began = Instant::now();
                let reply = shop.order(&sale, &buyer, "k").await;
                (reply, began.elapsed())
            }));
        }
    }
    let mut replies = Vec::new();
    for press in presses {
        replies.push(press.await.unwrap());
    }
    replies
}

fn most(replies: &[(Reply, Duration)]) -> Duration {
    replies.iter().map(|(_, took)| *took).max().unwrap()
}

#[tokio::test]
async fn fm04_fm05_a_redis_that_does_not_answer_costs_a_503_and_nothing_hangs() {
    let (redis, fleet) = Fleet::two().await;
    fleet.open("phone", &Sale::of(10_000)).await;
    fleet.open("gone", &Sale::of(1)).await;
    fleet.shop(0).win("gone", "ann").await;
    for shop in fleet.shops() {
        shop.until_state("gone", "sold_out").await;
    }
    fleet.sells_again("phone", "before").await;
    redis.pause();
    for round in 0..6 {
        let replies = press(&fleet, "phone", &format!("slow-{round}"), 50).await;
        println!(
            "round {round}: slowest answer of {}: {:?} (promised: {PROMISE:?})",
            replies.len(),
            most(&replies)
        );
        for (reply, took) in &replies {
            assert_eq!(reply.status, 503, "{}", reply.text);
            assert!(reply.retry_after_s() >= 1);
            assert!(*took < PROMISE + MARGIN, "{took:?}: {}", reply.text);
        }
        let sold_out = press(&fleet, "gone", &format!("late-{round}"), 20).await;
        for (reply, _) in sold_out {
            reply.expect_problem(410, "sold-out");
        }
    }
    redis.resume();
    fleet.sells_again("phone", "after").await;
    // Every buyer who was told "not known yet" gets one ticket with the same key, from either gateway.
    let mut tickets = HashMap::new();
    for round in 0..6 {
        for n in 0..50 {
            for index in 0..2 {
                let buyer = format!("slow-{round}-{index}-{n}");
                let ticket = fleet.shop(index).insist("phone", &buyer, "k").await;
                tickets.insert(buyer, ticket);
            }
        }
    }
    for (buyer, ticket) in tickets.iter().take(40) {
        assert_eq!(fleet.shop(1).insist("phone", buyer, "k").await, *ticket);
    }
    let audit = fleet.audit("phone").await;
    assert_eq!(audit.number("held"), 600 + 4, "one unit a buyer");
}

#[tokio::test]
async fn a_redis_that_is_down_costs_a_503_and_the_sale_heals_by_itself() {
    let (mut redis, fleet) = Fleet::two().await;
    fleet.open("phone", &Sale::of(1_000)).await;
    fleet.sells_again("phone", "before").await;
    redis.kill();
    for round in 0..5 {
        let replies = press(&fleet, "phone", &format!("down-{round}"), 20).await;
        println!("round {round}: slowest answer: {:?} (promised: {PROMISE:?})", most(&replies));
        for (reply, took) in &replies {
            assert_eq!(reply.status, 503, "{}", reply.text);
            assert!(reply.retry_after_s() >= 1);
            assert!(*took < PROMISE + MARGIN, "{took:?}: {}", reply.text);
        }
    }
    // It kept nothing on disk: what comes back is empty.
    redis.restart();
    fleet.sells_again("phone", "after").await;
    assert_eq!(fleet.audit("phone").await.number("held"), 4);
}

#[tokio::test]
async fn fm04_a_redis_that_stutters_loses_and_doubles_nothing() {
    const BUYERS: u64 = 300;
    const PRESSING: u64 = 16;
    let (redis, fleet) = Fleet::two().await;
    fleet.open("phone", &Sale::of(10_000)).await;
    let (next, won, refused) = <(Arc<AtomicU64>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
    let mut crowd = JoinSet::new();
    for _ in 0..PRESSING {
        let (shops, next, won, refused) = (fleet.shops(), next.clone(), won.clone(), refused.clone());
        crowd.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::SeqCst);
                if n >= BUYERS {
                    return;
                }
                // The same key again and again, at one gateway and at the other, until it is known.
                let press = AtomicU64::new(n);
                eventually("the buyer is answered", || async {
                    let shop = &shops[press.fetch_add(1, Ordering::SeqCst) as usize % 2];
                    let reply = shop.order("phone", &format!("b{n}"), "k").await;
                    if reply.status == 202 {
                        won.fetch_add(1, Ordering::SeqCst);
                        return Some(());
                    }
                    assert_eq!(reply.status, 503, "{}", reply.text);
                    refused.fetch_add(1, Ordering::SeqCst);
                    None
                })
                .await;
            }
        });
    }
    let more = async |count: &AtomicU64, by: u64| {
        let least = count.load(Ordering::SeqCst) + by;
        eventually("it goes on", || async { (count.load(Ordering::SeqCst) >= least).then_some(()) }).await;
    };
    let mut stops = 0;
    while won.load(Ordering::SeqCst) + 40 < BUYERS {
        redis.pause();
        more(&refused, 1).await;
        redis.resume();
        more(&won, 20).await;
        stops += 1;
    }
    while let Some(ended) = crowd.join_next().await {
        ended.unwrap();
    }
    println!("{stops} stops, {} presses refused", refused.load(Ordering::SeqCst));
    assert!(stops >= 5);
    for n in 0..BUYERS {
        let buyer = format!("b{n}");
        for shop in fleet.shops() {
            let held = eventually("the tickets are told", || shop.tickets_of("phone", &buyer)).await;
            assert_eq!(held.len(), 1, "{held:?}");
        }
    }
    assert_eq!(fleet.audit("phone").await.number("held"), BUYERS, "one unit a buyer");
}

#[tokio::test]
async fn fm05_every_kind_of_request_is_answered_while_redis_is_silent() {
    let (redis, fleet) = Fleet::two().await;
    fleet.open("phone", &Sale::of(100)).await;
    let ticket = fleet.shop(0).win("phone", "ann").await;
    let (ticket, sale) = (format!("/v1/tickets/{ticket}"), "/v1/sales/phone");
    let receive = "/v1/topics/orders/groups/order-workers/receive";
    // What needs no Redis is answered as ever; a worker who waits for orders may be told that there are none.
    let requests: Vec<(Side, &str, String, Value, &[u16])> = vec![
        (Side::Public, "GET", sale.to_owned(), json!(null), &[200]),
        (Side::Inner, "GET", "/v1/gateways".to_owned(), json!(null), &[200]),
        (Side::Inner, "GET", "/metrics".to_owned(), json!(null), &[200]),
        (Side::Inner, "GET", "/healthz".to_owned(), json!(null), &[200]),
        (Side::Inner, "GET", "/readyz".to_owned(), json!(null), &[200, 503]),
        (Side::Inner, "POST", receive.to_owned(), json!({ "wait_ms": 100 }), &[200, 503]),
        (Side::Public, "POST", format!("{sale}/orders"), json!({}), &[503]),
        (Side::Public, "GET", format!("{sale}/tickets"), json!(null), &[503]),
        (Side::Public, "GET", ticket.clone(), json!(null), &[503]),
        (Side::Public, "GET", format!("{ticket}?wait=1"), json!(null), &[503]),
        (Side::Inner, "POST", format!("{ticket}/created"), json!({ "order_id": "row" }), &[503]),
        (Side::Inner, "POST", format!("{ticket}/paid"), json!({ "payment_id": "money" }), &[503]),
        (Side::Inner, "POST", format!("{ticket}/cancelled"), json!({ "reason": "none" }), &[503]),
        (Side::Inner, "POST", format!("{ticket}/rejected"), json!({ "reason": "none" }), &[503]),
        (Side::Inner, "GET", "/v1/sales".to_owned(), json!(null), &[503]),
        (Side::Inner, "GET", sale.to_owned(), json!(null), &[503]),
        (Side::Inner, "PUT", "/v1/sales/other".to_owned(), json!({ "item": "thing", "stock": 5 }), &[503]),
        (Side::Inner, "POST", format!("{sale}/open"), json!({}), &[503]),
        (Side::Inner, "POST", format!("{sale}/restock"), json!({ "restock_id": "r", "quantity": 7 }), &[503]),
        (Side::Inner, "GET", format!("{sale}/audit"), json!(null), &[503]),
        (Side::Inner, "GET", "/v1/audit".to_owned(), json!(null), &[503]),
        (Side::Inner, "GET", format!("{sale}/recovery"), json!(null), &[503]),
        (Side::Inner, "GET", format!("{sale}/excess"), json!(null), &[503]),
    ];
    redis.pause();
    for round in 0..4 {
        let mut slowest = Duration::ZERO;
        let mut running = JoinSet::new();
        // All at once, at the gateway that sold the ticket and at the one that has never heard of it.
        for shop in fleet.shops() {
            for (side, method, path, body, expected) in requests.clone() {
                let http = if side == Side::Public { shop.public.clone() } else { shop.inner.clone() };
                running.spawn(async move {
                    let headers = [("x-user-id", "ann"), ("idempotency-key", "other")];
                    let body = if body.is_null() { String::new() } else { body.to_string() };
                    let began = Instant::now();
                    let reply = http.send(method, &path, &headers, body.as_bytes()).await;
                    (format!("{method} {path}"), reply, expected, began.elapsed())
                });
            }
        }
        while let Some(ended) = running.join_next().await {
            let (what, reply, expected, took) = ended.unwrap();
            assert!(expected.contains(&reply.status), "{what}: {} {}", reply.status, reply.text);
            if reply.status == 503 {
                assert!(reply.retry_after_s() >= 1, "{what}");
            }
            // A question has no outcome that could be open, and the queue is fine.
            if reply.status == 503 && what.starts_with("GET") && !what.ends_with("/readyz") {
                assert_eq!(reply.str("type"), "ledger-unavailable", "{what}: {}", reply.text);
            }
            assert!(took < PROMISE + MARGIN, "{what}: {took:?} {}", reply.text);
            slowest = slowest.max(took);
        }
        println!("round {round}: slowest answer: {slowest:?} (promised: {PROMISE:?})");
    }
    for shop in fleet.shops() {
        eventually("a load balancer is told", || async {
            (shop.inner.get("/readyz", &[]).await.status == 503).then_some(())
        })
        .await;
    }
    redis.resume();
    fleet.sells_again("phone", "after").await;
    // Whatever of it Redis did after all: a repeat makes it true, once.
    let body = json!({ "restock_id": "r", "quantity": 7 });
    eventually("the restock is known", || async {
        let reply = fleet.shop(1).inner.post(&format!("{sale}/restock"), &[], &body).await;
        (reply.status == 200).then_some(())
    })
    .await;
    assert_eq!(fleet.audit("phone").await.number("restocked"), 7);
}

/// A gateway's listeners.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    Public,
    Inner,
}
