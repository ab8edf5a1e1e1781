//! The real process killed, or told to end, in the middle of a sale.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_tests::{Crowd, Sale, Server, Told, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm03_fm06_fm16_kill_9_under_load_loses_no_answered_ticket() {
    let mut server = Server::start().await;
    let shop = server.shop.clone();
    shop.open("phone", &Sale::of(1_000_000).with("order_deadline_ms", 600_000)).await;
    let told = Arc::new(Told::default());
    for round in 0..4 {
        let crowd = Crowd::gather(&shop, &told, "phone", round);
        told.until_tickets((round as usize + 1) * 120).await;
        server.kill().await;
        crowd.disperse().await;
        server.restart().await;
        told.assert_kept(&shop, "phone").await;
    }
    // Every unit that was taken has an order that reaches a worker: none is held by nobody.
    shop.work_off().await;
    let audit = shop.audit("phone").await;
    assert_eq!(audit.json["tickets"]["queued"].as_u64().unwrap_or(0), 0, "{}", audit.text);
    assert!(told.created_and_paid().1 > 0, "nothing was paid: the workers did nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm44_sigterm_under_load_loses_no_answered_ticket_ends_polls_and_exits_0() {
    let mut server = Server::start().await;
    let shop = server.shop.clone();
    shop.open("phone", &Sale::of(1_000_000).with("order_deadline_ms", 600_000)).await;
    let told = Arc::new(Told::default());
    let waiting = shop.win("phone", "patient").await;
    for round in 0..2 {
        let version = shop.ticket("patient", &waiting).await.number("version");
        let path = format!("/v1/tickets/{waiting}?wait=60&version={}", version + 5);
        let poll = tokio::spawn({
            let shop = shop.clone();
            async move { shop.public.try_send("GET", &path, &[("x-user-id", "patient")], b"").await }
        });
        let path = format!("/v1/tickets/{waiting}/events");
        let mut stream = shop.public.events(&path, &[("x-user-id", "patient")]).await;
        stream.next().await.unwrap();
        let receiver = tokio::spawn({
            let shop = shop.clone();
            async move { shop.receive("nothing-comes", "here", 1, 60_000).await }
        });
        let crowd = Crowd::gather(&shop, &told, "phone", round);
        told.until_tickets((round as usize + 1) * 100).await;
        let began = Instant::now();
        server.terminate();
        let poll = within("the long poll ends", poll).await.unwrap();
        assert_eq!(poll.unwrap().expect(200).str("ticket"), waiting);
        assert!(within("the receive ends", receiver).await.unwrap().is_empty());
        while stream.next().await.is_some() {}
        assert_eq!(server.ended().await.code(), Some(0), "{}", server.stderr());
        assert!(
            began.elapsed() < Duration::from_secs(9),
            "the drain waited for its bound: {:?}",
            began.elapsed()
        );
        crowd.disperse().await;
        server.restart().await;
        told.assert_kept(&shop, "phone").await;
    }
}

#[tokio::test]
async fn a_gateway_without_any_load_ends_at_once() {
    let mut server = Server::start().await;
    // A kept connection without a request on it is no reason to wait.
    server.shop.inner.get("/healthz", &[]).await.expect(200);
    let began = Instant::now();
    assert_eq!(server.stop().await.code(), Some(0), "{}", server.stderr());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
