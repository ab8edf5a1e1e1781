//! This gateway is there, and who else is. A newcomer may sell only when every living member has its join in its log: so
//! the list of those whose logs make up the ledger survives the loss of Redis.

use super::core::CoreLedger;
use crate::state::Core;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tidegate_stock::redis::ops::Fleet;
use tracing::{error, warn};

/// Heartbeats in the time after which a gateway counts as dead.
const BEATS: u32 = 10;
/// A newcomer's join is agreed on in a few of these.
const JOINING: Duration = Duration::from_millis(50);

/// What a gateway tells of itself with each heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tells {
    /// Base URL of its inner listener.
    pub inner: String,
    /// Base URL of its public listener.
    pub public: String,
    /// Release.
    pub version: String,
    /// Able to sell.
    pub ready: bool,
    /// When it started, Unix ms.
    pub started_at_ms: u64,
}

/// Beats until the gateway stops, or another process has taken its place: this one then sells and delivers nothing more.
pub async fn run_fleet(core: Rc<Core>) {
    let Some(ledger) = core.redis.clone() else { return };
    let pause = ledger.shared.options.dead_after / BEATS;
    let mut recorded: Vec<String> = Vec::new();
    let mut failed = false;
    let mut process = 0;
    loop {
        match beat(&core, &ledger, &mut process, &mut recorded).await {
            Ok(()) => failed = false,
            Err(why) => {
                if !std::mem::replace(&mut failed, true) {
                    warn!(why, "no heartbeat: this gateway will be taken for dead if it goes on");
                }
            }
        }
        if ledger.shared.is_replaced() {
            return;
        }
        let quick = !ledger.shared.is_member() || !recorded.is_empty();
        tokio::select! {
            () = tokio::time::sleep(if quick { JOINING } else { pause }) => {}
            () = core.app.stopping.wait() => return,
        }
    }
}

async fn beat(
    core: &Core,
    ledger: &Rc<CoreLedger>,
    process: &mut u64,
    recorded: &mut Vec<String>,
) -> Result<(), String> {
    let shared = &ledger.shared;
    let tells = Tells {
        inner: core.app.urls().inner.clone(),
        public: core.app.urls().public.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: shared.unready().is_none() && core.app.queue.takes_new().is_ok(),
        started_at_ms: core.app.started_at_ms,
    };
    let tells = serde_json::to_string(&tells).map_err(|error| error.to_string())?;
    let forgotten: Vec<(String, u64)> = shared.roll.lock().forgotten().collect();
    let told = ledger.ops.heartbeat(*process, &tells, recorded, &forgotten).await;
    let mut fleet = told.map_err(|error| error.to_string())?;
    if fleet.replaced {
        shared.replace();
        error!(
            gateway = %shared.gateway,
            "another process runs with this gateway's id and was started later: a copied data folder? This one sells and \
             delivers nothing any more. Stop one of the two; if it is to be the other one, start this one again"
        );
        return Ok(());
    }
    *process = fleet.process;
    recorded.clear();
    shared.trouble.answered();
    let written = record_members(ledger, &fleet).await;
    let joined = fleet.member && !shared.is_member();
    match &written {
        Ok(()) => recorded.extend(fleet.newcomers.iter().cloned()),
        // A member goes on; a newcomer sells only once the others are in its log. Who is alive is known either way.
        Err(_) => fleet.member &= shared.is_member(),
    }
    shared.fleet.store(Some(Arc::new(fleet)));
    if joined {
        shared.look.notify_one();
    }
    written
}

/// Who has come and who is forgotten, as far as this gateway's log does not hold it yet: in the log before anything is sold
/// together with them.
async fn record_members(ledger: &Rc<CoreLedger>, fleet: &Fleet) -> Result<(), String> {
    let missing = ledger.shared.roll.lock().missing(fleet);
    ledger.record_roll(missing).await.map_err(|error| error.to_string())
}
