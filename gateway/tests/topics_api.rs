//! Numbered producers, levels of acknowledgement, transactions, ordered groups and broadcasts, on the wire.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{Answer, Pending, Running, eventually, send, start, start_in, start_over};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_queue::storage::{FaultyStorage, PowerLoss};

fn refused(answer: &Answer, status: u16, kind: &str) {
    assert_eq!(answer.problem(), (status, kind.to_owned()), "{answer:?}");
}

fn ok(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn publish(gateway: &Running, topic: &str, request: &Value) -> Answer {
    gateway.post(&format!("/v1/topics/{topic}/messages"), &request.to_string())
}

fn bodies(messages: &[Value]) -> Vec<Value> {
    messages.iter().map(|message| message["body"].clone()).collect()
}

fn settle(gateway: &Running, topic: &str, group: &str, verb: &str, messages: &[Value]) -> Vec<Value> {
    let receipts: Vec<&Value> = messages.iter().map(|message| &message["receipt"]).collect();
    let mut body = json!({ "receipts": receipts });
    match verb {
        "nack" => body["delay_ms"] = 0.into(),
        "extend" => body["lease_ms"] = 60_000.into(),
        _ => {}
    }
    let answer = ok(&gateway.post(&format!("/v1/topics/{topic}/groups/{group}/{verb}"), &body.to_string()));
    answer["results"].as_array().unwrap().clone()
}

fn acked(gateway: &Running, topic: &str, group: &str, messages: &[Value]) {
    for result in settle(gateway, topic, group, "ack", messages) {
        assert_eq!(result["ok"], true, "{result}");
    }
}

fn begin(gateway: &Running, topic: &str, group: &str, body: &Value) -> String {
    let asked = json!({ "message": { "body": body, "keys": ["k"] }, "producer_group": group });
    let answer = ok(&gateway.post(&format!("/v1/topics/{topic}/transactions"), &asked.to_string()));
    answer["transaction"].as_str().unwrap().to_owned()
}

fn resolve(gateway: &Running, transaction: &str, resolution: &str) -> Answer {
    let body = json!({ "resolution": resolution }).to_string();
    gateway.post(&format!("/v1/transactions/{transaction}"), &body)
}

fn checks(gateway: &Running, group: &str, wait_ms: u64) -> Vec<Value> {
    let body = json!({ "wait_ms": wait_ms }).to_string();
    let answer = ok(&gateway.post(&format!("/v1/producer-groups/{group}/checks"), &body));
    answer["checks"].as_array().unwrap().clone()
}

/// A gateway whose disk the test commands.
fn start_faulty(more: &str) -> (Running, Arc<FaultyStorage>) {
    let mut storage = None;
    let gateway = start_over(tempfile::tempdir().unwrap(), more, |data| {
        let faulty = FaultyStorage::new(data);
        storage = Some(faulty.clone());
        faulty.as_storage()
    });
    (gateway, storage.unwrap())
}

#[test]
fn a_repeated_number_answers_the_first_results_also_after_a_restart() {
    let gateway = start("");
    let batch = |sequence: u64, ack: &str| {
        json!({
            "messages": [{"body":{"a":1},"queue":0,"keys":["x"]}, {"body":2,"queue":1,"tag":"t"}, {"body":3,"delay_level":18}],
            "producer_id": "till-7", "sequence": sequence, "ack": ack
        })
    };
    let first = ok(&publish(&gateway, "t", &batch(1, "disk")));
    let second = ok(&publish(&gateway, "t", &batch(2, "memory")));
    assert_ne!(first, second);
    for _ in 0..2 {
        assert_eq!(ok(&publish(&gateway, "t", &batch(1, "disk"))), first);
        assert_eq!(ok(&publish(&gateway, "t", &batch(2, "memory"))), second);
    }
    let gateway = start_in(gateway.stop(), "");
    assert_eq!(ok(&publish(&gateway, "t", &batch(1, "disk"))), first);
    assert_eq!(ok(&publish(&gateway, "t", &batch(2, "none"))), second);
    // The same number with other messages is a mistake that must not pass for a repeat.
    let mut other = batch(1, "disk");
    other["messages"][1]["body"] = 9.into();
    refused(&publish(&gateway, "t", &other), 422, "sequence-mismatch");
    refused(&publish(&gateway, "elsewhere", &batch(1, "disk")), 422, "sequence-mismatch");
    for sequence in 3..40 {
        ok(&publish(&gateway, "t", &batch(sequence, "memory")));
    }
    refused(&publish(&gateway, "t", &batch(1, "disk")), 409, "sequence-too-old");
    // Once each: two queues' messages, none for the repeats.
    gateway.app().queue.wait_durable(gateway.app().queue.end()).unwrap();
    gateway.app().queue.wait_dispatched(gateway.app().queue.end());
    let got = gateway.receive("t", "g", "{\"max\":1000,\"wait_ms\":5000}");
    assert_eq!(got.len(), 2 * 39);
}

#[test]
fn levels_of_acknowledgement_wait_for_what_they_say() {
    let (gateway, storage) = start_faulty("flush = \"sync\"\n");
    let one = |ack: &str| json!({ "messages": [{"body":1,"queue":0}], "ack": ack });
    ok(&publish(&gateway, "t", &one("disk")));
    storage.hold_syncs();
    let memory = ok(&publish(&gateway, "t", &one("memory")));
    assert_eq!(memory["results"][0]["offset"], 1, "answered while the disk hangs");
    assert_eq!(ok(&publish(&gateway, "t", &one("none")))["results"][0]["offset"], 2);
    let disk = Pending::send(gateway.inner, "POST", "/v1/topics/t/messages", "", &one("disk").to_string());
    assert!(storage.wait_for_held_sync(1));
    assert!(!disk.is_answered());
    storage.release_syncs();
    assert_eq!(disk.answer().status, 200);
}

#[test]
fn a_full_log_refuses_by_name_and_whoever_asked_for_no_word_gets_none() {
    let (gateway, storage) = start_faulty("");
    ok(&publish(&gateway, "t", &json!({ "messages": [{"body":1}] })));
    storage.set_quota(Some(storage.used()));
    let big = "x".repeat(1 << 20);
    let send = |ack: &str| publish(&gateway, "t", &json!({ "messages": [{"body":big}], "ack": ack }));
    let full = eventually("the log is full", || Some(send("memory")).filter(|answer| answer.status != 200));
    refused(&full, 503, "queue-unavailable");
    refused(&send("disk"), 503, "queue-unavailable");
    assert_eq!(ok(&send("none"))["results"], json!([]));
    storage.set_quota(None);
    eventually("it heals", || Some(send("disk")).filter(|answer| answer.status == 200));
}

#[test]
fn in_async_mode_disk_means_on_disk() {
    let (gateway, storage) = start_faulty("flush = \"async\"\nflush_interval_ms = 60000\n");
    let send = |body: &str, ack: Option<&str>| {
        let mut request = json!({ "messages": [{"body":body,"queue":0}] });
        if let Some(ack) = ack {
            request["ack"] = ack.into();
        }
        ok(&publish(&gateway, "t", &request));
    };
    send("on disk", Some("disk"));
    send("as the flush mode has it", None);
    storage.kill();
    let dir = gateway.abandon();
    storage.power_loss(1, PowerLoss::Everything);
    let gateway = start_in(dir, "");
    assert_eq!(bodies(&gateway.receive("t", "g", "{\"max\":9,\"wait_ms\":5000}")), ["on disk"]);
}

#[test]
fn a_transaction_is_seen_when_it_is_committed_and_stays_resolved() {
    let gateway = start("");
    let (kept, dropped) = (begin(&gateway, "t", "shop", &json!(1)), begin(&gateway, "t", "shop", &json!(2)));
    assert!(gateway.receive("t", "g", "{\"wait_ms\":0}").is_empty());
    assert_eq!(ok(&resolve(&gateway, &kept, "unknown")), json!({"transaction":kept,"resolution":"unknown"}));
    let committed = ok(&resolve(&gateway, &kept, "commit"));
    let rolled_back = ok(&resolve(&gateway, &dropped, "rollback"));
    assert_eq!(rolled_back, json!({ "transaction": dropped, "resolution": "rollback" }));
    let got = gateway.receive("t", "g", "{\"wait_ms\":5000}");
    assert_eq!(bodies(&got), [1]);
    assert_eq!(
        (&got[0]["id"], &got[0]["offset"]),
        (&committed["message"]["id"], &committed["message"]["offset"])
    );
    assert_eq!((&got[0]["keys"], &got[0]["properties"]), (&json!(["k"]), &json!({})));
    let gateway = start_in(gateway.stop(), "");
    assert_eq!(ok(&resolve(&gateway, &kept, "commit")), committed);
    assert_eq!(ok(&resolve(&gateway, &dropped, "rollback")), rolled_back);
    for (transaction, other, first) in [(&kept, "rollback", "commit"), (&dropped, "commit", "rollback")] {
        let answer = resolve(&gateway, transaction, other);
        refused(&answer, 409, "already-resolved");
        assert_eq!(answer.json()["resolution"], first);
    }
    let (position, log) = kept.split_once('-').unwrap();
    let elsewhere = format!("{position}-{:016x}", u64::from_str_radix(log, 16).unwrap() ^ 1);
    for unknown in ["x", "1", &format!("8-{log}"), &elsewhere] {
        for resolution in ["commit", "rollback", "unknown"] {
            refused(&resolve(&gateway, unknown, resolution), 404, "transaction-not-found");
        }
    }
}

#[test]
fn what_nobody_resolved_is_asked_for_at_whoever_is_there() {
    let gateway = start("[queue]\ncheck_first_ms = 100\ncheck_every_ms = 100\nchecks_max = 3\n");
    assert!(checks(&gateway, "shop", 0).is_empty());
    std::thread::scope(|scope| {
        // Both wait; each hears of its own group only.
        let waiting = scope.spawn(|| checks(&gateway, "shop", 20_000));
        let other = scope.spawn(|| checks(&gateway, "other", 1_000));
        let transaction = begin(&gateway, "t", "shop", &json!({"order":7}));
        let asked = waiting.join().unwrap();
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert_eq!((&asked[0]["transaction"], &asked[0]["attempt"]), (&json!(transaction), &json!(1)));
        assert_eq!(
            (&asked[0]["message"]["body"], &asked[0]["message"]["topic"]),
            (&json!({"order":7}), &json!("t"))
        );
        assert!(asked[0]["message"].get("receipt").is_none());
        // Not known yet: it is asked for again, and committed then.
        ok(&resolve(&gateway, &transaction, "unknown"));
        let again = checks(&gateway, "shop", 20_000);
        assert!(again[0]["attempt"].as_u64().unwrap() > 1);
        ok(&resolve(&gateway, &transaction, "commit"));
        assert_eq!(bodies(&gateway.receive("t", "g", "{\"wait_ms\":5000}")), [json!({"order":7})]);
        assert!(other.join().unwrap().is_empty());
    });
    // One that nobody ever resolves is rolled back in the end.
    let forgotten = begin(&gateway, "t", "shop", &json!(8));
    eventually("it is rolled back", || (gateway.app().queue.open_transactions() == 0).then_some(()));
    let late = resolve(&gateway, &forgotten, "commit");
    refused(&late, 409, "already-resolved");
    assert!(gateway.receive("t", "g", "{\"wait_ms\":0}").is_empty());
}

#[test]
fn a_waiting_request_for_checks_costs_nothing_and_is_bounded() {
    let gateway = start("[queue]\nwaiting_receives_max = 1\n");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| checks(&gateway, "shop", 2_000));
        eventually("it waits", || (gateway.app().receives.available_permits() == 0).then_some(()));
        let before = cpu_time();
        refused(&gateway.post("/v1/producer-groups/shop/checks", "{}"), 503, "queue-unavailable");
        assert!(waiting.join().unwrap().is_empty());
        let spent = cpu_time().saturating_sub(before);
        assert!(spent < Duration::from_secs(1), "{spent:?} of CPU while it waited");
    });
}

