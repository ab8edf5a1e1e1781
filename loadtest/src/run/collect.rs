//! What is only known at the end: last looks, audit, offsets, rows, how the gateway stopped.

use super::drain::{known, look_at};
use super::rush::Rush;
use super::setup::Stand;
use super::{Finished, Plan, RunError, WorkerCounts};
use crate::buyers::Outcome;
use crate::clock::Clock;
use crate::evidence::{
    AbuseSeen, BuyersSaw, Evidence, FaultKind, FaultWanted, LastLook, LookApart, OffsetsSeen, OverloadSeen,
    Table, TicketId, Units,
};
use crate::gateway::Members;
use crate::scenario::{Fault, Scenario, Timed};
use crate::workers::{ORDER_WORKERS, ORDERS};
use std::sync::Arc;
use std::time::Duration;
use tidegate_client::wire::ProblemType;

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
    let Stand { mut fleet, redis, data_dir, roster, sale, floor, crew, reader, offsets_before, .. } = stand;
    let end_bound = if gone { Duration::ZERO } else { END_BOUND };
    crew.end(end_bound).await;
    reader.end(end_bound).await;

    let members = roster.members();
    let (last_look, looks_apart) = if gone {
        (tickets.into_iter().map(|(ticket, _)| (ticket, LastLook::NoAnswer)).collect(), Vec::new())
    } else {
        look_everywhere(&members, tickets).await?
    };
    let (last_look, not_yet_known) = set_apart(last_look, &rush.buyers);
    let (mut audits, mut offsets) = (Vec::new(), Vec::new());
    for member in members.iter() {
        let (gateway, client) = (member.number, &member.client);
        audits.push((gateway, client.audit_sale(&sale).await.map_err(|error| error.to_string())));
        let before = offsets_before.clone();
        let counted = client.offsets(ORDERS, ORDER_WORKERS).await.map_err(|error| error.to_string());
        offsets.push(OffsetsSeen { gateway, before, offsets: counted });
    }
    let mut audits = audits.into_iter();
    let audit = audits.next().map_or_else(|| Err("no gateway".to_owned()), |(_, audit)| audit);
    let rows = floor.database.rows()?;
    let exit = match &mut fleet {
        Some(fleet) if !gone => Some(fleet.stop(Duration::from_millis(plan.scenario.bounds.stop_ms)).await),
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
    let overload = overload(scenario, &rush);
    let evidence = Evidence {
        sale: scenario.sale.clone(),
        // Abusers make their names up as they go.
        buyers_count: if scenario.abusers.is_some() { u32::MAX } else { scenario.buyers.count },
        start_wall_us: clock.start_wall_us(),
        abuse: scenario.abusers.map(|abusers| AbuseSeen {
            units: Units::of(&rush.buyers, &abusers, plan.seed),
            without: Units::default(),
            contest: rush.tally.contest,
        }),
        buyers: rush.buyers,
        workers,
        events,
        rows,
        last_look,
        looks_apart,
        not_yet_known,
        audit,
        other_audits: audits.collect(),
        offsets,
        shared: scenario.gateway.count > 1,
        proxied: rush.proxied,
        tokens: scenario.gateway.tokens,
        faults_wanted: scenario.faults.timed().iter().map(wanted).collect(),
        faults: rush.faults,
        overload,
        stop_wanted: scenario.faults.stop_workers.is_some(),
        stop: rush.stop,
        restart_failed: rush.restart_failed,
        exit,
    };
    Ok(Finished {
        evidence,
        tally: rush.tally,
        workers: counts,
        cpu: fleet.as_ref().map(crate::gateway::Fleet::cpu),
        redis: redis.as_ref().map(crate::redis::Deployment::describe),
        took: Duration::from_micros(clock.now_us()),
        data_dir,
    })
}

fn overload(scenario: &Scenario, rush: &Rush) -> Option<OverloadSeen> {
    let wanted = scenario.overload?;
    let refusals = Outcome::Refused(ProblemType::Overloaded);
    let refused = rush.tally.by_outcome().find(|(outcome, _)| *outcome == refusals);
    Some(OverloadSeen {
        wanted,
        start_us: rush.start_us,
        hands: u64::from(scenario.workers.count) * u64::from(scenario.workers.concurrency),
        refused: refused.map_or(0, |(_, times)| times.len()),
        refused_p99_us: refused.map_or(0, |(_, times)| times.value_at_quantile(0.99)),
        lag_p99_us: rush.tally.lag().map_or(0, |lag| lag.value_at_quantile(0.99)),
    })
}

fn wanted(timed: &Timed) -> FaultWanted {
    let kind = match timed.what {
        Fault::Kill(kill) if kill.delete_data => FaultKind::DeleteGateway,
        Fault::Kill(_) => FaultKind::Kill,
        Fault::StopGateway(_) => FaultKind::StopGateway,
        Fault::KillWorker(_) => FaultKind::KillWorker,
        Fault::KillRedis(_) => FaultKind::KillRedis,
        Fault::EmptyRedis(_) => FaultKind::EmptyRedis,
        Fault::Failover(_) => FaultKind::Failover,
    };
    FaultWanted { kind, in_flight_min: timed.in_flight_min }
}

/// Each ticket as the first gateway tells it, and whatever another one tells otherwise.
async fn look_everywhere(
    members: &Members,
    tickets: Vec<(TicketId, u32)>,
) -> Result<(Table<LastLook>, Vec<LookApart>), RunError> {
    let mut looks: Table<LastLook> = Table::default();
    let mut apart = Vec::new();
    for member in members.iter() {
        let gateway = member.number;
        for (ticket, said) in look_at(Arc::new(vec![Arc::clone(member)]), tickets.clone()).await? {
            if *looks.entry(ticket).or_insert(said) != said {
                apart.push(LookApart { ticket, gateway, said });
            }
        }
    }
    Ok((looks, apart))
}

/// Tickets that were told of as not known yet and by nobody else are no tickets unless they are found.
fn set_apart(mut looks: Table<LastLook>, buyers: &BuyersSaw) -> (Table<LastLook>, Table<LastLook>) {
    let mut not_yet = Table::default();
    for told in &buyers.not_yet_known {
        let Some(look) = looks.get(&told.ticket).copied() else { continue };
        not_yet.insert(told.ticket, look);
        if look == LastLook::NotFound && !buyers.tickets.contains_key(&told.ticket) {
            looks.remove(&told.ticket);
        }
    }
    (looks, not_yet)
}
