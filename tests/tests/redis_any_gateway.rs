//! Two gateways, one stock: whatever one has sold, the other knows.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegate_tests::{Fleet, Sale, Shop, eventually};

#[tokio::test]
async fn a_ticket_is_told_and_moved_by_any_gateway() {
    let (_redis, fleet) = Fleet::two().await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("phone", &Sale::of(5)).await;
    let ticket = a.win("phone", "ann").await;
    let (at_a, at_b) =
        (a.ticket("ann", &ticket).await.expect(200), b.ticket("ann", &ticket).await.expect(200));
    assert_eq!(at_a.json, at_b.json);
    b.ticket("eve", &ticket).await.expect_problem(404, "ticket-not-found");
    let own = b.tickets_of("phone", "ann").await.unwrap();
    assert_eq!(own, vec![at_a.json.clone()]);
    assert!(b.tickets_of("phone", "eve").await.unwrap().is_empty());
    b.transition(&ticket, "created", "row").await.expect(200);
    assert_eq!(a.ticket("ann", &ticket).await.str("status"), "awaiting_payment");
    a.transition(&ticket, "created", "row").await.expect(200);
    a.transition(&ticket, "created", "other").await.expect_problem(409, "wrong-state");
    a.transition(&ticket, "paid", "money").await.expect(200);
    assert_eq!(b.ticket("ann", &ticket).await.str("status"), "paid");
    let audit = fleet.audit("phone").await;
    assert_eq!((audit.number("sold"), audit.number("available")), (1, 4));
}

#[tokio::test]
async fn a_long_poll_and_an_event_stream_hear_of_what_another_gateway_did() {
    let (_redis, fleet) = Fleet::two().await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("phone", &Sale::of(5)).await;
    let ticket = a.win("phone", "ann").await;
    let path = format!("/v1/tickets/{ticket}");
    let mut events = b.public.events(&format!("{path}/events"), &[("x-user-id", "ann")]).await;
    assert_eq!(events.next().await.unwrap().id, "1");
    for (version, verb, status) in [(1, "created", "awaiting_payment"), (2, "paid", "paid")] {
        let poll = tokio::spawn({
            let (b, path) = (b.clone(), format!("{path}?wait=20&version={version}"));
            async move { b.public.get(&path, &[("x-user-id", "ann")]).await }
        });
        // The poll has reached the gateway when the gateway has read the ticket: no matter if it has not yet.
        tokio::task::yield_now().await;
        let moved = Instant::now();
        a.transition(&ticket, verb, "x").await.expect(200);
        assert_eq!(poll.await.unwrap().expect(200).str("status"), status);
        assert!(moved.elapsed() < Duration::from_secs(5), "woken after {:?}", moved.elapsed());
        let event = events.next().await.unwrap();
        assert_eq!((&*event.id, event.data["status"].as_str()), (&*(version + 1).to_string(), Some(status)));
    }
    assert!(events.next().await.is_none(), "the ticket is at its end");
}

#[tokio::test]
async fn fm07_a_failed_order_is_told_to_its_buyer_alone() {
    let (_redis, fleet) = Fleet::two().await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("phone", &Sale::of(10)).await;
    let (anns, bobs) = (a.win("phone", "ann").await, b.win("phone", "bob").await);
    let poll = tokio::spawn({
        let (a, path) = (a.clone(), format!("/v1/tickets/{bobs}?wait=20&version=1"));
        async move { a.public.get(&path, &[("x-user-id", "bob")]).await }
    });
    b.transition(&anns, "rejected", "the row could not be written").await.expect(200);
    let eves = b.win("phone", "eve").await;
    for shop in [&a, &b] {
        assert_eq!(shop.ticket("ann", &anns).await.expect(200).str("status"), "rejected");
        assert_eq!(shop.ticket("bob", &bobs).await.expect(200).str("status"), "queued");
        assert_eq!(shop.ticket("eve", &eves).await.expect(200).str("status"), "queued");
    }
    // Nor is it the buyer's for good: under another key they buy again, and the first ticket stays as it is.
    let second = a.order("phone", "ann", "again").await.expect(202).str("ticket").to_owned();
    for shop in [&a, &b] {
        assert_eq!(shop.ticket("ann", &second).await.expect(200).str("status"), "queued");
        assert_eq!(shop.order("phone", "ann", "k").await.expect(202).str("ticket"), anns);
        assert_eq!(shop.ticket("ann", &anns).await.expect(200).str("status"), "rejected");
    }
    assert!(!poll.is_finished(), "another buyer's poll was answered");
    b.transition(&bobs, "created", "row").await.expect(200);
    assert_eq!(poll.await.unwrap().expect(200).str("status"), "awaiting_payment");
}

#[tokio::test]
async fn fm56_a_winner_is_never_told_sold_out_by_another_gateway() {
    let (_redis, fleet) = Fleet::two().await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    for round in 0..20 {
        let sale = format!("phone-{round}");
        fleet.open(&sale, &Sale::of(2)).await;
        let ann = a.win(&sale, "ann").await;
        let bob = b.win(&sale, "bob").await;
        // At once, with whatever each gateway has heard by now, and again with the flag set.
        for state in ["any", "sold_out"] {
            if state == "sold_out" {
                a.until_state(&sale, state).await;
                b.until_state(&sale, state).await;
                a.order(&sale, "eve", "k").await.expect_problem(410, "sold-out");
                b.order(&sale, "eve", "k").await.expect_problem(410, "sold-out");
            }
            for shop in [&a, &b] {
                assert_eq!(shop.order(&sale, "ann", "k").await.expect(202).str("ticket"), ann);
                assert_eq!(shop.order(&sale, "bob", "k").await.expect(202).str("ticket"), bob);
            }
        }
        fleet.audit(&sale).await;
    }
}

