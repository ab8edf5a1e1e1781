//! How long to wait before trying again: exponential back-off with full jitter, bounded in number and in time.
//!
//! Full jitter (a uniform draw between zero and the exponential ceiling) spreads the retries of many workers
//! best; see "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

/// Bounds on the retries of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included; at least 1.
    pub attempts_max: u32,
    /// Ceiling of the first delay; doubles with each attempt.
    pub delay_base: Duration,
    /// The ceiling grows no further.
    pub delay_max: Duration,
    /// The whole call, attempts and delays, ends by then (a long poll's own wait comes on top).
    pub total_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 6,
            delay_base: Duration::from_millis(50),
            delay_max: Duration::from_secs(2),
            total_max: Duration::from_secs(20),
        }
    }
}

impl RetryPolicy {
    /// One attempt, no retry.
    pub fn none() -> Self {
        Self { attempts_max: 1, ..Self::default() }
    }
}

/// The delays between attempts that follow each other.
#[derive(Debug, Clone)]
pub struct Backoff {
    delay_base: Duration,
    delay_max: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts without failures.
    pub fn new(delay_base: Duration, delay_max: Duration) -> Self {
        Self { delay_base, delay_max, failures: 0 }
    }

    /// Back to the start, after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the start.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Delay after one more failure: at random between zero and the ceiling, and never less than `at_least`.
    pub fn next_delay(&mut self, at_least: Duration) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.ceiling().mul_f64(rand::random::<f64>()).max(at_least)
    }

    fn ceiling(&self) -> Duration {
        // 2^20 times any base is beyond every sensible ceiling.
        let doublings = self.failures.saturating_sub(1).min(20);
        self.delay_base.saturating_mul(1 << doublings).min(self.delay_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceiling_doubles_up_to_its_bound_and_the_draw_stays_below() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(50));
        for ceiling_ms in [10, 20, 40, 50, 50] {
            let delay = backoff.next_delay(Duration::ZERO);
            assert_eq!(backoff.ceiling(), Duration::from_millis(ceiling_ms));
            assert!(delay <= backoff.ceiling());
        }
        backoff.reset();
        backoff.next_delay(Duration::ZERO);
        assert_eq!(backoff.ceiling(), Duration::from_millis(10));
    }

    #[test]
    fn endless_failures_overflow_nothing() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        backoff.failures = u32::MAX;
        assert!(backoff.next_delay(Duration::ZERO) <= Duration::from_secs(5));
    }

    #[test]
    fn server_given_delay_is_kept() {
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(1));
        assert_eq!(backoff.next_delay(Duration::from_secs(3)), Duration::from_secs(3));
    }
}
