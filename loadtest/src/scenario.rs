//! A scenario: what is put on sale, who comes, who works, what goes wrong. Typed TOML; unknown keys are refused.
//!
//! Built-in scenarios are compiled in, so the binary alone can run them; a path names a file of one's own.

use serde::Deserialize;
use std::path::Path;

/// Compiled-in scenarios, by the name given on the command line.
pub(crate) const BUILT_IN: [(&str, &str); 4] = [
    ("demo", include_str!("../scenarios/demo.toml")),
    ("crash", include_str!("../scenarios/crash.toml")),
    ("stale", include_str!("../scenarios/stale.toml")),
    ("tokens", include_str!("../scenarios/tokens.toml")),
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

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Gateway {
    pub(crate) tokens: Option<Tokens>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tokens {
    pub(crate) rate_per_s: u64,
    pub(crate) burst: u64,
    pub(crate) max_wait_ms: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Faults {
    pub(crate) kill: Option<Kill>,
    pub(crate) stop_workers: Option<StopWorkers>,
}

/// `kill -9` of the gateway and a restart. Needs `--spawn`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kill {
    /// Orders that buyers were told of and no worker has created yet, at least, at the instant of the kill.
    pub(crate) in_flight_min: u64,
    /// The kill comes after a share of the stock is won; the share is drawn by seed from this range.
    pub(crate) after_sold_share: [f64; 2],
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
        .find_map(|(holds, what)| (!holds).then_some(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_is_valid() {
        for (name, _) in BUILT_IN {
            assert_eq!(Scenario::load(name).unwrap().name, name);
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
    fn an_unknown_name_lists_the_built_in_ones() {
        let error = Scenario::load("no-such").unwrap_err().to_string();
        assert!(error.contains("demo, crash, stale, tokens"), "{error}");
    }
}
