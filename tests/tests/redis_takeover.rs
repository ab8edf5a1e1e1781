//! A gateway dies, is lost with its disk, or sleeps: what it had sold is delivered by another, once.
#![allow(clippy::unwrap_used)]

use parking_lot::Mutex;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tidegate_stock::testing::redis::RedisServer;
use tidegate_tests::{Fleet, FleetSettings, HoldProxy, Sale, Shop, eventually};
use tokio::task::JoinHandle;

/// Two gateways, the first one's Redis behind a proxy that can hold back what it answers.
async fn held(redis: &RedisServer, settings: FleetSettings) -> (HoldProxy, Fleet) {
    let proxy = HoldProxy::start(redis.port()).await;
    let both = [settings.clone().at(proxy.port()), settings.at(redis.port())];
    (proxy, Fleet::start_with(&both).await)
}

/// An order under way, which may end without an answer.
fn order_in_the_background(shop: &Shop, sale: &str, buyer: &str) -> JoinHandle<Option<(u16, String)>> {
    let (shop, path, buyer) = (shop.clone(), format!("/v1/sales/{sale}/orders"), buyer.to_owned());
    tokio::spawn(async move {
        let headers = [("x-user-id", &*buyer), ("idempotency-key", "k")];
        let reply = shop.public.try_send("POST", &path, &headers, b"").await.ok()?;
        Some((reply.status, reply.str("ticket").to_owned()))
    })
}

/// The one ticket of the buyer, once the gateway can tell it.
async fn one_ticket(shop: &Shop, sale: &str, buyer: &str) -> String {
    eventually(&format!("{buyer} has a ticket"), || async {
        let tickets = shop.tickets_of(sale, buyer).await?;
        assert!(tickets.len() <= 1, "{tickets:?}");
        Some(tickets.first()?["ticket"].as_str().unwrap().to_owned())
    })
    .await
}

/// Ticket → who delivered it, each time.
type Deliveries = Mutex<HashMap<String, Vec<usize>>>;

/// Order workers of a fleet, one a gateway, which write down who delivered what.
struct Workers {
    stop: Arc<AtomicBool>,
    delivered: Arc<Deliveries>,
    tasks: Vec<JoinHandle<()>>,
}

impl Workers {
    fn start(shops: &[Shop]) -> Self {
        let (stop, delivered) = (Arc::<AtomicBool>::default(), Arc::<Deliveries>::default());
        let mut tasks = Vec::new();
        for (index, shop) in shops.iter().enumerate() {
            let (stop, delivered, shop) = (stop.clone(), delivered.clone(), shop.clone());
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let asked = json!({ "max": 32, "wait_ms": 100 }).to_string();
                    let path = "/v1/topics/orders/groups/order-workers/receive";
                    let Ok(reply) = shop.inner.try_send("POST", path, &[], asked.as_bytes()).await else {
                        return;
                    };
                    if reply.status != 200 {
                        tokio::task::yield_now().await;
                        continue;
                    }
                    let messages = reply.json["messages"].as_array().unwrap().clone();
                    for message in &messages {
                        let ticket = message["body"]["ticket"].as_str().unwrap().to_owned();
                        delivered.lock().entry(ticket.clone()).or_default().push(index);
                        let row = format!("row-{index}");
                        eventually("the order is created", || async {
                            let reply = shop.transition(&ticket, "created", &row).await;
                            (reply.status != 503).then_some(reply)
                        })
                        .await
                        .expect(200);
                    }
                    if !messages.is_empty() {
                        shop.ack("orders", "order-workers", &messages).await;
                    }
                }
            }));
        }
        Self { stop, delivered, tasks }
    }

    fn by(&self, ticket: &str) -> Vec<usize> {
        self.delivered.lock().get(ticket).cloned().unwrap_or_default()
    }

    async fn until_delivered(&self, ticket: &str) {
        eventually("the order is delivered", || async {
            assert!(self.tasks.iter().all(|task| !task.is_finished()), "a worker has ended before its time");
            (!self.by(ticket).is_empty()).then_some(())
        })
        .await;
    }

    async fn end(self) -> HashMap<String, Vec<usize>> {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            tidegate_tests::within("a worker ends", task).await.unwrap();
        }
        self.delivered.lock().clone()
    }
}

