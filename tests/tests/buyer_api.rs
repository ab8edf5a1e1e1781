//! The buyer API against the real binary: every refusal with its status and problem type, and what long polls,
//! event streams and HTTP/2 answer.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::time::{Duration, Instant};
use tidegate_queue::{Clock, SystemClock};
use tidegate_tests::{Http, Sale, Server, Settings, Shop, eventually, raw_exchange, within};

const EIGHT: [(&str, &str); 1] = [("x-user-id", "eight")];

/// An order of so many units, without a key.
async fn order_of(shop: &Shop, sale: &str, buyer: &str, quantity: u64) -> tidegate_tests::Reply {
    let path = format!("/v1/sales/{sale}/orders");
    shop.public.post(&path, &[("x-user-id", buyer)], &json!({ "quantity": quantity })).await
}

#[tokio::test]
async fn a_winner_gets_a_ticket_with_its_place_and_sees_it() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(3).with("pay_window_ms", 60_000)).await;
    let won = shop.order("phone", "ann", "k1").await.expect(202);
    let ticket = won.str("ticket");
    assert_eq!(won.header("location"), format!("/v1/tickets/{ticket}"));
    assert_eq!(ticket.len(), 26);
    assert_eq!((won.str("sale"), won.str("buyer"), won.str("status")), ("phone", "ann", "queued"));
    assert_eq!((won.number("quantity"), won.number("version")), (1, 1));
    assert_eq!(won.number("deadline_ms"), won.number("won_at_ms") + 30_000);
    assert_eq!(shop.ticket("ann", ticket).await.expect(200).json["ticket"], won.json["ticket"]);
    let own = shop.public.get("/v1/sales/phone/tickets", &[("x-user-id", "ann")]).await.expect(200);
    assert_eq!(own.json["tickets"][0]["ticket"], won.json["ticket"]);
    let none = shop.public.get("/v1/sales/phone/tickets", &[("x-user-id", "bob")]).await.expect(200);
    assert_eq!(none.json["tickets"], json!([]));
    let sale = shop.public.get("/v1/sales/phone", &[]).await.expect(200);
    assert_eq!((sale.str("state"), sale.str("item"), sale.number("per_buyer_limit")), ("open", "thing", 1));
    shop.audit("phone").await;
}

#[tokio::test]
async fn a_malformed_order_is_a_bad_request_that_names_the_field() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(5).with("quantity_max", 2).with("per_buyer_limit", 5)).await;
    let path = "/v1/sales/phone/orders";
    for (body, named) in [
        (json!({ "quantity": 1, "colour": "red" }), "colour"),
        (json!({ "quantity": "two" }), "line 1"),
        (json!({ "quantity": 0 }), "quantity"),
        (json!({ "quantity": 3 }), "quantity"),
        (json!({ "quantity": -1 }), "line 1"),
        (json!({ "attributes": [1, 2] }), ""),
        (json!([]), ""),
    ] {
        let refused = shop.public.post(path, &EIGHT, &body).await.expect_problem(400, "bad-request");
        assert!(refused.str("detail").contains(named), "{body}: {}", refused.text);
        assert!(!refused.str("detail").is_empty());
    }
    shop.public.send("POST", path, &EIGHT, b"{\"quantity\":1").await.expect_problem(400, "bad-request");
    for key in ["", &"k".repeat(256)] {
        let headers = [EIGHT[0], ("idempotency-key", key)];
        shop.public.send("POST", path, &headers, b"").await.expect_problem(400, "bad-request");
    }
    let ticket = order_of(shop, "phone", "eight", 2).await.expect(202);
    let poll = format!("/v1/tickets/{}?wait=soon", ticket.str("ticket"));
    let refused = shop.public.get(&poll, &EIGHT).await.expect_problem(400, "bad-request");
    assert!(refused.str("detail").contains("wait"), "{}", refused.text);
    assert_eq!(shop.audit("phone").await.number("held"), 2);
}

