//! A data folder that this release wrote in format version 1, kept under `tests/data`: every later release opens it
//! and finds all of it. `cargo test -p tidegate-queue --test kept_log -- --ignored` makes such anew; what
//! is kept stays as it is.
#![allow(clippy::unwrap_used)]

mod log_support;
mod queue_support;

use queue_support::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegate_queue::log::{LogReader, RecordKind};
use tidegate_queue::storage::DiskStorage;
use tidegate_queue::*;

const HOUR_MS: u64 = 3_600_000;

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

const README: &str = "Made by tests/kept_log.rs; opened by the tests there ever after.\n";

fn open(folder: &Folder, dir: &Path) -> Queue {
    open_keeping(folder, dir, Policies::default().retention_ms)
}

fn open_keeping(folder: &Folder, dir: &Path, retention_ms: u64) -> Queue {
    let options =
        QueueOptions { dir: dir.to_owned(), segment_bytes: 4_096, topic_queues: 2, ..folder.options() };
    let policies = Policies { checks_max: 3, retention_ms, ..Policies::default() };
    let storage = Arc::new(DiskStorage::new(dir).unwrap());
    Queue::open_with(options, policies, storage, Arc::clone(&folder.clock) as Arc<dyn Clock>).unwrap()
}

/// A message as rich as they come.
fn rich(body: &[u8]) -> NewMessage<'_> {
    NewMessage {
        tag: "sale",
        keys: &["ticket-1", "buyer-ä"],
        properties: &[("colour", "blue"), ("empty", "")],
        ..message(body)
    }
}

#[test]
#[ignore = "writes into the source tree"]
fn make_log_v1() {
    let dir = kept("log-v1");
    let _ = std::fs::remove_dir_all(&dir);
    let folder = Folder::new();
    let queue = open(&folder, &dir);
    queue.put_topic(TOPIC, 2).unwrap();
    queue.put_group(TOPIC, GROUP, StartFrom::First, Some(2), Some(vec![1_000])).unwrap();
    queue.put_group(TOPIC, "ordered", StartFrom::Last, None, None).unwrap();
    queue.set_ordered(TOPIC, "ordered", true).unwrap();
    queue.join_broadcast(TOPIC, "news", "phone", Broadcast::default()).unwrap();
    // Offsets 0 to 3 of queue 0: acknowledged, dead, late, waiting for its second attempt.
    append(&queue, &[message(b"acknowledged"), rich(b"dead")]);
    append(&queue, &[NewMessage { deadline_ms: Some(NOW_MS + 500), ..message(b"late") }, message(b"again")]);
    let leases = receive(&queue, GROUP, 4, 60_000);
    assert_eq!(bodies(&leases), ["acknowledged", "dead", "late", "again"]);
    ack(&queue, GROUP, &leases[0]).unwrap();
    queue.nack(TOPIC, GROUP, &[leases[1].receipt.clone()], Some(0));
    queue.nack(TOPIC, GROUP, &[leases[3].receipt.clone()], Some(HOUR_MS));
    let dead = receive(&queue, GROUP, 1, 60_000).remove(0);
    queue.nack(TOPIC, GROUP, &[dead.receipt], Some(0));
    folder.clock.advance(1_000);
    queue.tick();
    // Of each group the drop, of one the dead letter. One drop stays to be settled.
    let reports = queue.take_reports(10, None);
    assert_eq!(reports.len(), 4);
    let stays = |report: &&Report| report.kind == ReportKind::Dropped && report.group == GROUP;
    reports.iter().filter(|report| !stays(report)).for_each(|report| queue.settle(report));
    // Delayed: one that came, one that is to come.
    let soon = NewMessage { deliver_at_ms: Some(NOW_MS + 2_000), ..rich(b"delivered") };
    append(&queue, &[soon, NewMessage { deliver_at_ms: Some(NOW_MS + 2 * HOUR_MS), ..rich(b"delayed") }]);
    folder.clock.advance(1_000);
    queue.tick();
    settle_down(&queue);
    // Transactions: each end, and none.
    let halves =
        [b"kept".as_slice(), b"undone", b"open"].map(|body| queue.begin("payments", &rich(body)).unwrap());
    settle_down(&queue);
    queue.commit(halves[0].first).unwrap();
    queue.roll_back(halves[1].first).unwrap();
    folder.clock.advance(6_000);
    queue.tick();
    assert_eq!(queue.take_checks("payments", 9, None).len(), 1);
    for sequence in 1..=3 {
        queue.append_once(Producer { id: "till 4", sequence }, &[message(b"numbered")], Space::New).unwrap();
    }
    settle_down(&queue);
    queue.close().unwrap();
    drop(queue);
    // A second life, with another topic, over several segments, and a batch.
    let queue = open(&folder, &dir);
    for n in 0..30u8 {
        let body = [n; 200];
        let other = NewMessage { topic: "news", queue: QueueChoice::Explicit(1), ..rich(&body) };
        append(&queue, &[other, NewMessage { queue: QueueChoice::Explicit(1), ..rich(&[n; 50]) }]);
    }
    settle_down(&queue);
    queue.close().unwrap();
    drop(queue);
    std::fs::write(
        dir.join("README"),
        "Made by `make` in tests/kept_log.rs; opened by the test there ever after.\n",
    )
    .unwrap();
}

