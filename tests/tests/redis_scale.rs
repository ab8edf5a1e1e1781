//! A great many orders come due at once. `TIDEGATE_DUE_ORDERS` sets how many; `make soak` asks for 100,000.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegate_stock::testing::redis::RedisServer;
use tidegate_tests::{BOUND, Fleet, Sale, Shop, eventually, eventually_within};
use tokio::task::JoinSet;

/// Of the logs: new ones must be prepared as fast as a hundred clients fill them.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Clients at once.
const CLIENTS: u64 = 128;
/// Orders closed in a second, at least: a scan of all orders for each would be slower by orders of magnitude.
const CLOSED_PER_SECOND: u64 = 1_000;
/// What the gateways sleep at most until all orders are due.
const ASLEEP_MAX: Duration = Duration::from_mins(9);

fn orders() -> u64 {
    std::env::var("TIDEGATE_DUE_ORDERS").ok().map_or(6_000, |count| count.parse().unwrap())
}

/// Does something with each number below `count`, many at once.
async fn each<F: Future<Output = ()> + Send>(count: u64, act: impl Fn(u64) -> F + Clone + Send + 'static) {
    let next = Arc::new(AtomicU64::new(0));
    let mut running = JoinSet::new();
    for _ in 0..CLIENTS {
        let (next, act) = (next.clone(), act.clone());
        running.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::SeqCst);
                if n >= count {
                    return;
                }
                act(n).await;
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

/// Two gateways that may sleep for [`ASLEEP_MAX`] without being taken for dead.
async fn sleepers(redis: &RedisServer) -> Fleet {
    let mut fleet = Fleet::start(redis, 2).await;
    // Set only when they have joined: who beats so seldom joins as slowly.
    for gateway in &mut fleet.gateways {
        let patient = Duration::from_mins(10).as_millis().to_string();
        gateway.stop().await;
        gateway.settings = std::mem::take(&mut gateway.settings)
            .value("ledger.redis.dead_after_ms", patient)
            // The audit at the end counts all tickets in one call.
            .set("ledger.redis.call_timeout_ms", 2_000)
            .set("ledger.redis.claim_after_ms", 6_000)
            .set("data.segment_bytes", SEGMENT_BYTES);
        gateway.restart().await;
    }
    fleet
}

/// So many orders, each bought at one gateway and created at the other; how long that took, and when the last is due.
async fn buy_and_create(shops: &[Shop], sale: &'static str, count: u64) -> (Duration, u64) {
    let began = Instant::now();
    let last_due = Arc::new(AtomicU64::new(0));
    let (buying, due) = (shops.to_vec(), last_due.clone());
    each(count, move |n| {
        let [a, b] = [buying[(n % 2) as usize].clone(), buying[((n + 1) % 2) as usize].clone()];
        let due = due.clone();
        async move {
            let ticket = a.insist(sale, &format!("b{n}"), "k").await;
            let pay_by = eventually("the order is created", || async {
                let reply = b.transition(&ticket, "created", "row").await;
                (reply.status != 503).then(|| reply.expect(200).number("pay_by_ms"))
            })
            .await;
            due.fetch_max(pay_by, Ordering::SeqCst);
        }
    })
    .await;
    (began.elapsed(), last_due.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm18_orders_that_are_all_due_at_once_are_closed_and_resold_within_seconds() {
    let count = orders();
    let redis = RedisServer::start();
    let fleet = sleepers(&redis).await;
    let shops = fleet.shops();
    let sample = count / 20;
    fleet.open("sample", &Sale::of(sample)).await;
    let (for_sample, _) = buy_and_create(&shops, "sample", sample).await;
    let window = Duration::from_secs(3) + for_sample * 20 * 2;
    assert!(window < ASLEEP_MAX, "{sample} orders took {for_sample:?}: this machine is too slow");
    fleet.open("phone", &Sale::of(count).with("pay_window_ms", window.as_millis() as u64)).await;
    let (took, last_due) = buy_and_create(&shops, "phone", count).await;
    println!("{count} orders bought and created in {took:?}, each due {window:?} later");
    assert!(took < window, "the first were due before the last were created; the machine has become slower");
    for gateway in &fleet.gateways {
        gateway.pause();
    }
    let clock = tidegate_queue::SystemClock::new();
    eventually_within(window + BOUND, "all are due", || async {
        (tidegate_queue::Clock::now_ms(&clock) > last_due).then_some(())
    })
    .await;
    for gateway in &fleet.gateways {
        gateway.resume();
    }
    // New buyers come while the orders are closed.
    let due_at = Instant::now();
    let slowest = Arc::new(AtomicU64::new(0));
    let (buying, worst) = (shops.clone(), slowest.clone());
    let resale = tokio::spawn(each(500, move |n| {
        let (shop, worst) = (buying[(n % 2) as usize].clone(), worst.clone());
        async move {
            eventually("a unit that came back", || async {
                let asked = Instant::now();
                let reply = shop.order("phone", &format!("new-{n}"), "k").await;
                worst.fetch_max(asked.elapsed().as_millis() as u64, Ordering::SeqCst);
                (reply.status == 202).then_some(())
            })
            .await;
        }
    }));
    let bound = Duration::from_secs(10 + count / CLOSED_PER_SECOND);
    let closed = eventually_within(bound, "all are closed", || async {
        let reply = shops[0].inner.get("/v1/sales/phone", &[]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        (reply.status == 200 && reply.number("returned") == count).then(|| due_at.elapsed())
    })
    .await;
    resale.await.unwrap();
    println!(
        "{count} orders closed in {closed:?}; 500 units resold by {:?}, slowest answer {} ms",
        due_at.elapsed(),
        slowest.load(Ordering::SeqCst)
    );
    let audit = fleet.audit("phone").await;
    assert_eq!((audit.number("returned"), audit.number("held")), (count, 500));
}
