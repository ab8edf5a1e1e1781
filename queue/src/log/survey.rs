//! What a log's bytes say: how far the frames hang together, what was known to be durable, what is damaged.
//! Only reads; recovery and `verify` decide and act on it.

use super::error::OpenError;
use super::frame::{FORMAT_VERSION, FRAME_HEADER, FRAME_MAGIC, Found, FrameHeader, FrameKind};
use super::record::{self, RecordView};
use super::segment::Segment;
use crate::Position;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A range that was known to be durable and does not read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// First damaged position.
    pub from: Position,
    /// First position that is sound again, or where the log ends.
    pub to: Position,
    /// File in which the damage begins.
    pub file: PathBuf,
    /// Byte of that file.
    pub offset: u64,
    /// Boot epoch of the sound frame before it, 0 at the start of the log.
    pub epoch: u64,
}

/// The result of reading a whole log.
#[derive(Debug)]
pub(super) struct Survey {
    /// End of the log: after the last frame that hangs together with those before it.
    pub(super) end: u64,
    /// Everything below was known to be durable. Never above `end`.
    pub(super) known: u64,
    /// Newest boot epoch seen.
    pub(super) epoch: u64,
    pub(super) frames: u64,
    pub(super) records: u64,
    pub(super) damages: Vec<Damage>,
    /// What skip frames cover, headers included.
    pub(super) given_up: Vec<Range<Position>>,
}

impl Survey {
    /// Is there anything but zeros after the end?
    pub(super) fn has_torn_tail(&self, segments: &[Arc<Segment>]) -> bool {
        segments.iter().any(|segment| {
            let end = segment.base + segment.map.len() as u64;
            let start = self.end.max(segment.start());
            start < end && segment.bytes(start..end).is_some_and(|bytes| !is_zero(bytes))
        })
    }
}

/// Reads everything. `durable` is what the checkpoint knows; `clean`: nothing was written above it.
pub(super) fn survey(
    segments: &[Arc<Segment>],
    log_id: u64,
    durable: u64,
    clean: bool,
    root: &Path,
) -> Result<Survey, OpenError> {
    let Some(first) = segments.first() else {
        let (damages, given_up) = (Vec::new(), Vec::new());
        return Ok(Survey { end: 0, known: 0, epoch: 0, frames: 0, records: 0, damages, given_up });
    };
    let mut chain = Chain::new(segments, log_id, root, first.start(), durable);
    let mut damages = Vec::new();
    chain.advance()?;
    if !(clean && chain.end == durable) {
        // Frames after a damaged place also say what was durable when they were written.
        let mut from = chain.end;
        while let Some((_, header)) = chain.search(from)? {
            chain.known = chain.known.max(header.durable);
            from = header.end();
        }
    }
    while chain.end < chain.known {
        let from = chain.end;
        let (file, offset) = chain.place_of_damage();
        let epoch = chain.epoch;
        match chain.search(from + 1)? {
            Some((segment, header)) if header.base <= chain.known => chain.jump(segment, header.base),
            _ => {
                let known = chain.known;
                let segment = segments.partition_point(|segment| segment.base < known).max(1) - 1;
                chain.jump(segment, known);
            }
        }
        damages.push(Damage { from: Position(from), to: Position(chain.end), file, offset, epoch });
        chain.advance()?;
    }
    let Chain { end, known, epoch, frames, records, given_up, .. } = chain;
    Ok(Survey { end, known, epoch, frames, records, damages, given_up })
}

/// Where sound frames that follow one another end.
pub(super) struct SoundEnd {
    pub(super) end: u64,
    /// Newest boot epoch among them.
    pub(super) epoch: u64,
    /// Frames behind the end say that more than this was durable.
    pub(super) goes_on: bool,
}

/// Follows the frames of a log from its first one.
pub(super) fn sound_end(segments: &[Arc<Segment>], log_id: u64, root: &Path) -> Result<SoundEnd, OpenError> {
    let Some(first) = segments.first() else { return Ok(SoundEnd { end: 0, epoch: 0, goes_on: false }) };
    let mut chain = Chain::new(segments, log_id, root, first.start(), 0);
    chain.advance()?;
    let (mut from, mut goes_on) = (chain.end, false);
    while let Some((_, header)) = chain.search(from)? {
        goes_on |= header.durable > chain.end;
        from = header.end();
    }
    Ok(SoundEnd { end: chain.end, epoch: chain.epoch, goes_on })
}

/// Frames followed one by one.
struct Chain<'a> {
    segments: &'a [Arc<Segment>],
    log_id: u64,
    root: &'a Path,
    /// Index of the segment in which `end` lies.
    segment: usize,
    end: u64,
    /// Must the next frame name `end` as the end of the frame before it? Not at the start of what is kept, and not
    /// after a range that was given up.
    linked: bool,
    epoch: u64,
    known: u64,
    frames: u64,
    records: u64,
    given_up: Vec<Range<Position>>,
}

impl<'a> Chain<'a> {
    fn new(segments: &'a [Arc<Segment>], log_id: u64, root: &'a Path, end: u64, known: u64) -> Self {
        Self {
            segments,
            log_id,
            root,
            segment: 0,
            end,
            linked: false,
            epoch: 0,
            known,
            frames: 0,
            records: 0,
            given_up: Vec::new(),
        }
    }
}

