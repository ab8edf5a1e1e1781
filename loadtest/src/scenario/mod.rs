//! A scenario: what is put on sale, who comes, who works, what goes wrong. Typed TOML; unknown keys are refused.
//!
//! Built-in scenarios are compiled in, so the binary alone can run them; a path names a file of one's own.
//!
//! ```text
//! abusers.rs clients who take what is meant for others
//! faults.rs  what goes wrong on purpose
//! overload.rs  workers that are too few, and what is asked of the gate
//! proxy.rs   a service behind the gateway, and who asks it
//! rules.rs   which values make no sense
//! ```

mod abusers;
mod faults;
mod overload;
mod proxy;
mod rules;

pub(crate) use abusers::{Abusers, is_made_up};
pub(crate) use faults::{
    EmptyRedis, Failover, Fault, Faults, Kill, KillRedis, KillWorker, StopGateway, StopWorkers, Timed,
};

pub(crate) use overload::{Overload, Processing};
pub(crate) use proxy::{Limit, Proxy};

use serde::Deserialize;
use std::path::Path;

/// Compiled-in scenarios, by the name given on the command line.
pub(crate) const BUILT_IN: [(&str, &str); 16] = [
    ("demo", include_str!("../../scenarios/demo.toml")),
    ("crash", include_str!("../../scenarios/crash.toml")),
    ("stale", include_str!("../../scenarios/stale.toml")),
    ("tokens", include_str!("../../scenarios/tokens.toml")),
    ("overload", include_str!("../../scenarios/overload.toml")),
    ("proxy", include_str!("../../scenarios/proxy.toml")),
    ("abuse", include_str!("../../scenarios/abuse.toml")),
    ("redis_demo", include_str!("../../scenarios/redis_demo.toml")),
    ("redis_kill_gateway", include_str!("../../scenarios/redis_kill_gateway.toml")),
    ("redis_delete_gateway", include_str!("../../scenarios/redis_delete_gateway.toml")),
    ("redis_kill_worker", include_str!("../../scenarios/redis_kill_worker.toml")),
    ("redis_kill_redis_everysec", include_str!("../../scenarios/redis_kill_redis_everysec.toml")),
    ("redis_kill_redis_always", include_str!("../../scenarios/redis_kill_redis_always.toml")),
    ("redis_empty", include_str!("../../scenarios/redis_empty.toml")),
    ("redis_failover", include_str!("../../scenarios/redis_failover.toml")),
    ("redis_stop_gateway", include_str!("../../scenarios/redis_stop_gateway.toml")),
];

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) sale: Sale,
    pub(crate) buyers: Buyers,
    pub(crate) workers: Workers,
    #[serde(default)]
    pub(crate) generator: Generator,
    /// Settings of a gateway started with `--spawn`; one that already runs must be set so by its operator.
    #[serde(default)]
    pub(crate) gateway: Gateway,
    /// Present: the ledger is in a Redis that `--spawn` starts too.
    pub(crate) redis: Option<Redis>,
    /// Present: a service stands behind a route of the gateway. Needs `--spawn`.
    pub(crate) proxy: Option<Proxy>,
    #[serde(default)]
    pub(crate) faults: Faults,
    pub(crate) overload: Option<Overload>,
    #[serde(default)]
    pub(crate) bounds: Bounds,
    pub(crate) abusers: Option<Abusers>,
}

/// Passed to `PUT /v1/sales/{sale}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sale {
    pub(crate) item: String,
    pub(crate) stock: u64,
    #[serde(default = "one")]
    pub(crate) per_buyer_limit: u64,
    pub(crate) order_deadline_ms: u64,
    pub(crate) pay_window_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Buyers {
    pub(crate) count: u32,
    pub(crate) arrive_within_ms: u64,
    #[serde(default)]
    pub(crate) shape: Shape,
    /// Share of buyers who send the same key twice at once.
    #[serde(default)]
    pub(crate) press_twice_share: f64,
    /// Share of buyers who send two keys at once, to get past the limit.
    #[serde(default)]
    pub(crate) cheat_share: f64,
    /// Share of buyers who, told "sold out", try again while the sale goes on.
    #[serde(default)]
    pub(crate) come_back_share: f64,
    #[serde(default = "one_second")]
    pub(crate) come_back_after_ms: u64,
    /// Share of winners who follow their ticket with long polls until it ends.
    #[serde(default)]
    pub(crate) poll_share: f64,
    /// After this the buyers stop, whatever is left; they stop earlier once every unit is paid for.
    pub(crate) sale_for_ms: u64,
}

/// How arrivals are spread over `arrive_within_ms`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shape {
    /// The same rate all the time.
    #[default]
    Even,
    /// Densest at the start, thinning out.
    Spike,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Workers {
    pub(crate) count: u32,
    /// Orders one worker handles at a time.
    pub(crate) concurrency: u32,
    /// Orders that it has in stock besides.
    #[serde(default)]
    pub(crate) prefetch: u32,
    /// What an order costs its worker before it calls `created`.
    #[serde(default)]
    pub(crate) processing_ms: u64,
    #[serde(default)]
    pub(crate) processing: Processing,
    pub(crate) lease_ms: u64,
    /// Share of created orders that are never paid.
    #[serde(default)]
    pub(crate) never_pay_share: f64,
    /// The others are paid after a delay drawn evenly from this range.
    pub(crate) pay_after_ms: [u64; 2],
}

