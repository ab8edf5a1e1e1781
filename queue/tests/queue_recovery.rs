//! What survives: the order on disk is log, then acknowledgements, and nothing is seen before it is durable.
#![allow(clippy::unwrap_used)]

mod queue_support;

use queue_support::*;
use std::fs;
use std::sync::Arc;
use tidegate_queue::storage::{FaultyCall, PowerLoss};
use tidegate_queue::*;

#[test]
fn fm46_nothing_is_delivered_before_it_is_durable() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let queue = folder.open_on(&storage);
    append(&queue, &[message(b"durable")]);
    storage.hold_syncs();
    let appended = accept(&queue, &[message(b"accepted")]);
    assert!(storage.wait_for_held_sync(1));
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 60_000)), ["durable"]);
    assert!(queue.find(appended.first).is_none());
    assert_eq!(queue.scan(queue.start()).count(), 1);
    assert_eq!(group_stats(&queue, GROUP).queues[0].end, 1);
    storage.release_syncs();
    settle_down(&queue);
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 60_000)), ["accepted"]);
}

#[test]
fn acknowledgements_reach_the_disk_only_after_the_log_they_rest_on() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let queue = folder.open_on(&storage);
    append(&queue, &[message(b"a"), message(b"b")]);
    ack(&queue, GROUP, &receive(&queue, GROUP, 1, 60_000)[0]).unwrap();
    queue.close().unwrap();
    drop(queue);

    // The log is synced a while later. The owner appends what came of b, and acknowledges it.
    let flush = Durability::Async { interval_ms: 1_500 };
    let options = QueueOptions { flush, ..folder.options() };
    let clock = Arc::clone(&folder.clock) as Arc<dyn Clock>;
    let queue = Queue::open(options, storage.as_storage(), clock).unwrap();
    let lease = receive(&queue, GROUP, 1, 60_000).remove(0);
    accept(&queue, &[NewMessage { topic: "results", ..message(b"b is done") }]);
    ack(&queue, GROUP, &lease).unwrap();
    let (done, is_done) = std::sync::mpsc::channel();
    let checkpointing = std::thread::spawn({
        let queue = queue.clone();
        move || done.send(queue.checkpoint().is_ok()).is_ok()
    });
    let early = is_done.recv_timeout(std::time::Duration::from_millis(200));
    assert!(early.is_err(), "written before the log was synced: {early:?}");
    storage.power_loss(1, PowerLoss::Everything);
    assert_eq!(is_done.recv(), Ok(false));
    assert!(checkpointing.join().unwrap());
    drop(queue);
    storage.power_loss(2, PowerLoss::Everything);
    let queue = folder.open_on(&storage);
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 60_000)), ["b"], "its result was lost, so it comes again");
}

#[test]
fn checkpointed_acknowledgements_survive_a_crash_and_the_others_come_again() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"a"), message(b"b"), message(b"c")]);
    let leases = receive(&queue, GROUP, 3, 60_000);
    ack(&queue, GROUP, &leases[1]).unwrap();
    queue.nack(TOPIC, GROUP, &[leases[2].receipt.clone()], Some(10_000))[0].unwrap();
    queue.checkpoint().unwrap();
    ack(&queue, GROUP, &leases[0]).unwrap();
    drop(queue);
    let queue = folder.open();
    let again = receive(&queue, GROUP, 10, 60_000);
    assert_eq!((bodies(&again), again[0].attempt), (vec!["a".to_owned()], 2));
    folder.clock.advance(10_000);
    let later = receive(&queue, GROUP, 10, 60_000);
    assert_eq!((bodies(&later), later[0].attempt), (vec!["c".to_owned()], 2), "its retry kept its time");
}

#[test]
fn acknowledgements_are_checkpointed_by_themselves() {
    let folder = Folder::new();
    let options = QueueOptions { timer_thread: true, ack_sync_ms: 1, ..folder.options() };
    let queue = folder.open_with(options);
    append(&queue, &[message(b"a")]);
    let lease = receive(&queue, GROUP, 1, 60_000).remove(0);
    let file = folder.dir.path().join("groups/acks");
    let before = fs::read(&file).unwrap_or_default();
    ack(&queue, GROUP, &lease).unwrap();
    let started = std::time::Instant::now();
    let acked = |bytes: &[u8]| bytes != before && !bytes.is_empty();
    while !acked(&fs::read(&file).unwrap_or_default()) {
        assert!(started.elapsed().as_secs() < 20, "nothing was checkpointed");
        std::thread::yield_now();
    }
}

