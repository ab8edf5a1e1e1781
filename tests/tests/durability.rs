//! Nothing escapes before it is durable, nothing that escaped is lost: over a disk that holds syncs back, loses
//! power and fails.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tidegate_queue::storage::{FaultyCall, FaultyStorage, PowerLoss};
use tidegate_tests::{Crowd, InProcess, Reply, Sale, Settings, Shop, Told, eventually, within};
use tokio::task::JoinHandle;

/// Long enough for any answer that does not wait for the disk: a local one takes a millisecond or two.
const SILENCE: Duration = Duration::from_millis(400);

/// A gateway over a disk of our making. A long look back at what a test does not want to wait for.
fn settings() -> Settings {
    Settings::new().set("listen.drain_ms", 200).set("data.snapshot_bytes", 64 << 10)
}

fn disk(settings: &Settings) -> Arc<FaultyStorage> {
    FaultyStorage::new(settings.data_dir())
}

/// Sends on its own task, so that the test can see that no answer comes.
fn ask<F: Future<Output = Reply> + Send + 'static>(
    shop: &Shop,
    ask: impl FnOnce(Shop) -> F,
) -> JoinHandle<Reply> {
    tokio::spawn(ask(shop.clone()))
}

async fn held(disk: &Arc<FaultyStorage>) {
    let disk = disk.clone();
    assert!(tokio::task::spawn_blocking(move || disk.wait_for_held_sync(1)).await.unwrap(), "no sync came");
}

