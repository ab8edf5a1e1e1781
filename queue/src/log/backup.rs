//! A copy of a log that another process may be writing to. Nothing is asked of that process.
//!
//! The segments are opened first, so that what is removed meanwhile is still copied. They are read last, after all
//! that rests on the log: what those files speak of is in the copy. A write that goes on while its bytes are read is cut
//! off like the torn tail that it looks like; then the copy's own checkpoint says where it ends, last of all.

use super::checkpoint::{self, Checkpoint, CheckpointFile, Stored};
use super::error::OpenError;
use super::recovery;
use super::segment::{DIR, Segment};
use super::survey::sound_end;
use crate::Position;
use crate::storage::Storage;
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Looks for all segments at one instant; each retry means that one was removed meanwhile.
const HOLD_TRIES: usize = 20;
/// Looks at the end of a log that is being written. Each that finds it further on could be the last.
const END_TRIES: usize = 8;
/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;

/// A log as it was when this was made; it stays readable whatever is removed.
pub(crate) struct Held {
    dir: PathBuf,
    checkpoint: Checkpoint,
    segments: Vec<HeldSegment>,
}

struct HeldSegment {
    base: u64,
    len: u64,
    file: File,
}

/// What was copied of a log.
pub(crate) struct CopiedLog {
    pub(crate) segments: usize,
    pub(crate) bytes: u64,
    pub(crate) range: Range<Position>,
}

