//! The worker API on the wire: what it answers, and every refusal with status and problem type.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{Running, eventually, send_text, start};
use serde_json::{Value, json};

fn refused(answer: &harness::Answer, status: u16, kind: &str) {
    assert_eq!(answer.problem(), (status, kind.to_owned()), "{answer:?}");
}

fn publish(gateway: &Running, topic: &str, messages: &Value) -> Vec<Value> {
    let answer =
        gateway.post(&format!("/v1/topics/{topic}/messages"), &json!({ "messages": messages }).to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["results"].as_array().unwrap().clone()
}

fn receipts(messages: &[Value]) -> String {
    let receipts: Vec<&Value> = messages.iter().map(|message| &message["receipt"]).collect();
    json!({ "receipts": receipts }).to_string()
}

#[test]
fn a_message_travels_unchanged() {
    let gateway = start("");
    let sent = json!([{
        "body": {"b": 1.50, "a": [null]}, "tag": "red", "keys": ["k1", "k2"], "properties": {"z": "1", "a": "2"},
        "ordering_key": "o", "deadline_ms": 9_999_999_999_999_u64
    }]);
    let results = publish(&gateway, "t", &sent);
    let got = gateway.receive("t", "g", "{\"max\":5,\"wait_ms\":5000}");
    assert_eq!(got.len(), 1);
    let message = &got[0];
    assert_eq!(message["body"], sent[0]["body"]);
    for field in ["tag", "keys", "properties", "deadline_ms"] {
        assert_eq!(message[field], sent[0][field], "{field}");
    }
    assert_eq!(
        (&message["id"], &message["queue"], &message["offset"]),
        (&results[0]["id"], &results[0]["queue"], &results[0]["offset"])
    );
    assert_eq!(message["attempt"], 1);
    assert_eq!(message["topic"], "t");
}

#[test]
fn bytes_travel_as_base64() {
    let gateway = start("");
    publish(&gateway, "t", &json!([{ "body": { "base64": "AP+A" } }]));
    let got = gateway.receive("t", "g", "{\"wait_ms\":5000}");
    assert_eq!(got[0]["body"], json!({ "base64": "AP+A" }));
}

#[test]
fn a_batch_tells_where_each_message_went() {
    let gateway = start("");
    for ack in ["disk", "memory", "none"] {
        let body = json!({ "messages": [{"body":1,"queue":0}, {"body":2,"queue":1}, {"body":3,"queue":0}], "ack": ack });
        let answer = gateway.post("/v1/topics/t/messages", &body.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        let results = answer.json()["results"].as_array().unwrap().clone();
        let queues: Vec<&Value> = results.iter().map(|result| &result["queue"]).collect();
        assert_eq!(queues, [0, 1, 0], "{ack}");
        let offset = |at: usize| results[at]["offset"].as_u64().unwrap();
        assert_eq!(offset(2), offset(0) + 1, "{ack}");
    }
}

#[test]
fn a_receive_waits_for_its_first_message() {
    let gateway = start("");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| gateway.receive("t", "g", "{\"wait_ms\":20000}"));
        // The group exists once the receive waits.
        eventually("the receive waits", || {
            (gateway.app().receives.available_permits() < 1_024).then_some(())
        });
        publish(&gateway, "t", &json!([{ "body": 1 }]));
        assert_eq!(waiting.join().unwrap().len(), 1);
    });
    assert!(gateway.receive("t", "g", "{\"wait_ms\":0}").is_empty());
}

#[test]
fn a_receive_beyond_the_bound_is_refused() {
    let gateway = start("[queue]\nwaiting_receives_max = 1\n");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| gateway.receive("t", "g", "{\"wait_ms\":20000}"));
        eventually("the receive waits", || (gateway.app().receives.available_permits() == 0).then_some(()));
        let second = gateway.post("/v1/topics/t/groups/g/receive", "{\"wait_ms\":20000}");
        refused(&second, 503, "queue-unavailable");
        assert!(second.head.to_lowercase().contains("retry-after: "), "{second:?}");
        publish(&gateway, "t", &json!([{ "body": 1 }]));
        assert_eq!(waiting.join().unwrap().len(), 1);
    });
}

