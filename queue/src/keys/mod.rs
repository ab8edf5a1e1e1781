//! The key index: messages by their look-up keys. FORMAT.md, "Key index".
//!
//! ```text
//! entry.rs  a key's hash, and where a message with it stands
//! tail.rs   the newest ones, in memory
//! run.rs    older ones: files that never change
//! tidy.rs   writing the tail as a run, merging runs, dropping old ones
//! ```
//!
//! Derived: the dispatcher hands over what it sees, and where that does not follow what is here (after a start, after
//! damage, when the disk was full), the index reads the log by itself until it does. So nothing waits for it, and what is
//! missing is read again. It holds hashes; the record says whether the key is the one.

mod entry;
mod run;
mod tail;
mod tidy;

pub(crate) use entry::{Entry, SAME_MAX, id_hash, key_hash};
#[cfg(feature = "testing")]
pub(crate) use run::{fuzz, sample};

use crate::Position;
use crate::log::{CommitLog, ReadError, RecordKind, RecordView};
use crate::storage::Storage;
use crate::sync::Mutex;
use run::Run;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use tail::{Chunk, Tail};

/// Records of one step of reading.
const STEP_RECORDS: usize = 4_096;
/// Reading is about to catch up with the dispatcher.
const NEAR_BYTES: u64 = 1 << 20;

/// Bounds; tests have smaller ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Entries in memory before they are written as a run. As many again are held while that is done.
    pub tail_entries: usize,
    /// Bytes of log that a start may have to read again.
    pub tail_log_bytes: u64,
    /// Runs are merged into runs of at most so many entries.
    pub run_entries: u64,
}

impl Default for Limits {
    /// 16 MiB in memory, twice that for moments; files of 256 MiB.
    fn default() -> Self {
        Self { tail_entries: 1 << 20, tail_log_bytes: 256 << 20, run_entries: 16 << 20 }
    }
}

/// The index of one log. One may read on or tidy at a time; any number look up beside that.
pub(crate) struct KeyIndex {
    storage: Arc<dyn Storage>,
    log_id: u64,
    limits: Limits,
    state: Mutex<State>,
    /// Who reads the log.
    reading: Mutex<()>,
    /// Who may move where the dispatcher hands over. Locks in this order: reading, handing, state.
    handing: Mutex<()>,
    /// Who writes files.
    tidying: Mutex<()>,
}

struct State {
    /// All below is here, above, or no longer kept.
    reach: Position,
    /// How far the dispatcher is.
    offered: Position,
    tail: Tail,
    /// What is being written as a run.
    frozen: Option<Arc<Frozen>>,
    /// Oldest first, without gaps.
    runs: Vec<Arc<Run>>,
}

impl State {
    /// Is there enough for a run?
    fn is_large(&self, limits: &Limits) -> bool {
        self.tail.len() >= limits.tail_entries || self.reach.0 - self.tail.from.0 >= limits.tail_log_bytes
    }
}

struct Frozen {
    from: Position,
    to: Position,
    chunks: Vec<Chunk>,
}

/// How far a step of reading came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is more to read.
    More,
    /// Everything is here.
    Done,
    /// The tail has to be written first.
    Full,
}

