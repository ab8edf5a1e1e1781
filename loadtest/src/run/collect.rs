//! What is only known at the end: last looks, audit, offsets, rows, how the gateway stopped.

use super::drain::{known, look_at};
use super::rush::Rush;
use super::setup::Stand;
use super::{Finished, Plan, RunError, WorkerCounts, stop_gateway};
use crate::clock::Clock;
use crate::evidence::{Evidence, LastLook, TicketId};
use crate::workers::{ORDER_WORKERS, ORDERS};
use std::time::Duration;

/// Workers and event reader finish what is in hand within this.
const END_BOUND: Duration = Duration::from_secs(5);

pub(super) async fn collect(
    plan: &Plan,
    stand: Stand,
    rush: Rush,
    clock: Clock,
) -> Result<Finished, RunError> {
    let gone = rush.restart_failed.is_some();
    let tickets: Vec<(TicketId, u32)> = known(&stand, &rush.buyers).into_iter().collect();
    let Stand { mut child, data_dir, public, sale, observer, floor, crew, reader, offsets_before, .. } =
        stand;
    let end_bound = if gone { Duration::ZERO } else { END_BOUND };
    crew.end(end_bound).await;
    reader.end(end_bound).await;

    let last_look = if gone {
        tickets.into_iter().map(|(ticket, _)| (ticket, LastLook::NoAnswer)).collect()
    } else {
        look_at(public, tickets).await?.into_iter().collect()
    };
    let audit = observer.audit_sale(&sale).await.map_err(|error| error.to_string());
    let offsets = observer.offsets(ORDERS, ORDER_WORKERS).await.map_err(|error| error.to_string());
    let rows = floor.database.rows()?;
    let exit = match &mut child {
        Some(child) if !gone => {
            Some(stop_gateway(child, Duration::from_millis(plan.scenario.bounds.stop_ms)).await)
        }
        _ => None,
    };
    let workers = std::mem::take(&mut *floor.saw.lock());
    let events = std::mem::take(&mut *floor.events.lock());
    let counts = WorkerCounts {
        received: floor.figures.received(),
        acked: floor.figures.acked(),
        redelivered: floor.figures.redelivered(),
        confirmed: floor.figures.created(),
    };
    let scenario = &plan.scenario;
    let evidence = Evidence {
        sale: scenario.sale.clone(),
        buyers_count: scenario.buyers.count,
        start_wall_us: clock.start_wall_us(),
        buyers: rush.buyers,
        workers,
        events,
        rows,
        last_look,
        audit,
        offsets_before,
        offsets,
        tokens: scenario.gateway.tokens,
        kill_wanted: scenario.faults.kill.map(|kill| kill.in_flight_min),
        kills: rush.kills,
        stop_wanted: scenario.faults.stop_workers.is_some(),
        stop: rush.stop,
        restart_failed: rush.restart_failed,
        exit,
    };
    Ok(Finished {
        evidence,
        tally: rush.tally,
        workers: counts,
        cpu: child.as_ref().map(crate::gateway::Child::cpu),
        took: Duration::from_micros(clock.now_us()),
        data_dir,
    })
}
