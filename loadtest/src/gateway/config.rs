//! The configuration a child is started with: loopback, sync mode, no quotas (all load comes from one address).

use crate::scenario::Scenario;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::Path;

#[derive(Serialize)]
struct Config<'a> {
    listen: Listen,
    data: Data<'a>,
    ledger: Kind,
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
struct Kind {
    kind: &'static str,
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

/// The configuration file's text.
pub(super) fn text(
    scenario: &Scenario,
    public: SocketAddr,
    inner: SocketAddr,
    data: &Path,
) -> Result<String, toml::ser::Error> {
    let tokens = scenario.gateway.tokens.map(|tokens| Tokens {
        rate_per_s: tokens.rate_per_s,
        burst: tokens.burst,
        max_wait_ms: tokens.max_wait_ms,
    });
    toml::to_string(&Config {
        listen: Listen { public, inner },
        data: Data { dir: data, flush: "sync" },
        ledger: Kind { kind: "embedded" },
        identity: Mode { mode: "header" },
        admission: Admission { tokens, quota: Quota { buyer_per_s: 0, ip_per_s: 0 } },
    })
}
