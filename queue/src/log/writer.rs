//! The writer thread: takes all that waits, writes it, syncs it, tells of it. In async mode the sync is the
//! flusher's. Whatever fails first poisons the log.

use super::frame::{FRAME_HEADER, FrameHeader, FrameKind};
use super::pending::{OpenFrame, Stopped};
use super::record;
use super::{Durability, Shared};
use crate::sync::atomic::Ordering;
use smallvec::SmallVec;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// At most so long does a commit wait for the appends that the commit before it let go.
const GATHER_MAX: Duration = Duration::from_micros(500);

/// Runs until the log is closed (all is written), dropped or poisoned.
pub(super) fn run(shared: &Shared) {
    let mut frames = Vec::new();
    let mut pace = Pace { sync: Duration::ZERO, in_flight: 0 };
    loop {
        {
            let mut pending = shared.pending.lock();
            pending.recycle(&mut frames);
            while pending.is_empty() && pending.stopped.is_none() {
                pending.writer_idle = true;
                shared.writer_wake.wait(&mut pending);
                pending.writer_idle = false;
            }
            if pending.is_empty() || pending.stopped == Some(Stopped::Poisoned) {
                return;
            }
        }
        pace.gather(shared);
        {
            let mut pending = shared.pending.lock();
            pending.take(&mut frames);
            shared.waiting_records.store(0, Ordering::Relaxed);
        }
        match commit(shared, &mut frames, &mut pace) {
            Ok(end) => shared.publish(end),
            Err(error) => {
                shared.poison("cannot write the log", &error);
                return;
            }
        }
    }
}

/// Group commit under load: the appends that wait for a commit come back right after it. Taking whatever is there
/// at that moment would split them into two groups that alternate, each waiting for the other's sync; so the
/// writer waits while they come, for a fraction of a sync at most, to have them together again. A lone append
/// never waits.
struct Pace {
    /// Smoothed time of a write and sync.
    sync: Duration,
    /// Records of the last commit, and those that waited when it ended: so many are in flight.
    in_flight: usize,
}

impl Pace {
    fn gather(&self, shared: &Shared) {
        let mut waiting = shared.waiting_records.load(Ordering::Relaxed);
        if waiting >= self.in_flight {
            return;
        }
        let limit = (self.sync / 2).min(GATHER_MAX);
        let pause = limit / 5;
        let started = Instant::now();
        let mut grew = started;
        while waiting < self.in_flight {
            crate::sync::thread::yield_now();
            let (now, before) = (Instant::now(), waiting);
            waiting = shared.waiting_records.load(Ordering::Relaxed);
            if waiting > before {
                grew = now;
            }
            if now - grew >= pause || now - started >= limit {
                return;
            }
        }
    }

    fn synced_in(&mut self, sync: Duration, in_flight: usize) {
        self.sync = if self.sync.is_zero() { sync } else { (self.sync * 7 + sync) / 8 };
        self.in_flight = in_flight;
    }
}

fn commit(shared: &Shared, frames: &mut [OpenFrame], pace: &mut Pace) -> io::Result<u64> {
    let synced = shared.synced.load(Ordering::Acquire);
    for frame in &mut *frames {
        finish(frame, shared.log_id, shared.epoch, synced);
    }
    let sync = shared.flush == Durability::Sync;
    let mut end = 0;
    let started = Instant::now();
    let in_one_segment = |a: &OpenFrame, b: &OpenFrame| Arc::ptr_eq(&a.segment, &b.segment);
    for run in frames.chunk_by(in_one_segment) {
        let segment = &run[0].segment;
        let bufs: SmallVec<[IoSlice<'_>; 8]> = run.iter().map(|frame| IoSlice::new(&frame.buf)).collect();
        segment.file.write_at(run[0].base - segment.base, &bufs)?;
        end = run.last().map_or(end, OpenFrame::end);
    }
    if sync {
        for run in frames.chunk_by(in_one_segment) {
            run[0].segment.file.sync()?;
        }
        let records: usize = frames.iter().map(|frame| frame.records as usize).sum();
        pace.synced_in(started.elapsed(), records + shared.waiting_records.load(Ordering::Relaxed));
        shared.synced.store(end, Ordering::Release);
    }
    // Only now may maps give these bytes out: nobody writes them any more.
    for frame in &*frames {
        frame.segment.settle(frame.end());
    }
    Ok(end)
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