#[test]
fn a_log_of_format_version_1_is_opened_with_all_that_is_in_it() {
    let folder = Folder::new();
    folder.clock.advance(8_000);
    let dir = folder.dir.path().join("copy");
    log_support::copy_dir(&kept("log-v1"), &dir);
    {
        let reader = LogReader::open(&dir).unwrap();
        let report = reader.report();
        assert!(report.is_sound() && report.clean && report.epoch == 2 && report.segments > 3, "{report}");
        let records: Vec<_> = reader.records().map(Result::unwrap).collect();
        let count = |kind| records.iter().filter(|record| record.view().kind == kind).count();
        assert_eq!(count(RecordKind::Message), 4 + 1 + 1 + 3 + 60);
        assert_eq!(
            (count(RecordKind::Delayed), count(RecordKind::Half), count(RecordKind::Control)),
            (2, 3, 2)
        );
    }
    let queue = open(&folder, &dir);
    let stats = group_stats(&queue, GROUP);
    assert_eq!((stats.dead_letters, stats.leased), (1, 0));
    assert_eq!(&queue.dead_letters(TOPIC, GROUP, 9)[0].body[..], b"dead");
    // The drop is still to be settled, the dead letter is.
    let reports = queue.take_reports(10, None);
    assert_eq!(reports.len(), 1);
    assert_eq!((reports[0].kind, &reports[0].message.body[..]), (ReportKind::Dropped, b"late".as_slice()));
    let found = receive(&queue, GROUP, 1_000, 60_000);
    let seen: Vec<_> = found.iter().filter(|one| one.message.queue == 0).map(|one| &one.message).collect();
    let bodies: Vec<_> =
        seen.iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect();
    assert_eq!(bodies, ["delivered", "kept", "numbered", "numbered", "numbered"]);
    assert_eq!(seen.iter().map(|message| message.offset).collect::<Vec<_>>(), [4, 5, 6, 7, 8]);
    assert_eq!(found.len(), 5 + 30);
    for message in [seen[0], seen[1]] {
        assert_eq!(
            (message.tag.as_str(), &message.keys[..]),
            ("sale", &["ticket-1".to_owned(), "buyer-ä".into()][..])
        );
        assert_eq!(
            message.properties,
            [("colour".to_owned(), "blue".to_owned()), ("empty".into(), String::new())]
        );
    }
    // What waits: a second attempt, a delayed message, a transaction.
    assert_eq!((queue.delayed(), queue.open_transactions()), (1, 1));
    folder.clock.advance(HOUR_MS);
    queue.tick();
    let again = receive(&queue, GROUP, 1_000, HOUR_MS);
    assert!(again.iter().any(|one| one.message.body == b"again".as_slice() && one.attempt == 2));
    folder.clock.advance(HOUR_MS);
    queue.tick();
    settle_down(&queue);
    let delayed = receive(&queue, "latecomers", 1_000, 60_000);
    assert!(delayed.iter().any(|one| one.message.body == b"delayed".as_slice()));
    let checks = queue.take_checks("payments", 9, None);
    assert_eq!((checks.len(), &checks[0].message.body[..]), (1, b"open".as_slice()));
    assert!(checks[0].number >= 2);
    // Numbers that were used, and the next one.
    let once = |sequence| {
        queue.append_once(Producer { id: "till 4", sequence }, &[message(b"numbered")], Space::New)
    };
    assert!((1..=3).all(|sequence| once(sequence).unwrap().repeated) && !once(4).unwrap().repeated);
    assert_eq!(once(3).unwrap().appended.offset, 8);
    // Groups are what they were.
    let groups: Vec<_> = queue.stats().into_iter().find(|topic| topic.topic == TOPIC).unwrap().groups;
    let names: Vec<_> = groups.iter().map(|group| group.group.as_str()).collect();
    assert!(["news%phone", "ordered", GROUP].iter().all(|name| names.contains(name)), "{names:?}");
    assert_eq!(queue.queues_of("news"), Some(2));
    // By key, newest first, once the index is there.
    let started = std::time::Instant::now();
    while queue.look_up_key(TOPIC, "ticket-1", 100).len() < 30 + 4 {
        assert!(started.elapsed().as_secs() < 20, "{}", queue.look_up_key(TOPIC, "ticket-1", 100).len());
        std::thread::yield_now();
    }
    queue.close().unwrap();
}

