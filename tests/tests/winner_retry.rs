//! A winner who retries by idempotency key gets the same ticket, whatever has become of the sale meanwhile.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use tidegate_tests::{Sale, Server, Settings, Shop, eventually};
use tokio::io::AsyncWriteExt;

/// The retry answers 202 with this very ticket.
async fn retries(shop: &Shop, sale: &str, buyer: &str, ticket: &str) {
    let again = shop.order(sale, buyer, "k").await.expect(202);
    assert_eq!((again.str("ticket"), again.str("buyer")), (ticket, buyer));
    assert_eq!(again.header("location"), format!("/v1/tickets/{ticket}"));
}

#[tokio::test]
async fn fm56_a_winner_is_never_told_sold_out() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(2)).await;
    let ann = shop.win("phone", "ann").await;
    let bob = shop.win("phone", "bob").await;
    shop.order("phone", "eve", "k").await.expect_problem(410, "sold-out");
    for _ in 0..3 {
        retries(shop, "phone", "ann", &ann).await;
        retries(shop, "phone", "bob", &bob).await;
    }
    // Another key is another order; the same key of another buyer is nobody's.
    let refused = shop.order("phone", "ann", "k2").await;
    assert!(matches!(refused.status, 409 | 410), "{}", refused.text);
    shop.order("phone", "eve", "k").await.expect_problem(410, "sold-out");
    let audit = shop.audit("phone").await;
    assert_eq!((audit.number("held"), audit.number("available")), (2, 0));
}

#[tokio::test]
async fn fm56_a_winner_is_never_told_closed() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(5)).await;
    let ann = shop.win("phone", "ann").await;
    shop.close("phone").await;
    shop.order("phone", "eve", "k").await.expect_problem(410, "sale-closed");
    retries(shop, "phone", "ann", &ann).await;
    assert_eq!(shop.audit("phone").await.number("held"), 1);
}

#[tokio::test]
async fn fm56_a_winner_gets_the_same_ticket_from_the_next_process() {
    let mut server = Server::start().await;
    let shop = server.shop.clone();
    shop.open("sold-out", &Sale::of(2)).await;
    shop.open("closed", &Sale::of(2)).await;
    shop.open("going-on", &Sale::of(2)).await;
    let mut tickets = Vec::new();
    for sale in ["sold-out", "closed", "going-on"] {
        tickets.push((sale, "ann", shop.win(sale, "ann").await));
    }
    tickets.push(("sold-out", "bob", shop.win("sold-out", "bob").await));
    shop.order("sold-out", "eve", "k").await.expect_problem(410, "sold-out");
    shop.close("closed").await;
    for restart in 0..3 {
        if restart == 1 {
            assert_eq!(server.stop().await.code(), Some(0));
        } else {
            server.kill().await;
        }
        server.restart().await;
        for (sale, buyer, ticket) in &tickets {
            retries(&shop, sale, buyer, ticket).await;
        }
        shop.order("sold-out", "eve", "k").await.expect_problem(410, "sold-out");
        shop.order("closed", "eve", "k").await.expect_problem(410, "sale-closed");
    }
    shop.order("going-on", "eve", "k").await.expect(202);
    for (sale, held) in [("sold-out", 2), ("closed", 1), ("going-on", 2)] {
        assert_eq!(shop.audit(sale).await.number("held"), held, "{sale}");
    }
}

#[tokio::test]
async fn fm56_a_winner_needs_no_second_token() {
    let settings = Settings::new()
        .set("admission.tokens.rate_per_s", 1)
        .set("admission.tokens.burst", 1)
        .set("admission.tokens.max_wait_ms", 0);
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(50)).await;
    let ann = shop.win("phone", "ann").await;
    for round in 0..10 {
        // Drains whatever token has come into being.
        let drained = eventually("the tokens are gone", || async {
            let answer = shop.order("phone", &format!("eve{round}"), "k").await;
            (answer.status == 429).then_some(answer)
        });
        drained.await.expect_problem(429, "overloaded");
        retries(shop, "phone", "ann", &ann).await;
    }
}

#[tokio::test]
async fn a_winner_whose_ticket_has_ended_gets_that_ticket_and_no_second_unit() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(1)).await;
    let ann = shop.win("phone", "ann").await;
    shop.transition(&ann, "rejected", "no such address").await.expect(200);
    let again = shop.order("phone", "ann", "k").await.expect(202);
    assert_eq!((again.str("ticket"), again.str("status")), (&*ann, "rejected"));
    // Under another key the allowance is free again.
    let second = shop.order("phone", "ann", "k2").await.expect(202);
    assert_ne!(second.str("ticket"), ann);
    let audit = shop.audit("phone").await;
    assert_eq!((audit.number("held"), audit.json["tickets"]["rejected"].clone()), (1, json!(1)));
}

#[tokio::test]
async fn fm05_a_lost_answer_is_not_a_lost_order() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(20)).await;
    for n in 0..20 {
        let mut connection = tokio::net::TcpStream::connect(shop.public.authority()).await.unwrap();
        let request = format!(
            "POST /v1/sales/phone/orders HTTP/1.1\r\nhost: t\r\nx-user-id: b{n}\r\nidempotency-key: k\r\n\
             content-length: 0\r\n\r\n"
        );
        connection.write_all(request.as_bytes()).await.unwrap();
        // Gone before the answer, at different instants of its making.
        if n % 2 == 0 {
            tokio::task::yield_now().await;
        }
        drop(connection);
    }
    let mut tickets = std::collections::HashSet::new();
    for n in 0..20 {
        let answer = shop.order("phone", &format!("b{n}"), "k").await.expect(202);
        tickets.insert(answer.str("ticket").to_owned());
        let again = shop.order("phone", &format!("b{n}"), "k").await.expect(202);
        assert_eq!(again.str("ticket"), answer.str("ticket"));
    }
    assert_eq!(tickets.len(), 20);
    let audit = shop.audit("phone").await;
    assert_eq!(
        (audit.number("held"), audit.number("available")),
        (20, 0),
        "one unit a buyer, however often asked"
    );
}

#[tokio::test]
async fn the_same_key_pressed_many_times_at_once_is_one_order() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(50).with("per_buyer_limit", 3)).await;
    let presses = (0..60).map(|n| {
        let shop = shop.clone();
        tokio::spawn(async move {
            let buyer = format!("b{}", n % 5);
            let answer = shop.order("phone", &buyer, "k").await.expect(202);
            (buyer, answer.str("ticket").to_owned())
        })
    });
    let mut pairs = std::collections::HashSet::new();
    for press in presses.collect::<Vec<_>>() {
        pairs.insert(press.await.unwrap());
    }
    assert_eq!(pairs.len(), 5, "{pairs:?}");
    assert_eq!(shop.audit("phone").await.number("held"), 5);
}
