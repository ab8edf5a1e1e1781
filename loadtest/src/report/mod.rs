//! The report: one structure, shown as a table and written as JSON (`report.schema.json` says what it holds).

mod table;

pub(crate) use table::render;

use crate::run::{Finished, Plan, Target};
use crate::verdict::{AtFault, AtKill, Invariant, at_faults, at_kills, judge};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;

/// Field names are relied on by other tools.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) verdict: Verdict,
    pub(crate) invariants: Vec<Invariant>,
    pub(crate) scenario: String,
    pub(crate) seed: u64,
    pub(crate) gateway: String,
    /// How many were there at the beginning.
    pub(crate) gateways: u32,
    /// The Redis of the run, for people.
    pub(crate) redis: Option<String>,
    pub(crate) duration_ms: u64,
    /// Order requests that were due.
    pub(crate) offered: u64,
    /// Of those, answered.
    pub(crate) answered: u64,
    /// Of those, without an answer; retried by key.
    pub(crate) lost: u64,
    /// Of those, never sent: the generator's backlog was full.
    pub(crate) unsent: u64,
    pub(crate) polls: u64,
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
    pub(crate) latency_ms: BTreeMap<&'static str, Percentiles>,
    /// How long after their instant requests left: the generator's own part of each latency.
    pub(crate) generator_lag_ms: Percentiles,
    pub(crate) stock: Option<Stock>,
    pub(crate) workers: Workers,
    pub(crate) kills: Vec<AtKill>,
    pub(crate) faults: Vec<AtFault>,
    pub(crate) gateway_cpu_us_per_request: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Pass,
    Fail,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// As the audit told at the end.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Stock {
    pub(crate) initial: u64,
    pub(crate) restocked: u64,
    pub(crate) available: u64,
    pub(crate) held: u64,
    pub(crate) sold: u64,
    pub(crate) returned: u64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Workers {
    pub(crate) received: u64,
    pub(crate) acked: u64,
    pub(crate) redelivered: u64,
    pub(crate) confirmed: u64,
}

impl Report {
    pub(crate) fn new(plan: &Plan, finished: &Finished) -> Self {
        let Finished { evidence, tally, workers, .. } = finished;
        let invariants = judge(evidence);
        let holds = invariants.iter().all(|invariant| invariant.holds);
        let requests = tally.answered + tally.polls;
        Self {
            verdict: if holds { Verdict::Pass } else { Verdict::Fail },
            invariants,
            scenario: plan.scenario.name.clone(),
            seed: plan.seed.0,
            gateway: match &plan.target {
                Target::Running { public, .. } => format!("http://{public}"),
                Target::Spawn(binary) => binary.display().to_string(),
            },
            gateways: plan.scenario.gateway.count,
            redis: finished.redis.clone(),
            duration_ms: finished.took.as_millis() as u64,
            offered: tally.offered,
            answered: tally.answered,
            lost: tally.lost,
            unsent: tally.unsent,
            polls: tally.polls,
            outcomes: tally.by_outcome().map(|(outcome, times)| (outcome.name(), times.len())).collect(),
            latency_ms: tally
                .by_outcome()
                .map(|(outcome, times)| (outcome.name(), percentiles(times)))
                .collect(),
            generator_lag_ms: tally.lag().map(percentiles).unwrap_or_default(),
            stock: evidence.audit.as_ref().ok().map(|audit| Stock {
                initial: audit.initial,
                restocked: audit.restocked,
                available: audit.available,
                held: audit.held,
                sold: audit.sold,
                returned: audit.returned,
            }),
            workers: Workers {
                received: workers.received,
                acked: workers.acked,
                redelivered: workers.redelivered,
                confirmed: workers.confirmed,
            },
            kills: at_kills(evidence),
            faults: at_faults(evidence),
            gateway_cpu_us_per_request: finished
                .cpu
                .filter(|_| requests > 0)
                .map(|cpu| rounded(cpu.as_secs_f64() * 1e6 / requests as f64)),
        }
    }

    pub(crate) fn broken(&self) -> impl Iterator<Item = &Invariant> {
        self.invariants.iter().filter(|invariant| !invariant.holds)
    }
}

fn percentiles(histogram_us: &Histogram<u64>) -> Percentiles {
    let at = |quantile| rounded(histogram_us.value_at_quantile(quantile) as f64 / 1_000.0);
    Percentiles {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: rounded(histogram_us.max() as f64 / 1_000.0),
    }
}

/// Three digits: no more was measured.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
