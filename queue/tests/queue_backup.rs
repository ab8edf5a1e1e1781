//! Copies of a folder in use: whatever goes on meanwhile, a start on the copy has all that was durable before it began.
#![allow(clippy::unwrap_used)]

mod queue_support;

use queue_support::*;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tidegate_queue::log::verify;
use tidegate_queue::storage::{DiskStorage, FaultyStorage};
use tidegate_queue::*;

fn copy(from: &Path, to: &Path) -> Result<Copied, OpenError> {
    Backup::begin(from, &DiskStorage::new(to).unwrap())?.finish()
}

/// No queue takes an unfinished copy for its folder.
fn assert_no_start(folder: &Folder, dir: &Path) {
    let options = QueueOptions { dir: dir.to_owned(), ..folder.options() };
    let storage = std::sync::Arc::new(DiskStorage::new(dir).unwrap());
    let clock = std::sync::Arc::clone(&folder.clock) as std::sync::Arc<dyn Clock>;
    assert!(matches!(Queue::open(options, storage, clock), Err(OpenError::Corrupt { .. })));
}

/// The segments' files, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir.join("commitlog")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_none()).collect();
    files.sort();
    files
}

fn numbered(number: u64) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(100 + number as usize % 900, number as u8);
    body
}

fn number(message: &Message) -> u64 {
    u64::from_le_bytes(message.body[..8].try_into().unwrap())
}

#[test]
fn copies_made_under_load_hold_what_was_durable_before() {
    let folder = Folder::new();
    let copies = tempfile::tempdir().unwrap();
    let queue = folder.open();
    // Everything below is durable.
    let durable = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also when an assertion fails.
        let _stop = Stop(&stop);
        scope.spawn(|| {
            let mut next = 0;
            while !stop.load(Ordering::Relaxed) && next < MESSAGES_MAX {
                let mut last = None;
                for _ in 0..20 {
                    last = Some(accept(&queue, &[message(&numbered(next))]));
                    next += 1;
                }
                queue.wait_durable(last.unwrap().end).unwrap();
                durable.store(next, Ordering::Release);
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for delivery in receive(&queue, GROUP, 8, 60_000) {
                    ack(&queue, GROUP, &delivery).unwrap();
                }
                queue.checkpoint().unwrap();
            }
        });
        for round in 0..5 {
            let before = durable.load(Ordering::Acquire);
            let acked = group_stats_or_none(&queue).map_or(0, |stats| stats.queues[0].floor);
            queue.checkpoint().unwrap();
            let to = copies.path().join(round.to_string());
            let copied = copy(folder.dir.path(), &to).unwrap();
            let report = verify(&to).unwrap();
            assert!(report.is_sound() && report.clean && !report.torn_tail, "{report}");
            assert_eq!((report.start, report.end), (copied.log.start, copied.log.end));
            assert_eq!(report.segments, copied.segments);
            let restored = Folder { dir: tempfile::TempDir::new().unwrap(), clock: folder.clock.clone() };
            let options = QueueOptions { dir: to.clone(), ..restored.options() };
            let storage = std::sync::Arc::new(DiskStorage::new(&to).unwrap());
            let restored = Queue::open(
                options,
                storage,
                std::sync::Arc::clone(&restored.clock) as std::sync::Arc<dyn Clock>,
            )
            .unwrap();
            let all: Vec<Message> = restored.scan(restored.start()).map(Result::unwrap).collect();
            assert!(all.len() as u64 >= before, "{} of {before} in round {round}", all.len());
            for (index, message) in all.iter().enumerate() {
                assert_eq!((message.offset, number(message)), (index as u64, index as u64));
                assert_eq!(message.body, numbered(index as u64));
            }
            if acked > 0 {
                let again = receive(&restored, GROUP, 1, 1_000);
                assert!(again.iter().all(|d| d.message.offset >= acked), "acked below {acked}: {again:?}");
            }
            // It goes on where it ends.
            append(&restored, &[message(&numbered(all.len() as u64))]);
            restored.close().unwrap();
        }
    });
}

