//! An order from its ticket to its end, by every way there is, through the real binary.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use tidegate_tests::{Reply, Sale, Server, Settings, Shop, eventually, within};

/// Sold out now; the buyer for whom it is.
async fn sold_out(shop: &Shop, sale: &str) {
    shop.order(sale, "probe", "k").await.expect_problem(410, "sold-out");
}

/// A unit comes back, and this buyer gets it: the flag has fallen by itself.
async fn wins_in_the_end(shop: &Shop, sale: &str, buyer: &str) -> String {
    eventually(&format!("{buyer} gets a returned unit"), || async {
        let reply = shop.order(sale, buyer, "k").await;
        if reply.status == 202 {
            return Some(reply.str("ticket").to_owned());
        }
        reply.expect_problem(410, "sold-out");
        None
    })
    .await
}

/// Leases one order; it must be of this ticket.
async fn take(shop: &Shop, ticket: &str) -> Value {
    let mut orders = shop.orders(1, 20_000).await;
    assert_eq!(orders.len(), 1, "ticket {ticket} was never delivered");
    assert_eq!(orders[0]["body"]["ticket"], ticket);
    orders.remove(0)
}

#[tokio::test]
async fn an_order_is_delivered_created_paid_and_told_at_every_step() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(3).with("quantity_max", 2).with("per_buyer_limit", 2)).await;
    let asked = json!({ "quantity": 2, "attributes": { "address": "Kaiserstraße 1", "lines": [1, 2] } });
    let won = shop.public.post("/v1/sales/phone/orders", &[("x-user-id", "ann")], &asked).await.expect(202);
    let ticket = won.str("ticket");
    let order = take(shop, ticket).await;
    assert_eq!(
        (&order["topic"], &order["tag"], &order["attempt"]),
        (&json!("orders"), &json!("phone"), &json!(1))
    );
    assert_eq!(order["keys"], json!([ticket]));
    let body = &order["body"];
    assert_eq!(body["attributes"], asked["attributes"]);
    for member in ["ticket", "sale", "item", "buyer", "quantity", "won_at_ms", "deadline_ms"] {
        assert_eq!(body[member], won.json[member], "{member}");
    }
    assert_eq!(body["pay_window_ms"], 900_000);
    let created = shop.transition(ticket, "created", "row-1").await.expect(200);
    assert_eq!((created.str("status"), created.str("order_id")), ("awaiting_payment", "row-1"));
    assert_eq!(created.number("pay_by_ms"), created.number("updated_at_ms") + 900_000);
    shop.ack("orders", "order-workers", &[order]).await;
    let paid = shop.transition(ticket, "paid", "pay-1").await.expect(200);
    assert_eq!((paid.str("status"), paid.str("payment_id"), paid.number("version")), ("paid", "pay-1", 3));
    // Each call may be repeated, also after its successor; other data is another thing.
    for (verb, value) in [("created", "row-1"), ("paid", "pay-1")] {
        shop.transition(ticket, verb, value).await.expect(200);
    }
    shop.transition(ticket, "created", "row-2").await.expect_problem(409, "wrong-state");
    let second = shop.transition(ticket, "paid", "pay-2").await.expect_problem(409, "wrong-state");
    assert_eq!(second.json["refund_required"], true, "a second payment must go back");
    shop.transition(ticket, "cancelled", "late").await.expect_problem(409, "wrong-state");
    let audit = shop.audit("phone").await;
    assert_eq!((audit.number("sold"), audit.number("held"), audit.number("available")), (2, 0, 1));
    assert!(shop.orders(10, 100).await.is_empty(), "acknowledged is done");
}

#[tokio::test]
async fn fm08_fm09_fm17_an_unpaid_order_expires_and_its_unit_is_sold_again() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(1).with("pay_window_ms", 400)).await;
    let ann = shop.win("phone", "ann").await;
    sold_out(shop, "phone").await;
    let created = shop.transition(&ann, "created", "row-1").await.expect(200);
    let bob = wins_in_the_end(shop, "phone", "bob").await;
    let expired = shop.ticket("ann", &ann).await;
    assert_eq!((expired.str("status"), expired.number("version")), ("expired", 3));
    assert!(expired.number("updated_at_ms") >= created.number("pay_by_ms"), "never early: {}", expired.text);
    // The released order gets no money and no second life; its buyer may buy again.
    let late = shop.transition(&ann, "paid", "pay-1").await.expect_problem(409, "wrong-state");
    assert_eq!(
        (&late.json["refund_required"], late.json["ticket"]["status"].as_str()),
        (&json!(true), Some("expired"))
    );
    shop.transition(&bob, "created", "row-2").await.expect(200);
    shop.transition(&bob, "paid", "pay-2").await.expect(200);
    shop.order("phone", "ann", "k2").await.expect_problem(410, "sold-out");
    let audit = shop.audit("phone").await;
    assert_eq!((audit.number("sold"), audit.number("returned")), (1, 1));
}

