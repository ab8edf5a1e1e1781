//! A gateway on a real file system that runs full, or becomes read only under it. Where the machine permits no loop
//! devices, `durability.rs` tests the same over the faulting storage, and the test says that it did not run here.
#![allow(clippy::unwrap_used)]

#[path = "../../queue/tests/mounted/mod.rs"]
mod mounted;

use mounted::{Mounted, Permitted, assert_inside, run_inside};
use serde_json::{Value, json};
use tidegate_tests::{Sale, Server, Settings, eventually};

fn settings() -> (Settings, Mounted) {
    let settings = Settings::new().set("data.segment_bytes", 256 << 10);
    std::fs::create_dir(settings.data_dir()).unwrap();
    let mounted = Mounted::ext4_at(&settings.data_dir(), 24);
    (settings, mounted)
}

#[test]
fn fm16_fm31_fm33_a_gateway_on_a_full_disk_refuses_orders_and_heals_without_a_restart() {
    run_inside("inside_a_full_disk", Permitted::Ext4);
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn inside_a_full_disk() {
    assert_inside();
    let (settings, mounted) = settings();
    let mut server = Server::start_with(settings).await;
    let shop = server.shop.clone();
    shop.open("phone", &Sale::of(1_000_000).with("order_deadline_ms", 600_000)).await;
    let paying = shop.win("phone", "payer").await;
    shop.transition(&paying, "created", "row").await.expect(200);
    let ballast = mounted.fill();
    let attributes = json!({ "attributes": { "note": "x".repeat(2_000) } });
    let mut told = vec![("payer".to_owned(), paying.clone())];
    let refused = loop {
        let buyer = format!("b{}", told.len());
        let reply = shop.public.post("/v1/sales/phone/orders", &[("x-user-id", &buyer)], &attributes).await;
        if reply.status != 202 {
            break reply;
        }
        told.push((buyer, reply.str("ticket").to_owned()));
        assert!(told.len() < 20_000, "the disk never became full");
    };
    let refused = refused.expect_problem(503, "queue-unavailable");
    assert!(refused.retry_after_s() >= 1);
    assert_eq!(refused.json["ticket"], Value::Null, "a definite refusal leaves nothing to ask for");
    shop.inner.get("/readyz", &[]).await.expect_problem(503, "queue-unavailable");
    shop.inner.get("/healthz", &[]).await.expect(200);
    shop.transition(&paying, "paid", "pay").await.expect(200);
    std::fs::remove_file(ballast).unwrap();
    let late = eventually("orders are taken again", || async {
        let reply = shop.order("phone", "late", "k").await;
        (reply.status == 202).then(|| reply.str("ticket").to_owned())
    })
    .await;
    told.push(("late".to_owned(), late));
    shop.inner.get("/readyz", &[]).await.expect(200);
    server.kill().await;
    server.restart().await;
    for (buyer, ticket) in &told {
        server.shop.ticket(buyer, ticket).await.expect(200);
    }
    let audit = server.shop.audit("phone").await;
    assert_eq!(audit.number("held") + audit.number("sold"), told.len() as u64, "{}", audit.text);
    assert!(server.stop().await.success());
}

#[test]
fn fm30_a_gateway_whose_disk_becomes_read_only_ends_and_the_next_start_has_everything() {
    run_inside("inside_a_read_only_disk", Permitted::Ext4);
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn inside_a_read_only_disk() {
    assert_inside();
    let (settings, mounted) = settings();
    let mut server = Server::start_with(settings).await;
    let shop = server.shop.clone();
    shop.open("phone", &Sale::of(1_000)).await;
    let mut told = Vec::new();
    for n in 0..50 {
        let buyer = format!("b{n}");
        let ticket = shop.win("phone", &buyer).await;
        told.push((buyer, ticket));
    }
    mounted.fail();
    let unknown = shop.order("phone", "unlucky", "k").await.expect_problem(503, "queue-unavailable");
    assert!(unknown.retry_after_s() >= 1);
    let status = server.ended().await;
    assert!(!status.success(), "a log that failed ends the process: {status}");
    mounted.repair();
    server.restart().await;
    for (buyer, ticket) in &told {
        server.shop.ticket(buyer, ticket).await.expect(200);
    }
    // Resolved by its key: the ticket it had, or a new one.
    server.shop.order("phone", "unlucky", "k").await.expect(202);
    let audit = server.shop.audit("phone").await;
    assert_eq!(audit.number("held"), told.len() as u64 + 1, "{}", audit.text);
    assert!(server.stop().await.success());
}
