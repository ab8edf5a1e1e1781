//! What a worker is given, and when: an order waits out every trouble of the ledger, and no attempt is used up by waiting.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidegate_stock::redis::{Fence, Link, Ops};
use tidegate_stock::testing::redis::RedisServer;
use tidegate_tests::{Fleet, FleetSettings, Sale, Shop, eventually, within};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// More than the attempts that a message has.
const REFUSALS: usize = 20;

/// What the worker is told.
enum Polled {
    Messages(Vec<Value>),
    Refused(u16),
}

async fn poll(shop: &Shop, lease_ms: u64) -> Polled {
    let asked = json!({ "max": 32, "wait_ms": 200, "lease_ms": lease_ms }).to_string();
    let path = "/v1/topics/orders/groups/order-workers/receive";
    let reply = shop.inner.try_send("POST", path, &[], asked.as_bytes()).await.unwrap();
    match reply.status {
        200 => Polled::Messages(reply.json["messages"].as_array().unwrap().clone()),
        status => Polled::Refused(status),
    }
}

/// A worker that asks until it has been given so many tickets, and how often it was refused.
fn worker(shop: &Shop, tickets: usize) -> (JoinHandle<Vec<Value>>, Arc<AtomicUsize>) {
    let (shop, refusals) = (shop.clone(), Arc::<AtomicUsize>::default());
    let count = refusals.clone();
    let task = tokio::spawn(async move {
        let mut given = Vec::new();
        while given.len() < tickets {
            match poll(&shop, 30_000).await {
                Polled::Messages(messages) => given.extend(messages),
                Polled::Refused(status) => {
                    assert_eq!(status, 503);
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
        given
    });
    (task, refusals)
}

async fn refused_too_often(refusals: &AtomicUsize) {
    eventually("the worker is refused more often than a message has attempts", || async {
        (refusals.load(Ordering::SeqCst) >= REFUSALS).then_some(())
    })
    .await;
}

/// Each of the tickets, once, as the first attempt.
async fn given(worker: JoinHandle<Vec<Value>>, tickets: &BTreeSet<String>) {
    let messages = within("the worker is given all orders", worker).await.unwrap();
    let text = |message: &Value| message["body"]["ticket"].as_str().unwrap().to_owned();
    assert_eq!(messages.iter().map(text).collect::<BTreeSet<_>>(), *tickets);
    assert_eq!(messages.len(), tickets.len());
    for message in &messages {
        assert_eq!(message["attempt"], 1, "{message}");
    }
}

async fn wins(shop: &Shop, count: usize) -> BTreeSet<String> {
    let mut tickets = BTreeSet::new();
    for n in 0..count {
        tickets.insert(shop.win("phone", &format!("buyer-{n}")).await);
    }
    tickets
}

fn lasting() -> Sale {
    Sale::of(10).with("order_deadline_ms", 120_000)
}

#[tokio::test]
async fn a_pause_of_any_length_uses_up_no_attempts() {
    let redis = RedisServer::start();
    let mut fleet = Fleet::start(&redis, 2).await;
    let a = fleet.shop(0);
    fleet.open("phone", &lasting()).await;
    let tickets = wins(&a, 5).await;
    let away = fleet.gateways[1].gateway_id();
    fleet.gateways[1].kill().await;
    redis.command(&["FLUSHALL"]);
    fleet.until_waits_for("phone", &away).await;
    let (worker, refusals) = worker(&a, 5);
    refused_too_often(&refusals).await;
    fleet.gateways[1].restart().await;
    given(worker, &tickets).await;
    let audit = fleet.audit("phone").await;
    assert_eq!((audit.number("held"), audit.number("returned")), (5, 0));
}

#[tokio::test]
async fn a_redis_that_is_silent_for_long_uses_up_no_attempts() {
    let redis = RedisServer::start();
    let fleet = Fleet::start(&redis, 1).await;
    let a = fleet.shop(0);
    fleet.open("phone", &lasting()).await;
    let tickets = wins(&a, 5).await;
    redis.pause();
    let (worker, refusals) = worker(&a, 5);
    refused_too_often(&refusals).await;
    redis.resume();
    given(worker, &tickets).await;
    let audit = fleet.audit("phone").await;
    assert_eq!((audit.number("held"), audit.number("returned")), (5, 0));
}

/// Leases shorter than a call to Redis may take, and workers that go away before the answer.
#[tokio::test]
async fn short_leases_and_impatient_workers_use_up_no_attempts_either() {
    let redis = RedisServer::start();
    let settings = FleetSettings::new().redis("call_timeout_ms", "400").redis("claim_after_ms", "900");
    let fleet = Fleet::start_with(&[settings.at(redis.port())]).await;
    let a = fleet.shop(0);
    fleet.open("phone", &lasting()).await;
    let tickets = wins(&a, 1).await;
    redis.pause();
    let refused_too_often = async {
        let mut refusals = 0;
        while refusals < REFUSALS {
            let impatient = timeout(Duration::from_millis(100), poll(&a, 20)).await;
            for polled in [impatient.ok(), Some(poll(&a, 20).await)].into_iter().flatten() {
                match polled {
                    Polled::Messages(messages) => assert!(messages.is_empty(), "{messages:?}"),
                    Polled::Refused(_) => refusals += 1,
                }
            }
        }
    };
    within("the workers are refused more often than a message has attempts", refused_too_often).await;
    redis.resume();
    let (worker, _) = worker(&a, 1);
    given(worker, &tickets).await;
}

/// Another gateway adopts, and is lost with Redis before its log has a word of it: only the first one's log is left.
#[tokio::test]
async fn fm52_an_adoption_that_is_in_no_log_yet_settles_no_order() {
    let redis = RedisServer::start();
    // Nobody claims the note before Redis has lost it.
    let settings = FleetSettings::new().redis("claim_after_ms", "60000").at(redis.port());
    let fleet = Fleet::start_with(&[settings]).await;
    let shop = fleet.shop(0);
    fleet.open("phone", &lasting()).await;
    let tickets = wins(&shop, 3).await;
    let options = Arc::new(redis.options());
    let ghost = Ops::new(Link::new(options.clone()), options, "ghost");
    let keys = ghost.keys("phone");
    let meta = ghost.look(&keys).await.unwrap().unwrap();
    let fence = Fence { lineage: meta.lineage, generation: meta.epoch.generation, version: meta.version };
    let gone = fleet.gateways[0].gateway_id();
    let adopted = ghost.adopt(&keys, &fence, &gone, 0, 100).await.unwrap();
    assert_eq!((adopted.claimed.len(), adopted.next), (3, None));
    for _ in 0..REFUSALS {
        match poll(&shop, 30_000).await {
            Polled::Messages(messages) => assert!(messages.is_empty(), "another's to deliver: {messages:?}"),
            Polled::Refused(status) => panic!("{status}"),
        }
    }
    redis.command(&["FLUSHALL"]);
    let (worker, _) = worker(&shop, 3);
    given(worker, &tickets).await;
    let audit = fleet.audit("phone").await;
    assert_eq!((audit.number("held"), audit.number("returned")), (3, 0));
}

/// The order was only in the log of a gateway that is gone, and Redis with it; another gateway's log holds its step.
#[tokio::test]
async fn fm51_a_ticket_whose_order_is_lost_with_a_gateway_and_redis_is_still_paid() {
    let redis = RedisServer::start();
    let mut fleet = Fleet::start(&redis, 2).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("phone", &lasting()).await;
    let ticket = b.win("phone", "ann").await;
    eventually("the other gateway knows the ticket", || async {
        let reply = a.transition(&ticket, "created", "row").await;
        (reply.status != 503).then_some(reply)
    })
    .await
    .expect(200);
    let lost = fleet.gateways[1].gateway_id();
    fleet.gateways[1].kill().await;
    std::fs::remove_dir_all(fleet.gateways[1].settings.data_dir()).unwrap();
    fleet.gateways[0].kill().await;
    redis.command(&["FLUSHALL"]);
    fleet.gateways[0].relaunch();
    eventually("the sale goes on without the lost gateway", || async {
        let without = json!({ "without_gateway": lost }).to_string();
        let path = "/v1/sales/phone/resume";
        let reply = a.inner.try_send("POST", path, &[], without.as_bytes()).await.ok()?;
        (reply.status == 200).then_some(())
    })
    .await;
    a.until_state("phone", "open").await;
    a.until("ann", &ticket, "awaiting_payment").await;
    assert_eq!(a.tickets_of("phone", "ann").await.unwrap().len(), 1);
    let limit = a.order("phone", "ann", "another").await.expect_problem(409, "limit-reached");
    assert_eq!(limit.json["tickets"], json!([ticket]));
    a.transition(&ticket, "paid", "money").await.expect(200);
    let audit = a.audit("phone").await;
    assert_eq!((audit.number("sold"), audit.number("available")), (1, 9));
}