#[tokio::test]
async fn before_the_window_is_403_with_the_time_to_come_back() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.put("by-hand", &Sale::of(5)).await;
    let refused = shop.order("by-hand", "ann", "k").await.expect_problem(403, "sale-not-open");
    assert!(refused.retry_after_s() >= 1);
    assert_eq!(shop.public.get("/v1/sales/by-hand", &[]).await.str("state"), "upcoming");
    let now_ms = SystemClock::new().now_ms();
    shop.put("by-time", &Sale::of(5).with("opens_at_ms", now_ms + 100_000)).await;
    let refused = shop.order("by-time", "ann", "k").await.expect_problem(403, "sale-not-open");
    assert!((60..=100).contains(&refused.retry_after_s()), "{}", refused.retry_after_s());
    assert_eq!(refused.number("opens_at_ms"), now_ms + 100_000);
    shop.put("open-by-time", &Sale::of(5).with("opens_at_ms", now_ms - 1)).await;
    shop.order("open-by-time", "ann", "k").await.expect(202);
    for sale in ["by-hand", "by-time"] {
        assert_eq!(shop.audit(sale).await.number("held"), 0);
    }
}

#[tokio::test]
async fn after_the_window_is_410_sale_closed() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("by-hand", &Sale::of(5)).await;
    shop.close("by-hand").await;
    shop.order("by-hand", "ann", "k").await.expect_problem(410, "sale-closed");
    assert_eq!(shop.public.get("/v1/sales/by-hand", &[]).await.str("state"), "closed");
    let now_ms = SystemClock::new().now_ms();
    let over = Sale::of(5).with("opens_at_ms", now_ms - 2_000).with("closes_at_ms", now_ms - 1_000);
    shop.put("by-time", &over).await;
    shop.order("by-time", "ann", "k").await.expect_problem(410, "sale-closed");
}

#[tokio::test]
async fn a_sale_opened_by_hand_closes_at_its_time_and_cannot_be_opened_after_it() {
    let server = Server::start().await;
    let shop = &server.shop;
    let closes_at_ms = SystemClock::new().now_ms() + 700;
    shop.open("phone", &Sale::of(5).with("closes_at_ms", closes_at_ms)).await;
    shop.order("phone", "ann", "k").await.expect(202);
    eventually("the sale closes", || async {
        (shop.public.get("/v1/sales/phone", &[]).await.str("state") == "closed").then_some(())
    })
    .await;
    assert!(SystemClock::new().now_ms() >= closes_at_ms, "not before its time");
    shop.order("phone", "bob", "k").await.expect_problem(410, "sale-closed");
    let refused = shop.inner.post("/v1/sales/phone/open", &[], &json!({})).await;
    let refused = refused.expect_problem(400, "bad-request");
    assert!(refused.str("detail").contains("closes_at_ms"), "{}", refused.text);
}

#[tokio::test]
async fn a_sale_is_told_for_caches_with_a_tag_that_holds_until_something_changes() {
    let server = Server::start().await;
    let shop = &server.shop;
    let opens_at_ms = SystemClock::new().now_ms() + 3_600_000;
    let scheduled = Sale::of(1).with("opens_at_ms", opens_at_ms).with("per_buyer_limit", 1);
    shop.put("phone", &scheduled).await;
    let first = shop.public.get("/v1/sales/phone", &[]).await.expect(200);
    assert_eq!(first.header("cache-control"), "public, max-age=5, must-revalidate");
    assert_eq!(first.json["requires_pass"], false);
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    assert_eq!(first.header("vary"), "", "it is the same for everybody");
    let known = [("if-none-match", tag.as_str()), ("x-user-id", "ann")];
    let same = shop.public.get("/v1/sales/phone", &known).await.expect(304);
    assert_eq!((same.text.as_str(), same.header("etag")), ("", tag.as_str()));
    assert_eq!(same.header("cache-control"), first.header("cache-control"));
    let other = shop.public.get("/v1/sales/phone", &[("if-none-match", "\"other\"")]).await.expect(200);
    assert_eq!(other.header("etag"), tag, "the time of the answer is not in the tag");
    shop.inner.post("/v1/sales/phone/open", &[], &json!({})).await.expect(200);
    let open = shop.public.get("/v1/sales/phone", &known).await.expect(200);
    assert_eq!(
        (open.str("state"), open.header("cache-control")),
        ("open", "public, max-age=1, must-revalidate")
    );
    assert_ne!(open.header("etag"), tag);
    shop.order("phone", "ann", "k").await.expect(202);
    shop.order("phone", "bob", "k").await.expect_problem(410, "sold-out");
    let known = [("if-none-match", open.header("etag"))];
    let sold_out = shop.public.get("/v1/sales/phone", &known).await.expect(200);
    assert_eq!(sold_out.str("state"), "sold_out");
    // A cache may not keep that there is no such sale: it may be there a moment later.
    let unknown = shop.public.get("/v1/sales/none", &[]).await.expect_problem(404, "sale-not-found");
    assert_eq!(unknown.header("cache-control"), "no-store");
}

