//! What a sale knows outlives the process: stock, restocks, timers.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use tidegate_tests::{Sale, Server, Shop, eventually};

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

#[tokio::test]
async fn fm13_fm55_a_restock_counts_once_also_mid_sale_and_after_a_restart() {
    let mut server = Server::start().await;
    let shop = server.shop.clone();
    shop.open("phone", &Sale::of(2)).await;
    for buyer in ["a", "b"] {
        shop.win("phone", buyer).await;
    }
    sold_out(&shop, "phone").await;
    let restock = async |id: &str, quantity: u64| {
        let body = json!({ "restock_id": id, "quantity": quantity });
        shop.inner.post("/v1/sales/phone/restock", &[], &body).await
    };
    let mut calls = Vec::new();
    for _ in 0..8 {
        let shop = shop.clone();
        calls.push(tokio::spawn(async move {
            let body = json!({ "restock_id": "monday", "quantity": 3 });
            shop.inner.post("/v1/sales/phone/restock", &[], &body).await.expect(200).number("restocked")
        }));
    }
    for call in calls {
        assert_eq!(call.await.unwrap(), 3);
    }
    restock("monday", 4).await.expect_problem(409, "restock-mismatch");
    for buyer in ["c", "d", "e"] {
        wins_in_the_end(&shop, "phone", buyer).await;
    }
    sold_out(&shop, "phone").await;
    server.kill().await;
    server.restart().await;
    assert_eq!(restock("monday", 3).await.expect(200).number("restocked"), 3);
    sold_out(&shop, "phone").await;
    assert_eq!(restock("tuesday", 1).await.expect(200).number("restocked"), 4);
    wins_in_the_end(&shop, "phone", "f").await;
    sold_out(&shop, "phone").await;
    let audit = shop.audit("phone").await;
    assert_eq!((audit.number("initial"), audit.number("restocked"), audit.number("held")), (2, 4, 6));
}

#[tokio::test]
async fn fm15_creating_the_sale_again_after_a_restart_puts_nothing_on_sale_again() {
    let mut server = Server::start().await;
    let shop = server.shop.clone();
    shop.open("phone", &Sale::of(3)).await;
    shop.win("phone", "ann").await;
    server.kill().await;
    server.restart().await;
    let put = async |stock: u64| {
        let body = json!({ "item": "thing", "stock": stock }).to_string();
        shop.inner.send("PUT", "/v1/sales/phone", &[], body.as_bytes()).await
    };
    assert_eq!(put(3).await.expect(200).number("available"), 2);
    put(4).await.expect_problem(409, "stock-already-set");
    for buyer in ["bob", "eve"] {
        shop.win("phone", buyer).await;
    }
    sold_out(&shop, "phone").await;
    shop.audit("phone").await;
}

#[tokio::test]
async fn fm36_timers_survive_a_restart_and_fire_neither_early_nor_never() {
    let mut server = Server::start().await;
    let shop = server.shop.clone();
    shop.open("phone", &Sale::of(3).with("pay_window_ms", 2_500).with("order_deadline_ms", 2_500)).await;
    let unpaid = shop.win("phone", "ann").await;
    shop.transition(&unpaid, "created", "row").await.expect(200);
    let unworked = shop.win("phone", "bob").await;
    let paid = shop.win("phone", "eve").await;
    shop.transition(&paid, "created", "row").await.expect(200);
    shop.transition(&paid, "paid", "pay").await.expect(200);
    server.kill().await;
    server.restart().await;
    assert_eq!(shop.ticket("ann", &unpaid).await.str("status"), "awaiting_payment", "not yet");
    assert_eq!(shop.ticket("bob", &unworked).await.str("status"), "queued", "not yet");
    let expired = shop.until("ann", &unpaid, "expired").await;
    assert!(expired.number("updated_at_ms") >= expired.number("pay_by_ms"));
    let dropped = shop.until("bob", &unworked, "dropped").await;
    assert!(dropped.number("updated_at_ms") >= dropped.number("deadline_ms"));
    assert_eq!(shop.ticket("eve", &paid).await.str("status"), "paid");
    let audit = shop.audit("phone").await;
    assert_eq!((audit.number("returned"), audit.number("sold"), audit.number("available")), (2, 1, 2));
    // Down while it becomes due: at once after the start.
    let late = shop.win("phone", "joe").await;
    let by = shop.transition(&late, "created", "row").await.expect(200).number("pay_by_ms");
    server.kill().await;
    let clock = tidegate_queue::SystemClock::new();
    eventually("the pay window is over", || async {
        (tidegate_queue::Clock::now_ms(&clock) > by).then_some(())
    })
    .await;
    server.restart().await;
    shop.until("joe", &late, "expired").await;
    assert_eq!(shop.audit("phone").await.number("returned"), 3);
}
