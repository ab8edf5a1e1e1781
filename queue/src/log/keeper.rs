//! The keeper thread: all disk work off the write path. Prepares segments ahead, writes the checkpoint about each
//! second while there is something new in it; in async mode the flusher syncs. Both sleep when nothing is new.

use super::checkpoint::Checkpoint;
use super::pending::Piece;
use super::segment::Segment;
use super::{Shared, Stopped};
use crate::storage::is_no_space;
use crate::sync::atomic::Ordering;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// While there is something new, the checkpoint is written this often.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// While space is missing, it is looked for this often.
const SPACE_RETRY: Duration = Duration::from_millis(200);
/// The next segment is filled with zeros in pieces of so many bytes: the writer's sync may wait behind one of them.
const FILL_PIECE: u64 = 1 << 20;
/// Between two pieces, unless the log comes near: 50 MiB a second.
const FILL_PAUSE: Duration = Duration::from_millis(20);

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
        let again = prepare(shared);
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
        let again = again.map(|after| Instant::now() + after);
        let until = [due, again].into_iter().flatten().min();
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

/// Looks after space ahead of the log: the disk's water marks, segments for the reserve, zeros in the next one.
/// Answers when to do so again, if that is known already.
fn prepare(shared: &Shared) -> Option<Duration> {
    let mut full = false;
    loop {
        if shared.keeper.lock().stop {
            return None;
        }
        let low = look_at_disk(shared);
        let reserve = shared.reserve.load(Ordering::Relaxed);
        let (wanted, piece) = {
            let mut pending = shared.pending.lock();
            if pending.stopped.is_some() {
                return None;
            }
            // Once full, what is there already is still made ready.
            let wanted = pending.wants_segment(reserve, shared.segment_bytes).filter(|_| !full);
            (wanted, pending.wants_filling(FILL_PIECE))
        };
        let urgent = piece.as_ref().is_some_and(|piece| piece.urgent);
        let done = match (wanted, piece) {
            (Some(base), _) if !urgent => add(shared, base),
            (_, Some(piece)) => fill(shared, &piece),
            _ => {
                shared.pending.lock().full = full;
                return (full || low).then_some(SPACE_RETRY);
            }
        };
        match done {
            Ok(()) if wanted.is_none() && !urgent => {
                shared.pending.lock().full = full;
                return Some(FILL_PAUSE);
            }
            Ok(()) => {}
            Err(error) if is_no_space(&error) => {
                let was_full = std::mem::replace(&mut shared.pending.lock().full, true);
                if !was_full {
                    tracing::warn!("no space for the next segment of the log; trying again");
                }
                if full || wanted.is_none() || urgent {
                    return Some(SPACE_RETRY);
                }
                full = true;
            }
            Err(error) => {
                shared.poison("cannot prepare a segment", &error);
                return None;
            }
        }
    }
}

fn add(shared: &Shared, base: u64) -> io::Result<()> {
    let segment = Segment::create(&*shared.storage, base, shared.segment_bytes, shared.log_id)?;
    shared.pending.lock().add_prepared(Arc::new(segment));
    Ok(())
}

fn fill(shared: &Shared, piece: &Piece) -> io::Result<()> {
    piece.segment.file.fill(piece.range.clone())?;
    shared.pending.lock().filled(piece);
    Ok(())
}

/// Below the low mark new work is refused, from the high mark on it is taken again.
pub(super) fn look_at_disk(shared: &Shared) -> bool {
    // A file system that does not tell what it has is no reason to refuse anything.
    let free = shared.storage.free_bytes().unwrap_or(u64::MAX);
    let mut pending = shared.pending.lock();
    let (low_mark, high_mark) = shared.disk_marks;
    let low = free < if pending.low { high_mark } else { low_mark };
    match (pending.low, low) {
        (false, true) => tracing::warn!(free, low_mark, "disk is nearly full; new messages are refused"),
        (true, false) => tracing::info!(free, "disk has space again; new messages are taken"),
        _ => {}
    }
    pending.low = low;
    low
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
