//! Starts from a snapshot: quick, and the same as from the whole log.
#![allow(clippy::unwrap_used)]

mod queue_support;

use queue_support::*;
use std::path::PathBuf;
use std::sync::Arc;
use tidegate_queue::storage::{DiskStorage, FaultyCall, PowerLoss};
use tidegate_queue::*;

fn path(folder: &Folder, file: &str) -> PathBuf {
    folder.dir.path().join(file)
}

fn flip(folder: &Folder, file: &str, at: usize) {
    let path = path(folder, file);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at] ^= 0xff;
    std::fs::write(path, bytes).unwrap();
}

/// Some of everything that a start finds in the log: below a first snapshot, between both, and after them.
struct Owed {
    delayed: u64,
    open: Position,
    rolled_back: Position,
    committed: (Position, Appended),
}

fn some_of_everything(queue: &Queue) -> Owed {
    let now_ms = NOW_MS;
    queue.put_group(TOPIC, GROUP, StartFrom::First, None, None).unwrap();
    let begin = |body| queue.begin("shop", &message(body)).unwrap().first;
    let (mut open, mut rolled_back, mut committed) = (Position(0), Position(0), None);
    for round in 0..3u64 {
        append(queue, &[message(b"plain"), message(b"acked")]);
        let delayed = NewMessage { deliver_at_ms: Some(now_ms + 10_000 + round), ..message(b"delayed") };
        let late = NewMessage { deadline_ms: Some(now_ms + 5_000), ..message(b"late") };
        append(queue, &[delayed, late]);
        if round == 0 {
            (open, rolled_back) = (begin(b"open"), begin(b"rolled back"));
            let half = begin(b"committed");
            settle_down(queue);
            committed = Some((half, queue.commit(half).unwrap()));
            queue.roll_back(rolled_back).unwrap();
        }
        let producer = Producer { id: "till", sequence: round };
        queue.append_once(producer, &[message(b"numbered")], Space::New).unwrap();
        settle_down(queue);
        let found = receive(queue, GROUP, 100, 1_000);
        for delivery in found.iter().filter(|delivery| *delivery.message.body == b"acked"[..]) {
            ack(queue, GROUP, delivery).unwrap();
        }
        queue.checkpoint().unwrap();
        if round < 2 {
            queue.snapshot().unwrap();
        }
    }
    Owed { delayed: 3, open, rolled_back, committed: committed.unwrap() }
}

/// All of that is still owed, once.
fn check(folder: &Folder, queue: &Queue, owed: &Owed, what: &str) {
    assert_eq!(queue.delayed() as u64, owed.delayed, "{what}");
    assert_eq!(queue.open_transactions(), 1, "{what}");
    assert_eq!(queue.commit(owed.committed.0).unwrap(), owed.committed.1, "{what}");
    let decided = Err(TransactionError::Decided(Outcome::RolledBack));
    assert_eq!(queue.commit(owed.rolled_back), decided, "{what}");
    for sequence in 0..3 {
        let once = queue.append_once(Producer { id: "till", sequence }, &[message(b"again")], Space::New);
        assert!(once.unwrap().repeated, "{what}");
    }
    folder.clock.advance(6_000);
    for _ in 0..8 {
        queue.tick();
    }
    let reports = queue.take_reports(100, None);
    assert_eq!(reports.len(), 3, "{what}");
    for report in &reports {
        queue.settle(report);
    }
    queue.commit(owed.open).unwrap();
    folder.clock.advance(10_000);
    queue.tick();
    settle_down(queue);
    let mut found = bodies(&receive(queue, GROUP, 100, 100_000));
    found.sort();
    let mut expected: Vec<&str> = ["plain", "numbered", "delayed"].repeat(3);
    expected.extend(["committed", "open"]);
    expected.sort_unstable();
    assert_eq!(found, expected, "{what}");
    assert_eq!(append(queue, &[message(b"next")]).offset, 17, "{what}");
}