#[tokio::test]
async fn rejected_and_cancelled_orders_return_their_units_once() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(2)).await;
    let ann = shop.win("phone", "ann").await;
    let bob = shop.win("phone", "bob").await;
    sold_out(shop, "phone").await;
    let rejected = shop.transition(&ann, "rejected", "no such address").await.expect(200);
    assert_eq!((rejected.str("status"), rejected.str("reason")), ("rejected", "no such address"));
    shop.transition(&bob, "created", "row-1").await.expect(200);
    let cancelled = shop.transition(&bob, "cancelled", "changed my mind").await.expect(200);
    assert_eq!(cancelled.str("status"), "cancelled");
    for _ in 0..3 {
        shop.transition(&ann, "rejected", "no such address").await.expect(200);
        shop.transition(&bob, "cancelled", "changed my mind").await.expect(200);
    }
    shop.transition(&ann, "created", "row-2").await.expect_problem(409, "wrong-state");
    for buyer in ["eve", "joe"] {
        wins_in_the_end(shop, "phone", buyer).await;
    }
    sold_out(shop, "phone").await;
    let audit = shop.audit("phone").await;
    assert_eq!((audit.number("held"), audit.number("returned")), (2, 2));
    // The two that ended before a worker came are delivered to nobody.
    let delivered = shop.orders(10, 5_000).await;
    let tickets: Vec<_> = delivered.iter().map(|order| order["body"]["buyer"].as_str().unwrap()).collect();
    assert!(!tickets.contains(&"ann"), "{tickets:?}");
}

#[tokio::test]
async fn fm58_with_all_workers_down_stale_orders_are_dropped_told_resold_and_never_delivered() {
    let server = Server::start().await;
    let shop = &server.shop;
    let stock = 30;
    shop.open("phone", &Sale::of(stock).with("order_deadline_ms", 1_500)).await;
    let mut polls = Vec::new();
    let mut stale = Vec::new();
    for n in 0..stock {
        let (shop, buyer) = (shop.clone(), format!("b{n}"));
        let ticket = shop.win("phone", &buyer).await;
        stale.push(ticket.clone());
        polls.push(tokio::spawn(async move {
            let path = format!("/v1/tickets/{ticket}?wait=20&version=1");
            shop.public.get(&path, &[("x-user-id", &buyer)]).await.expect(200)
        }));
    }
    sold_out(shop, "phone").await;
    let began = Instant::now();
    for poll in polls {
        let told = within("the buyer is told", poll).await.unwrap();
        assert_eq!((told.str("status"), told.number("version")), ("dropped", 2));
        assert!(told.number("updated_at_ms") >= told.number("deadline_ms"));
    }
    assert!(began.elapsed() < Duration::from_secs(15), "told by the change, not by the end of their wait");
    for ticket in &stale {
        shop.transition(ticket, "created", "row").await.expect_problem(409, "wrong-state");
    }
    // All units are for sale again, and only the new orders reach the workers that come back.
    let mut fresh = Vec::new();
    for n in 0..stock {
        fresh.push(wins_in_the_end(shop, "phone", &format!("second{n}")).await);
    }
    let mut delivered = shop.work_off().await;
    delivered.sort();
    fresh.sort();
    assert_eq!(delivered, fresh);
    let audit = shop.audit("phone").await;
    assert_eq!((audit.number("held"), audit.number("returned")), (stock, stock));
    assert_eq!(audit.json["tickets"]["dropped"], stock);
}

