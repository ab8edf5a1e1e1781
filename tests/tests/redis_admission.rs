//! What bounds how much is let through, on several gateways: tokens, limits and counts, over clocks that are set back,
//! gateways that die, and a Redis that was away.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegate_queue::storage::DiskStorage;
use tidegate_queue::{Clock, SystemClock};
use tidegate_stock::testing::redis::RedisServer;
use tidegate_tests::{Fleet, FleetSettings, InProcess, Sale, eventually, eventually_within};
use tokio::task::JoinSet;

/// A clock that is set back a minute, and right again, again and again.
struct SetBack {
    right: SystemClock,
    by_ms: AtomicU64,
}

impl Clock for SetBack {
    fn now_ms(&self) -> u64 {
        self.right.now_ms() - self.by_ms.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm21_clocks_that_are_set_back_issue_no_more_tokens() {
    const RATE: u64 = 40;
    const BURST: u64 = 10;
    let redis = RedisServer::start();
    let settings = FleetSettings::new()
        .at(redis.port())
        .other("admission.tokens.rate_per_s", &RATE.to_string())
        .other("admission.tokens.burst", &BURST.to_string())
        .other("admission.tokens.max_wait_ms", "0")
        .other("listen.drain_ms", "200");
    let mut gateways = Vec::new();
    for _ in 0..2 {
        let settings = settings.gateway();
        let clock = Arc::new(SetBack { right: SystemClock::new(), by_ms: AtomicU64::new(0) });
        let storage = Arc::new(DiskStorage::new(settings.data_dir()).unwrap());
        let gateway = InProcess::start_at(&settings, storage, clock.clone()).await;
        gateways.push((gateway, clock, settings));
    }
    gateways[0].0.shop.open("phone", &Sale::of(100_000)).await;
    for (index, (gateway, clock, _settings)) in gateways.iter().enumerate() {
        gateway.shop.until_state("phone", "open").await;
        let (began, mut passed, mut asked) = (Instant::now(), 0, 0_u64);
        while began.elapsed() < Duration::from_secs(1) {
            clock.by_ms.store(asked % 2 * 60_000, Ordering::SeqCst);
            let reply = gateway.shop.order("phone", &format!("b{index}-{asked}"), "k").await;
            asked += 1;
            if reply.status == 202 {
                passed += 1;
            } else {
                assert_eq!(reply.status, 429, "{}", reply.text);
            }
        }
        let most = (began.elapsed().as_secs_f64() * RATE as f64).ceil() as u64 + BURST;
        println!("{passed} of {asked} passed, at most {most} may");
        assert!((BURST..=most).contains(&passed), "{passed} passed, at most {most} may");
    }
    for (gateway, ..) in gateways {
        gateway.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn fm22_a_buyers_limit_is_read_and_written_in_one_step() {
    const LIMIT: u64 = 3;
    const KEYS: u64 = 24;
    let (_redis, fleet) = Fleet::two().await;
    fleet.open("phone", &Sale::of(1_000).with("per_buyer_limit", LIMIT)).await;
    for buyer in ["ann", "bob", "eve", "joe"] {
        let mut presses = JoinSet::new();
        for key in 0..KEYS {
            let shop = fleet.shop((key % 2) as usize);
            presses.spawn(async move { shop.order("phone", buyer, &format!("k{key}")).await });
        }
        let mut won = 0;
        while let Some(reply) = presses.join_next().await {
            let reply = reply.unwrap();
            if reply.status == 202 {
                won += 1;
            } else {
                reply.expect_problem(409, "limit-reached");
            }
        }
        assert_eq!(won, LIMIT, "{buyer}");
    }
    assert_eq!(fleet.audit("phone").await.number("held"), LIMIT * 4);
}

#[tokio::test]
async fn fm23_a_gateway_that_dies_leaves_no_unit_held_and_no_buyer_at_their_limit() {
    const BUYERS: u64 = 40;
    let (_redis, mut fleet) = Fleet::two().await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("phone", &Sale::of(BUYERS).with("order_deadline_ms", 1_000)).await;
    for round in 0..3 {
        let answered = Arc::new(AtomicU64::new(0));
        let mut presses = JoinSet::new();
        for n in 0..BUYERS {
            let (a, answered) = (a.clone(), answered.clone());
            presses.spawn(async move {
                let (buyer, key) = (format!("b{n}"), format!("k{round}"));
                let headers = [("x-user-id", &*buyer), ("idempotency-key", &*key)];
                if a.public.try_send("POST", "/v1/sales/phone/orders", &headers, b"").await.is_ok() {
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        eventually("some are answered", || async {
            (answered.load(Ordering::SeqCst) >= round * 5).then_some(())
        })
        .await;
        fleet.gateways[0].kill().await;
        while let Some(ended) = presses.join_next().await {
            ended.unwrap();
        }
        // Nobody works them off: all that the dead gateway had counted is given back.
        eventually("nothing is held", || async {
            let audit = b.audit("phone").await;
            (audit.number("held") == 0 && audit.number("available") == BUYERS).then_some(())
        })
        .await;
        println!("round {round}: {} were answered before the end", answered.load(Ordering::SeqCst));
        for n in 0..BUYERS {
            let ticket = b.insist("phone", &format!("b{n}"), &format!("again-{round}")).await;
            b.transition(&ticket, "rejected", "no").await;
        }
        fleet.gateways[0].restart().await;
    }
    fleet.audit("phone").await;
}

#[tokio::test]
async fn fm53_after_a_lull_in_which_nothing_was_sold_orders_are_let_in_at_the_full_rate() {
    const RATE: u64 = 50;
    let redis = RedisServer::start();
    let settings = FleetSettings::new()
        .at(redis.port())
        .other("admission.tokens.rate_per_s", &RATE.to_string())
        .other("admission.tokens.burst", "5")
        .redis("breaker_pause_ms", "300");
    let fleet = Fleet::start_with(&vec![settings; 2]).await;
    fleet.open("phone", &Sale::of(10_000)).await;
    redis.pause();
    for (index, shop) in fleet.shops().iter().enumerate() {
        // Until calls are refused at once, and nothing at all is sold.
        for n in 0..12 {
            assert_eq!(shop.order("phone", &format!("lull-{index}-{n}"), "k").await.status, 503);
        }
    }
    redis.resume();
    fleet.sells_again("phone", "first").await;
    for (index, shop) in fleet.shops().into_iter().enumerate() {
        let (shop, won, next) = (&shop, &AtomicU64::new(0), &AtomicU64::new(0));
        let began = Instant::now();
        eventually_within(Duration::from_secs(10), "orders are let in again", || async move {
            let buyer = format!("after-{index}-{}", next.fetch_add(1, Ordering::SeqCst));
            if shop.order("phone", &buyer, "k").await.status == 202 {
                won.fetch_add(1, Ordering::SeqCst);
            }
            (won.load(Ordering::SeqCst) >= RATE).then_some(())
        })
        .await;
        println!("gateway {index}: {RATE} orders in {:?}", began.elapsed());
    }
}
