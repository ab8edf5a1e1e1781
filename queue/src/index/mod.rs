//! ConsumeQueue: where the messages of one queue of one topic stand in the log. FORMAT.md, "ConsumeQueue".
//!
//! Derived from the log: written by the dispatcher, synced only for a snapshot, rewritten where it disagrees after
//! a crash. Read with positioned reads, so its memory does not grow with the number of messages.

mod entry;
mod kept;
mod proof;

pub(crate) use entry::{ENTRY_BYTES, Entry, tag_hash};
pub(crate) use proof::{IndexState, Stretch};

use crate::storage::{Storage, StorageFile};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use smallvec::SmallVec;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Folder of the indexes; in it one of each topic, in that one of each queue.
pub(crate) const DIR: &str = "consumequeue";
/// Entries of one file.
const FILE_ENTRIES: u64 = 300_000;
/// Entries of one read, at most.
pub(crate) const READ_MAX: usize = 64;
/// Files of one queue that are kept open.
const OPEN_MAX: usize = 4;

/// Entries as read.
pub(crate) type Entries = SmallVec<[Entry; READ_MAX]>;

/// Files by their first offset; the one opened longest ago makes room.
type OpenFiles = SmallVec<[(u64, Arc<dyn StorageFile>); OPEN_MAX]>;

/// Index of one queue of a topic. One writer (the dispatcher), any number of readers.
pub(crate) struct ConsumeQueue {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    file_entries: u64,
    /// Files get their space in steps of so many bytes, one half step ahead of need.
    step_bytes: u64,
    /// First offset whose message is kept.
    oldest: AtomicU64,
    /// One past the newest offset that may be seen.
    end: AtomicU64,
    /// One past the newest offset whose message has a deadline.
    deadlines_end: AtomicU64,
    /// No file below this one is left.
    trimmed: AtomicU64,
    /// What is on disk for sure, by ascending offsets.
    proven: Mutex<Vec<Stretch>>,
    open: Mutex<OpenFiles>,
}

impl ConsumeQueue {
    /// An index without entries; the dispatcher fills it from the log.
    pub(crate) fn new(storage: Arc<dyn Storage>, topic: &str, queue: u32, step_bytes: u64) -> Self {
        Self {
            storage,
            dir: [DIR, topic, &queue.to_string()].iter().collect(),
            file_entries: FILE_ENTRIES,
            step_bytes,
            oldest: AtomicU64::new(0),
            end: AtomicU64::new(0),
            deadlines_end: AtomicU64::new(0),
            trimmed: AtomicU64::new(0),
            proven: Mutex::default(),
            open: Mutex::default(),
        }
    }

    pub(crate) fn oldest(&self) -> u64 {
        self.oldest.load(Ordering::Acquire)
    }

    /// One past the newest durable offset.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// The log begins with this offset of the queue.
    pub(crate) fn begin_at(&self, offset: u64) {
        self.oldest.store(offset, Ordering::Release);
        self.end.store(offset, Ordering::Release);
    }