impl Workers {
    /// Orders that one worker has, in hand or in stock.
    pub(crate) fn in_hand(&self) -> u32 {
        self.concurrency + self.prefetch
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Generator {
    /// Threads that send; 0 = half of the cores, at least one.
    pub(crate) threads: u32,
    /// Keep-alive connections of each thread.
    pub(crate) connections: u32,
    /// Further connections of each thread for long polls.
    pub(crate) poll_connections: u32,
    pub(crate) request_timeout_ms: u64,
    /// Requests that may wait in one thread for a free connection; beyond it they count as `unsent`.
    pub(crate) backlog_max: usize,
    /// A buyer without an answer retries for this long.
    pub(crate) retry_for_ms: u64,
}

impl Default for Generator {
    fn default() -> Self {
        Self {
            threads: 0,
            connections: 256,
            poll_connections: 64,
            request_timeout_ms: 5_000,
            backlog_max: 100_000,
            retry_for_ms: 30_000,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Gateway {
    /// How many; more than one share a ledger in Redis.
    pub(crate) count: u32,
    pub(crate) tokens: Option<Tokens>,
}

impl Default for Gateway {
    fn default() -> Self {
        Self { count: 1, tokens: None }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Redis {
    pub(crate) appendonly: AppendOnly,
    /// A replica and a sentinel besides the master.
    pub(crate) sentinel: bool,
    /// As in `[ledger.redis]` of the gateway.
    pub(crate) claim_after_ms: u64,
    pub(crate) dead_after_ms: u64,
    pub(crate) wait_replicas: u32,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            appendonly: AppendOnly::Everysec,
            sentinel: false,
            claim_after_ms: 1_000,
            dead_after_ms: 2_000,
            wait_replicas: 0,
        }
    }
}

/// When Redis syncs its append-only file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AppendOnly {
    /// There is no such file.
    None,
    Everysec,
    Always,
}

impl AppendOnly {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Everysec => "everysec",
            Self::Always => "always",
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tokens {
    pub(crate) rate_per_s: u64,
    pub(crate) burst: u64,
    pub(crate) max_wait_ms: u64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "units last")]
pub(crate) struct Bounds {
    /// Until a started gateway must be ready.
    pub(crate) start_ms: u64,
    /// After the last buyer, tickets must go on reaching their end: the wait ends when none did for so long, or
    /// after five times as long.
    pub(crate) drain_ms: u64,
    /// Until a gateway told to stop must have exited.
    pub(crate) stop_ms: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { start_ms: 15_000, drain_ms: 12_000, stop_ms: 15_000 }
    }
}

const fn one() -> u64 {
    1
}

const fn one_second() -> u64 {
    1_000
}

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScenarioError {
    #[error(
        "no scenario `{name}`: it is neither a file nor one of {}",
        BUILT_IN.map(|(name, _)| name).join(", ")
    )]
    Unknown { name: String },
    #[error("cannot read scenario {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("scenario {name}: {source}")]
    Toml { name: String, source: toml::de::Error },
    #[error("scenario {name}: {what}")]
    Value { name: String, what: &'static str },
}

impl Scenario {
    /// Loads a built-in scenario by name, or a file by path.
    pub(crate) fn load(name: &str) -> Result<Self, ScenarioError> {
        if let Some((_, text)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
            return Self::parse(name, text);
        }
        if !Path::new(name).exists() {
            return Err(ScenarioError::Unknown { name: name.to_owned() });
        }
        let text = std::fs::read_to_string(name)
            .map_err(|source| ScenarioError::Read { path: name.to_owned(), source })?;
        Self::parse(name, &text)
    }

    fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self =
            toml::from_str(text).map_err(|source| ScenarioError::Toml { name: name.to_owned(), source })?;
        match scenario.fault() {
            Some(what) => Err(ScenarioError::Value { name: name.to_owned(), what }),
            None => Ok(scenario),
        }
    }

    /// It needs gateways and a Redis of our own.
    pub(crate) fn needs_spawn(&self) -> bool {
        let faults = self.faults.timed();
        let alone = self.gateway.count == 1 && self.redis.is_none() && self.proxy.is_none();
        !alone || faults.iter().any(|timed| !matches!(timed.what, Fault::KillWorker(_)))
    }

    /// The same sale on Redis: two gateways, and twice the workers. One that is on Redis stays as it is.
    pub(crate) fn on_redis(mut self) -> Result<Self, ScenarioError> {
        if self.redis.is_none() {
            self.redis = Some(Redis::default());
            self.gateway.count = self.gateway.count.max(2);
            self.workers.count *= 2;
        }
        match self.fault() {
            Some(what) => Err(ScenarioError::Value { name: format!("{} on Redis", self.name), what }),
            None => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests;
