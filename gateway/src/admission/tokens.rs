//! Gate 9: the token queue. One token a `1/rate` seconds, at most `burst` of them kept, requests wait their
//! turn in FIFO order and at most `max_wait`.
//!
//! The generator, its bounded queue and the queue of waiters are one number: the instant at which the next
//! free token comes into being (virtual scheduling, as in GCRA, ITU-T I.371). A request moves that instant
//! on by one interval and sleeps until its own; if that is too far away it takes nothing. So there is no
//! generator thread to fall behind, no herd to wake, the waiters are bounded by `rate × max_wait`, and over
//! any time `t` at most `rate × t + burst` requests pass. A waiter that goes away leaves its token unused:
//! the bound holds, some capacity is lost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The token queue. Shared by all cores; lock-free.
#[derive(Debug)]
pub struct TokenQueue {
    started: Instant,
    /// Nanoseconds since `started` at which the next token that nobody has taken comes into being.
    next_ns: AtomicU64,
    interval_ns: u64,
    /// How far in the past `next_ns` may lie: `burst - 1` intervals, so that `burst` pass at once.
    slack_ns: u64,
    wait_max_ns: u64,
}

/// What a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// Pass now.
    Now,
    /// Yours comes into being after this time; sleep, then pass.
    After(Duration),
    /// None within `max_wait`; worth asking again after this time.
    None {
        /// When a request would be let to wait again.
        retry_after: Duration,
    },
}

impl TokenQueue {
    /// `rate_per_s` and `burst` at least 1.
    pub fn new(rate_per_s: f64, burst: u32, wait_max: Duration, now: Instant) -> Self {
        let interval_ns = (1e9 / rate_per_s).max(1.0) as u64;
        let slack_ns = interval_ns.saturating_mul(u64::from(burst.max(1)) - 1);
        // Starting `slack` in the past means starting with a full bucket; the offset keeps it unsigned.
        Self {
            started: now,
            next_ns: AtomicU64::new(0),
            interval_ns,
            slack_ns,
            wait_max_ns: wait_max.as_nanos() as u64,
        }
    }

    /// Takes a token as of `now` (monotonic). One compare-and-swap when uncontended.
    pub fn take(&self, now: Instant) -> Token {
        // Shifted by `slack` so that the full bucket at the start is not a negative number.
        let now_ns = now.saturating_duration_since(self.started).as_nanos() as u64 + self.slack_ns;
        let mut next = self.next_ns.load(Ordering::Relaxed);
        loop {
            let mine = next.max(now_ns - self.slack_ns);
            let wait_ns = mine.saturating_sub(now_ns);
            if wait_ns > self.wait_max_ns {
                return Token::None { retry_after: Duration::from_nanos(wait_ns - self.wait_max_ns) };
            }
            match self.next_ns.compare_exchange_weak(
                next,
                mine + self.interval_ns,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) if wait_ns == 0 => return Token::Now,
                Ok(_) => return Token::After(Duration::from_nanos(wait_ns)),
                Err(seen) => next = seen,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queue(rate: f64, burst: u32, wait_ms: u64) -> (TokenQueue, Instant) {
        let start = Instant::now();
        (TokenQueue::new(rate, burst, Duration::from_millis(wait_ms), start), start)
    }

    #[test]
    fn burst_passes_at_once_and_the_next_one_waits_one_interval() {
        let (queue, start) = queue(10.0, 3, 1_000);
        for _ in 0..3 {
            assert_eq!(queue.take(start), Token::Now);
        }
        assert_eq!(queue.take(start), Token::After(Duration::from_millis(100)));
        assert_eq!(queue.take(start), Token::After(Duration::from_millis(200)));
    }

    #[test]
    fn a_refusal_takes_nothing_and_says_when_to_come_back() {
        let (queue, start) = queue(10.0, 1, 150);
        assert_eq!(queue.take(start), Token::Now);
        assert_eq!(queue.take(start), Token::After(Duration::from_millis(100)));
        for _ in 0..5 {
            assert_eq!(queue.take(start), Token::None { retry_after: Duration::from_millis(50) });
        }
        assert_eq!(queue.take(start + Duration::from_millis(200)), Token::Now);
    }

    #[test]
    fn an_idle_time_fills_the_bucket_to_the_burst_and_no_further() {
        let (queue, start) = queue(1_000.0, 5, 0);
        let later = start + Duration::from_hours(1);
        let passed = (0..100).filter(|_| queue.take(later) == Token::Now).count();
        assert_eq!(passed, 5);
    }

    proptest! {
        /// Failure mode 21 as well: the clock is monotonic, and an instant before the start counts as the start.
        #[test]
        fn fm21_never_more_than_rate_times_time_plus_burst(
            rate in 1_u32..5_000, burst in 1_u32..50, wait_ms in 0_u64..200,
            gaps_us in proptest::collection::vec(0_u64..20_000, 1..400),
        ) {
            let (queue, start) = queue(f64::from(rate), burst, wait_ms);
            let mut now = start;
            let mut passes: Vec<Duration> = Vec::new();
            for gap in gaps_us {
                now += Duration::from_micros(gap);
                match queue.take(now) {
                    Token::Now => passes.push(now - start),
                    Token::After(wait) => {
                        prop_assert!(wait <= Duration::from_millis(wait_ms));
                        passes.push(now + wait - start);
                    }
                    Token::None { .. } => {}
                }
            }
            prop_assert!(passes.is_sorted(), "first in, first out");
            for (i, from) in passes.iter().enumerate() {
                for (j, to) in passes.iter().enumerate().skip(i) {
                    let allowed = to.saturating_sub(*from).as_secs_f64() * f64::from(rate) + f64::from(burst);
                    prop_assert!((j - i + 1) as f64 <= allowed + 1e-3 * (j - i + 1) as f64 + 1e-6);
                }
            }
        }
    }
}
