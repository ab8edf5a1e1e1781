//! The newest entries, in memory: sorted chunks, and the one that grows.

use super::entry::Entry;
use crate::Position;
use std::sync::Arc;

/// Entries of a sorted chunk.
const CHUNK: usize = 4_096;

/// Sorted entries of one stretch of the log.
pub(super) type Chunk = Arc<[Entry]>;

/// What came since the last run.
pub(super) struct Tail {
    /// Where it begins in the log.
    pub(super) from: Position,
    /// Oldest first.
    sealed: Vec<Chunk>,
    sealed_len: usize,
    /// In the order of the log.
    open: Vec<Entry>,
}

impl Tail {
    pub(super) fn new(from: Position) -> Self {
        Self { from, sealed: Vec::new(), sealed_len: 0, open: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len() + self.sealed_len
    }

    /// `entries` come behind all that are here.
    pub(super) fn extend(&mut self, entries: &[Entry]) {
        self.open.extend_from_slice(entries);
        if self.open.len() >= CHUNK {
            self.seal();
        }
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.open.sort_unstable();
            self.sealed_len += self.open.len();
            self.sealed.push(self.open.as_slice().into());
            self.open.clear();
        }
    }

    /// Everything, as sorted chunks.
    pub(super) fn take(&mut self, next_from: Position) -> Vec<Chunk> {
        self.seal();
        std::mem::replace(self, Self::new(next_from)).sealed
    }

    /// Where messages of this hash stand, the newest first, as far as the chunk that grows tells; and the others.
    pub(super) fn look(&self, hash: u64, max: usize) -> (Vec<Position>, Vec<Chunk>) {
        let newest = self.open.iter().rev().filter(|entry| entry.hash == hash);
        (newest.take(max).map(|entry| entry.position).collect(), self.sealed.clone())
    }
}

/// Those of one hash, the newest first.
pub(super) fn of_hash(chunk: &[Entry], hash: u64) -> impl Iterator<Item = &Entry> {
    let first = chunk.partition_point(|entry| entry.hash < hash);
    chunk[first..].iter().take_while(move |entry| entry.hash == hash)
}
