//! P4 and P5 of the goals: durable and async appends of 300 B, and in the same round what the disk itself does.
//!
//! `cargo bench -p tidegate-queue --bench durable -- [P4] [P5]` prints a line of JSON a round; `make bench ROWS="P4 P5"`
//! makes a table of them. `IN_FLIGHT=1024` picks one of P4's, `PRODUCERS` says from how many threads,
//! `TIDEGATE_BENCH_DIR` on which disk.
//!
//! "In flight" are appends that were made and are not yet known to be durable: a producer keeps a window of them, and
//! waits for its oldest. So one thread stands for as many callers as its window is wide.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

mod common;

use common::{BODY_BYTES, Line, cpu_s, median, number, rounds, scratch, wait_for_segments};
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_queue::log::{CommitLog, LogOptions, Positions, RecordParts};
use tidegate_queue::storage::DiskStorage;
use tidegate_queue::{
    AppendError, Durability, NewMessage, Position, Queue, QueueOptions, Space, SystemClock,
};

/// Two segments are ready before a measurement, and it ends when they are full or the time is over.
const SEGMENT_BYTES: u64 = 256 << 20;
const RUN: Duration = Duration::from_millis(1_500);
/// Of a message in the log: its body, a head of 72 bytes, the topic, padding.
const RECORD_BYTES: u64 = 384;
const MESSAGES_MAX: u64 = (2 * SEGMENT_BYTES - (32 << 20)) / RECORD_BYTES;
/// One in so many appends is timed.
const TIMED: u64 = 16;

fn main() {
    for _ in 0..rounds() {
        if common::asked("P4") {
            match number("IN_FLIGHT") {
                Some(in_flight) => durable(in_flight),
                None => [1, 64, 1024].into_iter().for_each(durable),
            }
        }
        if common::asked("P5") {
            asynchronous("async append, queue, a core", true);
            asynchronous("async append, log alone, a core", false);
        }
    }
}

fn durable(in_flight: usize) {
    let dir = scratch();
    let mut reference = vec![raw_syncs_per_s(dir.path(), in_flight)];
    let mut ours = Vec::new();
    for queue in [true, false] {
        let target = Target::open(&dir.path().join(format!("{queue}")), queue, Durability::Sync);
        ours.push(run(target, in_flight));
        reference.push(raw_syncs_per_s(dir.path(), in_flight));
    }
    let disk = median(reference) * in_flight as f64;
    for (measured, what) in ours.iter().zip(["queue", "log alone"]) {
        let work = format!("durable append, {what}, {in_flight} in flight");
        let line = Line::new("P4", &work, measured.per_s, "msg/s")
            .beside("pwrite + fdatasync", disk, measured.per_s / disk)
            .also("p50_us", measured.p50_us)
            .also("p99_us", measured.p99_us)
            .also("cpu_us", 1e6 / measured.per_core_s);
        // One at a time is the disk's own time and nothing to gain: shown, and no goal.
        if in_flight > 1 && what == "queue" { line.goal(">= 0.60") } else { line }.print();
    }
}

fn asynchronous(work: &str, queue: bool) {
    let dir = scratch();
    let target = Target::open(dir.path(), queue, Durability::Async { interval_ms: 1_000 });
    let measured = run(target, 16 << 10);
    let line = Line::new("P5", work, measured.per_core_s, "msg/s").also("wall_clock_per_s", measured.per_s);
    if queue { line.goal(">= 3000000") } else { line }.print();
}

/// 1 ÷ p50 of one pwrite and fdatasync of `records` records into a zero-filled file.
fn raw_syncs_per_s(dir: &Path, records: usize) -> f64 {
    const FILE_BYTES: usize = 64 << 20;
    let file = File::create(dir.join("raw")).unwrap();
    let bytes = vec![7; records * BODY_BYTES];
    let zeros = vec![0; 1 << 20];
    for at in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at as u64).unwrap();
    }
    file.sync_all().unwrap();
    let count = (FILE_BYTES / bytes.len()).min(1_500);
    let times = (0..count).map(|index| {
        let started = Instant::now();
        file.write_all_at(&bytes, (index * bytes.len()) as u64).unwrap();
        file.sync_data().unwrap();
        started.elapsed().as_secs_f64()
    });
    1.0 / median(times.collect())
}