#[test]
fn fm38_a_damaged_checkpoint_starts_from_the_older_one_or_from_the_configured_start() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"0"), message(b"1"), message(b"2"), message(b"3")]);
    queue.put_group(TOPIC, GROUP, StartFrom::Offset(1), None, None).unwrap();
    let leases = receive(&queue, GROUP, 3, 60_000);
    assert_eq!(bodies(&leases).concat(), "123");
    ack(&queue, GROUP, &leases[0]).unwrap();
    queue.checkpoint().unwrap();
    ack(&queue, GROUP, &leases[1]).unwrap();
    queue.close().unwrap();
    drop(queue);
    let seen = || {
        let queue = folder.open();
        bodies(&receive(&queue, GROUP, 10, 60_000)).concat()
    };
    assert_eq!(seen(), "3");

    // Each byte of the newest file, flipped: never a wrong place.
    let (newest, older) = (folder.dir.path().join("groups/acks"), folder.dir.path().join("groups/acks.old"));
    let whole = fs::read(&newest).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&newest, &damaged).unwrap();
        assert_eq!(seen(), "23", "byte {at}");
    }
    fs::write(&newest, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(seen(), "23");
    fs::remove_file(&newest).unwrap();
    assert_eq!(seen(), "23");
    fs::write(&older, b"damaged").unwrap();
    assert_eq!(seen(), "123", "neither is whole: the configured start");
    fs::remove_file(&older).unwrap();
    assert_eq!(seen(), "123");
}

#[test]
fn fm38_a_checkpoint_of_another_log_or_beyond_its_end_is_not_believed() {
    let folder = Folder::new();
    let other = Folder::new();
    for (folder, count) in [(&folder, 2), (&other, 5)] {
        let queue = folder.open();
        for _ in 0..count {
            append(&queue, &[message(b"x")]);
        }
        for delivery in receive(&queue, GROUP, 10, 60_000) {
            ack(&queue, GROUP, &delivery).unwrap();
        }
        queue.close().unwrap();
    }
    for name in ["acks", "acks.old"] {
        let path = |folder: &Folder| folder.dir.path().join("groups").join(name);
        if path(&other).exists() {
            fs::copy(path(&other), path(&folder)).unwrap();
        } else {
            let _ = fs::remove_file(path(&folder));
        }
    }
    let queue = folder.open();
    assert_eq!(receive(&queue, GROUP, 10, 60_000).len(), 2);
    append(&queue, &[message(b"y")]);
    assert_eq!(receive(&queue, GROUP, 10, 60_000).len(), 1);
}

#[test]
fn a_damaged_catalog_is_refused_by_name_when_its_copy_is_damaged_too() {
    let folder = Folder::new();
    let queue = folder.open();
    queue.put_topic(TOPIC, 7).unwrap();
    queue.put_group(TOPIC, GROUP, StartFrom::First, None, None).unwrap();
    queue.close().unwrap();
    drop(queue);
    let path = |name: &str| folder.dir.path().join("catalog").join(name);
    fs::write(path("topics.json"), b"{").unwrap();
    drop(folder.open());
    fs::write(path("topics.json.old"), b"{").unwrap();
    fs::write(path("topics.json"), b"{").unwrap();
    let storage = Arc::new(tidegate_queue::storage::DiskStorage::new(folder.dir.path()).unwrap());
    let clock = Arc::clone(&folder.clock) as Arc<dyn Clock>;
    let error = Queue::open(folder.options(), storage, clock).unwrap_err().to_string();
    assert!(error.contains("topics.json"), "{error}");
}

#[test]
fn topics_and_groups_come_back_with_their_settings() {
    let folder = Folder::new();
    let queue = folder.open();
    queue.put_topic(TOPIC, 6).unwrap();
    queue.put_topic(TOPIC, 2).unwrap();
    queue.put_group(TOPIC, GROUP, StartFrom::Last, Some(1), Some(vec![7])).unwrap();
    drop(queue);
    let queue = folder.open();
    append(&queue, &[NewMessage { queue: QueueChoice::Explicit(5), ..message(b"x") }]);
    let lease = receive(&queue, GROUP, 1, 60_000).remove(0);
    queue.nack(TOPIC, GROUP, &[lease.receipt], None)[0].unwrap();
    assert_eq!(queue.take_reports(1, None)[0].kind, ReportKind::DeadLettered, "one attempt was configured");
}