#[tokio::test]
async fn what_does_not_exist_is_404_and_a_wrong_method_is_405_with_allow() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(5)).await;
    let ticket = shop.win("phone", "ann").await;
    let http = &shop.public;
    shop.order("nothing", "ann", "k").await.expect_problem(404, "sale-not-found");
    http.get("/v1/sales/nothing", &[]).await.expect_problem(404, "sale-not-found");
    http.get("/v1/sales/nothing/tickets", &EIGHT).await.expect_problem(404, "sale-not-found");
    for unknown in ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense", "%00"] {
        shop.ticket("ann", unknown).await.expect_problem(404, "ticket-not-found");
        http.get(&format!("/v1/tickets/{unknown}/events"), &EIGHT)
            .await
            .expect_problem(404, "ticket-not-found");
    }
    shop.ticket("bob", &ticket).await.expect_problem(404, "ticket-not-found");
    http.get(&format!("/v1/tickets/{ticket}/events"), &EIGHT).await.expect_problem(404, "ticket-not-found");
    for path in ["/", "/v1", "/v1/sales", "/v1/sales/phone/orders/1", "/metrics", "/readyz", "/v1/audit"] {
        http.get(path, &EIGHT).await.expect_problem(404, "not-found");
    }
    for (method, path, allow) in [
        ("GET", "/v1/sales/phone/orders".to_owned(), "POST"),
        ("DELETE", "/v1/sales/phone/orders".to_owned(), "POST"),
        ("POST", "/v1/sales/phone".to_owned(), "GET"),
        ("PUT", "/v1/sales/phone/tickets".to_owned(), "GET"),
        ("POST", format!("/v1/tickets/{ticket}"), "GET"),
        ("POST", format!("/v1/tickets/{ticket}/events"), "GET"),
    ] {
        let refused = http.send(method, &path, &EIGHT, b"").await.expect_problem(405, "method-not-allowed");
        assert_eq!(refused.header("allow"), allow, "{method} {path}");
    }
    // The inner listener's verbs are not reachable from outside.
    let outside =
        http.post(&format!("/v1/tickets/{ticket}/paid"), &EIGHT, &json!({ "payment_id": "p" })).await;
    assert_eq!(outside.status, 404);
    assert_eq!(shop.ticket("ann", &ticket).await.str("status"), "queued");
}

#[tokio::test]
async fn limits_and_stock_refuse_with_what_one_needs_to_know() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(4).with("quantity_max", 4).with("per_buyer_limit", 3)).await;
    let won = order_of(shop, "phone", "ann", 3).await.expect(202);
    let refused = order_of(shop, "phone", "ann", 1).await.expect_problem(409, "limit-reached");
    assert_eq!(refused.json["tickets"], json!([won.str("ticket")]));
    let refused = order_of(shop, "phone", "bob", 2).await.expect_problem(409, "not-enough-stock");
    assert_eq!(refused.number("available"), 1);
    assert_eq!(shop.public.get("/v1/sales/phone", &[]).await.str("state"), "open", "one unit is left");
    order_of(shop, "phone", "bob", 1).await.expect(202);
    order_of(shop, "phone", "eve", 1).await.expect_problem(410, "sold-out");
    // From now on the flag answers; it says the same.
    order_of(shop, "phone", "eve", 4).await.expect_problem(410, "sold-out");
    assert_eq!(shop.public.get("/v1/sales/phone", &[]).await.str("state"), "sold_out");
    let audit = shop.audit("phone").await;
    assert_eq!((audit.number("available"), audit.number("held")), (0, 4));
}

