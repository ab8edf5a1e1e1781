//! `rate_per_s = "auto"`: what workers have shown that they can take.
//!
//! The measure is the rate at which they settle orders, taken only while there are orders to be settled: in a lull it says
//! nothing, and stays as it was. So the rate cannot follow a lull down to zero (failure mode 53). While little waits for the
//! workers the rate is above what was measured, so that workers who could take more show it; once enough waits to keep
//! them busy it is below, so that the backlog does not grow for ever. It is never below the floor, so that workers who
//! come back after a standstill are noticed. Without a backlog everybody passes.

/// Of what was measured, while little waits: what workers can take more is found out at this pace.
const PROBE: f64 = 1.5;
/// … and while enough waits.
const EASE: f64 = 0.9;
/// Enough: what keeps the workers busy for so long, in seconds.
const ENOUGH_S: f64 = 0.5;
/// … and at least so many orders, so that the first ones after a lull are no reason to slow down.
const ENOUGH_MIN: f64 = 10.0;

/// The rate, of a generator that follows the workers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Auto {
    floor_per_s: f64,
    rate_per_s: f64,
}

impl Auto {
    /// Before anything was measured: the floor.
    pub(super) fn new(floor_per_s: f64) -> Self {
        Self { floor_per_s, rate_per_s: floor_per_s }
    }

    /// Another floor; what was measured stays.
    pub(super) fn set_floor(&mut self, floor_per_s: f64) {
        self.floor_per_s = floor_per_s;
        self.rate_per_s = self.rate_per_s.max(floor_per_s);
    }

    /// What the workers show now: orders before them, and how many a second they settle while there are any.
    pub(super) fn follow(&mut self, backlog: u64, drained_per_s: Option<f64>) {
        if let Some(drained) = drained_per_s {
            let enough = (drained * ENOUGH_S).max(ENOUGH_MIN);
            let pace = if backlog as f64 > enough { EASE } else { PROBE };
            self.rate_per_s = (drained * pace).max(self.floor_per_s);
        }
    }

    pub(super) fn rate_per_s(&self) -> f64 {
        self.rate_per_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::tokens::bucket::Bucket;
    use std::time::{Duration, Instant};

    /// Workers that deal with so many orders a second at most, by a clock of the test's: what they settle while there is
    /// something is measured over the last second of that time, as the meter of the real ones does it.
    struct Shop {
        auto: Auto,
        bucket: Bucket,
        now: Instant,
        backlog: f64,
        /// Settled in each step in which there was a backlog.
        settled: Vec<f64>,
        admitted: u64,
    }

    const STEP: Duration = Duration::from_millis(10);
    const BURST: u32 = 20;

    impl Shop {
        fn new(floor: f64) -> Self {
            let now = Instant::now();
            let (auto, bucket) = (Auto::new(floor), Bucket::new(floor, BURST, now));
            Self { auto, bucket, now, backlog: 0.0, settled: Vec::new(), admitted: 0 }
        }

        /// So many ms with so many orders offered a second; tells how many were admitted a second.
        fn run(&mut self, ms: u64, offered_per_s: f64, drain_per_s: f64) -> f64 {
            let before = self.admitted;
            let mut offered = 0.0;
            for _ in 0..ms / 10 {
                self.now += STEP;
                let seconds = STEP.as_secs_f64();
                if self.backlog > 0.0 {
                    let settled = self.backlog.min(drain_per_s * seconds);
                    self.backlog -= settled;
                    self.settled.push(settled);
                }
                let seen: Vec<f64> = self.settled.iter().rev().take(100).copied().collect();
                let drained = seen.iter().sum::<f64>() / (seen.len().max(1) as f64 * seconds);
                self.auto.follow(self.backlog.ceil() as u64, (!seen.is_empty()).then_some(drained));
                self.bucket.set(self.auto.rate_per_s(), BURST, self.now);
                offered += offered_per_s * seconds;
                while offered >= 1.0 {
                    offered -= 1.0;
                    if self.backlog <= 0.0 || self.bucket.take(self.now) {
                        self.backlog += 1.0;
                        self.admitted += 1;
                    }
                }
            }
            (self.admitted - before) as f64 * 1_000.0 / ms as f64
        }
    }

    #[test]
    fn the_rate_finds_what_workers_can_take_and_follows_it_down_and_up() {
        let mut shop = Shop::new(5.0);
        shop.run(10_000, 2_000.0, 200.0);
        for drain in [200.0, 100.0, 400.0] {
            shop.run(10_000, 2_000.0, drain);
            let admitted = shop.run(10_000, 2_000.0, drain);
            assert!((admitted - drain).abs() < drain * 0.1, "{admitted} admitted, {drain} drained");
            assert!(shop.backlog > 0.0 && shop.backlog < drain * 2.0, "{} wait at {drain}", shop.backlog);
        }
    }

    /// A lull, then a burst: the burst is let in at the full rate from its first second on.
    #[test]
    fn fm53_a_lull_leaves_the_rate_as_it_was() {
        let mut shop = Shop::new(5.0);
        shop.run(20_000, 1_000.0, 200.0);
        let before = shop.auto.rate_per_s();
        // The backlog is worked off, then nobody comes for an hour, but for one order a minute.
        shop.run(60_000, 0.0, 200.0);
        shop.run(3_600_000, 1.0 / 60.0, 200.0);
        assert!(shop.auto.rate_per_s() > before * 0.5, "{} before, {} now", before, shop.auto.rate_per_s());
        let admitted = shop.run(1_000, 1_000.0, 200.0);
        assert!(admitted >= 180.0, "{admitted} in the first second of the burst");
    }

    /// Workers stop: the floor is admitted, so that their return shows; they return, and so does the rate.
    #[test]
    fn fm53_a_standstill_leaves_the_floor_and_the_rate_comes_back() {
        let mut shop = Shop::new(5.0);
        shop.run(20_000, 1_000.0, 200.0);
        shop.run(10_000, 1_000.0, 0.0);
        let stopped = shop.run(10_000, 1_000.0, 0.0);
        assert!((stopped - 5.0).abs() < 1.0, "{stopped} with workers that stand still");
        shop.run(5_000, 1_000.0, 200.0);
        let back = shop.run(5_000, 1_000.0, 200.0);
        assert!((back - 200.0).abs() < 30.0, "{back} after they came back");
    }
}