/// Of this process.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[test]
fn an_ordered_group_hands_out_each_key_one_by_one_to_many_workers() {
    const KEYS: u64 = 5;
    const EACH: u64 = 20;
    let gateway = start("");
    let put = ok(&gateway.put("/v1/topics/t/groups/g", "{\"mode\":\"ordered\"}"));
    assert_eq!(put, json!({ "topic": "t", "group": "g", "mode": "ordered" }));
    for number in 0..EACH {
        let messages: Vec<Value> = (0..KEYS)
            // The look-up keys are others than the ordering key: it is the ordering key that counts.
            .map(|key| json!({"body":number,"keys":[format!("m-{key}-{number}")],"tag":key.to_string(),"ordering_key":format!("customer-{key}")}))
            .collect();
        ok(&publish(&gateway, "t", &json!({ "messages": messages, "ack": "memory" })));
    }
    let seen: parking_lot::Mutex<BTreeMap<String, Vec<u64>>> = parking_lot::Mutex::default();
    let out: parking_lot::Mutex<BTreeMap<String, u32>> = parking_lot::Mutex::default();
    let end = Instant::now() + Duration::from_mins(1);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (gateway, seen, out) = (&gateway, &seen, &out);
            scope.spawn(move || {
                let mut turn = 0;
                while seen.lock().values().map(Vec::len).sum::<usize>() < (KEYS * EACH) as usize {
                    assert!(Instant::now() < end, "not all delivered: {:?}", seen.lock());
                    let got = gateway.receive("t", "g", "{\"max\":3,\"wait_ms\":200}");
                    for message in &got {
                        let key = message["tag"].as_str().unwrap().to_owned();
                        assert_eq!(std::mem::replace(out.lock().entry(key).or_default(), 1), 0, "{message}");
                    }
                    for message in &got {
                        let key = message["tag"].as_str().unwrap().to_owned();
                        turn += 1;
                        out.lock().insert(key.clone(), 0);
                        // Some come back, and still before what is behind them.
                        if turn % (3 + worker) == 0 {
                            settle(gateway, "t", "g", "nack", std::slice::from_ref(message));
                        } else {
                            seen.lock().entry(key).or_default().push(message["body"].as_u64().unwrap());
                            acked(gateway, "t", "g", std::slice::from_ref(message));
                        }
                    }
                }
            });
        }
    });
    for (key, numbers) in &*seen.lock() {
        assert_eq!(*numbers, (0..EACH).collect::<Vec<_>>(), "of {key}");
    }
    // Said again, or not said, it stays ordered; shared it is when that is said.
    ok(&gateway.put("/v1/topics/t/groups/g", "{\"max_attempts\":5}"));
    let two = json!({ "messages": [{"body":1,"ordering_key":"a"}, {"body":2,"ordering_key":"a"}] });
    ok(&publish(&gateway, "t", &two));
    let first = gateway.receive("t", "g", "{\"wait_ms\":5000}");
    ok(&gateway.put("/v1/topics/t/groups/g", "{\"mode\":\"ordered\"}"));
    assert!(gateway.receive("t", "g", "{\"wait_ms\":0}").is_empty(), "still in line behind {first:?}");
    ok(&gateway.put("/v1/topics/t/groups/g", "{\"mode\":\"shared\"}"));
    assert_eq!(bodies(&gateway.receive("t", "g", "{\"wait_ms\":5000}")), [2]);
}

