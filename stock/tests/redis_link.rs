//! The connection layer on one real server: handshake, scripts, unknown outcomes, the circuit breaker, lineages.

mod redis_link_support;

use redis::{Cmd, Value};
use redis_link_support::{KEY, count, count_replicated, link, patient, unavailable, until_reply};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_stock::redis::link::CallError;
use tidegate_stock::redis::{Password, RedisOptions};
use tidegate_stock::testing::redis::{RedisServer, Setup, until};

/// A 503 is due after so long.
const AT_ONCE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_script_is_loaded_and_loaded_again_after_a_flush() {
    let server = RedisServer::start();
    let link = link(server.options());
    assert_eq!(count(&link, None).await, Ok(Value::Int(1)));
    assert_eq!(count(&link, None).await, Ok(Value::Int(2)));
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(count(&link, None).await, Ok(Value::Int(3)), "ran once");
}

#[tokio::test]
async fn commands_and_errors_of_redis() {
    let server = RedisServer::start();
    let link = link(server.options());
    let mut set = Cmd::new();
    set.arg("SET").arg(KEY).arg("v");
    assert_eq!(link.command(KEY, None, &set).await, Ok(Value::Okay));
    let refused = count(&link, None).await;
    assert!(
        matches!(&refused, Err(CallError::Refused(text)) if text.contains("not an integer")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_handshake_refuses_a_redis_that_may_evict() {
    let evicting = ["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"];
    let server = Setup::default().with(&evicting).start();
    let text = unavailable(count(&link(server.options()), None).await);
    assert!(text.contains("set maxmemory-policy noeviction") && text.contains("lost stock"), "{text}");
    let allowed = RedisOptions { allow_eviction: true, ..server.options() };
    assert_eq!(count(&link(allowed), None).await, Ok(Value::Int(1)));
}

#[tokio::test]
async fn the_handshake_refuses_a_replica() {
    let server = RedisServer::start();
    let replica = server.replica();
    let text = unavailable(count(&link(replica.options()), None).await);
    assert!(text.contains("role is slave") && text.contains("master's address"), "{text}");
}

#[tokio::test]
async fn the_handshake_refuses_a_wrong_password_and_a_missing_one() {
    let server = Setup { password: Some("right".into()), ..Setup::default() }.start();
    let wrong = RedisOptions { password: Some(Password(Arc::from("wrong"))), ..server.options() };
    let text = unavailable(count(&link(wrong), None).await);
    assert!(text.contains("login refused") && text.contains("check user and password_file"), "{text}");
    assert!(!text.contains("wrong "), "{text}");
    let missing = RedisOptions { password: None, ..server.options() };
    let text = unavailable(count(&link(missing), None).await);
    assert!(text.contains("set the password of Redis"), "{text}");
    assert_eq!(count(&link(server.options()), None).await, Ok(Value::Int(1)));
}

#[tokio::test]
async fn what_answers_and_is_no_redis_is_told_in_one_line() {
    let port = redis_link_support::web_server().await;
    let text = unavailable(count(&link(RedisOptions::single("127.0.0.1", port)), None).await);
    assert!(text.contains("does not speak the protocol of Redis") && !text.contains('\n'), "{text}");
}

#[tokio::test]
async fn another_database() {
    let server = RedisServer::start();
    let other = RedisOptions { database: 3, ..server.options() };
    assert_eq!(count(&link(other), None).await, Ok(Value::Int(1)));
    assert_eq!(server.info_field("keyspace", "db3").split(',').next(), Some("keys=1"));
    let text = unavailable(count(&link(RedisOptions { database: 99, ..server.options() }), None).await);
    assert!(text.contains("database 99"), "{text}");
}

#[tokio::test]
async fn fm52_a_call_without_an_answer_is_unknown_then_calls_are_refused_at_once_and_it_heals() {
    let server = RedisServer::start();
    let options = RedisOptions { breaker_pause: Duration::from_millis(400), ..server.options() };
    let failures = options.breaker_failures;
    let link = link(options);
    assert_eq!(count(&link, None).await, Ok(Value::Int(1)));
    server.pause();
    for _ in 0..failures {
        let started = Instant::now();
        let unknown = count(&link, None).await;
        assert!(matches!(&unknown, Err(CallError::Unknown(t)) if t.contains("call_timeout")), "{unknown:?}");
        assert!(started.elapsed() < AT_ONCE);
    }
    let started = Instant::now();
    let text = unavailable(count(&link, None).await);
    assert!(text.contains("breaker_pause"), "{text}");
    assert!(started.elapsed() < Duration::from_millis(20), "at once");
    // After the pause a fresh connection is the probe: no call is sent into the dark.
    tokio::time::sleep(Duration::from_millis(450)).await;
    let started = Instant::now();
    unavailable(count(&link, None).await);
    assert!(started.elapsed() < AT_ONCE);
    server.resume();
    let healed = until_reply(&link, |error| matches!(error, CallError::Unavailable(_))).await;
    // What was sent while it was paused ran late, each once; nothing was sent after.
    assert_eq!(healed, Value::Int(i64::from(failures) + 2));
}

#[tokio::test]
async fn late_replies_are_not_taken_for_those_of_later_calls() {
    let server = RedisServer::start();
    let link = link(server.options());
    assert_eq!(count(&link, None).await, Ok(Value::Int(1)));
    server.pause();
    assert!(matches!(count(&link, None).await, Err(CallError::Unknown(_))));
    server.resume();
    // On the same connection: the reply 2 of the call above comes first.
    assert_eq!(count(&link, None).await, Ok(Value::Int(3)));
}

#[tokio::test]
async fn calls_side_by_side_share_a_connection() {
    let server = RedisServer::start();
    let link = link(server.options());
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let calls: Vec<_> = (0..500)
                .map(|_| {
                    let link = link.clone();
                    tokio::task::spawn_local(async move { count(&link, None).await })
                })
                .collect();
            let mut replies = Vec::new();
            for call in calls {
                let Value::Int(n) = call.await.unwrap().unwrap() else { panic!("no number") };
                replies.push(n);
            }
            replies.sort_unstable();
            assert_eq!(replies, (1..=500).collect::<Vec<i64>>());
        })
        .await;
    // Those of the test's own connections come on top.
    let before: u32 = server.info_field("stats", "total_connections_received").parse().unwrap();
    count(&link, None).await.unwrap();
    let after: u32 = server.info_field("stats", "total_connections_received").parse().unwrap();
    assert_eq!(after, before + 1, "only INFO's own");
}

#[tokio::test]
async fn a_lost_connection_under_a_call_is_unknown() {
    let mut server = RedisServer::start();
    let link = link(server.options());
    count(&link, None).await.unwrap();
    server.pause();
    let (lost, ()) = tokio::join!(count(&link, None), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.kill();
    });
    assert!(matches!(&lost, Err(CallError::Unknown(t)) if t.contains("lost")), "{lost:?}");
}

