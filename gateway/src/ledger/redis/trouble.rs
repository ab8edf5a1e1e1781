//! What is wrong with Redis, for whoever asks why this gateway does not sell.

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidegate_stock::{JournalError, TicketId};
use tokio::time::Instant;
use tracing::warn;

/// Replicas that did not answer are believed to be away for so long.
const BELIEVED: Duration = Duration::from_secs(5);
/// Between two warnings of the same.
const WARN: Duration = Duration::from_secs(10);

/// Of one gateway. Every thread may tell and ask.
#[derive(Default)]
pub struct Trouble {
    answered: AtomicBool,
    /// Why Redis could not be asked, the last time.
    last: ArcSwapOption<String>,
    lacking: Mutex<Option<Lacking>>,
    /// When it was last said that the log refused wins.
    refused: Mutex<Option<Instant>>,
}

struct Lacking {
    since: Instant,
    warned: Instant,
}

impl Trouble {
    /// Redis answered.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Redis could not be asked. Whether it could before.
    pub(super) fn failed(&self, why: String) -> bool {
        self.last.store(Some(Arc::new(why)));
        self.answered.swap(false, Ordering::Relaxed)
    }

    /// A call ran, and too few replicas have it.
    pub(super) fn unreplicated(&self, why: &str) {
        let now = Instant::now();
        let mut lacking = self.lacking.lock();
        let warned = lacking.as_ref().map(|lacking| lacking.warned).filter(|at| now - *at < WARN);
        if warned.is_none() {
            warn!(
                why,
                "orders are answered 503: attach replicas to Redis, or lower wait_replicas and accept that a failover may \
                 forget the last orders until the logs are brought in"
            );
        }
        *lacking = Some(Lacking { since: now, warned: warned.unwrap_or(now) });
    }

    /// The log refused the record of a win that Redis had granted: its note will be claimed. One line, not one a win.
    pub(super) fn unwritten(&self, ticket: TicketId, refused: JournalError) {
        let now = Instant::now();
        let mut last = self.refused.lock();
        if last.is_none_or(|at| now - at >= WARN) {
            *last = Some(now);
            warn!(%ticket, %refused, "won orders could not be written down at once; whoever claims their notes writes them");
        }
    }

    /// Whether replicas were lacking a moment ago.
    pub(super) fn is_unreplicated(&self) -> bool {
        self.lacking.lock().as_ref().is_some_and(|lacking| lacking.since.elapsed() < BELIEVED)
    }

    /// Why Redis is of no use now, or nothing.
    pub(super) fn now(&self) -> Option<&'static str> {
        if !self.answered.load(Ordering::Relaxed) {
            return Some("Redis does not answer, or refuses what is asked of it");
        }
        self.is_unreplicated().then_some("too few replicas of Redis have what is written (wait_replicas)")
    }

    /// What Redis, or the way to it, said last; `None` while all is well.
    pub fn detail(&self) -> Option<Arc<String>> {
        if self.answered.load(Ordering::Relaxed) { None } else { self.last.load_full() }
    }
}
