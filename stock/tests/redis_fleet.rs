//! Heartbeats: who is there, who may sell, and which of two processes with one id goes on.
#![allow(clippy::unwrap_used)]

#[path = "support/fleet.rs"]
mod fleet;

use fleet::Gateway;
use std::collections::BTreeSet;
use tidegate_stock::redis::Ops;
use tidegate_stock::redis::ops::Fleet;
use tidegate_stock::testing::redis::RedisServer;

/// One process of a gateway.
struct Process {
    ops: Ops,
    number: u64,
}

impl Process {
    fn of(server: &RedisServer, gateway: &str) -> Self {
        Self { ops: Gateway::new(server, gateway).ops, number: 0 }
    }

    async fn beats(&mut self, recorded: &[String]) -> Fleet {
        let fleet = self.ops.heartbeat(self.number, "{}", recorded).await.unwrap();
        if !fleet.replaced {
            self.number = fleet.process;
        }
        fleet
    }

    async fn is_replaced(&mut self) -> bool {
        self.beats(&[]).await.replaced
    }
}

fn ids(fleet: &Fleet) -> BTreeSet<&str> {
    fleet.seen.iter().map(|seen| seen.gateway.as_str()).collect()
}

#[tokio::test]
async fn a_newcomer_sells_once_every_living_member_has_its_join_in_its_log() {
    let server = RedisServer::start();
    let (mut a, mut b) = (Process::of(&server, "a"), Process::of(&server, "b"));
    assert!(a.beats(&[]).await.member, "alone");
    assert!(!b.beats(&[]).await.member);
    let told = a.beats(&[]).await;
    assert_eq!((told.newcomers.clone(), ids(&told)), (vec!["b".to_owned()], BTreeSet::from(["a", "b"])));
    assert!(!b.beats(&[]).await.member, "not recorded yet");
    a.beats(&told.newcomers).await;
    let joined = b.beats(&[]).await;
    assert!(joined.member);
    assert_eq!(joined.members.len(), 2);
}

#[tokio::test]
async fn of_two_processes_with_one_id_the_one_started_last_goes_on() {
    let server = RedisServer::start();
    let (mut first, mut copy) = (Process::of(&server, "a"), Process::of(&server, "a"));
    assert!(!first.is_replaced().await);
    assert!(!copy.is_replaced().await, "it is the newest, at once");
    let stopped = first.beats(&["b".to_owned()]).await;
    assert_eq!(stopped, Fleet { replaced: true, ..Fleet::default() });
    assert!(!copy.is_replaced().await);
    assert!(first.is_replaced().await, "it never takes it back");
    // Nor when Redis has forgotten who was there: whichever comes first.
    server.command(&["FLUSHALL"]);
    assert!(!first.is_replaced().await);
    assert!(!copy.is_replaced().await);
    assert!(first.is_replaced().await);
    // Another start, in the same folder.
    let mut again = Process::of(&server, "a");
    assert!(!again.is_replaced().await);
    assert!(copy.is_replaced().await);
    assert!(!again.is_replaced().await);
}

/// A failover may lose the start of a process that lives: the one before, which is dead, does not replace it.
#[tokio::test]
async fn a_process_goes_on_when_redis_forgot_its_start() {
    let server = RedisServer::start();
    let processes = "tidegate:1:{fleet}:processes";
    let mut before = Process::of(&server, "a");
    before.beats(&[]).await;
    let mut now = Process::of(&server, "a");
    now.beats(&[]).await;
    server.command(&["HSET", processes, "a", &before.number.to_string()]);
    assert!(!now.is_replaced().await);
    assert!(before.is_replaced().await);
    assert!(now.number > before.number);
}
