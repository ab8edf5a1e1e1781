//! Redis forgets, is replaced, or moves: every gateway's log is brought in, and nothing that was told is lost or doubled.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Arc;
use tidegate_stock::testing::redis::{Cluster, RedisServer, Sentinels};
use tidegate_tests::{Crowd, Fleet, FleetSettings, Sale, Told, eventually, run_to_its_end};

/// Redis forgets what it forgets while a crowd buys at both gateways; nothing that was told is lost, nothing is doubled.
async fn a_crowd_outlives(fleet: &Fleet, sale: &str, rounds: u64, mut trouble: impl FnMut(u64)) {
    fleet.open(sale, &Sale::of(100_000)).await;
    let told = Arc::new(Told::default());
    for round in 0..rounds {
        let crowds: Vec<Crowd> = fleet
            .shops()
            .iter()
            .enumerate()
            .map(|(index, shop)| Crowd::gather(shop, &told, sale, round * 2 + index as u64))
            .collect();
        told.until_tickets(told.tickets() + 60).await;
        trouble(round);
        told.until_tickets(told.tickets() + 60).await;
        for crowd in crowds {
            crowd.disperse().await;
        }
    }
    // The other gateway's crowd may have been sold to while one still waits its turn to go on.
    fleet.sells_again(sale, "last").await;
    for shop in fleet.shops() {
        told.assert_kept(&shop, sale).await;
    }
    let (created, paid) = told.created_and_paid();
    println!("{} tickets, {created} created, {paid} paid: all kept", told.tickets());
    fleet.audit(sale).await;
}

fn generation(redis: &RedisServer, sale: &str) -> String {
    let key = format!("tidegate:1:{{{sale}}}:s");
    format!("{:?}", redis.command(&["HGET", &key, "gen"]))
}

#[tokio::test]
async fn fm20_a_redis_that_comes_back_empty_is_made_whole_from_all_logs() {
    let (mut redis, fleet) = Fleet::two().await;
    let mut generations = Vec::new();
    a_crowd_outlives(&fleet, "phone", 3, |_| {
        generations.push(generation(&redis, "phone"));
        redis.restart_empty();
    })
    .await;
    generations.push(generation(&redis, "phone"));
    generations.dedup();
    assert_eq!(generations.len(), 4, "a new generation each time: {generations:?}");
}

#[tokio::test]
async fn fm20_kill_9_of_a_redis_that_syncs_each_second_loses_nothing() {
    let mut redis = RedisServer::append_only("everysec");
    let fleet = Fleet::start(&redis, 2).await;
    a_crowd_outlives(&fleet, "phone", 2, |_| redis.restart()).await;
}

#[tokio::test]
async fn fm20_kill_9_of_a_redis_that_always_syncs_loses_nothing() {
    let mut redis = RedisServer::append_only("always");
    let fleet = Fleet::start(&redis, 2).await;
    a_crowd_outlives(&fleet, "phone", 2, |_| redis.restart()).await;
}

#[tokio::test]
async fn a_member_that_does_not_come_keeps_the_sale_paused_until_it_comes() {
    let mut redis = RedisServer::start();
    let mut fleet = Fleet::start(&redis, 2).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("phone", &Sale::of(10)).await;
    let ann = a.win("phone", "ann").await;
    let bob = b.win("phone", "bob").await;
    fleet.gateways[0].kill().await;
    redis.restart_empty();
    let paused = eventually("the sale is paused", || async {
        let reply = b.order("phone", "eve", "k").await;
        (reply.status == 503 && reply.str("type") == "sale-paused").then_some(reply)
    })
    .await;
    assert!(paused.retry_after_s() >= 1);
    // Long after the remaining gateway has brought its log in.
    eventually("the missing gateway is named", || async {
        fleet.gateways[1].stderr().contains("stays paused").then_some(())
    })
    .await;
    assert!(fleet.gateways[1].stderr().contains(&fleet.gateways[0].gateway_id()));
    b.order("phone", "eve", "k").await.expect_problem(503, "sale-paused");
    b.order("phone", "bob", "k").await.expect_problem(503, "sale-paused");
    fleet.gateways[0].restart().await;
    for shop in [&a, &b] {
        assert_eq!(shop.insist("phone", "ann", "k").await, ann);
        assert_eq!(shop.insist("phone", "bob", "k").await, bob);
    }
    a.insist("phone", "eve", "k").await;
    let audit = fleet.audit("phone").await;
    assert_eq!((audit.number("held"), audit.number("available")), (3, 7));
}

