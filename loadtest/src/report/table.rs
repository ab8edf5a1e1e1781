//! The report for a person: what was offered, what became of it, and whether it was right.

use super::{Percentiles, Report, Verdict};
use crate::evidence::FaultKind;
use crate::verdict::AtFault;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use std::fmt::Write as _;

/// Width without a terminal to ask.
const WIDTH: u16 = 110;

/// The whole final display, ending with the line `verdict: …`.
pub(crate) fn render(report: &Report) -> String {
    let mut out = String::new();
    let seconds = report.duration_ms as f64 / 1_000.0;
    let _ = writeln!(out, "\nscenario {}, seed {}, {seconds:.1} s", report.scenario, report.seed);
    let _ = writeln!(out, "{}", outcomes(report));
    let _ = writeln!(out, "{}", figures(report));
    let _ = writeln!(out, "{}", invariants(report));
    for fault in &report.faults {
        let _ = writeln!(out, "{}", fault_lines(fault));
    }
    match report.verdict {
        Verdict::Pass => out.push_str("verdict: pass"),
        Verdict::Fail => {
            let names: Vec<&str> = report.broken().map(|invariant| invariant.name).collect();
            let _ = write!(out, "verdict: fail (broken: {})", names.join(", "));
        }
    }
    out
}

fn fault_lines(fault: &AtFault) -> String {
    let (kind, in_flight) = match fault.kind {
        FaultKind::KillWorker => (fault.kind.name(), "rows left pending"),
        kind => (kind.name(), "orders in flight"),
    };
    let seconds = |ms: u64| format!("{:.1} s", ms as f64 / 1_000.0);
    let whom = fault.gateway.map_or(String::new(), |number| format!(" of gateway {number}"));
    let until = fault.back_ms.map_or("for good".to_owned(), |ms| format!("over at {}", seconds(ms)));
    let mut lines = format!(
        "{kind}{whom}: at {}, {until}\n{in_flight} at the {kind}: {}\nunits left at the {kind}: {}",
        seconds(fault.at_ms),
        fault.in_flight,
        fault.units_left
    );
    if let Some(won) = fault.won_in_lost_writes {
        let _ = write!(lines, "\nwins in the writes that Redis lost: {won}");
    }
    lines
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if !table.is_tty() {
        table.set_width(WIDTH);
    }
    table.set_header(header.iter().map(Cell::new));
    table
}

fn outcomes(report: &Report) -> Table {
    let mut table = table(&["outcome", "count", "p50 ms", "p90", "p99", "p99.9", "max"]);
    let none = Percentiles::default();
    for (name, count) in &report.outcomes {
        let p = report.latency_ms.get(name).unwrap_or(&none);
        let times = [p.p50, p.p90, p.p99, p.p999, p.max].map(|ms| right(format!("{ms:.1}")));
        table.add_row([Cell::new(name), right(count.to_string())].into_iter().chain(times));
    }
    let lag = report.generator_lag_ms;
    let times = [lag.p50, lag.p90, lag.p99, lag.p999, lag.max].map(|ms| right(format!("{ms:.1}")));
    table.add_row([Cell::new("(generator's lag)"), right(String::new())].into_iter().chain(times));
    table
}

fn figures(report: &Report) -> Table {
    let mut table = table(&["what", "figures"]);
    let mut requests =
        format!("offered {}, answered {}, polls {}", report.offered, report.answered, report.polls);
    for (name, count) in [("no answer", report.lost), ("never sent", report.unsent)] {
        if count > 0 {
            let _ = write!(requests, ", {name} {count}");
        }
    }
    table.add_row(["requests".to_owned(), requests]);
    let stock = report.stock.map_or("no audit".to_owned(), |s| {
        format!(
            "initial {}, restocked {}, available {}, held {}, sold {}, returned on the way {}",
            s.initial, s.restocked, s.available, s.held, s.sold, s.returned
        )
    });
    table.add_row(["stock".to_owned(), stock]);
    let w = report.workers;
    table.add_row([
        "workers".to_owned(),
        format!(
            "received {}, acked {}, redelivered {}, confirmed {}",
            w.received, w.acked, w.redelivered, w.confirmed
        ),
    ]);
    if let Some(redis) = &report.redis {
        table.add_row(["ledger".to_owned(), format!("{} gateways on Redis: {redis}", report.gateways)]);
    }
    if let Some(cpu_us) = report.gateway_cpu_us_per_request {
        table.add_row([
            "gateway".to_owned(),
            format!("{cpu_us:.1} µs of CPU per buyer request, workers included"),
        ]);
    }
    table
}

fn invariants(report: &Report) -> Table {
    let mut table = table(&["", "invariant", "evidence"]);
    for invariant in &report.invariants {
        let mark = if invariant.holds { "✓" } else { "✗" };
        table.add_row([mark, invariant.name, &invariant.detail]);
    }
    table
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}
