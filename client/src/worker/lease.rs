//! One message under lease: runs its handler, prolongs the lease meanwhile, and comes to a verdict under the
//! newest receipt.
//!
//! The handler is a task of its own, so an extension under way does not hold it back; and the verdict waits for
//! that extension, because it voids the receipt that the verdict would else be sent with.

use super::settle::{Settlement, Verdict};
use super::{Retry, WorkerStats};
use crate::Client;
use crate::wire::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

/// An aborted handler ends at its next await; one that never comes to it is left behind after this.
const ABORT_WAIT: Duration = Duration::from_secs(1);

/// What all messages of one gateway share; acks and extensions go where they came from.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) topic: Arc<str>,
    pub(super) group: Arc<str>,
    pub(super) lease: Duration,
    pub(super) stats: Arc<WorkerStats>,
}

pub(super) struct Leased {
    shared: Arc<Shared>,
    id: String,
    receipt: String,
    ends: Instant,
}

/// What came of an attempt to prolong.
enum Extension {
    Prolonged,
    /// The lease is over: somebody else may have the message by now.
    Lost,
    /// No answer; the old lease still runs.
    Failed,
}

/// Aborts the handler when the lease's own task is dropped.
struct Handling(JoinHandle<Result<(), Retry>>);

impl Drop for Handling {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Leased {
    pub(super) fn new(shared: Arc<Shared>, message: &Message<'static>) -> Self {
        let ends = Instant::now() + shared.lease;
        Self { shared, id: message.id.to_string(), receipt: message.receipt.to_string(), ends }
    }

    /// Until the handler is done or aborted. `None` when the lease was lost on the way: nothing is left to
    /// settle, the message comes again.
    pub(super) async fn live(
        mut self,
        handler: impl Future<Output = Result<(), Retry>> + Send + 'static,
        mut aborted: watch::Receiver<bool>,
    ) -> Option<Settlement> {
        let mut handling = Handling(tokio::spawn(handler));
        let third = self.shared.lease / 3;
        let mut extend_at = Instant::now() + third;
        let mut lost = false;
        let handled = loop {
            tokio::select! {
                biased;
                joined = &mut handling.0 => break joined.unwrap_or_else(|error| Err(Retry::backoff(error))),
                () = until_set(&mut aborted) => break abort(&mut handling.0).await,
                () = sleep_until(extend_at), if !lost => {}
            }
            let extension = tokio::select! {
                biased;
                extension = self.extend() => extension,
                () = until_set(&mut aborted) => break abort(&mut handling.0).await,
            };
            match extension {
                Extension::Prolonged => extend_at = Instant::now() + third,
                // Half of what is left, so that attempts grow denser towards the end but never spin.
                Extension::Failed if Instant::now() < self.ends => {
                    let left = self.ends.duration_since(Instant::now());
                    extend_at = Instant::now() + (left / 2).max(Duration::from_millis(10));
                }
                Extension::Failed | Extension::Lost => {
                    lost = true;
                    self.shared.stats.leases_lost.add(1);
                    tracing::debug!(id = %self.id, "lease lost while the handler runs");
                }
            }
        };
        if lost {
            return None;
        }
        let verdict = match handled {
            Ok(()) => Verdict::Ack,
            Err(retry) => {
                tracing::debug!(id = %self.id, reason = %retry.reason, "message given back");
                Verdict::Nack { delay_ms: retry.delay_ms }
            }
        };
        Some(Settlement { receipt: self.receipt, verdict })
    }

    async fn extend(&mut self) -> Extension {
        let lease_ms = self.shared.lease.as_millis() as u64;
        let asked_at = Instant::now();
        let receipts = [self.receipt.clone()];
        let call = self.shared.client.extend(&self.shared.topic, &self.shared.group, &receipts, lease_ms);
        let Ok(Ok(results)) = timeout_at(self.ends, call).await else { return Extension::Failed };
        match results.into_iter().next() {
            Some(result) if result.ok => {
                self.receipt = result.receipt.into_owned();
                self.ends = asked_at + self.shared.lease;
                self.shared.stats.leases_extended.add(1);
                Extension::Prolonged
            }
            Some(_) => Extension::Lost,
            None => Extension::Failed,
        }
    }
}

/// Ready once the flag is set; never when it cannot be any more.
async fn until_set(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|set| *set).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn abort(handling: &mut JoinHandle<Result<(), Retry>>) -> Result<(), Retry> {
    handling.abort();
    match tokio::time::timeout(ABORT_WAIT, handling).await {
        // It was done before the abort reached it.
        Ok(Ok(handled)) => handled,
        Ok(Err(_)) | Err(_) => Err(Retry::after_ms(0, "the worker stops")),
    }
}
