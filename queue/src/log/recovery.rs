//! Opening: load, survey, and put the folder into a state that new frames may follow. queue.md, "Recovery".
//!
//! Every step can be repeated: what is known to be durable is raised (checkpoint) only after what it covers is on
//! disk, and nothing is zeroed before the checkpoint says that it lies beyond the end.

use super::checkpoint::{self, Checkpoint, CheckpointFile, Stored};
use super::error::OpenError;
use super::frame::{FRAME_HEADER, FrameHeader, FrameKind};
use super::segment::{DIR, SEGMENT_HEADER, SEGMENT_MAX, SEGMENT_MIN, Segment, UNFINISHED};
use super::survey::{Damage, is_zero, survey};
use super::{LogOptions, Recovered, removal};
use crate::Position;
use crate::storage::Storage;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes moved at a time.
const CHUNK: u64 = 1 << 20;
const BLOCK: u64 = 4096;

/// A folder ready for appends.
pub(super) struct Ready {
    pub(super) log_id: u64,
    pub(super) recovered: Recovered,
    /// Segments up to the active one, which is the last of them.
    pub(super) segments: Vec<Arc<Segment>>,
    /// Empty ones after it.
    pub(super) prepared: Vec<Arc<Segment>>,
    pub(super) checkpoint: CheckpointFile,
    pub(super) log_start: u64,
}

/// Asked once for a log of this id that begins here: below which position nobody will read without verifying.
pub(crate) type Trusted<'a> = &'a mut dyn FnMut(u64, Position) -> Result<Option<Position>, OpenError>;

/// Recovers the log of a locked folder. What lies in segments wholly below `trusted` was known durable before and is
/// not read again.
pub(super) fn recover(
    storage: &dyn Storage,
    options: &LogOptions,
    trusted: Trusted<'_>,
) -> Result<Ready, OpenError> {
    let root = storage.root();
    let at = |path: &Path| {
        let path = root.join(path);
        move |source| OpenError::Io { path, source }
    };
    storage.sync_dir(Path::new("")).map_err(at(Path::new("")))?;
    storage.sync_dir(Path::new(DIR)).map_err(at(Path::new(DIR)))?;
    let unfinished = Path::new(DIR).join(UNFINISHED);
    match storage.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&unfinished)(error)),
        _ => {}
    }
    let mut bases = list_segments(storage).map_err(at(Path::new(DIR)))?;
    let (mut old, sequence) = match checkpoint::read(root)? {
        Stored::Sound(checkpoint, sequence) => (checkpoint, sequence),
        stored @ (Stored::Absent | Stored::Damaged) => {
            let fresh = bases.is_empty() && matches!(stored, Stored::Absent);
            if !fresh && !options.salvage {
                let file = root.join("checkpoint");
                return Err(OpenError::Corrupt { file, offset: 0, what: "no sound checkpoint" });
            }
            let log_id = if fresh { RandomState::new().hash_one("log id") } else { 0 };
            (Checkpoint { log_id, durable: 0, epoch: 0, log_start: 0, clean: false }, 0)
        }
    };
    let leftovers = split_leftovers(&mut bases, &old);
    let mut loaded = load(storage, &bases, &mut old, Some(options))?;
    let durable = old.durable.max(loaded.first().map_or(0, |segment| segment.start()));
    let trusted = match trusted(old.log_id, Position(old.log_start + SEGMENT_HEADER))? {
        Some(position) if position.0 <= old.durable && !options.salvage => position.0,
        _ => 0,
    };
    // Begun where frames lie before that position: the end of a full segment is the end of the log until one follows.
    let skipped = loaded.partition_point(|segment| segment.start() < trusted).saturating_sub(1);
    let found = survey(&loaded[skipped..], old.log_id, durable, old.clean, root)?;
    if let (Some(damage), false) = (found.damages.first(), options.salvage) {
        let Damage { file, offset, .. } = damage.clone();
        return Err(OpenError::Corrupt { file, offset, what: "bytes known to be durable do not read back" });
    }
    let epoch = old.epoch.max(found.epoch) + 1;
    let mut checkpoint = CheckpointFile::open(storage, sequence).map_err(at(Path::new("checkpoint")))?;
    let mut opened = Checkpoint { epoch, clean: false, ..old };
    if loaded.is_empty() {
        // The checkpoint comes first: segments without one are refused.
        checkpoint.write_both(&opened).map_err(at(Path::new("checkpoint")))?;
        storage.sync_dir(Path::new("")).map_err(at(Path::new("")))?;
        let (base, len) = (old.log_start, options.segment_bytes);
        let made = Segment::create(storage, base, len, old.log_id)
            .and_then(|made| made.file.fill(Segment::unfilled(len)))
            .and_then(|()| all_of(storage, base, len));
        loaded.push(Arc::new(made.map_err(at(&Segment::path_of(base)))?));
    }
    let end = found.end.max(loaded[0].start());
    let clean = old.clean && end == old.durable && found.damages.is_empty();
    if !clean {
        for damage in &found.damages {
            bridge(storage, &loaded, old.log_id, damage).map_err(at(Path::new(DIR)))?;
        }
        for segment in &loaded {
            let path = Segment::path_of(segment.base);
            resync(segment, found.known, end).map_err(at(&path))?;
        }
    }
    opened.durable = end;
    checkpoint.write_both(&opened).map_err(at(Path::new("checkpoint")))?;
    storage.sync_dir(Path::new("")).map_err(at(Path::new("")))?;
    // Not before: the checkpoint that was read may be in the page cache alone.
    removal::remove_files(storage, &leftovers).map_err(at(Path::new(DIR)))?;
    if !clean {
        for segment in &loaded {
            clear(segment, end).map_err(at(&Segment::path_of(segment.base)))?;
        }
    }
    // Fresh maps: those of the survey looked at bytes that are written again from here on.
    let ranges: Vec<_> = loaded.iter().map(|segment| (segment.base, segment.len)).collect();
    drop(loaded);
    let mut segments = Vec::with_capacity(ranges.len());
    let mut prepared = Vec::new();
    for (base, len) in ranges {
        let segment = Segment::open(storage, base, len, end.saturating_sub(base).max(SEGMENT_HEADER))
            .map_err(at(&Segment::path_of(base)))?;
        if segments.is_empty() || end > base { &mut segments } else { &mut prepared }.push(Arc::new(segment));
    }
    let recovered = Recovered {
        boot_epoch: epoch,
        start: Position(segments[0].start()),
        end: Position(end),
        clean,
        lost: found.damages.iter().map(|damage| damage.from..damage.to).collect(),
    };
    Ok(Ready { log_id: old.log_id, recovered, segments, prepared, checkpoint, log_start: opened.log_start })
}

