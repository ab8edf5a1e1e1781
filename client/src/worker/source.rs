//! One gateway as a source of messages: room, long poll, hand-over; back-off while it is away; its end.

use super::lease::{Leased, Shared};
use super::room::Room;
use super::settle::{self, Settlement, Verdict};
use super::{Retry, Worker};
use crate::client::Backoff;
use crate::wire::{Message, PutGroup, ReceiveRequest};
use crate::{ClientError, Member};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Pause after a receive that came back empty sooner than this.
const EMPTY_PAUSE: Duration = Duration::from_millis(50);

/// While a gateway is away, that is said again after.
const AWAY_TOLD_EVERY: Duration = Duration::from_mins(1);

/// How long an end waits for the receive under way: its answer may be on the wire with messages under lease, which
/// would else stay invisible until their leases end.
const END_GRACE: Duration = Duration::from_millis(250);

/// What the sources of a worker share.
pub(super) struct Common<H> {
    pub(super) worker: Worker,
    pub(super) handler: H,
    pub(super) room: Room,
    pub(super) stopping: watch::Receiver<bool>,
}

pub(super) struct Source<H> {
    common: Arc<Common<H>>,
    member: Member,
    backlog_max: usize,
}

impl<H, F> Source<H>
where
    H: Fn(Message<'static>, Member) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), Retry>> + Send + 'static,
{
    pub(super) fn new(common: Arc<Common<H>>, member: Member) -> Self {
        let backlog_max = common.worker.concurrency;
        Self { common, member, backlog_max }
    }

    /// Until `left` is dropped, or the gateway refuses in a way that waiting does not mend. Then no further receive;
    /// what the last one still brings is given back; handlers that run are waited for, when the worker stops or the
    /// gateway has refused no longer than `stop_within`; what they came to is told to the gateway.
    pub(super) async fn run(self, left: oneshot::Receiver<()>) -> Result<(), ClientError> {
        let worker = &self.common.worker;
        let shared = Arc::new(Shared {
            client: self.member.client().clone(),
            topic: Arc::clone(&worker.topic),
            group: Arc::clone(&worker.group),
            lease: worker.lease,
            stats: Arc::clone(&worker.stats),
        });
        let (verdicts, incoming) = mpsc::channel(self.backlog_max);
        let (abort, aborted) = watch::channel(false);
        let mut settling = JoinSet::new();
        settling.spawn(settle::run(Arc::clone(&shared), incoming));
        let mut running = JoinSet::new();

        let start = |message: Message<'static>, running: &mut JoinSet<()>| {
            let leased = Leased::new(Arc::clone(&shared), &message);
            let (common, member) = (Arc::clone(&self.common), self.member.clone());
            let handling = async move {
                let Some(_permit) = common.room.enter().await else {
                    return Err(Retry::after_ms(0, "the worker stops"));
                };
                (common.handler)(message, member).await
            };
            let (verdicts, aborted) = (verdicts.clone(), aborted.clone());
            running.spawn(async move {
                if let Some(verdict) = leased.live(handling, aborted).await {
                    // Fails only when the settling task is gone, which ends after this one.
                    let _gone = verdicts.send(verdict).await;
                }
            });
        };
        let outcome = match self.receive_until(left, &mut running, start).await {
            Ok(left_over) => {
                for message in left_over {
                    worker.stats.received.add(1);
                    let receipt = message.receipt.into_owned();
                    let verdict = Verdict::Nack { delay_ms: Some(0) };
                    let _gone = verdicts.send(Settlement { receipt, verdict }).await;
                }
                Ok(())
            }
            Err(error) => Err(error),
        };

        let bound = async {
            if outcome.is_ok() {
                until_set(self.common.stopping.clone()).await;
            }
            tokio::time::sleep(worker.stop_within).await;
        };
        let in_time = tokio::select! {
            biased;
            () = join_all(&mut running) => true,
            () = bound => false,
        };
        if !in_time {
            tracing::warn!(topic = %worker.topic, group = %worker.group, gateway = self.member.name(),
                handlers = running.len(), "handlers still run at the end of the stop; their messages are given back");
            abort.send_replace(true);
            join_all(&mut running).await;
        }
        drop(verdicts);
        join_all(&mut settling).await;
        outcome
    }

    /// Until `left` is dropped; answers what the last receive still brought.
    async fn receive_until(
        &self,
        mut left: oneshot::Receiver<()>,
        running: &mut JoinSet<()>,
        start: impl Fn(Message<'static>, &mut JoinSet<()>),
    ) -> Result<Vec<Message<'static>>, ClientError> {
        let worker = &self.common.worker;
        let mut away = Backoff::new(Duration::from_millis(100), worker.away_delay_max);
        let mut told_at = Instant::now();
        let mut pause = Duration::ZERO;
        let mut settings = worker.settings.as_ref();
        loop {
            let asked = tokio::select! {
                biased;
                _ = &mut left => return Ok(Vec::new()),
                asked = self.room(running, std::mem::take(&mut pause)) => asked,
            };
            let Some(asked) = asked else { return Ok(Vec::new()) };
            let request = self.request(asked);
            let asked_at = Instant::now();
            let messages = {
                let receive = self.receive(&mut settings, &request);
                tokio::pin!(receive);
                tokio::select! {
                    biased;
                    _ = &mut left => {
                        let grace = END_GRACE.min(worker.stop_within);
                        return Ok(timeout(grace, receive).await.map(Result::unwrap_or_default).unwrap_or_default());
                    }
                    messages = &mut receive => messages,
                }
            };
            match messages {
                Ok(messages) => {
                    // A gateway that drains answers long polls at once, with nothing: do not spin on it.
                    if messages.is_empty() && asked_at.elapsed() < EMPTY_PAUSE {
                        pause = EMPTY_PAUSE;
                    }
                    if away.failures() > 0 {
                        tracing::info!(topic = %worker.topic, group = %worker.group, gateway = self.member.name(),
                            "gateway is back");
                        away.reset();
                    }
                    // More than asked for is left to its lease: the bounds hold.
                    for message in messages.into_iter().take(asked) {
                        worker.stats.received.add(1);
                        worker.stats.redelivered.add(u64::from(message.attempt > 1));
                        if let Some(observe) = &worker.on_delivery {
                            observe(&self.member, &message);
                        }
                        start(message, running);
                    }
                }
                Err(error) if error.is_transient() => {
                    worker.stats.receives_failed.add(1);
                    // Not one line for each attempt; but an outage that goes on is not forgotten either.
                    if away.failures() == 0 || told_at.elapsed() >= AWAY_TOLD_EVERY {
                        told_at = Instant::now();
                        tracing::warn!(topic = %worker.topic, group = %worker.group, gateway = self.member.name(),
                            %error, "gateway is away");
                    }
                    pause = away.next_delay(Duration::ZERO);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// After the pause, once there is room for messages of this gateway: for how many; `None` when the worker stops.
    async fn room(&self, running: &mut JoinSet<()>, pause: Duration) -> Option<usize> {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        while running.try_join_next().is_some() {}
        while running.len() >= self.backlog_max {
            running.join_next().await;
        }
        let max = self.common.worker.receive_max.min(self.backlog_max - running.len());
        self.common.room.free(max).await
    }

    /// Puts the group's settings first, once.
    async fn receive(
        &self,
        settings: &mut Option<&PutGroup>,
        request: &ReceiveRequest,
    ) -> Result<Vec<Message<'static>>, ClientError> {
        let (worker, client) = (&self.common.worker, self.member.client());
        if let Some(put) = *settings {
            client.put_group(&worker.topic, &worker.group, put).await?;
            *settings = None;
        }
        client.receive(&worker.topic, &worker.group, request).await
    }

    fn request(&self, max: usize) -> ReceiveRequest {
        let worker = &self.common.worker;
        ReceiveRequest {
            consumer: worker.consumer.clone(),
            max: u32::try_from(max).unwrap_or(u32::MAX),
            wait_ms: worker.wait.as_millis() as u64,
            lease_ms: worker.lease.as_millis() as u64,
            tags: worker.tags.clone(),
        }
    }
}

async fn until_set(mut flag: watch::Receiver<bool>) {
    // Without the sender the worker's own future is gone, and with it this one.
    let _gone = flag.wait_for(|set| *set).await;
}

async fn join_all(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}
