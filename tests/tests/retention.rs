//! The log's beginning goes when nothing needs it; what is left is enough for everything that was promised.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::cell::Cell;
use std::path::Path;
use tidegate_tests::{BOUND, Sale, Server, Settings, Shop, eventually, eventually_within};

fn settings() -> Settings {
    let settings = Settings::new().set("data.segment_bytes", 64 << 10).set("data.snapshot_bytes", 64 << 10);
    settings.set("data.retention_ms", 1_000)
}

/// A pay timer keeps its part of the log until it is due.
fn sale() -> Sale {
    Sale::of(1_000_000).with("order_deadline_ms", 3_600_000).with("pay_window_ms", 2_000)
}

/// Orders of so many buyers; their tickets.
async fn sell(shop: &Shop, prefix: &str, count: usize) -> Vec<String> {
    let attributes = json!({ "attributes": { "note": "x".repeat(1_000) } });
    let mut tickets = Vec::new();
    for n in 0..count {
        let buyer = format!("{prefix}-{n}");
        let headers = [("x-user-id", &*buyer), ("idempotency-key", "k")];
        // Files so small are now and then not ready ahead of the orders.
        let ticket = eventually("the order is taken", || async {
            let reply = shop.public.post("/v1/sales/phone/orders", &headers, &attributes).await;
            assert!(matches!(reply.status, 202 | 503), "{}", reply.text);
            (reply.status == 202).then(|| reply.str("ticket").to_owned())
        });
        tickets.push(ticket.await);
    }
    tickets
}

fn names(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

fn first_segment(settings: &Settings) -> String {
    let names = names(&settings.data_dir().join("commitlog"));
    names.into_iter().filter(|name| name.len() == 20).min().unwrap()
}

/// Sells on until the first file of the log is another one.
async fn until_more_is_gone(server: &Server, prefix: &str) {
    let (before, round) = (first_segment(&server.settings), Cell::new(0));
    eventually_within(BOUND * 4, "the beginning of the log is deleted", || async {
        round.set(round.get() + 1);
        sell(&server.shop, &format!("{prefix}-{}", round.get()), 10).await;
        server.shop.work_off().await;
        (first_segment(&server.settings) > before).then_some(())
    })
    .await;
}

fn damage(folder: &Path) {
    let mut damaged = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        damaged += 1;
    }
    assert!(damaged >= 2);
}

#[tokio::test]
async fn fm49_a_start_without_the_logs_beginning_knows_every_ticket_and_never_one_without_snapshots() {
    let mut server = Server::start_with(settings()).await;
    let shop = server.shop.clone();
    shop.open("phone", &sale()).await;
    // The first orders of all: created and paid, and long over when the log's beginning goes.
    let paid = sell(&shop, "paid", 20).await;
    for ticket in &paid {
        shop.transition(ticket, "created", "row").await.expect(200);
        shop.transition(ticket, "paid", "money").await.expect(200);
    }
    shop.work_off().await;
    sell(&shop, "many", 1_500).await;
    shop.work_off().await;
    for round in 0..2 {
        until_more_is_gone(&server, &format!("r{round}")).await;
        let metrics = shop.inner.get("/metrics", &[]).await.expect(200).text;
        for figure in
            ["tidegate_log_kept_bytes ", "tidegate_log_deleted_segments_total ", "tidegate_log_held_ms{by="]
        {
            assert!(metrics.contains(figure), "{figure} is missing: {metrics}");
        }
        // Those who did not pay have lost their units by now, all of them.
        let before = eventually("nothing is held any more", || async {
            let audit = shop.audit("phone").await;
            (audit.number("held") == 0).then_some(audit)
        })
        .await;
        server.kill().await;
        server.restart().await;
        assert_eq!(shop.audit("phone").await.json, before.json);
        for (n, ticket) in paid.iter().enumerate() {
            let told = shop.ticket(&format!("paid-{n}"), ticket).await.expect(200);
            assert_eq!(told.str("status"), "paid");
            shop.transition(ticket, "paid", "money").await.expect(200);
        }
        let late = shop.public.post("/v1/sales/phone/orders", &[("x-user-id", "paid-0")], &json!({})).await;
        late.expect_problem(409, "limit-reached");
    }
    // Without its snapshots it does not start, let alone sell anew.
    server.kill().await;
    damage(&server.settings.data_dir().join("ledger"));
    server.relaunch();
    assert!(!server.ended().await.success());
    let why = server.stderr();
    assert!(why.contains("the log begins at position") && why.contains("restore"), "{why}");
}

#[tokio::test]
async fn fm49_an_order_that_waits_for_a_worker_keeps_its_part_of_the_log() {
    let server = Server::start_with(settings()).await;
    let shop = server.shop.clone();
    shop.open("phone", &sale()).await;
    let waits = sell(&shop, "waits", 1).await;
    let leased = shop.orders(1, 5_000).await;
    assert_eq!(leased[0]["body"]["ticket"], *waits[0]);
    let first = first_segment(&server.settings);
    // Both snapshots have been replaced since: of all that holds the log, only the order is left.
    let (ledger, round) = (server.settings.data_dir().join("ledger"), Cell::new(0));
    let newest = Cell::new(None);
    for _ in 0..4 {
        eventually("another snapshot is made", || async {
            round.set(round.get() + 1);
            sell(&shop, &format!("r{}", round.get()), 10).await;
            shop.work_off().await;
            let now = names(&ledger).into_iter().max();
            (now > newest.replace(now.clone())).then_some(())
        })
        .await;
    }
    assert_eq!(first_segment(&server.settings), first);
    shop.transition(&waits[0], "created", "row").await.expect(200);
    shop.ack("orders", "order-workers", &leased).await;
    until_more_is_gone(&server, "after").await;
}
