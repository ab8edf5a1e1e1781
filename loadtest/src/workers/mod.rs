//! Order workers of our own, as a shop would run them, with a note of everything they see.
//!
//! ```text
//! order_worker.rs   receive, insert, created, confirm, ack
//! payments.rs       pays created orders, or never does
//! event_reader.rs   second group on `order-events`: closes rows of released tickets, notes every event
//! database.rs       the order rows (SQLite)
//! figures.rs        counts while the run goes on
//! ```
//! They use the client crate's calls one by one instead of its runner: the verdict needs the instant before each
//! receive and the answer of each ack.

mod database;
mod event_reader;
mod figures;
mod order_worker;
mod payments;

pub(crate) use database::Database;
pub(crate) use event_reader::EventReader;
pub(crate) use figures::Figures;

use crate::clock::{Clock, Micros};
use crate::evidence::{EventSeen, WorkersSaw};
use crate::scenario::Workers;
use crate::seeded::Seed;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tidegate_client::client::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) const ORDERS: &str = "orders";
pub(crate) const ORDER_WORKERS: &str = "order-workers";
pub(crate) const ORDER_EVENTS: &str = "order-events";

/// What workers are told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Work,
    /// Finish what is in hand and take nothing new.
    Stand,
    /// As `Stand`, for good.
    End,
}

/// What all workers share.
pub(crate) struct Floor {
    pub(crate) sale: String,
    pub(crate) client: Client,
    pub(crate) database: Database,
    pub(crate) settings: Workers,
    pub(crate) seed: Seed,
    pub(crate) clock: Clock,
    pub(crate) figures: Figures,
    pub(crate) saw: Mutex<WorkersSaw>,
    pub(crate) events: Mutex<Vec<EventSeen>>,
}

/// The running workers.
pub(crate) struct Crew {
    floor: Arc<Floor>,
    phase: watch::Sender<Phase>,
    workers: JoinSet<()>,
    payments: payments::Payments,
}

impl Crew {
    /// Starts all workers of the scenario.
    pub(crate) fn start(floor: Arc<Floor>) -> Self {
        let (phase, _) = watch::channel(Phase::Work);
        let payments = payments::Payments::new(Arc::clone(&floor));
        let mut workers = JoinSet::new();
        for number in 0..floor.settings.count {
            let worker = order_worker::OrderWorker {
                floor: Arc::clone(&floor),
                payments: payments.clone(),
                name: format!("loadtest-{number}"),
            };
            workers.spawn(worker.run(phase.subscribe()));
        }
        Self { floor, phase, workers, payments }
    }

    /// Stops all workers and returns once the last one stands, at most after `bound`.
    pub(crate) async fn stand(&self, bound: Duration) -> Micros {
        self.phase.send_replace(Phase::Stand);
        let standing = async {
            while self.floor.figures.standing() < u64::from(self.floor.settings.count) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // Past the bound the instant is late, which only makes fewer orders count as stale.
        let _ = tokio::time::timeout(bound, standing).await;
        self.floor.clock.now_us()
    }

    /// They go on. Returns the instant before the first of them can have asked for work.
    pub(crate) fn resume(&self) -> Micros {
        let resumed_us = self.floor.clock.now_us();
        self.phase.send_replace(Phase::Work);
        resumed_us
    }

    /// No payment is under way or will be.
    pub(crate) fn payments_done(&self) -> bool {
        self.payments.open() == 0
    }

    /// Ends all workers, within `bound`.
    pub(crate) async fn end(mut self, bound: Duration) {
        self.phase.send_replace(Phase::End);
        let ended = async { while self.workers.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(bound, ended).await;
        self.floor.saw.lock().payments_unknown += self.payments.open();
    }
}