#[test]
fn leases_are_acked_extended_and_given_back() {
    let gateway = start("");
    publish(&gateway, "t", &json!([{ "body": 1 }]));
    let first = gateway.receive("t", "g", "{\"wait_ms\":5000}");
    let extend = json!({ "receipts": [first[0]["receipt"]], "lease_ms": 60_000 }).to_string();
    let extended = gateway.post("/v1/topics/t/groups/g/extend", &extend).json();
    assert_eq!(extended["results"][0]["ok"], true, "{extended}");
    assert_ne!(extended["results"][0]["receipt"], first[0]["receipt"]);
    // The old receipt is void.
    let stale = gateway.post("/v1/topics/t/groups/g/ack", &receipts(&first)).json();
    assert_eq!(stale["results"][0]["ok"], false);
    assert_eq!(stale["results"][0]["error"], "receipt-expired");
    assert_eq!(stale["results"][0]["receipt"], first[0]["receipt"]);
    let nack = json!({ "receipts": [extended["results"][0]["receipt"]], "delay_ms": 0 }).to_string();
    assert_eq!(gateway.post("/v1/topics/t/groups/g/nack", &nack).json()["results"][0]["ok"], true);
    let again = gateway.receive("t", "g", "{\"wait_ms\":5000}");
    assert_eq!(again[0]["attempt"], 2);
    assert_eq!(gateway.post("/v1/topics/t/groups/g/ack", &receipts(&again)).json()["results"][0]["ok"], true);
    assert!(gateway.receive("t", "g", "{\"wait_ms\":0}").is_empty());
    let offsets = gateway.get("/v1/topics/t/groups/g/offsets").json();
    let settled: u64 =
        offsets["queues"].as_array().unwrap().iter().map(|q| q["floor"].as_u64().unwrap()).sum();
    assert_eq!(settled, 1, "{offsets}");
}

#[test]
fn garbage_is_no_receipt() {
    let gateway = start("");
    publish(&gateway, "t", &json!([{ "body": 1 }]));
    gateway.receive("t", "g", "{\"wait_ms\":5000}");
    for verb in ["ack", "nack"] {
        let answer =
            gateway.post(&format!("/v1/topics/t/groups/g/{verb}"), "{\"receipts\":[\"nonsense\",\"\"]}");
        let results = answer.json()["results"].clone();
        assert_eq!(
            (&results[0]["error"], &results[1]["error"]),
            (&json!("receipt-expired"), &json!("receipt-expired"))
        );
    }
}

