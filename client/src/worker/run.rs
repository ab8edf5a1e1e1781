//! The receive loop: room, long poll, hand-over; back-off while the gateway is away; the stop.

use super::lease::{Leased, Shared};
use super::settle::{self, Settlement, Verdict};
use super::{Retry, Worker, WorkerSummary};
use crate::ClientError;
use crate::client::Backoff;
use crate::wire::{Message, ReceiveRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long free handlers wait for company, so that a busy worker receives in batches and not one by one.
const COMPANY: Duration = Duration::from_millis(2);

/// Pause after a receive that came back empty sooner than this.
const EMPTY_PAUSE: Duration = Duration::from_millis(50);

/// How long a stop waits for the receive under way: its answer may be on the wire with messages under lease, which
/// would else stay invisible until their leases end.
const STOP_GRACE: Duration = Duration::from_millis(250);

impl Worker {
    /// Runs until `shutdown` is ready, or until the gateway refuses in a way that waiting does not mend (bad
    /// token, bad request). `Ok(())` from the handler acks the message, [`Retry`] gives it back; so does a
    /// panic.
    ///
    /// The stop is graceful: no further receive; what the last one still brings is given back; running handlers get `stop_within`, then they are aborted and
    /// their messages given back at once; acks under way are waited for.
    ///
    /// Cancel safety: dropping this future aborts the handlers and settles nothing; the messages come again
    /// when their leases end. Use `shutdown` instead.
    pub async fn run<H, F>(
        self,
        handler: H,
        shutdown: impl Future<Output = ()>,
    ) -> Result<WorkerSummary, ClientError>
    where
        H: Fn(Message<'static>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Retry>> + Send + 'static,
    {
        let shared = Arc::new(Shared {
            client: self.client.clone(),
            topic: Arc::clone(&self.topic),
            group: Arc::clone(&self.group),
            lease: self.lease,
            stats: Arc::clone(&self.stats),
        });
        let (verdicts, incoming) = mpsc::channel(self.concurrency);
        let (abort, aborted) = watch::channel(false);
        let mut settling = JoinSet::new();
        settling.spawn(settle::run(Arc::clone(&shared), incoming));
        let mut running = JoinSet::new();

        let handler = Arc::new(handler);
        let start = |message: Message<'static>, permit: OwnedSemaphorePermit, running: &mut JoinSet<()>| {
            let leased = Leased::new(Arc::clone(&shared), &message);
            let handler = Arc::clone(&handler);
            let handling = async move { handler(message).await };
            let (verdicts, aborted) = (verdicts.clone(), aborted.clone());
            running.spawn(async move {
                if let Some(verdict) = leased.live(handling, aborted).await {
                    // Fails only when the settling task is gone, which ends after this one.
                    let _gone = verdicts.send(verdict).await;
                }
                drop(permit);
            });
        };
        let outcome = match self.receive_until(shutdown, &mut running, start).await {
            Ok(left_over) => {
                for message in left_over {
                    self.stats.received.add(1);
                    let receipt = message.receipt.into_owned();
                    let verdict = Verdict::Nack { delay_ms: Some(0) };
                    let _gone = verdicts.send(Settlement { receipt, verdict }).await;
                }
                Ok(())
            }
            Err(error) => Err(error),
        };

        let waited = tokio::time::timeout(self.stop_within, join_all(&mut running)).await;
        if waited.is_err() {
            tracing::warn!(topic = %self.topic, group = %self.group, handlers = running.len(),
                "handlers still run at the end of the stop; their messages are given back");
            abort.send_replace(true);
            join_all(&mut running).await;
        }
        drop(verdicts);
        join_all(&mut settling).await;
        outcome.map(|()| self.stats.summary())
    }

    /// Until the stop; answers what the last receive still brought.
    async fn receive_until(
        &self,
        shutdown: impl Future<Output = ()>,
        running: &mut JoinSet<()>,
        start: impl Fn(Message<'static>, OwnedSemaphorePermit, &mut JoinSet<()>),
    ) -> Result<Vec<Message<'static>>, ClientError> {
        let handlers = Arc::new(Semaphore::new(self.concurrency));
        let mut away = Backoff::new(Duration::from_millis(100), self.away_delay_max);
        let mut pause = false;
        tokio::pin!(shutdown);
        loop {
            if std::mem::take(&mut pause) {
                tokio::select! {
                    biased;
                    () = &mut shutdown => return Ok(Vec::new()),
                    () = tokio::time::sleep(EMPTY_PAUSE) => {}
                }
            }
            let asked_at = Instant::now();
            while running.try_join_next().is_some() {}
            let next = async {
                let free = free_handlers(&handlers, self.concurrency.min(self.receive_max)).await;
                let request = self.request(free.num_permits());
                (free, self.client.receive(&self.topic, &self.group, &request).await)
            };
            tokio::pin!(next);
            let (mut free, received) = tokio::select! {
                biased;
                () = &mut shutdown => {
                    let grace = STOP_GRACE.min(self.stop_within);
                    return match tokio::time::timeout(grace, next).await {
                        Ok((_, Ok(messages))) => Ok(messages),
                        Ok((_, Err(_))) | Err(_) => Ok(Vec::new()),
                    };
                }
                next = &mut next => next,
            };
            match received {
                Ok(messages) => {
                    // A gateway that drains answers long polls at once, with nothing: do not spin on it.
                    pause = messages.is_empty() && asked_at.elapsed() < EMPTY_PAUSE;
                    if away.failures() > 0 {
                        tracing::info!(topic = %self.topic, group = %self.group, "gateway is back");
                        away.reset();
                    }
                    for message in messages {
                        // More than asked for is left to its lease: the bound on handlers holds.
                        let Some(permit) = free.split(1) else { break };
                        self.stats.received.add(1);
                        self.stats.redelivered.add(u64::from(message.attempt > 1));
                        if let Some(observe) = &self.on_delivery {
                            observe(&message);
                        }
                        start(message, permit, running);
                    }
                }
                Err(error) if error.is_transient() => {
                    self.stats.receives_failed.add(1);
                    // One line for each outage, not one for each attempt.
                    if away.failures() == 0 {
                        tracing::warn!(topic = %self.topic, group = %self.group, %error, "gateway is away");
                    }
                    drop(free);
                    let delay = away.next_delay(Duration::ZERO);
                    tokio::select! {
                        biased;
                        () = &mut shutdown => return Ok(Vec::new()),
                        () = tokio::time::sleep(delay) => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn request(&self, max: usize) -> ReceiveRequest {
        ReceiveRequest {
            consumer: self.consumer.clone(),
            max: u32::try_from(max).unwrap_or(u32::MAX),
            wait_ms: self.wait.as_millis() as u64,
            lease_ms: self.lease.as_millis() as u64,
            tags: self.tags.clone(),
        }
    }
}

/// At least one free handler; a quarter of `max` where they come soon; all that are free, up to `max`.
async fn free_handlers(handlers: &Arc<Semaphore>, max: usize) -> OwnedSemaphorePermit {
    let mut free = take(handlers, 1).await;
    let company = (max / 4).saturating_sub(1);
    if company > 0
        && let Ok(more) = tokio::time::timeout(COMPANY, take(handlers, company)).await
    {
        free.merge(more);
    }
    let rest = handlers.available_permits().min(max - free.num_permits());
    if let Ok(more) = Arc::clone(handlers).try_acquire_many_owned(rest as u32) {
        free.merge(more);
    }
    free
}

async fn take(handlers: &Arc<Semaphore>, permits: usize) -> OwnedSemaphorePermit {
    Arc::clone(handlers).acquire_many_owned(permits as u32).await.expect("the semaphore is never closed")
}

async fn join_all(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}
