//! A user with no more rights than it needs: those of `MINIMAL_ACL`, which are those of docs/redis.md.
#![allow(clippy::unwrap_used)]

#[path = "support/fleet.rs"]
mod fleet;
mod redis_link_support;
mod support;

use ::redis::Cmd;
use fleet::Gateway;
use redis_link_support::{KEY, count_replicated, link};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use support::{fresh_id, spec};
use testing::redis::RedisServer;
use tidegate_stock::redis::link::{CallError, MINIMAL_ACL, PubSubEvent, subscribe};
use tidegate_stock::redis::ops::{Beat, Heard, Moved, Resumed};
use tidegate_stock::redis::{Password, Process, RedisOptions, Shelf};
use tidegate_stock::*;

fn commands(rules: &str) -> BTreeSet<String> {
    rules.split_whitespace().filter_map(|rule| rule.strip_prefix('+')).map(str::to_owned).collect()
}

/// A server whose only user for gateways has these rights.
fn limited(rules: &str) -> (RedisServer, RedisOptions) {
    let server = RedisServer::start();
    let mut rule = vec!["ACL", "SETUSER", "gate", "on", ">secret"];
    rule.extend(rules.split_whitespace());
    server.command(&rule);
    let options = RedisOptions {
        user: Some("gate".into()),
        password: Some(Password(Arc::from("secret"))),
        ..fleet::options(&server)
    };
    (server, options)
}

#[test]
fn the_rights_are_those_of_the_scripts_and_of_the_manual() {
    let folders =
        ["/../lua/stock", "/../lua/gate"].map(|folder| format!("{}{folder}", env!("CARGO_MANIFEST_DIR")));
    let rights = commands(MINIMAL_ACL);
    let mut called = BTreeSet::new();
    for file in folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()) {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        called.extend(
            text.split("redis.call('").skip(1).map(|rest| rest.split('\'').next().unwrap().to_lowercase()),
        );
    }
    let missing: Vec<_> = called.difference(&rights).collect();
    assert!(missing.is_empty(), "a script calls {missing:?}");
    // What is sent without a script; `scard`, `smembers`, `sadd` and `sdiff` too.
    let sent = [
        "info",
        "ping",
        "select",
        "subscribe",
        "evalsha",
        "eval",
        "wait",
        "asking",
        "cluster|slots",
        "zrevrange",
        "get",
        "set",
        "pttl",
    ];
    let idle: Vec<_> =
        rights.iter().filter(|right| !called.contains(*right) && !sent.contains(&&***right)).collect();
    assert!(idle.is_empty(), "nobody calls {idle:?}");

    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/redis.md")).unwrap();
    let told = manual.split("ACL SETUSER").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(commands(told), rights, "docs/redis.md tells others");
    for pattern in MINIMAL_ACL.split_whitespace().filter(|rule| !rule.starts_with('+')) {
        assert!(told.split_whitespace().any(|rule| rule == pattern), "docs/redis.md lacks {pattern}");
    }
}

