//! The writer thread: takes what waits, writes it, syncs it, tells of it. In async mode the sync is the flusher's.
//! Whatever fails first poisons the log.

use super::frame::{FRAME_HEADER, FrameHeader, FrameKind};
use super::pace::{Pace, Step};
use super::pending::{OpenFrame, Stopped};
use super::record;
use super::segment::Segment;
use super::{Durability, Shared};
use crate::sync::atomic::Ordering;
use smallvec::SmallVec;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Instant;

/// Runs until the log is closed (all is written), dropped or poisoned.
pub(super) fn run(shared: &Shared) {
    let mut writer = Writer { shared, frames: Vec::new(), segment: u64::MAX, pace: Pace::default() };
    while writer.wait() {
        match writer.commit() {
            Ok(end) => shared.publish(end),
            Err(error) => {
                shared.poison("cannot write the log", &error);
                return;
            }
        }
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    /// Taken from those that wait.
    frames: Vec<OpenFrame>,
    /// Base of the segment that was written last.
    segment: u64,
    pace: Pace,
}

/// Segments written in one commit, and up to where.
type Written = SmallVec<[(Arc<Segment>, u64); 2]>;

impl Writer<'_> {
    /// Waits for something to write; false: there will be nothing more.
    fn wait(&mut self) -> bool {
        self.pace.linger(&self.shared.waiting_records.0);
        let mut pending = self.shared.pending.lock();
        while pending.is_empty() && pending.stopped.is_none() {
            pending.writer_idle = true;
            self.shared.writer_wake.wait(&mut pending);
            pending.writer_idle = false;
        }
        !pending.is_empty() && pending.stopped != Some(Stopped::Poisoned)
    }

    /// Writes what waits, and what comes while it does so, then syncs once. Answers up to where all is durable now.
    fn commit(&mut self) -> io::Result<u64> {
        let shared = self.shared;
        let mut written = Written::new();
        let mut gathering = self.pace.begin();
        loop {
            let step = gathering.next(&shared.waiting_records.0);
            {
                let mut pending = shared.pending.lock();
                pending.take(&mut self.frames);
                shared.waiting_records.0.store(0, Ordering::Relaxed);
            }
            gathering.taken(self.frames.iter().map(|frame| frame.records as usize).sum());
            self.write(&mut written)?;
            shared.pending.lock().recycle(&mut self.frames);
            if step == Step::Last {
                break;
            }
        }
        let end = written.last().map_or(0, |(_, end)| *end);
        if shared.flush == Durability::Sync {
            let started = Instant::now();
            for (segment, _) in &written {
                segment.file.sync()?;
            }
            let waiting = shared.waiting_records.0.load(Ordering::Relaxed);
            self.pace.committed(started.elapsed(), gathering.records() + waiting);
            shared.synced.store(end, Ordering::Release);
        }
        // Only now may maps give these bytes out: nobody writes them any more.
        for (segment, end) in &written {
            segment.settle(*end);
        }
        Ok(end)
    }

    fn write(&mut self, written: &mut Written) -> io::Result<()> {
        let shared = self.shared;
        let synced = shared.synced.load(Ordering::Acquire);
        for frame in &mut self.frames {
            finish(frame, shared.log_id, shared.epoch, synced);
        }
        for run in self.frames.chunk_by(|a, b| Arc::ptr_eq(&a.segment, &b.segment)) {
            let (segment, end) = (&run[0].segment, run[run.len() - 1].end());
            if segment.base != self.segment {
                // A piece of zeros may still be on its way into it; no other follows, for it has been taken.
                drop(segment.filling.lock());
                self.segment = segment.base;
            }
            let bufs: SmallVec<[IoSlice<'_>; 8]> = run.iter().map(|frame| IoSlice::new(&frame.buf)).collect();
            segment.file.write_at(run[0].base - segment.base, &bufs)?;
            match written.last_mut() {
                Some((last, upto)) if Arc::ptr_eq(last, segment) => *upto = end,
                _ => written.push((Arc::clone(segment), end)),
            }
        }
        Ok(())
    }
}

/// Header and checksums, off the append path.
fn finish(frame: &mut OpenFrame, log_id: u64, epoch: u64, synced: u64) {
    let mut at = FRAME_HEADER;
    while let Some(len) = record::framed_len(&frame.buf[at..]) {
        record::seal(&mut frame.buf[at..at + len], log_id, frame.base + at as u64);
        at += len;
    }
    let header = FrameHeader {
        kind: FrameKind::Data,
        payload_len: (frame.buf.len() - FRAME_HEADER) as u32,
        records: frame.records,
        base: frame.base,
        prev_end: frame.prev_end,
        durable: synced,
        epoch,
    };
    header.encode(log_id, &mut frame.buf);
}
