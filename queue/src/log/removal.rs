//! Giving up the beginning of the log. The checkpoint says first where the log begins from now on; only then do the
//! files go. So at every instant a start either finds all files from the beginning that it reads of, or some below
//! it, which it removes.

use super::Shared;
use super::checkpoint::Checkpoint;
use super::recovery;
use super::segment::{DIR, Segment};
use crate::storage::{Storage, is_no_space};
use crate::sync::atomic::Ordering;
use std::io;
use std::path::Path;

/// Removes the segments that end at or below `position`. `leftovers`: an earlier call did not get all files.
pub(super) fn remove_below(shared: &Shared, position: u64, leftovers: &mut bool) -> io::Result<usize> {
    if shared.poisoned.load(Ordering::SeqCst) {
        return Err(io::Error::other("the log failed earlier; it removes nothing until a restart"));
    }
    // Strictly below what is synced: the log that is left begins with something known to be on disk.
    let synced = shared.synced.load(Ordering::Acquire);
    let start = shared.segments.first_kept(position.min(synced.saturating_sub(1)));
    if start > shared.log_start.load(Ordering::Acquire) {
        raise_start(shared, start)?;
        // Readers may hold them; the space is free when the last one is gone.
        drop(shared.segments.forget_below(start));
        *leftovers = true;
    }
    if !*leftovers {
        return Ok(0);
    }
    let start = shared.log_start.load(Ordering::Acquire);
    let storage = &*shared.storage;
    let below: Vec<_> =
        recovery::list_segments(storage)?.into_iter().take_while(|base| *base < start).collect();
    remove_files(storage, &below)?;
    *leftovers = false;
    // It may be waiting for space.
    shared.nudge_keeper();
    Ok(below.len())
}

fn raise_start(shared: &Shared, log_start: u64) -> io::Result<()> {
    let mut file = shared.checkpoint.lock();
    let synced = shared.synced.load(Ordering::Acquire);
    let stored = file.write_both(&Checkpoint { log_start, ..shared.checkpoint(synced, false) });
    match &stored {
        Ok(()) => shared.log_start.store(log_start, Ordering::Release),
        Err(error) if is_no_space(error) => {}
        Err(error) => {
            drop(file);
            // The disk may say either start: the files of both are there.
            shared.poison("cannot write the checkpoint", error);
        }
    }
    stored
}

/// Removes these segments' files, oldest first, for good.
pub(super) fn remove_files(storage: &dyn Storage, bases: &[u64]) -> io::Result<()> {
    if bases.is_empty() {
        return Ok(());
    }
    for base in bases {
        match storage.remove(&Segment::path_of(*base)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    storage.sync_dir(Path::new(DIR))
}
