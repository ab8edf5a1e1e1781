//! How often a client came lately, in fixed memory: what a policy cannot count itself, because it keeps nothing.
//!
//! Two cells a client, by two parts of its hash; the smaller count is told. So a count is never too low, and too high
//! only for a client that shares both cells with a busy one.

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};

/// Width of the window.
pub(super) const WINDOW_MS: u64 = 10_000;
const CELLS: usize = 1 << 16;

/// Counts of one kind of client.
pub(super) struct Frequency {
    hasher: foldhash::quality::RandomState,
    /// Window's number (32 bits), requests in it (16), requests in the one before (16).
    cells: Box<[AtomicU64]>,
}

impl Frequency {
    pub(super) fn new() -> Self {
        let cells = (0..CELLS).map(|_| AtomicU64::new(0)).collect();
        Self { hasher: foldhash::quality::RandomState::default(), cells }
    }

    /// Counts this request; answers how many came in the last [`WINDOW_MS`], this one included, at most 65,535.
    pub(super) fn count(&self, client: &impl Hash, now_ms: u64) -> u32 {
        let hash = self.hasher.hash_one(client);
        let first = self.touch(hash as usize % CELLS, now_ms);
        first.min(self.touch((hash >> 32) as usize % CELLS, now_ms))
    }

    /// How many came in the last [`WINDOW_MS`].
    pub(super) fn recent(&self, client: &impl Hash, now_ms: u64) -> u32 {
        let hash = self.hasher.hash_one(client);
        let of = |at: usize| told(current(self.cells[at].load(Ordering::Relaxed), now_ms), now_ms);
        of(hash as usize % CELLS).min(of((hash >> 32) as usize % CELLS))
    }

    fn touch(&self, at: usize, now_ms: u64) -> u32 {
        let next = |cell: u64| {
            let cell = current(cell, now_ms);
            // The count of this window stays where it is when it is full.
            if (cell >> 16) & 0xFFFF == 0xFFFF { cell } else { cell + (1 << 16) }
        };
        let cell = self.cells[at].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |cell| Some(next(cell)));
        told(next(cell.unwrap_or_else(|present| present)), now_ms)
    }
}

/// The cell as it stands in the present window.
fn current(cell: u64, now_ms: u64) -> u64 {
    let window = (now_ms / WINDOW_MS) & 0xFFFF_FFFF;
    let (seen, now, before) = (cell >> 32, (cell >> 16) & 0xFFFF, cell & 0xFFFF);
    let (now, before) = match window.wrapping_sub(seen) {
        0 => (now, before),
        1 => (0, now),
        _ => (0, 0),
    };
    window << 32 | now << 16 | before
}

/// Requests in the last [`WINDOW_MS`]: of the window before, the part that still lies within.
fn told(cell: u64, now_ms: u64) -> u32 {
    let (now, before) = ((cell >> 16) & 0xFFFF, cell & 0xFFFF);
    let share = WINDOW_MS - now_ms % WINDOW_MS;
    (now + before * share / WINDOW_MS).min(0xFFFF) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_the_last_window_count_and_others_do_not() {
        let frequency = Frequency::new();
        let start_ms = 1_000 * WINDOW_MS;
        for expected in 1..=10 {
            assert_eq!(frequency.count(&"a", start_ms), expected);
        }
        assert_eq!(frequency.count(&"b", start_ms), 1);
        assert_eq!(
            frequency.count(&"a", start_ms + WINDOW_MS + WINDOW_MS / 2),
            6,
            "half of ten, and this one"
        );
        assert_eq!(frequency.count(&"a", start_ms + 5 * WINDOW_MS), 1);
        for _ in 0..70_000 {
            frequency.count(&"c", start_ms);
        }
        assert_eq!(frequency.count(&"c", start_ms), 65_535);
        assert_eq!(frequency.recent(&"c", start_ms), 65_535);
        assert_eq!(frequency.recent(&"b", start_ms + WINDOW_MS), 1);
        assert_eq!(frequency.recent(&"d", start_ms), 0);
    }
}
