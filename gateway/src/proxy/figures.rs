//! What became of a route's requests, for `/metrics`.

use super::routes::Routes;
use http::StatusCode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegate_client::wire::ProblemType;

const KINDS: usize = ProblemType::ALL.len();
/// Upper bounds of the buckets of the time to an answer's head, in seconds.
const BOUNDS_S: [f64; 12] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Counters of one route, of all cores.
#[derive(Debug)]
pub struct Figures {
    /// Answers of upstreams by the first digit of their status.
    answered: [AtomicU64; 6],
    /// Answers of the gateway instead.
    refused: [AtomicU64; KINDS],
    cut: AtomicU64,
    retried: AtomicU64,
    /// By bucket, the last one without an upper bound.
    took: [AtomicU64; BOUNDS_S.len() + 1],
    took_us: AtomicU64,
}

impl Default for Figures {
    fn default() -> Self {
        fn zeros<const N: usize>() -> [AtomicU64; N] {
            std::array::from_fn(|_| AtomicU64::new(0))
        }
        Self {
            answered: zeros(),
            refused: zeros(),
            cut: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            took: zeros(),
            took_us: AtomicU64::new(0),
        }
    }
}

impl Figures {
    /// The head of an upstream's answer came, so long after the request began to be sent.
    pub(super) fn answered(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).min(5);
        self.answered[class].fetch_add(1, Ordering::Relaxed);
        let bucket = BOUNDS_S.iter().position(|bound| took.as_secs_f64() <= *bound).unwrap_or(BOUNDS_S.len());
        self.took[bucket].fetch_add(1, Ordering::Relaxed);
        self.took_us.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    /// The gateway answered instead.
    pub(super) fn refused(&self, kind: ProblemType) {
        self.refused[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// An answer could not be told to its end.
    pub(super) fn cut(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was sent once more, because its connection had been closed.
    pub(super) fn retried(&self) {
        self.retried.fetch_add(1, Ordering::Relaxed);
    }
}

/// The figures of all routes.
pub(crate) fn encode(routes: &Routes, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    if routes.is_empty() {
        return Ok(());
    }
    requests(routes, to)?;
    let help = "Answers of upstreams that ended early: the client's connection was cut";
    counters(routes, to, "proxy_cut_answers", help, |figures| &figures.cut)?;
    let help = "Requests sent once more, because the upstream had closed their connection";
    counters(routes, to, "proxy_retries", help, |figures| &figures.retried)?;
    let help = "Requests at the upstreams of a route";
    let mut metric = to.encode_descriptor("proxy_in_flight", help, None, MetricType::Gauge)?;
    for route in routes.all() {
        let count = route.in_flight.load(Ordering::Relaxed) as u64;
        metric.encode_family(&[("route", &*route.settings.name)])?.encode_gauge(&count)?;
    }
    let help = "1 while an upstream is left alone after failures";
    let mut metric = to.encode_descriptor("proxy_upstream_down", help, None, MetricType::Gauge)?;
    let now = Instant::now();
    for route in routes.all() {
        for upstream in &route.upstreams {
            let address = upstream.address.to_string();
            let labels = [("route", &*route.settings.name), ("upstream", &*address)];
            metric.encode_family(&labels)?.encode_gauge(&u64::from(upstream.is_down(now)))?;
        }
    }
    times(routes, to)
}

fn requests(routes: &Routes, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    const CLASSES: [&str; 6] = ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"];
    let help = "Requests of a route by outcome: the class of the upstream's status, or why there was none";
    let mut metric = to.encode_descriptor("proxy_requests", help, None, MetricType::Counter)?;
    for route in routes.all() {
        let answered = CLASSES.iter().copied().zip(&route.figures.answered).skip(2);
        let refused =
            ProblemType::ALL.iter().map(|kind| (kind.slug(), &route.figures.refused[*kind as usize]));
        for (place, (outcome, count)) in answered.chain(refused).enumerate() {
            let count = count.load(Ordering::Relaxed);
            if place == 0 || count > 0 {
                let labels = [("route", &*route.settings.name), ("outcome", outcome)];
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
    }
    Ok(())
}

fn counters(
    routes: &Routes,
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    of: fn(&Figures) -> &AtomicU64,
) -> fmt::Result {
    let mut metric = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    for route in routes.all() {
        let count = of(&route.figures).load(Ordering::Relaxed);
        let labels = [("route", &*route.settings.name)];
        metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
    }
    Ok(())
}

fn times(routes: &Routes, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "From sending a request to the head of the upstream's answer";
    let unit = Some(&prometheus_client::registry::Unit::Seconds);
    let mut metric = to.encode_descriptor("proxy_upstream_time", help, unit, MetricType::Histogram)?;
    for route in routes.all() {
        let counts = route.figures.took.each_ref().map(|count| count.load(Ordering::Relaxed));
        let bounds = BOUNDS_S.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let sum = route.figures.took_us.load(Ordering::Relaxed) as f64 / 1e6;
        let labels = [("route", &*route.settings.name)];
        let mut family = metric.encode_family(&labels)?;
        family.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)?;
    }
    Ok(())
}
