//! Heartbeats: who is there, who may sell, and which of two processes with one id goes on.
#![allow(clippy::unwrap_used)]

#[path = "support/fleet.rs"]
mod fleet;

use fleet::Gateway;
use std::collections::BTreeSet;
use tidegate_stock::redis::ops::{Beat, Fleet, Forgot, Heard, Newest, Proposal};
use tidegate_stock::redis::{Ops, Ousted, Process};
use tidegate_stock::testing::redis::RedisServer;

const PROCESSES: &str = "tidegate:1:{fleet}:processes";

/// A data folder, as far as processes go. A clone is a copy.
#[derive(Clone, Default)]
struct Folder {
    held: BTreeSet<u64>,
    end: u64,
}

/// One process of a gateway.
struct Running {
    ops: Ops,
    folder: Folder,
    process: Process,
    /// What its log knows of others.
    known: Vec<(String, Newest)>,
    forgotten: Vec<(String, u64)>,
}

impl Running {
    /// In an empty folder.
    fn of(server: &RedisServer, gateway: &str) -> Self {
        Self::start(server, gateway, Folder::default())
    }

    fn start(server: &RedisServer, gateway: &str, folder: Folder) -> Self {
        let process = Process::new(folder.held.clone(), folder.end);
        let ops = Gateway::new(server, gateway).ops;
        Self { ops, folder, process, known: Vec::new(), forgotten: Vec::new() }
    }

    async fn propose(&self, random: u64) -> Proposal {
        self.ops.propose(self.process.newest_held(), random).await.unwrap()
    }

    /// Its log holds the number, on disk.
    fn record(&mut self, number: u64) {
        self.folder.held.insert(number);
        self.folder.end += 100;
        self.process.take(number);
    }

    async fn beat_once(&self, recorded: &[String]) -> Heard {
        let beat = Beat {
            process: &self.process,
            log_end: self.folder.end,
            tells: "{}",
            recorded,
            processes: &self.known,
            forgotten: &self.forgotten,
        };
        self.ops.heartbeat(&beat).await.unwrap()
    }

    /// All that a gateway does for a heartbeat.
    async fn tries(&mut self, recorded: &[String]) -> Result<Fleet, Ousted> {
        if self.process.number() == 0 {
            let proposal = self.propose(rand::random()).await;
            self.process.consider(&proposal)?;
            self.record(proposal.number);
        }
        for _ in 0..3 {
            match self.beat_once(recorded).await {
                Heard::Fleet(fleet) => {
                    self.process.beaten();
                    return Ok(fleet);
                }
                Heard::Other(newest) => self.process.heed(newest)?,
            }
        }
        panic!("it is refused and told that it may go on");
    }

    async fn beats(&mut self, recorded: &[String]) -> Fleet {
        self.tries(recorded).await.unwrap()
    }

    /// Orders were written down.
    fn writes(&mut self, bytes: u64) {
        self.folder.end += bytes;
    }

    /// What others know of it.
    fn as_known(&self) -> (String, Newest) {
        ("a".to_owned(), Newest { process: self.number(), log_end: self.folder.end })
    }

    fn number(&self) -> u64 {
        self.process.number()
    }
}

fn seen<'a>(fleet: &'a Fleet, gateway: &str) -> &'a tidegate_stock::redis::ops::Seen {
    fleet.seen.iter().find(|seen| seen.gateway == gateway).unwrap()
}

fn ids(fleet: &Fleet) -> BTreeSet<&str> {
    fleet.seen.iter().map(|seen| seen.gateway.as_str()).collect()
}

#[tokio::test]
async fn a_newcomer_sells_once_every_living_member_has_its_join_in_its_log() {
    let server = RedisServer::start();
    let (mut a, mut b) = (Running::of(&server, "a"), Running::of(&server, "b"));
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
    let (mut a, mut b) = (Running::of(&server, "a"), Running::of(&server, "b"));
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
    a.forgotten = vec![("b".to_owned(), since)];
    let told = a.beats(&[]).await;
    assert_eq!(told.forgotten, a.forgotten);

    // It comes back: nobody calls it forgotten, and it waits to be recorded like any newcomer.
    assert!(!b.beats(&[]).await.member);
    let told = a.beats(&[]).await;
    assert_eq!((told.newcomers, told.forgotten), (vec!["b".to_owned()], vec![]));
    a.beats(&["b".to_owned()]).await;
    assert!(b.beats(&[]).await.member);
    assert!(matches!(a.ops.forget("gone before Redis was emptied", true).await, Ok(Forgot::Since(_))));
}