#[test]
fn a_topic_made_by_an_append_is_as_durable_as_its_message() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let queue = folder.open_on(&storage);
    append(&queue, &[NewMessage { queue: QueueChoice::Explicit(3), ..message(b"x") }]);
    storage.kill();
    drop(queue);
    storage.power_loss(7, PowerLoss::Everything);
    let queue = folder.open_on(&storage);
    assert_eq!(bodies(&receive(&queue, GROUP, 1, 60_000)), ["x"]);
    assert_eq!(group_stats(&queue, GROUP).queues.len(), 4);
}

#[test]
fn fm36_a_delivery_that_was_accepted_and_lost_with_the_power_is_made_again_once() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let queue = folder.open_on(&storage);
    append(&queue, &[NewMessage { deliver_at_ms: Some(NOW_MS + 10), ..message(b"pay timer") }]);
    folder.clock.advance(10);
    storage.hold_syncs();
    queue.tick();
    assert!(storage.wait_for_held_sync(1));
    assert!(receive(&queue, GROUP, 10, 1_000).is_empty());
    storage.kill();
    storage.release_syncs();
    drop(queue);
    storage.power_loss(3, PowerLoss::Everything);
    for expected in [1, 0] {
        let queue = folder.open_on(&storage);
        assert_eq!(queue.delayed(), expected);
        queue.tick();
        settle_down(&queue);
        assert_eq!(bodies(&receive(&queue, "fresh", 10, 1_000)), ["pay timer"]);
    }
}

#[test]
fn an_index_that_disagrees_with_the_log_is_rewritten() {
    let folder = Folder::new();
    let queue = folder.open();
    for n in 0..50u8 {
        append(&queue, &[message(&[n])]);
    }
    queue.close().unwrap();
    drop(queue);
    let file = folder.dir.path().join("consumequeue/orders/0/00000000000000000000");
    let whole = fs::read(&file).unwrap();
    let damages: [fn(&mut Vec<u8>); 3] =
        [|bytes| bytes[333] ^= 0xFF, |bytes| bytes.truncate(411), |bytes| bytes.fill(0)];
    for damage in damages {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&file, &bytes).unwrap();
        let queue = folder.open();
        let seen: Vec<u8> = receive(&queue, "fresh", 100, 1_000).iter().map(|d| d.message.body[0]).collect();
        assert_eq!(seen, (0..50).collect::<Vec<u8>>());
        drop(queue);
        // Behind the entries there is allocated space, or none.
        assert_eq!(fs::read(&file).unwrap()[..50 * 20], whole[..50 * 20]);
    }
    fs::remove_dir_all(folder.dir.path().join("consumequeue")).unwrap();
    assert_eq!(receive(&folder.open(), "fresh", 100, 1_000).len(), 50);
}

#[test]
fn dead_letters_are_kept_through_a_restart() {
    let folder = Folder::new();
    let queue = folder.open();
    queue.put_group(TOPIC, GROUP, StartFrom::First, Some(1), None).unwrap();
    append(&queue, &[message(b"a"), message(b"b")]);
    for lease in receive(&queue, GROUP, 2, 60_000) {
        queue.nack(TOPIC, GROUP, &[lease.receipt], None)[0].unwrap();
    }
    queue.settle(&queue.take_reports(1, None)[0]);
    queue.checkpoint().unwrap();
    drop(queue);
    let queue = folder.open();
    let dead = queue.dead_letters(TOPIC, GROUP, 10);
    assert_eq!((dead.len(), &dead[0].body[..]), (1, &b"a"[..]));
    let owed = queue.take_reports(10, None);
    assert_eq!(
        (owed.len(), owed[0].kind, &owed[0].message.body[..]),
        (1, ReportKind::DeadLettered, &b"b"[..])
    );
    assert!(queue.redrive(TOPIC, GROUP, dead[0].position));
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 1_000)), ["a"]);
}

#[test]
fn messages_are_delivered_once_the_index_can_be_written_again() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let queue = folder.open_on(&storage);
    append(&queue, &[message(b"a")]);
    storage.fail(FaultyCall::Write, "consumequeue", 1, std::io::ErrorKind::StorageFull);
    append(&queue, &[message(b"b")]);
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 1_000)), ["a", "b"]);
}

/// Overwrites 8 bytes of the log's first segment.
fn overwrite(folder: &Folder, position: Position) {
    let segment = folder.dir.path().join("commitlog").join(format!("{:020}", 0));
    let file = fs::OpenOptions::new().write(true).open(segment).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 8], position.0).unwrap();
}

