//! What failing policies may cost. A policy that runs into its limits takes a thousand times what one takes that answers,
//! and whoever finds out what drives it there would have a core for a few hundred requests a second. So the time that
//! a core gives to runs that fail is bounded; when it is spent no policy is asked, and `on_error` is followed at once.

use std::time::{Duration, Instant};

/// Time for failing runs, of each second: a fiftieth of a core.
const PER_SECOND: Duration = Duration::from_millis(20);
/// … and at once.
const AT_ONCE: Duration = Duration::from_millis(40);
/// A run that fails sooner is only a mistake.
pub(super) const LONG: Duration = Duration::from_micros(50);
/// Long failing runs for one client address in about ten seconds; then the policies are not asked for its orders any more, so
/// that one client does not use up what is for all.
pub(super) const FAILURES_MAX: u32 = 3;

/// A core's time for failing runs. It may be overdrawn once, by the run that uses it up.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    spent: Duration,
    at: Option<Instant>,
}

impl Breaker {
    /// Whether there is time for a run that fails.
    pub(super) fn is_closed(&mut self, now: Instant) -> bool {
        if let Some(at) = self.at {
            let regained = now.saturating_duration_since(at).as_secs_f64() * PER_SECOND.as_secs_f64();
            self.spent = self.spent.saturating_sub(Duration::from_secs_f64(regained.min(3600.0)));
        }
        self.at = Some(now);
        self.spent < AT_ONCE
    }

    /// A run of this length has failed.
    pub(super) fn failed(&mut self, took: Duration) {
        self.spent += took;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_runs_take_a_fiftieth_of_the_time_however_many_come() {
        let mut breaker = Breaker::default();
        let (start, run) = (Instant::now(), Duration::from_millis(2));
        let mut taken = Duration::ZERO;
        for ms in 0..10_000 {
            if breaker.is_closed(start + Duration::from_millis(ms)) {
                breaker.failed(run);
                taken += run;
            }
        }
        let allowed = AT_ONCE + 10 * PER_SECOND;
        assert!(taken <= allowed + run && taken + run >= allowed, "{taken:?}");
    }

    #[test]
    fn a_run_that_takes_very_long_is_paid_back() {
        let mut breaker = Breaker::default();
        let start = Instant::now();
        assert!(breaker.is_closed(start));
        breaker.failed(Duration::from_millis(140));
        assert!(!breaker.is_closed(start + Duration::from_secs(4)));
        assert!(breaker.is_closed(start + Duration::from_secs(6)));
    }
}
