//! A clock that stands while there is nothing to do: rates are measured on it, so a lull does not count.

use std::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds during which there was work. One word: twice the time that was spent idle, plus one, while there is
/// work; twice the time shown while there is none.
#[derive(Debug, Default)]
pub(super) struct BusyClock(AtomicU64);

const BUSY: u64 = 1;

impl BusyClock {
    /// What it shows at `now_ns` of the monotonic clock. Never goes back.
    pub(super) fn read(&self, now_ns: u64) -> u64 {
        let word = self.0.load(Ordering::Acquire);
        if word & BUSY == BUSY { now_ns.saturating_sub(word >> 1) } else { word >> 1 }
    }

    /// From `now_ns` on there is work, or none. Saying it again changes nothing.
    pub(super) fn set(&self, busy: bool, now_ns: u64) {
        let mut word = self.0.load(Ordering::Acquire);
        while (word & BUSY == BUSY) != busy {
            let other = now_ns.saturating_sub(word >> 1) << 1;
            let next = if busy { other | BUSY } else { other };
            match self.0.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(seen) => word = seen,
            }
        }
    }

    /// Whether it runs.
    pub(super) fn is_busy(&self) -> bool {
        self.0.load(Ordering::Acquire) & BUSY == BUSY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_while_there_is_nothing_to_do() {
        let clock = BusyClock::default();
        assert_eq!(clock.read(500), 0, "no work yet");
        clock.set(true, 1_000);
        clock.set(true, 1_200);
        assert_eq!(clock.read(1_500), 500);
        clock.set(false, 1_600);
        clock.set(false, 1_800);
        assert_eq!(clock.read(9_000), 600);
        clock.set(true, 10_000);
        assert_eq!(clock.read(10_100), 700);
        assert_eq!(clock.read(9_000), 0, "an instant before the present period is not told apart");
    }
}
