//! Redis loses its data: nobody makes a sale anew that has been sold in, however it is lost and whoever comes first.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::time::{Duration, Instant};
use tidegate_stock::testing::redis::RedisServer;
use tidegate_tests::{Fleet, FleetSettings, Reply, Sale, Server, Shop, eventually};

async fn wins_of(shop: &Shop, sale: &str, buyer: &str) -> usize {
    eventually("the tickets are told", || shop.tickets_of(sale, buyer)).await.len()
}

/// Puts the sale once more, without a look at the answer: 503 while it is paused, 200 before and after.
async fn put_again(shop: &Shop, sale: &str, stock: u64) {
    let body = format!("{{\"item\":\"thing\",\"stock\":{stock}}}");
    let reply = shop.inner.try_send("PUT", &format!("/v1/sales/{sale}"), &[], body.as_bytes()).await.unwrap();
    assert!(matches!(reply.status, 200 | 503), "{}", reply.text);
}

#[tokio::test]
async fn fm15_a_put_just_after_redis_lost_the_sale_puts_nothing_on_sale_again() {
    let redis = RedisServer::start();
    let mut fleet = Fleet::start(&redis, 2).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    for round in 0..10 {
        for gateway in &mut fleet.gateways {
            gateway.until_ready().await;
        }
        let sale = format!("sale-{round}");
        fleet.open(&sale, &Sale::of(3)).await;
        for buyer in ["ann", "bob", "eve"] {
            a.win(&sale, buyer).await;
        }
        redis.command(&["FLUSHALL"]);
        tokio::join!(put_again(&a, &sale, 3), put_again(&b, &sale, 3));
        let mut refused = 0;
        for n in 0..6 {
            for shop in [&a, &b] {
                let reply = shop.order(&sale, &format!("late-{n}"), "k").await;
                assert!(matches!(reply.status, 410 | 503), "round {round}: {}", reply.text);
                refused += 1;
            }
        }
        assert_eq!(refused, 12);
        fleet.until_sold_out(&sale).await;
        assert_eq!(fleet.audit(&sale).await.number("held"), 3);
        for shop in [&a, &b] {
            assert_eq!(wins_of(shop, &sale, "ann").await, 1);
        }
    }
}

#[tokio::test]
async fn fm20_a_loss_during_the_recovery_from_a_loss_is_recovered_from_as_well() {
    let redis = RedisServer::start();
    let fleet = Fleet::start(&redis, 2).await;
    fleet.open("phone", &Sale::of(1_000)).await;
    let mut sold = 0;
    for round in 0..8_u64 {
        for shop in fleet.shops() {
            let ticket = shop.insist("phone", &format!("b{sold}"), "k").await;
            sold += 1;
            if round % 2 == 0 {
                assert_eq!(shop.transition(&ticket, "created", &ticket).await.status, 200);
            }
        }
        redis.command(&["FLUSHALL"]);
        // Somewhere in the recovery, another time each round.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(20 + 45 * round)).await;
            redis.command(&["FLUSHALL"]);
        }
        let audit = eventually("the ledger is whole", || async {
            let reply = fleet.shop(0).inner.get("/v1/sales/phone/audit", &[]).await;
            (reply.status == 200).then_some(reply)
        })
        .await;
        assert_eq!(audit.number("held"), sold, "round {round}: {}", audit.text);
    }
    fleet.until_open("phone").await;
    assert_eq!(fleet.audit("phone").await.number("available"), 1_000 - sold);
}