#[tokio::test]
async fn fm01_a_second_order_of_the_same_buyer_takes_no_unit() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(2)).await;
    let won = shop.order("phone", "ann", "k1").await.expect(202);
    for key in ["k2", "k3"] {
        let refused = shop.order("phone", "ann", key).await.expect_problem(409, "limit-reached");
        assert_eq!(refused.json["tickets"], json!([won.str("ticket")]));
    }
    shop.order("phone", "bob", "k").await.expect(202);
    assert_eq!(shop.audit("phone").await.number("held"), 2);
}

#[tokio::test]
async fn a_body_above_the_bound_is_413_with_and_without_a_length() {
    let server = Server::start_with(Settings::new().set("listen.body_bytes_max", 1_000)).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(5)).await;
    let path = "/v1/sales/phone/orders";
    let body = json!({ "attributes": { "note": "x".repeat(1_000) } });
    shop.public.post(path, &EIGHT, &body).await.expect_problem(413, "payload-too-large");
    let fits = json!({ "attributes": { "note": "x".repeat(900) } });
    shop.public.post(path, &EIGHT, &fits).await.expect(202);
    let chunk = format!("400\r\n{}\r\n", "y".repeat(0x400));
    let chunked = format!(
        "POST {path} HTTP/1.1\r\nhost: t\r\nx-user-id: nine\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
         {chunk}{chunk}0\r\n\r\n"
    );
    let answer = raw_exchange(shop.public.authority(), chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("payload-too-large"), "{answer}");
    assert_eq!(shop.audit("phone").await.number("held"), 1);
}

#[tokio::test]
async fn one_key_with_another_body_is_422() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(5).with("quantity_max", 2).with("per_buyer_limit", 4)).await;
    let path = "/v1/sales/phone/orders";
    let headers = [EIGHT[0], ("idempotency-key", "k")];
    let won = shop.public.post(path, &headers, &json!({ "quantity": 1 })).await.expect(202);
    for body in [json!({ "quantity": 2 }), json!({ "quantity": 1, "attributes": { "size": "L" } })] {
        shop.public.post(path, &headers, &body).await.expect_problem(422, "idempotency-mismatch");
    }
    // Left out is the default, so this is the same request.
    let repeated = shop.public.send("POST", path, &headers, b"").await.expect(202);
    assert_eq!(repeated.str("ticket"), won.str("ticket"));
    // The key is the buyer's own and the sale's own.
    shop.public.post(path, &[("x-user-id", "nine"), headers[1]], &json!({ "quantity": 2 })).await.expect(202);
    assert_eq!(shop.audit("phone").await.number("held"), 3);
}

#[tokio::test]
async fn fm24_a_client_over_its_quota_is_429_and_takes_no_token_of_others() {
    let settings = Settings::new()
        .set("admission.quota.buyer_per_s", 1)
        .set("admission.quota.buyer_burst", 3)
        .set("admission.tokens.rate_per_s", 1)
        .set("admission.tokens.burst", 4)
        .set("admission.tokens.max_wait_ms", 0);
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(50).with("per_buyer_limit", 50)).await;
    let mut won = 0;
    let mut refused = 0;
    for _ in 0..30 {
        let answer = order_of(shop, "phone", "pest", 1).await;
        if answer.status == 202 {
            won += 1;
        } else {
            let answer = answer.expect_problem(429, "client-quota");
            assert!(answer.retry_after_s() >= 1);
            assert!(answer.number("retry_after_ms") <= 3_000);
            refused += 1;
        }
    }
    assert!((3..=5).contains(&won) && refused >= 25, "{won} won, {refused} refused");
    if won == 3 {
        order_of(shop, "phone", "ann", 1).await.expect(202);
    }
}

