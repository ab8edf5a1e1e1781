//! Real file systems that run full or become read only: what is refused, what heals by itself, what needs a restart,
//! and that nothing is lost. Where the machine permits no mounts, the faulting storage stands in, and the test says so.
#![allow(clippy::unwrap_used)]

mod mounted;
mod queue_support;

use mounted::{Mounted, Permitted, assert_inside, run_inside};
use queue_support::*;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tidegate_queue::storage::{DiskStorage, FaultyCall, FaultyStorage, Storage};
use tidegate_queue::*;

const SEGMENT: u64 = 256 << 10;

struct Disk {
    storage: Arc<dyn Storage>,
    clock: Arc<ManualClock>,
}

impl Disk {
    fn new(dir: &Path) -> Self {
        Self { storage: Arc::new(DiskStorage::new(dir).unwrap()), clock: Arc::new(ManualClock::new(NOW_MS)) }
    }

    fn open(&self) -> Queue {
        let options = QueueOptions {
            segment_bytes: SEGMENT,
            topic_queues: 1,
            timer_thread: false,
            ..QueueOptions::new(self.storage.root())
        };
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Queue::open(options, Arc::clone(&self.storage), clock).unwrap()
    }
}

fn body(n: u64) -> Vec<u8> {
    let mut body = n.to_le_bytes().to_vec();
    body.resize(4_000, n as u8);
    body
}

/// Appends until the first refusal that is not the one of a segment on its way.
fn append_until_refused(queue: &Queue, next: &mut u64) -> AppendError {
    let started = Instant::now();
    loop {
        match queue.append(&[message(&body(*next))], Space::New) {
            Ok(appended) => match queue.wait_durable(appended.end) {
                Ok(()) => *next += 1,
                Err(error) => return error,
            },
            Err(AppendError::Busy) => assert!(started.elapsed().as_secs() < 60, "busy for ever"),
            Err(error) => return error,
        }
    }
}

