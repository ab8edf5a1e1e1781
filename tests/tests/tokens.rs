//! The token queue at the doors: shares of sales, and the budget of a sale with few units left.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tidegate_tests::{Sale, Server, Settings, Shop, eventually};
use tokio::task::JoinSet;

/// So many buyers who order again and again, each anew; tells how many won.
fn crowd(
    presses: &mut JoinSet<()>,
    shop: &Shop,
    sale: &'static str,
    buyers: usize,
    stop: &Arc<AtomicBool>,
) -> Arc<AtomicU64> {
    let won = Arc::new(AtomicU64::new(0));
    for buyer in 0..buyers {
        let (shop, stop, won) = (shop.clone(), stop.clone(), won.clone());
        presses.spawn(async move {
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let reply = shop.order(sale, &format!("b{buyer}-{round}"), "k").await;
                match reply.status {
                    202 => drop(won.fetch_add(1, Ordering::Relaxed)),
                    429 => tokio::time::sleep(Duration::from_millis(50)).await,
                    _ => panic!("{} {}", reply.status, reply.text),
                }
            }
        });
    }
    won
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm25_a_hot_sale_does_not_starve_the_others_and_weights_count() {
    const RATE: u64 = 100;
    let settings = Settings::new()
        .set("admission.tokens.rate_per_s", RATE)
        .set("admission.tokens.burst", 5)
        .set("admission.tokens.max_wait_ms", 1_000);
    let server = Server::start_with(settings).await;
    let shop = server.shop.clone();
    for (sale, weight) in [("hot", 1), ("small", 1), ("heavy", 3)] {
        shop.open(sale, &Sale::of(100_000).with("weight", weight)).await;
    }
    let (mut presses, stop) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
    let hot = crowd(&mut presses, &shop, "hot", 60, &stop);
    eventually("the hot sale has filled the queue", || async {
        (hot.load(Ordering::Relaxed) > 20).then_some(())
    })
    .await;
    // Enough that each always has somebody waiting; far fewer than the hot sale's.
    let small = crowd(&mut presses, &shop, "small", 12, &stop);
    let heavy = crowd(&mut presses, &shop, "heavy", 24, &stop);
    let before = hot.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(3)).await;
    stop.store(true, Ordering::Relaxed);
    let [hot, small, heavy] = [&hot, &small, &heavy].map(|won| won.load(Ordering::Relaxed));
    let hot = hot - before;
    println!("of {}: hot {hot}, small {small}, heavy {heavy}", hot + small + heavy);
    assert!(hot + small + heavy >= RATE * 2, "nothing is left lying: {hot} {small} {heavy}");
    // A fifth, a fifth, three fifths; a quarter off for the crowd that has to come back each time.
    for (won, share) in [(hot, 0.2), (small, 0.2), (heavy, 0.6)] {
        let due = (hot + small + heavy) as f64 * share;
        assert!((won as f64 - due).abs() <= due * 0.25 + 5.0, "{won}, due {due}: {hot} {small} {heavy}");
    }
    while let Some(ended) = presses.join_next().await {
        ended.unwrap();
    }
    let metrics = shop.inner.get("/metrics", &[]).await.text;
    assert!(
        metrics.contains("tidegate_token_orders_total{weight=\"2-9\",outcome=\"taken_after_wait\"}"),
        "{metrics}"
    );
}

/// Ten orders wait for the two units that are left at most, whatever the crowd; and each unit that comes back is sold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm09_a_sales_budget_follows_the_units_that_are_left_and_never_sticks() {
    let settings = Settings::new()
        .set("admission.tokens.rate_per_s", 20)
        .set("admission.tokens.burst", 1)
        .set("admission.tokens.max_wait_ms", 10_000)
        .set("admission.tokens.tokens_per_unit", 5);
    let server = Server::start_with(settings).await;
    let shop = server.shop.clone();
    shop.open("phone", &Sale::of(2)).await;
    let mut presses = JoinSet::new();
    for buyer in 0..40 {
        let shop = shop.clone();
        presses.spawn(async move { shop.order("phone", &format!("b{buyer}"), "k").await });
    }
    let mut tickets = Vec::new();
    let mut refused = 0;
    while let Some(reply) = presses.join_next().await {
        let reply = reply.unwrap();
        match reply.status {
            202 => tickets.push(reply.json["ticket"].as_str().unwrap().to_owned()),
            429 => {
                refused += 1;
                reply.expect_problem(429, "overloaded");
            }
            _ => drop(reply.expect_problem(410, "sold-out")),
        }
    }
    println!("{refused} of 40 were not let in");
    assert_eq!(tickets.len(), 2);
    assert!(refused >= 20, "ten may be under way to two units: {refused} were refused");
    for round in 0..5 {
        for (index, ticket) in std::mem::take(&mut tickets).into_iter().enumerate() {
            shop.transition(&ticket, "rejected", "no").await;
            tickets.push(shop.insist("phone", &format!("again-{round}-{index}"), "k").await);
        }
    }
}