impl KeyIndex {
    /// Takes over the files that fit a log that goes from `start` to `end`, and removes the others. What they do not
    /// hold is read by [`Self::read_on`].
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        log_id: u64,
        limits: Limits,
        start: Position,
        end: Position,
    ) -> io::Result<Self> {
        let runs = tidy::load(storage.as_ref(), log_id, start, end)?;
        let reach = runs.last().map_or(start, |run| run.to);
        let state = State { reach, offered: Position(0), tail: Tail::new(reach), frozen: None, runs };
        Ok(Self {
            storage,
            log_id,
            limits,
            state: Mutex::new(state),
            reading: Mutex::new(()),
            handing: Mutex::new(()),
            tidying: Mutex::new(()),
        })
    }

    /// Takes what the dispatcher saw from `from` to `to`. True when there is something to do: to read what is missing, or
    /// to [`Self::tidy`].
    pub(crate) fn take(&self, from: Position, to: Position, entries: &[Entry]) -> bool {
        let _handing = self.handing.lock();
        let mut state = self.state.lock();
        state.offered = to;
        if state.reach == from && state.tail.len() < self.limits.tail_entries {
            state.reach = to;
            state.tail.extend(entries);
        }
        state.reach < to || (state.frozen.is_none() && state.is_large(&self.limits))
    }

    /// Every message below is found.
    pub(crate) fn reach(&self) -> Position {
        self.state.lock().reach
    }

    /// Reads on in the log, as far as the dispatcher was.
    pub(crate) fn read_on(&self, log: &CommitLog) -> Result<Step, ReadError> {
        let _reading = self.reading.lock();
        let near = {
            let state = self.state.lock();
            state.offered.0.saturating_sub(state.reach.0) < NEAR_BYTES
        };
        // For the last step the dispatcher waits, so that it finds the index where it goes on itself.
        let _handing = near.then(|| self.handing.lock());
        let (from, until) = {
            let state = self.state.lock();
            if state.reach >= state.offered {
                return Ok(Step::Done);
            }
            if state.tail.len() >= self.limits.tail_entries {
                return Ok(Step::Full);
            }
            (state.reach, state.offered)
        };
        let (mut records, mut entries, mut buffer) = (0, Vec::new(), Vec::new());
        let read = log.visit(from, &mut |record| {
            if record.position >= until {
                return ControlFlow::Break(());
            }
            self.see(&record, &mut entries, &mut buffer);
            records += 1;
            if records < STEP_RECORDS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let to = match read {
            Err(ReadError::Removed { start, .. }) => start,
            Ok(at) if records == STEP_RECORDS => at,
            other => other.map(|_| until)?,
        };
        let mut state = self.state.lock();
        // Otherwise a run was found damaged meanwhile, and is read again.
        if state.reach == from {
            state.reach = to;
            state.tail.extend(&entries);
        }
        Ok(if state.reach < state.offered { Step::More } else { Step::Done })
    }

    /// Adds what a record says of keys; `buffer` is any.
    pub(crate) fn see(&self, record: &RecordView<'_>, entries: &mut Vec<Entry>, buffer: &mut Vec<u8>) {
        if record.kind != RecordKind::Message {
            return;
        }
        let mut add = |hash| entries.push(Entry { hash, position: record.position });
        record.keys().for_each(|key| add(key_hash(self.log_id, record.topic, key, buffer)));
        if let Some(origin) = record.origin {
            add(id_hash(self.log_id, origin));
        }
    }

    /// Where records with a key of this hash may stand, newest first, at most `max`. Reads two small pieces of each
    /// file, of which there are few.
    pub(crate) fn candidates(&self, hash: u64, max: usize) -> Vec<Position> {
        let (mut found, frozen, chunks, runs) = {
            let state = self.state.lock();
            let (found, chunks) = state.tail.look(hash, max);
            (found, state.frozen.clone(), chunks, state.runs.clone())
        };
        let frozen = frozen.iter().flat_map(|frozen| frozen.chunks.iter().rev());
        for chunk in chunks.iter().rev().chain(frozen) {
            found.extend(tail::of_hash(chunk, hash).map(|entry| entry.position));
        }
        for run in runs.iter().rev() {
            if found.len() >= max {
                break;
            }
            match run.find(hash) {
                Ok(positions) => found.extend(positions),
                Err(error) => self.give_up(run, &error),
            }
        }
        found.dedup();
        found.truncate(max);
        found
    }

    /// A run that cannot be read: it and all newer ones are read again from the log.
    fn give_up(&self, run: &Arc<Run>, error: &io::Error) {
        let from = run.from;
        tracing::error!(%from, %error, "a file of the key index cannot be read; it is made anew from the log");
        let mut state = self.state.lock();
        let Some(at) = state.runs.iter().position(|present| Arc::ptr_eq(present, run)) else { return };
        let gone = state.runs.split_off(at);
        state.frozen = None;
        state.reach = from;
        state.tail = Tail::new(from);
        drop(state);
        for run in gone {
            run.remove(self.storage.as_ref());
        }
    }
}

#[cfg(test)]
mod tests;
