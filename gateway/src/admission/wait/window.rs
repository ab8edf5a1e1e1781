//! Orders settled in the last moments that had work: counts by slice of the busy clock.

/// One slice.
pub(super) const SLICE_NS: u64 = 50_000_000;
/// The window reaches back at least so many slices: one second …
const SLICES_MIN: u64 = 20;
/// … and, until it holds so many settled orders, further …
const SETTLED_MIN: u64 = 48;
/// … but no more than sixteen seconds.
const SLICES_MAX: u64 = 320;
/// Fewer slices tell nothing of how evenly orders are settled.
const SLICES_SPREAD: u64 = 10;
/// Spread believed at most; a single burst in a short window would otherwise look endless.
const SPREAD_MAX: f64 = 64.0;

/// What a window holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    /// Orders settled in it.
    pub(super) settled: u64,
    /// Slice that it begins with.
    pub(super) from: u64,
    /// Variance of the count of a slice over its mean: 1 when orders are settled one by one and at random, more when
    /// they come in lots, and never told as less than 1.
    pub(super) spread: f64,
}

/// A ring of slices. Numbers of slices are those of the busy clock.
#[derive(Debug)]
pub(super) struct Window {
    counts: Box<[u32]>,
    newest: u64,
    /// Any order was settled at all.
    begun: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self { counts: vec![0; SLICES_MAX as usize].into(), newest: 0, begun: false }
    }
}

impl Window {
    /// Moves on to `slice` and adds what was settled in it. An older one counts as the newest.
    pub(super) fn add(&mut self, slice: u64, settled: u64) {
        if slice > self.newest {
            for gone in (self.newest + 1..=slice).take(SLICES_MAX as usize) {
                self.counts[(gone % SLICES_MAX) as usize] = 0;
            }
            if slice - self.newest > SLICES_MAX {
                self.counts.fill(0);
            }
            self.newest = slice;
        }
        let count = &mut self.counts[(self.newest % SLICES_MAX) as usize];
        *count = count.saturating_add(u32::try_from(settled).unwrap_or(u32::MAX));
        self.begun |= settled > 0;
    }

    /// The window that ends with the newest slice. `None` before anything was settled.
    pub(super) fn seen(&self) -> Option<Seen> {
        if !self.begun {
            return None;
        }
        let (mut settled, mut squares, mut slices) = (0_u64, 0_f64, 0_u64);
        let mut from = self.newest;
        loop {
            let count = u64::from(self.counts[(from % SLICES_MAX) as usize]);
            settled += count;
            // The newest slice is not over.
            if from < self.newest {
                squares += (count * count) as f64;
                slices += 1;
            }
            let enough = slices >= SLICES_MIN && settled >= SETTLED_MIN;
            if from == 0 || enough || slices + 1 >= SLICES_MAX {
                break;
            }
            from -= 1;
        }
        let newest = u64::from(self.counts[(self.newest % SLICES_MAX) as usize]);
        let mean = (settled - newest) as f64 / slices.max(1) as f64;
        let spread = if slices >= SLICES_SPREAD && mean > 0.0 {
            ((squares / slices as f64 - mean * mean) / mean).clamp(1.0, SPREAD_MAX)
        } else {
            1.0
        };
        Some(Seen { settled, from, spread })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reaches_back_a_second_when_that_holds_enough() {
        let mut window = Window::default();
        for slice in 0..100 {
            window.add(slice, 5);
        }
        let seen = window.seen().unwrap();
        assert_eq!((seen.from, seen.settled), (79, 21 * 5));
        assert!((seen.spread - 1.0).abs() < 1e-9);
    }

    #[test]
    fn it_reaches_further_back_for_rare_orders_and_not_for_ever() {
        let mut window = Window::default();
        for slice in 0..1_000 {
            window.add(slice, u64::from(slice % 10 == 0));
        }
        let seen = window.seen().unwrap();
        assert_eq!(seen.from, 999 - SLICES_MAX + 1);
        assert_eq!(seen.settled, 32);
    }

    #[test]
    fn lots_spread_more_than_single_orders() {
        let mut window = Window::default();
        for slice in 0..200 {
            window.add(slice, if slice % 10 == 0 { 40 } else { 0 });
        }
        assert!(window.seen().unwrap().spread > 20.0);
    }

    #[test]
    fn a_long_silence_leaves_nothing_of_before() {
        let mut window = Window::default();
        window.add(3, 50);
        window.add(3 + 2 * SLICES_MAX, 0);
        let seen = window.seen().unwrap();
        assert_eq!((seen.settled, seen.from), (0, 3 + SLICES_MAX + 1));
    }
}