#[test]
fn a_start_finds_everything_whatever_is_damaged_beside_the_log() {
    type Damage = fn(&Folder);
    let index = "consumequeue/orders/0/00000000000000000000";
    let damages: [(&str, Damage); 9] = [
        ("nothing", |_| {}),
        ("the newest snapshot", |folder| flip(folder, "snapshot/state", 100)),
        ("the newest snapshot's header", |folder| flip(folder, "snapshot/state", 9)),
        ("the newest snapshot is cut", |folder| {
            std::fs::write(path(folder, "snapshot/state"), b"TGSNAP").unwrap();
        }),
        ("both snapshots", |folder| {
            flip(folder, "snapshot/state", 100);
            flip(folder, "snapshot/state.old", 100);
        }),
        ("no snapshots", |folder| std::fs::remove_dir_all(path(folder, "snapshot")).unwrap()),
        ("no index", |folder| std::fs::remove_dir_all(path(folder, "consumequeue")).unwrap()),
        ("the index below both", |folder| flip(folder, "consumequeue/orders/0/00000000000000000000", 3)),
        ("no newest snapshot", |folder| std::fs::remove_file(path(folder, "snapshot/state")).unwrap()),
    ];
    for (what, damage) in damages {
        for closes in [false, true] {
            let folder = Folder::new();
            let queue = folder.open();
            let owed = some_of_everything(&queue);
            if closes {
                queue.close().unwrap();
            }
            drop(queue);
            assert!(path(&folder, index).exists());
            damage(&folder);
            let queue = folder.open();
            check(&folder, &queue, &owed, what);
            queue.close().unwrap();
            drop(queue);
            // And the next start, from what that one left.
            let queue = folder.open();
            assert_eq!(queue.delayed(), 0, "{what}");
            assert_eq!(append(&queue, &[message(b"next")]).offset, 18, "{what}");
        }
    }
}

#[test]
fn a_start_reads_only_what_lies_after_the_snapshot() {
    let folder = Folder::new();
    let options = || QueueOptions { segment_bytes: 4096, ..folder.options() };
    let queue = folder.open_with(options());
    for _ in 0..20 {
        append(&queue, &[message(&[7; 900])]);
    }
    queue.close().unwrap();
    drop(queue);
    // A record of the first segment.
    flip(&folder, "commitlog/00000000000000000000", 300);
    let queue = folder.open_with(options());
    // Whoever comes to it is told.
    assert!(queue.scan(queue.start()).next().unwrap().is_err());
    assert_eq!(receive(&queue, GROUP, 100, 1_000).len(), 19);
    drop(queue);
    // Without snapshots a start reads all and says so.
    std::fs::remove_dir_all(path(&folder, "snapshot")).unwrap();
    let storage = Arc::new(DiskStorage::new(folder.dir.path()).unwrap());
    let clock = Arc::clone(&folder.clock) as Arc<dyn Clock>;
    let refused = Queue::open(options(), storage, clock).unwrap_err();
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
}

#[test]
fn a_snapshot_of_a_later_state_of_the_log_is_not_believed() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"kept")]);
    queue.close().unwrap();
    drop(queue);
    let copy = tempfile::tempdir().unwrap();
    let copied = ["checkpoint", "commitlog/00000000000000000000"];
    std::fs::create_dir(copy.path().join("commitlog")).unwrap();
    for file in copied {
        std::fs::copy(path(&folder, file), copy.path().join(file)).unwrap();
    }
    let queue = folder.open();
    for _ in 0..5 {
        append(&queue, &[message(b"lost")]);
    }
    queue.close().unwrap();
    drop(queue);
    for file in copied {
        std::fs::copy(copy.path().join(file), path(&folder, file)).unwrap();
    }
    let queue = folder.open();
    assert_eq!(append(&queue, &[message(b"next")]).offset, 1);
    assert_eq!(bodies(&receive(&queue, GROUP, 100, 1_000)), ["kept", "next"]);
}

#[test]
fn a_snapshot_that_ends_at_any_call_leaves_all_that_is_owed() {
    let calls = [
        FaultyCall::Write,
        FaultyCall::ShortWrite,
        FaultyCall::Sync,
        FaultyCall::Rename,
        FaultyCall::SyncDir,
    ];
    let mut ended = 0;
    for (call, kills) in calls.into_iter().flat_map(|call| [(call, true), (call, false)]) {
        for nth in 1..=4 {
            let folder = Folder::new();
            let storage = folder.faulty();
            let queue = folder.open_on(&storage);
            let owed = some_of_everything(&queue);
            if kills {
                storage.kill_at(call, "", nth);
            } else {
                storage.fail(call, "", nth, std::io::ErrorKind::StorageFull);
            }
            ended += usize::from(queue.snapshot().is_err());
            storage.kill();
            drop(queue);
            storage.power_loss(nth, PowerLoss::Blocks(512));
            let queue = folder.open_on(&storage);
            check(&folder, &queue, &owed, &format!("{call:?} {nth}"));
        }
    }
    assert!(ended > 15, "only {ended} snapshots were ended");
}

