//! Reading what is durable, record by record. Frame headers are stepped over; their links are checked where a
//! segment ends, so that zeros in the middle are not taken for the end of a segment.

use super::error::ReadError;
use super::frame::{FRAME_HEADER, FRAME_MAGIC, Found, FrameKind};
use super::record::{self, Record, RecordView, u32_at};
use super::segment::{Segment, Segments};
use super::survey::frame_at;
use crate::Position;
use crate::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// A place in the log, moved from record to record.
pub(super) struct Cursor<'a> {
    segments: &'a Segments,
    segment: Arc<Segment>,
    at: u64,
    /// May the next segment's first frame name another end than `at`? At the start, and after a skipped range.
    unlinked: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(segments: &'a Segments, from: Position) -> Result<Self, ReadError> {
        let segment = segments.at(from.0).ok_or_else(|| segments.absent(from.0))?;
        let at = from.0.max(segment.start());
        Ok(Self { segments, segment, at, unlinked: true })
    }

    pub(super) fn position(&self) -> Position {
        Position(self.at)
    }

    fn damaged(&self) -> ReadError {
        let (file, offset) = self.segments.place(&self.segment, self.at);
        ReadError::Damaged { position: Position(self.at), file, offset }
    }

    /// Steps over frame headers to the next record below `durable`, and past it. Answers its place and length.
    pub(super) fn step(&mut self, durable: u64) -> Result<Option<(u64, usize)>, ReadError> {
        while self.at < durable {
            // Empty after the last frame of a segment.
            let rest =
                self.segment.bytes(self.at..durable.min(self.segment.stable_end())).unwrap_or_default();
            if u32_at(rest, 0) == Some(FRAME_MAGIC)
                && let Found::Frame(header) = frame_at(&self.segment, self.at, self.segments.log_id)
            {
                self.unlinked = header.kind == FrameKind::Skip;
                self.at = if self.unlinked { header.end() } else { self.at + FRAME_HEADER as u64 };
                continue;
            }
            if let Some(len) = record::framed_len(rest) {
                let at = self.at;
                self.at += len as u64;
                return Ok(Some((at, len)));
            }
            self.next_segment()?;
        }
        Ok(None)
    }

    fn next_segment(&mut self) -> Result<(), ReadError> {
        let next = self.segments.at(self.segment.end()).filter(|next| next.base != self.segment.base);
        let next = next.ok_or_else(|| match self.segments.absent(self.segment.end()) {
            removed @ ReadError::Removed { .. } => removed,
            _ => self.damaged(),
        })?;
        match frame_at(&next, next.start(), self.segments.log_id) {
            Found::Frame(header) if self.unlinked || header.prev_end == self.at => {}
            _ => return Err(self.damaged()),
        }
        self.at = next.start();
        self.segment = next;
        Ok(())
    }

    /// The record that `step` answered, borrowed.
    pub(super) fn view(&self, at: u64, len: usize) -> Result<RecordView<'_>, ReadError> {
        let bytes = self.segment.bytes(at..at + len as u64);
        bytes.and_then(|bytes| RecordView::parse(bytes, Position(at))).ok_or_else(|| self.damaged())
    }

    /// The same, owning the map, its checksum verified.
    pub(super) fn record(&self, at: u64, len: usize) -> Result<Record, ReadError> {
        let bytes = self.segment.owned_bytes(at..at + len as u64);
        bytes
            .filter(|bytes| record::verifies(bytes, self.segments.log_id, at))
            .and_then(|bytes| Record::new(Position(at), bytes))
            .ok_or_else(|| self.damaged())
    }
}

/// Up to where a scan goes.
#[derive(Clone, Copy)]
pub(super) enum Limit<'a> {
    /// What is durable when it gets there.
    Durable(&'a AtomicU64),
    Fixed(u64),
}

/// All records from a place on.
pub(super) struct Scan<'a> {
    cursor: Result<Cursor<'a>, Option<ReadError>>,
    limit: Limit<'a>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(segments: &'a Segments, from: Position, limit: Limit<'a>) -> Self {
        Self { cursor: Cursor::new(segments, from).map_err(Some), limit }
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let cursor = match &mut self.cursor {
            Ok(cursor) => cursor,
            Err(error) => return error.take().map(Err),
        };
        let limit = match self.limit {
            Limit::Durable(durable) => durable.load(Ordering::Acquire),
            Limit::Fixed(end) => end,
        };
        let found = cursor.step(limit).and_then(|step| match step {
            Some((at, len)) => cursor.record(at, len).map(Some),
            None => Ok(None),
        });
        match found {
            Ok(record) => record.map(Ok),
            Err(error) => {
                self.cursor = Err(None);
                Some(Err(error))
            }
        }
    }
}

/// One record below `durable`, verified.
pub(super) fn read(segments: &Segments, durable: u64, position: Position) -> Result<Record, ReadError> {
    let absent = || ReadError::Absent(position);
    let segment = segments.at(position.0).ok_or_else(|| segments.absent(position.0))?;
    let end = durable.min(segment.stable_end());
    if position.0 >= end || !position.0.is_multiple_of(8) || position.0 < segment.start() {
        return Err(absent());
    }
    let len = segment.bytes(position.0..end).and_then(record::framed_len).ok_or_else(absent)?;
    let bytes = segment.owned_bytes(position.0..position.0 + len as u64).ok_or_else(absent)?;
    // Positions come from outside: one between two records does not verify, and damage looks the same here.
    if !record::verifies(&bytes, segments.log_id, position.0) {
        return Err(absent());
    }
    Record::new(position, bytes).ok_or_else(absent)
}
