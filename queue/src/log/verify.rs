//! A log at rest, for tools: what state it is in, and its records. Changes nothing; [`salvage`] does.

use super::checkpoint::{self, Checkpoint, Stored};
use super::error::{OpenError, ReadError};
use super::lock::FolderLock;
use super::record::Record;
use super::recovery;
use super::scan::{Limit, Scan};
use super::segment::{DIR, Segments};
use super::survey::{Damage, survey};
use super::{CommitLog, LogOptions};
use crate::Position;
use crate::index::DIR as INDEX_DIR;
use crate::storage::{DiskStorage, Storage};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What the bytes of a log say.
#[derive(Debug, Clone)]
pub struct VerifyReport {
    /// Segment files.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Sound commit frames.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
    /// Files below `start`: a removal was cut off; the next start removes them.
    pub leftovers: usize,
    /// First position kept.
    pub start: Position,
    /// After the last sound frame.
    pub end: Position,
    /// Everything below was known to be on disk.
    pub durable: Position,
    /// Boot epoch of the last process.
    pub epoch: u64,
    /// It was closed properly.
    pub clean: bool,
    /// There are bytes after `end`: a write that a crash cut off. Not damage: nobody was told of it, and the next
    /// start clears it.
    pub torn_tail: bool,
    /// Ranges below `durable` that do not read back.
    pub damages: Vec<Damage>,
    /// Ranges that a salvage gave up, oldest first; what stood in them is missing from the records. One that
    /// reaches over a segment's end is here as one range for each segment.
    pub given_up: Vec<Range<Position>>,
}

impl VerifyReport {
    /// Nothing that was known to be durable is damaged.
    pub fn is_sound(&self) -> bool {
        self.damages.is_empty()
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "segments   {} ({} bytes)", self.segments, self.bytes)?;
        writeln!(f, "frames     {}", self.frames)?;
        writeln!(f, "records    {}", self.records)?;
        writeln!(f, "positions  {} to {}, known durable to {}", self.start, self.end, self.durable)?;
        let closed = match (self.is_sound(), self.clean) {
            (false, _) => "damaged: the next start refuses",
            (true, true) => "closed properly",
            (true, false) => "not closed: the next start recovers",
        };
        writeln!(f, "last boot  {} ({closed})", self.epoch)?;
        if self.leftovers > 0 {
            writeln!(
                f,
                "left over  {} segments below the start; the next start removes them",
                self.leftovers
            )?;
        }
        if self.torn_tail {
            writeln!(f, "tail       a write was cut off at {}; nobody was told of it", self.end)?;
        }
        for Range { start, end } in &self.given_up {
            writeln!(f, "given up   {start} to {end}: by a salvage; what stood there is missing")?;
        }
        if self.damages.is_empty() {
            return write!(f, "sound");
        }
        for Damage { from, to, file, offset, .. } in &self.damages {
            writeln!(f, "DAMAGED    {from} to {to}: {} at byte {offset}", file.display())?;
        }
        write!(f, "DAMAGED in {} places; `--salvage` goes on without them", self.damages.len())
    }
}

/// A log that no process has open.
pub struct LogReader {
    segments: Segments,
    report: VerifyReport,
    _lock: FolderLock,
}

impl LogReader {
    /// Reads the whole log under `dir` once. Fails when a process has it open, or when so much is missing that
    /// there is nothing to report on.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        if !dir.join(DIR).is_dir() {
            return Err(OpenError::NotDataFolder { dir: dir.to_owned() });
        }
        let lock = FolderLock::shared(dir)?;
        let io = |source| OpenError::Io { path: dir.to_owned(), source };
        let storage = DiskStorage::new(dir).map_err(io)?;
        let mut found = match checkpoint::read(dir)? {
            Stored::Sound(checkpoint, _) => checkpoint,
            Stored::Absent | Stored::Damaged => {
                Checkpoint { log_id: 0, durable: 0, epoch: 0, log_start: 0, clean: false }
            }
        };
        let mut bases = recovery::list_segments(&storage).map_err(io)?;
        let leftovers = recovery::split_leftovers(&mut bases, &found).len();
        let list = recovery::load(&storage, &bases, &mut found, None)?;
        let start = list.first().map_or(0, |segment| segment.start());
        let surveyed = survey(&list, found.log_id, found.durable.max(start), found.clean, dir)?;
        let report = VerifyReport {
            segments: list.len(),
            bytes: list.iter().map(|segment| segment.len).sum(),
            frames: surveyed.frames,
            records: surveyed.records,
            leftovers,
            start: Position(start),
            end: Position(surveyed.end),
            durable: Position(surveyed.known),
            epoch: found.epoch.max(surveyed.epoch),
            clean: found.clean && surveyed.end == found.durable && surveyed.damages.is_empty(),
            torn_tail: surveyed.has_torn_tail(&list),
            damages: surveyed.damages,
            given_up: surveyed.given_up,
        };
        let segments = Segments::new(storage.root().to_owned(), found.log_id, list);
        Ok(Self { segments, report, _lock: lock })
    }

    /// What was found.
    pub fn report(&self) -> &VerifyReport {
        &self.report
    }

    /// All sound records in log order, damaged ranges left out.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, ReadError>> + '_ {
        let mut ranges = Vec::with_capacity(self.report.damages.len() + 1);
        let mut from = self.report.start;
        for damage in &self.report.damages {
            ranges.push(from..damage.from);
            from = damage.to;
        }
        ranges.push(from..self.report.end);
        let sound = ranges.into_iter().filter(|range| range.start < range.end);
        sound.flat_map(|Range { start, end }| Scan::new(&self.segments, start, Limit::Fixed(end.0)))
    }
}

/// Reads the whole log under `dir` and reports.
pub fn verify(dir: &Path) -> Result<VerifyReport, OpenError> {
    Ok(LogReader::open(dir)?.report)
}

/// Opens the log under `dir` knowingly without its damaged parts and closes it: afterwards it starts as usual. The
/// damaged bytes are kept in `salvage/`, named by their position. Answers what was lost.
pub fn salvage(dir: &Path) -> Result<Vec<Range<Position>>, OpenError> {
    if !dir.join(DIR).is_dir() {
        return Err(OpenError::NotDataFolder { dir: dir.to_owned() });
    }
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    let storage = DiskStorage::new(dir).map_err(io)?;
    {
        // It names what is given up below; without it a start reads the whole log, and makes it anew. First, so that it
        // is gone whenever something was given up.
        let _lock = FolderLock::exclusive(&storage)?;
        remove_index(&storage, Path::new(INDEX_DIR)).map_err(io)?;
    }
    let options = LogOptions { salvage: true, ..LogOptions::default() };
    let log = CommitLog::open(Arc::new(storage), &options)?;
    let lost = log.recovered().lost.clone();
    // What it did is already on disk; without the mark of a clean close the next start merely looks again.
    let _ = log.close();
    Ok(lost)
}

/// Removes the files of the queues' indexes, two folders down: topics, queues.
fn remove_index(storage: &DiskStorage, dir: &Path) -> io::Result<()> {
    for topic in storage.list(dir)? {
        for queue in storage.list(&dir.join(&topic))? {
            let dir = dir.join(&topic).join(queue);
            for name in storage.list(&dir)? {
                storage.remove(&dir.join(name))?;
            }
            storage.sync_dir(&dir)?;
        }
    }
    Ok(())
}
