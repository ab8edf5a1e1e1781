//! P4 and P5 of the goals: durable and async appends beside what the disk itself does in the same run.
//!
//! `cargo bench -p tidegate-queue --bench append`; `TIDEGATE_BENCH_DIR` chooses the disk, the temporary folder
//! otherwise.
#![allow(clippy::unwrap_used)]

use rustix::fs::fdatasync;
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_queue::log::{CommitLog, LogOptions, Positions, RecordParts};
use tidegate_queue::storage::DiskStorage;
use tidegate_queue::{AppendError, Durability, Position, Space};

const BODY_BYTES: usize = 300;
const RUN: Duration = Duration::from_secs(2);

fn main() {
    let dir = std::env::var_os("TIDEGATE_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    println!("{:<34} {:>14} {:>14} {:>8} {:>6}", "appends of 300 B", "msg/s", "disk itself", "ratio", "goal");
    for in_flight in [1, 64, 1024] {
        let scratch = tempfile::tempdir_in(&dir).unwrap();
        let before = raw_syncs_per_s(scratch.path(), in_flight);
        let ours = durable_per_s(scratch.path(), in_flight);
        let after = raw_syncs_per_s(scratch.path(), in_flight);
        let disk = f64::midpoint(before, after) * in_flight as f64;
        let goal = if in_flight == 1 { "" } else { "0.60" };
        let name = format!("P4 sync, {in_flight} in flight");
        println!("{name:<34} {ours:>14.0} {disk:>14.0} {:>8.2} {goal:>6}", ours / disk);
    }
    let scratch = tempfile::tempdir_in(&dir).unwrap();
    let (wall, core) = async_per_s(scratch.path());
    println!("{:<34} {wall:>14.0}", "P5 async, wall clock");
    println!(
        "{:<34} {core:>14.0} {:>14} {:>8.2} {:>6}",
        "P5 async, per core (CPU time)",
        3_000_000,
        core / 3e6,
        "1.00"
    );
}

fn open(dir: &Path, flush: Durability, segment_bytes: u64) -> CommitLog {
    let options = LogOptions { segment_bytes, flush, pending_bytes_max: 64 << 20, salvage: false };
    let log = CommitLog::open(Arc::new(DiskStorage::new(dir.join("log")).unwrap()), &options).unwrap();
    // Zero-filling the second segment is not what is measured.
    let segments = || std::fs::read_dir(dir.join("log/commitlog")).unwrap().flatten();
    while segments().filter(|entry| entry.file_name().len() == 20).count() < 2 {
        std::thread::yield_now();
    }
    log
}

/// 1 ÷ p50 of one pwrite and fdatasync of `records` records into a zero-filled file.
fn raw_syncs_per_s(dir: &Path, records: usize) -> f64 {
    let file = File::create(dir.join("raw")).unwrap();
    let bytes = vec![7; records * BODY_BYTES];
    let zeros = vec![0; 1 << 20];
    for at in 0..64 {
        file.write_all_at(&zeros, at << 20).unwrap();
    }
    file.sync_all().unwrap();
    let count = ((64 << 20) / bytes.len()).min(1500);
    let mut times: Vec<_> = (0..count)
        .map(|index| {
            let started = Instant::now();
            file.write_all_at(&bytes, (index * bytes.len()) as u64).unwrap();
            fdatasync(&file).unwrap();
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    1.0 / times[times.len() / 2].as_secs_f64()
}

fn append(log: &CommitLog, body: &[u8], positions: &mut Positions) -> Position {
    let record = RecordParts { topic: "orders", body, ..RecordParts::default() };
    loop {
        match log.append(Space::New, &[record], positions) {
            Ok(range) => return range.end,
            Err(AppendError::Busy) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// One thread keeps `in_flight` appends waiting for the disk.
fn durable_per_s(dir: &Path, in_flight: usize) -> f64 {
    let log = open(dir, Durability::Sync, 256 << 20);
    let body = [7; BODY_BYTES];
    let mut positions = Positions::new();
    let mut waiting = VecDeque::with_capacity(in_flight);
    let mut done = 0_u64;
    let started = Instant::now();
    while started.elapsed() < RUN {
        while waiting.len() < in_flight {
            waiting.push_back(append(&log, &body, &mut positions));
        }
        log.wait_durable(waiting[0]).unwrap();
        let durable = log.durable();
        while waiting.front().is_some_and(|end| *end <= durable) {
            waiting.pop_front();
            done += 1;
        }
    }
    let rate = done as f64 / started.elapsed().as_secs_f64();
    log.close().unwrap();
    rate
}

/// Messages a second by the wall clock, and by the processor time of all threads.
fn async_per_s(dir: &Path) -> (f64, f64) {
    const COUNT: u32 = 1_200_000;
    let log = open(dir, Durability::Async { interval_ms: 1000 }, 512 << 20);
    let body = [7; BODY_BYTES];
    let mut positions = Positions::new();
    let (wall, cpu) = (Instant::now(), cpu_s());
    let mut end = Position(0);
    for _ in 0..COUNT {
        end = append(&log, &body, &mut positions);
    }
    log.wait_durable(end).unwrap();
    let rates = (f64::from(COUNT) / wall.elapsed().as_secs_f64(), f64::from(COUNT) / (cpu_s() - cpu));
    log.close().unwrap();
    rates
}

fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
