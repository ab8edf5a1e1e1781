//! `wait_replicas`: without replicas nothing is confirmed, at once and with the reason; with them it goes on.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};
use tidegate_stock::testing::redis::RedisServer;
use tidegate_tests::{Fleet, FleetSettings, Sale, eventually};

/// By the issue, 300 ms; a test machine has other things to do.
const BOUND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn without_the_replicas_asked_for_nothing_is_confirmed_and_the_reason_is_told() {
    let redis = RedisServer::start();
    let settings =
        FleetSettings::new().at(redis.port()).redis("wait_replicas", "1").redis("wait_timeout_ms", "50");
    let fleet = Fleet::start_with(&[settings]).await;
    let shop = fleet.shop(0);
    shop.open("phone", &Sale::of(10)).await;
    for _ in 0..3 {
        let began = Instant::now();
        let reply = shop.order("phone", "ann", "k").await;
        assert_eq!(reply.status, 503, "{}", reply.text);
        assert!(reply.retry_after_s() >= 1);
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    }
    let ready = shop.inner.get("/readyz", &[]).await;
    assert_eq!(ready.status, 503);
    assert!(ready.text.contains("wait_replicas"), "{}", ready.text);
    assert!(fleet.gateways[0].stderr().contains("attach replicas"), "{}", fleet.gateways[0].stderr());

    let _replica = redis.replica();
    let ticket = shop.insist("phone", "ann", "k").await;
    shop.until("ann", &ticket, "queued").await;
    eventually("it is ready", || async {
        (shop.inner.get("/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(shop.audit("phone").await.number("held"), 1, "one unit, however often it was asked for");
}

#[tokio::test]
async fn a_redis_that_refuses_says_so_where_readiness_is_asked() {
    let redis = RedisServer::start();
    let fleet = Fleet::start(&redis, 1).await;
    let shop = fleet.shop(0);
    shop.open("phone", &Sale::of(10)).await;
    redis.command(&["CONFIG", "SET", "requirepass", "secret"]);
    eventually("readiness tells what Redis says", || async {
        let ready = shop.inner.get("/readyz", &[]).await;
        (ready.status == 503 && ready.text.contains("NOAUTH")).then_some(())
    })
    .await;
}
