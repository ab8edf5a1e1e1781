//! Buyers and faults, until the sale is over.

use super::setup::Stand;
use super::{Plan, RunError};
use crate::buyers::{Crowd, Tally};
use crate::chaos;
use crate::evidence::{BuyersSaw, KillSeen, StopSeen};
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
    pub(super) kills: Vec<KillSeen>,
    pub(super) restart_failed: Option<String>,
    pub(super) stop: Option<StopSeen>,
}

pub(super) async fn rush(plan: &Plan, stand: &mut Stand) -> Result<Rush, RunError> {
    let local = |what| move |source| RunError::Local { what, source };
    let scenario = &plan.scenario;
    let clock = stand.clock;
    let start_us = clock.now_us() + LEAD_US;
    let end_us = start_us + scenario.buyers.sale_for_ms * 1_000;
    let live = &stand.live;
    let crowd = Crowd::start(
        scenario,
        &stand.sale,
        stand.public,
        plan.seed,
        clock,
        start_us,
        std::sync::Arc::clone(live),
    )
    .map_err(local("generator threads"))?;

    let mut child = stand.child.take();
    let killing = async {
        let (Some(kill), Some(child)) = (scenario.faults.kill, child.as_mut()) else { return Ok(None) };
        let killed = chaos::kill_and_restart(plan, kill, child, live, &stand.floor, end_us).await;
        if killed.is_err() {
            live.abandon();
        }
        killed
    };
    let stopping = async {
        match scenario.faults.stop_workers {
            Some(stop) => Some(chaos::stop_workers(stop, &stand.crew, clock, start_us).await),
            None => None,
        }
    };
    let faults = async { tokio::join!(killing, stopping) };
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
    let ((killed, stop), ()) = tokio::join!(faults, sale);
    stand.child = child;
    crowd.stop();
    let (tally, buyers) = tokio::task::spawn_blocking(move || crowd.join())
        .await
        .map_err(|error| local("generator threads")(std::io::Error::other(error)))?
        .map_err(local("generator threads"))?;
    let (kills, restart_failed) = match killed {
        Ok(kill) => (kill.into_iter().collect(), None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Ok(Rush { tally, buyers, kills, restart_failed, stop })
}

/// Every unit is paid for: nothing can come back any more.
async fn sold_for_good(stand: &Stand) -> bool {
    let Ok(Some(sale)) = stand.observer.sale(&stand.sale).await else { return false };
    sale.available == 0 && sale.held == 0
}
