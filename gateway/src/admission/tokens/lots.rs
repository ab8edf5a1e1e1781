//! Tokens that this gateway has leased from the bucket in Redis: small lots that are good for a short time.
//!
//! **The bound.** All gateways together admit at most `rate × t + burst` in any time `t`. What is admitted in it was leased at
//! most [`Terms::ttl`] before it, and the bucket in Redis gives at most `rate × t + size` in any time `t`; a step of Redis'
//! clock that is too small to be found out is worth one more `ttl`. So `size = burst - 2 × rate × ttl`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Longest life of a lot.
const TTL_MAX: Duration = Duration::from_millis(250);
/// Lots at once. There are a few: one lives for four calls.
const LOTS_MAX: usize = 64;
/// Calls in the life of a lot.
const CALLS: u32 = 4;
/// Weight of the newest span in the means.
const NEWEST: f64 = 0.5;

/// What follows from rate and burst.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Terms {
    /// Tokens a second, of all gateways together.
    pub(super) rate_per_s: u32,
    /// Tokens that the bucket in Redis keeps at most.
    pub(super) size: u32,
    /// A lot is good for so long from when it was asked for; an answer that takes longer counts for nothing.
    pub(super) ttl: Duration,
}

impl Terms {
    pub(super) fn new(rate_per_s: u32, burst: u32) -> Self {
        let quarter = f64::from(burst) / (4.0 * f64::from(rate_per_s));
        let ttl = Duration::from_secs_f64(quarter.min(TTL_MAX.as_secs_f64()));
        let aside = (2.0 * f64::from(rate_per_s) * ttl.as_secs_f64()).ceil() as u32;
        Self { rate_per_s, size: burst.saturating_sub(aside).max(1), ttl }
    }

    /// Between two calls.
    pub(super) fn pause(&self) -> Duration {
        self.ttl / CALLS
    }
}

/// The lots, and how large the next one should be.
#[derive(Debug)]
pub(super) struct Lots {
    pub(super) terms: Terms,
    /// Those that end first first.
    leased: VecDeque<Lot>,
    held: u32,
    /// Tokens wanted since `counted_from`, whether there were any or not.
    wanted: u32,
    counted_from: Instant,
    wanted_per_s: f64,
    /// What Redis gives this gateway when it gives less than is asked.
    given_per_s: f64,
    /// Redis does not answer.
    pub(super) away: bool,
    /// Redis has been asked since this gateway started.
    met: bool,
}

#[derive(Debug, Clone, Copy)]
struct Lot {
    until: Instant,
    left: u32,
}

impl Lots {
    pub(super) fn new(terms: Terms, now: Instant) -> Self {
        Self {
            terms,
            leased: VecDeque::new(),
            held: 0,
            wanted: 0,
            counted_from: now,
            wanted_per_s: 0.0,
            given_per_s: terms.rate_per_s.into(),
            away: false,
            met: false,
        }
    }