#[test]
fn requests_are_refused_by_the_name_of_the_field() {
    let gateway = start("");
    let group = "/v1/topics/t/groups/g";
    let cases = [
        (format!("{group}/receive"), r#"{"maks":1}"#, "maks"),
        (format!("{group}/receive"), r#"{"max":0}"#, "`max`"),
        (format!("{group}/receive"), r#"{"max":5000}"#, "`max`"),
        (format!("{group}/receive"), r#"{"lease_ms":0}"#, "`lease_ms`"),
        (format!("{group}/receive"), r#"{"lease_ms":99999999999}"#, "`lease_ms`"),
        (format!("{group}/receive"), "[]", "JSON object"),
        (format!("{group}/ack"), r#"{"receipt":["x"]}"#, "receipt"),
        (format!("{group}/ack"), "", "EOF"),
        (format!("{group}/nack"), r#"{"receipts":[],"delay":1}"#, "delay"),
        (format!("{group}/extend"), r#"{"receipts":[]}"#, "lease_ms"),
        (format!("{group}/extend"), r#"{"receipts":[],"lease_ms":0}"#, "`lease_ms`"),
        (format!("{group}/reset"), r#"{"to":"middle"}"#, "middle"),
        ("/v1/topics/t/messages".to_owned(), r#"{"messages":[]}"#, "`messages`"),
        ("/v1/topics/t/messages".to_owned(), r#"{"messages":[{"body":1,"colour":2}]}"#, "colour"),
        ("/v1/topics/t/messages".to_owned(), r#"{"messages":[{"body":1}],"producer_id":"p"}"#, "`sequence`"),
        (
            "/v1/topics/t/messages".to_owned(),
            r#"{"messages":[{"body":1}],"producer_id":"","sequence":1}"#,
            "`producer_id`",
        ),
        (
            "/v1/topics/t/messages".to_owned(),
            r#"{"messages":[{"body":1,"deliver_at_ms":9999999999999}]}"#,
            "`deliver_at_ms`",
        ),
        ("/v1/topics/t/transactions".to_owned(), r#"{"message":{"body":1}}"#, "producer_group"),
        ("/v1/topics/t/transactions".to_owned(), r#"{"message":{"body":1},"producer_group":""}"#, "name"),
        (
            "/v1/topics/t/transactions".to_owned(),
            r#"{"message":{"body":1},"producer_group":"p","ack":"disk"}"#,
            "ack",
        ),
        ("/v1/transactions/1-0".to_owned(), r#"{"resolution":"perhaps"}"#, "perhaps"),
        ("/v1/producer-groups/p/checks".to_owned(), r#"{"max":0}"#, "`max`"),
        ("/v1/producer-groups/p/checks".to_owned(), r#"{"wait":0}"#, "wait"),
        ("/v1/topics/t/messages".to_owned(), r#"{"messages":[{"body":1}],"sequence":1}"#, "`sequence`"),
        ("/v1/topics/t/messages".to_owned(), r#"{"messages":[{"body":1}],"ack":"paper"}"#, "paper"),
        (
            "/v1/topics/t/messages".to_owned(),
            r#"{"messages":[{"body":1,"queue":0,"ordering_key":"k"}]}"#,
            "exclude",
        ),
        ("/v1/topics/t/messages".to_owned(), r#"{"messages":[{"body":1,"queue":9999}]}"#, "queue"),
        (
            "/v1/topics/t/messages".to_owned(),
            r#"{"messages":[{"body":1,"delay_level":19}]}"#,
            "`delay_level`",
        ),
        ("/v1/topics/t/messages".to_owned(), r#"{"messages":[{"body":1,"delay_level":0}]}"#, "`delay_level`"),
        (
            "/v1/topics/t/messages".to_owned(),
            r#"{"messages":[{"body":1,"delay_level":1,"deliver_at_ms":5}]}"#,
            "exclude",
        ),
        (
            "/v1/topics/t/messages".to_owned(),
            r#"{"messages":[{"body":1,"delay_level":1,"deadline_ms":5}]}"#,
            "`deadline_ms`",
        ),
        ("/v1/topics/t/messages".to_owned(), r#"{"messages":[{"body":{"base64":"*"}}]}"#, "base64"),
    ];
    for (path, body, named) in cases {
        let answer = gateway.post(&path, body);
        assert_eq!(answer.problem(), (400, "bad-request".to_owned()), "{path} {body}");
        assert!(answer.detail().contains(named), "{path} {body}: {}", answer.detail());
    }
    let puts = [
        (group, r#"{"mode":"sorted"}"#, "sorted"),
        ("/v1/topics/t/groups/a%25b", r#"{"mode":"broadcast"}"#, "%"),
        ("/v1/topics/orders/groups/order-workers", r#"{"mode":"broadcast"}"#, "`mode`"),
        (group, r#"{"max_attempts":0}"#, "`max_attempts`"),
        (group, r#"{"retry_delays_ms":[]}"#, "`retry_delays_ms`"),
        (group, r#"{"attempts":1}"#, "attempts"),
        ("/v1/topics/t", r#"{"queues":0}"#, "`queues`"),
        ("/v1/topics/t", r#"{"queue":1}"#, "queue"),
    ];
    for (path, body, named) in puts {
        let answer = gateway.put(path, body);
        assert_eq!(answer.problem(), (400, "bad-request".to_owned()), "{path} {body}");
        assert!(answer.detail().contains(named), "{path} {body}: {}", answer.detail());
    }
}

#[test]
fn topics_of_the_gateway_are_closed_to_others() {
    let gateway = start("");
    gateway.sale("s", 5, "");
    let message = r#"{"messages":[{"body":{}}]}"#;
    for topic in ["orders", "order-events", "%25ledger", "%25pay-timers", "%25mine"] {
        refused(&gateway.post(&format!("/v1/topics/{topic}/messages"), message), 403, "topic-reserved");
        refused(&gateway.put(&format!("/v1/topics/{topic}"), "{\"queues\":9}"), 403, "topic-reserved");
        let half = r#"{"message":{"body":1},"producer_group":"p"}"#;
        refused(&gateway.post(&format!("/v1/topics/{topic}/transactions"), half), 403, "topic-reserved");
    }
    for (verb, body) in [
        ("receive", "{\"wait_ms\":0}"),
        ("ack", "{\"receipts\":[]}"),
        ("nack", "{\"receipts\":[]}"),
        ("extend", "{\"receipts\":[],\"lease_ms\":1}"),
        ("reset", "{\"to\":\"last\"}"),
    ] {
        let answer = gateway.post(&format!("/v1/topics/%25pay-timers/groups/%25expiry/{verb}"), body);
        refused(&answer, 403, "topic-reserved");
    }
    refused(&gateway.get("/v1/topics/%25ledger/messages?key=s"), 403, "topic-reserved");
    refused(&gateway.put("/v1/topics/%25ledger/groups/g", "{}"), 403, "topic-reserved");
}

#[test]
fn groups_are_created_reset_and_looked_at() {
    let gateway = start("");
    assert_eq!(gateway.put("/v1/topics/t", "{\"queues\":2}").status, 200);
    publish(&gateway, "t", &json!([{"body":1,"queue":0}, {"body":2,"queue":1}]));
    let put = gateway.put("/v1/topics/t/groups/late", r#"{"mode":"shared","start":"last","max_attempts":3}"#);
    assert_eq!(put.status, 200, "{put:?}");
    assert!(gateway.receive("t", "late", "{\"wait_ms\":0}").is_empty());
    assert_eq!(gateway.post("/v1/topics/t/groups/late/reset", "{\"to\":\"first\"}").status, 200);
    assert_eq!(gateway.receive("t", "late", "{\"wait_ms\":5000}").len(), 2);
    let offsets = gateway.get("/v1/topics/t/groups/late/offsets").json();
    assert_eq!(offsets["queues"].as_array().unwrap().len(), 2);
    assert_eq!(offsets["queues"][0]["end"], 1);
    refused(&gateway.get("/v1/topics/t/groups/none/offsets"), 404, "group-not-found");
    refused(&gateway.get("/v1/topics/none/groups/g/offsets"), 404, "topic-not-found");
}

#[test]
fn messages_are_found_by_id_and_by_key() {
    let gateway = start("");
    let results = publish(&gateway, "t", &json!([{"body":1,"keys":["a"]}, {"body":2,"keys":["b","a b"]}]));
    let id = results[1]["id"].as_str().unwrap();
    let by_id = gateway.get(&format!("/v1/topics/t/messages?id={id}")).json();
    assert_eq!(by_id["messages"][0]["body"], 2);
    assert!(by_id["messages"][0].get("receipt").is_none());
    let by_key = gateway.get("/v1/topics/t/messages?key=a%20b").json();
    assert_eq!(by_key["messages"].as_array().unwrap().len(), 1);
    assert_eq!(by_key["messages"][0]["id"], id);
    assert!(gateway.get("/v1/topics/other/messages?key=a").json()["messages"].as_array().unwrap().is_empty());
    assert!(
        gateway.get(&format!("/v1/topics/other/messages?id={id}")).json()["messages"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    refused(&gateway.get("/v1/topics/t/messages"), 400, "bad-request");
    refused(&gateway.get("/v1/topics/t/messages?id=x"), 400, "bad-request");
    refused(&gateway.get("/v1/topics/t/messages?id=1&key=a"), 400, "bad-request");
}

#[test]
fn a_ticket_goes_its_way_and_repeats_are_harmless() {
    let gateway = start("");
    gateway.sale("s", 5, "");
    let ticket = gateway.win("s", "alice");
    let order = gateway.receive("orders", "order-workers", "{\"wait_ms\":5000}");
    assert_eq!(order[0]["body"]["ticket"], ticket.as_str());
    assert_eq!(order[0]["keys"], json!([ticket]));
    assert_eq!(order[0]["tag"], "s");
    let path = |verb: &str| format!("/v1/tickets/{ticket}/{verb}");
    let created = gateway.post(&path("created"), "{\"order_id\":\"row-1\"}");
    assert_eq!((created.status, &created.json()["status"]), (200, &json!("awaiting_payment")));
    assert!(created.json()["pay_by_ms"].is_u64());
    assert_eq!(gateway.post(&path("created"), "{\"order_id\":\"row-1\"}").json(), created.json());
    let other = gateway.post(&path("created"), "{\"order_id\":\"row-2\"}");
    refused(&other, 409, "wrong-state");
    assert_eq!(other.json()["ticket"]["order_id"], "row-1");
    let paid = gateway.post(&path("paid"), "{\"payment_id\":\"p1\"}");
    assert_eq!((paid.status, &paid.json()["status"]), (200, &json!("paid")));
    assert_eq!(gateway.post(&path("paid"), "{\"payment_id\":\"p1\"}").json(), paid.json());
    let cancelled = gateway.post(&path("cancelled"), "{\"reason\":\"late\"}");
    refused(&cancelled, 409, "wrong-state");
    assert!(cancelled.json().get("refund_required").is_none());
    let twice = gateway.post(&path("paid"), "{\"payment_id\":\"p2\"}");
    refused(&twice, 409, "wrong-state");
    assert_eq!(twice.json()["refund_required"], true);
    let versions: Vec<Value> = gateway
        .receive("order-events", "audit", "{\"wait_ms\":5000}")
        .iter()
        .map(|event| json!([event["tag"], event["body"]["version"]]))
        .collect();
    assert!(versions.contains(&json!(["awaiting_payment", 2])), "{versions:?}");
}

#[test]
fn transitions_are_refused_by_status_and_type() {
    let gateway = start("");
    gateway.sale("s", 5, "");
    let ticket = gateway.win("s", "alice");
    let nobody = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    refused(
        &gateway.post(&format!("/v1/tickets/{nobody}/created"), "{\"order_id\":\"1\"}"),
        404,
        "ticket-not-found",
    );
    refused(&gateway.post("/v1/tickets/x/paid", "{\"payment_id\":\"1\"}"), 404, "ticket-not-found");
    refused(&gateway.post(&format!("/v1/tickets/{ticket}/created"), "{}"), 400, "bad-request");
    refused(
        &gateway.post(&format!("/v1/tickets/{ticket}/created"), "{\"order_id\":\"\"}"),
        400,
        "bad-request",
    );
    refused(&gateway.post(&format!("/v1/tickets/{ticket}/rejected"), "{\"why\":\"x\"}"), 400, "bad-request");
    refused(&gateway.post(&format!("/v1/tickets/{ticket}/lost"), "{}"), 404, "not-found");
    let money = gateway.post(&format!("/v1/tickets/{ticket}/paid"), "{\"payment_id\":\"1\"}");
    refused(&money, 409, "wrong-state");
    assert_eq!(money.json()["refund_required"], true);
    assert_eq!(money.json()["ticket"]["status"], "queued");
    let rejected = gateway.post(&format!("/v1/tickets/{ticket}/rejected"), "{\"reason\":\"no such item\"}");
    assert_eq!(
        (&rejected.json()["status"], &rejected.json()["reason"]),
        (&json!("rejected"), &json!("no such item"))
    );
    refused(
        &gateway.post(&format!("/v1/tickets/{ticket}/created"), "{\"order_id\":\"1\"}"),
        409,
        "wrong-state",
    );
}

#[test]
fn an_order_that_came_to_its_end_is_never_delivered() {
    let gateway = start("");
    gateway.sale("s", 5, "");
    let ended = gateway.win("s", "alice");
    let wanted = gateway.win("s", "bob");
    assert_eq!(gateway.post(&format!("/v1/tickets/{ended}/rejected"), "{\"reason\":\"x\"}").status, 200);
    for group in ["order-workers", "second"] {
        let got = gateway.receive("orders", group, "{\"wait_ms\":5000}");
        let tickets: Vec<&Value> = got.iter().map(|order| &order["body"]["ticket"]).collect();
        assert_eq!(tickets, [wanted.as_str()], "{group}");
        let offsets = gateway.get(&format!("/v1/topics/orders/groups/{group}/offsets")).json();
        let skipped: usize = offsets["queues"]
            .as_array()
            .unwrap()
            .iter()
            .map(|q| q["skipped"].as_array().unwrap().len())
            .sum();
        assert_eq!(skipped, 1, "{offsets}");
    }
}

#[test]
fn a_body_beyond_the_bound_is_refused() {
    let gateway = start("");
    // Refused by its announced length: nothing of it is read.
    let head = "POST /v1/topics/t/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 8388609\r\n\r\n";
    refused(&send_text(gateway.inner, head), 413, "payload-too-large");
    // And by its real length, where none is announced.
    let chunk = format!("80001\r\n{}\r\n", "x".repeat(0x80001));
    let head = "POST /v1/topics/t/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    refused(&send_text(gateway.inner, &format!("{head}{}", chunk.repeat(16))), 413, "payload-too-large");
}
