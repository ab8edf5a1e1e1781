//! Buyers and faults, until the sale is over.

use super::setup::Stand;
use super::{Plan, RunError};
use crate::buyers::{Crowd, Tally};
use crate::chaos;
use crate::clock::Micros;
use crate::evidence::{BuyersSaw, FaultSeen, ProxySaw, StopSeen};
use crate::proxied::Clients;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// From here to the first buyer: connections and threads come up.
const LEAD_US: u64 = 100_000;
/// How often the sale's counters are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What the buyers saw, and what went wrong on purpose.
pub(super) struct Rush {
    pub(super) tally: Tally,
    pub(super) buyers: BuyersSaw,
    pub(super) faults: Vec<FaultSeen>,
    pub(super) restart_failed: Option<String>,
    pub(super) stop: Option<StopSeen>,
    pub(super) proxied: Option<ProxySaw>,
    /// The first buyer was due at.
    pub(super) start_us: Micros,
}

pub(super) async fn rush(plan: &Plan, stand: &mut Stand) -> Result<Rush, RunError> {
    let local = |what| move |source| RunError::Local { what, source };
    let scenario = &plan.scenario;
    let clock = stand.clock;
    let start_us = clock.now_us() + LEAD_US;
    if let Some(overload) = scenario.overload {
        stand.floor.slower_from_us.store(start_us + overload.slower_at_ms * 1_000, Relaxed);
    }
    let end_us = start_us + scenario.buyers.sale_for_ms * 1_000;
    let live = &stand.live;
    let crowd = Crowd::start(
        scenario,
        &stand.sale,
        &stand.roster,
        plan.seed,
        clock,
        start_us,
        std::sync::Arc::clone(live),
    )
    .map_err(local("generator threads"))?;
    let gateway = stand.roster.members()[0].public;
    let clients =
        scenario.proxy.map(|settings| Clients::start(settings, gateway, clock, start_us)).transpose();
    let clients = clients.map_err(local("clients of the service"))?;

    let (mut fleet, mut redis) = (stand.fleet.take(), stand.redis.take());
    let mut seen = Vec::new();
    let harming = async {
        let stage = chaos::Stage {
            plan,
            fleet: fleet.as_mut(),
            redis: redis.as_mut(),
            crew: &stand.crew,
            live,
            floor: &stand.floor,
        };
        let done = chaos::inflict(stage, end_us, &mut seen).await;
        if done.is_err() {
            live.abandon();
        }
        done
    };
    let stopping = async {
        match scenario.faults.stop_workers {
            Some(stop) => Some(chaos::stop_workers(stop, &stand.crew, clock, start_us).await),
            None => None,
        }
    };
    let faults = async { tokio::join!(harming, stopping) };
    let sale = async {
        let threads = crowd.threads();
        while clock.now_us() < end_us && !live.abandoned() {
            let all_came = live.arrived.load(Relaxed) == threads;
            if all_came && sold_for_good(stand).await {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let ((harmed, stop), ()) = tokio::join!(faults, sale);
    (stand.fleet, stand.redis) = (fleet, redis);
    crowd.stop();
    let (tally, buyers) = tokio::task::spawn_blocking(move || crowd.join())
        .await
        .map_err(|error| local("generator threads")(std::io::Error::other(error)))?
        .map_err(local("generator threads"))?;
    let proxied = match (scenario.proxy, clients, stand.upstream.take()) {
        (Some(settings), Some(clients), Some(upstream)) => {
            let ended = tokio::task::spawn_blocking(move || {
                let clients = clients.join()?;
                Ok(ProxySaw { settings, clients, upstream: upstream.end()? })
            });
            Some(ended.await.unwrap_or_else(|error| Err(std::io::Error::other(error))))
        }
        _ => None,
    };
    let proxied = proxied.transpose().map_err(local("service behind the gateway"))?;
    let restart_failed = harmed.err().map(|error| error.to_string());
    Ok(Rush { tally, buyers, faults: seen, restart_failed, stop, proxied, start_us })
}

/// Every unit is paid for: nothing can come back any more.
async fn sold_for_good(stand: &Stand) -> bool {
    let Some(sale) = stand.look_at_sale().await else { return false };
    sale.available == 0 && sale.held == 0
}
