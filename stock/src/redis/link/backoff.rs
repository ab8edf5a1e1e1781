//! How long to wait before the next attempt.

use rand::RngExt;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// Pause after so many failures in a row: doubling, at most a second, and between half of it and all of it, so that
/// the threads of a fleet do not come back in one instant.
pub(super) fn pause(failures: u32) -> Duration {
    let full = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST);
    full.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert!(pause(1) <= FIRST && pause(1) >= FIRST / 2);
        assert!(pause(5) >= FIRST * 8);
        assert!(pause(u32::MAX) <= LONGEST && pause(u32::MAX) >= LONGEST / 2);
    }
}
