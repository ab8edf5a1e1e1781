//! Counts, and latencies by outcome. Latency runs from the scheduled instant, so a stalled server or a busy
//! generator shows in it (no coordinated omission).

use crate::clock::Micros;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use tidegate_client::wire::ProblemType;

/// Above this a latency counts as this.
const LATENCY_US_MAX: u64 = 600_000_000;

/// How an order request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// 202 with a ticket that the buyer had not been told of.
    Won,
    /// 202 with the ticket that the buyer already knew.
    WonRepeat,
    Refused(ProblemType),
    Undocumented,
}

impl Outcome {
    /// Its key in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::WonRepeat => "won-repeat",
            Self::Refused(problem) => problem.slug(),
            Self::Undocumented => "undocumented",
        }
    }
}

/// What one thread, or all, measured.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Requests due, whether or not they left.
    pub(crate) offered: u64,
    pub(crate) answered: u64,
    /// Requests that got no answer.
    pub(crate) lost: u64,
    /// Requests that never left: the generator's backlog was full.
    pub(crate) unsent: u64,
    pub(crate) polls: u64,
    /// Answers to good buyers and to made-up names while there was something to win.
    pub(crate) contest: [u64; 2],
    latency_us: BTreeMap<Outcome, Histogram<u64>>,
    lag_us: Option<Histogram<u64>>,
}

impl Tally {
    pub(crate) fn answer(&mut self, outcome: Outcome, latency_us: Micros) {
        self.answered += 1;
        record(self.latency_us.entry(outcome).or_insert_with(histogram), latency_us);
    }

    /// How long after its instant a request left: the generator's own share of the latency.
    pub(crate) fn left(&mut self, lag_us: Micros) {
        record(self.lag_us.get_or_insert_with(histogram), lag_us);
    }

    pub(crate) fn absorb(&mut self, other: Self) {
        self.offered += other.offered;
        self.answered += other.answered;
        self.lost += other.lost;
        self.unsent += other.unsent;
        self.polls += other.polls;
        self.contest = [0, 1].map(|who| self.contest[who] + other.contest[who]);
        for (outcome, theirs) in other.latency_us {
            add(self.latency_us.entry(outcome).or_insert_with(histogram), &theirs);
        }
        if let Some(theirs) = other.lag_us {
            add(self.lag_us.get_or_insert_with(histogram), &theirs);
        }
    }

    /// By outcome, with its count as the histogram's length.
    pub(crate) fn by_outcome(&self) -> impl Iterator<Item = (Outcome, &Histogram<u64>)> {
        self.latency_us.iter().map(|(outcome, histogram)| (*outcome, histogram))
    }

    pub(crate) fn lag(&self) -> Option<&Histogram<u64>> {
        self.lag_us.as_ref()
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("constant bounds are valid")
}

fn record(histogram: &mut Histogram<u64>, value_us: u64) {
    histogram.saturating_record(value_us.max(1));
}

fn add(ours: &mut Histogram<u64>, theirs: &Histogram<u64>) {
    ours.add(theirs).expect("all histograms have the same bounds");
}