#[tokio::test]
async fn of_two_processes_with_equal_logs_the_one_started_last_goes_on_and_the_other_is_an_old_copy_then() {
    let server = RedisServer::start();
    let mut first = Running::of(&server, "a");
    first.beats(&[]).await;
    let mut copy = Running::start(&server, "a", first.folder.clone());
    copy.beats(&[]).await;
    assert_eq!(first.tries(&["b".to_owned()]).await, Err(Ousted::Replaced { by: copy.number() }));
    copy.beats(&[]).await;
    assert_eq!(first.tries(&[]).await, Err(Ousted::Replaced { by: copy.number() }), "it never takes it back");
    // Started again, it lacks what the copy wrote since.
    let mut again = Running::start(&server, "a", first.folder);
    assert_eq!(again.tries(&[]).await, Err(Ousted::OldCopy { of: copy.number() }));
    // Nor when Redis has forgotten who was there: whichever comes first.
    server.command(&["FLUSHALL"]);
    copy.beats(&[]).await;
    let mut again = Running::start(&server, "a", again.folder);
    assert_eq!(again.tries(&[]).await, Err(Ousted::OldCopy { of: copy.number() }));
    // Another start, in the folder of the one that went on: at once, and as often as one likes.
    for _ in 0..3 {
        copy = Running::start(&server, "a", copy.folder);
        copy.beats(&[]).await;
    }
}

#[tokio::test]
async fn an_old_copy_is_refused_and_changes_nothing() {
    let server = RedisServer::start();
    let mut before = Running::of(&server, "a");
    before.beats(&[]).await;
    let backup = before.folder.clone();
    let mut now = Running::start(&server, "a", before.folder);
    now.beats(&[]).await;
    let stands = server.command(&["HGET", PROCESSES, "a"]);
    for _ in 0..2 {
        let mut copy = Running::start(&server, "a", backup.clone());
        assert_eq!(copy.tries(&[]).await, Err(Ousted::OldCopy { of: now.number() }));
    }
    let mut empty = Running::of(&server, "a");
    assert!(matches!(empty.tries(&[]).await, Err(Ousted::OldCopy { .. })), "the id without the log");
    assert_eq!(server.command(&["HGET", PROCESSES, "a"]), stands);
    now.beats(&[]).await;
    // Neither a day's silence nor an operator who gives the gateway up makes the copy a whole one.
    let (mut b, copy) = (Running::of(&server, "b"), backup);
    b.beats(&[]).await;
    now.beats(&["b".to_owned()]).await;
    b.beats(&[]).await;
    server.command(&["ZADD", "tidegate:1:{fleet}:beats", "1", "a"]);
    assert!(!ids(&b.beats(&[]).await).contains("a"));
    let mut early = Running::start(&server, "a", copy.clone());
    assert_eq!(early.tries(&[]).await, Err(Ousted::OldCopy { of: now.number() }));
    assert!(matches!(b.ops.forget("a", true).await.unwrap(), Forgot::Since(_)));
    let mut late = Running::start(&server, "a", copy);
    assert_eq!(late.tries(&[]).await, Err(Ousted::OldCopy { of: now.number() }));
}