/// Bases of the segments, ascending.
pub(super) fn list_segments(storage: &dyn Storage) -> io::Result<Vec<u64>> {
    let names = storage.list(Path::new(DIR))?;
    let mut bases: Vec<_> = names.iter().filter_map(|name| Segment::base_of(name)).collect();
    bases.sort_unstable();
    Ok(bases)
}

/// Takes out of `bases` those below the log's start: a removal was cut off.
pub(super) fn split_leftovers(bases: &mut Vec<u64>, checkpoint: &Checkpoint) -> Vec<u64> {
    let kept = bases.partition_point(|base| *base < checkpoint.log_start);
    bases.drain(..kept).collect()
}

/// Opens the segments and checks that they follow one another. `repair` gives the options when files may be
/// changed: a shortened file gets its length back (as zeros, which the survey then judges); with `salvage` also
/// damaged headers and missing segments are made anew. Without it nothing is written.
pub(super) fn load(
    storage: &dyn Storage,
    bases: &[u64],
    checkpoint: &mut Checkpoint,
    repair: Option<&LogOptions>,
) -> Result<Vec<Arc<Segment>>, OpenError> {
    let root = storage.root();
    let salvage = repair.is_some_and(|options| options.salvage);
    let corrupt = |base: u64, what| {
        Err(OpenError::Corrupt { file: root.join(Segment::path_of(base)), offset: 0, what })
    };
    if bases.is_empty() {
        let missing = checkpoint.durable > checkpoint.log_start + SEGMENT_HEADER;
        return if missing {
            corrupt(checkpoint.log_start, "all segments are missing")
        } else {
            Ok(Vec::new())
        };
    }
    let mut segments: Vec<Arc<Segment>> = Vec::with_capacity(bases.len());
    for (index, &base) in bases.iter().enumerate() {
        let path = Segment::path_of(base);
        let io = |source| OpenError::Io { path: root.join(&path), source };
        let expected = segments.last().map_or(checkpoint.log_start, |last| last.end());
        if base != expected {
            if base < expected {
                return corrupt(base, "segment overlaps the one before it");
            }
            if !salvage {
                return corrupt(expected, "segment is missing");
            }
            if index == 0 {
                checkpoint.log_start = base;
            } else {
                let mut at = expected;
                while at < base {
                    let len = (base - at).min(SEGMENT_MAX);
                    Segment::create(storage, at, len, checkpoint.log_id).map_err(io)?;
                    segments.push(Arc::new(all_of(storage, at, len).map_err(io)?));
                    at += len;
                }
            }
        }
        let file = storage.open(&path, false).map_err(io)?;
        let present = file.len().map_err(io)?;
        let header = Segment::read_header(file.file(), base, &root.join(&path))?;
        let header = header.filter(|header| checkpoint.log_id == 0 || header.log_id == checkpoint.log_id);
        let len = match header {
            Some(header) => {
                checkpoint.log_id = header.log_id;
                header.len
            }
            None if salvage && checkpoint.log_id != 0 => {
                // The newest may have been shortened, to nothing even.
                let own = repair.map_or(SEGMENT_MIN, |options| options.segment_bytes);
                let newest = || present.next_multiple_of(SEGMENT_MIN).clamp(own, SEGMENT_MAX);
                let len = bases.get(index + 1).map_or_else(newest, |next| next - base);
                if len > SEGMENT_MAX || !len.is_multiple_of(SEGMENT_MIN) {
                    return corrupt(base, "segment header is damaged, and the segment after it is misnamed");
                }
                Segment::write_header(&*file, base, len, checkpoint.log_id).map_err(io)?;
                file.sync().map_err(io)?;
                len
            }
            None => return corrupt(base, "segment header is damaged, or of another log"),
        };
        if present != len && repair.is_some() {
            file.allocate(len).map_err(io)?;
            file.sync().map_err(io)?;
        }
        segments.push(Arc::new(all_of(storage, base, len).map_err(io)?));
    }
    // The newest may be missing too.
    while let Some(end) = segments.last().map(|last| last.end()).filter(|end| *end < checkpoint.durable) {
        let Some(options) = repair.filter(|options| options.salvage) else {
            return corrupt(end, "segment is missing");
        };
        let io = |source| OpenError::Io { path: root.join(Segment::path_of(end)), source };
        Segment::create(storage, end, options.segment_bytes, checkpoint.log_id).map_err(io)?;
        segments.push(Arc::new(all_of(storage, end, options.segment_bytes).map_err(io)?));
    }
    Ok(segments)
}

