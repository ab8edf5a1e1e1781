//! The files of the key index: taken over at a start, written when the tail is full, merged so that they stay few,
//! dropped when the log no longer holds what they name.
//!
//! A crash in any of it leaves whole runs; one that lies within another, or behind a gap, is removed at the next start.

use super::entry::Entry;
use super::run::{DIR, Run};
use super::tail::Chunk;
use super::{Frozen, KeyIndex};
use crate::Position;
use crate::log::CommitLog;
use crate::storage::Storage;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Runs merged into one.
const FAN: usize = 4;
/// Runs up to this many entries are of the smallest tier; each tier is `FAN` times the one below.
const TIER_ENTRIES: u64 = 65_536;

/// The runs that hold the beginning of a log from `start` to `end` without a gap; the other files are removed.
pub(super) fn load(
    storage: &dyn Storage,
    log_id: u64,
    start: Position,
    end: Position,
) -> io::Result<Vec<Arc<Run>>> {
    let mut found = Vec::new();
    for name in storage.list(Path::new(DIR))? {
        let path = Path::new(DIR).join(name);
        match Run::open(storage, path.clone(), log_id)? {
            Some(run) => found.push(run),
            None => storage.remove(&path)?,
        }
    }
    found.sort_unstable_by_key(|run| (run.from, Reverse(run.to)));
    let (mut runs, mut reach) = (Vec::<Arc<Run>>::new(), None);
    for run in found {
        let follows = reach.map_or(run.from <= start, |reach| run.from == reach);
        if follows && run.to > start && run.to <= end {
            reach = Some(run.to);
            runs.push(Arc::new(run));
        } else {
            run.remove(storage);
        }
    }
    Ok(runs)
}

impl KeyIndex {
    /// What is due: drops runs that lie below `start`, writes the tail when it is large, merges. Blocks on the disk.
    pub(crate) fn tidy(&self, log: &CommitLog, start: Position) -> io::Result<()> {
        self.remove_below(start);
        let large = {
            let state = self.state.lock();
            state.frozen.is_some() || state.is_large(&self.limits)
        };
        if large {
            self.flush(log)?;
            while self.merge()? {}
        }
        Ok(())
    }

    /// Writes all that was read as a run. Everything below the answer is on disk. Blocks.
    pub(crate) fn flush(&self, log: &CommitLog) -> io::Result<Position> {
        let _one_at_a_time = self.tidying.lock();
        let frozen = {
            let mut state = self.state.lock();
            let (from, to) = (state.tail.from, state.reach);
            if state.frozen.is_none() && from < to {
                let chunks = state.tail.take(to);
                state.frozen = Some(Arc::new(Frozen { from, to, chunks }));
            }
            let Some(frozen) = state.frozen.clone() else { return Ok(to) };
            frozen
        };
        // In async mode a power loss may take the end of the log, and put other records in its place.
        log.wait_synced(frozen.to).map_err(io::Error::other)?;
        let entries = frozen.chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let sorted =
            Merged::new(frozen.chunks.iter().map(Chunk::as_ref).map(|chunk| chunk.iter().copied().map(Ok)));
        let run = Run::write(self.storage.as_ref(), self.log_id, frozen.from..frozen.to, entries, sorted)?;
        let mut state = self.state.lock();
        // Otherwise it was given up meanwhile.
        if state.frozen.as_ref().is_some_and(|present| Arc::ptr_eq(present, &frozen)) {
            state.frozen = None;
            state.runs.push(Arc::new(run));
        } else {
            drop(state);
            run.remove(self.storage.as_ref());
        }
        Ok(frozen.to)
    }

    /// Drops the runs of what the log no longer holds.
    pub(crate) fn remove_below(&self, position: Position) {
        let gone: Vec<_> = {
            let mut state = self.state.lock();
            let kept = state.runs.iter().take_while(|run| run.to <= position).count();
            state.runs.drain(..kept).collect()
        };
        for run in gone {
            run.remove(self.storage.as_ref());
        }
    }

    /// Merges the newest runs into one when the oldest of them is no larger than another; false when it is. So they
    /// are at most a few of each tier.
    fn merge(&self) -> io::Result<bool> {
        let _one_at_a_time = self.tidying.lock();
        let runs: Vec<Arc<Run>> = {
            let state = self.state.lock();
            let Some(first) = state.runs.len().checked_sub(FAN) else { return Ok(false) };
            state.runs[first..].to_vec()
        };
        let entries = runs.iter().map(|run| run.entries).sum::<u64>();
        let tier = |run: &Arc<Run>| (run.entries / TIER_ENTRIES).checked_ilog(FAN as u64);
        if tier(&runs[0]) > runs[1..].iter().map(tier).max().flatten() || entries > self.limits.run_entries {
            return Ok(false);
        }
        let stretch = runs[0].from..runs[FAN - 1].to;
        let sorted = Merged::new(runs.iter().map(|run| run.iter()));
        let merged = match Run::write(self.storage.as_ref(), self.log_id, stretch, entries, sorted) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                self.give_up(&runs[0], &error);
                return Ok(false);
            }
            other => other?,
        };
        let mut state = self.state.lock();
        let place = state.runs.iter().position(|present| Arc::ptr_eq(present, &runs[0]));
        match place {
            Some(at) if state.runs.len() == at + FAN => {
                state.runs.truncate(at);
                state.runs.push(Arc::new(merged));
                drop(state);
                for run in runs {
                    run.remove(self.storage.as_ref());
                }
                Ok(true)
            }
            // Some of them were dropped or given up meanwhile.
            _ => {
                drop(state);
                merged.remove(self.storage.as_ref());
                Ok(false)
            }
        }
    }
}

/// Sorted sequences as one.
struct Merged<I> {
    sources: Vec<I>,
    heads: BinaryHeap<Reverse<(Entry, usize)>>,
    error: Option<io::Error>,
}

impl<I: Iterator<Item = io::Result<Entry>>> Merged<I> {
    fn new(sources: impl Iterator<Item = I>) -> Self {
        let mut merged = Self { sources: sources.collect(), heads: BinaryHeap::new(), error: None };
        (0..merged.sources.len()).for_each(|source| merged.pull(source));
        merged
    }

    fn pull(&mut self, source: usize) {
        match self.sources[source].next() {
            Some(Ok(entry)) => self.heads.push(Reverse((entry, source))),
            Some(Err(error)) => self.error = Some(error),
            None => {}
        }
    }
}

impl<I: Iterator<Item = io::Result<Entry>>> Iterator for Merged<I> {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.error.take() {
            self.heads.clear();
            return Some(Err(error));
        }
        let Reverse((entry, source)) = self.heads.pop()?;
        self.pull(source);
        Some(Ok(entry))
    }
}