#[tokio::test]
async fn fm20_a_newcomer_that_makes_the_sale_anew_while_all_others_sleep_is_found_out() {
    let redis = RedisServer::start();
    let settings = FleetSettings::new().at(redis.port());
    let fleet = Fleet::start_with(&[settings.clone(), settings.clone()]).await;
    fleet.open("phone", &Sale::of(10)).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    let first = [a.win("phone", "ann").await, b.win("phone", "bob").await];
    for gateway in &fleet.gateways {
        gateway.pause();
    }
    redis.command(&["FLUSHALL"]);
    // It has an empty log, and nobody who could tell it better is there.
    let mut third = Server::launch_with(settings.gateway());
    third.until_ready().await;
    let c = third.shop.clone();
    c.open("phone", &Sale::of(10)).await;
    let eve = c.win("phone", "eve").await;
    for gateway in &fleet.gateways {
        gateway.resume();
    }
    for shop in [&a, &b, &c] {
        eventually("all winners are known everywhere", || async {
            for (buyer, ticket) in [("ann", &first[0]), ("bob", &first[1]), ("eve", &eve)] {
                let reply = shop.ticket(buyer, ticket).await;
                if reply.status != 200 {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }
    assert_eq!(fleet.audit("phone").await.number("held"), 3);
    assert_eq!(c.audit("phone").await.number("available"), 7);
}

#[tokio::test]
async fn many_sales_are_read_at_a_start_and_made_whole_after_a_loss_in_moments() {
    const SALES: usize = 300;
    let redis = RedisServer::start();
    let mut fleet = Fleet::start(&redis, 2).await;
    let a = fleet.shop(0);
    for n in 0..SALES {
        a.put(&format!("sale-{n}"), &Sale::of(5)).await;
    }
    fleet.open("phone", &Sale::of(5)).await;
    a.win("phone", "ann").await;

    let began = Instant::now();
    fleet.gateways[1].kill().await;
    fleet.gateways[1].restart().await;
    println!("ready again with {SALES} sales after {:?}", began.elapsed());

    let began = Instant::now();
    redis.command(&["FLUSHALL"]);
    for shop in fleet.shops() {
        for n in 0..SALES {
            eventually("the sale is whole", || async {
                let reply = shop.inner.get(&format!("/v1/sales/sale-{n}/audit"), &[]).await;
                assert!(matches!(reply.status, 200 | 503), "{}", reply.text);
                (reply.status == 200 && reply.json["available"] == 5).then_some(())
            })
            .await;
        }
    }
    println!("{SALES} sales whole again after {:?}", began.elapsed());
    assert_eq!(fleet.audit("phone").await.number("held"), 1);
}

async fn forget(shop: &Shop, gateway: &str) -> Reply {
    shop.inner.post(&format!("/v1/gateways/{gateway}/forget"), &[], &json!({})).await
}

#[tokio::test]
async fn fm51_a_gateway_that_is_forgotten_holds_up_no_sale_ever_again() {
    let redis = RedisServer::start();
    let mut fleet = Fleet::start(&redis, 3).await;
    fleet.open("phone", &Sale::of(10)).await;
    fleet.open("radio", &Sale::of(10)).await;
    let [a, b, c] = [fleet.shop(0), fleet.shop(1), fleet.shop(2)];
    let lost = c.win("phone", "cid").await;
    a.win("phone", "ann").await;
    let gone = fleet.gateways[2].gateway_id();
    forget(&a, &gone).await.expect_problem(400, "bad-request");
    fleet.gateways[2].kill().await;
    let gone_for_good = fleet.gateways.pop().unwrap();
    eventually("its death is noticed", || async {
        let list = a.inner.get("/v1/gateways", &[]).await.expect(200);
        (list.json["away"] == json!([gone])).then_some(())
    })
    .await;

    redis.command(&["FLUSHALL"]);
    for sale in ["phone", "radio"] {
        fleet.until_waits_for(sale, &gone).await;
    }
    // One word, for both sales, at either gateway; not before it has joined the Redis that forgot it.
    eventually("the operator's word is taken", || async {
        let reply = forget(&b, &gone).await;
        assert!(matches!(reply.status, 200 | 503), "{}", reply.text);
        (reply.status == 200).then_some(())
    })
    .await;
    for sale in ["phone", "radio"] {
        fleet.until_open(sale).await;
    }
    assert_eq!(fleet.audit("phone").await.number("held"), 1, "what only the lost log held is given up");

    // It is remembered: by the logs, when Redis loses all again, and over a restart.
    fleet.gateways[1].kill().await;
    fleet.gateways[1].restart().await;
    redis.command(&["FLUSHALL"]);
    eventually("both are whole again", || async {
        for shop in [&a, &b] {
            let reply = shop.inner.get("/v1/sales/phone/audit", &[]).await;
            if reply.status != 200 || reply.number("held") != 1 {
                return None;
            }
        }
        Some(())
    })
    .await;

    // The folder was not lost after all: its order is back, and so is the gateway.
    fleet.gateways.push(gone_for_good);
    fleet.gateways[2].restart().await;
    fleet.until_open("phone").await;
    for shop in fleet.shops() {
        eventually("the order is back", || async {
            (shop.ticket("cid", &lost).await.status == 200).then_some(())
        })
        .await;
    }
    assert_eq!(fleet.audit("phone").await.number("held"), 2);
    redis.command(&["FLUSHALL"]);
    eventually("its log counts again", || async {
        let reply = a.inner.get("/v1/sales/phone/audit", &[]).await;
        (reply.status == 200 && reply.number("held") == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn fm20_nothing_is_called_absent_just_after_redis_lost_it() {
    let redis = RedisServer::start();
    let mut fleet = Fleet::start(&redis, 2).await;
    fleet.open("phone", &Sale::of(100)).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    for round in 0..10 {
        for gateway in &mut fleet.gateways {
            gateway.until_ready().await;
        }
        fleet.until_open("phone").await;
        let buyer = format!("b{round}");
        let ticket = a.insist("phone", &buyer, "k").await;
        redis.command(&["FLUSHALL"]);
        // The other gateway has not heard of the ticket. Its worker would undo the order's row on a 404.
        let created = b.transition(&ticket, "created", &ticket).await;
        assert!(matches!(created.status, 200 | 503), "round {round}: {}", created.text);
        let seen = b.ticket(&buyer, &ticket).await;
        assert!(matches!(seen.status, 200 | 503), "round {round}: {}", seen.text);
        let list = b.public.get("/v1/sales/phone/tickets", &[("x-user-id", &buyer)]).await;
        assert!(list.status == 503 || list.json["tickets"][0]["ticket"] == *ticket, "{}", list.text);
        b.until(&buyer, &ticket, "queued").await;
    }
}

#[tokio::test]
async fn fm20_sales_whose_names_are_lost_are_found_by_a_newcomer() {
    let redis = RedisServer::start();
    let fleet = Fleet::start(&redis, 2).await;
    fleet.open("phone", &Sale::of(10)).await;
    let ticket = fleet.shop(0).win("phone", "ann").await;
    // In a Cluster the fleet's keys may be on a node of their own.
    for key in ["gateways", "beats", "members", "joins", "processes", "forgotten", "sales"] {
        redis.command(&["DEL", &format!("tidegate:1:{{fleet}}:{key}")]);
    }
    let mut third = Server::launch_with(FleetSettings::new().at(redis.port()).gateway());
    third.until_ready().await;
    third.shop.until_state("phone", "open").await;
    third.shop.until("ann", &ticket, "queued").await;
}

#[tokio::test]
async fn a_sale_that_no_log_holds_is_let_go_and_its_name_is_free() {
    let (redis, fleet) = Fleet::two().await;
    let stub = "tidegate:1:{ghost}:s";
    // As a recovery leaves one that began of a name alone.
    let fields = "schema 1 v 0 sw s ini 0 res 0 av 0 live 0 ret 0 sold 0 back 0 ep 0 gen 0 born 0 n 0";
    let mut command = vec!["HSET", stub, "lin", "", "rec", "", "logs", ",", "paused", "changed"];
    command.extend(fields.split(' '));
    redis.command(&command);
    redis.command(&["SADD", "tidegate:1:{fleet}:sales", "ghost"]);
    eventually("the stub is let go", || async { (!redis.exists(stub)).then_some(()) }).await;
    // Both gateways look at every sale once a second; whoever made it anew did so ten times in one.
    for _ in 0..150 {
        assert!(!redis.exists(stub), "it was made anew");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fleet.open("ghost", &Sale::of(1)).await;
    fleet.shop(1).win("ghost", "ann").await;
}