#[test]
fn a_scan_that_cannot_go_on_says_so() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"a")]);
    let second = append(&queue, &[message(b"b")]).first;
    append(&queue, &[message(b"c")]);
    overwrite(&folder, second);
    let found: Vec<_> = queue.scan(queue.start()).map(|message| message.map(|m| m.body)).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].is_ok() && found[1].is_err(), "{found:?}");
    assert!(queue.scan(Position(u64::MAX)).next().is_some_and(|first| first.is_err()));
}

#[test]
fn damage_of_the_durable_log_under_the_dispatcher_is_fatal() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let queue = folder.open_on(&storage);
    append(&queue, &[message(b"a")]);
    let (told, tells) = std::sync::mpsc::channel();
    queue.on_durable(Box::new(move |durable| told.send(durable).unwrap_or_default()));
    storage.hold_syncs_of("commitlog/0");
    let appended = accept(&queue, &[message(b"b")]);
    assert!(storage.wait_for_held_sync(1));
    overwrite(&folder, appended.first);
    storage.release_syncs();
    let patience = std::time::Duration::from_secs(20);
    let poisoned = |durable| matches!(durable, Durable::Poisoned(_));
    while !poisoned(tells.recv_timeout(patience).unwrap()) {}
    assert_eq!(queue.append(&[message(b"c")], Space::Owed), Err(AppendError::Poisoned));
}

#[test]
fn fm16_a_full_index_refuses_new_work_and_stops_nothing_else() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let queue = folder.open_on(&storage);
    append(&queue, &[message(b"a")]);
    append(&queue, &[NewMessage { topic: "other", deliver_at_ms: Some(NOW_MS + 10), ..message(b"timer") }]);
    // Queue 1 has no file yet, and cannot get one.
    let second = NewMessage { queue: QueueChoice::Explicit(1), ..message(b"b") };
    storage.set_quota(Some(storage.used()));
    let appended = accept(&queue, &[second]);
    let started = std::time::Instant::now();
    while queue.takes_new() != Err(AppendError::NoSpace) {
        assert!(started.elapsed().as_secs() < 20);
        std::thread::yield_now();
    }
    assert_eq!(queue.append(&[message(b"c")], Space::New), Err(AppendError::NoSpace));
    // What is owed goes on: queue 0 has space, and timers run.
    queue.append(&[message(b"owed")], Space::Owed).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        assert!(started.elapsed().as_secs() < 20, "{seen:?}");
        seen.extend(bodies(&receive(&queue, GROUP, 10, 60_000)));
        std::thread::yield_now();
    }
    assert_eq!(seen, ["a", "owed"]);
    assert_eq!(queue.delayed(), 1);
    folder.clock.advance(10);
    queue.tick();
    assert_eq!(queue.delayed(), 0);

    storage.set_quota(None);
    queue.wait_dispatched(appended.end);
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 60_000)), ["b"]);
    append(&queue, &[message(b"c")]);
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 60_000)), ["c"]);
}

#[test]
fn new_work_is_refused_before_the_index_is_full_and_taken_again_after() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let queue = folder.open_on(&storage);
    append(&queue, &[message(b"first")]);
    storage.set_quota(Some(storage.used()));
    let mut accepted = 1;
    let last = loop {
        match queue.append(&[message(b"more")], Space::New) {
            Ok(appended) => {
                accepted += 1;
                queue.wait_durable(appended.end).unwrap();
                queue.wait_dispatched(appended.end);
            }
            Err(AppendError::NoSpace) => break queue.end(),
            Err(error) => panic!("{error}"),
        }
    };
    // What was accepted, and what is owed, may be received all the same.
    let owed = queue.append(&[message(b"owed")], Space::Owed).unwrap();
    assert!(owed.end > last);
    queue.wait_durable(owed.end).unwrap();
    queue.wait_dispatched(owed.end);
    assert_eq!(receive(&queue, GROUP, 256, 60_000).len(), accepted + 1);
    storage.set_quota(None);
    let started = std::time::Instant::now();
    while queue.append(&[message(b"again")], Space::New).is_err() {
        assert!(started.elapsed().as_secs() < 20);
        std::thread::yield_now();
    }
}

#[test]
fn a_topic_is_told_grown_only_when_that_is_on_disk() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let queue = folder.open_on(&storage);
    storage.fail(FaultyCall::Rename, "catalog", 1, std::io::ErrorKind::Other);
    assert!(queue.put_topic(TOPIC, 9).is_err());
    // It has grown in memory; the second call must not take that for done.
    queue.put_topic(TOPIC, 9).unwrap();
    storage.kill();
    drop(queue);
    storage.power_loss(1, PowerLoss::Everything);
    let queue = folder.open_on(&storage);
    assert_eq!(queue.stats()[0].queues, 9);
}
