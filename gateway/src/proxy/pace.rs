//! The tokens of a route: an upstream that stands `rate` requests a second sees no more.
//!
//! Two queues of the same rate and burst. The first decides who is let in, in order, and who is refused. The second stands
//! at the door to the upstream: between the two a request may be held up (a slow connect, a machine that stood still), and
//! those who were would arrive together. What leaves, leaves by the second, repeats too.
//!
//! Each is one number: the instant at which the next free token comes into being (virtual scheduling, as in GCRA, ITU-T
//! I.371). A request moves it on by one interval and sleeps until its own; if that is too far away it takes nothing. All
//! requests of a route are alike, so nothing of what the queue of orders does for fairness between sales is needed here.

use crate::config::RouteTokens;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The tokens of one route. Shared by all cores.
#[derive(Debug)]
pub(super) struct Pace {
    settings: RouteTokens,
    entry: Schedule,
    door: Schedule,
}

impl Pace {
    /// With a full burst.
    pub(super) fn new(settings: RouteTokens) -> Self {
        let now = Instant::now();
        Self { settings, entry: Schedule::new(settings, now), door: Schedule::new(settings, now) }
    }

    /// Whether it is what these settings ask for: then it goes on over a reload, with what it has given out.
    pub(super) fn is_of(&self, settings: &RouteTokens) -> bool {
        self.settings == *settings
    }

    /// With other settings, and nothing gathered: a reload gives no further burst.
    pub(super) fn changed(&self, settings: RouteTokens) -> Self {
        let changed = Self::new(settings);
        let now = Instant::now();
        for (old, new) in [(&self.entry, &changed.entry), (&self.door, &changed.door)] {
            new.leave_at_most(old.there(now), now);
        }
        changed
    }

    /// Waits for its turn, at most `max_wait_ms`; `Err`: when to come back. Cancel safe: the token is lost.
    pub(super) async fn enter(&self) -> Result<(), Duration> {
        wait(self.entry.take(Instant::now())).await
    }

    /// As [`Pace::enter`], right before the request is sent; hardly ever waits.
    pub(super) async fn leave(&self) -> Result<(), Duration> {
        wait(self.door.take(Instant::now())).await
    }
}

async fn wait(turn: Turn) -> Result<(), Duration> {
    match turn {
        Turn::Now => Ok(()),
        Turn::After(wait) => {
            tokio::time::sleep(wait).await;
            Ok(())
        }
        Turn::None { retry_after } => Err(retry_after),
    }
}

/// When the next token comes into being. Lock-free.
#[derive(Debug)]
struct Schedule {
    began: Instant,
    /// Nanoseconds since `began`, shifted by `slack`, at which the next token that nobody has taken comes into being.
    next_ns: AtomicU64,
    interval_ns: u64,
    /// How far in the past `next_ns` may lie: `burst - 1` intervals, so that `burst` pass at once.
    slack_ns: u64,
    wait_max_ns: u64,
}

/// What a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Now,
    After(Duration),
    None { retry_after: Duration },
}

impl Schedule {
    fn new(settings: RouteTokens, now: Instant) -> Self {
        let interval_ns = (1e9 / f64::from(settings.rate_per_s)).ceil().max(1.0) as u64;
        Self {
            began: now,
            // Starting `slack` in the past is starting with a full bucket; the shift keeps it unsigned.
            next_ns: AtomicU64::new(0),
            interval_ns,
            slack_ns: interval_ns.saturating_mul(u64::from(settings.burst.max(1)) - 1),
            wait_max_ns: settings.max_wait_ms * 1_000_000,
        }
    }

    fn shifted(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_nanos() as u64 + self.slack_ns
    }