/// Enough to be under way all the time, and not more than the copies can be checked for.
const MESSAGES_MAX: u64 = 20_000;

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn group_stats_or_none(queue: &Queue) -> Option<GroupStats> {
    let topic = queue.stats().into_iter().find(|topic| topic.topic == TOPIC)?;
    topic.groups.into_iter().find(|stats| stats.group == GROUP)
}

#[test]
fn what_is_removed_after_the_beginning_is_still_copied() {
    let folder = Folder::new();
    let to = tempfile::tempdir().unwrap();
    let queue = folder.open();
    for number in 0..400 {
        append(&queue, &[message(&numbered(number))]);
    }
    let target = DiskStorage::new(to.path()).unwrap();
    let backup = Backup::begin(folder.dir.path(), &target).unwrap();
    let first = segments(folder.dir.path()).remove(0);
    std::fs::remove_file(&first).unwrap();
    append(&queue, &[message(&numbered(400))]);
    backup.finish().unwrap();
    assert_eq!(verify(to.path()).unwrap().records, 401);
    // The next one finds the beginning gone: that is damage, and no copy.
    let again = tempfile::tempdir().unwrap();
    assert!(matches!(copy(folder.dir.path(), again.path()), Err(OpenError::Corrupt { .. })));
}

#[test]
fn damage_is_refused_and_a_torn_tail_is_not_damage() {
    let folder = Folder::new();
    let queue = folder.open();
    for number in 0..50 {
        append(&queue, &[message(&numbered(number))]);
    }
    queue.close().unwrap();
    drop(queue);
    let file = segments(folder.dir.path()).remove(0);
    let sound = std::fs::read(&file).unwrap();
    let end = verify(folder.dir.path()).unwrap().end.0 as usize;
    // Behind the end: a write that a crash cut off.
    let mut torn = sound.clone();
    torn[end..end + 64].fill(7);
    std::fs::write(&file, &torn).unwrap();
    let to = tempfile::tempdir().unwrap();
    copy(folder.dir.path(), to.path()).unwrap();
    let report = verify(to.path()).unwrap();
    assert!((report.records, report.torn_tail, report.clean) == (50, false, true), "{report}");
    // In the middle: something that was told durable.
    let mut damaged = sound;
    damaged[end / 2] ^= 1;
    std::fs::write(&file, &damaged).unwrap();
    let to = tempfile::tempdir().unwrap();
    let Err(OpenError::Corrupt { file: named, .. }) = copy(folder.dir.path(), to.path()) else {
        panic!("damage was copied")
    };
    assert_eq!(named, file);
    assert_no_start(&folder, to.path());
}

#[test]
fn a_full_target_is_an_error_and_no_folder_to_start_from() {
    let folder = Folder::new();
    let queue = folder.open();
    for number in 0..300 {
        append(&queue, &[message(&numbered(number))]);
    }
    queue.checkpoint().unwrap();
    let needed = {
        let to = tempfile::tempdir().unwrap();
        copy(folder.dir.path(), to.path()).unwrap().bytes
    };
    for part in 1..8 {
        let to = tempfile::tempdir().unwrap();
        let storage = FaultyStorage::new(to.path());
        storage.set_quota(Some(needed * part / 8));
        let target = storage.as_storage();
        let failed = Backup::begin(folder.dir.path(), &*target).and_then(Backup::finish);
        match failed {
            Err(OpenError::Io { source, path }) => {
                assert_eq!(source.kind(), io::ErrorKind::StorageFull);
                assert!(path.starts_with(to.path()), "{}", path.display());
            }
            other => panic!("{other:?} with {part}/8 of the space"),
        }
        assert_no_start(&folder, to.path());
    }
}

