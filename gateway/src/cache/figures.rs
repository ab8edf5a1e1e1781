//! What became of requests and flights, for `/metrics`.

use super::Cache;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a request to a route with a cache was answered.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    /// By a fresh answer.
    Hit,
    /// By an older one, while a newer is asked for.
    Stale,
    /// By an older one, because a newer cannot be had.
    StaleOnError,
    /// It began a flight and waited for it.
    Miss,
    /// It waited for another one's flight.
    Collapsed,
    /// By the upstream, for itself alone: the request is not for the cache.
    Bypass,
    /// By the upstream, for itself alone: the answer is not for the cache.
    Own,
    /// Refused: too many wait.
    Full,
}

/// How a flight ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// A new answer is kept.
    Kept,
    /// The old one is good for longer.
    Revalidated,
    /// Found in Redis.
    Shared,
    /// All who waited have the answer, and nobody later.
    Told,
    /// Each asks for itself.
    Own,
    /// There is none.
    Lost,
}

const OUTCOMES: [&str; 8] = ["hit", "stale", "stale_on_error", "miss", "collapsed", "bypass", "own", "full"];
const ENDS: [&str; 6] = ["kept", "revalidated", "shared", "told", "own", "lost"];

/// One row a core.
#[derive(Debug)]
pub(super) struct Figures(Box<[Row]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Row {
    outcomes: [AtomicU64; OUTCOMES.len()],
    ends: [AtomicU64; ENDS.len()],
}

impl Figures {
    pub(super) fn new(cores: usize) -> Self {
        Self((0..cores.max(1)).map(|_| Row::default()).collect())
    }

    pub(super) fn answered(&self, core: usize, outcome: Outcome) {
        self.0[core % self.0.len()].outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn landed(&self, core: usize, end: End) {
        self.0[core % self.0.len()].ends[end as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn sum(&self, of: impl Fn(&Row) -> &AtomicU64) -> u64 {
        self.0.iter().map(|row| of(row).load(Ordering::Relaxed)).sum()
    }
}

/// The figures of the cache.
pub(crate) fn encode(cache: &Cache, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Requests to routes with a cache by outcome";
    let mut metric = to.encode_descriptor("cache_requests", help, None, MetricType::Counter)?;
    for (place, outcome) in OUTCOMES.iter().enumerate() {
        let count = cache.figures.sum(|row| &row.outcomes[place]);
        metric.encode_family(&[("outcome", *outcome)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
    }
    let help = "Requests of the cache itself by outcome: one for however many wait";
    let mut metric = to.encode_descriptor("cache_flights", help, None, MetricType::Counter)?;
    for (place, end) in ENDS.iter().enumerate() {
        let count = cache.figures.sum(|row| &row.ends[place]);
        metric.encode_family(&[("outcome", *end)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
    }
    let (entries, bytes) = cache.store.size();
    for (name, help, value) in [
        ("cache_entries", "Answers kept", entries),
        ("cache_bytes", "Bytes of them", bytes),
        ("cache_waiting", "Requests that wait for an answer of the cache", cache.flights.waiting()),
    ] {
        to.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
    }
    Ok(())
}
