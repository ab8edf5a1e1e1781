//! More buyers than the workers can ever serve, and workers that become slower meanwhile: what is asked of the gate
//! that projects waits.

use serde::Deserialize;

/// How long an order takes a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Processing {
    /// `processing_ms`, always.
    #[default]
    Constant,
    /// Drawn by seed, each order its own; `processing_ms` is the mean.
    Exponential,
}

/// Instants count from the first buyer.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Overload {
    /// From here on each order takes `slower_times` as long as before.
    pub(crate) slower_at_ms: u64,
    pub(crate) slower_times: f64,
    /// The gate has so long, from the first buyer and from the change, to find its measure.
    pub(crate) settle_ms: u64,
    /// Buyers stop coming.
    pub(crate) until_ms: u64,
    /// Share of the time in which a hand holds an order, at least, once the gate has settled.
    pub(crate) busy_share_min: f64,
    /// Of the time from when a request is due until it is refused, 99 of 100.
    pub(crate) refused_p99_ms_max: f64,
}
