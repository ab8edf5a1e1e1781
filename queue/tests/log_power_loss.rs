//! Crashes and power losses: nothing acknowledged is ever lost, whatever the instant.
#![allow(clippy::unwrap_used)]

mod log_support;

use log_support::*;
use tidegate_queue::AppendError;
use tidegate_queue::log::CommitLog;
use tidegate_queue::storage::{FaultyCall, PowerLoss};

/// Appends batches until the log fails; answers how many records were acknowledged and how many were tried.
fn work(log: &CommitLog, from: u64, batches: u64) -> (u64, u64) {
    let mut next = from;
    for batch in 0..batches {
        let numbers: Vec<_> = (next..next + 1 + batch % 4).collect();
        let tried = next + numbers.len() as u64;
        if append_durably(log, &numbers).is_err() {
            return (next, tried);
        }
        next = tried;
    }
    (next, next)
}

#[test]
fn power_loss_at_every_call_loses_no_acknowledged_append() {
    let mut killed = 0;
    for at in 1.. {
        let mut reached = false;
        for (seed, mode) in
            [(0, PowerLoss::Everything), (at, PowerLoss::Blocks(512)), (at, PowerLoss::Blocks(4096))]
        {
            let (_dir, storage) = faulty();
            storage.kill_at_call(at);
            let (acked, tried) = match open(storage.as_storage()) {
                Err(_) => (0, 0),
                Ok(log) => work(&log, 0, 14),
            };
            reached |= storage.calls() >= at;
            storage.power_loss(seed, mode);
            // A second life, killed as well while it recovers or works.
            storage.kill_at_call(1 + at % 17);
            let (acked, tried) = match open(storage.as_storage()) {
                Err(error) => {
                    assert!(error.to_string().contains("killed by the test"), "call {at} {mode:?}: {error}");
                    (acked, tried)
                }
                Ok(log) => {
                    let seen = numbers(&log).len() as u64;
                    assert!((acked..=tried).contains(&seen), "call {at} {mode:?}: {acked} {seen} {tried}");
                    work(&log, seen, 6)
                }
            };
            storage.power_loss(seed + 1, mode);
            let log =
                open(storage.as_storage()).unwrap_or_else(|error| panic!("call {at} {mode:?}: {error}"));
            let seen = numbers(&log);
            assert!(seen.iter().copied().eq(0..seen.len() as u64), "call {at} {mode:?}: {seen:?}");
            assert!(
                (acked..=tried).contains(&(seen.len() as u64)),
                "call {at} {mode:?}: {acked} {seen:?} {tried}"
            );
        }
        killed += u64::from(reached);
        if !reached {
            break;
        }
    }
    assert!(killed > 30, "only {killed} calls");
}

#[test]
fn acknowledged_appends_survive_a_crash_without_power_loss() {
    let (_dir, storage) = faulty();
    let log = open(storage.as_storage()).unwrap();
    let (acked, _) = work(&log, 0, 40);
    storage.kill();
    assert_eq!(append_durably(&log, &[99]), Err(AppendError::Poisoned));
    drop(log);
    let log = open(storage.as_storage()).unwrap();
    assert!(numbers(&log).into_iter().eq(0..acked));
    assert!(!log.recovered().clean);
}

#[test]
fn fm28_tail_at_a_segment_boundary_survives() {
    // Every distance of the last frame from the end of its segment, in steps of the alignment.
    for filler in 0..60 {
        let (_dir, storage) = faulty();
        let log = open(storage.as_storage()).unwrap();
        let mut count = 0;
        for _ in 0..8 + filler {
            append_durably(&log, &[count]).unwrap();
            count += 1;
        }
        storage.power_loss(filler, PowerLoss::Everything);
        drop(log);
        let log = open(storage.as_storage()).unwrap();
        assert!(numbers(&log).into_iter().eq(0..count), "{filler}");
        append_durably(&log, &[count]).unwrap();
        assert_eq!(numbers(&log).len() as u64, count + 1);
    }
}

#[test]
fn fm50_what_a_failed_sync_left_in_the_page_cache_is_made_durable_before_it_is_served() {
    let (_dir, storage) = faulty();
    let log = open(storage.as_storage()).unwrap();
    append_durably(&log, &[0]).unwrap();
    storage.fail(FaultyCall::Sync, "commitlog/0", 1, std::io::ErrorKind::Other);
    assert_eq!(append_durably(&log, &[1]), Err(AppendError::Poisoned));
    drop(log);
    // The page cache shows record 1; the disk does not have it.
    let log = open(storage.as_storage()).unwrap();
    let served = numbers(&log);
    assert_eq!(served, [0, 1]);
    storage.power_loss(0, PowerLoss::Everything);
    drop(log);
    assert_eq!(numbers(&open(storage.as_storage()).unwrap()), served);
}

#[test]
fn fm57_later_blocks_without_earlier_ones_of_an_unacknowledged_write_are_no_corruption() {
    let (mut torn, mut later_without_earlier) = (0, 0);
    for seed in 0..120 {
        let (dir, storage) = faulty();
        let log = open(storage.as_storage()).unwrap();
        append_durably(&log, &[0, 1]).unwrap();
        wait_for_segments(dir.path(), 2);
        storage.hold_syncs_of("commitlog/0");
        append(&log, &[2]).unwrap();
        assert!(storage.wait_for_held_sync(1));
        // One write of two frames, in two segments.
        for number in 3..16 {
            append(&log, &[number]).unwrap();
        }
        storage.pass_sync();
        assert!(storage.wait_for_held_sync(2));
        storage.power_loss(seed, PowerLoss::Blocks(512));
        drop(log);
        let before = tidegate_queue::log::verify(dir.path()).unwrap();
        let later = std::fs::read(dir.path().join("commitlog/00000000000000004096")).unwrap();
        let log = open(storage.as_storage()).unwrap();
        let seen = numbers(&log);
        assert!(seen.iter().copied().eq(0..seen.len() as u64) && seen.len() >= 3, "{seed}: {seen:?}");
        torn += u64::from(before.torn_tail);
        later_without_earlier += u64::from(seen.len() == 3 && later[64..68] == *b"TGFR");
        append_durably(&log, &[seen.len() as u64]).unwrap();
        log.close().unwrap();
        drop(log);
        let after = tidegate_queue::log::verify(dir.path()).unwrap();
        assert!(!after.torn_tail && after.is_sound() && after.clean, "{seed}: {after}");
        let log = open(storage.as_storage()).unwrap();
        assert_eq!(numbers(&log).len(), seen.len() + 1);
    }
    assert!(torn > 60 && later_without_earlier > 20, "{torn} {later_without_earlier}");
}
