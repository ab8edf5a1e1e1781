//! Waits for an instant at which a fault proves something.

use super::Stage;
use crate::clock::Micros;
use crate::scenario::{Fault, Timed};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How often a good instant is looked for.
const LOOK: Duration = Duration::from_millis(1);

/// Waits until `share` of the stock is won, enough orders wait and units are left. False when no such instant came
/// until `give_up_us`.
pub(super) async fn ripe(stage: &Stage<'_>, timed: &Timed, share: f64, give_up_us: Micros) -> bool {
    let stock = stage.plan.scenario.sale.stock;
    let won_min = (stock as f64 * share) as u64;
    // Our counts run behind the gateway's; a fifth more of each keeps the fault conclusive.
    let in_flight_min = match timed.what {
        // Its own rows are waited for when it dies.
        Fault::KillWorker(_) => 0,
        // Orders in flight are spread over all gateways.
        Fault::Kill(_) | Fault::StopGateway(_) => {
            timed.in_flight_min * u64::from(stage.plan.scenario.gateway.count)
        }
        Fault::KillRedis(_) | Fault::EmptyRedis(_) | Fault::Failover(_) => timed.in_flight_min,
    };
    let in_flight_min = in_flight_min + in_flight_min / 5;
    let left_min = stock / 20 + 1;
    loop {
        let (won, created) = (stage.live.won.load(Relaxed), stage.floor.figures.created());
        let in_flight = won.saturating_sub(created);
        if won >= won_min && in_flight >= in_flight_min && won + left_min <= stock {
            return true;
        }
        if stage.floor.clock.now_us() >= give_up_us {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
}
