//! What can be set on a worker, and the bounds that hold.

use super::stats::WorkerStats;
use crate::wire::{GroupMode, Message, PutGroup};
use crate::{Fleet, Member};
use std::sync::Arc;
use std::time::Duration;

pub(super) type OnDelivery = Arc<dyn Fn(&Member, &Message<'static>) + Send + Sync>;

/// A consumer of one group. Set it up, then [`Worker::run`] it.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use tidegate_client::{Fleet, Retry, Worker};
///
/// let fleet = Fleet::builder(["http://10.0.0.1:8081", "http://10.0.0.2:8081"]).build()?;
/// let summary = Worker::new(fleet, "mail", "sender")
///     .concurrency(8)
///     .run(
///         |message| async move {
///             println!("{}", message.body.get());
///             Ok::<(), Retry>(())
///         },
///         async { tokio::signal::ctrl_c().await.unwrap_or(()) },
///     )
///     .await?;
/// println!("{summary:?}");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Worker {
    pub(super) fleet: Fleet,
    pub(super) topic: Arc<str>,
    pub(super) group: Arc<str>,
    pub(super) consumer: Option<String>,
    pub(super) settings: Option<PutGroup>,
    pub(super) concurrency: usize,
    pub(super) receive_max: usize,
    pub(super) wait: Duration,
    pub(super) lease: Duration,
    pub(super) stop_within: Duration,
    pub(super) away_delay_max: Duration,
    pub(super) tags: Vec<String>,
    pub(super) stats: Arc<WorkerStats>,
    pub(super) on_delivery: Option<OnDelivery>,
}

impl Worker {
    /// With 16 messages in flight, leases of 30 s, and 10 s to stop. Receives from every gateway of the fleet; a
    /// [`crate::Client`] is a fleet of one.
    pub fn new(fleet: impl Into<Fleet>, topic: &str, group: &str) -> Self {
        Self {
            fleet: fleet.into(),
            topic: topic.into(),
            group: group.into(),
            consumer: None,
            settings: None,
            concurrency: 16,
            receive_max: 256,
            wait: Duration::from_secs(15),
            lease: Duration::from_secs(30),
            stop_within: Duration::from_secs(10),
            away_delay_max: Duration::from_secs(5),
            tags: vec!["*".to_owned()],
            stats: Arc::default(),
            on_delivery: None,
        }
    }

    /// At most so many handlers at once, over all gateways; at least 1. From one gateway no more messages than that
    /// are under lease here; from several at once it may be twice as many, because what a gateway was asked for
    /// while handlers were free may come when another one has filled them. Those wait, and their leases are kept.
    #[must_use]
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers.max(1);
        self
    }

    /// What the group shall be. Put at every gateway before it is received from; a gateway that refuses it is not.
    #[must_use]
    pub fn group_settings(mut self, settings: PutGroup) -> Self {
        // A mode that was asked for by name stays.
        let mode = settings.mode.or(self.settings.take().and_then(|before| before.mode));
        self.settings = Some(PutGroup { mode, ..settings });
        self
    }

    /// The group is ordered: of each ordering key one message is with a handler at a time, in the order of their sending;
    /// a retry comes before what is behind it; other keys go on beside it. Over all workers of the group, at each gateway for
    /// itself. Send with [`crate::wire::PublishMessage::ordering_key`].
    #[must_use]
    pub fn ordered(self) -> Self {
        self.mode(GroupMode::Ordered)
    }

    /// The group is a broadcast, and this worker is the consumer of that name: it gets every message, whatever the others
    /// get, and goes on where it stopped when it comes back under its name. One that is new begins where
    /// [`PutGroup::start`] of [`Worker::group_settings`] says. One that will not come back should be deleted:
    /// [`crate::Client::delete_group`] with `GROUP%CONSUMER`.
    ///
    /// ```no_run
    /// # async fn example(fleet: tidegate_client::Fleet) -> Result<(), Box<dyn std::error::Error>> {
    /// use tidegate_client::{Retry, Worker};
    ///
    /// Worker::new(fleet, "prices", "tills")
    ///     .broadcast("till-7")
    ///     .run(|price| async move { println!("{}", price.body.get()); Ok::<(), Retry>(()) }, std::future::pending())
    ///     .await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn broadcast(self, consumer: impl Into<String>) -> Self {
        self.mode(GroupMode::Broadcast).consumer(consumer)
    }

    fn mode(mut self, mode: GroupMode) -> Self {
        self.settings.get_or_insert_default().mode = Some(mode);
        self
    }

    /// Who this is: see [`Worker::broadcast`]; else for your own sake.
    #[must_use]
    pub fn consumer(mut self, name: impl Into<String>) -> Self {
        self.consumer = Some(name.into());
        self
    }

    /// At most so many messages in one receive; 256 by default, and never more than there are handlers free.
    #[must_use]
    pub fn receive_max(mut self, messages: usize) -> Self {
        self.receive_max = messages.max(1);
        self
    }

    /// How long one receive waits for the first message.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// How long messages stay invisible to others. Extended at every third of it while the handler runs.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long handlers may still run after the stop; then they are aborted and their messages given back.
    #[must_use]
    pub fn stop_within(mut self, bound: Duration) -> Self {
        self.stop_within = bound;
        self
    }

    /// Longest pause between receives while a gateway is away; 5 s by default.
    #[must_use]
    pub fn away_delay_max(mut self, delay: Duration) -> Self {
        self.away_delay_max = delay;
        self
    }

    /// Only messages with one of these tags; all by default.
    #[must_use]
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = tags.into_iter().map(Into::into).collect();
        self
    }

    /// Called with every message that arrives and the gateway that delivered it, redeliveries included, before its
    /// handler; for loss detection. Must be quick: it runs on the receive loop of that gateway.
    #[must_use]
    pub fn on_delivery(
        mut self,
        observer: impl Fn(&Member, &Message<'static>) + Send + Sync + 'static,
    ) -> Self {
        self.on_delivery = Some(Arc::new(observer));
        self
    }

    /// Counters, live while it runs.
    pub fn stats(&self) -> Arc<WorkerStats> {
        Arc::clone(&self.stats)
    }
}
