//! A running gateway: recover, open the doors, and close them in the right order.

use crate::admission::blacklist::Blacklist;
use crate::admission::wait::Drain;
use crate::admission::{SaleGates, TokenQueue, tokens};
use crate::api::admin::{Rates, run_blacklist, run_rates};
use crate::cache::{Cache, Second};
use crate::config::{Config, LedgerKind, Listen};
use crate::ledger::Stock;
use crate::ledger::redis::{self, CoreLedger};
use crate::listener::{BindError, Side, Sockets, Watchdog, accept};
use crate::outcomes::Outcomes;
use crate::pipeline::{
    CheckNews, CoreDurable, DurableSignal, Journal, RecoverError, SettleQueue, TicketWatch, recover_ledger,
    run_proposals, run_settle, size_reserve, snapshots, topics,
};
use crate::policy::{self, CorePolicy};
use crate::proxy::Pool;
use crate::reload::{self, Reloads};
use crate::state::{App, Boot, Connections, Core, CoreLive, Live, LiveError, Stopping, Urls};
use arc_swap::ArcSwap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tidegate_queue::storage::Storage;
use tidegate_queue::{Clock, OpenError, Queue, StartFrom};
use tidegate_stock::Ledger;
use tidegate_stock::redis::RedisOptions;
use tidegate_stock::redis::link::unfit;
use tokio::runtime::LocalOptions;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{error, info};

/// Long polls at once in a gateway; more are answered at once.
const TICKET_WAITERS_MAX: usize = 200_000;
/// Look-ups by key at once; each may read from the disk.
const SEARCHES_MAX: usize = 16;
/// Between two looks of a draining core at its connections.
const DRAIN_STEP: Duration = Duration::from_millis(10);

/// A gateway that runs in this process. Dropping it without [`Gateway::shutdown`] leaves its threads running.
pub struct Gateway {
    app: Arc<App>,
    public: SocketAddr,
    inner: SocketAddr,
    cores: Vec<JoinHandle<()>>,
    settle: JoinHandle<()>,
}