#[tokio::test]
async fn fm03_a_gateway_killed_between_the_stock_and_its_log_loses_no_winner() {
    let redis = RedisServer::start();
    let (proxy, mut fleet) = held(&redis, FleetSettings::new()).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("phone", &Sale::of(10)).await;
    for round in 0..3 {
        let buyer = format!("ann-{round}");
        proxy.hold(&buyer);
        let order = order_in_the_background(&a, "phone", &buyer);
        proxy.until_held().await;
        fleet.gateways[0].kill().await;
        assert_eq!(order.await.unwrap(), None, "nobody was told anything");
        proxy.release().await;
        let ticket = one_ticket(&b, "phone", &buyer).await;
        assert_eq!(b.order("phone", &buyer, "k").await.expect(202).str("ticket"), ticket);
        assert_eq!(b.work_off().await, [ticket.as_str()]);
        fleet.gateways[0].restart().await;
        fleet.until_open("phone").await;
        assert_eq!(a.order("phone", &buyer, "k").await.expect(202).str("ticket"), ticket);
        assert!(a.orders(32, 0).await.is_empty(), "the other gateway's to deliver");
    }
    let audit = fleet.audit("phone").await;
    assert_eq!((audit.number("held"), audit.number("available")), (3, 7));
}

#[tokio::test]
async fn fm06_stock_that_no_order_row_follows_is_noticed_and_sold_again() {
    let redis = RedisServer::start();
    let (proxy, mut fleet) = held(&redis, FleetSettings::new()).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("phone", &Sale::of(2).with("order_deadline_ms", 1_500)).await;
    // One unit is taken by a gateway that dies at once, the other's order is with a worker that never tells.
    proxy.hold("ann");
    let order = order_in_the_background(&a, "phone", "ann");
    proxy.until_held().await;
    fleet.gateways[0].kill().await;
    assert_eq!(order.await.unwrap(), None, "nobody was told anything");
    proxy.release().await;
    let anns = one_ticket(&b, "phone", "ann").await;
    let bobs = b.insist("phone", "bob", "k").await;
    assert!(!b.orders(8, 1_000).await.is_empty());
    for (buyer, ticket) in [("ann", &anns), ("bob", &bobs)] {
        b.until(buyer, ticket, "dropped").await;
    }
    assert!(fleet.gateways[1].stderr().contains("nobody wrote down are claimed"));
    let mut told = Vec::new();
    while told.len() < 2 {
        let events = b.receive("order-events", "watchers", 64, 10_000).await;
        assert!(!events.is_empty(), "only these were told: {told:?}");
        b.ack("order-events", "watchers", &events).await;
        told.extend(events.into_iter().filter(|event| event["body"]["to"] == "dropped"));
    }
    for ticket in [&anns, &bobs] {
        assert!(told.iter().any(|event| event["body"]["ticket"] == **ticket), "{told:?}");
    }
    for buyer in ["eve", "joe"] {
        b.insist("phone", buyer, "k").await;
    }
    b.until_state("phone", "sold_out").await;
    fleet.gateways[0].restart().await;
    let audit = fleet.audit("phone").await;
    assert_eq!((audit.number("held"), audit.number("available"), audit.number("returned")), (2, 0, 2));
}

