//! What is accepted and not yet written: the frame under construction, sealed frames, and the segments they go to.
//! Positions are assigned here, under one short lock; nothing here touches the disk.

use super::frame::FRAME_HEADER;
use super::record::RecordParts;
use super::segment::Segment;
use super::{Positions, SEGMENTS_PREPARED_MAX};
use crate::{AppendError, Position, Space};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// A frame is sealed when it has grown to this; a larger batch gets a frame of its own.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// Buffers kept for reuse, and the size above which one is not kept.
const FREE_BUFFERS_MAX: usize = 16;

/// A frame that is being filled or waits for the writer. Its header is still blank, its records have no checksums.
pub(super) struct OpenFrame {
    pub(super) segment: Arc<Segment>,
    pub(super) base: u64,
    pub(super) prev_end: u64,
    pub(super) buf: Vec<u8>,
    pub(super) records: u32,
}

impl OpenFrame {
    pub(super) fn end(&self) -> u64 {
        self.base + self.buf.len() as u64
    }
}

/// A segment after the active one. Its space is allocated, so frames may go into it; syncs are cheaper once it is
/// filled with zeros as well.
struct Prepared {
    segment: Arc<Segment>,
    /// Up to here in the file.
    filled: u64,
}

impl From<Arc<Segment>> for Prepared {
    fn from(segment: Arc<Segment>) -> Self {
        Self { filled: Segment::unfilled(segment.len).start, segment }
    }
}

/// The next piece to fill.
pub(super) struct Piece {
    pub(super) segment: Arc<Segment>,
    pub(super) range: Range<u64>,
    /// The log comes nearer faster than zeros are written.
    pub(super) urgent: bool,
}

/// Why nothing is accepted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    Poisoned,
    Closed,
}

/// Guarded by the one lock of the append path.
#[allow(clippy::struct_excessive_bools, reason = "facts that come and go one by one, no states")]
pub(super) struct Pending {
    /// Where frames go now.
    active: Arc<Segment>,
    /// End of all accepted records.
    end: u64,
    frame: Option<OpenFrame>,
    sealed: Vec<OpenFrame>,
    /// Bytes taken by the writer or waiting for it.
    bytes: u64,
    bytes_max: u64,
    free: Vec<Vec<u8>>,
    prepared: VecDeque<Prepared>,
    /// The last try to allocate a segment found no space.
    pub(super) full: bool,
    /// Less of the disk is free than it should be; new work is refused.
    pub(super) low: bool,
    /// The reserve needs more segments than are prepared; it is told once.
    bounded: bool,
    /// The writer sleeps and must be woken.
    pub(super) writer_idle: bool,
    pub(super) stopped: Option<Stopped>,
}

/// What an append did besides giving positions.
pub(super) struct Accepted {
    pub(super) range: Range<Position>,
    /// A prepared segment was taken: another one is wanted; readers must learn of this one.
    pub(super) rolled_to: Option<Arc<Segment>>,
    pub(super) records: usize,
}