#[test]
fn each_consumer_of_a_broadcast_sees_every_message() {
    let gateway = start("");
    let one = |body: u64| ok(&publish(&gateway, "t", &json!({ "messages": [{ "body": body }] })));
    one(0);
    let put = ok(&gateway.put("/v1/topics/t/groups/news", r#"{"mode":"broadcast","max_attempts":2}"#));
    assert_eq!(put["mode"], "broadcast");
    let group = "/v1/topics/t/groups/news";
    refused(&gateway.post(&format!("{group}/receive"), "{\"wait_ms\":0}"), 400, "bad-request");
    let as_consumer = |name: &str, wait_ms: u64| {
        let body = json!({ "consumer": name, "wait_ms": wait_ms, "max": 10 }).to_string();
        gateway.receive("t", "news", &body)
    };
    let mine = as_consumer("till-1", 5_000);
    assert_eq!((bodies(&mine), bodies(&as_consumer("till-2", 5_000))), (vec![json!(0)], vec![json!(0)]));
    // Each has its own leases.
    let extended = settle(&gateway, "t", "news", "extend", &mine);
    assert_eq!(settle(&gateway, "t", "news", "ack", &mine)[0]["error"], "receipt-expired");
    acked(&gateway, "t", "news", &extended);
    one(1);
    let mine = as_consumer("till-1", 5_000);
    assert_eq!(bodies(&mine), [1]);
    assert_eq!(settle(&gateway, "t", "news", "nack", &mine)[0]["ok"], true);
    let again = as_consumer("till-1", 5_000);
    assert_eq!(again[0]["attempt"], 2);
    // It shows under its own name, and there its dead letters are.
    assert_eq!(settle(&gateway, "t", "news", "nack", &again)[0]["ok"], true);
    let dead = gateway.get("/v1/topics/t/groups/news%25till-1/dead-letters").json();
    assert_eq!(bodies(dead["messages"].as_array().unwrap()), [1]);
    assert_eq!(gateway.get("/v1/topics/t/groups/news%25till-1/offsets").status, 200);
    // Where it stopped it goes on, also after a restart; who is new starts where the broadcast says.
    ok(&gateway.put("/v1/topics/t/groups/news", r#"{"start":"last"}"#));
    let gateway = start_in(gateway.stop(), "");
    let as_consumer = |name: &str, wait_ms: u64| {
        let body = json!({ "consumer": name, "wait_ms": wait_ms, "max": 10 }).to_string();
        gateway.receive("t", "news", &body)
    };
    assert!(as_consumer("till-1", 0).is_empty() && as_consumer("till-3", 0).is_empty());
    ok(&publish(&gateway, "t", &json!({ "messages": [{ "body": 2 }] })));
    assert_eq!(
        (bodies(&as_consumer("till-1", 5_000)), bodies(&as_consumer("till-3", 5_000))),
        (vec![json!(2)], vec![json!(2)])
    );
    ok(&gateway.post(&format!("{group}/reset"), "{\"to\":\"first\"}"));
    assert_eq!(bodies(&as_consumer("till-3", 5_000)).len(), 3);
    refused(&gateway.put(group, "{\"mode\":\"shared\"}"), 400, "bad-request");
}

#[test]
fn consumers_and_groups_can_be_deleted_and_whoever_waits_hears_of_it() {
    let gateway = start("");
    let delete = |path: &str| send(gateway.inner, "DELETE", path, "", "");
    ok(&gateway.put("/v1/topics/t/groups/news", "{\"mode\":\"broadcast\"}"));
    std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| gateway.receive("t", "news", "{\"consumer\":\"gone\",\"wait_ms\":20000}"));
        eventually("it waits", || gateway.app().queue.group_counts("t", "news%gone"));
        eventually("it waits", || (gateway.app().receives.available_permits() < 1_024).then_some(()));
        ok(&delete("/v1/topics/t/groups/news%25gone"));
        assert!(waiting.join().unwrap().is_empty());
    });
    assert!(gateway.app().queue.group_counts("t", "news%gone").is_none());
    gateway.receive("t", "news", "{\"consumer\":\"one\",\"wait_ms\":0}");
    ok(&delete("/v1/topics/t/groups/news"));
    assert!(gateway.app().queue.group_counts("t", "news%one").is_none());
    refused(&delete("/v1/topics/t/groups/news"), 404, "group-not-found");
    refused(&delete("/v1/topics/orders/groups/order-workers"), 400, "bad-request");
    refused(&delete("/v1/topics/%25ledger/groups/g"), 403, "topic-reserved");
    refused(&send(gateway.inner, "DELETE", "/v1/topics/t", "", ""), 405, "method-not-allowed");
}

#[test]
fn a_topic_tells_how_many_queues_it_has() {
    let gateway = start("");
    assert_eq!(ok(&gateway.put("/v1/topics/t", "{\"queues\":8}"))["queues"], 8);
    assert_eq!(ok(&gateway.put("/v1/topics/t", "{\"queues\":2}"))["queues"], 8, "queues only grow");
}
