//! What a durable append waits while segments are prepared: in steady state, while segments roll, and while the
//! reserve grows as an order's does. The disk itself beside it, in the same run.
//!
//! `cargo bench -p tidegate-queue --bench rolls`; `TIDEGATE_BENCH_DIR` chooses the disk, the temporary folder
//! otherwise.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use rustix::fs::fdatasync;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_queue::log::{CommitLog, LogOptions, Positions, RecordParts};
use tidegate_queue::storage::DiskStorage;
use tidegate_queue::{AppendError, Durability, Space};

const RUN: Duration = Duration::from_secs(4);
const SEGMENT: u64 = 64 << 20;

struct Case {
    name: &'static str,
    /// Records of 300 B appended before each wait.
    batch: usize,
    /// Bytes of reserve that each of them asks for; a segment's worth is given back when eight are held.
    reserve: u64,
}

fn main() {
    let dir = std::env::var_os("TIDEGATE_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    println!(
        "{:<36} {:>8} {:>8} {:>8} {:>8} {:>8}  µs; rolls: p50 and max of the 50 commits around each",
        "durable commits", "count", "p50", "p99", "p99.9", "max"
    );
    for _ in 0..2 {
        let scratch = tempfile::tempdir_in(&dir).unwrap();
        show("disk itself, 16 records", &mut raw(scratch.path(), 16 * 400));
        for case in [
            Case { name: "16 records, steady", batch: 16, reserve: 0 },
            Case { name: "16 records, reserve 4 KiB each", batch: 16, reserve: 4096 },
        ] {
            let scratch = tempfile::tempdir_in(&dir).unwrap();
            run(scratch.path(), &case);
        }
        let scratch = tempfile::tempdir_in(&dir).unwrap();
        show("disk itself, 128 records", &mut raw(scratch.path(), 128 * 400));
        let scratch = tempfile::tempdir_in(&dir).unwrap();
        run(scratch.path(), &Case { name: "128 records, rolling", batch: 128, reserve: 0 });
    }
}

fn run(dir: &Path, case: &Case) {
    let options = LogOptions {
        segment_bytes: SEGMENT,
        flush: Durability::Sync,
        pending_bytes_max: 64 << 20,
        ..LogOptions::default()
    };
    let log = CommitLog::open(Arc::new(DiskStorage::new(dir).unwrap()), &options).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let body = [7; 300];
    let mut positions = Positions::new();
    let (mut times, mut rolls, mut reserve, mut busy) = (Vec::new(), Vec::new(), 0, 0);
    let started = Instant::now();
    let mut segment = 0;
    while started.elapsed() < RUN {
        let begun = Instant::now();
        for _ in 0..case.batch {
            let record = RecordParts { topic: "orders", body: &body, ..RecordParts::default() };
            while let Err(error) = log.append(Space::New, &[record], &mut positions) {
                assert!(error == AppendError::Busy, "{error}");
                busy += 1;
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        reserve += case.reserve * case.batch as u64;
        if case.reserve > 0 {
            log.set_reserve(reserve % (8 * SEGMENT));
        }
        let end = log.end();
        log.wait_durable(end).unwrap();
        times.push(begun.elapsed());
        if end.0 / SEGMENT != segment {
            segment = end.0 / SEGMENT;
            rolls.push(times.len());
        }
    }
    let mut near: Vec<Duration> = Vec::new();
    for roll in &rolls {
        near.extend(&times[roll.saturating_sub(25)..(roll + 25).min(times.len())]);
    }
    near.sort_unstable();
    let (half, last) = (near.get(near.len() / 2), near.last());
    show(case.name, &mut times);
    println!("{:<36} {} rolls, p50 {half:.0?}, max {last:.0?}; {busy} times busy", "", rolls.len());
    log.close().unwrap();
}

fn raw(dir: &Path, bytes: usize) -> Vec<Duration> {
    let file = File::create(dir.join("raw")).unwrap();
    let bytes = vec![7; bytes];
    let zeros = vec![0; 1 << 20];
    for at in 0..64 {
        file.write_all_at(&zeros, at << 20).unwrap();
    }
    file.sync_all().unwrap();
    let (started, mut times) = (Instant::now(), Vec::new());
    while started.elapsed() < RUN / 2 {
        let begun = Instant::now();
        let place = times.len() * bytes.len() % ((64 << 20) - bytes.len());
        file.write_all_at(&bytes, place as u64).unwrap();
        fdatasync(&file).unwrap();
        times.push(begun.elapsed());
    }
    times
}

fn show(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_micros();
    println!("{name:<36} {:>8} {:>8} {:>8} {:>8} {:>8}", times.len(), at(0.5), at(0.99), at(0.999), at(1.0));
}
