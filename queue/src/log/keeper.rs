//! The keeper thread: all disk work off the write path. Prepares segments ahead, writes the checkpoint about each
//! second while there is something new in it; in async mode the flusher syncs. Both sleep when nothing is new.

use super::checkpoint::Checkpoint;
use super::segment::Segment;
use super::{Shared, Stopped};
use crate::storage::is_no_space;
use crate::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// While there is something new, the checkpoint is written this often.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// On a full disk, allocation is tried again this often.
const FULL_RETRY: Duration = Duration::from_millis(200);

/// What wakes the keeper, or the flusher.
#[derive(Default)]
pub(super) struct Nudge {
    pub(super) asked: bool,
    pub(super) stop: bool,
    /// Somebody waits for the sync.
    pub(super) hurry: bool,
}

/// Runs until told to stop.
pub(super) fn run(shared: &Shared) {
    let mut written = shared.recovered.end.0;
    let mut due: Option<Instant> = None;
    loop {
        let full = prepare(shared);
        let synced = shared.synced.load(Ordering::Acquire);
        if due.is_some_and(|due| Instant::now() >= due) {
            due = None;
            let stored = {
                let mut file = shared.checkpoint.lock();
                file.write(&shared.checkpoint(synced, false))
            };
            match stored {
                Ok(()) => written = synced,
                // It will be due again; frames carry the same knowledge.
                Err(error) if is_no_space(&error) => {}
                Err(error) => shared.poison("cannot write the checkpoint", &error),
            }
        }
        if due.is_none() && synced > written {
            due = Some(Instant::now() + CHECKPOINT_EVERY);
        }
        let mut nudge = shared.keeper.lock();
        if nudge.stop {
            return;
        }
        let retry = full.then(|| Instant::now() + FULL_RETRY);
        let until = [due, retry].into_iter().flatten().min();
        // The writer looks at this after it has raised `synced`; we look at `synced` after setting it.
        shared.keeper_idle.store(due.is_none(), Ordering::SeqCst);
        let missed = due.is_none() && shared.synced.load(Ordering::SeqCst) > written;
        if !nudge.asked && !missed {
            match until {
                Some(until) => drop(shared.keeper_wake.wait_until(&mut nudge, until)),
                None => shared.keeper_wake.wait(&mut nudge),
            }
        }
        nudge.asked = false;
        shared.keeper_idle.store(false, Ordering::SeqCst);
    }
}

/// Prepares what is wanted; answers whether the disk is full.
fn prepare(shared: &Shared) -> bool {
    loop {
        if shared.keeper.lock().stop {
            return false;
        }
        let reserve = shared.reserve.load(Ordering::Relaxed);
        let wanted = {
            let mut pending = shared.pending.lock();
            if pending.stopped.is_some() {
                return false;
            }
            pending.wants_segment(reserve, shared.segment_bytes)
        };
        let Some(base) = wanted else { return false };
        match Segment::create(&*shared.storage, base, shared.segment_bytes, shared.log_id) {
            Ok(segment) => shared.pending.lock().add_prepared(Arc::new(segment)),
            Err(error) if is_no_space(&error) => {
                let mut pending = shared.pending.lock();
                if !pending.full {
                    tracing::warn!(segment = base, "no space for the next segment of the log; trying again");
                }
                pending.full = true;
                return true;
            }
            Err(error) => {
                shared.poison("cannot prepare a segment", &error);
                return false;
            }
        }
    }
}

/// Async mode: syncs what was written, `interval` after the first of it.
pub(super) fn flush(shared: &Shared, interval: Duration) {
    loop {
        {
            let mut nudge = shared.flusher.lock();
            while !nudge.asked && !nudge.stop {
                shared.flusher_wake.wait(&mut nudge);
            }
            if nudge.stop {
                return;
            }
            let until = Instant::now() + interval;
            while !nudge.stop
                && !nudge.hurry
                && !shared.flusher_wake.wait_until(&mut nudge, until).timed_out()
            {}
            (nudge.asked, nudge.hurry) = (false, false);
        }
        if let Err(error) = sync_written(shared) {
            shared.poison("cannot sync the log", &error);
            return;
        }
        shared.wake_waiters();
    }
}

/// Syncs everything written so far.
pub(super) fn sync_written(shared: &Shared) -> std::io::Result<()> {
    if shared.pending.lock().stopped == Some(Stopped::Poisoned) {
        return Ok(());
    }
    let written = shared.durable.load(Ordering::Acquire);
    let synced = shared.synced.load(Ordering::Acquire);
    if written <= synced {
        return Ok(());
    }
    for segment in shared.segments.overlapping(synced..written) {
        segment.file.sync()?;
    }
    shared.synced.fetch_max(written, Ordering::SeqCst);
    Ok(())
}

impl Shared {
    /// What a checkpoint says now. With the checkpoint file locked: the start moves under that lock.
    pub(super) fn checkpoint(&self, durable: u64, clean: bool) -> Checkpoint {
        let log_start = self.log_start.load(Ordering::Acquire);
        Checkpoint { log_id: self.log_id, durable, epoch: self.epoch, log_start, clean }
    }
}
