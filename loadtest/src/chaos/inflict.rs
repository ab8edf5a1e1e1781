//! Does what the scenario asks for, and notes when.

use super::instant::ripe;
use crate::buyers::Live;
use crate::clock::Micros;
use crate::evidence::{FaultKind, FaultSeen};
use crate::gateway::{ChildError, Fleet};
use crate::redis::{Deployment, RedisError};
use crate::run::Plan;
use crate::scenario::{EmptyRedis, Failover, Fault, Kill, KillRedis, KillWorker, StopGateway, Timed};
use crate::seeded::Stream;
use crate::workers::{Crew, Floor};
use std::time::Duration;

/// A worker that is to die gets so long to have rows to leave behind.
const COMMIT_BOUND: Duration = Duration::from_secs(5);

/// What there is to do harm to, and by what to time it.
pub(crate) struct Stage<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) fleet: Option<&'a mut Fleet>,
    pub(crate) redis: Option<&'a mut Deployment>,
    pub(crate) crew: &'a Crew,
    pub(crate) live: &'a Live,
    pub(crate) floor: &'a Floor,
}

/// What was killed does not come up again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChaosError {
    #[error(transparent)]
    Gateway(#[from] ChildError),
    #[error(transparent)]
    Redis(#[from] RedisError),
}

/// All faults that are timed by the stock, the one with the smallest share first. Those for which no good instant
/// comes before `give_up_us` are left out. What came until an error is in `seen`.
pub(crate) async fn inflict(
    mut stage: Stage<'_>,
    give_up_us: Micros,
    seen: &mut Vec<FaultSeen>,
) -> Result<(), ChaosError> {
    let seed = stage.plan.seed;
    let mut faults: Vec<(f64, Timed)> = (0..)
        .zip(stage.plan.scenario.faults.timed())
        .map(|(index, timed)| {
            let [from, to] = timed.share;
            (from + (to - from) * seed.unit(Stream::Fault, index), timed)
        })
        .collect();
    faults.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    for (share, timed) in faults {
        if !ripe(&stage, &timed, share, give_up_us).await {
            continue;
        }
        let fault = match timed.what {
            Fault::Kill(kill) => stage.kill(kill, seen).await?,
            Fault::StopGateway(stop) => stage.stop_gateway(stop).await?,
            Fault::KillWorker(kill) => Some(stage.kill_worker(kill).await),
            Fault::KillRedis(kill) => stage.kill_redis(kill).await?,
            Fault::EmptyRedis(empty) => stage.empty_redis(empty).await?,
            Fault::Failover(failover) => stage.failover(failover).await?,
        };
        seen.extend(fault);
    }
    Ok(())
}

impl Stage<'_> {
    fn now_us(&self) -> Micros {
        self.floor.clock.now_us()
    }

    async fn kill(&mut self, kill: Kill, seen: &mut Vec<FaultSeen>) -> Result<Option<FaultSeen>, ChaosError> {
        let at_us = self.now_us();
        let Some(fleet) = &mut self.fleet else { return Ok(None) };
        let kind = if kill.delete_data { FaultKind::DeleteGateway } else { FaultKind::Kill };
        let fault = FaultSeen::new(kind, Some(fleet.number(kill.gateway)), at_us);
        fleet.child(kill.gateway).kill().await?;
        if !kill.delete_data {
            tokio::time::sleep(Duration::from_millis(kill.down_ms)).await;
            fleet.child(kill.gateway).restart().await?;
            return Ok(Some(fault.back_at(self.now_us())));
        }
        fleet.bury(kill.gateway)?;
        if !kill.replace {
            return Ok(Some(fault));
        }
        tokio::time::sleep(Duration::from_millis(kill.down_ms)).await;
        let reach = self.redis.as_ref().map(|redis| redis.reach());
        let Some(setting) = self.plan.setting(reach.as_ref(), None) else { return Ok(Some(fault)) };
        // The folder is gone, whatever becomes of the newcomer.
        seen.push(fault);
        fleet.replace(kill.gateway, &setting).await?;
        Ok(seen.pop().map(|fault| fault.back_at(self.now_us())))
    }

    async fn stop_gateway(&mut self, stop: StopGateway) -> Result<Option<FaultSeen>, ChaosError> {
        let at_us = self.now_us();
        let Some(fleet) = &mut self.fleet else { return Ok(None) };
        let fault = FaultSeen::new(FaultKind::StopGateway, Some(fleet.number(stop.gateway)), at_us);
        fleet.child(stop.gateway).freeze()?;
        tokio::time::sleep(Duration::from_millis(stop.for_ms)).await;
        let back_us = self.floor.clock.now_us();
        fleet.child(stop.gateway).thaw()?;
        Ok(Some(fault.back_at(back_us)))
    }

    async fn kill_worker(&self, kill: KillWorker) -> FaultSeen {
        let orphans = self.crew.kill(kill.worker, kill.pending_min as usize, COMMIT_BOUND).await;
        let fault = FaultSeen::new(FaultKind::KillWorker, None, self.now_us());
        tokio::time::sleep(Duration::from_millis(kill.down_ms)).await;
        self.crew.replace(kill.worker);
        FaultSeen { orphans, ..fault.back_at(self.now_us()) }
    }

    async fn kill_redis(&mut self, kill: KillRedis) -> Result<Option<FaultSeen>, ChaosError> {
        let from_us = self.now_us();
        let clock = self.floor.clock;
        let Some(redis) = &mut self.redis else { return Ok(None) };
        let lost_bytes = redis.kill(Duration::from_millis(kill.lose_ms)).await?;
        let fault = FaultSeen::new(FaultKind::KillRedis, None, clock.now_us());
        tokio::time::sleep(Duration::from_millis(kill.down_ms)).await;
        redis.restart().await?;
        let lost_from_us = (lost_bytes > 0).then_some(from_us);
        Ok(Some(FaultSeen { lost_from_us, ..fault.back_at(clock.now_us()) }))
    }

    async fn empty_redis(&mut self, empty: EmptyRedis) -> Result<Option<FaultSeen>, ChaosError> {
        let clock = self.floor.clock;
        let Some(redis) = &mut self.redis else { return Ok(None) };
        redis.kill(Duration::ZERO).await?;
        let fault = FaultSeen::new(FaultKind::EmptyRedis, None, clock.now_us());
        tokio::time::sleep(Duration::from_millis(empty.down_ms)).await;
        redis.restart_empty().await?;
        Ok(Some(FaultSeen { lost_from_us: Some(0), ..fault.back_at(clock.now_us()) }))
    }

    async fn failover(&mut self, failover: Failover) -> Result<Option<FaultSeen>, ChaosError> {
        let from_us = self.now_us();
        let clock = self.floor.clock;
        let Some(redis) = &mut self.redis else { return Ok(None) };
        let lost_bytes = redis.lose_master(Duration::from_millis(failover.lose_ms)).await?;
        let fault = FaultSeen::new(FaultKind::Failover, None, clock.now_us());
        redis.until_promoted().await?;
        let lost_from_us = (lost_bytes > 0).then_some(from_us);
        Ok(Some(FaultSeen { lost_from_us, ..fault.back_at(clock.now_us()) }))
    }
}