/// So many requests of one address at once, one a second, whoever they are of.
fn limited_by_ip(burst: u64) -> Settings {
    Settings::new()
        .set("admission.quota.ip_per_s", 1)
        .set("admission.quota.ip_burst", burst)
        .set("admission.quota.newcomers", 0)
}

#[tokio::test]
async fn one_address_over_its_quota_is_429() {
    let settings = limited_by_ip(2);
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(50)).await;
    let mut quota = 0;
    for n in 0..20 {
        let buyer = format!("b{n}");
        let headers = [("x-user-id", &*buyer), ("x-forwarded-for", "198.51.100.7")];
        let answer = shop.public.send("POST", "/v1/sales/phone/orders", &headers, b"").await;
        if answer.status != 202 {
            assert_eq!(answer.header("ratelimit-policy"), "\"ip\";q=2;w=2");
            assert!(answer.header("ratelimit").starts_with("\"ip\";r=0;t="));
            assert!(answer.expect_problem(429, "client-quota").retry_after_s() >= 1);
            quota += 1;
        }
    }
    assert!(quota >= 15, "{quota}");
    // The proxy that does not say for whom it asks is not one client.
    for n in 20..40 {
        order_of(shop, "phone", &format!("b{n}"), 1).await.expect(202);
    }
}

#[tokio::test]
async fn fm40_behind_a_trusted_proxy_each_client_has_a_quota_of_its_own_and_cannot_forge_another() {
    let settings = limited_by_ip(1);
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(50)).await;
    let order = async |n: u32, forwarded: String| {
        let (buyer, path) = (format!("b{n}"), "/v1/sales/phone/orders");
        let headers = [("x-user-id", &*buyer), ("x-forwarded-for", &*forwarded)];
        shop.public.send("POST", path, &headers, b"").await
    };
    for n in 0..20 {
        order(n, format!("198.51.100.{n}")).await.expect(202);
    }
    // One client that writes another address in front of what the proxy saw, each time.
    let mut refused = 0;
    for n in 20..40 {
        refused += u32::from(order(n, format!("203.0.113.{n}, 192.0.2.1")).await.status == 429);
    }
    assert!(refused >= 15, "{refused}");
}

#[tokio::test]
async fn an_order_without_a_token_is_429_overloaded_and_takes_no_stock() {
    let settings = Settings::new()
        .set("admission.tokens.rate_per_s", 1)
        .set("admission.tokens.burst", 2)
        .set("admission.tokens.max_wait_ms", 0);
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(50)).await;
    let mut won = 0;
    for buyer in 0..20 {
        let answer = order_of(shop, "phone", &format!("b{buyer}"), 1).await;
        if answer.status == 202 {
            won += 1;
        } else {
            assert!(answer.expect_problem(429, "overloaded").retry_after_s() >= 1);
        }
    }
    assert!((2..20).contains(&won), "{won}");
    assert_eq!(shop.audit("phone").await.number("held"), won);
}

#[tokio::test]
async fn http2_cleartext_is_served_on_the_same_port() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(50).with("per_buyer_limit", 1)).await;
    let http2 =
        Shop::new(Http::http2(&server.settings.public_url()), Http::http2(&server.settings.inner_url()));
    let orders = (0..40).map(|n| {
        let http2 = http2.clone();
        tokio::spawn(async move { http2.order("phone", &format!("b{n}"), "k").await.status })
    });
    for order in orders.collect::<Vec<_>>() {
        assert_eq!(order.await.unwrap(), 202);
    }
    http2.order("nothing", "ann", "k").await.expect_problem(404, "sale-not-found");
    assert_eq!(http2.audit("phone").await.number("held"), 40);
}