/// Made while the process ran that it was copied from: its log holds that one's number, and not all that it wrote.
#[tokio::test]
async fn a_copy_from_before_the_last_heartbeat_is_shorter_than_its_process_told() {
    let server = RedisServer::start();
    let mut first = Running::of(&server, "a");
    first.beats(&[]).await;
    let copy = first.folder.clone();
    first.writes(50);
    first.beats(&[]).await;
    let mut old = Running::start(&server, "a", copy);
    assert_eq!(old.tries(&[]).await, Err(Ousted::OldCopy { of: first.number() }));
    first.beats(&[]).await;
    // The same for a machine that is set back to an earlier moment, with the process on it.
    let earlier = first.folder.end;
    first.writes(50);
    first.beats(&[]).await;
    let now = std::mem::replace(&mut first.folder.end, earlier);
    assert_eq!(first.tries(&[]).await, Err(Ousted::OldCopy { of: first.number() }));
    first.folder.end = now;
    let mut again = Running::start(&server, "a", first.folder);
    again.beats(&[]).await;
}

#[tokio::test]
async fn a_first_step_that_comes_late_or_is_never_followed_changes_nothing() {
    let server = RedisServer::start();
    let mut first = Running::of(&server, "a");
    // Its answer is lost; it is asked again, and comes once more after that.
    let lost = first.propose(7).await;
    first.beats(&[]).await;
    let stands = server.command(&["HGET", PROCESSES, "a"]);
    let late = first.propose(7).await;
    assert!(lost.number <= first.number() + 1_024 && late.number > first.number());
    assert_eq!(server.command(&["HGET", PROCESSES, "a"]), stands);
    first.beats(&[]).await;
    // kill -9 after the proposal, after the record, after the heartbeat: the folder goes on each time.
    let mut folder = first.folder;
    for step in 0..6 {
        let mut killed = Running::start(&server, "a", folder);
        let proposal = killed.propose(step).await;
        killed.process.consider(&proposal).unwrap();
        if step % 3 > 0 {
            killed.record(proposal.number);
        }
        if step % 3 > 1 {
            killed.beats(&[]).await;
        }
        folder = killed.folder;
    }
    Running::start(&server, "a", folder).beats(&[]).await;
}

#[tokio::test]
async fn a_heartbeat_that_comes_after_its_process_was_followed_replaces_nobody() {
    let server = RedisServer::start();
    let mut folder = Folder::default();
    for started_first in [true, false] {
        // It is killed with its first heartbeat on the way.
        let mut killed = Running::start(&server, "a", folder);
        let proposal = killed.propose(0).await;
        killed.process.consider(&proposal).unwrap();
        killed.record(proposal.number);
        let mut next = Running::start(&server, "a", killed.folder.clone());
        let proposal = next.propose(0).await;
        next.process.consider(&proposal).unwrap();
        next.record(proposal.number);
        if started_first {
            next.beats(&[]).await;
            assert!(matches!(killed.beat_once(&[]).await, Heard::Other(_)));
        } else {
            // Between the two steps of the one that follows, whose log holds that number.
            assert!(matches!(killed.beat_once(&[]).await, Heard::Fleet(_)));
        }
        next.beats(&[]).await;
        assert!(matches!(killed.beat_once(&[]).await, Heard::Other(_)));
        next.beats(&[]).await;
        folder = next.folder;
    }
}

#[tokio::test]
async fn two_that_are_started_in_one_moment_have_different_numbers_and_one_goes_on() {
    let server = RedisServer::start();
    let mut origin = Running::of(&server, "a");
    origin.beats(&[]).await;
    let mut two = [(); 2].map(|()| Running::start(&server, "a", origin.folder.clone()));
    // In one millisecond: Redis's clock does not count when it is behind the numbers.
    let ahead = origin.number() + (1 << 40);
    server.command(&["HSET", PROCESSES, "a", &format!("{ahead} 0 0")]);
    for one in &mut two {
        one.folder.held.insert(ahead);
        one.process = Process::new(one.folder.held.clone(), one.folder.end);
    }
    let (first, second) = (two[0].propose(1).await, two[1].propose(2).await);
    assert_eq!((first.number + 1, first.number / 1_024), (second.number, second.number / 1_024));
    assert!(first.number > ahead && second.number < 1 << 53);
    for (one, proposal) in two.iter_mut().zip([first, second]) {
        one.process.consider(&proposal).unwrap();
        one.record(proposal.number);
    }
    let [mut one, mut other] = two;
    // The first sells before the second beats: the second lacks that, although its number is above.
    one.beats(&[]).await;
    assert_eq!(other.tries(&[]).await, Err(Ousted::OldCopy { of: first.number }));
    one.beats(&[]).await;
    let mut again = Running::start(&server, "a", other.folder);
    assert_eq!(
        again.tries(&[]).await,
        Err(Ousted::OldCopy { of: first.number }),
        "a second try makes it no better"
    );
    one.beats(&[]).await;
}