#[test]
fn what_is_no_data_folder_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let target = DiskStorage::new(dir.path()).unwrap();
    assert!(matches!(Backup::begin(dir.path(), &target), Err(OpenError::NotDataFolder { .. })));
}

#[test]
fn copies_made_while_the_beginning_is_deleted_begin_where_nothing_owed_is_missing() {
    const RETENTION_MS: u64 = 1_000;
    let folder = Folder::new();
    let copies = tempfile::tempdir().unwrap();
    let policies = Policies { retention_ms: RETENTION_MS, ..Policies::default() };
    let open = |dir: &Path| {
        let options =
            QueueOptions { dir: dir.to_owned(), segment_bytes: 8_192, topic_queues: 1, ..folder.options() };
        let storage = std::sync::Arc::new(DiskStorage::new(dir).unwrap());
        let clock = std::sync::Arc::clone(&folder.clock) as std::sync::Arc<dyn Clock>;
        Queue::open_with(options, policies.clone(), storage, clock).unwrap()
    };
    let queue = open(folder.dir.path());
    queue.put_group(TOPIC, GROUP, StartFrom::First, None, None).unwrap();
    let till = |sequence| Producer { id: "till", sequence };
    let (durable, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut starts = Vec::new();
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            let mut next = 0;
            while !stop.load(Ordering::Relaxed) && next < MESSAGES_MAX {
                match queue.append_once(till(next), &[message(&numbered(next))], Space::New) {
                    Ok(once) => {
                        queue.wait_durable(once.appended.end).unwrap();
                        next += 1;
                        durable.store(next, Ordering::Release);
                    }
                    Err(ProducerError::Append(AppendError::Busy)) => std::thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for delivery in receive(&queue, GROUP, 64, 600_000) {
                    ack(&queue, GROUP, &delivery).unwrap();
                }
                folder.clock.advance(RETENTION_MS);
                queue.delete_unheld().unwrap();
            }
        });
        for round in 0..8 {
            let before = loop {
                let before = durable.load(Ordering::Acquire);
                if before >= (round + 1) * 150 {
                    break before;
                }
                std::thread::yield_now();
            };
            let to = copies.path().join(round.to_string());
            let copied = copy(folder.dir.path(), &to).unwrap();
            let settled = group_stats_or_none(&queue).map_or(0, |stats| stats.queues[0].floor);
            starts.push(copied.log.start);
            let restored = open(&to);
            assert_eq!(restored.start(), copied.log.start);
            let kept: Vec<u64> =
                restored.scan(restored.start()).map(|found| number(&found.unwrap())).collect();
            let (first, end) = (kept[0], kept[kept.len() - 1] + 1);
            assert_eq!(kept, (first..end).collect::<Vec<_>>(), "without a hole");
            assert!(end >= before, "{end}: {before} were durable");
            // Everything that the group was owed then, and nothing twice.
            let mut owed = Vec::new();
            loop {
                let found = receive(&restored, GROUP, 500, 600_000);
                if found.is_empty() {
                    break;
                }
                owed.extend(found.iter().map(|delivery| number(&delivery.message)));
            }
            if let Some(&next) = owed.first() {
                assert!(next <= settled, "{next} to {settled} are missing");
                assert_eq!(owed, (next..end).collect::<Vec<_>>());
            } else {
                assert!(settled >= end);
            }
            // Numbers are known, or known to be too old, though their messages may be deleted.
            let again = |sequence| restored.append_once(till(sequence), &[message(b"again")], Space::New);
            assert!(again(end - 1).unwrap().repeated, "{end}");
            assert!(matches!(
                again(before - 1),
                Ok(Once { repeated: true, .. }) | Err(ProducerError::TooOld)
            ));
            assert_eq!(again(0), Err(ProducerError::TooOld));
            restored.close().unwrap();
        }
    });
    assert!(starts.last() > starts.first(), "the beginning moved: {starts:?}");
}
