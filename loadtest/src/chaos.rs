//! What goes wrong on purpose: `kill -9` at a seeded instant, workers that stop for a while.

use crate::buyers::Live;
use crate::clock::{Clock, Micros};
use crate::evidence::{KillSeen, StopSeen};
use crate::gateway::{Child, ChildError};
use crate::run::Plan;
use crate::scenario::{Kill, StopWorkers};
use crate::seeded::Stream;
use crate::workers::{Crew, Floor};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How often a good instant for the kill is looked for.
const LOOK: Duration = Duration::from_millis(1);
/// Workers told to stand finish what is in hand within this.
const STAND_BOUND: Duration = Duration::from_secs(5);

/// Waits until the seeded share of the stock is won and enough orders wait, then kills and restarts. `None` when
/// no such instant came while buyers came.
pub(crate) async fn kill_and_restart(
    plan: &Plan,
    kill: Kill,
    child: &mut Child,
    live: &Live,
    floor: &Floor,
    give_up_us: Micros,
) -> Result<Option<KillSeen>, ChildError> {
    let (stock, clock) = (plan.scenario.sale.stock, floor.clock);
    let [from, to] = kill.after_sold_share;
    let share = from + (to - from) * plan.seed.unit(Stream::Kill, 0);
    let won_min = (stock as f64 * share) as u64;
    // Our counts run behind the gateway's; a fifth more of each keeps the kill conclusive.
    let in_flight_min = kill.in_flight_min + kill.in_flight_min / 5;
    let left_min = stock / 20 + 1;
    loop {
        let (won, created) = (live.won.load(Relaxed), floor.figures.created());
        let in_flight = won.saturating_sub(created);
        if won >= won_min && in_flight >= in_flight_min && won + left_min <= stock {
            break;
        }
        if clock.now_us() >= give_up_us {
            return Ok(None);
        }
        tokio::time::sleep(LOOK).await;
    }
    let at_us = clock.now_us();
    child.kill()?;
    child.restart().await?;
    Ok(Some(KillSeen { at_us, ready_us: clock.now_us() }))
}

/// Stops the workers at their instant and lets them go on after theirs.
pub(crate) async fn stop_workers(stop: StopWorkers, crew: &Crew, clock: Clock, start_us: Micros) -> StopSeen {
    tokio::time::sleep_until(clock.instant(start_us + stop.at_ms * 1_000)).await;
    let stopped_us = crew.stand(STAND_BOUND).await;
    tokio::time::sleep_until(clock.instant(stopped_us + stop.for_ms * 1_000)).await;
    StopSeen { stopped_us, resumed_us: crew.resume() }
}