#[tokio::test]
async fn fm51_a_gateway_lost_together_with_redis_is_given_up_by_an_operator_who_hears_the_worst_case() {
    let mut redis = RedisServer::start();
    let mut fleet = Fleet::start(&redis, 2).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("phone", &Sale::of(10)).await;
    let (anns, bobs) = (a.win("phone", "ann").await, b.win("phone", "bob").await);
    let [lost, kept] = [fleet.gateways[0].gateway_id(), fleet.gateways[1].gateway_id()];
    fleet.gateways[0].kill().await;
    std::fs::remove_dir_all(fleet.gateways[0].settings.data_dir()).unwrap();
    redis.restart_empty();
    eventually("the missing gateway is named", || async {
        fleet.gateways[1].stderr().contains("stays paused").then_some(())
    })
    .await;
    let inner = fleet.gateways[1].settings.inner_url();
    let resume = |further: &[&str]| {
        let command = [&["sale", "resume", "phone", "--inner", &inner], further].concat();
        run_to_its_end(&command)
    };
    let told = resume(&[]);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.stdout.contains(&lost) && told.stdout.contains("paused"), "{}", told.stdout);
    // An audit tells of the others, and is no verdict.
    let create = ["sale", "create", "fresh", "--item", "thing", "--stock", "3", "--inner", &inner];
    assert_eq!(run_to_its_end(&create).code, Some(0));
    let report = b.inner.get("/v1/audit", &[]).await;
    assert_eq!((report.status, report.json["holds"].as_bool()), (503, Some(false)), "{}", report.text);
    assert_eq!(report.json["paused"], serde_json::json!(["phone"]));
    let audit = run_to_its_end(&["sale", "audit", "--inner", &inner]);
    assert_eq!(audit.code, Some(3), "{audit:?}");
    assert!(audit.stdout.contains("fresh") && audit.stderr.contains("not audited: phone"), "{audit:?}");
    let one = run_to_its_end(&["sale", "audit", "phone", "--inner", &inner]);
    assert!(one.code == Some(3) && one.stderr.contains("tidegate sale resume phone"), "{one:?}");
    // Nobody is at the terminal to say yes, or it is said of the wrong one: nothing is given up.
    let unsaid = resume(&["--without-gateway", &lost]);
    assert!(unsaid.code != Some(0) && unsaid.stderr.contains("--yes"), "{unsaid:?}");
    let wrong = resume(&["--without-gateway", &kept, "--yes"]);
    assert!(wrong.code != Some(0) && wrong.stderr.contains(&lost), "{wrong:?}");
    b.order("phone", "eve", "k").await.expect_problem(503, "sale-paused");
    let done = resume(&["--without-gateway", &lost, "--yes"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    for part in ["Worst case", "9 units left, 1 held and 0 sold", &lost] {
        assert!(done.stderr.contains(part), "`{part}` is not in: {}", done.stderr);
    }
    assert_eq!(b.insist("phone", "bob", "k").await, bobs);
    b.ticket("ann", &anns).await.expect_problem(404, "ticket-not-found");
    // With an empty folder it is a new gateway, and what was lost with it may be bought again.
    fleet.gateways[0].restart().await;
    assert_ne!(fleet.gateways[0].gateway_id(), lost);
    assert_ne!(a.insist("phone", "ann", "k").await, anns);
    let audit = fleet.audit("phone").await;
    assert_eq!((audit.number("held"), audit.number("available")), (2, 8));
}

fn sentinel_settings(sentinels: &Sentinels) -> FleetSettings {
    let addresses: Vec<String> =
        sentinels.ports().iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    FleetSettings::new()
        .redis("sentinels", &format!("[{}]", addresses.join(", ")))
        .redis("master", &format!("\"{}\"", Sentinels::MASTER))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm20_a_failover_that_forgets_the_last_writes_loses_and_doubles_nothing() {
    let mut master = RedisServer::start();
    let replica = master.replica();
    let sentinels = Sentinels::start(&master, 3, 1);
    let fleet = Fleet::start_with(&vec![sentinel_settings(&sentinels); 2]).await;
    fleet.open("phone", &Sale::of(500)).await;
    let mut tickets = HashMap::new();
    for n in 0..20 {
        let buyer = format!("kept-{n}");
        tickets.insert(buyer.clone(), fleet.shop(n % 2).win("phone", &buyer).await);
    }
    let held =
        |redis: &RedisServer| format!("{:?}", redis.command(&["HGET", "tidegate:1:{phone}:s", "live"]));
    let before = generation(&master, "phone");
    // The replica stands still and its link is cut before anything more is written: nothing of it waits in a socket.
    replica.pause();
    master.command(&["CLIENT", "KILL", "TYPE", "replica"]);
    for n in 0..30 {
        let buyer = format!("forgotten-{n}");
        tickets.insert(buyer.clone(), fleet.shop(n % 2).win("phone", &buyer).await);
    }
    let written = held(&master);
    master.kill();
    replica.resume();
    let known = held(&replica);
    println!("units held: {written} at the master, {known} at the replica");
    assert!(written.contains("50") && known.contains("20"), "the last writes are not lost");
    sentinels.until_master_is(replica.port());
    for (buyer, ticket) in &tickets {
        for shop in fleet.shops() {
            assert_eq!(shop.insist("phone", buyer, "k").await, *ticket, "{buyer}");
        }
    }
    fleet.sells_again("phone", "after").await;
    let audit = fleet.audit("phone").await;
    assert_eq!((audit.number("held"), audit.number("available")), (52, 448));
    assert_ne!(generation(&replica, "phone"), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_in_a_cluster_moves_the_sale_with_it() {
    let cluster = Cluster::start();
    let nodes: Vec<String> =
        cluster.nodes().iter().map(|node| format!("\"127.0.0.1:{}\"", node.port())).collect();
    let settings = FleetSettings::new().redis("cluster", &format!("[{}]", nodes.join(", ")));
    let fleet = Fleet::start_with(&vec![settings; 2]).await;
    fleet.open("phone", &Sale::of(100_000)).await;
    let key = "tidegate:1:{phone}:s";
    let (slot, from) = (cluster.slot(key), cluster.first_owner(key));
    let told = Arc::new(Told::default());
    let crowds: Vec<Crowd> = fleet
        .shops()
        .iter()
        .enumerate()
        .map(|(index, shop)| Crowd::gather(shop, &told, "phone", index as u64))
        .collect();
    told.until_tickets(50).await;
    cluster.move_slot(slot, from, (from + 1) % 3);
    told.until_tickets(told.tickets() + 100).await;
    for crowd in crowds {
        crowd.disperse().await;
    }
    fleet.sells_again("phone", "last").await;
    for shop in fleet.shops() {
        told.assert_kept(&shop, "phone").await;
    }
    println!("{} tickets, all kept over the move", told.tickets());
    fleet.audit("phone").await;
}
