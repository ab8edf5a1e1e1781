//! What a snapshot says of an index: up to which offset, and by which bytes to know again what is on disk. So a start
//! need not read the log to trust the index, and notices a file that is missing or was damaged.

use super::{ConsumeQueue, ENTRY_BYTES, Entry};
use crate::Position;
use crate::codec::{Reader, put_u32, put_u64};
use crate::sync::atomic::Ordering;
use std::io;
use std::os::unix::fs::FileExt;

/// Entries read at a time.
const CHUNK_ENTRIES: u64 = 4_096;

/// Entries `[from, end)` of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub from: u64,
    pub end: u64,
    /// The highest position that they, or those before them, name.
    pub last: Position,
    /// CRC32C of their bytes.
    pub crc: u32,
}

/// One index, as a snapshot has it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexState {
    pub oldest: u64,
    pub end: u64,
    pub deadlines_end: u64,
    pub stretches: Vec<Stretch>,
}

impl IndexState {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.oldest, self.end, self.deadlines_end] {
            put_u64(out, number);
        }
        put_u32(out, self.stretches.len() as u32);
        for stretch in &self.stretches {
            for number in [stretch.from, stretch.end, stretch.last.0] {
                put_u64(out, number);
            }
            put_u32(out, stretch.crc);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let (oldest, end, deadlines_end) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let stretches = (0..reader.u32()?)
            .map(|_| {
                let (from, end, last) = (reader.u64()?, reader.u64()?, Position(reader.u64()?));
                Some(Stretch { from, end, last, crc: reader.u32()? })
            })
            .collect::<Option<_>>()?;
        Some(Self { oldest, end, deadlines_end, stretches })
    }
}

impl ConsumeQueue {
    /// Syncs what came since the last call, and says by what to know it again. Reads only that. One caller at a
    /// time; the dispatcher may go on.
    pub(crate) fn prove(&self) -> io::Result<IndexState> {
        let (oldest, end) = (self.oldest(), self.end());
        let mut proven = self.proven.lock().clone();
        proven.retain(|stretch| stretch.end > oldest);
        let mut from = proven.last().map_or(oldest, |last| last.end);
        while from < end {
            let base = self.base(from);
            let upto = end.min(base + self.file_entries);
            if proven.last().is_none_or(|last| self.base(last.from) != base) {
                // Its name has to be on disk as well.
                self.storage.sync_dir(&self.dir)?;
                let last = proven.last().map_or(Position(0), |last| last.last);
                proven.push(Stretch { from, end: from, last, crc: 0 });
            }
            let Some(last) = proven.last_mut() else { break };
            self.file(base, false)?.sync()?;
            self.extend(last, upto)?;
            from = upto;
        }
        self.proven.lock().clone_from(&proven);
        Ok(IndexState { oldest, end, deadlines_end: self.deadlines_end(), stretches: proven })
    }

    /// Takes over what a snapshot says, if it is what stands on disk. What lies wholly below `start`, where the log
    /// begins, may be gone. False when the index has to be made again.
    pub(crate) fn resume(&self, state: &IndexState, start: Position) -> io::Result<bool> {
        let mut kept: Vec<Stretch> = Vec::with_capacity(state.stretches.len());
        for stretch in state.stretches.iter().filter(|stretch| stretch.last >= start) {
            let hangs_together = kept.last().is_none_or(|last| last.end == stretch.from);
            let mut present = Stretch { end: stretch.from, crc: 0, ..*stretch };
            match self.extend(&mut present, stretch.end) {
                Ok(()) if present == *stretch && hangs_together => kept.push(present),
                Ok(()) => return Ok(false),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) =>
                {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        if kept.last().is_some_and(|last| last.end != state.end) {
            return Ok(false);
        }
        self.oldest
            .store(kept.first().map_or(state.end, |first| first.from.max(state.oldest)), Ordering::Release);
        self.end.store(state.end, Ordering::Release);
        self.deadlines_end.store(state.deadlines_end, Ordering::Release);
        *self.proven.lock() = kept;
        Ok(true)
    }

    /// Everything that [`Self::resume`] has taken over is taken back.
    pub(crate) fn forget(&self) {
        self.begin_at(0);
        self.deadlines_end.store(0, Ordering::Release);
        self.proven.lock().clear();
    }

    fn extend(&self, stretch: &mut Stretch, end: u64) -> io::Result<()> {
        let base = self.base(stretch.from);
        let file = self.file(base, false)?;
        let mut bytes = vec![0; CHUNK_ENTRIES as usize * ENTRY_BYTES];
        while stretch.end < end {
            let count = (end - stretch.end).min(CHUNK_ENTRIES);
            let bytes = &mut bytes[..count as usize * ENTRY_BYTES];
            file.file().read_exact_at(bytes, (stretch.end - base) * ENTRY_BYTES as u64)?;
            stretch.crc = crc32c::crc32c_append(stretch.crc, bytes);
            let positions = bytes.chunks_exact(ENTRY_BYTES).map(|entry| Entry::decode(entry).position);
            stretch.last = positions.fold(stretch.last, Position::max);
            stretch.end += count;
        }
        Ok(())
    }
}