impl Chain<'_> {
    /// Follows sound frames as far as they go.
    fn advance(&mut self) -> Result<(), OpenError> {
        while let Some((segment, header)) = self.next()? {
            self.segment = segment;
            self.end = header.end();
            self.linked = header.kind == FrameKind::Data;
            self.epoch = header.epoch;
            self.known = self.known.max(header.durable);
            self.frames += 1;
            self.records += u64::from(header.records);
            if header.kind == FrameKind::Skip {
                self.given_up.push(Position(header.base)..Position(header.end()));
            }
        }
        Ok(())
    }

    /// The frame that follows `end`: right there, or first in the next segment.
    fn next(&self) -> Result<Option<(usize, FrameHeader)>, OpenError> {
        if let Some(header) = self.sound_frame(self.segment, self.end)? {
            let follows = !self.linked || header.prev_end == self.end;
            return Ok((follows && header.epoch >= self.epoch).then_some((self.segment, header)));
        }
        let next = self.segment + 1;
        let Some(segment) = self.segments.get(next) else { return Ok(None) };
        // Without a link, a rest in which a frame fits may be a damaged frame.
        let is_full = self.end + FRAME_HEADER as u64 > self.segments[self.segment].end();
        let follows = |header: &FrameHeader| {
            (header.prev_end == self.end || !self.linked && is_full) && header.epoch >= self.epoch
        };
        let header = self.sound_frame(next, segment.start())?;
        Ok(header.filter(follows).map(|header| (next, header)))
    }

    /// A frame at exactly this place, all of it sound.
    fn sound_frame(&self, segment: usize, at: u64) -> Result<Option<FrameHeader>, OpenError> {
        let segment = &self.segments[segment];
        match frame_at(segment, at, self.log_id) {
            Found::Nothing => Ok(None),
            Found::Newer(found) => {
                let file = self.root.join(Segment::path_of(segment.base));
                Err(OpenError::NewerFormat { file, found, known: FORMAT_VERSION })
            }
            Found::Frame(header) => Ok(records_hold(segment, &header, self.log_id).then_some(header)),
        }
    }

    /// The first sound frame of this epoch or a newer one at or after `from`.
    fn search(&self, from: u64) -> Result<Option<(usize, FrameHeader)>, OpenError> {
        for index in self.segment..self.segments.len() {
            let segment = &self.segments[index];
            let start = from.max(segment.start()).next_multiple_of(8);
            let mut at = start;
            while let Some(candidate) = next_magic(segment, at) {
                match self.sound_frame(index, candidate)? {
                    Some(header) if header.epoch >= self.epoch => return Ok(Some((index, header))),
                    _ => at = candidate + 8,
                }
            }
        }
        Ok(None)
    }

    fn jump(&mut self, segment: usize, to: u64) {
        self.segment = segment;
        self.end = to;
        self.linked = false;
    }

    /// File and byte to name for damage at `end`: at a segment's end, where only zeros follow, it is the next
    /// segment that is damaged.
    fn place_of_damage(&self) -> (PathBuf, u64) {
        let segment = &self.segments[self.segment];
        let (mut base, mut offset) = (segment.base, self.end - segment.base);
        let rest = segment.bytes(self.end..segment.base + segment.map.len() as u64);
        if let Some(next) = self.segments.get(self.segment + 1)
            && self.known > next.base
            && rest.is_some_and(is_zero)
        {
            (base, offset) = (next.base, next.start() - next.base);
        }
        (self.root.join(Segment::path_of(base)), offset)
    }
}

/// The header of a frame at `at`, when there is one that fits into the segment.
pub(super) fn frame_at(segment: &Segment, at: u64, log_id: u64) -> Found {
    let rest = at.checked_sub(segment.base).and_then(|_| segment.bytes(at..at + FRAME_HEADER as u64));
    let Some(head) = rest else { return Found::Nothing };
    let head = match FrameHeader::parse(head, log_id, at) {
        // A longer header of a newer format.
        Found::Nothing => match segment.bytes(at..(at + 256).min(segment.base + segment.map.len() as u64)) {
            Some(longer) => FrameHeader::parse(longer, log_id, at),
            None => Found::Nothing,
        },
        found => found,
    };
    match head {
        Found::Frame(header) if header.end() > segment.end() => Found::Nothing,
        found => found,
    }
}

/// Do the records of a frame fill it exactly, each with its checksum right?
fn records_hold(segment: &Segment, header: &FrameHeader, log_id: u64) -> bool {
    if header.kind == FrameKind::Skip {
        return header.records == 0;
    }
    let mut at = header.base + FRAME_HEADER as u64;
    let Some(mut rest) = segment.bytes(at..header.end()) else { return false };
    let mut records = 0;
    while !rest.is_empty() {
        let Some(len) = record::framed_len(rest) else { return false };
        let (bytes, after) = rest.split_at(len);
        if !record::verifies(bytes, log_id, at) || RecordView::parse(bytes, Position(at)).is_none() {
            return false;
        }
        rest = after;
        at += len as u64;
        records += 1;
    }
    records == header.records
}

/// The next multiple of 8 at or after `from` where a frame's magic stands.
fn next_magic(segment: &Segment, from: u64) -> Option<u64> {
    const CHUNK: u64 = 4096;
    let end = segment.base + segment.map.len() as u64;
    let mut at = from;
    while at < end {
        let chunk_end = (at + CHUNK).min(end);
        let chunk = segment.bytes(at..chunk_end)?;
        if !is_zero(chunk) {
            let magic = FRAME_MAGIC.to_le_bytes();
            let found = chunk.chunks(8).position(|place| place.starts_with(&magic));
            if let Some(index) = found {
                return Some(at + index as u64 * 8);
            }
        }
        at = chunk_end;
    }
    None
}

/// Only zeros? Compares whole blocks, so that zero-filled space costs little even without optimisation.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| chunk == &ZEROS[..chunk.len()])
}
