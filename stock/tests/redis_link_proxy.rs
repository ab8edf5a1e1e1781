//! A proxy that swaps the Redis behind every kind of connection sees no write before the run-id check.

mod redis_link_support;

use redis::Value;
use redis_link_support::{COUNT, KEY, after_check, count, link, patient, unavailable, until_reply};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_stock::redis::RedisOptions;
use tidegate_stock::redis::link::{CallError, Lineage, PubSubEvent, subscribe};
use tidegate_stock::testing::redis::{Cluster, RedisServer, Setup, SwapProxy};

fn through(proxy: &SwapProxy) -> RedisOptions {
    RedisOptions::single("127.0.0.1", proxy.port())
}

async fn until_async(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn calls_are_not_sent_to_another_redis_than_expected() {
    let (first, second) = (RedisServer::start(), RedisServer::start());
    let proxy = SwapProxy::start(first.port());
    let link = link(through(&proxy));
    let lineage = link.lineage(KEY).await.unwrap();
    assert_eq!(count(&link, Some(&lineage)).await, Ok(Value::Int(1)));
    proxy.swap(second.port());
    let started = Instant::now();
    let now = loop {
        match count(&link, Some(&lineage)).await {
            Err(CallError::LineageChanged { now }) => break now,
            // The end of the old connection may not have arrived.
            Err(CallError::Unavailable(_) | CallError::Unknown(_))
                if started.elapsed() < Duration::from_secs(5) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_ne!(now, lineage);
    for seen in proxy.seen().iter().filter(|seen| seen.backend == second.port()) {
        assert_eq!(after_check(seen), Vec::<String>::new(), "nothing but the check");
    }
    assert_eq!(second.command(&["DBSIZE"]), Value::Int(0));
    // With the new lineage it goes on.
    assert_eq!(count(&link, Some(&now)).await, Ok(Value::Int(1)));
    for seen in proxy.seen() {
        after_check(&seen);
    }
}

#[tokio::test]
async fn a_restart_without_data_is_noticed_before_anything_is_sent() {
    let mut server = RedisServer::start();
    let proxy = SwapProxy::start(server.port());
    let link = link(through(&proxy));
    let lineage = link.lineage(KEY).await.unwrap();
    assert_eq!(count(&link, Some(&lineage)).await, Ok(Value::Int(1)));
    server.restart_empty();
    let mark = proxy.seen().len();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let changed = count(&link, Some(&lineage)).await;
    assert!(matches!(changed, Err(CallError::LineageChanged { .. })), "{changed:?}");
    for seen in &proxy.seen()[mark..] {
        assert_eq!(after_check(seen), Vec::<String>::new());
    }
    assert_eq!(server.command(&["DBSIZE"]), Value::Int(0));
}

/// Without an expected lineage too: what fails the check gets nothing.
#[tokio::test]
async fn a_redis_that_fails_the_check_gets_nothing() {
    let first = RedisServer::start();
    let replica = first.replica();
    let proxy = SwapProxy::start(first.port());
    let link = link(through(&proxy));
    count(&link, None).await.unwrap();
    proxy.swap(replica.port());
    let started = Instant::now();
    while !proxy.seen().iter().any(|seen| seen.backend == replica.port()) {
        assert!(count(&link, None).await.is_err() && started.elapsed() < Duration::from_secs(5));
    }
    let text = unavailable(count(&link, None).await);
    assert!(text.contains("role is slave"), "{text}");
    for seen in proxy.seen().iter().filter(|seen| seen.backend == replica.port()) {
        assert_eq!(after_check(seen), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_call_is_not_sent_again() {
    let server = RedisServer::start();
    let proxy = SwapProxy::start(server.port());
    let link = link(through(&proxy));
    count(&link, None).await.unwrap();
    proxy.mute(true);
    assert!(matches!(count(&link, None).await, Err(CallError::Unknown(_))));
    proxy.cut();
    tokio::time::sleep(Duration::from_millis(50)).await;
    proxy.mute(false);
    let next = until_reply(&link, |error| matches!(error, CallError::Unavailable(_))).await;
    assert_eq!(next, Value::Int(3), "the unanswered call ran once");
}

#[tokio::test]
async fn a_subscription_is_checked_on_every_connection() {
    let (first, second) = (RedisServer::start(), RedisServer::start());
    let replica = first.replica();
    let proxy = SwapProxy::start(first.port());
    let events: Rc<RefCell<Vec<String>>> = Rc::default();
    let lineages: Rc<RefCell<Vec<Lineage>>> = Rc::default();
    let (heard, ups) = (events.clone(), lineages.clone());
    let listening = subscribe(Arc::new(through(&proxy)), "tidegate:news", move |event| {
        heard.borrow_mut().push(match event {
            PubSubEvent::Up(lineage) => {
                ups.borrow_mut().push(lineage);
                "up".to_owned()
            }
            PubSubEvent::Message(payload) => String::from_utf8_lossy(payload).into_owned(),
            PubSubEvent::Down => "down".to_owned(),
        });
    });
    let acting = async {
        until_async("up", || events.borrow().len() == 1).await;
        first.command(&["PUBLISH", "tidegate:news", "one"]);
        until_async("one", || events.borrow().len() == 2).await;
        proxy.swap(replica.port());
        until_async("down, and the replica is met", || {
            events.borrow().len() == 3
                && proxy.seen().iter().filter(|s| s.backend == replica.port()).count() >= 2
        })
        .await;
        proxy.swap(second.port());
        until_async("up again", || events.borrow().len() == 4).await;
        second.command(&["PUBLISH", "tidegate:news", "two"]);
        until_async("two", || events.borrow().len() == 5).await;
    };
    tokio::select! {
        () = listening => unreachable!("never returns"),
        () = acting => {}
    }
    assert_eq!(*events.borrow(), ["up", "one", "down", "up", "two"]);
    assert_ne!(lineages.borrow()[0], lineages.borrow()[1]);
    for seen in proxy.seen() {
        let rest = after_check(&seen);
        if seen.backend == replica.port() {
            assert_eq!(rest, Vec::<String>::new(), "no subscription on a replica");
        } else {
            assert!(rest.iter().all(|word| word == "SUBSCRIBE tidegate:news" || word == "PING"), "{rest:?}");
        }
    }
}

#[tokio::test]
async fn nodes_of_a_cluster_are_checked_one_by_one() {
    let proxies: Vec<_> = (0..3).map(|_| SwapProxy::start(0)).collect();
    let announced = proxies.iter().map(|p| vec!["--cluster-announce-port".to_owned(), p.port().to_string()]);
    let cluster = Cluster::with(announced.collect());
    for (proxy, node) in proxies.iter().zip(cluster.nodes()) {
        proxy.swap(node.port());
    }
    let link = link(patient(cluster.options()));
    let slot = cluster.slot(KEY);
    let from = cluster.first_owner(KEY);
    let to = (from + 1) % 3;
    let lineage = link.lineage(KEY).await.unwrap();
    assert_eq!(count(&link, Some(&lineage)).await, Ok(Value::Int(1)));

    // MOVED leads to a node that was not connected to.
    cluster.move_slot(slot, from, to);
    let changed = count(&link, Some(&lineage)).await;
    let Err(CallError::LineageChanged { now }) = changed else { panic!("{changed:?}") };
    for seen in proxies[to].seen() {
        assert!(
            after_check(&seen).iter().all(|word| word == "CLUSTER SLOTS"),
            "nothing but questions: {seen:?}"
        );
    }
    assert_eq!(count(&link, Some(&now)).await, Ok(Value::Int(2)), "its count moved with it");

    // Another Redis behind the node's address.
    let stranger = Setup { cluster: true, ..Setup::default() }.start();
    stranger.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    proxies[to].swap(stranger.port());
    let started = Instant::now();
    loop {
        match count(&link, Some(&now)).await {
            Err(CallError::LineageChanged { now: stranger }) => break assert_ne!(stranger, now),
            Err(CallError::Unavailable(_) | CallError::Unknown(_))
                if started.elapsed() < Duration::from_secs(5) =>
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => panic!("{other:?}"),
        }
    }
    for seen in proxies.iter().flat_map(SwapProxy::seen) {
        let rest = after_check(&seen);
        if seen.backend == stranger.port() {
            assert!(rest.iter().all(|word| word == "CLUSTER SLOTS"), "{rest:?}");
        }
    }
    assert_eq!(stranger.command(&["DBSIZE"]), Value::Int(0));
}

#[tokio::test]
async fn connections_for_replication_and_for_long_calls_are_checked_as_well() {
    let (first, second) = (RedisServer::start(), RedisServer::start());
    let (_replica, _other) = (first.replica(), second.replica());
    let proxy = SwapProxy::start(first.port());
    let link = link(patient(RedisOptions { wait_replicas: 1, ..through(&proxy) }));
    let lineage = link.lineage(KEY).await.unwrap();
    let replicated = async || link.script_replicated(&COUNT, Some(&lineage), &[KEY], &[b"1"]).await;
    let started = Instant::now();
    // The replica may still be on its way.
    while replicated().await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(10));
    }
    link.script_patient(&COUNT, &[KEY], &[b"1"]).await.unwrap();
    proxy.swap(second.port());
    let started = Instant::now();
    loop {
        match replicated().await {
            Err(CallError::LineageChanged { .. }) => break,
            Err(CallError::Unavailable(_) | CallError::Unknown(_))
                if started.elapsed() < Duration::from_secs(5) => {}
            other => panic!("{other:?}"),
        }
    }
    for seen in proxy.seen().iter().filter(|seen| seen.backend == second.port()) {
        assert_eq!(after_check(seen), Vec::<String>::new(), "nothing but the check");
    }
    // A long call names no server: it reads, and is checked like every other.
    let started = Instant::now();
    while link.script_patient(&COUNT, &[KEY], &[b"1"]).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(5));
    }
    for seen in proxy.seen() {
        after_check(&seen);
    }
}