#[tokio::test]
async fn nothing_listens_is_told_at_once_and_heals() {
    let mut server = RedisServer::start();
    let link = link(server.options());
    count(&link, None).await.unwrap();
    server.kill();
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..20 {
        let started = Instant::now();
        let text = unavailable(count(&link, None).await);
        assert!(text.contains("refused"), "{text}");
        assert!(started.elapsed() < AT_ONCE);
    }
    server.restart_empty();
    let healed = until_reply(&link, |error| matches!(error, CallError::Unavailable(_))).await;
    assert_eq!(healed, Value::Int(1));
}

#[tokio::test]
async fn wait_tells_whether_a_replica_has_it() {
    let server = RedisServer::start();
    let options = RedisOptions { wait_replicas: 1, ..server.options() };
    let link = link(options);
    assert_eq!(count(&link, None).await, Ok(Value::Int(1)));
    let started = Instant::now();
    let unknown = count_replicated(&link).await;
    assert!(
        matches!(&unknown, Err(CallError::Unreplicated(t)) if t.contains("wait_replicas")),
        "{unknown:?}"
    );
    assert!(started.elapsed() < AT_ONCE);
    let replica = server.replica();
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(count_replicated(&link).await, Ok(Value::Int(3)));
    assert_eq!(count_replicated(&link).await, Ok(Value::Int(4)));
    replica.pause();
    // Calls that need no replica do not queue behind those that wait for one.
    let (unknown, plain) = tokio::join!(count_replicated(&link), async {
        let started = Instant::now();
        (count(&link, None).await, started.elapsed())
    });
    assert!(matches!(&unknown, Err(CallError::Unreplicated(_))), "{unknown:?}");
    assert!(matches!(plain, (Ok(_), took) if took < Duration::from_millis(60)), "{plain:?}");
    replica.resume();
}