    /// Takes a token as of `now` (monotonic). One compare-and-swap when uncontended.
    fn take(&self, now: Instant) -> Turn {
        let now_ns = self.shifted(now);
        let mut next = self.next_ns.load(Ordering::Relaxed);
        loop {
            let mine = next.max(now_ns - self.slack_ns);
            let wait_ns = mine.saturating_sub(now_ns);
            if wait_ns > self.wait_max_ns {
                return Turn::None { retry_after: Duration::from_nanos(wait_ns - self.wait_max_ns) };
            }
            let after = mine + self.interval_ns;
            match self.next_ns.compare_exchange_weak(next, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) if wait_ns == 0 => return Turn::Now,
                Ok(_) => return Turn::After(Duration::from_nanos(wait_ns)),
                Err(seen) => next = seen,
            }
        }
    }

    /// Whole tokens that nobody has taken; negative: so many are promised to those who wait.
    fn there(&self, now: Instant) -> i64 {
        let now_ns = self.shifted(now);
        let next = self.next_ns.load(Ordering::Relaxed).max(now_ns - self.slack_ns);
        (now_ns as i64 - next as i64).div_euclid(self.interval_ns as i64) + 1
    }

    /// Takes away what is there beyond so many.
    fn leave_at_most(&self, tokens: i64, now: Instant) {
        let next = self.shifted(now) as i64 - (tokens - 1) * self.interval_ns as i64;
        self.next_ns.fetch_max(next.max(0) as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings(rate_per_s: u32, burst: u32, max_wait_ms: u64) -> RouteTokens {
        RouteTokens { rate_per_s, burst, max_wait_ms }
    }

    #[test]
    fn a_burst_passes_at_once_and_then_each_in_its_turn() {
        let start = Instant::now();
        let schedule = Schedule::new(settings(10, 2, 150), start);
        assert_eq!([schedule.take(start), schedule.take(start)], [Turn::Now; 2]);
        assert_eq!(schedule.take(start), Turn::After(Duration::from_millis(100)));
        for _ in 0..5 {
            assert_eq!(schedule.take(start), Turn::None { retry_after: Duration::from_millis(50) });
        }
        let later = start + Duration::from_hours(1);
        assert_eq!((0..100).filter(|_| schedule.take(later) == Turn::Now).count(), 2);
    }

    #[test]
    fn other_settings_give_no_new_burst() {
        let start = Instant::now();
        let old = Schedule::new(settings(10, 5, 0), start);
        for left in (0..5).rev() {
            assert_eq!(old.take(start), Turn::Now);
            assert_eq!(old.there(start), left);
            let new = Schedule::new(settings(100, 50, 0), start);
            new.leave_at_most(old.there(start), start);
            assert_eq!((0..100).filter(|_| new.take(start) == Turn::Now).count() as i64, left);
        }
    }

    proptest! {
        /// Failure mode 21 as well: the clock is monotonic, and an instant before the start counts as the start.
        #[test]
        fn fm21_never_more_than_rate_times_time_plus_burst(
            rate in 1_u32..5_000, burst in 1_u32..50, wait_ms in 0_u64..200,
            gaps_us in proptest::collection::vec(0_u64..20_000, 1..400),
        ) {
            let start = Instant::now();
            let schedule = Schedule::new(settings(rate, burst, wait_ms), start);
            let mut now = start;
            let mut passes: Vec<Duration> = Vec::new();
            for gap in gaps_us {
                now += Duration::from_micros(gap);
                match schedule.take(now) {
                    Turn::Now => passes.push(now - start),
                    Turn::After(wait) => {
                        prop_assert!(wait <= Duration::from_millis(wait_ms));
                        passes.push(now + wait - start);
                    }
                    Turn::None { .. } => {}
                }
            }
            prop_assert!(passes.is_sorted(), "first in, first out");
            for (i, from) in passes.iter().enumerate() {
                for (j, to) in passes.iter().enumerate().skip(i) {
                    let allowed = to.saturating_sub(*from).as_secs_f64() * f64::from(rate) + f64::from(burst);
                    prop_assert!((j - i + 1) as f64 <= allowed + 1e-6);
                }
            }
        }
    }
}