/// A segment with all its bytes readable, while nothing writes.
fn all_of(storage: &dyn Storage, base: u64, len: u64) -> io::Result<Segment> {
    Segment::open(storage, base, len, u64::MAX)
}

/// Writes again what is sound but was not known to be on disk, and syncs: after a failed sync the page cache may
/// show what the disk does not have.
fn resync(segment: &Segment, known: u64, end: u64) -> io::Result<()> {
    let mut at = known.clamp(segment.base, segment.end()) / BLOCK * BLOCK;
    at = at.max(segment.base);
    let end = end.clamp(segment.base, segment.end());
    if at >= end {
        return Ok(());
    }
    while at < end {
        let upto = (at + CHUNK).min(end);
        let bytes = segment.bytes(at..upto).ok_or(io::ErrorKind::UnexpectedEof)?.to_vec();
        segment.file.write_at(at - segment.base, &[IoSlice::new(&bytes)])?;
        at = upto;
    }
    segment.file.sync()
}

/// Zeroes what lies at or after `end`, block by block where it is not zero yet, and syncs.
pub(super) fn clear(segment: &Segment, end: u64) -> io::Result<()> {
    static ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
    let mut at = end.max(segment.start());
    let mut touched = false;
    while at < segment.end() {
        let upto = ((at - segment.base) / BLOCK * BLOCK + BLOCK + segment.base).min(segment.end());
        let bytes = segment.bytes(at..upto).ok_or(io::ErrorKind::UnexpectedEof)?;
        if !is_zero(bytes) {
            let len = bytes.len();
            segment.file.write_at(at - segment.base, &[IoSlice::new(&ZEROS[..len])])?;
            touched = true;
        }
        at = upto;
    }
    if touched { segment.file.sync() } else { Ok(()) }
}

/// Covers a damaged range with skip frames, after saving its bytes beside the log.
fn bridge(storage: &dyn Storage, segments: &[Arc<Segment>], log_id: u64, damage: &Damage) -> io::Result<()> {
    let (from, to) = (damage.from.0, damage.to.0);
    let mut prev_end = from;
    for segment in segments.iter().filter(|segment| segment.base < to && from < segment.end()) {
        let start = from.max(segment.start());
        let end = to.min(segment.end());
        // Too small for a frame: only the unused rest of a segment is.
        if end.saturating_sub(start) < FRAME_HEADER as u64 {
            continue;
        }
        let bytes = segment.bytes(start..end).ok_or(io::ErrorKind::UnexpectedEof)?.to_vec();
        keep_copy(storage, start, &bytes)?;
        let header = FrameHeader {
            kind: FrameKind::Skip,
            payload_len: (end - start - FRAME_HEADER as u64) as u32,
            records: 0,
            base: start,
            prev_end,
            durable: 0,
            // A newer one would cut off the sound frames after it that are older.
            epoch: damage.epoch,
        };
        let mut head = [0; FRAME_HEADER];
        header.encode(log_id, &mut head);
        segment.file.write_at(start - segment.base, &[IoSlice::new(&head)])?;
        segment.file.sync()?;
        prev_end = end;
    }
    Ok(())
}

fn keep_copy(storage: &dyn Storage, position: u64, bytes: &[u8]) -> io::Result<()> {
    let dir = Path::new("salvage");
    storage.sync_dir(dir)?;
    let path: PathBuf = dir.join(format!("{position:020}"));
    // A salvage that crashed and runs again must not replace the evidence by its own skip frame.
    if storage.list(dir)?.iter().any(|name| Some(name.as_os_str()) == path.file_name()) {
        return Ok(());
    }
    let unfinished = path.with_extension("tmp");
    let file = storage.open(&unfinished, true)?;
    file.write_at(0, &[IoSlice::new(bytes)])?;
    file.sync()?;
    storage.rename(&unfinished, &path)?;
    storage.sync_dir(dir)
}