#[tokio::test]
async fn fm06_a_unit_that_only_a_lost_redis_knew_of_is_for_sale() {
    let mut redis = RedisServer::start();
    // Nobody claims the note before Redis has lost it.
    let settings = FleetSettings::new().redis("claim_after_ms", "60000");
    let (proxy, mut fleet) = held(&redis, settings).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("phone", &Sale::of(2)).await;
    let bobs = b.win("phone", "bob").await;
    proxy.hold("ann");
    let order = order_in_the_background(&a, "phone", "ann");
    proxy.until_held().await;
    fleet.gateways[0].kill().await;
    assert_eq!(order.await.unwrap(), None, "nobody was told anything");
    proxy.release().await;
    b.until_state("phone", "sold_out").await;
    redis.restart_empty();
    fleet.gateways[0].restart().await;
    let anns = a.insist("phone", "ann", "k").await;
    assert_eq!(b.insist("phone", "bob", "k").await, bobs);
    let mut delivered = [a.work_off().await, b.work_off().await].concat();
    let mut tickets = vec![anns, bobs];
    delivered.sort();
    tickets.sort();
    assert_eq!(delivered, tickets);
    let audit = fleet.audit("phone").await;
    assert_eq!((audit.number("held"), audit.number("available")), (2, 0));
}

#[tokio::test]
async fn fm51_a_gateway_lost_with_its_disk_leaves_no_ticket_without_an_end() {
    let redis = RedisServer::start();
    let mut fleet = Fleet::start(&redis, 2).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("phone", &Sale::of(40).with("pay_window_ms", 4_000).with("order_deadline_ms", 20_000)).await;
    let mut tickets = Vec::new();
    for n in 0..15 {
        tickets.push((format!("b{n}"), a.win("phone", &format!("b{n}")).await));
    }
    let [leased, unpaid, queued] = [0..5, 5..10, 10..15].map(|range| tickets[range].to_vec());
    assert_eq!(a.orders(5, 1_000).await.len(), 5, "a worker has them, and will not tell what became of them");
    for (_, ticket) in &unpaid {
        a.transition(ticket, "created", "row").await.expect(200);
    }
    fleet.gateways[0].kill().await;
    std::fs::remove_dir_all(fleet.gateways[0].settings.data_dir()).unwrap();
    // What was never created comes to a worker of the other gateway, what is not paid ends by the clock.
    let mut again = Vec::new();
    let expected = leased.len() + queued.len();
    while again.len() < expected {
        let messages = b.orders(32, 20_000).await;
        assert!(!messages.is_empty(), "only {} of {expected} came", again.len());
        for message in &messages {
            let ticket = message["body"]["ticket"].as_str().unwrap().to_owned();
            if b.transition(&ticket, "created", "row-b").await.status == 200 {
                b.transition(&ticket, "paid", "money").await.expect(200);
                again.push(ticket);
            }
        }
        b.ack("orders", "order-workers", &messages).await;
    }
    let mut wanted: Vec<_> = leased.iter().chain(&queued).map(|(_, ticket)| ticket.clone()).collect();
    wanted.sort();
    again.sort();
    assert_eq!(again, wanted);
    for (buyer, ticket) in &unpaid {
        b.until(buyer, ticket, "expired").await;
    }
    // The lost gateway comes back with an empty disk, as a new one, and sells.
    fleet.gateways[0].restart().await;
    fleet.until_open("phone").await;
    let ticket = a.win("phone", "late").await;
    b.transition(&ticket, "rejected", "no").await.expect(200);
    let audit = fleet.audit("phone").await;
    assert_eq!((audit.number("sold"), audit.number("held"), audit.number("available")), (10, 0, 30));
}