impl Held {
    pub(crate) fn new(dir: &Path) -> Result<Self, OpenError> {
        if !dir.join(DIR).is_dir() {
            return Err(OpenError::NotDataFolder { dir: dir.to_owned() });
        }
        for _ in 0..HOLD_TRIES {
            let Stored::Sound(checkpoint, _) = checkpoint::read(dir)? else {
                let file = dir.join("checkpoint");
                return Err(OpenError::Corrupt { file, offset: 0, what: "no sound checkpoint" });
            };
            let mut held = Self { dir: dir.to_owned(), checkpoint, segments: Vec::new() };
            match held.take(checkpoint.log_start) {
                Ok(()) if !held.segments.is_empty() => return Ok(held),
                // The beginning was removed between two looks.
                Ok(()) => {}
                Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let file = dir.join(Segment::path_of(self::start_of(dir)));
        Err(OpenError::Corrupt { file, offset: 0, what: "segment is missing" })
    }

    /// Opens the segments from `base` on that follow one another, as far as there are any.
    fn take(&mut self, mut base: u64) -> Result<(), OpenError> {
        let folder = self.dir.join(DIR);
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        let names = std::fs::read_dir(&folder).map_err(io(&folder))?;
        let names = names.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect::<io::Result<Vec<_>>>();
        let mut bases: Vec<u64> =
            names.map_err(io(&folder))?.iter().filter_map(|name| Segment::base_of(name)).collect();
        bases.sort_unstable();
        bases.retain(|found| *found >= base);
        for found in bases {
            // What is missing here was made, or removed, while the names were read; if not, the end says so.
            if found != base {
                break;
            }
            let path = self.dir.join(Segment::path_of(found));
            let file = File::open(&path).map_err(io(&path))?;
            let header = Segment::read_header(&file, base, &path)?;
            let Some(header) = header.filter(|header| header.log_id == self.checkpoint.log_id) else {
                let what = "segment header is damaged, or of another log";
                return Err(OpenError::Corrupt { file: path, offset: 0, what });
            };
            self.segments.push(HeldSegment { base, len: header.len, file });
            base += header.len;
        }
        Ok(())
    }

    /// Copies all that is there by now into an empty folder. The copy's log is closed properly at its end.
    pub(crate) fn copy_to(mut self, to: &dyn Storage) -> Result<CopiedLog, OpenError> {
        let at = |path: &Path| {
            let path = to.root().join(path);
            move |source| OpenError::Io { path, source }
        };
        // What came since: files that were copied before this may rest on it.
        let next = self.segments.last().map_or(self.checkpoint.log_start, |last| last.base + last.len);
        self.take(next)?;
        to.sync_dir(Path::new(DIR)).map_err(at(Path::new(DIR)))?;
        let (mut copied_to, mut tries) = (0, 0);
        let end = loop {
            for segment in &self.segments {
                self.copy_segment(segment, copied_to, to)?;
            }
            let copies = self.open_copies(to)?;
            let found = sound_end(&copies, self.checkpoint.log_id, to.root())?;
            tries += 1;
            if !found.goes_on || tries == END_TRIES {
                break found;
            }
            if tries > 1 && found.end == copied_to {
                return Err(self.damaged_at(found.end));
            }
            // Frames behind it know it as durable: its write was under way when it was read, or it is damaged.
            copied_to = found.end;
        };
        if end.end < self.checkpoint.durable {
            return Err(self.damaged_at(end.end));
        }
        let (mut segments, mut bytes) = (0, 0);
        for (index, copy) in self.open_copies(to)?.into_iter().enumerate() {
            let path = Segment::path_of(copy.base);
            if index > 0 && end.end <= copy.base {
                // Made ahead of need.
                to.remove(&path).map_err(at(&path))?;
                continue;
            }
            recovery::clear(&copy, end.end).and_then(|()| copy.file.sync()).map_err(at(&path))?;
            segments += 1;
            bytes += copy.len;
        }
        to.sync_dir(Path::new(DIR)).map_err(at(Path::new(DIR)))?;
        let epoch = self.checkpoint.epoch.max(end.epoch);
        let closed = Checkpoint { durable: end.end, epoch, clean: true, ..self.checkpoint };
        CheckpointFile::open(to, 0)
            .and_then(|mut file| file.write_both(&closed))
            .and_then(|()| to.sync_dir(Path::new("")))
            .map_err(at(Path::new("checkpoint")))?;
        let start = self.segments.first().map_or(0, |first| first.base + super::segment::SEGMENT_HEADER);
        Ok(CopiedLog { segments, bytes, range: Position(start)..Position(end.end) })
    }

    /// Copies the bytes of a segment from position `from` on.
    fn copy_segment(&self, segment: &HeldSegment, from: u64, to: &dyn Storage) -> Result<(), OpenError> {
        let path = Segment::path_of(segment.base);
        let reading = |source| OpenError::Io { path: self.dir.join(&path), source };
        let writing = |source| OpenError::Io { path: to.root().join(&path), source };
        let mut offset = from.saturating_sub(segment.base).min(segment.len);
        let copy = to.open(&path, true).map_err(writing)?;
        let mut buffer = vec![0; CHUNK];
        while offset < segment.len {
            let part = CHUNK.min((segment.len - offset) as usize);
            segment.file.read_exact_at(&mut buffer[..part], offset).map_err(reading)?;
            copy.write_at(offset, &[IoSlice::new(&buffer[..part])]).map_err(writing)?;
            offset += part as u64;
        }
        copy.sync().map_err(writing)
    }

    fn open_copies(&self, to: &dyn Storage) -> Result<Vec<Arc<Segment>>, OpenError> {
        let open = |held: &HeldSegment| {
            Segment::open(to, held.base, held.len, u64::MAX)
                .map(Arc::new)
                .map_err(|source| OpenError::Io { path: to.root().join(Segment::path_of(held.base)), source })
        };
        self.segments.iter().map(open).collect()
    }

    fn damaged_at(&self, position: u64) -> OpenError {
        let segment = self.segments.iter().rfind(|segment| segment.base <= position);
        let base = segment.map_or(0, |segment| segment.base);
        let what = "bytes known to be durable do not read back";
        OpenError::Corrupt { file: self.dir.join(Segment::path_of(base)), offset: position - base, what }
    }
}

/// Makes a folder one that no log starts from: its checkpoint is none until the copy is whole.
pub(crate) fn mark_unfinished(to: &dyn Storage) -> Result<(), OpenError> {
    const TEXT: &[u8] = b"A backup that is not finished. No gateway starts from this folder.\n";
    let path = Path::new("checkpoint");
    let mark = || {
        let file = to.open(path, true)?;
        file.write_at(0, &[IoSlice::new(TEXT)])?;
        file.sync()?;
        to.sync_dir(Path::new(""))
    };
    mark().map_err(|source| OpenError::Io { path: to.root().join(path), source })
}

fn start_of(dir: &Path) -> u64 {
    match checkpoint::read(dir) {
        Ok(Stored::Sound(checkpoint, _)) => checkpoint.log_start,
        _ => 0,
    }
}