/// Why a gateway did not start. Nothing was changed but what recovery completes.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The ledger cannot be folded from the log.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The gateway's own groups cannot be created.
    #[error("the order groups cannot be created: {0}")]
    Groups(#[from] tidegate_queue::ReceiveError),
    /// The Redis of the configuration answers and cannot be used.
    #[error("{0}")]
    Redis(String),
    /// This gateway's share of a ledger in Redis cannot be set up.
    #[error(transparent)]
    Shared(#[from] redis::StartFailure),
    /// What the settings name cannot be used.
    #[error(transparent)]
    Settings(#[from] LiveError),
    /// A sale of the configuration is refused.
    #[error("[[sale]] {sale}: {why}")]
    Sale {
        /// Its id.
        sale: String,
        /// The ledger's word.
        why: String,
    },
    /// Threads or event loops cannot be created.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl Gateway {
    /// Recovers the data folder, then listens. Returns once orders can be taken.
    pub fn start(
        config: Config,
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let began = Instant::now();
        let threads = config.listen.threads;
        // Ports first: a second gateway should say so before it waits for the folder's lock.
        let public = Sockets::bind(config.listen.public, threads)?;
        let inner = Sockets::bind(config.listen.inner, threads)?;
        if let LedgerKind::Redis(options) = &config.ledger {
            fit(options)?;
        }
        let queue = Queue::open_with(config.queue_options(), config.policies(), storage, clock.clone())?;
        let urls = Urls {
            public: Listen::advertised(
                config.listen.advertise_public.as_deref(),
                config.listen.public_scheme(),
                public.addr,
            ),
            inner: Listen::advertised(config.listen.advertise_inner.as_deref(), "http", inner.addr),
        };
        let app = Arc::new(build(config, queue, clock, urls)?);
        size_reserve(&app);
        info!(
            public = %public.addr, inner = %inner.addr, data = %app.boot.data.dir.display(), threads,
            sales = app.sales.all().len(), live_tickets = app.stock.live_tickets(),
            recovered_in_ms = began.elapsed().as_millis() as u64, "gateway is open"
        );
        let (public_addr, inner_addr) = (public.addr, inner.addr);
        let settle = spawn_thread("tidegate-settle", app.clone(), threads, |core| async move {
            // Tasks of their own: a wake-up of one does not poll the others.
            let mut tasks = JoinSet::new();
            tasks.spawn_local(run_proposals(core.clone()));
            tasks.spawn_local(run_rates(core.clone()));
            tasks.spawn_local(run_blacklist(core.clone()));
            tasks.spawn_local(policy::run_reload(core.clone()));
            tasks.spawn_local(crate::admission::run_key_reload(core.clone()));
            tasks.spawn_local(tokens::run(core.clone()));
            tasks.spawn_local(reload::run(core.clone()));
            tasks.spawn_local(crate::listener::run_certificate_reload(core.clone()));
            tasks.spawn_local(crate::cache::run_preload(core.clone()));
            if core.redis.is_some() {
                tasks.spawn_local(redis::run_fleet(core.clone()));
                tasks.spawn_local(redis::run_follow(core.clone()));
                tasks.spawn_local(redis::run_news(core.clone()));
                tasks.spawn_local(redis::run_sweep(core.clone()));
                tasks.spawn_local(redis::run_keep(core.clone()));
                tasks.spawn_local(tokens::run_leases(core.clone()));
            } else {
                tasks.spawn_local(run_settle(core.clone()));
                tasks.spawn_local(snapshots::run(core.clone()));
            }
            while let Some(ended) = tasks.join_next().await {
                if ended.is_err() {
                    error!("a task of the settle thread ended by a panic; restart the gateway");
                } else if !core.app.stopping.is_set() {
                    error!("a task of the settle thread ended early; restart the gateway");
                }
            }
        })?;
        let mut cores = Vec::with_capacity(threads);
        for (index, (public, inner)) in public.listeners.into_iter().zip(inner.listeners).enumerate() {
            let name = format!("tidegate-core-{index}");
            cores.push(spawn_thread(&name, app.clone(), index, move |core| run_core(core, public, inner))?);
        }
        Ok(Self { app, public: public_addr, inner: inner_addr, cores, settle })
    }

    /// Where buyers connect.
    pub fn public_addr(&self) -> SocketAddr {
        self.public
    }

    /// Where workers and operators connect.
    pub fn inner_addr(&self) -> SocketAddr {
        self.inner
    }

    /// What its parts share.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Stops accepting, answers what is under way (at most `drain_ms`), writes down what the log has
    /// accepted, and closes the data folder.
    pub fn shutdown(self) -> Result<(), tidegate_queue::AppendError> {
        self.app.stopping.set();
        self.app.watch.notify_all();
        for thread in self.cores.into_iter().chain([self.settle]) {
            if thread.join().is_err() {
                error!("a thread of the gateway ended by a panic");
            }
        }
        self.app.queue.close()
    }
}

fn build(config: Config, queue: Queue, clock: Arc<dyn Clock>, urls: Urls) -> Result<App, StartError> {
    let settle = Arc::new(SettleQueue::default());
    let durable = DurableSignal::attach(&queue);
    // Both exist from the first start, reading from first: no order may come before its group.
    queue.put_group(topics::ORDERS, topics::ORDER_WORKERS, StartFrom::First, None, None)?;
    queue.put_group(topics::PAY_TIMERS, topics::PAY_TIMERS_GROUP, StartFrom::First, Some(u32::MAX), None)?;
    let sales = Arc::new(SaleGates::default());
    let workers = queue.watch_group(topics::ORDERS, topics::ORDER_WORKERS).unwrap_or_default();
    let next = queue.next_offsets(topics::ORDERS).unwrap_or_default();
    let drain = Arc::new(Drain::new(workers, &next, Instant::now()));
    let stock = match &config.ledger {
        LedgerKind::Embedded => {
            Stock::Embedded(Box::new(embedded(&config, &queue, &settle, &sales, &drain, &*clock)?))
        }
        LedgerKind::Redis(options) => {
            let journal = Journal::shared(queue.clone(), sales.clone(), drain.clone());
            Stock::Redis(Arc::new(redis::start(&config.data.dir, options.clone(), &queue, journal)?))
        }
    };
    let boot = Boot { data: config.data.clone(), queue: config.queue.clone() };
    let threads = config.listen.threads;
    // With Redis the fleet keeps its bans there.
    let bans_dir = matches!(config.ledger, LedgerKind::Embedded).then_some(&*boot.data.dir);
    let blacklist = Blacklist::open(threads, bans_dir);
    let cache = Cache::new(config.cache.bytes_max, config.cache.waiting_max, threads + 1);
    Ok(App {
        cache,
        receives: Semaphore::new(boot.queue.waiting_receives_max),
        syncs: Semaphore::new(1),
        checks: CheckNews::default(),
        searches: Semaphore::new(SEARCHES_MAX),
        rates: Rates::default(),
        reloads: Reloads::default(),
        started_at_ms: clock.now_ms(),
        tokens: TokenQueue::new(&config.tokens, Instant::now()),
        live: Arc::new(ArcSwap::from_pointee(Live::build(config, None, &clock)?)),
        clock,
        stock,
        sales,
        urls,
        boot,
        drain,
        blacklist,
        watch: TicketWatch::new(TICKET_WAITERS_MAX),
        durable,
        settle,
        outcomes: Outcomes::new(threads + 1),
        connections: Connections::default(),
        entrance: crate::listener::Entrance::default(),
        streams: AtomicUsize::new(0),
        stopping: Stopping::default(),
        queue,
    })
}

/// A Redis that answers must be usable; one that does not answer now is waited for while running.
fn fit(options: &RedisOptions) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(unfit(options)).map_or(Ok(()), |why| Err(StartError::Redis(why)))
}

/// The ledger of this process: rebuilt, with the sales of the configuration, and its gates.
fn embedded(
    config: &Config,
    queue: &Queue,
    settle: &Arc<SettleQueue>,
    sales: &Arc<SaleGates>,
    drain: &Arc<Drain>,
    clock: &dyn Clock,
) -> Result<Ledger<Journal>, StartError> {
    let journal = Journal::new(queue.clone(), settle.clone(), sales.clone(), drain.clone());
    let ledger = recover_ledger(queue, &journal, &config.data.dir)?;
    // A sale that exists is the operator's: what the admin API changed since outlives a restart.
    for sale in config.sales.iter().filter(|sale| ledger.sale(&sale.sale).is_none()) {
        ledger
            .put_sale(&sale.sale, &sale.spec, clock.now_ms())
            .map_err(|error| StartError::Sale { sale: sale.sale.clone(), why: error.to_string() })?;
    }
    for view in ledger.sales() {
        let gate = sales.put(&view);
        ledger.winners(&view.sale, &mut |buyer| gate.winners.insert(buyer));
    }
    Ok(ledger)
}

/// With a ledger in Redis the answers of proxy routes are shared there too.
fn second_level(live: &CoreLive) -> Option<Rc<Second>> {
    let config = &live.load().config;
    let LedgerKind::Redis(options) = &config.ledger else { return None };
    let second = Rc::new(Second::new(options, &config.cache)?);
    tokio::task::spawn_local(second.clone().warm());
    Some(second)
}

/// A thread with its own event loop and its own place to wait for durability.
fn spawn_thread<F>(
    name: &str,
    app: Arc<App>,
    index: usize,
    main: impl FnOnce(Rc<Core>) -> F + Send + 'static,
) -> std::io::Result<JoinHandle<()>>
where
    F: Future<Output = ()> + 'static,
{
    let (report, started) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // A LocalRuntime stays on its thread, so it is made here and its error travels back.
        let built =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        match built {
            Ok(runtime) => {
                let _ = report.send(Ok(()));
                runtime.block_on(async move {
                    let durable = CoreDurable::new(app.queue.clone(), app.durable.clone());
                    tokio::task::spawn_local(durable.clone().run());
                    let redis = app
                        .stock
                        .shared()
                        .map(|shared| CoreLedger::new(app.clone(), shared.clone(), durable.clone()));
                    if let Some(redis) = &redis {
                        tokio::task::spawn_local(redis.clone().run());
                    }
                    let live = CoreLive::new(&app);
                    let (policy, proxy) = (CorePolicy::default(), Rc::new(Pool::default()));
                    tokio::task::spawn_local(proxy.clone().run());
                    let second = second_level(&live);
                    main(Rc::new(Core { app, durable, redis, live, policy, second, proxy, index })).await;
                });
            }
            Err(error) => {
                let _ = report.send(Err(error));
            }
        }
    })?;
    started.recv().map_err(std::io::Error::other)??;
    Ok(thread)
}

