//! Nothing escapes before it is durable: no answer, no repeated answer, no poll, no delivery, no audit tells of a
//! record that a crash could take back; and what was answered outlives a power loss.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{Pending, Running, eventually, send, start_over};
use std::sync::Arc;
use tidegate_queue::storage::{FaultyStorage, PowerLoss};
use tidegate_stock::{TicketId, TicketStatus};

/// A gateway whose disk the test commands.
fn start_faulty() -> (Running, Arc<FaultyStorage>) {
    let mut storage = None;
    let gateway = start_over(tempfile::tempdir().unwrap(), "", |data| {
        let faulty = FaultyStorage::new(data);
        storage = Some(faulty.clone());
        faulty.as_storage()
    });
    (gateway, storage.unwrap())
}

/// Holds syncs back until it is dropped: a gateway that is closed meanwhile would wait for ever.
struct Held<'s>(&'s FaultyStorage);

impl<'s> Held<'s> {
    fn new(storage: &'s FaultyStorage) -> Self {
        storage.hold_syncs();
        Self(storage)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.release_syncs();
    }
}

#[test]
fn fm46_nothing_is_told_before_its_record_is_durable() {
    let (gateway, storage) = start_faulty();
    gateway.sale("s", 5, ",\"per_buyer_limit\":2");
    let alice = gateway.win("s", "alice");
    let leased = gateway.receive("orders", "order-workers", "{\"wait_ms\":5000}");
    assert_eq!(leased.len(), 1);
    let held = Held::new(&storage);

    let id: TicketId = alice.parse().unwrap();
    let ledger = gateway.app().stock.embedded().expect("an embedded ledger");
    let inner = |method, path: &str, body| Pending::send(gateway.inner, method, path, "", body);
    let public = |method, path: &str, headers| Pending::send(gateway.public, method, path, headers, "");
    let bob = "X-User-Id: bob\r\nIdempotency-Key: k\r\n";

    // What changes something …
    let mut pending = vec![
        ("created", 200, inner("POST", &format!("/v1/tickets/{alice}/created"), "{\"order_id\":\"1\"}")),
        ("win", 202, public("POST", "/v1/sales/s/orders", bob)),
        ("new sale", 201, inner("PUT", "/v1/sales/t", "{\"item\":\"i\",\"stock\":1}")),
        ("restock", 200, inner("POST", "/v1/sales/s/restock", "{\"restock_id\":\"r\",\"quantity\":1}")),
        ("publish", 200, inner("POST", "/v1/topics/x/messages", "{\"messages\":[{\"body\":1}]}")),
    ];
    assert!(storage.wait_for_held_sync(1));
    eventually("all of it happened in memory", || {
        let created = ledger.ticket(id)?.status == TicketStatus::AwaitingPayment;
        let restocked = ledger.sale("s")?.stock.restocked == 1;
        (created && restocked && ledger.live_tickets() == 2 && ledger.sale("t").is_some()).then_some(())
    });
    // … and what tells of it.
    pending.extend([
        (
            "repeated created",
            200,
            inner("POST", &format!("/v1/tickets/{alice}/created"), "{\"order_id\":\"1\"}"),
        ),
        ("refused paid", 409, inner("POST", &format!("/v1/tickets/{alice}/rejected"), "{\"reason\":\"x\"}")),
        ("repeated win", 202, public("POST", "/v1/sales/s/orders", bob)),
        ("own tickets", 200, public("GET", "/v1/sales/s/tickets", bob)),
        ("poll", 200, public("GET", &format!("/v1/tickets/{alice}"), "X-User-Id: alice\r\n")),
        ("sale", 200, inner("GET", "/v1/sales/s", "")),
        ("sales", 200, inner("GET", "/v1/sales", "")),
        ("audit", 200, inner("GET", "/v1/sales/s/audit", "")),
        ("delivery", 200, inner("POST", "/v1/topics/orders/groups/second/receive", "{\"wait_ms\":0}")),
        ("all audits", 200, inner("GET", "/v1/audit", "")),
    ]);
    // The gateway is alive and has had every chance to answer.
    for _ in 0..100 {
        assert_eq!(gateway.get("/healthz").status, 200);
        assert_eq!(send(gateway.public, "GET", "/v1/sales/s", "", "").status, 200);
    }
    for (what, _, request) in &pending {
        assert!(!request.is_answered(), "{what} was answered before its record is durable");
    }
    assert!(gateway.receive("order-events", "second", "{\"wait_ms\":0}").is_empty());
    assert!(gateway.receive("x", "g", "{\"wait_ms\":0}").is_empty());
    assert_eq!(send(gateway.public, "GET", "/v1/sales/t", "", "").problem().1, "sale-not-found");

    drop(held);
    for (what, status, request) in pending {
        assert_eq!(request.answer().status, status, "{what}");
    }
}

#[test]
fn fm50_what_was_answered_outlives_a_power_loss() {
    for seed in 0..5 {
        let (gateway, storage) = start_faulty();
        gateway.sale("s", 1_000, "");
        let mut won: Vec<(String, String)> = Vec::new();
        for buyer in 0..20 {
            won.push((format!("b{buyer}"), gateway.win("s", &format!("b{buyer}"))));
        }
        let paid = &won[0].1;
        gateway.post(&format!("/v1/tickets/{paid}/created"), "{\"order_id\":\"1\"}");
        assert_eq!(gateway.post(&format!("/v1/tickets/{paid}/paid"), "{\"payment_id\":\"p\"}").status, 200);
        // Orders that are under way, unanswered, when the power goes.
        storage.hold_syncs();
        let unanswered: Vec<Pending> = (20..40)
            .map(|buyer| {
                let header = format!("X-User-Id: b{buyer}\r\n");
                Pending::send(gateway.public, "POST", "/v1/sales/s/orders", &header, "")
            })
            .collect();
        assert!(storage.wait_for_held_sync(1));
        storage.kill();
        let dir = gateway.abandon();
        drop(unanswered);
        storage.power_loss(seed, if seed == 0 { PowerLoss::Everything } else { PowerLoss::Blocks(512) });

        let gateway = start_over(dir, "", |_| storage.as_storage());
        for (buyer, ticket) in &won {
            let header = format!("X-User-Id: {buyer}\r\n");
            let answer = send(gateway.public, "GET", &format!("/v1/tickets/{ticket}"), &header, "");
            assert_eq!(answer.status, 200, "seed {seed}: {buyer} {answer:?}");
            assert_eq!(answer.json()["status"], if ticket == paid { "paid" } else { "queued" });
        }
        assert_eq!(gateway.get("/v1/audit").status, 200);
    }
}