/// What is appended to.
#[allow(clippy::large_enum_variant)]
enum Target {
    Log(CommitLog),
    Queue(Queue),
}

impl Target {
    fn open(dir: &Path, queue: bool, flush: Durability) -> Self {
        let storage = Arc::new(DiskStorage::new(dir).unwrap());
        let pending_bytes_max = 64 << 20;
        let target = if queue {
            let options = QueueOptions {
                flush,
                segment_bytes: SEGMENT_BYTES,
                pending_bytes_max,
                ..QueueOptions::new(dir)
            };
            Self::Queue(Queue::open(options, storage, Arc::new(SystemClock::new())).unwrap())
        } else {
            let options = LogOptions {
                segment_bytes: SEGMENT_BYTES,
                flush,
                pending_bytes_max,
                ..LogOptions::default()
            };
            Self::Log(CommitLog::open(storage, &options).unwrap())
        };
        wait_for_segments(dir, 2);
        target
    }

    fn append(&self, body: &[u8], positions: &mut Positions) -> Result<Position, AppendError> {
        match self {
            Self::Log(log) => {
                let record = RecordParts { topic: "orders", body, ..RecordParts::default() };
                log.append(Space::New, &[record], positions).map(|range| range.end)
            }
            Self::Queue(queue) => {
                let message = NewMessage { topic: "orders", body, ..NewMessage::default() };
                queue.append(&[message], Space::New).map(|appended| appended.end)
            }
        }
    }

    /// Blocks until `position` is durable; answers up to where all is.
    fn wait(&self, position: Position) -> Position {
        match self {
            Self::Log(log) => log.wait_durable(position).map(|()| log.durable()),
            Self::Queue(queue) => queue.wait_durable(position).map(|()| queue.durable()),
        }
        .unwrap()
    }

    fn close(&self) {
        match self {
            Self::Log(log) => log.close(),
            Self::Queue(queue) => queue.close(),
        }
        .unwrap();
    }
}

struct Measured {
    per_s: f64,
    /// By the processor time of all threads.
    per_core_s: f64,
    p50_us: f64,
    p99_us: f64,
}

fn run(target: Target, in_flight: usize) -> Measured {
    let producers = number("PRODUCERS").unwrap_or(1).clamp(1, in_flight);
    let (started, cpu) = (Instant::now(), cpu_s());
    let (window, messages) = (in_flight / producers, MESSAGES_MAX / producers as u64);
    let each: Vec<(u64, Vec<f64>)> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..producers).map(|_| scope.spawn(|| produce(&target, window, messages))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (elapsed, cpu) = (started.elapsed().as_secs_f64(), cpu_s() - cpu);
    target.close();
    let done: u64 = each.iter().map(|(done, _)| done).sum();
    let mut times: Vec<f64> = each.into_iter().flat_map(|(_, times)| times).collect();
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] * 1e6;
    Measured {
        per_s: done as f64 / elapsed,
        per_core_s: done as f64 / cpu,
        p50_us: at(0.5),
        p99_us: at(0.99),
    }
}

/// Keeps a window of appends waiting for the disk. Answers how many became durable, and how long some took.
fn produce(target: &Target, window: usize, messages_max: u64) -> (u64, Vec<f64>) {
    let body = [7; BODY_BYTES];
    let mut positions = Positions::new();
    let mut waiting: VecDeque<(Position, Option<Instant>)> = VecDeque::with_capacity(window);
    let (mut appended, mut done) = (0, 0);
    let mut times = Vec::new();
    let started = Instant::now();
    while appended < messages_max && started.elapsed() < RUN {
        while waiting.len() < window {
            let timed = (appended % TIMED == 0).then(Instant::now);
            match target.append(&body, &mut positions) {
                Ok(end) => {
                    waiting.push_back((end, timed));
                    appended += 1;
                }
                Err(AppendError::Busy) if !waiting.is_empty() => break,
                Err(AppendError::Busy) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        let durable = target.wait(waiting[0].0);
        while let Some(&(_, timed)) = waiting.front().filter(|(end, _)| *end <= durable) {
            times.extend(timed.map(|timed| timed.elapsed().as_secs_f64()));
            waiting.pop_front();
            done += 1;
        }
    }
    (done, times)
}
