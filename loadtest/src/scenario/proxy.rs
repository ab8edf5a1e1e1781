//! `[proxy]`: a service behind a route of the gateway, which goes down when it is asked too much.

use serde::Deserialize;

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proxy {
    /// What the service stands: one request more within any time, and it answers nobody any more.
    pub(crate) upstream_rate_per_s: u64,
    pub(crate) upstream_burst: u64,
    /// A request takes the service a time that is drawn evenly from this range.
    pub(crate) service_ms: [u64; 2],
    /// What clients send, from the first buyer on, for so long.
    pub(crate) offered_per_s: u64,
    pub(crate) for_ms: u64,
    /// Connections of those clients.
    pub(crate) connections: u32,
    /// The limit of the gateway's route; left out: none.
    pub(crate) limit: Option<Limit>,
}

/// Keys of the gateway's `[[proxy]]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    pub(crate) rate_per_s: u64,
    pub(crate) burst: u64,
    pub(crate) max_wait_ms: u64,
}

impl Proxy {
    /// The first value that makes no sense, if any.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let counts = [self.upstream_rate_per_s, self.upstream_burst, self.offered_per_s, self.for_ms];
        [
            (counts.iter().all(|count| *count > 0), "proxy: rates, bursts and times are at least 1"),
            (self.connections > 0, "proxy.connections is at least 1"),
            (self.service_ms[0] <= self.service_ms[1], "proxy.service_ms is [from, to]"),
            (
                self.limit.is_none_or(|limit| limit.rate_per_s > 0 && limit.burst > 0),
                "proxy.limit: rate_per_s and burst are at least 1",
            ),
        ]
        .into_iter()
        .find_map(|(holds, what)| (!holds).then_some(what))
    }
}
