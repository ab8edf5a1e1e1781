//! What the benchmarks share: a line a round, and the processor's time.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Bytes of a message's body in every row.
pub const BODY_BYTES: usize = 300;

/// `ROUNDS` of the environment: `scripts/bench` takes the median of them.
pub fn rounds() -> usize {
    number("ROUNDS").unwrap_or(3)
}

pub fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Where the files go: `TIDEGATE_BENCH_DIR` chooses the disk.
pub fn scratch() -> tempfile::TempDir {
    let dir = std::env::var_os("TIDEGATE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempdir_in(dir).unwrap()
}

/// What is asked for: the rows named on the command line, or all. (`cargo bench` adds `--bench`.)
pub fn asked(row: &str) -> bool {
    let rows: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    rows.is_empty() || rows.iter().any(|asked| asked == row)
}

/// One round of one row: a line of JSON (see `scripts/bench`).
pub struct Line(Value);

impl Line {
    pub fn new(row: &str, work: &str, value: f64, unit: &str) -> Self {
        Self(json!({ "row": row, "work": work, "value": value, "unit": unit }))
    }
    /// What it is compared with, measured in the same round.
    pub fn beside(mut self, name: &str, value: f64, ratio: f64) -> Self {
        self.0["beside"] = name.into();
        self.0["reference"] = value.into();
        self.0["ratio"] = ratio.into();
        self
    }
    /// What the ratio (the value, when there is none) should be: `>= 0.60`.
    pub fn goal(mut self, goal: &str) -> Self {
        self.0["goal"] = goal.into();
        self
    }
    /// A figure that the table does not show.
    pub fn also(mut self, name: &str, value: f64) -> Self {
        self.0[name] = value.into();
        self
    }
    pub fn print(&self) {
        println!("{}", self.0);
    }
}

/// User and system time of this process.
pub fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Waits until so many segments are filled with zeros: that is done ahead of need, and not what is measured.
pub fn wait_for_segments(dir: &Path, count: usize) {
    let segments = || std::fs::read_dir(dir.join("commitlog")).unwrap().flatten();
    while segments().filter(|entry| entry.file_name().len() == 20).count() < count {
        std::thread::park_timeout(std::time::Duration::from_millis(1));
    }
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Memory of this process that is not a map of files (`RssAnon`): maps of the log are page cache, and go when it is
/// needed for something else.
pub fn memory_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}
