//! Heartbeats: who is there, who may sell, and which of two processes with one id goes on.
#![allow(clippy::unwrap_used)]

#[path = "support/fleet.rs"]
mod fleet;

use fleet::Gateway;
use std::collections::BTreeSet;
use tidegate_stock::redis::Ops;
use tidegate_stock::redis::ops::{Fleet, Forgot};
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
        let fleet = self.ops.heartbeat(self.number, "{}", recorded, &[]).await.unwrap();
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
async fn one_that_is_forgotten_is_no_member_and_joins_anew_when_it_comes_back() {
    let server = RedisServer::start();
    let (mut a, mut b) = (Process::of(&server, "a"), Process::of(&server, "b"));
    a.beats(&[]).await;
    b.beats(&[]).await;
    a.beats(&["b".to_owned()]).await;
    assert!(b.beats(&[]).await.member);
    assert_eq!(a.ops.forget("b", false).await.unwrap(), Forgot::Alive);
    assert_eq!(a.ops.forget("nobody", false).await.unwrap(), Forgot::Unknown);

    // b is not seen for a long time.
    server.command(&["ZADD", "tidegate:1:{fleet}:beats", "1", "b"]);
    let Forgot::Since(since) = a.ops.forget("b", false).await.unwrap() else { panic!("b is gone") };
    assert_eq!(a.ops.forget("b", false).await.unwrap(), Forgot::Since(since), "once");
    let told = a.beats(&[]).await;
    assert_eq!((told.members, told.forgotten), (vec!["a".to_owned()], vec![("b".to_owned(), since)]));
    assert!(since <= told.now_ms);

    // A Redis that forgot all is told by the logs.
    server.command(&["FLUSHALL"]);
    assert!(a.beats(&[]).await.forgotten.is_empty());
    let known = [("b".to_owned(), since)];
    let told = a.ops.heartbeat(a.number, "{}", &[], &known).await.unwrap();
    assert_eq!(told.forgotten, known);

    // It comes back: nobody calls it forgotten, and it waits to be recorded like any newcomer.
    assert!(!b.beats(&[]).await.member);
    let told = a.ops.heartbeat(a.number, "{}", &[], &known).await.unwrap();
    assert_eq!((told.newcomers, told.forgotten), (vec!["b".to_owned()], vec![]));
    a.beats(&["b".to_owned()]).await;
    assert!(b.beats(&[]).await.member);
    assert!(matches!(a.ops.forget("gone before Redis was emptied", true).await, Ok(Forgot::Since(_))));
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