#[tokio::test]
async fn fm14_fm35_an_order_that_always_fails_ends_as_failed_and_holds_up_nobody() {
    let settings = Settings::new().set("queue.attempts_max", 3).value("queue.retry_delays_ms", "[20]");
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(4).with("order_deadline_ms", 120_000)).await;
    let poison = shop.win("phone", "poison").await;
    let mut good = Vec::new();
    for buyer in ["ann", "bob", "eve"] {
        good.push(shop.win("phone", buyer).await);
    }
    sold_out(shop, "phone").await;
    let mut attempts = Vec::new();
    let mut created = Vec::new();
    while created.len() < 3 || attempts.len() < 3 {
        let orders = shop.orders(2, 20_000).await;
        assert!(!orders.is_empty(), "attempts {attempts:?}, created {created:?}");
        for order in orders {
            let ticket = order["body"]["ticket"].as_str().unwrap();
            if ticket == poison {
                attempts.push(order["attempt"].as_u64().unwrap());
                let path = "/v1/topics/orders/groups/order-workers/nack";
                shop.inner.post(path, &[], &json!({ "receipts": [order["receipt"]] })).await.expect(200);
            } else {
                shop.transition(ticket, "created", ticket).await.expect(200);
                created.push(ticket.to_owned());
                shop.ack("orders", "order-workers", &[order]).await;
            }
        }
    }
    assert_eq!(attempts, [1, 2, 3]);
    let failed = shop.until("poison", &poison, "failed").await;
    assert_eq!(failed.number("version"), 2);
    // One order's end is nobody else's (failure mode 07).
    for (buyer, ticket) in ["ann", "bob", "eve"].iter().zip(&good) {
        assert_eq!(shop.ticket(buyer, ticket).await.str("status"), "awaiting_payment");
    }
    wins_in_the_end(shop, "phone", "joe").await;
    let path = "/v1/topics/orders/groups/order-workers/dead-letters";
    let dead = shop.inner.get(path, &[]).await.expect(200);
    assert_eq!(dead.json["messages"][0]["body"]["ticket"], poison, "{}", dead.text);
    let redriven = shop.inner.post(&format!("{path}/redrive"), &[], &json!({})).await.expect(200);
    let result = &redriven.json["results"][0];
    assert_eq!(
        (&result["ok"], &result["error"]),
        (&json!(false), &json!("ticket-terminal")),
        "{}",
        redriven.text
    );
    let audit = shop.audit("phone").await;
    assert_eq!((audit.number("held"), audit.number("returned")), (4, 1));
}