    /// Lets readers see what was written below `end`.
    pub(crate) fn publish(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// One past the newest offset whose message has a deadline, or more.
    pub(crate) fn deadlines_end(&self) -> u64 {
        self.deadlines_end.load(Ordering::Acquire)
    }

    /// The message of this offset has a deadline.
    pub(crate) fn note_deadline(&self, offset: u64) {
        self.deadlines_end.fetch_max(offset + 1, Ordering::AcqRel);
    }

    /// Reads up to `max` entries from `from` on, no more than [`READ_MAX`] and none of a second file.
    pub(crate) fn read(&self, from: u64, max: usize) -> io::Result<Entries> {
        let (end, base) = (self.end(), self.base(from));
        let until = end.min(base + self.file_entries);
        if from < self.oldest() || from >= until {
            return Ok(Entries::new());
        }
        let count = ((until - from) as usize).min(max).min(READ_MAX);
        let mut bytes = [0u8; READ_MAX * ENTRY_BYTES];
        let bytes = &mut bytes[..count * ENTRY_BYTES];
        let file = match self.file(base, false) {
            // Retention was quicker than this reader.
            Err(error) if error.kind() == io::ErrorKind::NotFound && from < self.oldest() => {
                return Ok(Entries::new());
            }
            other => other?,
        };
        file.file().read_exact_at(bytes, (from - base) * ENTRY_BYTES as u64)?;
        Ok(bytes.chunks_exact(ENTRY_BYTES).map(Entry::decode).collect())
    }

    /// The entry of one message.
    pub(crate) fn entry(&self, offset: u64) -> io::Result<Option<Entry>> {
        Ok(self.read(offset, 1)?.first().copied())
    }

    /// Writes encoded entries from `from` on; nobody sees them before [`Self::publish`]. With `compare`, what
    /// stands there already is left alone.
    pub(crate) fn write(&self, from: u64, entries: &[u8], compare: bool) -> io::Result<()> {
        let count = (entries.len() / ENTRY_BYTES) as u64;
        let allocated = self.allocate(from, count);
        // What a recovery finds in place needs no space: a full disk must not keep the queue from opening.
        if !compare {
            allocated?;
        }
        let (mut from, mut rest) = (from, entries);
        while !rest.is_empty() {
            let base = self.base(from);
            let room = (base + self.file_entries - from) as usize * ENTRY_BYTES;
            let (part, later) = rest.split_at(room.min(rest.len()));
            let (file, at) = (self.file(base, true)?, (from - base) * ENTRY_BYTES as u64);
            if !(compare && stands_there(file.as_ref(), at, part)) {
                file.write_at(at, &[IoSlice::new(part)])?;
            }
            from += (part.len() / ENTRY_BYTES) as u64;
            rest = later;
        }
        Ok(())
    }

    /// Makes sure that there is space for messages to come: half a step. False when the disk has none.
    pub(crate) fn make_room(&self) -> bool {
        self.allocate(self.end(), self.step_bytes / 2 / ENTRY_BYTES as u64).is_ok()
    }

    /// Gives the files space for `count` entries from `from` on, in whole steps.
    fn allocate(&self, mut from: u64, count: u64) -> io::Result<()> {
        let until = from + count;
        while from < until {
            let base = self.base(from);
            let upto = until.min(base + self.file_entries);
            let need = (upto - base) * ENTRY_BYTES as u64;
            let file = self.file(base, true)?;
            if file.len()? < need {
                let whole = self.file_entries * ENTRY_BYTES as u64;
                file.allocate(need.next_multiple_of(self.step_bytes).min(whole))?;
            }
            from = upto;
        }
        Ok(())
    }

    fn base(&self, offset: u64) -> u64 {
        offset / self.file_entries * self.file_entries
    }

    fn path(&self, base: u64) -> PathBuf {
        self.dir.join(format!("{base:020}"))
    }

    fn file(&self, base: u64, create: bool) -> io::Result<Arc<dyn StorageFile>> {
        let mut open = self.open.lock();
        if let Some(at) = open.iter().position(|&(present, _)| present == base) {
            return Ok(Arc::clone(&open[at].1));
        }
        let path = self.path(base);
        let file = match self.storage.open(&path, create) {
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => {
                self.storage.sync_dir(&self.dir)?;
                self.storage.open(&path, true)?
            }
            other => other?,
        };
        if open.len() == OPEN_MAX {
            open.remove(0);
        }
        open.push((base, Arc::clone(&file)));
        Ok(file)
    }
}

fn stands_there(file: &dyn StorageFile, at: u64, part: &[u8]) -> bool {
    let mut present = vec![0; part.len()];
    file.file().read_exact_at(&mut present, at).is_ok() && present == part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Position;
    use crate::storage::DiskStorage;

    fn entry(offset: u64) -> Entry {
        Entry { position: Position(offset * 100), size: offset as u32 + 1, tag_hash: !offset }
    }

    fn encoded(offsets: std::ops::Range<u64>) -> Vec<u8> {
        offsets.flat_map(|offset| entry(offset).encode()).collect()
    }

    fn index(dir: &std::path::Path, file_entries: u64) -> ConsumeQueue {
        let storage = Arc::new(DiskStorage::new(dir).unwrap());
        ConsumeQueue { file_entries, ..ConsumeQueue::new(storage, "orders", 3, ENTRY_BYTES as u64) }
    }

    #[test]
    fn entries_span_files_and_are_seen_only_when_published() {
        let dir = tempfile::tempdir().unwrap();
        let index = index(dir.path(), 10);
        index.write(0, &encoded(0..75), false).unwrap();
        assert!(index.read(0, 10).unwrap().is_empty());
        index.publish(75);
        let mut at = 0;
        while at < 75 {
            let entries = index.read(at, 7).unwrap();
            assert!(!entries.is_empty());
            for found in entries {
                assert_eq!(found, entry(at));
                at += 1;
            }
        }
        assert!(index.read(75, 1).unwrap().is_empty());
        assert_eq!(std::fs::read_dir(dir.path().join("consumequeue/orders/3")).unwrap().count(), 8);
        assert!(index.open.lock().len() <= OPEN_MAX);
    }

    #[test]
    fn an_index_that_begins_later_has_nothing_before() {
        let dir = tempfile::tempdir().unwrap();
        let index = index(dir.path(), 10);
        index.begin_at(23);
        index.write(23, &encoded(23..26), true).unwrap();
        index.publish(26);
        assert!(index.read(22, 1).unwrap().is_empty());
        assert_eq!(index.entry(23).unwrap(), Some(entry(23)));
    }
}
