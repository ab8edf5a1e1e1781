//! The checkpoint file: what is known to be durable, the boot epoch, and whether the last close was clean.
//! FORMAT.md, "Checkpoint". Two slots, written in turn, so that a torn write leaves the other.

use super::error::OpenError;
use super::frame::FORMAT_VERSION;
use super::record::{u32_at, u64_at};
use crate::storage::{Storage, StorageFile};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

const FILE: &str = "checkpoint";
const MAGIC: [u8; 8] = *b"TGCHECKP";
const SLOT: u64 = 4096;
const BYTES: usize = 64;
const CLEAN: u32 = 1;

/// What a checkpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) log_id: u64,
    /// Everything below is on disk.
    pub(super) durable: u64,
    /// Rises at every open.
    pub(super) epoch: u64,
    /// Base of the oldest segment kept.
    pub(super) log_start: u64,
    /// The log was closed at `durable`.
    pub(super) clean: bool,
}

impl Checkpoint {
    pub(super) fn encode(&self, sequence: u64) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&(if self.clean { CLEAN } else { 0 }).to_le_bytes());
        out[16..24].copy_from_slice(&self.log_id.to_le_bytes());
        out[24..32].copy_from_slice(&sequence.to_le_bytes());
        out[32..40].copy_from_slice(&self.durable.to_le_bytes());
        out[40..48].copy_from_slice(&self.epoch.to_le_bytes());
        out[48..56].copy_from_slice(&self.log_start.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn parse(bytes: &[u8; BYTES]) -> Option<(u32, u64, Self)> {
        if bytes[..8] != MAGIC || u32_at(bytes, 60)? != crc32c::crc32c(&bytes[..60]) {
            return None;
        }
        let checkpoint = Self {
            clean: u32_at(bytes, 12)? & CLEAN != 0,
            log_id: u64_at(bytes, 16)?,
            durable: u64_at(bytes, 32)?,
            epoch: u64_at(bytes, 40)?,
            log_start: u64_at(bytes, 48)?,
        };
        Some((u32_at(bytes, 8)?, u64_at(bytes, 24)?, checkpoint))
    }
}

/// What the checkpoint file of a folder holds.
pub(super) enum Stored {
    /// No file, or one that was being made.
    Absent,
    /// Neither slot is sound.
    Damaged,
    /// The newer sound slot, and its sequence number.
    Sound(Checkpoint, u64),
}

/// Reads the checkpoint under `root`, changing nothing.
pub(super) fn read(root: &Path) -> Result<Stored, OpenError> {
    let path = root.join(FILE);
    let bytes = match std::fs::File::open(&path).and_then(|file| read_slots(&file)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stored::Absent),
        Err(source) => return Err(OpenError::Io { path, source }),
    };
    let mut newest: Option<(Checkpoint, u64)> = None;
    for slot in &bytes {
        let Some((version, sequence, checkpoint)) = Checkpoint::parse(slot) else { continue };
        if version > FORMAT_VERSION {
            return Err(OpenError::NewerFormat { file: path, found: version, known: FORMAT_VERSION });
        }
        if newest.is_none_or(|(_, newest)| sequence > newest) {
            newest = Some((checkpoint, sequence));
        }
    }
    Ok(match newest {
        Some((checkpoint, sequence)) => Stored::Sound(checkpoint, sequence),
        None if bytes.iter().flatten().all(|byte| *byte == 0) => Stored::Absent,
        None => Stored::Damaged,
    })
}

fn read_slots(file: &std::fs::File) -> io::Result<[[u8; BYTES]; 2]> {
    let mut slots = [[0; BYTES]; 2];
    for (index, slot) in slots.iter_mut().enumerate() {
        match file.read_exact_at(slot, index as u64 * SLOT) {
            // Missing bytes read as zero: the file was being made.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => *slot = [0; BYTES],
            other => other?,
        }
    }
    Ok(slots)
}

/// The checkpoint file, open for writing.
pub(super) struct CheckpointFile {
    file: Arc<dyn StorageFile>,
    sequence: u64,
}

impl CheckpointFile {
    /// Opens or creates it; `sequence` is that of the newest sound slot.
    pub(super) fn open(storage: &dyn Storage, sequence: u64) -> io::Result<Self> {
        let file = storage.open(Path::new(FILE), true)?;
        if file.len()? != 2 * SLOT {
            file.allocate(2 * SLOT)?;
        }
        Ok(Self { file, sequence })
    }

    /// Writes into the older slot and syncs.
    pub(super) fn write(&mut self, checkpoint: &Checkpoint) -> io::Result<()> {
        self.sequence += 1;
        let bytes = checkpoint.encode(self.sequence);
        self.file.write_at(self.sequence % 2 * SLOT, &[IoSlice::new(&bytes)])?;
        self.file.sync()
    }

    /// Writes both slots, one after the other: what it says then survives damage of either.
    pub(super) fn write_both(&mut self, checkpoint: &Checkpoint) -> io::Result<()> {
        self.write(checkpoint)?;
        self.write(checkpoint)
    }
}
