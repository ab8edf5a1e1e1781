//! What goes wrong on purpose, and when.

use serde::Deserialize;

/// Each at most once. Those that are timed by the stock come in the order of their shares, one after the other.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Faults {
    pub(crate) kill: Option<Kill>,
    pub(crate) stop_gateway: Option<StopGateway>,
    pub(crate) kill_worker: Option<KillWorker>,
    pub(crate) kill_redis: Option<KillRedis>,
    pub(crate) empty_redis: Option<EmptyRedis>,
    pub(crate) failover: Option<Failover>,
    pub(crate) stop_workers: Option<StopWorkers>,
}

/// `kill -9` of a gateway. Needs `--spawn`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kill {
    /// Which, from 0.
    #[serde(default)]
    pub(crate) gateway: usize,
    /// Orders that this gateway's buyers were told of and no worker has created yet, at least, at that instant.
    pub(crate) in_flight_min: u64,
    /// The kill comes after a share of the stock is won; the share is drawn by seed from this range.
    pub(crate) after_sold_share: [f64; 2],
    /// Until it is started again.
    #[serde(default)]
    pub(crate) down_ms: u64,
    /// Its data folder is deleted; it never comes back.
    #[serde(default)]
    pub(crate) delete_data: bool,
    /// After `down_ms` a gateway with an empty folder takes its place.
    #[serde(default)]
    pub(crate) replace: bool,
}

/// SIGSTOP of a gateway, and SIGCONT later.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StopGateway {
    #[serde(default)]
    pub(crate) gateway: usize,
    pub(crate) in_flight_min: u64,
    pub(crate) after_sold_share: [f64; 2],
    pub(crate) for_ms: u64,
}

/// A worker dies after its commit and before its `created`; another starts in its place.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KillWorker {
    #[serde(default)]
    pub(crate) worker: usize,
    /// Rows it leaves pending, at least.
    pub(crate) pending_min: u64,
    pub(crate) after_sold_share: [f64; 2],
    #[serde(default)]
    pub(crate) down_ms: u64,
}

/// `kill -9` of Redis and a start with what its folder holds.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KillRedis {
    pub(crate) in_flight_min: u64,
    pub(crate) after_sold_share: [f64; 2],
    #[serde(default)]
    pub(crate) down_ms: u64,
    /// The append-only file is cut back to what it held so long before: what a power loss takes.
    #[serde(default)]
    pub(crate) lose_ms: u64,
}

/// `kill -9` of Redis and a start with an empty folder.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmptyRedis {
    pub(crate) in_flight_min: u64,
    pub(crate) after_sold_share: [f64; 2],
    #[serde(default)]
    pub(crate) down_ms: u64,
}

/// The master dies; the sentinel promotes a replica that lacks the last writes.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failover {
    pub(crate) in_flight_min: u64,
    pub(crate) after_sold_share: [f64; 2],
    /// The replica is cut off so long before.
    pub(crate) lose_ms: u64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StopWorkers {
    pub(crate) at_ms: u64,
    pub(crate) for_ms: u64,
}

/// A fault with its time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timed {
    pub(crate) what: Fault,
    /// The share of the stock that is won before it comes is drawn from this range.
    pub(crate) share: [f64; 2],
    /// How many orders (rows, for a worker) must be in flight.
    pub(crate) in_flight_min: u64,
}

/// What is done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    Kill(Kill),
    StopGateway(StopGateway),
    KillWorker(KillWorker),
    KillRedis(KillRedis),
    EmptyRedis(EmptyRedis),
    Failover(Failover),
}

impl Faults {
    /// Those that are timed by the stock.
    pub(crate) fn timed(&self) -> Vec<Timed> {
        let timed = |what, share, in_flight_min| Timed { what, share, in_flight_min };
        [
            self.kill.map(|f| timed(Fault::Kill(f), f.after_sold_share, f.in_flight_min)),
            self.stop_gateway.map(|f| timed(Fault::StopGateway(f), f.after_sold_share, f.in_flight_min)),
            self.kill_worker.map(|f| timed(Fault::KillWorker(f), f.after_sold_share, f.pending_min)),
            self.kill_redis.map(|f| timed(Fault::KillRedis(f), f.after_sold_share, f.in_flight_min)),
            self.empty_redis.map(|f| timed(Fault::EmptyRedis(f), f.after_sold_share, f.in_flight_min)),
            self.failover.map(|f| timed(Fault::Failover(f), f.after_sold_share, f.in_flight_min)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
