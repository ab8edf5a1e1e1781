//! The admin API on the wire: what it answers, and every refusal with status and problem type.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{eventually, send, start};
use serde_json::{Value, json};

fn refused(answer: &harness::Answer, status: u16, kind: &str) {
    assert_eq!(answer.problem(), (status, kind.to_owned()), "{answer:?}");
}

#[test]
fn a_sale_is_created_changed_opened_and_closed() {
    let gateway = start("");
    let created = gateway.put("/v1/sales/s", r#"{"item":"phone","stock":10}"#);
    assert_eq!(created.status, 201, "{created:?}");
    let sale = created.json();
    assert_eq!(
        (&sale["initial"], &sale["available"], &sale["state"]),
        (&json!(10), &json!(10), &json!("upcoming"))
    );
    assert_eq!((&sale["order_deadline_ms"], &sale["pay_window_ms"]), (&json!(30_000), &json!(900_000)));
    let same = gateway.put("/v1/sales/s", r#"{"item":"phone","stock":10}"#);
    assert_eq!((same.status, same.json()), (200, sale));
    let changed = gateway.put("/v1/sales/s", r#"{"item":"phone","stock":10,"per_buyer_limit":3}"#);
    assert_eq!((changed.status, &changed.json()["per_buyer_limit"]), (200, &json!(3)));
    refused(&gateway.put("/v1/sales/s", r#"{"item":"phone","stock":11}"#), 409, "stock-already-set");
    assert_eq!(gateway.post("/v1/sales/s/open", "").json()["state"], "open");
    assert_eq!(gateway.post("/v1/sales/s/open", "{}").json()["state"], "open");
    gateway.win("s", "alice");
    assert_eq!(gateway.post("/v1/sales/s/close", "").json()["state"], "closed");
    let order = send(gateway.public, "POST", "/v1/sales/s/orders", "X-User-Id: bob\r\n", "");
    refused(&order, 410, "sale-closed");
    let list = gateway.get("/v1/sales").json();
    assert_eq!((&list["sales"][0]["held"], &list["sales"][0]["available"]), (&json!(1), &json!(9)));
    assert_eq!(gateway.get("/v1/sales/s").json(), list["sales"][0]);
}

#[test]
fn requests_about_sales_are_refused_by_status_and_type() {
    let gateway = start("");
    for (path, body, named) in [
        ("s", r#"{"item":"i"}"#, "stock"),
        ("s", r#"{"item":"i","stock":1,"stok":2}"#, "stok"),
        ("s", r#"{"item":"","stock":1}"#, "item"),
        ("s", r#"{"item":"i","stock":1,"per_buyer_limit":0}"#, "per_buyer_limit"),
        ("s", r#"{"item":"i","stock":1,"weight":0}"#, "weight"),
        ("s", r#"{"item":"i","stock":1,"opens_at_ms":5,"closes_at_ms":5}"#, "closes_at_ms"),
        ("s", r#"{"item":"i","stock":-1}"#, "-1"),
        ("a%20b", r#"{"item":"i","stock":1}"#, "sale id"),
        ("s", "", "EOF"),
    ] {
        let answer = gateway.put(&format!("/v1/sales/{path}"), body);
        refused(&answer, 400, "bad-request");
        assert!(answer.detail().contains(named), "{body}: {}", answer.detail());
    }
    for answer in [
        gateway.get("/v1/sales/s"),
        gateway.get("/v1/sales/s/audit"),
        gateway.post("/v1/sales/s/open", ""),
        gateway.post("/v1/sales/s/close", ""),
        gateway.post("/v1/sales/s/restock", r#"{"restock_id":"r","quantity":1}"#),
    ] {
        refused(&answer, 404, "sale-not-found");
    }
    gateway.sale("s", 1, "");
    refused(&gateway.post("/v1/sales/s/open", "{\"now\":true}"), 400, "bad-request");
    refused(&gateway.post("/v1/sales/s/restock", r#"{"restock_id":"","quantity":1}"#), 400, "bad-request");
    refused(&gateway.post("/v1/sales/s/restock", r#"{"restock_id":"r","quantity":0}"#), 400, "bad-request");
    refused(&gateway.post("/v1/sales/s/restock", r#"{"quantity":1}"#), 400, "bad-request");
}

#[test]
fn fm55_a_repeated_restock_adds_its_units_once() {
    let gateway = start("");
    gateway.sale("s", 1, "");
    gateway.win("s", "alice");
    let sold_out = send(gateway.public, "POST", "/v1/sales/s/orders", "X-User-Id: bob\r\n", "");
    refused(&sold_out, 410, "sold-out");
    for _ in 0..3 {
        let sale = gateway.post("/v1/sales/s/restock", r#"{"restock_id":"r1","quantity":2}"#).json();
        assert_eq!(
            (&sale["restocked"], &sale["available"], &sale["state"]),
            (&json!(2), &json!(2), &json!("open"))
        );
    }
    refused(
        &gateway.post("/v1/sales/s/restock", r#"{"restock_id":"r1","quantity":3}"#),
        409,
        "restock-mismatch",
    );
    gateway.win("s", "bob");
}

#[test]
fn the_audit_recounts_every_sale() {
    let gateway = start("");
    gateway.sale("s", 5, "");
    gateway.sale("t", 5, "");
    let ticket = gateway.win("s", "alice");
    gateway.win("s", "bob");
    gateway.post(&format!("/v1/tickets/{ticket}/rejected"), r#"{"reason":"x"}"#);
    // The unit is back as soon as the settle thread has seen the record.
    let audit = eventually("the unit is back", || {
        let audit = gateway.get("/v1/sales/s/audit");
        assert_eq!(audit.status, 200, "{audit:?}");
        Some(audit.json()).filter(|audit| audit["available"] == 4)
    });
    assert_eq!(audit["holds"], true);
    assert_eq!((&audit["held"], &audit["sold"], &audit["returned"]), (&json!(1), &json!(0), &json!(1)));
    assert_eq!((&audit["tickets"]["queued"], &audit["tickets"]["rejected"]), (&json!(1), &json!(1)));
    assert!(audit["identities"].as_array().unwrap().len() > 3);
    let all = gateway.get("/v1/audit");
    assert_eq!((all.status, &all.json()["holds"]), (200, &json!(true)));
    assert_eq!(all.json()["sales"].as_array().unwrap().len(), 2);
}

#[test]
fn figures_tell_backlog_and_leases() {
    let gateway = start("");
    gateway.sale("s", 5, "");
    gateway.win("s", "alice");
    gateway.win("s", "bob");
    assert_eq!(gateway.receive("orders", "order-workers", r#"{"max":1,"wait_ms":5000}"#).len(), 1);
    let orders = eventually("two orders, one under lease", || {
        let topics = gateway.get("/v1/topics").json();
        let named = |list: &Value, key: &str, name: &str| {
            list.as_array().unwrap().iter().find(|entry| entry[key] == name).unwrap().clone()
        };
        let orders = named(&topics["topics"], "topic", "orders");
        let workers = named(&orders["groups"], "group", "order-workers");
        (workers["backlog"] == 2 && workers["leased"] == 1).then_some(orders)
    });
    let workers = &orders["groups"][0];
    assert_eq!(orders["appended"], 2);
    assert!(orders["in_per_second"].is_number() && workers["out_per_second"].is_number());
}

#[test]
fn dead_letters_get_a_second_chance_unless_their_ticket_has_ended() {
    let gateway = start("[queue]\nattempts_max = 1\n");
    assert_eq!(gateway.post("/v1/topics/t/messages", r#"{"messages":[{"body":7}]}"#).status, 200);
    gateway.sale("s", 5, "");
    let ticket = gateway.win("s", "alice");
    for (topic, group) in [("t", "g"), ("orders", "order-workers")] {
        let got = gateway.receive(topic, group, r#"{"wait_ms":5000}"#);
        let nack = json!({ "receipts": [got[0]["receipt"]], "delay_ms": 0 }).to_string();
        gateway.post(&format!("/v1/topics/{topic}/groups/{group}/nack"), &nack);
    }
    let letters = |topic: &str, group: &str| {
        let answer = gateway.get(&format!("/v1/topics/{topic}/groups/{group}/dead-letters")).json();
        answer["messages"].as_array().unwrap().clone()
    };
    assert_eq!(letters("t", "g")[0]["body"], 7);
    let ids = json!({ "ids": [letters("t", "g")[0]["id"], "999999999", "x"] }).to_string();
    let redriven = gateway.post("/v1/topics/t/groups/g/dead-letters/redrive", &ids).json();
    assert_eq!(redriven["results"][0]["ok"], true);
    assert_eq!(
        (&redriven["results"][1]["error"], &redriven["results"][2]["error"]),
        (&json!("not-found"), &json!("not-found"))
    );
    assert_eq!(gateway.receive("t", "g", r#"{"wait_ms":5000}"#)[0]["attempt"], 1);
    // The order's dead letter has failed its ticket.
    eventually("the ticket has failed", || {
        (gateway.get("/v1/sales/s/audit").json()["tickets"]["failed"] == 1).then_some(())
    });
    assert_eq!(letters("orders", "order-workers")[0]["keys"][0], ticket.as_str());
    let redriven = gateway.post("/v1/topics/orders/groups/order-workers/dead-letters/redrive", "").json();
    assert_eq!(redriven["results"][0]["error"], "ticket-terminal", "{redriven}");
    refused(&gateway.post("/v1/topics/t/groups/g/dead-letters/redrive", r#"{"id":1}"#), 400, "bad-request");
}

#[test]
fn probes_metrics_and_the_page_answer() {
    let gateway = start("");
    gateway.sale("s", 5, "");
    gateway.win("s", "alice");
    assert_eq!(gateway.get("/healthz").status, 200);
    assert_eq!(gateway.get("/readyz").json()["status"], "ready");
    // The order is in its group's index a moment after it is durable.
    let backlog = "tidegate_group_backlog_messages{topic=\"orders\",group=\"order-workers\"} 1";
    let metrics = eventually(backlog, || {
        Some(gateway.get("/metrics")).filter(|metrics| metrics.text.contains(backlog))
    });
    assert!(metrics.head.contains("application/openmetrics-text"));
    for line in [
        "tidegate_requests_total{outcome=\"won\"} 1",
        "tidegate_stock_units{sale=\"s\",state=\"held\"} 1",
        "tidegate_log_failed 0",
        "# EOF",
    ] {
        assert!(metrics.text.contains(line), "{line} not in\n{}", metrics.text);
    }
    let page = gateway.get("/");
    assert!(page.head.contains("text/html") && page.text.contains("<title>Tidegate</title>"));
    assert!(!page.text.contains("http://") && !page.text.contains("https://"), "no assets from elsewhere");
    let gateways = gateway.get("/v1/gateways").json();
    assert_eq!(
        (&gateways["gateways"][0]["ready"], &gateways["gateways"][0]["live_tickets"]),
        (&json!(true), &json!(1))
    );
}

#[test]
fn unknown_paths_and_methods_are_told_apart() {
    let gateway = start("");
    for path in ["/v1", "/v1/nothing", "/v1/sales/s/orders", "/v1/topics/t/groups", "//"] {
        refused(&gateway.get(path), 404, "not-found");
    }
    for (method, path, allowed) in [
        ("DELETE", "/v1/sales/s", "GET, PUT"),
        ("POST", "/v1/sales", "GET"),
        ("GET", "/v1/topics/t/groups/g/receive", "POST"),
        ("POST", "/metrics", "GET"),
        ("GET", "/v1/tickets/t/paid", "POST"),
        ("GET", "/v1/transactions/x", "POST"),
    ] {
        let answer = send(gateway.inner, method, path, "", "");
        refused(&answer, 405, "method-not-allowed");
        assert!(
            answer.head.to_lowercase().contains(&format!("allow: {}", allowed.to_lowercase())),
            "{answer:?}"
        );
    }
}

#[test]
fn tokens_open_their_own_scope() {
    let gateway = start("[inner]\nworker_token = \"w-token\"\nadmin_token = \"a-token\"\n");
    let call = |path: &str, token: Option<&str>| {
        let header = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        send(gateway.inner, "GET", path, &header, "")
    };
    for path in ["/v1/sales", "/v1/topics/t/messages?key=k", "/metrics"] {
        for token in [None, Some("wrong"), Some("w-toke"), Some("")] {
            let answer = call(path, token);
            refused(&answer, 401, "unauthenticated");
            assert!(answer.head.to_lowercase().contains("www-authenticate: bearer"), "{answer:?}");
        }
        assert_eq!(call(path, Some("a-token")).status, 200, "{path}");
    }
    refused(&call("/v1/sales", Some("w-token")), 403, "forbidden");
    assert_eq!(call("/v1/topics/t/messages?key=k", Some("w-token")).status, 200);
    assert_eq!(call("/metrics", Some("w-token")).status, 200);
    for path in ["/healthz", "/readyz", "/"] {
        assert_eq!(call(path, None).status, 200, "{path}");
    }
}

#[test]
fn a_page_of_another_site_cannot_reach_an_open_inner_listener() {
    let gateway = start("");
    gateway.sale("s", 1, "");
    let close = |headers: &str| send(gateway.inner, "POST", "/v1/sales/s/close", headers, "");
    refused(&close("Origin: https://evil.example\r\n"), 403, "forbidden");
    refused(&close("Origin: null\r\n"), 403, "forbidden");
    assert_eq!(gateway.get("/v1/sales/s").json()["state"], "open");
    assert_eq!(close(&format!("Origin: http://{}\r\n", gateway.inner)).status, 200);
}

#[test]
fn sales_of_the_configuration_exist_at_start_and_keep_what_became_of_them() {
    let config = "[[sale]]\nid = \"s\"\nitem = \"phone\"\nstock = 3\n";
    let gateway = start(config);
    assert_eq!(gateway.get("/v1/sales/s").json()["initial"], 3);
    gateway.post("/v1/sales/s/open", "");
    gateway.put("/v1/sales/s", r#"{"item":"phone","stock":3,"per_buyer_limit":2}"#);
    gateway.win("s", "alice");
    let gateway = harness::start_in(gateway.stop(), config);
    let sale = gateway.get("/v1/sales/s").json();
    assert_eq!(
        (&sale["state"], &sale["per_buyer_limit"], &sale["held"]),
        (&json!("open"), &json!(2), &json!(1))
    );
}
