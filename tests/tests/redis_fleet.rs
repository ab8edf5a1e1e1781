//! Who is there: gateways find each other through Redis.
#![allow(clippy::unwrap_used)]

use std::time::Instant;
use tidegate_stock::testing::redis::RedisServer;
use tidegate_tests::{DEAD_AFTER, Fleet, FleetSettings, Sale, Server, Shop, eventually};

/// Ids of the gateways that this one lists, those that are ready; its own first.
async fn listed(shop: &Shop) -> Vec<String> {
    let reply = shop.inner.get("/v1/gateways", &[]).await.expect(200);
    let gateways = reply.json["gateways"].as_array().unwrap();
    assert_eq!(gateways[0]["this"], true, "{}", reply.text);
    assert!(gateways[1..].iter().all(|gateway| gateway["this"] == false), "{}", reply.text);
    let ready = gateways.iter().filter(|gateway| gateway["ready"] == true);
    ready.map(|gateway| gateway["gateway"].as_str().unwrap().to_owned()).collect()
}

async fn until_listed(shop: &Shop, expected: &[String]) {
    let mut expected = expected.to_vec();
    expected.sort();
    eventually("the list of gateways is as it should be", || async {
        let mut now = listed(shop).await;
        now.sort();
        (now == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn gateways_list_each_other_the_dead_vanish_and_a_newcomer_sells() {
    let redis = RedisServer::start();
    let mut fleet = Fleet::start(&redis, 2).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    let ids: Vec<String> = fleet.gateways.iter().map(Server::gateway_id).collect();
    until_listed(&a, &ids).await;
    until_listed(&b, &ids).await;
    let list = b.inner.get("/v1/gateways", &[]).await.json;
    let other = list["gateways"].as_array().unwrap().iter().find(|g| g["gateway"] == *ids[0]).unwrap();
    assert_eq!(other["inner"], fleet.gateways[0].settings.inner_url());
    assert_eq!(other["public"], fleet.gateways[0].settings.public_url());

    fleet.open("phone", &Sale::of(10)).await;
    fleet.gateways[0].kill().await;
    let died = Instant::now();
    until_listed(&b, &ids[1..]).await;
    println!("the dead gateway has vanished after {:?} (dead_after: {DEAD_AFTER:?})", died.elapsed());
    assert!(died.elapsed() < DEAD_AFTER * 3);

    // A third one joins while one member is away, and sells at once.
    let mut third = Server::launch_with(FleetSettings::new().at(redis.port()).gateway());
    third.until_ready().await;
    let c = third.shop.clone();
    c.until_state("phone", "open").await;
    let ticket = c.win("phone", "ann").await;
    assert_eq!(b.order("phone", "ann", "k").await.expect(202).str("ticket"), ticket);
    until_listed(&b, &[ids[1].clone(), third.gateway_id()]).await;

    // The one that died comes back as itself.
    fleet.gateways[0].restart().await;
    assert_eq!(fleet.gateways[0].gateway_id(), ids[0]);
    let all = [ids[0].clone(), ids[1].clone(), third.gateway_id()];
    for shop in [&a, &b, &c] {
        until_listed(shop, &all).await;
    }
    assert_eq!(a.order("phone", "ann", "k").await.expect(202).str("ticket"), ticket);
    fleet.gateways.push(third);
    assert_eq!(fleet.audit("phone").await.number("held"), 1);
}

#[tokio::test]
async fn fleets_under_different_prefixes_in_one_redis_do_not_see_each_other() {
    let redis = RedisServer::start();
    let settings = FleetSettings::new().at(redis.port());
    let fleet = Fleet::start_with(&[
        settings.clone().redis("prefix", "\"one:\""),
        settings.redis("prefix", "\"two:\""),
    ])
    .await;
    let [one, two] = [fleet.shop(0), fleet.shop(1)];
    one.open("phone", &Sale::of(1)).await;
    assert_eq!(listed(&one).await, [fleet.gateways[0].gateway_id()]);
    assert_eq!(listed(&two).await, [fleet.gateways[1].gateway_id()]);
    two.public.get("/v1/sales/phone", &[]).await.expect_problem(404, "sale-not-found");
    two.order("phone", "ann", "k").await.expect_problem(404, "sale-not-found");
    let ticket = one.win("phone", "ann").await;
    one.until_state("phone", "sold_out").await;
    two.ticket("ann", &ticket).await.expect_problem(404, "ticket-not-found");
    two.open("phone", &Sale::of(2)).await;
    assert_ne!(two.win("phone", "ann").await, ticket);
    assert!(two.orders(8, 1_000).await.iter().all(|order| order["body"]["ticket"] != *ticket));
    assert_eq!(one.audit("phone").await.number("held"), 1);
    assert_eq!(two.audit("phone").await.number("available"), 1);
}
