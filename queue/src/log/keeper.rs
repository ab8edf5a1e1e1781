//! The keeper thread: all disk work off the write path. Prepares segments ahead, writes the checkpoint about each
//! second while there is something new in it; in async mode the flusher syncs. Both sleep when nothing is new.

use super::checkpoint::Checkpoint;
use super::segment::Segment;
use super::{Durability, Shared, Stopped};
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
/// Between two pieces, unless the log comes near: 50 MiB a second. A log that is faster than zeros are written goes on
/// in space that is only allocated.
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
    let (low, full) = loop {
        if shared.keeper.lock().stop {
            return None;
        }
        let low = look_at_disk(shared);
        let reserve = shared.reserve.load(Ordering::Relaxed);
        let wanted = {
            let mut pending = shared.pending.lock();
            if pending.stopped.is_some() {
                return None;
            }
            pending.wants_segment(reserve, shared.segment_bytes)
        };
        let Some(base) = wanted else { break (low, false) };
        match Segment::create(&*shared.storage, base, shared.segment_bytes, shared.log_id) {
            Ok(segment) => shared.pending.lock().add_prepared(Arc::new(segment)),
            Err(error) if is_no_space(&error) => {
                let mut pending = shared.pending.lock();
                if !pending.full {
                    tracing::warn!(segment = base, "no space for the next segment of the log; trying again");
                }
                pending.full = true;
                break (low, true);
            }
            Err(error) => {
                shared.poison("cannot prepare a segment", &error);
                return None;
            }
        }
    };
    match fill_next(shared) {
        Ok(Some(pause)) => Some(pause),
        Ok(None) => (low || full).then_some(SPACE_RETRY),
        Err(error) => {
            shared.poison("cannot fill a segment", &error);
            None
        }
    }
}

/// Fills a piece of the next segment. Answers when to go on; `None`: nothing is to be filled.
fn fill_next(shared: &Shared) -> io::Result<Option<Duration>> {
    // In async mode syncs are rare: what one of them costs more is less than writing everything twice.
    if shared.flush != Durability::Sync {
        return Ok(None);
    }
    let pending = shared.pending.lock();
    let Some(piece) = pending.wants_filling(FILL_PIECE) else { return Ok(None) };
    // Taken while the segment cannot be: the writer looks at this lock when it begins to write into one.
    let _filling = piece.segment.filling.lock();
    drop(pending);
    match piece.segment.file.fill(piece.range.clone()) {
        // Where allocated space is not kept for it, the log does without zeros.
        Err(error) if !is_no_space(&error) => return Err(error),
        _ => {}
    }
    shared.pending.lock().filled(&piece);
    Ok(Some(if piece.urgent { Duration::ZERO } else { FILL_PAUSE }))
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
        match sync_written(shared) {
            Ok(synced) => shared.tell_synced(synced),
            Err(error) => {
                shared.poison("cannot sync the log", &error);
                return;
            }
        }
    }
}

/// Syncs everything written so far. Answers up to where all is on disk, if that is news.
pub(super) fn sync_written(shared: &Shared) -> io::Result<Option<u64>> {
    if shared.pending.lock().stopped == Some(Stopped::Poisoned) {
        return Ok(None);
    }
    let written = shared.durable.load(Ordering::Acquire);
    let synced = shared.synced.load(Ordering::Acquire);
    if written <= synced {
        return Ok(None);
    }
    for segment in shared.segments.overlapping(synced..written) {
        segment.file.sync()?;
    }
    shared.synced.fetch_max(written, Ordering::SeqCst);
    Ok(Some(written))
}

impl Shared {
    /// What a checkpoint says now. With the checkpoint file locked: the start moves under that lock.
    pub(super) fn checkpoint(&self, durable: u64, clean: bool) -> Checkpoint {
        let log_start = self.log_start.load(Ordering::Acquire);
        Checkpoint { log_id: self.log_id, durable, epoch: self.epoch, log_start, clean }
    }
}
