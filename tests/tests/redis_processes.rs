//! Processes with one gateway id: a data folder was copied, a backup was put in its place, a machine was thought to be dead,
//! or a process was killed while it started.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::time::Duration;
use tidegate_stock::testing::redis::RedisServer;
use tidegate_tests::{Fleet, FleetSettings, Sale, Server, Settings, Shop, eventually};

/// Another machine with a copy of the gateway's data folder, as it is now.
fn copy_of(server: &Server, redis: &RedisServer) -> Settings {
    let settings = FleetSettings::new().at(redis.port()).gateway();
    server.pause();
    let copied = std::process::Command::new("cp")
        .args(["-r", server.settings.data_dir().to_str().unwrap(), settings.data_dir().to_str().unwrap()])
        .status();
    server.resume();
    assert!(copied.unwrap().success());
    settings
}

/// Waits until the process has told why it does not go on.
async fn until_refused(server: &Server, why: &str) {
    eventually("it does not go on, and says why", || async {
        let reply = server.shop.inner.try_send("GET", "/readyz", &[], b"").await.ok()?;
        (reply.status == 503 && reply.text.contains(why)).then_some(())
    })
    .await;
}

/// It tells nothing, sells nothing, delivers nothing, and takes nothing.
async fn serves_nothing(shop: &Shop, winner: &str, ticket: &str) {
    assert_eq!(shop.order("phone", "newcomer", "k").await.status, 503);
    assert_eq!(shop.order("phone", winner, "k").await.status, 503);
    assert_eq!(shop.transition(ticket, "created", "row").await.status, 503);
    let path = "/v1/topics/orders/groups/order-workers/receive";
    let received = shop.inner.try_send("POST", path, &[], br#"{"max":8,"wait_ms":0}"#).await.unwrap();
    assert!(
        received.status == 503 || received.json["messages"] == json!([]),
        "it delivers nothing: {}",
        received.text
    );
}

#[tokio::test]
async fn of_two_equal_folders_the_one_started_last_goes_on_and_the_other_is_an_old_copy_from_then_on() {
    let redis = RedisServer::start();
    let mut fleet = Fleet::start(&redis, 2).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("phone", &Sale::of(10)).await;
    let ticket = a.win("phone", "ann").await;

    let mut copy = Server::launch_with(copy_of(&fleet.gateways[0], &redis));
    copy.until_ready().await;
    let c = copy.shop.clone();
    until_refused(&fleet.gateways[0], "started later").await;
    serves_nothing(&a, "ann", &ticket).await;
    let told = fleet.gateways[0].stderr();
    assert_eq!(told.matches("another process runs with this gateway's id").count(), 1, "{told}");

    // The others sell, and so does the copy. It stays so.
    c.until_state("phone", "open").await;
    assert_ne!(c.win("phone", "cid").await, b.win("phone", "dan").await);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(a.inner.get("/readyz", &[]).await.status, 503);
    assert_eq!(c.inner.get("/readyz", &[]).await.status, 200);

    // The one before lacks cid's order now, whoever runs.
    for rest_runs in [true, false] {
        fleet.gateways[0].kill().await;
        if !rest_runs {
            copy.kill().await;
        }
        fleet.gateways[0].relaunch();
        until_refused(&fleet.gateways[0], "old copy").await;
    }
    serves_nothing(&a, "ann", &ticket).await;
    fleet.gateways[0].kill().await;
    copy.restart().await;
    fleet.gateways[0] = copy;
    fleet.until_open("phone").await;
    assert_eq!(fleet.audit("phone").await.number("held"), 3);
    for buyer in ["ann", "cid", "dan"] {
        assert_eq!(c.order("phone", buyer, "k").await.status, 202);
    }
}

#[tokio::test]
async fn an_old_copy_of_a_data_folder_serves_nothing_and_the_newest_folder_loses_nothing() {
    let redis = RedisServer::start();
    let mut fleet = Fleet::start(&redis, 2).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    let id = fleet.gateways[0].gateway_id();
    fleet.open("phone", &Sale::of(5)).await;
    let copied = copy_of(&fleet.gateways[0], &redis);
    // All that the copy lacks is what the same process sold since.
    let ticket = a.win("phone", "buyer-0").await;
    for n in 1..5 {
        a.win("phone", &format!("buyer-{n}")).await;
    }
    fleet.until_sold_out("phone").await;

    // While the gateway runs: it goes on.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let mut copy = Server::launch_with(copied);
    until_refused(&copy, "old copy").await;
    let c = copy.shop.clone();
    serves_nothing(&c, "buyer-0", &ticket).await;
    let told = copy.stderr();
    assert_eq!(told.matches("its log lacks what that process of this gateway wrote").count(), 1, "{told}");
    assert!(told.contains("tidegate gateway forget"), "{told}");
    a.until_state("phone", "sold_out").await;
    assert_eq!(a.orders(2, 1_000).await.len(), 2);

    // In its place: nothing is made whole from the copy, before and after Redis lost all, whoever comes first.
    fleet.gateways[0].kill().await;
    copy.kill().await;
    copy.relaunch();
    until_refused(&copy, "old copy").await;
    for copy_comes_first in [false, true] {
        if copy_comes_first {
            copy.kill().await;
            fleet.gateways[1].pause();
            redis.command(&["FLUSHALL"]);
            copy.relaunch();
            // Nobody who could tell better is there yet: it takes its number, brings its log in, and waits for the others.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let members = redis.command(&["SMEMBERS", "tidegate:1:{phone}:a"]);
            assert!(format!("{members:?}").contains(&id), "it has not come first: {members:?}");
            fleet.gateways[1].resume();
        } else {
            redis.command(&["FLUSHALL"]);
            eventually("the sale waits", || async {
                let reply = b.inner.get("/v1/sales/phone/recovery", &[]).await;
                (reply.status == 200 && reply.json["missing"] == json!([id])).then_some(())
            })
            .await;
            copy.kill().await;
            copy.relaunch();
        }
        until_refused(&copy, "old copy").await;
        serves_nothing(&c, "buyer-0", &ticket).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let waits = b.inner.get("/v1/sales/phone/recovery", &[]).await;
        println!("the copy came first: {copy_comes_first}; {}", waits.text);
        assert_eq!(b.order("phone", "eve", "k").await.status, 503, "the sale waits for the newest folder");
    }

    fleet.gateways[0].restart().await;
    fleet.until_sold_out("phone").await;
    assert_eq!(fleet.audit("phone").await.number("held"), 5);
    for shop in [&a, &b] {
        for n in 0..5 {
            assert_eq!(shop.order("phone", &format!("buyer-{n}"), "k").await.status, 202);
        }
    }
    assert_eq!(copy.shop.inner.get("/readyz", &[]).await.status, 503);
}

/// The newest folder is lost: what the backup holds is not, and what Redis holds is another gateway's.
#[tokio::test]
async fn a_backup_goes_on_as_a_new_gateway() {
    let redis = RedisServer::start();
    let mut fleet = Fleet::start(&redis, 2).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    let id = fleet.gateways[0].gateway_id();
    fleet.open("phone", &Sale::of(10)).await;
    let first = a.win("phone", "ann").await;
    let backup = copy_of(&fleet.gateways[0], &redis);
    let second = a.win("phone", "bob").await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    fleet.gateways[0].kill().await;
    let mut backup = Server::launch_with(backup);
    until_refused(&backup, "old copy").await;
    backup.kill().await;
    std::fs::remove_file(backup.settings.data_dir().join("gateway.id")).unwrap();
    backup.restart().await;
    let c = backup.shop.clone();
    assert_ne!(backup.gateway_id(), id);
    fleet.gateways[0] = backup;
    fleet.until_open("phone").await;
    // Both orders are delivered, once each.
    let mut delivered = Vec::new();
    eventually("both are adopted", || async {
        (fleet.audit("phone").await.number("held") == 2).then_some(())
    })
    .await;
    for _ in 0..40 {
        for shop in [&c, &b] {
            for order in shop.orders(8, 100).await {
                delivered.push(order["body"]["ticket"].as_str().unwrap().to_owned());
            }
        }
        if delivered.len() >= 2 {
            break;
        }
    }
    delivered.sort();
    let mut won = [first, second];
    won.sort();
    assert_eq!(delivered, won);
    eventually("the old id is given up", || async {
        let reply = b.inner.post(&format!("/v1/gateways/{id}/forget"), &[], &json!({})).await;
        (reply.status == 200).then_some(())
    })
    .await;
    redis.command(&["FLUSHALL"]);
    eventually("it is whole without that log", || async {
        for shop in [&b, &c] {
            let reply = shop.inner.get("/v1/sales/phone/audit", &[]).await;
            if reply.status != 200 || reply.number("held") != 2 {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_is_killed_anywhere_in_its_start_starts_again() {
    let redis = RedisServer::start();
    let mut fleet = Fleet::start(&redis, 2).await;
    fleet.open("phone", &Sale::of(10)).await;
    let a = fleet.shop(0);
    a.win("phone", "ann").await;
    for n in 0..20 {
        fleet.gateways[0].kill().await;
        fleet.gateways[0].relaunch();
        tokio::time::sleep(Duration::from_millis(10 + 15 * n)).await;
    }
    fleet.gateways[0].kill().await;
    // Redis takes the heartbeats late, in one go with those of the process that follows.
    redis.command(&["CLIENT", "PAUSE", "600", "WRITE"]);
    fleet.gateways[0].relaunch();
    tokio::time::sleep(Duration::from_millis(300)).await;
    fleet.gateways[0].kill().await;
    let began = std::time::Instant::now();
    fleet.gateways[0].restart().await;
    println!("ready {:?} after its start", began.elapsed());
    fleet.until_open("phone").await;
    a.win("phone", "eve").await;
    assert_eq!(fleet.audit("phone").await.number("held"), 2);
}