/// None of these is answered for a while.
async fn assert_silent(waiting: &[(&str, JoinHandle<Reply>)]) {
    tokio::time::sleep(SILENCE).await;
    for (what, answer) in waiting {
        assert!(!answer.is_finished(), "{what} was answered before its record was durable");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm46_nothing_tells_of_an_order_before_its_record_is_durable() {
    let settings = settings();
    let disk = disk(&settings);
    let gateway = InProcess::start(&settings, disk.as_storage()).await;
    let shop = &gateway.shop;
    shop.open("phone", &Sale::of(5)).await;
    disk.hold_syncs_of("commitlog");
    let first = ask(shop, |shop| async move { shop.order("phone", "ann", "k").await });
    held(&disk).await;
    let ticket = eventually("the reservation is made", || async {
        let ledger = gateway.gateway.app().stock.embedded().expect("an embedded ledger");
        let tickets = ledger.tickets_of("phone", "ann").unwrap();
        tickets.first().map(|view| view.ticket.to_string())
    })
    .await;
    let poll = {
        let ticket = ticket.clone();
        ask(shop, |shop| async move { shop.ticket("ann", &ticket).await })
    };
    let stream = {
        let (shop, path) = (shop.clone(), format!("/v1/tickets/{ticket}/events"));
        tokio::spawn(
            async move { shop.public.events(&path, &[("x-user-id", "ann")]).await.next().await.unwrap() },
        )
    };
    let waiting = [
        ("the 202", first),
        ("the repeated answer", ask(shop, |shop| async move { shop.order("phone", "ann", "k").await })),
        ("limit-reached", ask(shop, |shop| async move { shop.order("phone", "ann", "k2").await })),
        ("the poll", poll),
        (
            "the list",
            ask(shop, |shop| async move {
                shop.public.get("/v1/sales/phone/tickets", &[("x-user-id", "ann")]).await
            }),
        ),
    ];
    // Nothing is delivered, to whichever group.
    assert!(shop.orders(10, 200).await.is_empty());
    assert!(shop.receive("orders", "another-group", 10, 100).await.is_empty());
    assert_silent(&waiting).await;
    assert!(!stream.is_finished(), "the event stream told of an order that is not durable");
    disk.release_syncs();
    for (what, answer) in waiting {
        let answer = within(what, answer).await.unwrap();
        assert!(answer.text.contains(&ticket), "{what}: {}", answer.text);
    }
    assert_eq!(within("the stream", stream).await.unwrap().data["ticket"], ticket);
    let orders = shop.orders(10, 10_000).await;
    assert_eq!(orders.len(), 1);
    assert_eq!(orders[0]["body"]["ticket"], ticket);
    shop.audit("phone").await;
    gateway.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm46_nothing_tells_of_a_transition_before_its_record_is_durable() {
    let settings = settings();
    let disk = disk(&settings);
    let gateway = InProcess::start(&settings, disk.as_storage()).await;
    let shop = &gateway.shop;
    shop.open("phone", &Sale::of(1)).await;
    let ticket = shop.win("phone", "ann").await;
    let orders = shop.orders(1, 10_000).await;
    assert_eq!(orders.len(), 1);
    shop.order("phone", "bob", "k").await.expect_problem(410, "sold-out");
    disk.hold_syncs_of("commitlog");
    let rejected = {
        let ticket = ticket.clone();
        ask(shop, |shop| async move { shop.transition(&ticket, "rejected", "no such address").await })
    };
    held(&disk).await;
    let repeated = {
        let ticket = ticket.clone();
        ask(shop, |shop| async move { shop.transition(&ticket, "rejected", "no such address").await })
    };
    let poll = {
        let path = format!("/v1/tickets/{ticket}?wait=20&version=1");
        ask(shop, |shop| async move { shop.public.get(&path, &[("x-user-id", "ann")]).await })
    };
    let refused = {
        let ticket = ticket.clone();
        ask(shop, |shop| async move { shop.transition(&ticket, "created", "row-1").await })
    };
    let waiting = [
        ("the transition", rejected),
        ("its repetition", repeated),
        ("the long poll", poll),
        ("wrong-state", refused),
    ];
    assert!(shop.receive("order-events", "audit", 10, 200).await.is_empty(), "an event before it is durable");
    // The unit is not for sale while a crash could still take its return back.
    shop.order("phone", "bob", "k").await.expect_problem(410, "sold-out");
    assert_silent(&waiting).await;
    shop.order("phone", "bob", "k").await.expect_problem(410, "sold-out");
    disk.release_syncs();
    for (what, answer) in waiting {
        let answer = within(what, answer).await.unwrap();
        assert!(answer.text.contains("rejected"), "{what}: {}", answer.text);
    }
    let events = shop.receive("order-events", "audit", 10, 10_000).await;
    assert_eq!(events[0]["body"]["to"], "rejected");
    eventually("the unit is sold again", || async {
        (shop.order("phone", "bob", "k").await.status == 202).then_some(())
    })
    .await;
    shop.audit("phone").await;
    gateway.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm04_fm05_a_slow_disk_makes_no_failure_of_an_order() {
    let settings = settings();
    let disk = disk(&settings);
    let gateway = InProcess::start(&settings, disk.as_storage()).await;
    let shop = &gateway.shop;
    shop.open("phone", &Sale::of(1)).await;
    disk.hold_syncs_of("commitlog");
    // A client that gives up, twice.
    for _ in 0..2 {
        let order = shop.order("phone", "ann", "k");
        assert!(tokio::time::timeout(SILENCE, order).await.is_err());
    }
    // The unit is not given to another one meanwhile.
    shop.order("phone", "bob", "k").await.expect_problem(410, "sold-out");
    disk.release_syncs();
    let ticket = shop.order("phone", "ann", "k").await.expect(202).str("ticket").to_owned();
    let orders = shop.orders(10, 10_000).await;
    assert_eq!((orders.len(), orders[0]["body"]["ticket"].as_str()), (1, Some(&*ticket)));
    assert_eq!(shop.audit("phone").await.number("held"), 1);
    gateway.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm03_fm16_power_loss_under_a_running_sale_takes_no_answered_ticket() {
    let stock = 100_000;
    for seed in 0..6 {
        let settings = settings();
        let disk = disk(&settings);
        let told = Arc::new(Told::default());
        for round in 0..3 {
            let gateway = InProcess::start(&settings, disk.as_storage()).await;
            let shop = gateway.shop.clone();
            if round == 0 {
                shop.open("phone", &Sale::of(stock).with("order_deadline_ms", 600_000)).await;
            } else {
                told.assert_kept(&shop, "phone").await;
            }
            let crowd = Crowd::gather(&shop, &told, "phone", round);
            told.until_tickets((round as usize + 1) * (60 + 17 * seed as usize)).await;
            // The instant of the loss: no later sync succeeds. What the disk keeps of the rest is drawn by seed.
            disk.kill();
            crowd.disperse().await;
            assert!(gateway.shutdown().await.is_err(), "a log on a dead disk cannot be closed cleanly");
            let mode = if seed % 2 == 0 { PowerLoss::Everything } else { PowerLoss::Blocks(512) };
            disk.power_loss(seed * 10 + round, mode);
        }
        let gateway = InProcess::start(&settings, disk.as_storage()).await;
        told.assert_kept(&gateway.shop, "phone").await;
        assert!(told.created_and_paid().1 > 0, "nothing was paid: the workers did nothing");
        // Whatever was queued is still delivered, and then the books close.
        gateway.shop.work_off().await;
        let audit = gateway.shop.audit("phone").await;
        assert_eq!(audit.json["tickets"]["queued"].as_u64().unwrap_or(0), 0, "{}", audit.text);
        gateway.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm30_after_a_failed_sync_nothing_is_acknowledged_until_a_restart_resolves_it() {
    let settings = settings();
    let disk = disk(&settings);
    let gateway = InProcess::start(&settings, disk.as_storage()).await;
    let shop = gateway.shop.clone();
    shop.open("phone", &Sale::of(10)).await;
    let before = shop.win("phone", "ann").await;
    shop.inner.get("/readyz", &[]).await.expect(200);
    disk.fail(FaultyCall::Sync, "commitlog", 1, ErrorKind::Other);
    let unknown = shop.order("phone", "bob", "k").await.expect_problem(503, "queue-unavailable");
    let ticket = unknown.str("ticket").to_owned();
    assert_eq!(ticket.len(), 26, "what is unknown is named: {}", unknown.text);
    assert!(unknown.retry_after_s() >= 1);
    // The disk works again; the log does not trust it.
    for buyer in ["bob", "eve"] {
        shop.order("phone", buyer, "k").await.expect_problem(503, "queue-unavailable");
    }
    shop.transition(&before, "created", "row-1").await.expect_problem(503, "queue-unavailable");
    shop.inner.get("/readyz", &[]).await.expect_problem(503, "queue-unavailable");
    shop.inner.get("/healthz", &[]).await.expect(200);
    // What was durable before may still be told.
    shop.ticket("ann", &before).await.expect(200);
    assert!(gateway.shutdown().await.is_err());

    let gateway = InProcess::start(&settings, disk.as_storage()).await;
    let shop = gateway.shop.clone();
    shop.inner.get("/readyz", &[]).await.expect(200);
    assert_eq!(shop.order("phone", "ann", "k").await.expect(202).str("ticket"), before);
    // Resolved by its key: this ticket or, had the record not survived, a new one; never both.
    let resolved = shop.order("phone", "bob", "k").await.expect(202).str("ticket").to_owned();
    let survived = shop.ticket("bob", &ticket).await.status == 200;
    assert_eq!(survived, resolved == ticket, "{ticket} {resolved}");
    assert_eq!(shop.audit("phone").await.number("held"), 2);
    gateway.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm50_what_a_failed_sync_lost_with_the_power_is_not_served_after_it() {
    let settings = settings();
    let disk = disk(&settings);
    let gateway = InProcess::start(&settings, disk.as_storage()).await;
    let shop = gateway.shop.clone();
    shop.open("phone", &Sale::of(10)).await;
    let before = shop.win("phone", "ann").await;
    disk.fail(FaultyCall::Sync, "commitlog", 1, ErrorKind::Other);
    shop.order("phone", "bob", "k").await.expect_problem(503, "queue-unavailable");
    assert!(gateway.shutdown().await.is_err());
    // A restart that serves what only the page cache holds, and then the power goes.
    let gateway = InProcess::start(&settings, disk.as_storage()).await;
    let shop = gateway.shop.clone();
    let told = shop.order("phone", "bob", "k").await.expect(202).str("ticket").to_owned();
    disk.kill();
    let _ = gateway.shutdown().await;
    disk.power_loss(1, PowerLoss::Everything);
    let gateway = InProcess::start(&settings, disk.as_storage()).await;
    let shop = gateway.shop.clone();
    assert_eq!(shop.order("phone", "ann", "k").await.expect(202).str("ticket"), before);
    assert_eq!(shop.order("phone", "bob", "k").await.expect(202).str("ticket"), told);
    assert_eq!(shop.audit("phone").await.number("held"), 2);
    gateway.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm31_fm33_a_full_disk_refuses_orders_keeps_payments_and_heals_by_itself() {
    let settings = settings().set("data.segment_bytes", 256 << 10);
    let disk = disk(&settings);
    let gateway = InProcess::start(&settings, disk.as_storage()).await;
    let shop = &gateway.shop;
    shop.open("phone", &Sale::of(1_000_000).with("order_deadline_ms", 600_000)).await;
    let paying = shop.win("phone", "payer").await;
    shop.transition(&paying, "created", "row").await.expect(200);
    disk.set_quota(Some(disk.used()));
    let attributes = json!({ "attributes": { "note": "x".repeat(2_000) } });
    let mut won = 1;
    let refused = loop {
        let headers = [("x-user-id", &*format!("b{won}"))];
        let reply = shop.public.post("/v1/sales/phone/orders", &headers, &attributes).await;
        if reply.status != 202 {
            break reply;
        }
        won += 1;
        assert!(won < 5_000, "the disk never became full");
    };
    let refused = refused.expect_problem(503, "queue-unavailable");
    assert!(refused.retry_after_s() >= 1);
    assert_eq!(refused.json["ticket"], Value::Null, "a definite refusal leaves nothing to ask for");
    let audit = shop.audit("phone").await;
    assert_eq!((audit.number("held"), audit.number("available")), (won, 1_000_000 - won), "the unit is back");
    // Owed work has its space: a payment and a cancellation go through.
    shop.transition(&paying, "paid", "pay").await.expect(200);
    // Space comes back, and nobody has to restart anything.
    disk.set_quota(None);
    eventually("orders are taken again", || async {
        (shop.order("phone", "late", "k").await.status == 202).then_some(())
    })
    .await;
    shop.audit("phone").await;
    gateway.shutdown().await.unwrap();
}
