//! Runs the protocol: orders, the events that close rows, and recovery of rows left pending.

use super::closer::TAGS;
use super::protocol::Protocol;
use super::store::OrderStore;
use crate::wire::{Message, Ticket};
use crate::worker::Counter;
use crate::{ClientError, Fleet, Member, Worker, WorkerStats, WorkerSummary};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// An order worker over a store. Set it up, then [`OrderWorker::run`] it.
pub struct OrderWorker<S> {
    fleet: Fleet,
    store: Arc<S>,
    orders: Worker,
    events: Worker,
    concurrency: usize,
    confirmed: Option<mpsc::Sender<Ticket<'static>>>,
    stats: Arc<OrderStats>,
}

#[derive(Debug, Default)]
pub(super) struct OrderStats {
    pub(super) confirmed: Counter,
    pub(super) paid: Counter,
    pub(super) closed: Counter,
    pub(super) recovered: Counter,
}

/// Steps taken; a step repeated after a crash or a redelivery counts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct OrderCounts {
    /// Rows confirmed.
    pub confirmed: u64,
    /// Rows marked paid on the ledger's word.
    pub paid: u64,
    /// Rows closed.
    pub closed: u64,
    /// Rows found pending at the start and settled.
    pub recovered: u64,
}

/// What an order worker has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct OrderSummary {
    /// Topic `orders`.
    pub orders: WorkerSummary,
    /// Topic `order-events`.
    pub events: WorkerSummary,
    /// Rows.
    pub rows: OrderCounts,
}

/// Reads the counters of a running order worker.
#[derive(Debug, Clone)]
pub struct OrderWatch {
    orders: Arc<WorkerStats>,
    events: Arc<WorkerStats>,
    stats: Arc<OrderStats>,
}

impl OrderWatch {
    /// The present figures.
    pub fn summary(&self) -> OrderSummary {
        OrderSummary {
            orders: self.orders.summary(),
            events: self.events.summary(),
            rows: OrderCounts {
                confirmed: self.stats.confirmed.get(),
                paid: self.stats.paid.get(),
                closed: self.stats.closed.get(),
                recovered: self.stats.recovered.get(),
            },
        }
    }
}

impl<S: OrderStore> OrderWorker<S> {
    /// On topic `orders` as group `order-workers`, and on `order-events` as group `order-closer`, 16 orders at
    /// once, from every gateway of the fleet; a [`crate::Client`] is a fleet of one.
    pub fn new(fleet: impl Into<Fleet>, store: Arc<S>) -> Self {
        let fleet = fleet.into();
        let orders = Worker::new(fleet.clone(), "orders", "order-workers");
        let events = Worker::new(fleet.clone(), "order-events", "order-closer").tags(TAGS);
        Self { fleet, store, orders, events, concurrency: 16, confirmed: None, stats: Arc::default() }
    }

    /// Orders (and as many events) at once.
    #[must_use]
    pub fn concurrency(mut self, orders: usize) -> Self {
        self.concurrency = orders.max(1);
        self.orders = self.orders.concurrency(orders);
        self.events = self.events.concurrency(orders);
        self
    }

    /// Name in the gateway's figures and logs.
    #[must_use]
    pub fn consumer(mut self, name: &str) -> Self {
        self.orders = self.orders.consumer(name);
        self.events = self.events.consumer(name);
        self
    }

    /// How long messages stay invisible to others; see [`Worker::lease`].
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.orders = self.orders.lease(lease);
        self.events = self.events.lease(lease);
        self
    }

    /// How long one receive waits; see [`Worker::wait`].
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.orders = self.orders.wait(wait);
        self.events = self.events.wait(wait);
        self
    }

    /// Bound on the stop; see [`Worker::stop_within`].
    #[must_use]
    pub fn stop_within(mut self, bound: Duration) -> Self {
        self.orders = self.orders.stop_within(bound);
        self.events = self.events.stop_within(bound);
        self
    }

    /// Longest pause while the gateway is away; see [`Worker::away_delay_max`].
    #[must_use]
    pub fn away_delay_max(mut self, delay: Duration) -> Self {
        self.orders = self.orders.away_delay_max(delay);
        self.events = self.events.away_delay_max(delay);
        self
    }

    /// Called with every order message that arrives; see [`Worker::on_delivery`].
    #[must_use]
    pub fn on_delivery(
        mut self,
        observer: impl Fn(&Member, &Message<'static>) + Send + Sync + 'static,
    ) -> Self {
        self.orders = self.orders.on_delivery(observer);
        self
    }

    /// Tickets go here once their row is confirmed, at least once each. A full channel holds the worker back; a
    /// closed one is ignored.
    #[must_use]
    pub fn confirmed(mut self, tickets: mpsc::Sender<Ticket<'static>>) -> Self {
        self.confirmed = Some(tickets);
        self
    }

    /// Counters, live while it runs.
    pub fn watch(&self) -> OrderWatch {
        OrderWatch {
            orders: self.orders.stats(),
            events: self.events.stats(),
            stats: Arc::clone(&self.stats),
        }
    }

    /// Runs until `shutdown` is ready, or until all gateways refuse in a way that waiting does not mend.
    /// Rows that are pending at the start are listed first and settled beside the first new orders: that may
    /// have to wait for the gateway, and the steps do not mind each other.
    ///
    /// Cancel safety: as [`Worker::run`]; rows stay as they are and are settled on redelivery or next start.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<OrderSummary, ClientError> {
        let watch = self.watch();
        let protocol = Arc::new(Protocol {
            fleet: self.fleet,
            store: self.store,
            stats: self.stats,
            confirmed: self.confirmed,
        });
        let (stop, stopping) = watch::channel(false);
        let on_order = {
            let protocol = Arc::clone(&protocol);
            move |message, from: Member| {
                let protocol = Arc::clone(&protocol);
                async move { protocol.order(message, &from).await }
            }
        };
        let on_event = {
            let protocol = Arc::clone(&protocol);
            move |message| {
                let protocol = Arc::clone(&protocol);
                async move { protocol.event(message).await }
            }
        };
        tokio::pin!(shutdown);
        let left_over = tokio::select! {
            rows = protocol.left_over(String::new()) => rows,
            () = &mut shutdown => return Ok(watch.summary()),
        };
        let recovery = async {
            tokio::select! {
                recovered = protocol.recover(left_over, self.concurrency) => recovered,
                () = until_set(stopping.clone()) => Ok(()),
            }
        };
        let orders = self.orders.run_from(on_order, until_set(stopping.clone()));
        let events = self.events.run(on_event, until_set(stopping.clone()));
        // On the heap: three of them side by side are more than callers want in their own future.
        let mut parts = Box::pin(async {
            tokio::join!(
                stop_if_failed(&stop, orders),
                stop_if_failed(&stop, events),
                stop_if_failed(&stop, recovery)
            )
        });
        let (orders, events, recovered) = tokio::select! {
            ended = &mut parts => ended,
            () = &mut shutdown => {
                stop.send_replace(true);
                parts.await
            }
        };
        orders.and(events).map(drop).and(recovered).map(|()| watch.summary())
    }
}

async fn until_set(mut flag: watch::Receiver<bool>) {
    // The sender outlives the parts that wait here.
    let _closed = flag.wait_for(|set| *set).await;
}

/// A part that cannot go on takes the others with it.
async fn stop_if_failed<T>(
    stop: &watch::Sender<bool>,
    part: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let ended = part.await;
    if ended.is_err() {
        stop.send_replace(true);
    }
    ended
}
