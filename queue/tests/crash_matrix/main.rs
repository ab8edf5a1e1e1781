//! The crash matrix: random work on a disk that fails as disks do, crashed at random calls and at every sync, also
//! in the middle of recovery, recovered, and checked against a model.
//!
//! `TIDEGATE_CRASHES` sets how many crashes (10,000 unless set); `TIDEGATE_CRASH_SEED` repeats the history of one
//! seed, a hundred times: the seed fixes the work, the faults and the losses, but not how threads take turns.
#![allow(clippy::unwrap_used)]

mod faults;
mod model;
mod random;
mod world;

use faults::{Life, Trouble};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tidegate_queue::storage::{FaultyCall, PowerLoss};
use world::{Tally, World};

const CRASHES: u64 = 10_000;
/// Lives of one folder, and what one does at most.
const LIVES: u64 = 10;
const OPERATIONS: u64 = 24;
const REPEATS: u64 = 100;

static FAILED: AtomicBool = AtomicBool::new(false);

/// Names the seed when its history fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            FAILED.store(true, Ordering::Relaxed);
            eprintln!("failed; again with TIDEGATE_CRASH_SEED={}", self.0);
        }
    }
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

fn history(seed: u64) -> Tally {
    let _seed = Seed(seed);
    let mut world = World::new(seed);
    for _ in 0..LIVES {
        world.live(OPERATIONS);
    }
    world.finish()
}

#[test]
fn nothing_promised_is_lost_in_any_crash() {
    if let Some(seed) = env("TIDEGATE_CRASH_SEED") {
        for _ in 0..REPEATS {
            history(seed);
        }
        return;
    }
    let wanted = env("TIDEGATE_CRASHES").unwrap_or(CRASHES);
    let (next, tally) = (AtomicU64::new(0), Mutex::new(Tally::default()));
    let work = || {
        while tally.lock().crashes < wanted && !FAILED.load(Ordering::Relaxed) {
            let came_through = history(next.fetch_add(1, Ordering::Relaxed));
            tally.lock().add(&came_through);
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let tally = tally.into_inner();
    println!("{} histories: {tally:?}", next.into_inner());
    assert!(tally.in_recovery > tally.crashes / 10 && tally.lost > tally.crashes / 10);
    assert!(tally.segments > tally.crashes / 50 && tally.deleted > tally.crashes / 10);
    assert!(tally.again > tally.crashes / 100 && tally.reports > tally.crashes / 10);
}

#[test]
fn nothing_promised_is_lost_by_a_crash_at_any_sync() {
    for seed in 0..4 {
        for loss in [PowerLoss::Everything, PowerLoss::Blocks(512), PowerLoss::Blocks(4096)] {
            for nth in 1.. {
                let _seed = Seed(seed);
                let mut world = World::new(1_000_000 + seed);
                let trouble = Trouble::KillAtCall(FaultyCall::Sync, "", nth);
                let life = Life { trouble, early: true, closes: true, loss: Some((nth, loss)) };
                let reached = world.live_as(life, OPERATIONS);
                // And once more, in the recovery from it.
                let trouble = Trouble::KillAtCall(FaultyCall::Sync, "", 1 + nth % 7);
                world.live_as(Life { trouble, ..life }, OPERATIONS / 2);
                world.finish();
                if !reached {
                    assert!(nth > 10, "only {nth} syncs");
                    break;
                }
            }
        }
    }
}