/// One whose beginning was deleted, with a delayed message that was carried forward before that.
#[test]
#[ignore = "writes into the source tree"]
fn make_log_v1_later() {
    let dir = kept("log-v1-later");
    let _ = std::fs::remove_dir_all(&dir);
    let folder = Folder::new();
    let queue = open_keeping(&folder, &dir, 1);
    queue.put_topic(TOPIC, 2).unwrap();
    append(&queue, &[NewMessage { deliver_at_ms: Some(NOW_MS + 2 * HOUR_MS), ..rich(b"carried") }]);
    for n in 0..60u8 {
        append(&queue, &[rich(&[n; 150])]);
    }
    for lease in receive(&queue, GROUP, 57, 60_000) {
        ack(&queue, GROUP, &lease).unwrap();
    }
    folder.clock.advance(HOUR_MS);
    queue.tick();
    settle_down(&queue);
    assert!(queue.delete_unheld().unwrap() > 2);
    queue.close().unwrap();
    std::fs::write(dir.join("README"), README).unwrap();
}

#[test]
fn a_log_of_format_version_1_whose_beginning_was_deleted_is_opened_with_all_that_is_in_it() {
    let folder = Folder::new();
    folder.clock.advance(HOUR_MS);
    let dir = folder.dir.path().join("copy");
    log_support::copy_dir(&kept("log-v1-later"), &dir);
    let queue = open(&folder, &dir);
    assert!(queue.start() > Position(3 * 4_096));
    assert_eq!(queue.delayed(), 1);
    let owed = receive(&queue, GROUP, 100, 60_000);
    assert_eq!(owed.iter().map(|one| one.message.offset).collect::<Vec<_>>(), [57, 58, 59]);
    assert_eq!(append(&queue, &[message(b"next")]).offset, 60);
    folder.clock.advance(HOUR_MS);
    queue.tick();
    settle_down(&queue);
    let newest = receive(&queue, "latecomers", 100, 60_000);
    let carried =
        newest.iter().map(|one| &one.message).find(|message| message.body == b"carried".as_slice()).unwrap();
    assert_eq!((carried.offset, carried.tag.as_str(), carried.keys.len()), (61, "sale", 2));
    assert!(newest[0].message.offset > 0, "the oldest message kept is not the first there was");
    queue.close().unwrap();
}