    /// A token, with the end of its life.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        self.expire(now);
        let lot = self.leased.front_mut()?;
        let until = lot.until;
        lot.left -= 1;
        self.held -= 1;
        if lot.left == 0 {
            self.leased.pop_front();
        }
        Some(until)
    }

    /// One that was not used, as long as it lives.
    pub(super) fn give_back(&mut self, until: Instant, now: Instant) {
        if until > now && self.leased.len() < LOTS_MAX {
            self.leased.push_front(Lot { until, left: 1 });
            self.held += 1;
        }
    }

    /// Somebody wants one.
    pub(super) fn want(&mut self) {
        self.wanted = self.wanted.saturating_add(1);
    }

    /// How many to ask for now; `None`: there is no need. `waiting` requests have none.
    pub(super) fn ask(&mut self, waiting: usize, now: Instant) -> Option<u32> {
        self.expire(now);
        let target = self.target(waiting);
        let short = !self.met || waiting > 0 || self.wanted > 0 && self.held <= target / 2;
        short.then(|| target.saturating_sub(self.held))
    }

    /// Whether a call should be made; cheap, for every request.
    pub(super) fn is_short(&self, waiting: usize) -> bool {
        waiting > 0 || self.held <= self.target(waiting) / 2
    }

    /// For all who wait, and for who will come before the next lot but one. Never more than the bucket holds.
    fn target(&self, waiting: usize) -> u32 {
        let ahead = self.wanted_per_s * self.terms.pause().as_secs_f64() * 2.0;
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        waiting.saturating_add(ahead as u32).saturating_add(u32::from(self.wanted > 0)).min(self.terms.size)
    }

    /// A call goes out: what is wanted is counted anew.
    pub(super) fn count(&mut self, now: Instant) {
        let span = now.saturating_duration_since(self.counted_from).max(self.terms.pause());
        let newest = f64::from(std::mem::take(&mut self.wanted)) / span.as_secs_f64();
        // What was wanted before a quiet time counts no more.
        let pauses = span.as_secs_f64() / self.terms.pause().as_secs_f64();
        self.wanted_per_s += (newest - self.wanted_per_s) * (1.0 - (1.0 - NEWEST).powf(pauses));
        self.counted_from = now;
    }

    /// Redis granted so many of those asked for, in a call that was sent at `sent`; the one before at `before`.
    pub(super) fn put(&mut self, granted: u32, asked: u32, sent: Instant, since_last: Duration) {
        (self.met, self.away) = (true, false);
        if granted > 0 && self.leased.len() < LOTS_MAX {
            self.leased.push_back(Lot { until: sent + self.terms.ttl, left: granted });
            self.held += granted;
        }
        let given = if granted < asked {
            f64::from(granted) / since_last.max(self.terms.pause()).as_secs_f64()
        } else {
            f64::from(self.terms.rate_per_s)
        };
        self.given_per_s += (given - self.given_per_s) * NEWEST;
    }

    /// How long until so many tokens that nobody has taken may be here. An estimate: others take from the bucket too.
    pub(super) fn until(&self, tokens: f64) -> Duration {
        let missing = tokens - f64::from(self.held);
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        // Never hopeless: a share of nothing would keep everybody out, so that nothing would be asked for.
        let least = f64::from(self.terms.rate_per_s) / 64.0;
        let seconds = (missing - 1.0).max(0.0) / self.given_per_s.max(least);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).saturating_add(self.terms.pause())
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> u32 {
        self.held
    }

    fn expire(&mut self, now: Instant) {
        while let Some(lot) = self.leased.front().filter(|lot| lot.until <= now) {
            self.held -= lot.left;
            self.leased.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lots(rate: u32, burst: u32) -> (Lots, Instant) {
        let now = Instant::now();
        (Lots::new(Terms::new(rate, burst), now), now)
    }

    /// The parts of the bound, for all settings that the configuration allows.
    #[test]
    fn what_lives_outside_the_bucket_is_set_aside_from_the_burst() {
        for (rate, burst) in [(1, 1), (10, 1_000), (1_000, 100), (1_000, 1_000), (50_000, 5_000), (7, 3)] {
            let terms = Terms::new(rate, burst);
            let outside = 2.0 * f64::from(rate) * terms.ttl.as_secs_f64();
            assert!(f64::from(terms.size) + outside <= f64::from(burst.max(2)) + 1e-6, "{terms:?}");
            assert!(terms.size >= burst / 2, "{terms:?}");
            assert!(terms.pause() <= Duration::from_millis(63));
        }
    }

    #[test]
    fn fm23_a_lot_that_nobody_uses_ends_by_itself() {
        let (mut lots, start) = lots(1_000, 1_000);
        lots.put(10, 10, start, Duration::ZERO);
        assert!(lots.take(start + Duration::from_millis(249)).is_some());
        assert!(lots.take(start + Duration::from_millis(250)).is_none());
        assert_eq!(lots.held(), 0);
    }

    #[test]
    fn a_token_given_back_lives_no_longer_than_it_did() {
        let (mut lots, start) = lots(1_000, 1_000);
        lots.put(1, 1, start, Duration::ZERO);
        let until = lots.take(start).unwrap();
        lots.put(1, 1, start + Duration::from_millis(100), Duration::ZERO);
        lots.give_back(until, start + Duration::from_millis(200));
        assert_eq!(lots.held(), 2);
        assert!(lots.take(start + Duration::from_millis(300)).is_some());
        assert!(lots.take(start + Duration::from_millis(300)).is_none());
        lots.give_back(until, start + Duration::from_millis(300));
        assert_eq!(lots.held(), 0);
    }

    #[test]
    fn less_than_one_token_missing_is_a_wait_like_any_other() {
        let (mut lots, start) = lots(1_000, 1_000);
        lots.put(2, 2, start, Duration::ZERO);
        assert_eq!(lots.until(2.5), lots.until(3.0));
        assert_eq!(lots.until(2.0), Duration::ZERO);
    }

    #[test]
    fn the_first_call_asks_for_nothing_and_quiet_times_for_no_call() {
        let (mut lots, start) = lots(1_000, 1_000);
        assert_eq!(lots.ask(0, start), Some(0), "Redis' time must be known before the rush");
        lots.put(0, 0, start, Duration::ZERO);
        assert_eq!(lots.ask(0, start + Duration::from_hours(1)), None);
    }

    #[test]
    fn lots_grow_with_the_crowd_up_to_the_bucket_and_shrink_again() {
        let (mut lots, mut now) = lots(1_000, 1_000);
        lots.put(0, 0, now, Duration::ZERO);
        let mut asked = Vec::new();
        for per_pause in [10, 10, 10, 10, 10_000, 10_000] {
            for _ in 0..per_pause {
                lots.want();
            }
            asked.push(lots.ask(0, now));
            lots.count(now);
            now += lots.terms.pause();
        }
        // Nothing was ever granted, so each asks for all that it aims at.
        assert!(asked[3] >= Some(16) && asked[3] <= Some(24), "{asked:?}");
        assert_eq!(asked[5], Some(lots.terms.size), "{asked:?}");
        now += Duration::from_secs(10);
        assert_eq!(lots.ask(0, now), None, "nobody wants any");
        lots.want();
        lots.ask(0, now);
        lots.count(now);
        lots.want();
        assert_eq!(lots.ask(0, now), Some(1), "the crowd is forgotten");
    }
}