/// A failover may lose the start of a process that lives: the one before, which is dead, does not replace it.
#[tokio::test]
async fn a_process_goes_on_when_redis_forgot_its_start() {
    let server = RedisServer::start();
    let mut before = Running::of(&server, "a");
    before.beats(&[]).await;
    let mut now = Running::start(&server, "a", before.folder.clone());
    now.beats(&[]).await;
    server.command(&["HSET", PROCESSES, "a", &format!("{} {} 0", before.number(), before.folder.end)]);
    now.beats(&[]).await;
    assert!(matches!(before.beat_once(&[]).await, Heard::Other(_)));
    server.command(&["HDEL", PROCESSES, "a"]);
    now.beats(&[]).await;
    assert!(now.number() > before.number());
}

#[tokio::test]
async fn an_old_copy_is_told_by_the_logs_of_others_when_redis_has_lost_all() {
    let server = RedisServer::start();
    let mut before = Running::of(&server, "a");
    before.beats(&[]).await;
    let backup = before.folder.clone();
    let mut now = Running::start(&server, "a", before.folder);
    now.beats(&[]).await;
    let mut b = Running::of(&server, "b");
    let heard = b.beats(&[]).await;
    b.known = vec![("a".to_owned(), seen(&heard, "a").newest)];
    assert_eq!(b.known, [now.as_known()]);

    // It comes after the other's heartbeat …
    server.command(&["FLUSHALL"]);
    b.beats(&[]).await;
    let mut copy = Running::start(&server, "a", backup.clone());
    assert_eq!(copy.tries(&[]).await, Err(Ousted::OldCopy { of: now.number() }));
    // … or before, once and once more: it is asked for what it lacks, and whoever knows better is not misled.
    server.command(&["FLUSHALL"]);
    let mut copy = Running::start(&server, "a", backup);
    copy.beats(&[]).await;
    let mut copy = Running::start(&server, "a", copy.folder);
    copy.beats(&[]).await;
    let heard = b.beats(&[]).await;
    assert_eq!(seen(&heard, "a").confirmed, None);
    assert_eq!(copy.tries(&[]).await, Err(Ousted::OldCopy { of: now.number() }));
    let mut copy = Running::start(&server, "a", copy.folder);
    assert_eq!(copy.tries(&[]).await, Err(Ousted::OldCopy { of: now.number() }));

    // The folder that holds it goes on, and is told of as such.
    let mut again = Running::start(&server, "a", now.folder.clone());
    again.beats(&[]).await;
    b.beats(&[]).await;
    again.beats(&[]).await;
    let heard = b.beats(&[]).await;
    let heard = seen(&heard, "a");
    assert_eq!((heard.newest, heard.confirmed), (again.as_known().1, Some(now.number())));
    b.known = vec![again.as_known()];

    // A copy of the same process' folder, from before its end: what others heard of that end outlives Redis too.
    let mut copy_of_it = again.folder.clone();
    copy_of_it.end -= 1;
    for copy_comes_first in [false, true] {
        server.command(&["FLUSHALL"]);
        let mut copy = Running::start(&server, "a", copy_of_it.clone());
        if copy_comes_first {
            copy.beats(&[]).await;
        }
        b.beats(&[]).await;
        assert_eq!(copy.tries(&[]).await, Err(Ousted::OldCopy { of: again.number() }));
    }
    Running::start(&server, "a", again.folder.clone()).beats(&[]).await;

    // One that is dead is not asked: what it was stays.
    b.known[0].1.process -= 1;
    server.command(&["ZADD", "tidegate:1:{fleet}:beats", "1", "a"]);
    let stands = server.command(&["HGET", PROCESSES, "a"]);
    b.beats(&[]).await;
    assert_eq!(server.command(&["HGET", PROCESSES, "a"]), stands);
}