#[tokio::test]
async fn a_first_replica_changes_no_lineage() {
    let server = RedisServer::start();
    let before = link(server.options()).lineage(KEY).await.unwrap();
    let _replica = server.replica();
    assert_eq!(link(server.options()).lineage(KEY).await.unwrap(), before);
}

/// The process never ended, yet it dropped its last writes when it was a replica.
#[tokio::test]
async fn a_master_that_was_a_replica_in_between_has_another_lineage() {
    let server = RedisServer::start();
    let before = link(server.options()).lineage(KEY).await.unwrap();
    let other = RedisServer::start();
    server.command(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    until("linked", Duration::from_secs(10), || {
        server.info_field("replication", "master_link_status") == "up"
    });
    server.command(&["REPLICAOF", "NO", "ONE"]);
    assert_ne!(link(server.options()).lineage(KEY).await.unwrap(), before);
}

/// A connection stays open while its server forgets what history it left (`repl-backlog-ttl`), or is a replica for a while:
/// what its check found is then no longer so.
#[tokio::test]
async fn a_fresh_lineage_is_not_that_of_an_old_connection() {
    let server = RedisServer::start();
    let link = link(patient(server.options()));
    let before = link.lineage_fresh(KEY).await.unwrap();
    let connections = || server.info_field("stats", "total_connections_received").parse::<u32>().unwrap();
    let made = connections();
    assert_eq!(link.lineage_fresh(KEY).await.unwrap(), before);
    assert_eq!(connections(), made + 1, "checked just now: only INFO's own is new");
    let other = RedisServer::start();
    server.command(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    until("linked", Duration::from_secs(10), || {
        server.info_field("replication", "master_link_status") == "up"
    });
    server.command(&["REPLICAOF", "NO", "ONE"]);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(link.lineage(KEY).await.unwrap(), before, "as the connection was checked");
    let now = link.lineage_fresh(KEY).await.unwrap();
    assert_ne!(now, before);
    assert_eq!(link.lineage(KEY).await.unwrap(), now, "and from now on all calls are by it");
    let changed = count(&link, Some(&before)).await;
    assert_eq!(changed, Err(CallError::LineageChanged { now }));
}

/// A call under way on the connection that is left for it is answered.
#[tokio::test]
async fn a_fresh_lineage_disturbs_no_call_under_way() {
    let server = RedisServer::start();
    let link = link(patient(server.options()));
    count(&link, None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    server.pause();
    let (counted, lineage, ()) = tokio::join!(count(&link, None), link.lineage_fresh(KEY), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.resume();
    });
    assert_eq!(counted, Ok(Value::Int(2)));
    lineage.unwrap();
}

/// A connection that outlived its server's mastership is left when Redis says READONLY.
#[tokio::test]
async fn a_demoted_master_is_left() {
    let server = RedisServer::start();
    let other = RedisServer::start();
    let link = link(server.options());
    count(&link, None).await.unwrap();
    server.command(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    let refused = count(&link, None).await;
    assert!(matches!(&refused, Err(CallError::Refused(t)) if t.contains("READONLY")), "{refused:?}");
    unavailable(count(&link, None).await);
    tokio::time::sleep(Duration::from_millis(60)).await;
    let text = unavailable(count(&link, None).await);
    assert!(text.contains("role is slave"), "{text}");
}
