//! How many orders a second the workers settle, from their acknowledgements.
//!
//! The rate is orders settled ÷ time, over a window that slides on the [busy clock](super::busy): only time with orders
//! to be settled counts, so a lull leaves the rate as it was. The window holds a second, or more while fewer than some
//! dozens of orders were settled in it: a halving shows within a second where orders are many, and chance does not show
//! where they are few. When workers stop, the window grows without an order in it and the rate falls; the first orders
//! settled afterwards raise it again, because it is measured anew and never multiplied by anything.

use super::busy::BusyClock;
use super::window::{SLICE_NS, Window};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bits of the published word that hold the count; the others hold the first slice.
const COUNT_BITS: u32 = 24;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// Measures how fast one topic is drained. Shared by all cores: acknowledgements take a short lock among themselves, reading takes
/// none. All instants are of the monotonic clock; one before the start counts as the start.
#[derive(Debug)]
pub(super) struct Meter {
    started: Instant,
    busy: BusyClock,
    window: Mutex<Window>,
    /// Settled in the window, and the slice that it begins with; 0: nothing was ever settled.
    seen: AtomicU64,
    /// `f32` bits; see [`Rate::spread`].
    spread: AtomicU32,
    /// The slice up to which `seen` was made.
    seen_at: AtomicU64,
    /// When an order was settled last, busy clock.
    last_ns: AtomicU64,
}

/// How fast orders are settled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Orders a second, above 0 but for a very long silence.
    pub per_s: f64,
    /// Orders that this was measured on.
    pub orders: f64,
    /// How unevenly they come: 1 one by one and at random, more in lots.
    pub spread: f64,
    /// Since the last one, of the time with orders to be settled.
    pub silent: Duration,
}