#[tokio::test]
async fn prefer_wait_answers_200_once_the_order_has_left_the_queue() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(5)).await;
    let ordering = tokio::spawn({
        let shop = shop.clone();
        async move {
            let headers = [("x-user-id", "ann"), ("prefer", "respond-async, wait=20")];
            shop.public.send("POST", "/v1/sales/phone/orders", &headers, b"").await
        }
    });
    assert_eq!(shop.orders(1, 20_000).await.len(), 1);
    let own = shop.public.get("/v1/sales/phone/tickets", &[("x-user-id", "ann")]).await;
    let ticket = own.json["tickets"][0]["ticket"].as_str().unwrap().to_owned();
    shop.transition(&ticket, "created", "row-1").await.expect(200);
    let answer = within("the waiting order", ordering).await.unwrap().expect(200);
    assert_eq!((answer.str("ticket"), answer.str("status")), (&*ticket, "awaiting_payment"));
    assert_eq!(answer.str("order_id"), "row-1");
    // Nothing happens within the wait: the order is taken all the same.
    let headers = [("x-user-id", "bob"), ("prefer", "wait=1")];
    let answer = shop.public.send("POST", "/v1/sales/phone/orders", &headers, b"").await.expect(202);
    assert_eq!(answer.str("status"), "queued");
}

#[tokio::test]
async fn a_long_poll_hears_of_each_change_and_of_nothing_else() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(5)).await;
    let ticket = shop.win("phone", "ann").await;
    let poll = |query: &str| {
        let (shop, path) = (shop.clone(), format!("/v1/tickets/{ticket}?{query}"));
        tokio::spawn(async move { shop.public.get(&path, &[("x-user-id", "ann")]).await.expect(200) })
    };
    // The wait passes without a change.
    let unchanged = within("the poll", poll("wait=1")).await.unwrap();
    assert_eq!((unchanged.str("status"), unchanged.number("version")), ("queued", 1));
    let began = Instant::now();
    let waiting = poll("wait=25&version=1");
    shop.transition(&ticket, "created", "row-1").await.expect(200);
    let changed = within("the poll", waiting).await.unwrap();
    assert_eq!((changed.str("status"), changed.number("version")), ("awaiting_payment", 2));
    // A version that is past already is answered at once.
    let at_once = within("the poll", poll("wait=25&version=1")).await.unwrap();
    assert_eq!(at_once.number("version"), 2);
    let waiting = poll("wait=25&version=2");
    shop.transition(&ticket, "paid", "pay-1").await.expect(200);
    let paid = within("the poll", waiting).await.unwrap();
    assert_eq!((paid.str("status"), paid.number("version"), paid.str("payment_id")), ("paid", 3, "pay-1"));
    // The end is the end: nothing to wait for.
    assert_eq!(within("the poll", poll("wait=25&version=3")).await.unwrap().str("status"), "paid");
    assert!(began.elapsed() < Duration::from_secs(20), "no poll slept its whole wait");
}

#[tokio::test]
async fn an_event_stream_tells_every_state_once_and_resumes_behind_the_last_seen() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(5)).await;
    let ticket = shop.win("phone", "ann").await;
    let path = format!("/v1/tickets/{ticket}/events");
    let ann = ("x-user-id", "ann");
    let mut stream = shop.public.events(&path, &[ann]).await;
    let first = stream.next().await.unwrap();
    assert_eq!((first.name.as_str(), first.id.as_str()), ("ticket", "1"));
    assert_eq!(
        (first.data["status"].as_str(), first.data["ticket"].as_str()),
        (Some("queued"), Some(&*ticket))
    );
    shop.transition(&ticket, "created", "row-1").await.expect(200);
    let second = stream.next().await.unwrap();
    assert_eq!((second.id.as_str(), second.data["status"].as_str()), ("2", Some("awaiting_payment")));
    drop(stream);
    let mut resumed = shop.public.events(&path, &[ann, ("last-event-id", "2")]).await;
    shop.transition(&ticket, "paid", "pay-1").await.expect(200);
    let third = resumed.next().await.unwrap();
    assert_eq!(
        (third.id.as_str(), third.data["status"].as_str()),
        ("3", Some("paid")),
        "not version 2 again"
    );
    assert!(resumed.next().await.is_none(), "the stream ends with the ticket");
    let mut late = shop.public.events(&path, &[ann]).await;
    assert_eq!(late.next().await.unwrap().id, "3");
    assert!(late.next().await.is_none());
}