#[tokio::test]
async fn fm01_a_buyers_limit_holds_across_gateways_and_no_refused_order_takes_a_unit() {
    const BUYERS: u64 = 40;
    let (_redis, fleet) = Fleet::two().await;
    fleet.open("phone", &Sale::of(1_000)).await;
    let mut presses = Vec::new();
    for n in 0..BUYERS * 6 {
        let shop = fleet.shop((n % 2) as usize);
        let (buyer, key) = (format!("b{}", n / 6), format!("k{n}"));
        presses.push(tokio::spawn(async move { (buyer.clone(), shop.order("phone", &buyer, &key).await) }));
    }
    let (mut winners, mut refused) = (HashSet::new(), 0);
    for press in presses {
        let (buyer, reply) = press.await.unwrap();
        if reply.status == 202 {
            assert!(winners.insert(buyer), "a second unit: {}", reply.text);
        } else {
            let reply = reply.expect_problem(409, "limit-reached");
            assert_eq!(reply.json["tickets"].as_array().unwrap().len(), 1, "{}", reply.text);
            refused += 1;
        }
    }
    assert_eq!((winners.len() as u64, refused), (BUYERS, BUYERS * 5));
    assert_eq!(fleet.audit("phone").await.number("held"), BUYERS);
}

async fn state_seen(shop: &Shop, sale: &str, state: &str) -> Duration {
    let began = Instant::now();
    loop {
        let reply = shop.public.get(&format!("/v1/sales/{sale}"), &[]).await.expect(200);
        if reply.str("state") == state {
            return began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{sale} is not {state} at the other gateway");
    }
}

fn percentiles(what: &str, mut all: Vec<Duration>) -> Duration {
    all.sort();
    let at = |share: f64| all[((all.len() - 1) as f64 * share).round() as usize];
    println!("{what}: p50 {:?}, p90 {:?}, p99 {:?}, most {:?}", at(0.5), at(0.9), at(0.99), at(1.0));
    at(0.99)
}

#[tokio::test]
async fn fm08_fm09_sold_out_and_reopening_reach_the_other_gateway_within_moments() {
    let (_redis, fleet) = Fleet::two().await;
    fleet.open("phone", &Sale::of(1)).await;
    let (mut ends, mut openings) = (Vec::new(), Vec::new());
    for round in 0..200 {
        let [here, there] = [fleet.shop(round % 2), fleet.shop((round + 1) % 2)];
        let buyer = format!("b{round}");
        // A unit that came back is for sale at any gateway, also at one that has not heard of it.
        let ticket = eventually("the unit is sold", || async {
            let reply = here.order("phone", &buyer, "k").await;
            (reply.status == 202).then(|| reply.str("ticket").to_owned())
        })
        .await;
        ends.push(state_seen(&there, "phone", "sold_out").await);
        here.until_state("phone", "sold_out").await;
        here.transition(&ticket, "rejected", "no").await.expect(200);
        openings.push(state_seen(&there, "phone", "open").await);
        here.until_state("phone", "open").await;
    }
    let ends = percentiles("sold out at the other gateway", ends);
    let openings = percentiles("open again at the other gateway", openings);
    assert!(ends < Duration::from_millis(500) && openings < Duration::from_millis(500));
    let audit = fleet.audit("phone").await;
    assert_eq!((audit.number("available"), audit.number("returned")), (1, 200));
}

#[tokio::test]
async fn fm10_late_answers_of_sold_out_never_keep_a_reopened_sale_shut() {
    const WINS: u64 = 150;
    let (_redis, fleet) = Fleet::two().await;
    fleet.open("phone", &Sale::of(1)).await;
    let (stop, wins, next) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut crowd = Vec::new();
    for n in 0..8 {
        let [here, there] = [fleet.shop(n % 2), fleet.shop((n + 1) % 2)];
        let (stop, wins, next) = (stop.clone(), wins.clone(), next.clone());
        crowd.push(tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let buyer = format!("b{}", next.fetch_add(1, Ordering::SeqCst));
                let reply = here.order("phone", &buyer, "k").await;
                if reply.status == 202 {
                    wins.fetch_add(1, Ordering::SeqCst);
                    there.transition(reply.str("ticket"), "rejected", "no").await.expect(200);
                } else {
                    reply.expect_problem(410, "sold-out");
                }
            }
        }));
    }
    // A flag that stuck would end this: units come back only when they are sold.
    eventually("the unit is sold again and again", || async {
        (wins.load(Ordering::SeqCst) >= WINS).then_some(())
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    for one in crowd {
        one.await.unwrap();
    }
    for shop in fleet.shops() {
        shop.until_state("phone", "open").await;
    }
    let audit = fleet.audit("phone").await;
    assert_eq!((audit.number("available"), audit.number("held")), (1, 0));
    assert_eq!(audit.json["tickets"]["rejected"], json!(wins.load(Ordering::SeqCst)));
}