fn taken_again(queue: &Queue, next: &mut u64) {
    let started = Instant::now();
    loop {
        match queue.append(&[message(&body(*next))], Space::New) {
            Ok(appended) => {
                queue.wait_durable(appended.end).unwrap();
                *next += 1;
                return;
            }
            Err(AppendError::Busy | AppendError::NoSpace) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
        assert!(started.elapsed().as_secs() < 20, "there is space, and nothing is taken");
    }
}

/// Numbers of all messages that the group has not had, acknowledged on the way.
fn drain(queue: &Queue, into: &mut BTreeSet<u64>) {
    settle_down(queue);
    loop {
        let found = receive(queue, GROUP, 64, 60_000);
        if found.is_empty() {
            return;
        }
        for delivery in found {
            let number = u64::from_le_bytes(delivery.message.body[..8].try_into().unwrap());
            assert_eq!(&delivery.message.body[..], body(number));
            assert!(into.insert(number), "{number} came twice");
            ack(queue, GROUP, &delivery).unwrap();
        }
    }
}

/// `fill` takes all space, `free` gives it back.
fn runs_full_and_heals(disk: &Disk, fill: impl Fn(), free: impl Fn()) {
    let queue = disk.open();
    let (mut next, mut seen) = (0, BTreeSet::new());
    queue.set_reserve(SEGMENT);
    let delayed = body(1_000_000);
    append(&queue, &[NewMessage { deliver_at_ms: Some(NOW_MS + 5_000), ..message(&delayed) }]);
    for _ in 0..100 {
        taken_again(&queue, &mut next);
    }
    fill();
    assert_eq!(append_until_refused(&queue, &mut next), AppendError::NoSpace);
    assert_eq!(queue.takes_new(), Err(AppendError::NoSpace));
    // Owed work, deliveries and acknowledgements go on.
    let owed = body(2_000_000);
    let appended = queue.append(&[message(&owed)], Space::Owed).unwrap();
    queue.wait_durable(appended.end).unwrap();
    disk.clock.advance(5_000);
    queue.tick();
    drain(&queue, &mut seen);
    let expected: BTreeSet<_> = (0..next).chain([1_000_000, 2_000_000]).collect();
    assert_eq!(seen, expected);
    // A process that dies on the full disk starts on it.
    drop(queue);
    let queue = disk.open();
    queue.set_reserve(SEGMENT);
    assert_eq!(append_until_refused(&queue, &mut next), AppendError::NoSpace);
    free();
    let refused = next;
    for _ in 0..100 {
        taken_again(&queue, &mut next);
    }
    assert!(next >= refused + 100);
    queue.close().unwrap();
    let queue = disk.open();
    let mut again = BTreeSet::new();
    queue.put_group(TOPIC, GROUP, StartFrom::First, None, None).unwrap();
    queue.reset_group(TOPIC, GROUP, StartFrom::First).unwrap();
    drain(&queue, &mut again);
    assert_eq!(again, (0..next).chain([1_000_000, 2_000_000]).collect());
    queue.close().unwrap();
}

fn full_disk_on(mounted: &Mounted) {
    assert_inside();
    let disk = Disk::new(&mounted.path().join("data"));
    runs_full_and_heals(
        &disk,
        || drop(mounted.fill()),
        || {
            std::fs::remove_file(mounted.path().join("ballast")).unwrap();
        },
    );
}

#[test]
fn fm16_fm31_fm33_a_real_full_disk_refuses_new_work_alone_and_heals_without_a_restart() {
    let tmpfs = run_inside("inside_a_full_tmpfs", Permitted::Tmpfs);
    let ext4 = run_inside("inside_a_full_ext4", Permitted::Ext4);
    if !tmpfs && !ext4 {
        let dir = tempfile::tempdir().unwrap();
        let faulty = FaultyStorage::new(dir.path());
        let disk = Disk { storage: faulty.as_storage(), clock: Arc::new(ManualClock::new(NOW_MS)) };
        runs_full_and_heals(&disk, || faulty.set_quota(Some(faulty.used())), || faulty.set_quota(None));
    }
}

#[test]
#[ignore = "run by the test above"]
fn inside_a_full_tmpfs() {
    full_disk_on(&Mounted::tmpfs(8));
}

#[test]
#[ignore = "run by the test above"]
fn inside_a_full_ext4() {
    full_disk_on(&Mounted::ext4(12));
}

/// `fail` makes the disk read only; `repair` is done while nothing has it open.
fn poisons_and_heals_with_a_restart(disk: &Disk, fail: impl Fn(), repair: impl Fn()) {
    let queue = disk.open();
    let (mut next, mut seen) = (0, BTreeSet::new());
    for _ in 0..100 {
        taken_again(&queue, &mut next);
    }
    fail();
    assert_eq!(append_until_refused(&queue, &mut next), AppendError::Poisoned);
    assert_eq!(queue.takes_new(), Err(AppendError::Poisoned));
    assert_eq!(queue.append(&[message(b"owed")], Space::Owed), Err(AppendError::Poisoned));
    // What is durable can still be read.
    drain_some(&queue, &mut seen, next);
    assert_eq!(queue.close(), Err(AppendError::Poisoned));
    drop(queue);
    repair();
    let queue = disk.open();
    for _ in 0..100 {
        taken_again(&queue, &mut next);
    }
    queue.put_group(TOPIC, GROUP, StartFrom::First, None, None).unwrap();
    queue.reset_group(TOPIC, GROUP, StartFrom::First).unwrap();
    let mut again = BTreeSet::new();
    drain(&queue, &mut again);
    // Of the one whose write failed nothing is known: its number was appended again.
    assert_eq!(again, (0..next).collect());
    queue.close().unwrap();
}

fn drain_some(queue: &Queue, seen: &mut BTreeSet<u64>, count: u64) {
    let started = Instant::now();
    while (seen.len() as u64) < count {
        for delivery in receive(queue, GROUP, 64, 60_000) {
            seen.insert(u64::from_le_bytes(delivery.message.body[..8].try_into().unwrap()));
        }
        assert!(started.elapsed().as_secs() < 20, "{} of {count}", seen.len());
    }
}

#[test]
fn fm30_a_disk_that_becomes_read_only_ends_the_appends_and_a_restart_heals() {
    if !run_inside("inside_a_read_only_ext4", Permitted::Ext4) {
        let dir = tempfile::tempdir().unwrap();
        let faulty = FaultyStorage::new(dir.path());
        let disk = Disk { storage: faulty.as_storage(), clock: Arc::new(ManualClock::new(NOW_MS)) };
        let fail = || faulty.fail(FaultyCall::Write, "commitlog", 1, ErrorKind::ReadOnlyFilesystem);
        poisons_and_heals_with_a_restart(&disk, fail, || {});
    }
}

#[test]
#[ignore = "run by the test above"]
fn inside_a_read_only_ext4() {
    assert_inside();
    let mounted = Mounted::ext4(12);
    let disk = Disk::new(&mounted.path().join("data"));
    poisons_and_heals_with_a_restart(&disk, || mounted.fail(), || mounted.repair());
}
