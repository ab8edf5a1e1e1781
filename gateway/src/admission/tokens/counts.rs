//! What became of requests at gate 9, by class of their sale's weight: so that a starving class shows, whatever number of sales
//! there is.

use std::sync::atomic::{AtomicU64, Ordering};

/// Lower ends of the classes, and their names.
const CLASSES: [(u32, &str); 4] = [(1, "1"), (2, "2-9"), (10, "10-99"), (100, "100+")];
const OUTCOMES: [&str; 5] = ["taken", "taken_after_wait", "refused", "timed_out", "over_budget"];

/// Counters of all classes.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    classes: [ClassCounts; CLASSES.len()],
    leases: AtomicU64,
}

/// Counters of one class.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ClassCounts([AtomicU64; OUTCOMES.len()]);

impl Counts {
    /// Of a sale of this weight.
    pub(crate) fn of(&self, weight: u32) -> &ClassCounts {
        let class = CLASSES.iter().rposition(|(from, _)| weight >= *from);
        &self.classes[class.unwrap_or(0)]
    }

    /// A call to Redis for a lot.
    pub(crate) fn count_lease(&self) {
        self.leases.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls to Redis for lots.
    pub(crate) fn leases(&self) -> u64 {
        self.leases.load(Ordering::Relaxed)
    }

    /// Everything, with class and outcome.
    pub(crate) fn totals(&self) -> impl Iterator<Item = ([(&'static str, &'static str); 2], u64)> {
        CLASSES.iter().zip(&self.classes).flat_map(|((_, class), counts)| {
            OUTCOMES.iter().zip(&counts.0).map(move |(outcome, count)| {
                ([("weight", *class), ("outcome", *outcome)], count.load(Ordering::Relaxed))
            })
        })
    }
}

impl ClassCounts {
    fn count(&self, outcome: usize) {
        self.0[outcome].fetch_add(1, Ordering::Relaxed);
    }

    /// There was a token.
    pub(crate) fn taken(&self) {
        self.count(0);
    }

    /// Its turn came.
    pub(crate) fn taken_after_wait(&self) {
        self.count(1);
    }

    /// Its turn would have come too late.
    pub(crate) fn refused(&self) {
        self.count(2);
    }

    /// Its turn did not come in time.
    pub(crate) fn timed_out(&self) {
        self.count(3);
    }

    /// Its sale has as many orders under way as it may.
    pub(crate) fn over_budget(&self) {
        self.count(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_has_its_class() {
        let counts = Counts::default();
        for weight in [0, 1, 2, 9, 10, 99, 100, u32::MAX] {
            counts.of(weight).taken();
        }
        let taken: Vec<u64> =
            counts.totals().filter(|(labels, _)| labels[1].1 == "taken").map(|(_, count)| count).collect();
        assert_eq!(taken, [2, 2, 2, 2]);
    }
}
