//! A run: the sorted entries of one stretch of the log in a file that is written once and never changed.
//!
//! A directory behind the entries tells for each value of their hashes' upper bits where those entries end, and their
//! checksum: a look-up reads two words of the directory, and the few entries between.

use super::entry::{ENTRY_BYTES, Entry, SAME_MAX};
use crate::Position;
use crate::storage::{Storage, StorageFile};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const DIR: &str = "keys";
const MAGIC: &[u8; 8] = b"TGKEYRUN";
const VERSION: u32 = 1;
const HEADER: usize = 64;
/// Entries that share their upper bits, on average.
const SHARED: u64 = 128;
const SLOT_BYTES: usize = 8;
/// Bytes of one write.
const WRITE_BYTES: usize = 1 << 20;

/// An open run.
pub(super) struct Run {
    /// It holds the keys of the log from here …
    pub(super) from: Position,
    /// … up to here.
    pub(super) to: Position,
    pub(super) entries: u64,
    bits: u32,
    path: PathBuf,
    file: Arc<dyn StorageFile>,
}

impl Run {
    /// Opens a file when it is a whole run of this log, and was given its name because it is; what it holds is checked when it is read.
    pub(super) fn open(storage: &dyn Storage, path: PathBuf, log_id: u64) -> io::Result<Option<Self>> {
        let file = storage.open(&path, false)?;
        let mut head = [0; HEADER];
        let len = file.len()?;
        if len < HEADER as u64 {
            return Ok(None);
        }
        file.file().read_exact_at(&mut head, 0)?;
        let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let half = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let sound = head[..8] == *MAGIC
            && half(HEADER - 4) == crc32c::crc32c(&head[..HEADER - 4])
            && (half(8), half(12)) == (VERSION, HEADER as u32)
            && word(16) == log_id;
        let (from, to, entries, bits) = (Position(word(24)), Position(word(32)), word(40), half(48));
        let whole =
            || len == directory_at(entries) + ((SLOT_BYTES as u64) << bits) && path == path_of(&(from..to));
        let possible = bits < 32 && entries <= len;
        Ok((sound && possible && whole()).then_some(Self { from, to, entries, bits, path, file }))
    }

    /// Writes a run from at most `entries_max` sorted entries; it is on disk when this returns. Of one hash the newest
    /// [`SAME_MAX`] are kept.
    pub(super) fn write(
        storage: &dyn Storage,
        log_id: u64,
        stretch: Range<Position>,
        entries_max: u64,
        sorted: impl Iterator<Item = io::Result<Entry>>,
    ) -> io::Result<Self> {
        let temporary = Path::new(DIR).join("next.tmp");
        let file = match storage.open(&temporary, true) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                storage.sync_dir(Path::new(DIR))?;
                storage.open(&temporary, true)?
            }
            other => other?,
        };
        // A crash may have left a longer one behind.
        file.allocate(0)?;
        let bits = (entries_max / SHARED).checked_ilog2().unwrap_or(0);
        let mut writer = Writer::new(file.as_ref(), bits);
        let (mut last, mut same) = (None, 0);
        for entry in sorted {
            let entry = entry?;
            same = if last == Some(entry.hash) { same + 1 } else { 0 };
            last = Some(entry.hash);
            if same < SAME_MAX {
                writer.add(entry)?;
            }
        }
        let entries = writer.finish()?;
        let mut head = [0; HEADER];
        head[..8].copy_from_slice(MAGIC);
        head[8..12].copy_from_slice(&VERSION.to_le_bytes());
        head[12..16].copy_from_slice(&(HEADER as u32).to_le_bytes());
        for (at, word) in [(16, log_id), (24, stretch.start.0), (32, stretch.end.0), (40, entries)] {
            head[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        head[48..52].copy_from_slice(&bits.to_le_bytes());
        let crc = crc32c::crc32c(&head[..HEADER - 4]);
        head[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
        file.write_at(0, &[IoSlice::new(&head)])?;
        file.sync()?;
        let path = path_of(&stretch);
        storage.rename(&temporary, &path)?;
        storage.sync_dir(Path::new(DIR))?;
        Ok(Self { from: stretch.start, to: stretch.end, entries, bits, path, file })
    }

    /// Where messages of this hash stand, newest first.
    pub(super) fn find(&self, hash: u64) -> io::Result<Vec<Position>> {
        let shared = self.shared(slot_of(hash, self.bits))?;
        Ok(super::tail::of_hash(&shared, hash).map(|entry| entry.position).collect())
    }

    /// All entries, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = io::Result<Entry>> + '_ {
        (0..1u64 << self.bits).flat_map(|slot| {
            let (entries, error) = match self.shared(slot) {
                Ok(entries) => (entries, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            entries.into_iter().map(Ok).chain(error)
        })
    }

    /// Deletes the file; who has it open reads on. What cannot be deleted now is at the next start.
    pub(super) fn remove(&self, storage: &dyn Storage) {
        if let Err(error) = storage.remove(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "file of the key index is not removed");
        }
    }

    /// The entries that share these upper bits.
    fn shared(&self, slot: u64) -> io::Result<Vec<Entry>> {
        let damaged =
            || io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", self.path.display()));
        let mut slots = [0; 2 * SLOT_BYTES];
        let at = directory_at(self.entries) + slot * SLOT_BYTES as u64;
        // The one before tells where they begin.
        let before = if slot == 0 { SLOT_BYTES } else { 0 };
        self.file.file().read_exact_at(&mut slots[before..], at - (SLOT_BYTES - before) as u64)?;
        let half = |at: usize| u32::from_le_bytes(slots[at..at + 4].try_into().expect("four bytes"));
        let (start, end) = (u64::from(half(0)), u64::from(half(SLOT_BYTES)));
        if start > end || end > self.entries {
            return Err(damaged());
        }
        let mut bytes = vec![0; (end - start) as usize * ENTRY_BYTES];
        self.file.file().read_exact_at(&mut bytes, HEADER as u64 + start * ENTRY_BYTES as u64)?;
        if half(SLOT_BYTES + 4) != checksum(slot, &bytes) {
            return Err(damaged());
        }
        Ok(bytes.chunks_exact(ENTRY_BYTES).map(Entry::decode).collect())
    }
}

fn path_of(stretch: &Range<Position>) -> PathBuf {
    Path::new(DIR).join(format!("{:020}-{:020}", stretch.start.0, stretch.end.0))
}

fn directory_at(entries: u64) -> u64 {
    HEADER as u64 + entries * ENTRY_BYTES as u64
}

fn slot_of(hash: u64, bits: u32) -> u64 {
    hash.checked_shr(u64::BITS - bits).unwrap_or(0)
}

fn checksum(slot: u64, entries: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&slot.to_le_bytes()), entries)
}

