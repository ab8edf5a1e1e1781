//! Order workers of our own, as a shop would run them, with a note of everything they see.
//!
//! ```text
//! order_worker.rs   take over what is pending; receive, insert, created, confirm, ack
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
use crate::evidence::{EventSeen, TicketId, WorkersSaw};
use crate::gateway::Roster;
use crate::scenario::{Processing, Workers};
use crate::seeded::{Seed, Stream};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

pub(crate) const ORDERS: &str = "orders";
pub(crate) const ORDER_WORKERS: &str = "order-workers";
pub(crate) const ORDER_EVENTS: &str = "order-events";

/// How often something awaited is looked at.
const LOOK: Duration = Duration::from_millis(5);

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
    pub(crate) roster: Arc<Roster>,
    pub(crate) database: Database,
    pub(crate) settings: Workers,
    pub(crate) seed: Seed,
    pub(crate) clock: Clock,
    pub(crate) figures: Figures,
    /// From here on each order takes so many times as long.
    pub(crate) slower_from_us: AtomicU64,
    pub(crate) slower_times: f64,
    pub(crate) saw: Mutex<WorkersSaw>,
    pub(crate) events: Mutex<Vec<EventSeen>>,
}

impl Floor {
    /// What this order costs its worker when it begins at `now_us`.
    fn processing(&self, order: u64, now_us: Micros) -> Duration {
        let times = if now_us >= self.slower_from_us.load(Relaxed) { self.slower_times } else { 1.0 };
        let share = match self.settings.processing {
            Processing::Constant => 1.0,
            Processing::Exponential => -f64::ln(1.0 - self.seed.unit(Stream::Processing, order)),
        };
        Duration::from_secs_f64(self.settings.processing_ms as f64 / 1_000.0 * times * share)
    }

    /// Which gateway is turned to first about an order of this buyer.
    fn route(&self, buyer: Option<u32>) -> u64 {
        self.seed.hash(Stream::Route, u64::from(buyer.unwrap_or(u32::MAX))) >> 8
    }
}

/// The running workers.
pub(crate) struct Crew {
    floor: Arc<Floor>,
    phase: watch::Sender<Phase>,
    workers: Mutex<Vec<Hand>>,
    payments: payments::Payments,
}

/// One worker at work.
struct Hand {
    worker: Arc<order_worker::OrderWorker>,
    task: JoinHandle<()>,
}

impl Crew {
    /// Starts all workers of the scenario.
    pub(crate) fn start(floor: Arc<Floor>) -> Self {
        let (phase, _) = watch::channel(Phase::Work);
        let payments = payments::Payments::new(Arc::clone(&floor));
        let crew = Self { floor, phase, workers: Mutex::default(), payments };
        for number in 0..crew.floor.settings.count {
            let hand = crew.hire(format!("loadtest-{number}"));
            crew.workers.lock().push(hand);
        }
        crew
    }

    fn hire(&self, name: String) -> Hand {
        let worker = Arc::new(order_worker::OrderWorker {
            floor: Arc::clone(&self.floor),
            payments: self.payments.clone(),
            name,
            slots: Arc::new(Semaphore::new(self.floor.settings.in_hand() as usize)),
            hands: Semaphore::new(self.floor.settings.concurrency as usize),
            dying: AtomicBool::new(false),
            orphans: Mutex::default(),
        });
        let task = tokio::spawn(Arc::clone(&worker).run(self.phase.subscribe()));
        Hand { worker, task }
    }

    /// One worker dies with rows that it has committed and not reported: at least `pending_min`, unless `bound` passes
    /// first. Returns what it left behind.
    pub(crate) async fn kill(&self, number: usize, pending_min: usize, bound: Duration) -> Vec<TicketId> {
        let (worker, task) = {
            let workers = self.workers.lock();
            (Arc::clone(&workers[number].worker), workers[number].task.abort_handle())
        };
        worker.dying.store(true, Relaxed);
        let committing = async {
            while worker.orphans.lock().len() < pending_min {
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = tokio::time::timeout(bound, committing).await;
        task.abort();
        while !task.is_finished() {
            tokio::time::sleep(LOOK).await;
        }
        std::mem::take(&mut *worker.orphans.lock())
    }

    /// Another worker in the place of a dead one.
    pub(crate) fn replace(&self, number: usize) {
        let hand = self.hire(format!("loadtest-{number}-again"));
        self.workers.lock()[number] = hand;
    }

    /// Stops all workers and returns once the last one stands, at most after `bound`.
    pub(crate) async fn stand(&self, bound: Duration) -> Micros {
        self.phase.send_replace(Phase::Stand);
        let standing = async {
            while self.floor.figures.standing() < u64::from(self.floor.settings.count) {
                tokio::time::sleep(LOOK).await;
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
    pub(crate) async fn end(self, bound: Duration) {
        self.phase.send_replace(Phase::End);
        let workers = std::mem::take(&mut *self.workers.lock());
        let ends = tokio::time::Instant::now() + bound;
        for Hand { mut task, .. } in workers {
            if tokio::time::timeout_at(ends, &mut task).await.is_err() {
                task.abort();
            }
        }
        self.floor.saw.lock().payments_unknown += self.payments.open();
    }
}