#[test]
fn snapshots_are_made_by_themselves_while_the_log_grows() {
    let folder = Folder::new();
    let options = QueueOptions { timer_thread: true, ..folder.options() };
    let policies = Policies { snapshot_every_bytes: 10_000, ..Policies::default() };
    let storage = Arc::new(DiskStorage::new(folder.dir.path()).unwrap());
    let queue =
        Queue::open_with(options, policies, storage, Arc::clone(&folder.clock) as Arc<dyn Clock>).unwrap();
    let started = std::time::Instant::now();
    while !path(&folder, "snapshot/state.old").exists() {
        append(&queue, &[message(&[7; 900])]);
        assert!(started.elapsed().as_secs() < 20, "no snapshots are made");
    }
    drop(queue);
}

/// A salvage takes records away that a snapshot names.
#[test]
fn what_a_salvage_gave_up_is_not_owed_because_of_a_snapshot() {
    let folder = Folder::new();
    let queue = folder.open();
    queue.put_group(TOPIC, GROUP, StartFrom::First, None, None).unwrap();
    let deliver_at_ms = Some(folder.clock.now_ms() + 60_000);
    let mut hit = Vec::new();
    for number in 0..200u8 {
        let deliver_at_ms = deliver_at_ms.filter(|_| number >= 198);
        hit.push(append(&queue, &[NewMessage { deliver_at_ms, ..message(&[number; 900]) }]).first);
    }
    queue.close().unwrap();
    drop(queue);
    for number in [20, 198] {
        let (file, at) = segment_of(&folder, hit[number]);
        flip(&folder, &file, at + 100);
    }
    assert_eq!(tidegate_queue::log::salvage(folder.dir.path()).unwrap().len(), 2);
    let queue = folder.open();
    folder.clock.advance(60_000);
    queue.tick();
    settle_down(&queue);
    assert_eq!(queue.delayed(), 0, "one is delivered, one is given up");
    let found = receive(&queue, GROUP, 1_000, 60_000);
    let more = receive(&queue, GROUP, 1_000, 60_000);
    for delivery in found.iter().chain(&more) {
        ack(&queue, GROUP, delivery).unwrap();
    }
    let stats = group_stats(&queue, GROUP);
    assert_eq!((stats.acked, stats.dead_letters, stats.leased), (198, 0, 0));
    assert_eq!((stats.queues[0].floor, &stats.queues[0].skipped[..]), (199, &[(20, 21)][..]));
}

/// File of a position, and the byte in it.
fn segment_of(folder: &Folder, position: Position) -> (String, usize) {
    let mut names: Vec<u64> = std::fs::read_dir(folder.dir.path().join("commitlog"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|base| *base <= position.0)
        .collect();
    names.sort_unstable();
    let base = *names.last().unwrap();
    (format!("commitlog/{base:020}"), (position.0 - base) as usize)
}

/// A start reads only what lies after the snapshot: who asks for a message before it finds it damaged.
#[test]
fn a_message_that_cannot_be_read_is_owed_until_a_salvage_gives_it_up() {
    let folder = Folder::new();
    let queue = folder.open();
    queue.put_group(TOPIC, GROUP, StartFrom::First, None, None).unwrap();
    let positions: Vec<Position> = (0..200u8).map(|n| append(&queue, &[message(&[n; 900])]).first).collect();
    queue.close().unwrap();
    drop(queue);
    let (file, at) = segment_of(&folder, positions[20]);
    flip(&folder, &file, at + 100);
    let queue = folder.open();
    assert_eq!(receive(&queue, GROUP, 199, 100_000).len(), 199);
    for _ in 0..10 {
        folder.clock.advance(1_000);
        assert!(receive(&queue, GROUP, 1, 100_000).is_empty());
    }
    assert_eq!(group_stats(&queue, GROUP).queues[0].dead, [], "nobody could read it, nor settle its report");
    queue.checkpoint().unwrap();
    drop(queue);
    assert_eq!(tidegate_queue::log::salvage(folder.dir.path()).unwrap().len(), 1);
    let queue = folder.open();
    folder.clock.advance(1_000);
    assert_eq!(receive(&queue, GROUP, 200, 100_000).len(), 199);
    let stats = group_stats(&queue, GROUP);
    assert_eq!((stats.backlog, &stats.queues[0].skipped[..]), (199, &[(20, 21)][..]));
}
