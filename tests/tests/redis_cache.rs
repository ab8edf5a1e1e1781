//! The second level of the cache: what gateways that share a Redis cost the upstream together.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};
use tidegate_stock::testing::redis::RedisServer;
use tidegate_tests::{Act, Fleet, FleetSettings, Http, Reply, Upstream};

async fn fleet(redis: &RedisServer, upstream: &Upstream) -> Fleet {
    let route = format!(
        "[{{ name = \"shop\", path = \"/shop/\", upstream = \"{}\", identity = \"none\", cache_ttl_ms = 60000 }}]",
        upstream.url()
    );
    let settings =
        FleetSettings::new().at(redis.port()).other("proxy", &route).other("admission.quota.ip_per_s", "0");
    Fleet::start_with(&[settings.clone(), settings]).await
}

fn answer(headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

async fn get(fleet: &Fleet, gateway: usize, path: &str) -> Reply {
    fleet.gateways[gateway].shop.public.get(path, &[]).await.expect(200)
}

#[tokio::test]
async fn a_fleet_that_is_asked_for_a_cold_page_asks_the_upstream_once() {
    let slow = Duration::from_millis(800);
    let upstream = Upstream::start(move |before, _| {
        Act::Halves(Vec::new(), slow, answer("", &format!("page {before}")))
    })
    .await;
    let redis = RedisServer::start();
    let fleet = fleet(&redis, &upstream).await;
    let mut asking = tokio::task::JoinSet::new();
    for gateway in &fleet.gateways {
        let http = Http::http2(&gateway.settings.public_url());
        for _ in 0..50 {
            let http = http.clone();
            asking.spawn(async move { http.get("/shop/a", &[]).await });
        }
    }
    while let Some(reply) = asking.join_next().await {
        assert_eq!(reply.unwrap().expect(200).text, "page 0");
    }
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(get(&fleet, 0, "/shop/b").await.text, "page 1");
    let other = get(&fleet, 1, "/shop/b").await;
    assert_eq!((other.text.as_str(), upstream.seen().len()), ("page 1", 2));
    assert!(other.header("age").parse::<u64>().unwrap() <= 60);
    assert!(redis.count(&["DBSIZE"]) >= 2);
}

#[tokio::test]
async fn what_is_one_buyers_is_not_in_redis() {
    let upstream =
        Upstream::start(|before, _| Act::Answer(answer("Set-Cookie: a=1\r\n", &format!("page {before}"))))
            .await;
    let redis = RedisServer::start();
    let fleet = fleet(&redis, &upstream).await;
    let texts = [get(&fleet, 0, "/shop/a").await.text, get(&fleet, 1, "/shop/a").await.text];
    assert_ne!(texts[0], texts[1]);
    for place in 0..512 {
        assert!(!redis.exists(&format!("tidegate:1:cache:{place}")), "place {place}");
    }
}

#[tokio::test]
async fn a_redis_that_does_not_answer_delays_a_page_by_a_moment_alone() {
    let upstream = Upstream::start(|before, _| Act::Answer(answer("", &format!("page {before}")))).await;
    let redis = RedisServer::start();
    let fleet = fleet(&redis, &upstream).await;
    get(&fleet, 0, "/shop/a").await;
    redis.pause();
    let began = Instant::now();
    get(&fleet, 0, "/shop/new").await;
    get(&fleet, 0, "/shop/a").await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(upstream.seen().len(), 2);
    redis.resume();
}

#[tokio::test]
async fn what_an_operator_or_a_change_makes_forgotten_is_gone_from_redis_too() {
    let upstream = Upstream::start(|before, _| Act::Answer(answer("", &format!("page {before}")))).await;
    let redis = RedisServer::start();
    let fleet = fleet(&redis, &upstream).await;
    let first = get(&fleet, 0, "/shop/a").await.text;
    let inner = &fleet.gateways[0].shop.inner;
    inner.send("DELETE", "/v1/cache/shop", &[], b"").await.expect(200);
    let second = get(&fleet, 0, "/shop/a").await.text;
    assert_ne!(second, first, "not found in Redis again");
    assert_eq!(get(&fleet, 1, "/shop/a").await.text, second);
    fleet.gateways[0].shop.public.send("POST", "/shop/a", &[], b"").await.expect(200);
    assert_ne!(get(&fleet, 0, "/shop/a").await.text, second);
}
