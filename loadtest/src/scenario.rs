//! A scenario: what is put on sale, who comes, who works, what goes wrong. Typed TOML; unknown keys are refused.
//!
//! Built-in scenarios are compiled in, so the binary alone can run them; a path names a file of one's own.

use serde::Deserialize;
use std::path::Path;

/// Compiled-in scenarios, by the name given on the command line.
pub(crate) const BUILT_IN: [(&str, &str); 13] = [
    ("demo", include_str!("../scenarios/demo.toml")),
    ("crash", include_str!("../scenarios/crash.toml")),
    ("stale", include_str!("../scenarios/stale.toml")),
    ("tokens", include_str!("../scenarios/tokens.toml")),
    ("redis_demo", include_str!("../scenarios/redis_demo.toml")),
    ("redis_kill_gateway", include_str!("../scenarios/redis_kill_gateway.toml")),
    ("redis_delete_gateway", include_str!("../scenarios/redis_delete_gateway.toml")),
    ("redis_kill_worker", include_str!("../scenarios/redis_kill_worker.toml")),
    ("redis_kill_redis_everysec", include_str!("../scenarios/redis_kill_redis_everysec.toml")),
    ("redis_kill_redis_always", include_str!("../scenarios/redis_kill_redis_always.toml")),
    ("redis_empty", include_str!("../scenarios/redis_empty.toml")),
    ("redis_failover", include_str!("../scenarios/redis_failover.toml")),
    ("redis_stop_gateway", include_str!("../scenarios/redis_stop_gateway.toml")),
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
    #[serde(default)]
    pub(crate) faults: Faults,
    #[serde(default)]
    pub(crate) bounds: Bounds,
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
    /// What an order costs its worker before it calls `created`.
    #[serde(default)]
    pub(crate) processing_ms: u64,
    pub(crate) lease_ms: u64,
    /// Share of created orders that are never paid.
    #[serde(default)]
    pub(crate) never_pay_share: f64,
    /// The others are paid after a delay drawn evenly from this range.
    pub(crate) pay_after_ms: [u64; 2],
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

    /// The first value that makes no sense, if any.
    fn fault(&self) -> Option<&'static str> {
        let b = &self.buyers;
        let shares = [
            b.press_twice_share,
            b.cheat_share,
            b.come_back_share,
            b.poll_share,
            self.workers.never_pay_share,
        ];
        let name_fits = !self.name.is_empty()
            && self.name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        [
            (name_fits, "name: lower-case letters, digits and `-` only (it becomes part of the sale's id)"),
            (shares.iter().all(|share| (0.0..=1.0).contains(share)), "a share lies between 0 and 1"),
            (b.press_twice_share + b.cheat_share <= 1.0, "press_twice_share + cheat_share is at most 1"),
            (b.count > 0, "buyers.count is at least 1"),
            (self.sale.stock > 0, "sale.stock is at least 1"),
            (self.sale.per_buyer_limit > 0, "sale.per_buyer_limit is at least 1"),
            (b.come_back_after_ms > 0, "buyers.come_back_after_ms is at least 1"),
            (
                self.workers.count > 0 && self.workers.concurrency > 0,
                "workers: count and concurrency are at least 1",
            ),
            (
                self.workers.pay_after_ms[0] <= self.workers.pay_after_ms[1],
                "workers.pay_after_ms is [from, to]",
            ),
            (self.generator.connections > 0, "generator.connections is at least 1"),
            (self.gateway.tokens.is_none_or(|t| t.rate_per_s > 0), "gateway.tokens.rate_per_s is at least 1"),
        ]
        .into_iter()
        .chain(self.fleet_rules())
        .find_map(|(holds, what)| (!holds).then_some(what))
    }

    /// What must be of gateways, Redis and faults.
    fn fleet_rules(&self) -> [(bool, &'static str); 13] {
        let (count, f) = (self.gateway.count as usize, &self.faults);
        let redis_faults = f.kill_redis.is_some() || f.empty_redis.is_some() || f.failover.is_some();
        let sentinel = self.redis.as_ref().is_some_and(|redis| redis.sentinel);
        let none = self.redis.as_ref().is_some_and(|redis| redis.appendonly == AppendOnly::None);
        let seats = [f.kill.map(|kill| kill.gateway), f.stop_gateway.map(|stop| stop.gateway)];
        let shares = f.timed();
        [
            (count > 0, "gateway.count is at least 1"),
            (count == 1 || self.redis.is_some(), "gateway.count above 1 needs a section [redis]"),
            (
                count == 1 || self.gateway.tokens.is_none(),
                "gateway.tokens bounds one gateway alone: it needs gateway.count = 1",
            ),
            (!redis_faults || self.redis.is_some(), "faults of Redis need a section [redis]"),
            (f.failover.is_none() || sentinel, "faults.failover needs redis.sentinel = true"),
            (
                !sentinel || (f.kill_redis.is_none() && f.empty_redis.is_none()),
                "with redis.sentinel = true use faults.failover: a killed master does not come back",
            ),
            (
                f.kill_redis.is_none() || !none,
                "faults.kill_redis needs an append-only file to come back with; faults.empty_redis does not",
            ),
            (
                seats.into_iter().flatten().all(|seat| seat < count),
                "a fault's gateway is below gateway.count",
            ),
            (
                f.kill.is_none_or(|kill| !kill.delete_data || count > 1),
                "faults.kill.delete_data needs another gateway that goes on",
            ),
            (
                f.kill.is_none_or(|kill| !kill.replace || kill.delete_data),
                "faults.kill.replace goes with delete_data = true",
            ),
            (
                f.kill_worker.is_none_or(|kill| {
                    kill.worker < self.workers.count as usize
                        && kill.pending_min <= self.workers.concurrency.into()
                }),
                "faults.kill_worker: worker is below workers.count, pending_min at most workers.concurrency",
            ),
            (
                shares.iter().all(|timed| timed.share[0] <= timed.share[1] && timed.share[1] < 1.0),
                "after_sold_share is [from, to], below 1",
            ),
            (
                f.kill.is_none() || f.stop_gateway.is_none() || seats[0] != seats[1],
                "faults.kill and faults.stop_gateway take different gateways",
            ),
        ]
    }

    /// It needs gateways and a Redis of our own.
    pub(crate) fn needs_spawn(&self) -> bool {
        let faults = self.faults.timed();
        let alone = self.gateway.count == 1 && self.redis.is_none();
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
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_is_valid() {
        for (name, _) in BUILT_IN {
            assert_eq!(Scenario::load(name).unwrap().name, name.replace('_', "-"));
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let text = include_str!("../scenarios/demo.toml").replace("[workers]", "[workers]\ncuont = 3");
        let error = Scenario::parse("mine", &text).unwrap_err().to_string();
        assert!(error.contains("cuont") && error.contains("line"), "{error}");
    }

    #[test]
    fn a_share_above_one_is_refused() {
        let text = include_str!("../scenarios/demo.toml").replace("poll_share = 0.3", "poll_share = 3.0");
        assert!(Scenario::parse("mine", &text).unwrap_err().to_string().contains("between 0 and 1"));
    }

    #[test]
    fn every_commented_default_may_be_written_out() {
        let text = include_str!("../scenarios/demo.toml");
        let from = text.find("#[gateway]").unwrap();
        let until = text.find("# What goes wrong").unwrap();
        let uncommented = text[from..until].lines().map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => key,
            _ => line,
        });
        let uncommented: String = uncommented.map(|line| line.to_owned() + "\n").collect();
        let written = text.replace(&text[from..until], &uncommented);
        let scenario = Scenario::parse("mine", &written).unwrap();
        assert_eq!(scenario.gateway.count, 1);
        assert_eq!(scenario.redis.unwrap().dead_after_ms, Redis::default().dead_after_ms);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let text = include_str!("../scenarios/redis_kill_gateway.toml");
        let cases = [
            ("[redis]\nappendonly = \"everysec\"", "", "gateway.count above 1"),
            ("gateway = 0", "gateway = 2", "below gateway.count"),
            ("down_ms = 4_000", "replace = true", "goes with delete_data"),
            ("[faults.kill]\ngateway = 0", "[faults.failover]\nlose_ms = 1", "needs redis.sentinel"),
            ("appendonly = \"everysec\"", "appendonly = \"often\"", "unknown variant"),
            ("0.2, 0.6", "0.6, 0.2", "[from, to]"),
        ];
        for (from, to, expected) in cases {
            let changed = text.replace(from, to).replace("down_ms = 4_000", "");
            let changed = if to == "replace = true" { text.replace(from, to) } else { changed };
            assert_ne!(changed, text);
            let error = Scenario::parse("mine", &changed).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn on_redis_there_are_two_gateways_and_twice_the_workers() {
        let scenario = Scenario::load("demo").unwrap().on_redis().unwrap();
        assert_eq!((scenario.gateway.count, scenario.workers.count), (2, 4));
        assert!(scenario.needs_spawn());
        assert!(Scenario::load("tokens").unwrap().on_redis().is_err());
    }

    #[test]
    fn an_unknown_name_lists_the_built_in_ones() {
        let error = Scenario::load("no-such").unwrap_err().to_string();
        assert!(error.contains("demo, crash, stale, tokens"), "{error}");
    }
}