#[tokio::test]
async fn late_money_is_refused_and_told_to_whoever_listens() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(3)).await;
    let queued = shop.win("phone", "early").await;
    let cancelled = shop.win("phone", "ann").await;
    shop.transition(&cancelled, "created", "row").await.expect(200);
    shop.transition(&cancelled, "cancelled", "no").await.expect(200);
    for ticket in [&queued, &cancelled] {
        for _ in 0..2 {
            let late = shop.transition(ticket, "paid", "pay").await.expect_problem(409, "wrong-state");
            assert_eq!(late.json["refund_required"], true);
            assert_eq!(late.json["ticket"]["ticket"], **ticket);
        }
    }
    let asked = json!({ "max": 100, "wait_ms": 5_000, "tags": ["refund_required"] });
    let mut told: HashMap<String, u64> = HashMap::new();
    while told.len() < 2 {
        let reply =
            shop.inner.post("/v1/topics/order-events/groups/cashier/receive", &[], &asked).await.expect(200);
        let messages = reply.json["messages"].as_array().unwrap().clone();
        assert!(!messages.is_empty(), "{told:?}");
        for message in messages {
            let event = &message["body"];
            assert_eq!(
                (&message["tag"], &event["refund_required"]),
                (&json!("refund_required"), &json!(true))
            );
            assert_eq!((&event["payment_id"], &event["from"]), (&json!("pay"), &event["to"]));
            *told.entry(event["ticket"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    assert!(told.contains_key(&queued) && told.contains_key(&cancelled), "{told:?}");
    // A queued ticket is none the worse for the money that came too early.
    shop.transition(&queued, "created", "row-2").await.expect(200);
    shop.transition(&queued, "paid", "pay-2").await.expect(200);
    let audit = shop.audit("phone").await;
    assert_eq!((audit.number("sold"), audit.number("held"), audit.number("returned")), (1, 0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm19_a_payment_that_races_the_pay_timer_ends_one_way_only() {
    let server = Server::start().await;
    let shop = &server.shop;
    let stock = 60;
    shop.open("phone", &Sale::of(stock).with("pay_window_ms", 700)).await;
    let mut races = Vec::new();
    for n in 0..stock {
        let ticket = shop.win("phone", &format!("b{n}")).await;
        let created = shop.transition(&ticket, "created", "row").await.expect(200);
        let shop = shop.clone();
        races.push(tokio::spawn(async move {
            // Around the instant itself: some a little before it, some a little after.
            let until_due =
                Duration::from_millis(created.number("pay_by_ms") - created.number("updated_at_ms"));
            tokio::time::sleep(
                until_due.saturating_sub(Duration::from_millis(12)) + Duration::from_millis(n % 24),
            )
            .await;
            let paid = shop.transition(&ticket, "paid", "pay").await;
            (n, ticket, paid)
        }));
    }
    let mut sold = 0;
    for race in races {
        let (n, ticket, paid) = race.await.unwrap();
        if paid.status == 200 {
            sold += 1;
        } else {
            assert_eq!(paid.expect_problem(409, "wrong-state").json["refund_required"], true);
        }
        let end = eventually("the ticket ends", || async {
            let reply = shop.ticket(&format!("b{n}"), &ticket).await;
            (reply.str("status") != "awaiting_payment").then_some(reply)
        });
        let end = end.await;
        assert_eq!(end.number("version"), 3, "one end: {}", end.text);
    }
    let audit = shop.audit("phone").await;
    assert_eq!((audit.number("sold"), audit.number("returned")), (sold, stock - sold));
    assert_eq!(audit.json["tickets"]["expired"].as_u64().unwrap_or(0), stock - sold);
}

#[tokio::test]
async fn another_group_sees_every_transition_of_every_ticket_in_order_and_without_gaps() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(40).with("pay_window_ms", 300)).await;
    let mut expected: HashMap<String, Vec<&str>> = HashMap::new();
    for n in 0..40 {
        let ticket = shop.win("phone", &format!("b{n}")).await;
        let steps: &[(&str, &str, &str)] = match n % 4 {
            0 => &[("created", "row", "awaiting_payment"), ("paid", "pay", "paid")],
            1 => &[("rejected", "no", "rejected")],
            2 => &[("created", "row", "awaiting_payment"), ("cancelled", "no", "cancelled")],
            _ => &[("created", "row", "awaiting_payment"), ("", "", "expired")],
        };
        for (verb, value, _) in steps.iter().filter(|(verb, ..)| !verb.is_empty()) {
            shop.transition(&ticket, verb, value).await.expect(200);
        }
        expected.insert(ticket, steps.iter().map(|(.., to)| *to).collect());
    }
    let total: usize = expected.values().map(Vec::len).sum();
    let mut seen: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut count = 0;
    while count < total {
        let events = shop.receive("order-events", "bookkeeper", 16, 10_000).await;
        assert!(!events.is_empty(), "{count} of {total} events");
        for message in &events {
            let event = message["body"].clone();
            assert_eq!((&message["tag"], &message["keys"]), (&event["to"], &json!([event["ticket"]])));
            seen.entry(event["ticket"].as_str().unwrap().to_owned()).or_default().push(event);
            count += 1;
        }
        shop.ack("order-events", "bookkeeper", &events).await;
    }
    for (ticket, steps) in &expected {
        let events = &seen[ticket];
        let versions: Vec<u64> = events.iter().map(|event| event["version"].as_u64().unwrap()).collect();
        assert_eq!(versions, (2..2 + steps.len() as u64).collect::<Vec<_>>(), "{events:?}");
        let mut from = "queued";
        for (event, to) in events.iter().zip(steps) {
            assert_eq!((event["from"].as_str(), event["to"].as_str()), (Some(from), Some(*to)));
            from = to;
        }
    }
    assert!(shop.receive("order-events", "bookkeeper", 16, 100).await.is_empty());
    shop.audit("phone").await;
}

#[tokio::test]
async fn fm45_an_order_whose_worker_died_before_reporting_comes_again_and_is_one_order() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(1)).await;
    let ticket = shop.win("phone", "ann").await;
    let receive = async |wait_ms: u64| -> Vec<Value> {
        let asked = json!({ "max": 5, "wait_ms": wait_ms, "lease_ms": 200 });
        let path = "/v1/topics/orders/groups/order-workers/receive";
        shop.inner.post(path, &[], &asked).await.expect(200).json["messages"].as_array().unwrap().clone()
    };
    let first = receive(20_000).await.remove(0);
    // The first worker has written its row and told the ledger, and is gone before it acknowledges.
    shop.transition(&ticket, "created", "row-of-ticket").await.expect(200);
    let second = receive(20_000).await.remove(0);
    assert_eq!((&second["attempt"], &second["offset"]), (&json!(2), &first["offset"]));
    shop.transition(&ticket, "created", "row-of-ticket").await.expect(200);
    // The dead worker's lease is worth nothing any more (failure mode 34).
    let acks = json!({ "receipts": [first["receipt"], second["receipt"]] });
    let reply: Reply =
        shop.inner.post("/v1/topics/orders/groups/order-workers/ack", &[], &acks).await.expect(200);
    let results = reply.json["results"].as_array().unwrap();
    assert_eq!((&results[0]["ok"], &results[0]["error"]), (&json!(false), &json!("receipt-expired")));
    assert_eq!(results[1]["ok"], true);
    assert!(receive(600).await.is_empty(), "acknowledged once, delivered never again");
    assert_eq!(shop.audit("phone").await.number("held"), 1);
}