/// Writes entries, then their directory.
struct Writer<'a> {
    file: &'a dyn StorageFile,
    bits: u32,
    at: u64,
    buffer: Vec<u8>,
    directory: Vec<u8>,
    slots: u64,
    entries: u64,
    crc: u32,
}

impl<'a> Writer<'a> {
    fn new(file: &'a dyn StorageFile, bits: u32) -> Self {
        let (at, buffer, directory) = (HEADER as u64, Vec::with_capacity(WRITE_BYTES), Vec::new());
        Self { file, bits, at, buffer, directory, slots: 0, entries: 0, crc: checksum(0, &[]) }
    }

    fn add(&mut self, entry: Entry) -> io::Result<()> {
        while self.slots < slot_of(entry.hash, self.bits) {
            self.close_slot();
        }
        let bytes = entry.encode();
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        self.buffer.extend_from_slice(&bytes);
        self.entries += 1;
        if self.buffer.len() >= WRITE_BYTES { self.write_buffer() } else { Ok(()) }
    }

    fn close_slot(&mut self) {
        self.directory.extend_from_slice(&(self.entries as u32).to_le_bytes());
        self.directory.extend_from_slice(&self.crc.to_le_bytes());
        self.slots += 1;
        self.crc = checksum(self.slots, &[]);
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        self.file.write_at(self.at, &[IoSlice::new(&self.buffer)])?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        while self.slots < 1 << self.bits {
            self.close_slot();
        }
        self.write_buffer()?;
        self.file.write_at(self.at, &[IoSlice::new(&self.directory)])?;
        Ok(self.entries)
    }
}

/// A file of any bytes, its header's checksum made right first: opened, looked up in, read through.
#[cfg(feature = "testing")]
pub(crate) fn fuzz(bytes: &[u8], storage: &dyn Storage) {
    let Some((head, _)) = bytes.split_first_chunk::<HEADER>() else { return };
    let mut bytes = bytes.to_vec();
    let crc = crc32c::crc32c(&head[..HEADER - 4]);
    bytes[HEADER - 4..HEADER].copy_from_slice(&crc.to_le_bytes());
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let path = path_of(&(Position(word(24))..Position(word(32))));
    storage.sync_dir(Path::new(DIR)).expect("a healthy disk");
    let file = storage.open(&path, true).expect("a healthy disk");
    file.write_at(0, &[IoSlice::new(&bytes)]).expect("a healthy disk");
    if let Some(run) = Run::open(storage, path.clone(), word(16)).expect("a healthy disk") {
        let entries: Result<Vec<_>, _> = run.iter().collect();
        if let Ok(entries) = entries {
            assert_eq!(entries.len() as u64, run.entries, "all entries have their place");
        }
        for hash in [0, 1, u64::MAX, word(16), 1 << 63] {
            let _ = run.find(hash);
        }
    }
    storage.remove(&path).expect("a healthy disk");
}

/// The bytes of a run, to begin with.
#[cfg(feature = "testing")]
pub(crate) fn sample(storage: &dyn Storage) -> Vec<u8> {
    let entries = (0..300u64)
        .map(|n| Ok(Entry { hash: n / 2 * 0x00D1_B54A_32D1_92ED, position: Position(4_096 + n * 8) }));
    let run = Run::write(storage, 7, Position(64)..Position(9_000), 300, entries).expect("a healthy disk");
    std::fs::read(storage.root().join(&run.path)).expect("it is there")
}
