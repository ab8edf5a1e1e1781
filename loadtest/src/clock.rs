//! One clock for all evidence: microseconds since the start of the run, with one anchor to wall time.
//!
//! Everything this program saw is ordered by this clock alone. Wall time enters once, so that instants
//! told by the gateway (`deadline_ms`, `at_ms`) can be compared; a stepped system clock moves nothing.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since the start of the run.
pub(crate) type Micros = u64;

/// Cheap to copy; every thread holds its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    start_wall_us: u64,
}

impl Clock {
    /// Anchors the run to wall time, now.
    #[expect(clippy::disallowed_methods, reason = "the one place where wall time enters")]
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { start: Instant::now(), start_wall_us: wall.as_micros() as u64 }
    }

    pub(crate) fn now_us(&self) -> Micros {
        self.start.elapsed().as_micros() as u64
    }

    /// The `Instant` of `at_us`, for timers.
    pub(crate) fn instant(&self, at_us: Micros) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.start + Duration::from_micros(at_us))
    }

    /// Unix ms, now.
    pub(crate) fn wall_ms(&self) -> u64 {
        (self.start_wall_us + self.now_us()) / 1_000
    }

    /// Wall time in Unix microseconds at the start of the run: what evidence adds to its instants.
    pub(crate) fn start_wall_us(&self) -> u64 {
        self.start_wall_us
    }
}
