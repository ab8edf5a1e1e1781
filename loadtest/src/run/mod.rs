//! One run, stage by stage: gateways, sale, workers, buyers (and what goes wrong), drain, evidence.
//!
//! ```text
//! setup.rs     Redis and gateways ready, sale created, workers and event reader at work
//! rush.rs      buyers and faults, until the sale is over
//! drain.rs     until every ticket is at its end
//! collect.rs   what is only known at the end
//! ```

mod collect;
mod drain;
mod rush;
mod setup;

use crate::buyers::Tally;
use crate::clock::Clock;
use crate::evidence::Evidence;
use crate::gateway::{ChildError, Setting};
use crate::progress::Progress;
use crate::redis::{Reach, RedisError};
use crate::scenario::Scenario;
use crate::seeded::Seed;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tidegate_client::client::{BuildError, ClientError};

/// What to run, against what.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    pub(crate) seed: Seed,
    pub(crate) target: Target,
    /// Exists; gets the order database, and log and configuration of a gateway of ours.
    pub(crate) report_dir: PathBuf,
    /// Bearer token of the inner listener.
    pub(crate) token: Option<String>,
}

/// The gateway under test.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// Runs already: its buyers' listener, and the base URL of the inner one.
    Running { public: SocketAddr, inner: String },
    /// Is to be started.
    Spawn(PathBuf),
}

/// What a run left behind.
pub(crate) struct Finished {
    pub(crate) evidence: Evidence,
    pub(crate) tally: Tally,
    pub(crate) workers: WorkerCounts,
    /// Processor time of gateways of ours.
    pub(crate) cpu: Option<Duration>,
    pub(crate) took: Duration,
    /// The Redis of the run, for people.
    pub(crate) redis: Option<String>,
    /// Data folders of ours; gone when this is dropped.
    pub(crate) data_dir: Option<tempfile::TempDir>,
}

/// The report's `workers`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WorkerCounts {
    pub(crate) received: u64,
    pub(crate) acked: u64,
    pub(crate) redelivered: u64,
    pub(crate) confirmed: u64,
}

/// Why a run could not be carried through. Says nothing of the invariants.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("scenario {scenario} has several gateways, a Redis, or faults of them: start them with --spawn")]
    NeedsSpawn { scenario: String },
    #[error("the inner listener's address: {0}")]
    Inner(#[from] BuildError),
    #[error("cannot {what}: {source}")]
    Admin { what: &'static str, source: ClientError },
    #[error("the order database: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("{what}: {source}")]
    Local { what: &'static str, source: std::io::Error },
}

/// Runs the whole scenario; one with abusers twice, first without them.
pub(crate) async fn run(plan: &Plan, progress: &Progress) -> Result<Finished, RunError> {
    let Some(without) = plan.without_abusers() else { return run_once(plan, progress).await };
    let before = run_once(&without, progress).await?.evidence.abuse;
    let mut finished = run_once(plan, progress).await?;
    if let (Some(seen), Some(before)) = (&mut finished.evidence.abuse, before) {
        seen.without = before.units;
    }
    Ok(finished)
}

async fn run_once(plan: &Plan, progress: &Progress) -> Result<Finished, RunError> {
    if plan.scenario.needs_spawn() && matches!(plan.target, Target::Running { .. }) {
        return Err(RunError::NeedsSpawn { scenario: plan.scenario.name.clone() });
    }
    let clock = Clock::start();
    progress.stage("start");
    let mut stand = setup::set_up(plan, clock).await?;
    progress.watch(&stand.live, &stand.floor);
    progress.stage("sale");
    let rush = rush::rush(plan, &mut stand).await?;
    let gone = rush.restart_failed.is_some();
    if !gone {
        progress.stage("drain");
        drain::until_settled(plan, &stand, &rush.buyers).await?;
    }
    progress.stage("verdict");
    let collected = collect::collect(plan, stand, rush, clock).await?;
    Ok(collected)
}

impl Plan {
    /// The same by the same seed, when it has abusers.
    fn without_abusers(&self) -> Option<Self> {
        let scenario = self.scenario.without_abusers()?;
        let (seed, target) = (self.seed, self.target.clone());
        Some(Self { scenario, seed, target, report_dir: self.report_dir.clone(), token: self.token.clone() })
    }

    /// What a gateway of ours is started with.
    pub(crate) fn setting<'a>(
        &'a self,
        redis: Option<&'a Reach>,
        upstream: Option<SocketAddr>,
    ) -> Option<Setting<'a>> {
        match &self.target {
            Target::Running { .. } => None,
            Target::Spawn(binary) => {
                let (scenario, report_dir) = (&self.scenario, self.report_dir.as_path());
                Some(Setting { binary, scenario, redis, upstream, report_dir })
            }
        }
    }
}
