//! The generator: a bucket that fills at a rate and holds at most `burst` tokens.

use std::time::{Duration, Instant};

/// What the sums of fractions may be short of a whole token.
const ROUNDING: f64 = 1e-9;

/// Over any time `t` at most `rate × t + burst` tokens are taken from it. Its time is monotonic, and an instant before one that
/// it has seen counts as that one.
#[derive(Debug)]
pub(super) struct Bucket {
    rate_per_s: f64,
    burst: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// A full one. `rate_per_s` above 0, `burst` at least 1.
    pub(super) fn new(rate_per_s: f64, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Self { rate_per_s, burst, level: burst, at: now }
    }

    /// Another rate and size from now on. What it holds stays, up to the new size: a change gives no new burst.
    pub(super) fn set(&mut self, rate_per_s: f64, burst: u32, now: Instant) {
        self.fill(now);
        self.rate_per_s = rate_per_s;
        self.burst = f64::from(burst.max(1));
        self.level = self.level.min(self.burst);
    }

    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let there = self.level >= 1.0 - ROUNDING;
        if there {
            self.level = (self.level - 1.0).max(0.0);
        }
        there
    }

    /// A token that was taken and not used: as if it had not been taken.
    pub(super) fn give_back(&mut self, now: Instant) {
        self.fill(now);
        self.level = (self.level + 1.0).min(self.burst);
    }

    /// Takes all.
    pub(super) fn empty(&mut self, now: Instant) {
        self.fill(now);
        self.level = 0.0;
    }

    pub(super) fn rate_per_s(&self) -> f64 {
        self.rate_per_s
    }

    /// How long until it holds so many tokens that nobody has taken.
    pub(super) fn until(&self, tokens: f64, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        let level = self.level + since * self.rate_per_s;
        let seconds = ((tokens - level) / self.rate_per_s).max(0.0);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.at);
        if !since.is_zero() {
            self.at = now;
            self.level = (self.level + since.as_secs_f64() * self.rate_per_s).min(self.burst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_change_of_rate_and_burst_gives_no_new_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10.0, 5, start);
        for _ in 0..5 {
            assert!(bucket.take(start));
        }
        bucket.set(1_000.0, 100, start);
        assert!(!bucket.take(start), "nothing was there, nothing is there");
        let later = start + Duration::from_millis(3);
        assert_eq!(
            (0..10).filter(|_| bucket.take(later)).count(),
            3,
            "the new rate counts from the change on"
        );
        let full = start + Duration::from_hours(1);
        bucket.set(1_000.0, 2, full);
        assert_eq!((0..10).filter(|_| bucket.take(full)).count(), 2);
    }

    proptest! {
        /// Whatever the clock does: instants that lie before others that were seen fill nothing.
        #[test]
        fn fm21_never_more_than_rate_times_time_plus_burst(
            rate in 1_u32..5_000, burst in 1_u32..50,
            steps in proptest::collection::vec((-5_000_i64..20_000, any::<bool>()), 1..400),
        ) {
            // Far from the beginning, so that the clock can step back.
            let origin = Instant::now() + Duration::from_hours(1);
            let mut bucket = Bucket::new(f64::from(rate), burst, origin);
            let (mut now_us, mut newest_us) = (0_i64, 0_i64);
            let mut taken: Vec<i64> = Vec::new();
            for (step_us, gives_back) in steps {
                now_us += step_us;
                newest_us = newest_us.max(now_us);
                let offset = Duration::from_micros(now_us.unsigned_abs());
                let before = origin.checked_sub(offset).unwrap();
                let now = if now_us < 0 { before } else { origin + offset };
                if bucket.take(now) {
                    if gives_back {
                        bucket.give_back(now);
                    } else {
                        // By a clock that never steps back: no more time has passed than that.
                        taken.push(newest_us);
                    }
                }
            }
            for (i, from) in taken.iter().enumerate() {
                for (j, to) in taken.iter().enumerate().skip(i) {
                    let allowed = (to - from) as f64 / 1e6 * f64::from(rate) + f64::from(burst);
                    prop_assert!((j - i + 1) as f64 <= allowed + 1e-6);
                }
            }
        }
    }
}
