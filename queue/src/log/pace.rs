//! Group commit under load: the appends that wait for a commit come back right after it. Syncing whatever is there at
//! that moment would split them into groups that alternate, each waiting for the other's sync; so the writer waits
//! while they come, for the time of two syncs at most, to have them together again. What is there already is written
//! meanwhile, so that only the sync is left when the last one has come. A lone append never waits.

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::thread;
use std::time::{Duration, Instant};

/// At most so long does a commit wait for appends.
const GATHER_MAX: Duration = Duration::from_millis(1);
/// While more are expected, so many records are written together.
const CHUNK_RECORDS: usize = 192;
/// Of so many in flight the first is looked for without sleeping, so long at most.
const LINGER_FROM: usize = 32;
const LINGER_MAX: Duration = Duration::from_micros(100);

/// A counter with a cache line of its own: the writer looks at it while others append.
#[repr(align(128))]
#[derive(Default)]
pub(super) struct Waiting(pub(super) AtomicUsize);

/// Between two looks: each takes the counter away from whoever appends, which costs them more than it does us.
fn breathe() {
    for _ in 0..64 {
        std::hint::spin_loop();
    }
    thread::yield_now();
}

/// What is known from the commits before.
#[derive(Default)]
pub(super) struct Pace {
    /// Smoothed time of a sync.
    sync: Duration,
    /// Records of the last commit, and those that waited when it ended: so many are in flight.
    in_flight: usize,
}

/// What to do with the records that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Write them; more will come.
    More,
    /// Write them, then sync.
    Last,
}

/// One commit's gathering.
pub(super) struct Gathering {
    expected: usize,
    records: usize,
    limit: Duration,
    /// Nothing came for so long: nothing more comes.
    pause: Duration,
    started: Instant,
}

impl Pace {
    /// Many wait for each commit and come back together: looking for the first of them for a moment costs each of
    /// them little, and the writer need not be woken. Not when few do: they would pay for it.
    pub(super) fn linger(&self, waiting: &AtomicUsize) {
        if self.in_flight < LINGER_FROM {
            return;
        }
        let until = Instant::now() + self.sync.min(LINGER_MAX);
        while waiting.load(Ordering::Relaxed) == 0 && Instant::now() < until {
            breathe();
        }
    }

    pub(super) fn begin(&self) -> Gathering {
        let limit = (self.sync * 2).min(GATHER_MAX);
        let pause = self.sync.min(GATHER_MAX) / 8;
        Gathering { expected: self.in_flight, records: 0, limit, pause, started: Instant::now() }
    }

    pub(super) fn committed(&mut self, sync: Duration, in_flight: usize) {
        self.sync = if self.sync.is_zero() { sync } else { (self.sync * 7 + sync) / 8 };
        self.in_flight = in_flight;
    }
}

impl Gathering {
    /// Records taken so far.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    pub(super) fn taken(&mut self, records: usize) {
        self.records += records;
    }

    /// Waits until enough records wait, or no more seem to come.
    pub(super) fn next(&self, waiting: &AtomicUsize) -> Step {
        let missing = self.expected.saturating_sub(self.records);
        let mut grew: Option<Instant> = None;
        let mut seen = waiting.load(Ordering::Relaxed);
        loop {
            if seen >= missing {
                return Step::Last;
            }
            if seen >= CHUNK_RECORDS {
                return Step::More;
            }
            breathe();
            let (now, before) = (Instant::now(), seen);
            seen = waiting.load(Ordering::Relaxed);
            if seen > before || grew.is_none() {
                grew = Some(now);
            }
            if grew.is_some_and(|grew| now - grew >= self.pause) || now - self.started >= self.limit {
                return Step::Last;
            }
        }
    }
}
