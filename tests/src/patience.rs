//! Waiting for a condition, with a bound. No test sleeps for a fixed time.

use std::time::{Duration, Instant};

/// No wait of a test is longer.
pub const BOUND: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Looks until there is something, at most [`BOUND`].
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl FnMut() -> F) -> T {
    eventually_within(BOUND, what, look).await
}

/// Looks until there is something, at most `bound`.
pub async fn eventually_within<T, F: Future<Output = Option<T>>>(
    bound: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + bound;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {bound:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits for an event, at most [`BOUND`].
pub async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, event).await.unwrap_or_else(|_| panic!("{what}: not within {BOUND:?}"))
}
