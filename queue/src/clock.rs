//! The clock parameter. Nothing in the crate asks the system for the time in any other way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Wall time in Unix milliseconds that never steps: deadlines and timers are compared against it.
pub trait Clock: Send + Sync + 'static {
    /// Unix milliseconds; never smaller than an earlier answer of the same clock.
    fn now_ms(&self) -> u64;
}

/// The system clock, read once and advanced by the monotonic clock from then on, so that a step of the
/// wall clock moves no deadline of a running process.
#[derive(Debug)]
pub struct SystemClock {
    anchor_ms: u64,
    started: Instant,
}

impl SystemClock {
    /// Anchors at the present wall time.
    pub fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { anchor_ms: since_epoch.as_millis() as u64, started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        self.anchor_ms + self.started.elapsed().as_millis() as u64
    }
}

/// A clock that tests move by hand.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Starts at `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        Self(AtomicU64::new(now_ms))
    }

    /// Moves forward by `ms`.
    pub fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::AcqRel);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
