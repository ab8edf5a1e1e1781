//! Two gateways with one limit: tokens leased from Redis. What they admit together never exceeds rate × time + burst, while
//! one is killed and started again, clocks are stepped, and Redis is away or forgets.
#![allow(clippy::unwrap_used)]

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegate_queue::storage::DiskStorage;
use tidegate_queue::{Clock, SystemClock};
use tidegate_stock::testing::redis::RedisServer;
use tidegate_tests::{Fleet, FleetSettings, InProcess, Sale, Shop, eventually};
use tokio::task::JoinSet;

const RATE: u64 = 150;
const BURST: u64 = 100;

fn settings(redis: &RedisServer) -> FleetSettings {
    FleetSettings::new()
        .at(redis.port())
        .other("admission.tokens.rate_per_s", &RATE.to_string())
        .other("admission.tokens.burst", &BURST.to_string())
        .other("admission.tokens.max_wait_ms", "200")
        .other("admission.tokens.shared", "true")
        .other("listen.drain_ms", "200")
}

/// What a crowd was told: when each admitted order was sent and answered, and how many were sent in all.
#[derive(Clone, Default)]
struct Book {
    admitted: Arc<Mutex<Vec<(Instant, Instant)>>>,
    asked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Book {
    /// So many buyers who order again and again at this gateway, far more often than it may admit.
    fn crowd(&self, presses: &mut JoinSet<()>, shop: &Shop, name: &'static str, buyers: usize) {
        for buyer in 0..buyers {
            let (shop, book) = (shop.clone(), self.clone());
            presses.spawn(async move {
                for round in 0.. {
                    if book.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let buyer = format!("{name}-{buyer}-{round}");
                    let headers = [("x-user-id", &*buyer), ("idempotency-key", "k")];
                    let sent = Instant::now();
                    book.asked.fetch_add(1, Ordering::Relaxed);
                    let reply = shop.public.try_send("POST", "/v1/sales/phone/orders", &headers, b"").await;
                    match reply.map(|reply| reply.status) {
                        Ok(202) => book.admitted.lock().push((sent, Instant::now())),
                        Ok(429) => tokio::time::sleep(Duration::from_millis(20)).await,
                        // The gateway is dead, or Redis away.
                        Ok(503) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                        Ok(status) => panic!("{status}"),
                    }
                }
            });
        }
    }

    fn admitted(&self) -> u64 {
        self.admitted.lock().len() as u64
    }

    /// An order was admitted between the instants at which it was sent and answered. So in no time are more of them both
    /// sent and answered than may be admitted in it.
    fn holds(&self) {
        let mut admitted = self.admitted.lock().clone();
        admitted.sort_unstable_by_key(|(_, answered)| *answered);
        let mut worst = f64::MIN;
        for (from, _) in &admitted {
            let mut count = 0;
            for (_, to) in admitted.iter().filter(|(sent, _)| sent >= from) {
                count += 1;
                let allowed = to.duration_since(*from).as_secs_f64() * RATE as f64 + BURST as f64;
                worst = worst.max(f64::from(count) - allowed);
            }
        }
        println!(
            "{} of {} admitted; the fullest time lacks {:.1} to the bound",
            admitted.len(),
            self.asked.load(Ordering::Relaxed),
            -worst
        );
        assert!(worst <= 0.0, "{worst} more than rate × time + burst");
    }
}

async fn leases(shop: &Shop) -> u64 {
    let metrics = shop.inner.get("/metrics", &[]).await.text;
    let line = metrics.lines().find(|line| line.starts_with("tidegate_token_leases_total")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_with_a_shared_limit_admit_no_more_than_rate_times_time_plus_burst_also_killed() {
    let redis = RedisServer::start();
    let mut fleet = Fleet::start_with(&vec![settings(&redis); 2]).await;
    fleet.open("phone", &Sale::of(1_000_000)).await;
    let (book, mut presses) = (Book::default(), JoinSet::new());
    let began = Instant::now();
    book.crowd(&mut presses, &fleet.shop(0), "a", 40);
    book.crowd(&mut presses, &fleet.shop(1), "b", 40);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, asked, calls) = (
        book.admitted(),
        book.asked.load(Ordering::Relaxed),
        leases(&fleet.shop(0)).await + leases(&fleet.shop(1)).await,
    );
    println!("{before} admitted of {asked} with {calls} calls");
    assert!(before >= RATE, "the limit is used: {before} in two seconds");
    assert!(calls * 3 < asked, "{calls} calls for {asked} requests");
    // It dies with a lot in its hands; the other one has the whole rate. It comes back with nothing.
    for _ in 0..2 {
        fleet.gateways[0].kill().await;
        let alone = book.admitted();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let alone = book.admitted() - alone;
        assert!(alone >= RATE / 2, "fm23: the rate is not lower for ever, {alone} admitted by one");
        fleet.gateways[0].restart().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    book.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = presses.join_next().await {
        ended.unwrap();
    }
    book.holds();
    // Also those whose answers were lost with the gateway.
    let most = (began.elapsed().as_secs_f64() * RATE as f64) as u64 + BURST;
    let held = fleet.audit("phone").await.number("held");
    assert!(held <= most, "{held} held, {most} may");
}

/// A clock that is set back and ahead, again and again.
struct Stepped {
    right: SystemClock,
    ahead_ms: AtomicU64,
}

impl Clock for Stepped {
    fn now_ms(&self) -> u64 {
        self.right.now_ms() + self.ahead_ms.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm21_two_gateways_with_a_shared_limit_and_stepped_clocks() {
    let redis = RedisServer::start();
    let mut gateways = Vec::new();
    for _ in 0..2 {
        let settings = settings(&redis).gateway();
        let clock = Arc::new(Stepped { right: SystemClock::new(), ahead_ms: AtomicU64::new(0) });
        let storage = Arc::new(DiskStorage::new(settings.data_dir()).unwrap());
        gateways.push((InProcess::start_at(&settings, storage, clock.clone()).await, clock, settings));
    }
    gateways[0].0.shop.open("phone", &Sale::of(1_000_000)).await;
    let (book, mut presses) = (Book::default(), JoinSet::new());
    for ((gateway, ..), name) in gateways.iter().zip(["a", "b"]) {
        gateway.shop.until_state("phone", "open").await;
        book.crowd(&mut presses, &gateway.shop, name, 20);
    }
    for step in 0..20_u64 {
        gateways[0].1.ahead_ms.store(step % 2 * 7_000, Ordering::SeqCst);
        gateways[1].1.ahead_ms.store(step % 3 * 3_000, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    book.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = presses.join_next().await {
        ended.unwrap();
    }
    assert!(book.admitted() >= RATE, "the limit is used");
    book.holds();
    for (gateway, ..) in gateways {
        gateway.shutdown().await.unwrap();
    }
}

/// While Redis is away nobody waits for it; when it comes back having forgotten everything there is no second burst.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_was_away_and_forgot_gives_no_second_burst() {
    let mut redis = RedisServer::start();
    let fleet = Fleet::start_with(&vec![settings(&redis).redis("breaker_pause_ms", "100"); 2]).await;
    fleet.open("phone", &Sale::of(1_000_000)).await;
    let (book, mut presses) = (Book::default(), JoinSet::new());
    book.crowd(&mut presses, &fleet.shop(0), "a", 10);
    book.crowd(&mut presses, &fleet.shop(1), "b", 10);
    tokio::time::sleep(Duration::from_secs(1)).await;
    redis.restart_empty();
    let before = book.admitted();
    eventually("orders are admitted again", || async {
        (book.admitted() > before + BURST * 2).then_some(())
    })
    .await;
    book.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = presses.join_next().await {
        ended.unwrap();
    }
    book.holds();
}
