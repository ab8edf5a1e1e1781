//! P9 and P10 of the goals, the queue's share: what 10^6 delayed messages take in memory, and how long a start over a
//! log of 1 GiB takes beside reading the same bytes once. Both with everything in the page cache.
//!
//! `cargo bench -p tidegate-queue --bench hold -- [P9] [P10]`; prints a line of JSON a round.
#![allow(clippy::unwrap_used)]

mod common;

use common::{BODY_BYTES, Line, memory_bytes, rounds, scratch};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tidegate_queue::storage::DiskStorage;
use tidegate_queue::{AppendError, Clock, Durability, NewMessage, Queue, QueueOptions, Space, SystemClock};

const DELAYED: usize = 1_000_000;
const LOG_BYTES: usize = 1 << 30;
const BATCH: usize = 1_000;

fn main() {
    if common::asked("P9") {
        delayed();
    }
    if common::asked("P10") {
        start();
    }
}

fn open(dir: &Path) -> Queue {
    let options = QueueOptions { flush: Durability::Async { interval_ms: 1_000 }, ..QueueOptions::new(dir) };
    Queue::open(options, Arc::new(DiskStorage::new(dir).unwrap()), Arc::new(SystemClock::new())).unwrap()
}

fn fill(queue: &Queue, count: usize, deliver_at_ms: impl Fn(usize) -> Option<u64>) {
    let body = [7; BODY_BYTES];
    for from in (0..count).step_by(BATCH) {
        let message = |index| NewMessage {
            topic: "orders",
            body: &body,
            deliver_at_ms: deliver_at_ms(from + index),
            ..NewMessage::default()
        };
        let batch: Vec<_> = (0..BATCH).map(message).collect();
        while let Err(error) = queue.append(&batch, Space::New) {
            assert!(matches!(error, AppendError::Busy), "{error}");
            queue.wait_durable(queue.end()).unwrap();
        }
    }
    queue.wait_dispatched(queue.end());
}

/// Spread over 40 days, as far as a delay may go.
fn delayed() {
    let dir = scratch();
    let queue = open(dir.path());
    fill(&queue, BATCH, |_| None);
    let before = memory_bytes();
    let now_ms = SystemClock::new().now_ms();
    let spread_ms = 40 * 24 * 3_600_000;
    fill(&queue, DELAYED, |index| {
        Some(now_ms + 600_000 + (index as u64 * 7_919 * 997) % (spread_ms - 660_000))
    });
    let each = (memory_bytes() - before) / DELAYED as f64;
    Line::new("P9", "memory of a delayed message, 10^6 held", each, "B").print();
    queue.close().unwrap();
}

fn start() {
    let dir = scratch();
    let queue = open(dir.path());
    fill(&queue, LOG_BYTES / 384, |_| None);
    let end = queue.end().0;
    drop(queue); // as a crash leaves it
    for _ in 0..rounds() {
        let all_s = read_once(dir.path(), 0, end);
        let after_s = read_once(dir.path(), snapshot(dir.path()), end);
        let started = Instant::now();
        let queue = open(dir.path());
        queue.wait_dispatched(queue.end());
        let start_s = started.elapsed().as_secs_f64();
        drop(queue);
        let line = || Line::new("P10", "start of the queue, log of 1 GiB", start_s, "s");
        let name = "reading once what lies after the snapshot";
        line().beside(name, after_s, start_s / after_s).goal("<= 2.00").print();
        line().beside("reading all of the log once", all_s, start_s / all_s).print();
    }
}

/// Where the queue's snapshot was cut: FORMAT.md, "Snapshot".
fn snapshot(dir: &Path) -> u64 {
    let mut word = [0; 8];
    File::open(dir.join("snapshot/state")).unwrap().read_exact_at(&mut word, 24).unwrap();
    u64::from_le_bytes(word)
}

/// Reads the log between two positions.
fn read_once(dir: &Path, from: u64, end: u64) -> f64 {
    let mut buffer = vec![0; 1 << 20];
    let started = Instant::now();
    for entry in dir.join("commitlog").read_dir().unwrap() {
        let entry = entry.unwrap();
        let Ok(base) = entry.file_name().to_string_lossy().parse::<u64>() else { continue };
        let first = from.saturating_sub(base);
        let mut file = File::open(entry.path()).unwrap();
        file.seek(SeekFrom::Start(first)).unwrap();
        let mut file = file.take(end.saturating_sub(base).saturating_sub(first));
        while file.read(&mut buffer).unwrap() > 0 {}
    }
    started.elapsed().as_secs_f64()
}
