//! The configuration a child is started with: loopback, sync mode, no quotas (all load comes from one address).

use crate::redis::Reach;
use crate::scenario::Scenario;
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
    quota: Quota,
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
}

/// The configuration file's text; the ledger is in Redis when there is one to reach.
pub(super) fn text(
    scenario: &Scenario,
    redis: Option<&Reach>,
    [public, inner]: [SocketAddr; 2],
    data: &Path,
) -> Result<String, toml::ser::Error> {
    let tokens = scenario.gateway.tokens.map(|tokens| Tokens {
        rate_per_s: tokens.rate_per_s,
        burst: tokens.burst,
        max_wait_ms: tokens.max_wait_ms,
    });
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
        admission: Admission { tokens, quota: Quota { buyer_per_s: 0, ip_per_s: 0 } },
    })
}
