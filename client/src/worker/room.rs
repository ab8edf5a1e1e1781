//! The handlers that all gateways share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long free handlers wait for company, so that a busy worker receives in batches and not one by one.
const COMPANY: Duration = Duration::from_millis(2);

/// Permits to run a handler. Nobody keeps one over a long poll: a gateway is asked for as many messages as there are
/// handlers free at that moment, and each message then queues for its own.
pub(super) struct Room {
    handlers: Arc<Semaphore>,
    concurrency: usize,
    sources: AtomicUsize,
}

impl Room {
    pub(super) fn new(concurrency: usize) -> Self {
        Self { handlers: Arc::new(Semaphore::new(concurrency)), concurrency, sources: AtomicUsize::new(1) }
    }

    /// So many gateways share it from now on.
    pub(super) fn share_among(&self, sources: usize) {
        self.sources.store(sources.max(1), Ordering::Relaxed);
    }

    /// Waits its turn for a free handler; a quarter of what may be asked for where that comes soon. Answers how many
    /// are free, up to the share of one gateway and to `max`; `None` once the room is closed.
    pub(super) async fn free(&self, max: usize) -> Option<usize> {
        let share = self.concurrency / self.sources.load(Ordering::Relaxed);
        let max = share.min(max).max(1);
        let mut taken = self.take(1).await?;
        let company = (max / 4).saturating_sub(1);
        if company > 0
            && let Ok(more) = timeout(COMPANY, self.take(company)).await
        {
            taken.merge(more?);
        }
        let taken = taken.num_permits();
        Some(taken + self.handlers.available_permits().min(max - taken))
    }

    /// A permit to run one handler; `None` once the room is closed.
    pub(super) async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.take(1).await
    }

    /// Nobody enters any more.
    pub(super) fn close(&self) {
        self.handlers.close();
    }

    async fn take(&self, permits: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.handlers).acquire_many_owned(permits as u32).await.ok()
    }
}
