//! An overload: once the gate has found its measure, what it admits is created in time, and workers are never short of
//! orders.

use super::dossier::{CLOCK_SKEW_MS, Dossier};
use super::{Findings, Invariant};
use crate::clock::Micros;
use crate::evidence::{LastLook, OverloadSeen, Work};
use tidegate_client::wire::TicketStatus;

/// The invariants of a scenario with `[overload]`; none for others.
pub(super) fn invariants(dossier: &Dossier<'_>) -> Vec<Invariant> {
    let Some(seen) = &dossier.evidence.overload else { return Vec::new() };
    let spans = Spans::of(seen);
    vec![none_dropped(dossier, seen, &spans), workers_busy(dossier, seen, &spans), refused_quickly(seen)]
}

/// Of the bound on refusals, the generator may be late by.
const LAG_SHARE: f64 = 0.2;

/// `[from, to)` on our clock.
type Span = (Micros, Micros);

/// The run after its start, in three parts.
struct Spans {
    before: Span,
    change: Span,
    after: Span,
}

impl Spans {
    fn of(seen: &OverloadSeen) -> Self {
        let at = |ms: u64| seen.start_us + ms * 1_000;
        let wanted = &seen.wanted;
        let (slower, settle) = (wanted.slower_at_ms, wanted.settle_ms);
        Self {
            before: (at(settle), at(slower)),
            change: (at(slower), at(slower + settle)),
            after: (at(slower + settle), at(wanted.until_ms)),
        }
    }
}

/// Admitted orders that their deadline ended, by the part of the run in which it did.
fn none_dropped(dossier: &Dossier<'_>, seen: &OverloadSeen, spans: &Spans) -> Invariant {
    let mut findings = Findings::default();
    let mut admitted = 0_u64;
    let mut dropped = [0_u64; 4];
    for (ticket, look) in &dossier.evidence.last_look {
        let LastLook::Ticket { status, won_at_ms, .. } = look else { continue };
        admitted += 1;
        if *status != TicketStatus::Dropped {
            continue;
        }
        let ended_ms = won_at_ms + dossier.evidence.sale.order_deadline_ms;
        // At the edges the clocks' difference is the gateway's benefit.
        let since = |us: Micros| ended_ms >= dossier.wall_ms(us) + CLOCK_SKEW_MS;
        let part =
            [spans.before.0, spans.change.0, spans.after.0].into_iter().filter(|us| since(*us)).count();
        dropped[part] += 1;
        // What is dropped after the last buyer was admitted before: it counts.
        findings.require(part == 0 || part == 2, || {
            let at_s = (ended_ms as f64 - dossier.wall_ms(seen.start_us) as f64) / 1_000.0;
            format!("ticket {ticket} was admitted and dropped by its deadline at {at_s:.1} s")
        });
    }
    let [start, before, change, after] = dropped;
    findings.require(admitted > 0, || "not conclusive: nothing was admitted".to_owned());
    findings.require(seen.refused > 0, || "not conclusive: nothing was refused".to_owned());
    judged(
        findings,
        "admitted_in_time",
        &format!(
            "{admitted} admitted, {} refused; dropped while steady {before} + {after}, in the first {:.0} s {start}, in \
             the {:.0} s after the change {change}",
            seen.refused,
            seen.wanted.settle_ms as f64 / 1_000.0,
            seen.wanted.settle_ms as f64 / 1_000.0,
        ),
    )
}

/// Time in which hands held an order ÷ time.
fn workers_busy(dossier: &Dossier<'_>, seen: &OverloadSeen, spans: &Spans) -> Invariant {
    let mut findings = Findings::default();
    let share = |span: Span| busy_share(&dossier.evidence.workers.work, seen.hands, span);
    let (before, change, after) = (share(spans.before), share(spans.change), share(spans.after));
    for (name, share) in [("before", before), ("after", after)] {
        findings.require(share >= seen.wanted.busy_share_min, || {
            format!("{name} the change hands held an order {:.1} % of the time only", share * 100.0)
        });
    }
    let rate = |span: Span| {
        let created = dossier.evidence.workers.created.iter();
        let count = created.filter(|created| (span.0..span.1).contains(&created.at_us)).count();
        count as f64 * 1e6 / (span.1 - span.0) as f64
    };
    judged(
        findings,
        "workers_busy",
        &format!(
            "hands held an order {:.1} % of the time before the change, {:.1} % while it was settled, {:.1} % after; created \
             {:.0}, then {:.0} orders/s",
            before * 100.0,
            change * 100.0,
            after * 100.0,
            rate(spans.before),
            rate(spans.after)
        ),
    )
}

/// With the figures in either case: those of a failure are worth as much.
fn judged(findings: Findings, name: &'static str, figures: &str) -> Invariant {
    let judged = findings.judge(name, figures.to_owned());
    if judged.holds {
        judged
    } else {
        Invariant { detail: format!("{}; {figures}", judged.detail), ..judged }
    }
}

/// Judged only when the generator itself kept its times: on a machine that is busy with something else the figure tells of
/// that, not of the gateway.
fn refused_quickly(seen: &OverloadSeen) -> Invariant {
    let mut findings = Findings::default();
    let (p99_ms, lag_ms) = (seen.refused_p99_us as f64 / 1_000.0, seen.lag_p99_us as f64 / 1_000.0);
    let most = seen.wanted.refused_p99_ms_max;
    let free = lag_ms <= most * LAG_SHARE;
    findings
        .require(!free || p99_ms <= most, || format!("p99 of refusals is {p99_ms:.1} ms, above {most} ms"));
    let judged = if free { "" } else { ", not judged: the machine is busy" };
    let figures = format!(
        "p99 of {} refusals {p99_ms:.1} ms, of which the generator's lag {lag_ms:.1} ms{judged}",
        seen.refused
    );
    findings.judge("refused_quickly", figures)
}

fn busy_share(work: &[Work], hands: u64, (from, to): Span) -> f64 {
    let worked: u64 = work.iter().map(|w| w.to_us.min(to).saturating_sub(w.from_us.max(from))).sum();
    worked as f64 / (hands * (to - from)).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_inside_the_span_counts() {
        let work = [(0, 10), (5, 15), (18, 40), (50, 60)].map(|(from_us, to_us)| Work { from_us, to_us });
        let share = busy_share(&work, 2, (10, 30));
        assert!((share - (5.0 + 12.0) / 40.0).abs() < 1e-9, "{share}");
    }
}