#[tokio::test]
async fn every_operation_runs_with_these_rights() {
    let (server, options) = limited(MINIMAL_ACL);
    let (mut a, mut b) = (Gateway::with(options.clone(), "a"), Gateway::with(options.clone(), "b"));
    for gateway in [&a, &b] {
        let forgotten = [("gone".to_owned(), 1)];
        let proposal = gateway.ops.propose(0, 1).await.unwrap();
        let mut process = Process::new(BTreeSet::new(), 0);
        process.take(proposal.number);
        let beat = Beat {
            process: &process,
            log_end: 0,
            tells: "{}",
            recorded: &["newcomer".to_owned()],
            processes: &[("other".to_owned(), proposal.newest)],
            forgotten: &forgotten,
        };
        assert!(matches!(gateway.ops.heartbeat(&beat).await.unwrap(), Heard::Fleet(_)));
        gateway.ops.forget("nobody here", true).await.unwrap();
    }
    let keys = a.ops.keys(support::SALE);
    let sale_spec = spec(10);
    let mut fence = a.put(&keys, &sale_spec).await;
    a.ops.switch_sale(&keys, &fence.lineage, SaleSwitch::Open).await.unwrap().unwrap();
    fence = a.fence(&keys).await;
    let orders = ["ann", "bob", "cid", "dan"]
        .map(|buyer| Reserve { sale: support::SALE, ..support::order(buyer, Some("key")) });
    let sold = a.reserve(&keys, &fence, &sale_spec, &orders, &[], false).await.unwrap();
    assert_eq!(sold.answers.len(), 4);
    let moves = [
        (orders[0].ticket, Transition::Created { order_id: "1" }),
        (orders[0].ticket, Transition::Paid { payment_id: "p" }),
        (orders[1].ticket, Transition::Rejected { reason: "no" }),
        (orders[1].ticket, Transition::Paid { payment_id: "late" }),
    ];
    let moved = a.transition(&keys, &fence, 200, &moves, false).await.unwrap();
    assert!(matches!(moved[3], Moved::LateMoney { .. }), "{moved:?}");
    a.restock(&keys, &fence, "r", 2, 0, false).await.unwrap().unwrap();
    b.claim_all(&keys, &fence, 300).await.unwrap();
    b.adopt(&keys, &fence, "a", 10, 300).await;
    b.ops.resolve(&keys, &fence, &[orders[0].ticket, fresh_id()]).await.unwrap();
    server.command(&["ZADD", "tidegate:1:{sale}:x", "1", "old"]);
    b.claim_all(&keys, &fence, 300).await.unwrap();
    b.settle(&keys, &fence).await;
    a.ops.read(&keys, &[orders[0].ticket]).await.unwrap();
    assert_eq!(a.ops.tickets_of(&keys, "ann", 10).await.unwrap().unwrap().len(), 1);
    a.ops.by_key(&keys, "ann", hash_of("key"), orders[0].body_hash).await.unwrap();
    a.ops.validate(&keys, &fence, &[(orders[2].ticket, 1)]).await.unwrap();
    assert!(a.ops.audit(&keys).await.unwrap().unwrap().holds);
    assert_eq!(a.ops.feed(&keys, 0).await.unwrap().0.len(), 4);
    assert_eq!(a.ops.due_last(&keys, 10).await.unwrap().len(), 2);
    a.ops.name_sale(&keys).await.unwrap();
    assert_eq!(a.ops.sale_names().await.unwrap(), [support::SALE]);

    let shelf = Shelf::new(&Arc::new(options.clone()), "cache");
    let long = std::time::Duration::from_mins(1);
    shelf.put("1", b"bytes", long).await.unwrap();
    let (bytes, left) = shelf.get("1").await.unwrap().unwrap();
    assert!(bytes == b"bytes" && left <= long && left > long / 2, "{left:?}");
    assert!(shelf.claim("c", long).await.unwrap() && !shelf.claim("c", long).await.unwrap());
    shelf.remove("c").await.unwrap();
    assert!(shelf.claim("c", long).await.unwrap());
    assert!(server.exists("tidegate:1:cache:1") && shelf.get("2").await.unwrap().is_none());

    server.command(&["FLUSHALL"]);
    let members = ["a".to_owned(), "b".to_owned(), "gone".to_owned()];
    a.recover(&keys, &members).await;
    b.recover(&keys, &members).await;
    assert_eq!(a.ops.recovery(&keys).await.unwrap().missing, ["gone"]);
    let recovery = a.ops.pause(&keys, &fence.lineage, None, &[]).await.unwrap().unwrap();
    a.ops.withdraw(&keys, &recovery, &["gone".to_owned()]).await.unwrap();
    a.ops.excuse(&keys, "gone").await.unwrap().unwrap();
    assert!(matches!(a.recover(&keys, &[]).await, Resumed::Resumed { .. }));

    let up = Cell::new(false);
    let listening = subscribe(Arc::new(options.clone()), "tidegate:1:news", |event| {
        up.set(up.get() || matches!(event, PubSubEvent::Up(_)));
    });
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), listening).await;
    assert!(up.get());
    // More than that it may not, neither in a script nor without one; WAIT it may.
    let replicated = link(RedisOptions { wait_replicas: 1, ..options.clone() });
    let refused = count_replicated(&replicated).await;
    assert!(matches!(&refused, Err(CallError::Refused(text)) if text.contains("can't run")), "{refused:?}");
    server.command(&["ACL", "SETUSER", "gate", "+incrby"]);
    let waited = count_replicated(&replicated).await;
    assert!(matches!(&waited, Err(CallError::Unreplicated(text)) if text.contains("replica")), "{waited:?}");
    assert!(!format!("{waited:?}").contains("refused"), "{waited:?}");
    let refused = link(options).command(KEY, None, Cmd::new().arg("STRLEN").arg(KEY)).await;
    assert!(matches!(&refused, Err(CallError::Refused(text)) if text.contains("NOPERM")), "{refused:?}");
}