impl Pending {
    pub(super) fn new(active: Arc<Segment>, prepared: Vec<Arc<Segment>>, end: u64, bytes_max: u64) -> Self {
        Self {
            active,
            end,
            frame: None,
            sealed: Vec::new(),
            bytes: 0,
            bytes_max,
            free: Vec::new(),
            // Whether they were filled is not on record; filling twice does no harm.
            prepared: prepared.into_iter().map(Prepared::from).collect(),
            full: false,
            low: false,
            bounded: false,
            writer_idle: false,
            stopped: None,
        }
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Accepts a batch whose records take `need` bytes, or changes nothing.
    pub(super) fn append(
        &mut self,
        records: &[RecordParts<'_>],
        need: usize,
        space: Space,
        reserve: u64,
        positions: &mut Positions,
    ) -> Result<Accepted, AppendError> {
        if self.stopped.is_some() {
            return Err(AppendError::Poisoned);
        }
        if self.bytes + need as u64 > self.bytes_max {
            return Err(AppendError::Busy);
        }
        let joins = self.frame.as_ref().is_some_and(|frame| frame.buf.len() + need <= FRAME_BYTES_MAX);
        let take = need as u64 + if joins { 0 } else { FRAME_HEADER as u64 };
        let rolls = self.end + take > self.active.end();
        let left = if rolls {
            let Some(Prepared { segment: next, .. }) = self.prepared.front() else {
                return Err(self.no_room());
            };
            let framed = (need + FRAME_HEADER) as u64;
            if next.start() + framed > next.end() {
                return Err(AppendError::Invalid("batch does not fit into a segment"));
            }
            next.end() - next.start() - framed + capacity(self.prepared.iter().skip(1))
        } else {
            self.active.end() - self.end - take + capacity(&self.prepared)
        };
        if space == Space::New {
            self.new_work(left, reserve)?;
        }
        let mut rolled_to = None;
        if rolls && let Some(next) = self.prepared.pop_front() {
            rolled_to = Some(Arc::clone(&next.segment));
            self.active = next.segment;
        }
        if !joins || rolls {
            self.sealed.extend(self.frame.take());
        }
        Ok(self.fill(records, need, positions, rolled_to))
    }

    /// Bytes of new work that would be accepted now; not less than `need`.
    pub(super) fn room(&self, need: u64, reserve: u64) -> Result<u64, AppendError> {
        if self.stopped.is_some() {
            return Err(AppendError::Poisoned);
        }
        let memory = self.bytes_max.saturating_sub(self.bytes);
        if memory < need {
            return Err(AppendError::Busy);
        }
        let disk = self.active.end() - self.end + capacity(&self.prepared);
        self.new_work(disk, reserve.saturating_add(need))?;
        Ok(memory.min(disk - reserve))
    }

    /// May new work leave so much?
    fn new_work(&self, left: u64, reserve: u64) -> Result<(), AppendError> {
        if self.low {
            return Err(AppendError::NoSpace);
        }
        if left < reserve { Err(self.no_room()) } else { Ok(()) }
    }

    fn fill(
        &mut self,
        records: &[RecordParts<'_>],
        need: usize,
        positions: &mut Positions,
        rolled_to: Option<Arc<Segment>>,
    ) -> Accepted {
        let frame = match &mut self.frame {
            Some(frame) => frame,
            none => {
                let mut buf = self.free.pop().unwrap_or_default();
                buf.clear();
                buf.resize(FRAME_HEADER, 0);
                self.bytes += FRAME_HEADER as u64;
                none.insert(OpenFrame {
                    segment: Arc::clone(&self.active),
                    base: self.end.max(self.active.start()),
                    prev_end: self.end,
                    buf,
                    records: 0,
                })
            }
        };
        let first = Position(frame.end());
        for record in records {
            positions.push(Position(frame.end()));
            record.encode(&mut frame.buf);
        }
        frame.records += records.len() as u32;
        self.bytes += need as u64;
        self.end = frame.end();
        Accepted { range: first..Position(self.end), rolled_to, records: records.len() }
    }

    fn no_room(&self) -> AppendError {
        if self.full || self.bounded { AppendError::NoSpace } else { AppendError::Busy }
    }

    /// Everything that waits, for the writer.
    pub(super) fn take(&mut self, into: &mut Vec<OpenFrame>) {
        into.append(&mut self.sealed);
        into.extend(self.frame.take());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frame.is_none() && self.sealed.is_empty()
    }

    /// The writer is done with these.
    pub(super) fn recycle(&mut self, frames: &mut Vec<OpenFrame>) {
        for frame in frames.drain(..) {
            self.bytes -= frame.buf.len() as u64;
            if self.free.len() < FREE_BUFFERS_MAX && frame.buf.capacity() <= FRAME_BYTES_MAX * 2 {
                self.free.push(frame.buf);
            }
        }
    }

    /// Base of the segment to prepare next, when `reserve` and one segment for new work are not there yet; while the
    /// disk is low, only what the reserve needs.
    pub(super) fn wants_segment(&mut self, reserve: u64, segment_bytes: u64) -> Option<u64> {
        let last = self.prepared.back().map_or(&self.active, |last| &last.segment);
        if self.prepared.is_empty() {
            return Some(last.end());
        }
        let more = if self.low { 0 } else { usable(segment_bytes) };
        if capacity(&self.prepared) >= reserve.saturating_add(more) {
            self.bounded = false;
            return None;
        }
        if self.prepared.len() < SEGMENTS_PREPARED_MAX {
            return Some(last.end());
        }
        if !self.bounded {
            self.bounded = true;
            tracing::warn!(
                reserve,
                segments = SEGMENTS_PREPARED_MAX,
                "reserve needs more segments than are \
                prepared ahead; new messages may be refused: use larger segments"
            );
        }
        None
    }

    pub(super) fn add_prepared(&mut self, segment: Arc<Segment>) {
        self.prepared.push_back(Prepared::from(segment));
    }

    /// What to fill next: of the segment after the active one, until that is taken; so fast that it is done when
    /// the active one is used to four fifths.
    pub(super) fn wants_filling(&self, piece_bytes: u64) -> Option<Piece> {
        let next = self.prepared.front().filter(|next| next.filled < next.segment.len)?;
        let range = next.filled..(next.filled + piece_bytes).min(next.segment.len);
        let used = (self.end.max(self.active.base) - self.active.base) as f64 / self.active.len as f64;
        let urgent = next.filled as f64 / (next.segment.len as f64) < used * 1.25;
        Some(Piece { segment: Arc::clone(&next.segment), range, urgent })
    }

    /// A piece was filled.
    pub(super) fn filled(&mut self, piece: &Piece) {
        if let Some(next) = self.prepared.front_mut().filter(|next| next.segment.base == piece.segment.base) {
            next.filled = next.filled.max(piece.range.end);
        }
    }
}

fn capacity<'a>(prepared: impl IntoIterator<Item = &'a Prepared>) -> u64 {
    // A little less than there is: the rest of a segment too small for the next batch stays unused.
    prepared.into_iter().map(|one| usable(one.segment.len)).sum()
}

fn usable(segment_bytes: u64) -> u64 {
    segment_bytes - segment_bytes / 8
}
