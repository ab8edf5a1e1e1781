//! The connection layer behind Sentinels and on a Cluster.

mod redis_link_support;

use redis::Value;
use redis_link_support::{COUNT, KEY, count, link, patient, unavailable, until_reply};
use std::time::Duration;
use tidegate_stock::redis::link::CallError;
use tidegate_stock::redis::{Address, RedisOptions, Topology};
use tidegate_stock::testing::redis::{Cluster, RedisServer, Sentinels, until};

#[tokio::test]
async fn sentinels_lead_to_the_new_master_which_is_another_lineage() {
    let mut master = RedisServer::start();
    let replica = master.replica();
    let sentinels = Sentinels::start(&master, 3, 1);
    let link = link(patient(sentinels.options()));
    let lineage = link.lineage(KEY).await.unwrap();
    assert_eq!(count(&link, Some(&lineage)).await, Ok(Value::Int(1)));
    master.kill();
    sentinels.until_master_is(replica.port());
    until_reply(&link, |error| {
        matches!(error, CallError::Unavailable(_) | CallError::Unknown(_) | CallError::Refused(_))
    })
    .await;
    let changed = count(&link, Some(&lineage)).await;
    assert!(matches!(changed, Err(CallError::LineageChanged { .. })), "{changed:?}");
    assert_eq!(replica.info_field("replication", "role"), "master");
}

/// The old master lives, and the connection to it too: nothing but Redis' own answer says that it is one no more.
#[tokio::test]
async fn a_switchover_leaves_the_old_master() {
    let master = RedisServer::start();
    let replica = master.replica();
    let sentinels = Sentinels::start(&master, 1, 1);
    let link = link(patient(sentinels.options()));
    let lineage = link.lineage(KEY).await.unwrap();
    count(&link, Some(&lineage)).await.unwrap();
    sentinels.failover();
    sentinels.until_master_is(replica.port());
    until("the old master is demoted", Duration::from_secs(20), || {
        master.info_field("replication", "role") == "slave"
    });
    until_reply(&link, |error| {
        matches!(error, CallError::Unavailable(_) | CallError::Unknown(_) | CallError::Refused(_))
    })
    .await;
    assert_ne!(link.lineage(KEY).await.unwrap(), lineage);
}

#[tokio::test]
async fn a_sentinel_that_is_down_is_passed_over_and_an_unknown_name_is_told() {
    let master = RedisServer::start();
    let sentinels = Sentinels::start(&master, 1, 0);
    let mut options = sentinels.options();
    let Topology::Sentinel { sentinels: list, .. } = &mut options.topology else { unreachable!() };
    let mut gone = RedisServer::start();
    gone.kill();
    list.insert(0, Address { host: "127.0.0.1".into(), port: gone.port() });
    assert_eq!(count(&link(options.clone()), None).await, Ok(Value::Int(1)));
    if let Topology::Sentinel { master, .. } = &mut options.topology {
        *master = "other".into();
    }
    let text = unavailable(count(&link(options), None).await);
    assert!(text.contains("it knows no master `other`"), "{text}");
    let mistaken = RedisOptions::single("127.0.0.1", sentinels.ports()[0]);
    let text = unavailable(count(&link(mistaken), None).await);
    assert!(text.contains("it is a Sentinel"), "{text}");
}

#[tokio::test]
async fn a_cluster_is_called_at_the_owner_of_each_key() {
    let cluster = Cluster::start();
    let link = link(patient(cluster.options()));
    for n in 0..20 {
        let key = format!("tidegate:{{{n}}}:n");
        assert_eq!(link.script(&COUNT, None, &[&key], &[b"1"]).await, Ok(Value::Int(1)), "{key}");
    }
    let sizes = cluster.nodes().iter().map(|node| node.command(&["DBSIZE"]));
    assert!(sizes.clone().all(|size| size != Value::Int(0)), "{:?}", sizes.collect::<Vec<_>>());
    let single = RedisOptions::single("127.0.0.1", cluster.nodes()[0].port());
    let text = unavailable(count(&redis_link_support::link(single), None).await);
    assert!(text.contains("list the nodes under `cluster`"), "{text}");
}

#[tokio::test]
async fn a_slot_that_moves_is_followed_each_call_once() {
    let cluster = Cluster::start();
    let link = link(patient(cluster.options()));
    let (slot, from) = (cluster.slot(KEY), cluster.first_owner(KEY));
    let to = (from + 1) % 3;
    assert_eq!(count(&link, None).await, Ok(Value::Int(1)));
    cluster.begin_move(slot, from, to);
    assert_eq!(count(&link, None).await, Ok(Value::Int(2)), "still at the old owner");
    cluster.move_keys(slot, from, to);
    assert_eq!(count(&link, None).await, Ok(Value::Int(3)), "ASK");
    assert_eq!(count(&link, None).await, Ok(Value::Int(4)), "ASK with the script known");
    cluster.end_move(slot, from, to);
    assert_eq!(count(&link, None).await, Ok(Value::Int(5)), "MOVED");
    cluster.nodes()[to].command(&["SCRIPT", "FLUSH"]);
    assert_eq!(count(&link, None).await, Ok(Value::Int(6)), "NOSCRIPT at the new owner");
}

/// Keys on both sides: Redis says TRYAGAIN, and nothing runs.
#[tokio::test]
async fn keys_between_two_nodes_are_refused_within_the_time_of_a_call() {
    let cluster = Cluster::start();
    let link = link(patient(cluster.options()));
    let (slot, from) = (cluster.slot(KEY), cluster.first_owner(KEY));
    let to = (from + 1) % 3;
    assert_eq!(count(&link, None).await, Ok(Value::Int(1)));
    cluster.begin_move(slot, from, to);
    let keys = [KEY, "tidegate:{a}:other"];
    let both = link.script(&COUNT, None, &keys, &[b"1"]).await;
    assert!(matches!(&both, Err(CallError::Refused(t)) if t.contains("TRYAGAIN")), "{both:?}");
    assert_eq!(count(&link, None).await, Ok(Value::Int(2)));
    // The move ends while the call waits.
    let (both, ()) = tokio::join!(link.script(&COUNT, None, &keys, &[b"1"]), async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        cluster.move_slot(slot, from, to);
    });
    assert_eq!(both, Ok(Value::Int(3)));
}

#[tokio::test]
async fn a_cluster_node_that_dies_is_unavailable_and_the_others_go_on() {
    let mut cluster = Cluster::start();
    let link = link(patient(cluster.options()));
    let dead = cluster.first_owner(KEY);
    let other =
        (0..50).map(|n| format!("tidegate:{{{n}}}:n")).find(|key| cluster.first_owner(key) != dead).unwrap();
    count(&link, None).await.unwrap();
    cluster.nodes_mut()[dead].kill();
    tokio::time::sleep(Duration::from_millis(50)).await;
    for n in 1..20 {
        unavailable(count(&link, None).await);
        assert_eq!(link.script(&COUNT, None, &[&other], &[b"1"]).await, Ok(Value::Int(n)));
    }
}