impl Meter {
    /// Nothing measured yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            busy: BusyClock::default(),
            window: Mutex::default(),
            seen: AtomicU64::new(0),
            spread: AtomicU32::new(1_f32.to_bits()),
            seen_at: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
        }
    }

    /// There are orders to be settled, or none. Saying it again changes nothing.
    pub(super) fn set_busy(&self, busy: bool, now: Instant) {
        if self.busy.is_busy() != busy {
            self.busy.set(busy, self.ns(now));
        }
    }

    /// Workers have settled so many more orders. To be called before the meter is told that there are none left.
    pub(super) fn observe(&self, settled: u64, now: Instant) {
        if settled == 0 {
            return;
        }
        let busy_ns = self.busy.read(self.ns(now));
        self.last_ns.fetch_max(busy_ns, Ordering::Relaxed);
        self.publish(&mut self.window.lock(), busy_ns, settled);
    }

    /// The rate with what it rests on. `None` before the first order was settled.
    pub(super) fn rate(&self, now: Instant) -> Option<Rate> {
        let busy_ns = self.busy.read(self.ns(now));
        // Silence is news too: whoever asks first in a new slice moves the window on, the others need not wait.
        if busy_ns / SLICE_NS > self.seen_at.load(Ordering::Relaxed)
            && let Some(mut window) = self.window.try_lock()
        {
            self.publish(&mut window, busy_ns, 0);
        }
        let seen = self.seen.load(Ordering::Acquire);
        if seen == 0 {
            return None;
        }
        // `seen` and `busy_ns` may be of two moments a few µs apart: that is less than a slice.
        let from_ns = ((seen >> COUNT_BITS) - 1) * SLICE_NS;
        let window_ns = busy_ns.saturating_sub(from_ns).max(SLICE_NS);
        let orders = (seen & COUNT_MAX) as f64;
        Some(Rate {
            per_s: orders * 1e9 / window_ns as f64,
            orders,
            spread: f32::from_bits(self.spread.load(Ordering::Relaxed)).into(),
            silent: Duration::from_nanos(busy_ns.saturating_sub(self.last_ns.load(Ordering::Relaxed))),
        })
    }

    fn publish(&self, window: &mut Window, busy_ns: u64, settled: u64) {
        let slice = busy_ns / SLICE_NS;
        window.add(slice, settled);
        self.seen_at.fetch_max(slice, Ordering::Relaxed);
        let Some(seen) = window.seen() else { return };
        self.spread.store((seen.spread as f32).to_bits(), Ordering::Relaxed);
        // One more than the slice, so that the word is never 0 once something was settled.
        let word = (seen.from + 1) << COUNT_BITS | seen.settled.min(COUNT_MAX);
        self.seen.store(word, Ordering::Release);
    }

    fn ns(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(meter: &Meter, ms: u64) -> Instant {
        meter.started + Duration::from_millis(ms)
    }

    /// One order every `every_ms` in `[from_ms, until_ms)`.
    fn settle(meter: &Meter, from_ms: u64, until_ms: u64, every_ms: u64) {
        let mut ms = from_ms;
        while ms < until_ms {
            meter.observe(1, at(meter, ms));
            ms += every_ms;
        }
    }

    fn rate(meter: &Meter, ms: u64) -> f64 {
        meter.rate(at(meter, ms)).unwrap().per_s
    }

    fn busy() -> Meter {
        let meter = Meter::new(Instant::now());
        meter.set_busy(true, at(&meter, 0));
        meter
    }

    #[test]
    fn nothing_is_known_before_the_first_order() {
        let meter = busy();
        assert_eq!(meter.rate(at(&meter, 10_000)), None);
        meter.observe(0, at(&meter, 10_000));
        assert_eq!(meter.rate(at(&meter, 10_000)), None);
        meter.observe(1, at(&meter, 10_000));
        assert!((rate(&meter, 10_000) - 0.1).abs() < 0.01, "one order in ten seconds");
    }

    #[test]
    fn a_halving_shows_within_a_second() {
        let meter = busy();
        settle(&meter, 0, 10_000, 5);
        assert!((rate(&meter, 10_000) - 200.0).abs() < 5.0, "{}", rate(&meter, 10_000));
        settle(&meter, 10_000, 11_100, 10);
        assert!((rate(&meter, 11_100) - 100.0).abs() < 5.0, "{}", rate(&meter, 11_100));
    }

    #[test]
    fn rare_orders_are_measured_over_longer() {
        let meter = busy();
        settle(&meter, 0, 30_000, 500);
        for ms in (30_000..30_500).step_by(50) {
            assert!((rate(&meter, ms) - 2.0).abs() < 0.2, "{}", rate(&meter, ms));
        }
    }

    #[test]
    fn when_nothing_is_settled_the_rate_falls() {
        let meter = busy();
        settle(&meter, 0, 5_000, 10);
        let mut before = rate(&meter, 5_000);
        for (ms, most) in [(5_500, 70.0), (6_000, 45.0), (8_000, 20.0), (15_000, 6.0)] {
            let now = rate(&meter, ms);
            assert!(now <= before && now < most, "{ms}: {now}");
            before = now;
        }
        let silent = meter.rate(at(&meter, 15_000)).unwrap().silent;
        assert!(silent > Duration::from_millis(9_900), "{silent:?}");
    }

    /// Failure mode 53: neither a lull nor an outage leaves the rate low.
    #[test]
    fn fm53_a_lull_leaves_the_rate_and_an_outage_is_forgotten_in_a_second() {
        let meter = busy();
        settle(&meter, 0, 5_000, 10);
        meter.set_busy(false, at(&meter, 5_000));
        assert!((rate(&meter, 3_600_000) - 100.0).abs() < 5.0, "an hour without an order is no slowness");
        meter.set_busy(true, at(&meter, 3_600_000));
        assert!((rate(&meter, 3_600_000) - 100.0).abs() < 5.0);
        // Workers are gone for two minutes, then as quick as before.
        assert!(rate(&meter, 3_720_000) < 0.1);
        settle(&meter, 3_720_000, 3_721_200, 10);
        assert!(rate(&meter, 3_721_200) > 90.0, "{}", rate(&meter, 3_721_200));
    }

    #[test]
    fn lots_are_known_to_be_lots() {
        let meter = busy();
        for second in 0..20 {
            meter.observe(100, at(&meter, second * 500));
        }
        let rate = meter.rate(at(&meter, 9_900)).unwrap();
        assert!((rate.per_s - 200.0).abs() < 60.0, "{rate:?}");
        assert!(rate.spread > 20.0, "{rate:?}");
    }

    #[test]
    fn an_instant_of_before_the_start_is_the_start() {
        let before = Instant::now();
        let meter = Meter::new(before + Duration::from_secs(5));
        meter.set_busy(true, before);
        meter.observe(1, before);
        assert!(meter.rate(before).is_some());
    }
}
