//! The configuration a child is started with: loopback, sync mode, no quotas but where
//! abusers come (else what buyers do is not to be held up).

use super::Setting;
use crate::proxied;
use crate::redis::Reach;
use crate::scenario::{Limit, Scenario};
use serde::Serialize;
use std::net::SocketAddr;
use std::path::Path;

#[derive(Serialize)]
struct Config<'a> {
    listen: Listen,
    data: Data<'a>,
    ledger: Ledger<'a>,
    identity: Mode,
    admission: Admission,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    proxy: Vec<Route>,
}

#[derive(Serialize)]
struct Route {
    name: &'static str,
    path: &'static str,
    upstream: String,
    rate_per_s: u64,
    burst: u64,
    max_wait_ms: u64,
    /// The limit alone decides how many are there.
    in_flight_max: u64,
}

#[derive(Serialize)]
struct Listen {
    public: SocketAddr,
    inner: SocketAddr,
}

#[derive(Serialize)]
struct Data<'a> {
    dir: &'a Path,
    flush: &'static str,
}

#[derive(Serialize)]
struct Ledger<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    redis: Option<Redis<'a>>,
}

#[derive(Serialize)]
struct Redis<'a> {
    #[serde(flatten)]
    reach: &'a Reach,
    claim_after_ms: u64,
    dead_after_ms: u64,
    wait_replicas: u32,
}

#[derive(Serialize)]
struct Mode {
    mode: &'static str,
}

#[derive(Serialize)]
struct Admission {
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Tokens>,
    /// None: as shipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<Quota>,
}

#[derive(Serialize)]
struct Tokens {
    rate_per_s: u64,
    burst: u64,
    max_wait_ms: u64,
}

#[derive(Serialize)]
struct Quota {
    buyer_per_s: u64,
    ip_per_s: u64,
    newcomers: u64,
}

/// The configuration file's text; the ledger is in Redis when there is one to reach.
pub(super) fn text(
    setting: &Setting<'_>,
    [public, inner]: [SocketAddr; 2],
    data: &Path,
) -> Result<String, toml::ser::Error> {
    let Setting { scenario, redis, upstream, .. } = *setting;
    let tokens = scenario.gateway.tokens.map(|tokens| Tokens {
        rate_per_s: tokens.rate_per_s,
        burst: tokens.burst,
        max_wait_ms: tokens.max_wait_ms,
    });
    let none = Quota { buyer_per_s: 0, ip_per_s: 0, newcomers: 0 };
    let as_shipped = scenario.abusers.is_some_and(|abusers| abusers.protected);
    let settings = scenario.redis.clone().unwrap_or_default();
    let ledger = match redis {
        None => Ledger { kind: "embedded", redis: None },
        Some(reach) => Ledger {
            kind: "redis",
            redis: Some(Redis {
                reach,
                claim_after_ms: settings.claim_after_ms,
                dead_after_ms: settings.dead_after_ms,
                wait_replicas: settings.wait_replicas,
            }),
        },
    };
    toml::to_string(&Config {
        listen: Listen { public, inner },
        data: Data { dir: data, flush: "sync" },
        ledger,
        identity: Mode { mode: "header" },
        proxy: route(scenario, upstream).into_iter().collect(),
        admission: Admission { tokens, quota: (!as_shipped).then_some(none) },
    })
}

fn route(scenario: &Scenario, upstream: Option<SocketAddr>) -> Option<Route> {
    let (settings, upstream) = (scenario.proxy?, upstream?);
    // Without a limit nothing is waited for.
    let none = Limit { rate_per_s: 0, burst: 1, max_wait_ms: 0 };
    let Limit { rate_per_s, burst, max_wait_ms } = settings.limit.unwrap_or(none);
    Some(Route {
        name: "fragile",
        path: proxied::PATH,
        upstream: format!("http://{upstream}"),
        rate_per_s,
        burst,
        max_wait_ms,
        in_flight_max: 100_000,
    })
}