async fn run_core(core: Rc<Core>, public: std::net::TcpListener, inner: std::net::TcpListener) {
    let (settings, ms) = (core.clone(), Duration::from_millis);
    let bounds = move || {
        let live = settings.live();
        (ms(live.config.listen.header_timeout_ms), ms(live.config.listen.idle_timeout_ms))
    };
    let (header_timeout, idle_timeout) = bounds();
    let watchdog = Watchdog::new(header_timeout, idle_timeout);
    tokio::task::spawn_local(watchdog.clone().run(move |watchdog| {
        let (header_timeout, idle_timeout) = bounds();
        watchdog.set_bounds(header_timeout, idle_timeout);
    }));
    let listeners = tokio::net::TcpListener::from_std(public)
        .and_then(|public| Ok((public, tokio::net::TcpListener::from_std(inner)?)));
    match listeners {
        Ok((public, inner)) => {
            tokio::join!(
                accept(core.clone(), public, Side::Public, watchdog.clone()),
                accept(core.clone(), inner, Side::Inner, watchdog.clone())
            );
        }
        Err(error) => error!(%error, "a listener cannot be used"),
    }
    // Connections end by themselves once they were told to drain; what is still busy at the bound is cut.
    let end = Instant::now() + Duration::from_millis(core.live().config.listen.drain_ms);
    while !watchdog.is_empty() && Instant::now() < end {
        tokio::time::sleep(DRAIN_STEP).await;
    }
}
