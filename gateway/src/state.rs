//! What the parts of a running gateway share: [`App`] by all threads, [`Core`] by the connections of one.
//!
//! ```text
//! live.rs  the settings that a reload replaces, and the gates built from them
//! ```

mod live;

pub use live::{CoreLive, Live, LiveError, LiveRef};

use crate::admission::SaleGates;
use crate::admission::TokenQueue;
use crate::admission::blacklist::Blacklist;
use crate::admission::wait::Drain;
use crate::api::admin::Rates;
use crate::config::{Data, QueueSettings};
use crate::ledger::Stock;
use crate::ledger::redis::CoreLedger;
use crate::listener::Side;
use crate::outcomes::Outcomes;
use crate::pipeline::{CheckNews, CoreDurable, DurableSignal, SettleQueue, TicketWatch, Unknown};
use crate::policy::CorePolicy;
use crate::reload::Reloads;
use arc_swap::ArcSwap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tidegate_queue::{Clock, Queue};
use tidegate_stock::Lsn;
use tokio::sync::Semaphore;

/// A running gateway.
pub struct App {
    /// What stays as it was at the start.
    pub boot: Boot,
    /// What a reload replaces, whole; see [`App::live`].
    pub(crate) live: Arc<ArcSwap<Live>>,
    /// The one clock for deadlines and windows.
    pub clock: Arc<dyn Clock>,
    /// The log with its topics and groups.
    pub queue: Queue,
    /// Who holds what.
    pub stock: Stock,
    /// Gates 1 and 2.
    pub sales: Arc<SaleGates>,
    /// Orders before the workers, and how fast they deal with them.
    pub drain: Arc<Drain>,
    /// Answers of proxy routes.
    pub cache: crate::cache::Cache,
    /// Gate 9. Tokens that are given stay given: it outlives a reload, and takes its settings over.
    pub tokens: TokenQueue,
    /// Gate 4: who is banned.
    pub blacklist: Blacklist,
    /// Who waits for news of a ticket.
    pub watch: TicketWatch,
    /// Durability, for the cores' waiters.
    pub durable: Arc<DurableSignal>,
    /// What is to be done once records are durable.
    pub settle: Arc<SettleQueue>,
    /// Answers by outcome.
    pub outcomes: Outcomes,
    /// Open connections.
    pub connections: Connections,
    /// Who is let in.
    pub entrance: crate::listener::Entrance,
    /// Event streams open.
    pub streams: AtomicUsize,
    /// Places for receives that wait.
    pub receives: Semaphore,
    /// Turns to sync what async mode has only written.
    pub syncs: Semaphore,
    /// Who waits for checks of transactions.
    pub checks: CheckNews,
    /// Places for look-ups by key.
    pub searches: Semaphore,
    /// Messages a second by topic and group.
    pub rates: Rates,
    /// Reloads of the configuration.
    pub reloads: Reloads,
    /// When this gateway started, Unix ms.
    pub started_at_ms: u64,
    /// Where others reach this gateway.
    pub(crate) urls: Urls,
    /// Set once: stop accepting, end long polls, drain.
    pub stopping: Stopping,
}

/// Settings that cannot change while the gateway runs, for those who need them after the start.
#[derive(Debug, Clone)]
pub struct Boot {
    /// `[data]`
    pub data: Data,
    /// `[queue]`
    pub queue: QueueSettings,
}

/// Base URLs that are told to other gateways and to workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Urls {
    /// Of the public listener.
    pub public: String,
    /// Of the inner listener.
    pub inner: String,
}

impl App {
    /// The settings of this moment and the gates built from them. For tasks and rare calls; on the request path
    /// [`Core::live`] costs less.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Where others reach this gateway.
    pub fn urls(&self) -> &Urls {
        &self.urls
    }
}

/// Open connections, counted by side: buyers cannot lock workers and operators out.
#[derive(Debug, Default)]
pub struct Connections {
    public: AtomicUsize,
    inner: AtomicUsize,
}

impl Connections {
    /// Those of one listener.
    pub fn of(&self, side: Side) -> &AtomicUsize {
        match side {
            Side::Public => &self.public,
            Side::Inner => &self.inner,
        }
    }

    /// Both together.
    pub fn all(&self) -> usize {
        self.public.load(Ordering::Relaxed) + self.inner.load(Ordering::Relaxed)
    }
}

/// The gateway's one-way switch to "shutting down".
#[derive(Debug, Default)]
pub struct Stopping {
    set: AtomicBool,
    notify: tokio::sync::Notify,
}

impl Stopping {
    /// Throws the switch; wakes all who wait for it.
    pub fn set(&self) {
        self.set.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    /// Whether it is thrown.
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    /// Completes when it is thrown. Cancel safe.
    pub async fn wait(&self) {
        let notified = self.notify.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if !self.is_set() {
            notified.await;
        }
    }
}

/// Longest time a request waits for the disk before it is told "not known yet".
pub const DURABLE_WAIT_MAX: Duration = Duration::from_secs(5);

/// One core's view: the gateway, and this thread's place to wait for durability.
pub struct Core {
    /// The gateway.
    pub app: Arc<App>,
    /// This thread's waiters.
    pub durable: Rc<CoreDurable>,
    /// This thread's way to a ledger in Redis, when that is where it is.
    pub redis: Option<Rc<CoreLedger>>,
    /// This thread's view of the settings; see [`Core::live`].
    pub(crate) live: CoreLive,
    /// This thread's VM for policies.
    pub policy: CorePolicy,
    /// This thread's way to answers that all gateways share.
    pub(crate) second: Option<Rc<crate::cache::Second>>,
    /// This thread's connections to upstreams.
    pub proxy: Rc<crate::proxy::Pool>,
    /// Which core.
    pub index: usize,
}

impl Core {
    /// The settings of this moment and the gates built from them. Ask once a request and keep it to the end: then the
    /// request is judged by one configuration, whatever is reloaded meanwhile.
    pub fn live(&self) -> LiveRef {
        self.live.load()
    }

    /// Nothing that `lsn` covers may be told before this completes. Bounded: a disk that takes longer than
    /// [`DURABLE_WAIT_MAX`] makes the outcome [`Unknown`] to the client, not to the ledger. Cancel safe.
    pub async fn told(&self, lsn: Lsn) -> Result<(), Unknown> {
        if self.durable.is_reached(lsn) {
            return Ok(());
        }
        tokio::time::timeout(DURABLE_WAIT_MAX, self.durable.wait(lsn)).await.unwrap_or(Err(Unknown))
    }
}
