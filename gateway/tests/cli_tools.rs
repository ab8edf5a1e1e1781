//! The built `tidegate` command: audits and logs at rest, and the sales of a running gateway.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{damage, eventually, start, tidegate};
use serde_json::{Value, json};
use std::path::Path;

/// A folder in which two buyers won; one order came to nothing.
fn used_folder() -> (tempfile::TempDir, String) {
    let gateway = start("");
    gateway.sale("s", 5, "");
    let ticket = gateway.win("s", "alice");
    gateway.win("s", "bob");
    assert_eq!(gateway.post(&format!("/v1/tickets/{ticket}/rejected"), "{\"reason\":\"x\"}").status, 200);
    (gateway.stop(), ticket)
}

fn run(command: &[&str], data: &Path, more: &[&str]) -> (i32, String, String) {
    let data = data.to_str().unwrap();
    let arguments: Vec<&str> =
        command.iter().copied().chain(["--data", data]).chain(more.iter().copied()).collect();
    tidegate(&arguments)
}

#[test]
fn the_offline_audit_agrees_with_the_gateway() {
    let gateway = start("");
    gateway.sale("s", 5, "");
    let ticket = gateway.win("s", "alice");
    gateway.win("s", "bob");
    gateway.post(&format!("/v1/tickets/{ticket}/created"), "{\"order_id\":\"1\"}");
    gateway.post(&format!("/v1/tickets/{ticket}/paid"), "{\"payment_id\":\"p\"}");
    gateway.post("/v1/sales/s/restock", "{\"restock_id\":\"r\",\"quantity\":3}");
    let online = gateway.get("/v1/audit").json();
    let dir = gateway.stop();
    let data = dir.path().join("data");
    let (code, out, err) = run(&["audit"], &data, &["--json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), online);
    let (code, out, _) = run(&["audit"], &data, &[]);
    assert_eq!(code, 0);
    for expected in ["log is sound", "initial + restocked = available + held + sold", "queued", "yes"] {
        assert!(out.contains(expected), "{expected} not in\n{out}");
    }
    assert!(!out.contains("NO"), "{out}");
}

#[test]
fn an_audit_of_a_damaged_log_says_no() {
    let (dir, _) = used_folder();
    let data = dir.path().join("data");
    damage(&data, b"alice");
    for (command, word) in [(["audit"].as_slice(), "damaged"), (&["log", "verify"], "damaged")] {
        let (code, out, err) = run(command, &data, &[]);
        assert_eq!(code, 1, "{command:?} {out} {err}");
        assert!(err.starts_with("error: ") && err.contains(word), "{err}");
        assert!(out.contains("DAMAGED") && out.contains("commitlog/"), "{out}");
    }
    let (code, out, err) = run(&["log", "verify"], &data, &["--salvage"]);
    assert_eq!(code, 0, "{out} {err}");
    assert!(out.contains("given up: positions ") && out.contains("may be sold again"), "{out}");
    assert!(std::fs::read_dir(data.join("salvage")).unwrap().count() > 0);
    assert_eq!(run(&["log", "verify"], &data, &[]).0, 0);
    // The rejection of the lost order does not fold any more.
    let (code, _, err) = run(&["audit"], &data, &[]);
    assert_eq!(code, 1, "{err}");
    assert!(err.starts_with("warning: a salvage gave up 1 part(s)"), "{err}");
    assert!(err.contains("restore a copy of the data folder"), "{err}");
}

#[test]
fn a_ledger_that_does_not_add_up_is_told() {
    // An order that no sale knows: the records do not fold.
    let (dir, _) = used_folder();
    let data = dir.path().join("data");
    let queue = open_queue(&data);
    let forged = tidegate_queue::NewMessage {
        topic: "order-events",
        keys: &["01ARZ3NDEKTSV4RRFFQ69G5FAV"],
        body: br#"{"ticket":"not a ticket"}"#,
        ..Default::default()
    };
    let appended = queue.append(&[forged], tidegate_queue::Space::New).unwrap();
    queue.wait_durable(appended.end).unwrap();
    queue.close().unwrap();
    let (code, out, err) = run(&["audit"], &data, &[]);
    assert_eq!(code, 1, "{out}");
    assert!(err.contains("position") && err.contains("order-events"), "{err}");
}

fn open_queue(data: &Path) -> tidegate_queue::Queue {
    let config = tidegate::config::Config::load(
        None,
        [
            ("TIDEGATE__DATA__DIR".to_owned(), data.to_str().unwrap().to_owned()),
            ("TIDEGATE__DATA__SEGMENT_BYTES".to_owned(), "8388608".to_owned()),
        ]
        .into_iter(),
    )
    .unwrap();
    let storage = std::sync::Arc::new(tidegate_queue::storage::DiskStorage::new(data).unwrap());
    let clock = std::sync::Arc::new(tidegate_queue::SystemClock::new());
    tidegate_queue::Queue::open(config.queue_options(), storage, clock).unwrap()
}

#[test]
fn folders_that_are_in_use_or_none_are_refused() {
    let gateway = start("");
    let data = gateway.dir().join("data");
    for command in
        [["audit"].as_slice(), &["log", "verify"], &["log", "dump"], &["log", "verify", "--salvage"]]
    {
        let (code, _, err) = run(command, &data, &[]);
        assert_eq!(code, 3, "{command:?} {err}");
        assert!(err.contains("locked by another process"), "{err}");
        let (code, _, err) = run(command, Path::new("/nowhere"), &[]);
        assert_eq!(code, 3, "{command:?} {err}");
        assert!(err.contains("not a tidegate data folder"), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    assert!(!Path::new("/nowhere").exists());
}

#[test]
fn a_dump_shows_the_records_of_a_ticket() {
    let (dir, ticket) = used_folder();
    let data = dir.path().join("data");
    let (code, out, err) = run(&["log", "dump"], &data, &["--key", &ticket]);
    assert_eq!((code, err.as_str()), (0, ""));
    let topics: Vec<&str> =
        out.lines().map(|line| line.split(' ').nth(2).unwrap().split('/').next().unwrap()).collect();
    assert_eq!(topics, ["orders", "order-events"], "{out}");
    let (_, out, _) = run(&["log", "dump"], &data, &["--topic", "order-events", "--json"]);
    let event: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!((&event["kind"], &event["body"]["to"]), (&json!("message"), &json!("rejected")));
    assert_eq!(event["body"]["ticket"], ticket.as_str());
    let (_, all, _) = run(&["log", "dump"], &data, &[]);
    assert!(all.lines().count() > 3, "{all}");
    assert_eq!(run(&["log", "dump"], &data, &["--limit", "2"]).1.lines().count(), 2);
}

#[test]
fn reading_a_log_changes_nothing() {
    let (dir, _) = used_folder();
    let data = dir.path().join("data");
    let bytes = || {
        let mut files: Vec<_> = std::fs::read_dir(data.join("commitlog"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = bytes();
    for command in [["audit"].as_slice(), &["log", "verify"], &["log", "dump"]] {
        assert_eq!(run(command, &data, &[]).0, 0);
    }
    assert!(bytes() == before);
}

#[test]
fn sales_are_run_from_the_command_line() {
    let gateway = start("");
    let inner = format!("http://{}", gateway.inner);
    let sale = |arguments: &[&str]| {
        let all: Vec<&str> =
            ["sale"].into_iter().chain(arguments.iter().copied()).chain(["--inner", &inner]).collect();
        tidegate(&all)
    };
    let (code, out, err) = sale(&["create", "s", "--item", "phone", "--stock", "3", "--open"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("open") && out.contains("phone"), "{out}");
    gateway.win("s", "alice");
    let (code, _, err) = sale(&["restock", "s", "--id", "r1", "--quantity", "2"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (code, out, err) = sale(&["restock", "s", "--id", "r1", "--units", "2", "--json"]);
    assert_eq!((code, err.as_str()), (0, "restock id \"r1\" was used before: nothing is added\n"));
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["restocked"], 2);
    for bad in ["-5", "0", "many"] {
        let (code, _, err) = sale(&["restock", "s", "--id", "r2", "--quantity", bad]);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains("a whole number of at least 1") && !err.contains("-- -5"), "{err}");
    }
    let (_, out, _) = sale(&["show", "s", "--json"]);
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&shown["restocked"], &shown["available"], &shown["held"]), (&json!(2), &json!(4), &json!(1)));
    let (code, out, _) = sale(&["audit"]);
    assert_eq!(code, 0);
    assert!(out.contains("initial + restocked = available + held + sold"), "{out}");
    assert_eq!(sale(&["audit", "s"]).0, 0);
    let (_, out, _) = sale(&["close", "s"]);
    assert!(out.contains("closed"), "{out}");
    assert_eq!(sale(&["list"]).1.lines().count(), 2);
    let (code, _, err) = sale(&["create", "s", "--item", "phone", "--stock", "4"]);
    assert_eq!(code, 1);
    assert!(err.contains("stock-already-set"), "{err}");
    let (code, _, err) = sale(&["show", "none"]);
    assert_eq!((code, err.lines().count()), (1, 1), "{err}");
    assert_eq!(sale(&["audit", "none"]), (1, String::new(), err));
    let (code, _, err) = sale(&["open", "none"]);
    assert_eq!(code, 1);
    assert!(err.contains("sale-not-found"), "{err}");
}

#[test]
fn a_gateway_that_is_not_there_and_a_wrong_token_are_told_apart() {
    let (code, _, err) = tidegate(&["sale", "list", "--inner", "http://127.0.0.1:9"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("not reachable") && err.contains("Connection refused"), "{err}");
    let gateway = start("[inner]\nworker_token = \"w\"\nadmin_token = \"a\"\n");
    let inner = format!("http://{}", gateway.inner);
    let (code, _, err) = tidegate(&["sale", "list", "--inner", &inner]);
    assert_eq!(code, 1);
    assert!(err.contains("unauthenticated") && err.contains("with --token-file FILE"), "{err}");
    let (_, _, err) = tidegate(&["sale", "list", "--inner", &inner, "--token", "w"]);
    assert!(err.contains("forbidden") && err.contains("admin token"), "{err}");
    assert_eq!(tidegate(&["sale", "list", "--inner", &inner, "--token", "a"]).0, 0);
    let file = gateway.dir().join("token");
    std::fs::write(&file, "a\n").unwrap();
    assert_eq!(tidegate(&["sale", "list", "--inner", &inner, "--token-file", file.to_str().unwrap()]).0, 0);
    assert_eq!(tidegate(&["sale", "list", "--inner", "ftp://x"]).0, 2);
    eventually("the gateway has let its connections go", || {
        (gateway.app().connections.all() == 0).then_some(())
    });
}

#[test]
fn a_reader_who_goes_ends_a_command_quietly() {
    let gateway = start("");
    gateway.sale("s", 5, "");
    let inner = format!("http://{}", gateway.inner);
    let (dir, _) = used_folder();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let config = dir.path().join("tidegate.toml");
    let config = config.to_str().unwrap();
    let commands: [&[&str]; 10] = [
        &["sale", "list", "--inner", &inner],
        &["sale", "list", "--inner", &inner, "--json"],
        &["sale", "audit", "--inner", &inner],
        &["sale", "audit", "s", "--inner", &inner],
        &["gateway", "list", "--inner", &inner],
        &["audit", "--data", data],
        &["log", "verify", "--data", data],
        &["log", "dump", "--data", data],
        &["check", "--config", config],
        &["--help"],
    ];
    for command in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut tidegate = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let output = tidegate.args(command).stdout(writer).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{command:?}");
    }
    // Not even an error has to be heard.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut tidegate = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let output = tidegate.args(["audit", "--data", "/nowhere"]).stderr(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
}