#[tokio::test]
async fn fm52_a_gateway_that_slept_delivers_nothing_that_another_has_adopted() {
    let redis = RedisServer::start();
    let fleet = Fleet::start(&redis, 2).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("phone", &Sale::of(10)).await;
    let mut tickets = Vec::new();
    for n in 0..6 {
        tickets.push(a.win("phone", &format!("b{n}")).await);
    }
    fleet.gateways[0].pause();
    let created = Mutex::new(Vec::new());
    eventually("the other gateway delivers all of them", || async {
        let more = b.work_off().await;
        created.lock().extend(more);
        (created.lock().len() == 6).then_some(())
    })
    .await;
    let mut created = created.into_inner();
    fleet.gateways[0].resume();
    assert!(a.orders(32, 2_000).await.is_empty(), "delivered twice");
    assert!(b.orders(32, 0).await.is_empty(), "delivered twice");
    tickets.sort();
    created.sort();
    assert_eq!(created, tickets);
    // Still a gateway like any other.
    let ticket = a.win("phone", "late").await;
    assert_eq!(a.work_off().await, [ticket]);
    fleet.audit("phone").await;
}

#[tokio::test]
async fn fm52_a_gateway_stopped_between_the_stock_and_its_log_a_hundred_times() {
    const FLEETS: u64 = 4;
    const STOPS: u64 = 25;
    let redis = RedisServer::start();
    // Side by side, each under a prefix of its own: most of the time is waiting for claims.
    let mut running = tokio::task::JoinSet::new();
    for n in 0..FLEETS {
        running.spawn(stops(redis.port(), n, STOPS));
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

/// Stops a gateway `count` times while the answer of its batch is on the way.
async fn stops(redis: u16, fleet_number: u64, count: u64) {
    let settings = FleetSettings::new()
        .redis("prefix", &format!("\"fleet-{fleet_number}:\""))
        .redis("call_timeout_ms", "150")
        .redis("claim_after_ms", "250");
    let proxy = HoldProxy::start(redis).await;
    let both = [settings.clone().at(proxy.port()), settings.at(redis)];
    let fleet = Fleet::start_with(&both).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("phone", &Sale::of(1_000)).await;
    let workers = Workers::start(&fleet.shops());
    let mut answers = [0_u64; 2];
    for stop in 0..count {
        let buyer = format!("buyer-{stop}-");
        proxy.hold(&buyer);
        let order = order_in_the_background(&a, "phone", &buyer);
        proxy.until_held().await;
        fleet.gateways[0].pause();
        proxy.release().await;
        let ticket = one_ticket(&b, "phone", &buyer).await;
        workers.until_delivered(&ticket).await;
        fleet.gateways[0].resume();
        // What it finds in its socket is true, but is not its to deliver any more.
        let (status, told) = order.await.unwrap().expect("an answer");
        match status {
            202 => assert_eq!(told, ticket),
            _ => assert_eq!(status, 503, "{told}"),
        }
        answers[usize::from(status == 202)] += 1;
        assert_eq!(a.insist("phone", &buyer, "k").await, ticket);
        assert_eq!(b.insist("phone", &buyer, "k").await, ticket);
        b.until(&buyer, &ticket, "awaiting_payment").await;
    }
    // Whatever the sleeper still has to say comes before what it sells and delivers now. On a busy machine that may
    // be claimed from it too.
    let mut last = Vec::<String>::new();
    while last.last().is_none_or(|ticket| workers.by(ticket) != [0]) {
        assert!(last.len() < 20, "the gateway that slept delivers nothing any more");
        let ticket = a.insist("phone", &format!("last-{}", last.len()), "k").await;
        workers.until_delivered(&ticket).await;
        last.push(ticket);
    }
    let delivered = workers.end().await;
    let sold = count + last.len() as u64;
    assert_eq!(delivered.len() as u64, sold);
    for (ticket, by) in &delivered {
        // Once by one gateway; on a busy machine that one may claim a note twice, and deliver twice.
        let gateway = if last.contains(ticket) { by[0] } else { 1 };
        assert!(by.iter().all(|one| *one == gateway), "{ticket}: {by:?}");
    }
    let audit = fleet.audit("phone").await;
    assert_eq!((audit.number("held"), audit.number("available")), (sold, 1_000 - sold));
    println!(
        "fleet {fleet_number}: {count} stops, {} answered 503 and {} answered 202",
        answers[0], answers[1]
    );
}
