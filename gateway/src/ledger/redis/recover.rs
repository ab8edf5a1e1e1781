//! A sale whose Redis is another one, or has lost it: paused for all, then every member brings its log in, then it goes
//! on in a new generation.
//!
//! The log is read only once nothing of the sale is under way here: a win that Redis granted before the change is in the
//! log by then, and brought in with the rest; one that was not answered was never told to anybody.

use super::core::CoreLedger;
use super::fleet::impostors;
use super::passes::{Passes, Piece};
use super::shared::{SaleInLog, SaleShared};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidegate_stock::SaleRecord;
use tidegate_stock::redis::ops::{Reapply, RecoveryId, Resumed};
use tidegate_stock::redis::{CallError, OpError};
use tokio::time::Instant;
use tracing::{error, info, warn};

/// Between two looks at who has still to come: at first, and at last. The news of the sale wakes up as well.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_LAST: Duration = Duration::from_secs(2);
/// Sales that may look at most once in [`LOOK_LAST`]; with more, each looks more seldom.
const LOOKING: u32 = 1_000;
/// A call that failed is made again so often before the recovery begins from the beginning.
const TRIES: u32 = 20;
/// Others may take so long before a warning says that they are waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two warnings of the same.
const WARN: Duration = Duration::from_secs(10);

/// Why a recovery begins again.
enum Again {
    /// The server has changed once more, or the recovery is another one now.
    Changed,
    /// Redis did not take it.
    Failed(String),
}

impl<E: std::fmt::Display> From<E> for Again {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Starts a recovery, unless one is under way.
pub(super) fn begin(ledger: &Rc<CoreLedger>, sale: &Arc<SaleShared>) {
    sale.pause();
    if sale.recovering.swap(true, Ordering::AcqRel) {
        return;
    }
    let (ledger, sale) = (ledger.clone(), sale.clone());
    tokio::task::spawn_local(async move {
        warn!(sale = %sale.keys.sale, "the sale is paused: Redis has changed, or has lost it");
        while !ledger.app.stopping.is_set() && !ledger.shared.is_replaced() {
            match recover(&ledger, &sale).await {
                Ok(()) => break,
                Err(Again::Changed) => {}
                Err(Again::Failed(why)) => warn!(sale = %sale.keys.sale, why, "recovery is tried again"),
            }
            tokio::time::sleep(LOOK).await;
        }
        sale.recovering.store(false, Ordering::Release);
        ledger.shared.look_at(&sale);
    });
}

/// One step, beside those of a bounded number of other sales. Each of them may be repeated under the same recovery.
async fn step<T>(ledger: &CoreLedger, call: impl AsyncFn() -> Result<T, OpError>) -> Result<T, Again> {
    let mut tries = 0;
    loop {
        let outcome = {
            // The semaphore is never closed.
            let _permit = ledger.steps.acquire().await;
            call().await
        };
        match outcome {
            Ok(done) => return Ok(done),
            Err(OpError::Call(
                CallError::Unavailable(_) | CallError::Unknown(_) | CallError::Unreplicated(_),
            )) if tries < TRIES => {
                tries += 1;
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LOOK * tries).await;
        if ledger.app.stopping.is_set() {
            return Err(Again::Changed);
        }
    }
}

async fn recover(ledger: &Rc<CoreLedger>, sale: &Arc<SaleShared>) -> Result<(), Again> {
    // As it is now: two gateways that name the same server by what they heard of it at different times would never agree.
    let lineage = step(ledger, async || Ok(ledger.ops.lineage_fresh(&sale.keys).await?)).await?;
    let (recorded, members) = (sale.recorded(), ledger.shared.members());
    let paused = step(ledger, async || ledger.ops.pause(&sale.keys, &lineage, recorded, &members).await);
    let paused = paused.await?;
    let Some(recovery) = paused else { return Ok(()) };
    while !sale.is_quiet() {
        tokio::time::sleep(LOOK).await;
    }
    // What was granted is in the log by now; it is brought in once it is durable.
    ledger.durable.wait(ledger.shared.last_appended()).await?;
    bring_in(ledger, sale, &recovery).await?;
    let impostors = impostors(ledger).await;
    if !impostors.is_empty() {
        warn!(sale = %sale.keys.sale, gateways = impostors.join(", "), "these have not shown their newest logs: they are waited for");
        step(ledger, async || ledger.ops.withdraw(&sale.keys, &recovery, &impostors).await).await?;
    }
    let seen = recorded.map_or(0, |recorded| recorded.generation);
    // A recovery that takes its normal course is no news.
    let mut warn_at = Instant::now() + PATIENCE;
    let mut pause = LOOK;
    loop {
        // Anew each time: an operator may forget a gateway that is waited for.
        let forgotten: Vec<String> =
            ledger.shared.roll.lock().forgotten().map(|(gateway, _)| gateway).collect();
        let members = ledger.shared.members();
        let changed = sale.changed.notified();
        let resume =
            async || ledger.ops.resume(&sale.keys, &recovery, true, seen, &members, &forgotten).await;
        match step(ledger, resume).await? {
            Resumed::Resumed { generation } => {
                info!(sale = %sale.keys.sale, generation, "the ledger is whole again");
                return Ok(());
            }
            Resumed::Over => return Err(Again::Changed),
            Resumed::NoSale => {
                error!(sale = %sale.keys.sale, "no gateway's log holds this sale's own record; create it again");
                return Err(Again::Failed("the sale's own record is missing".to_owned()));
            }
            Resumed::Waiting(missing) => {
                if Instant::now() >= warn_at {
                    warn_at = Instant::now() + WARN;
                    warn!(
                        sale = %sale.keys.sale, missing = missing.join(", "),
                        "the sale stays paused until these gateways have brought in their logs; if one cannot come \
                         back: tidegate sale resume SALE --without-gateway ID, or for all sales: tidegate gateway forget ID"
                    );
                }
            }
        }
        if ledger.app.stopping.is_set() || ledger.shared.is_replaced() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = changed => {}
            () = ledger.app.stopping.wait() => return Ok(()),
        }
        pause = (pause * 2).min(LOOK_LAST * (1 + ledger.shared.sales().len() as u32 / LOOKING));
    }
}

/// Brings in every record of the sale that this gateway's log holds.
async fn bring_in(
    ledger: &Rc<CoreLedger>,
    sale: &Arc<SaleShared>,
    recovery: &RecoveryId,
) -> Result<(), Again> {
    // Of a sale at rest the log need not hold its own record any more.
    if let Some(in_log) = sale.in_log().filter(|in_log| in_log.recorded.over_ms > 0) {
        let SaleInLog { recorded, spec, switch } = &*in_log;
        let mut records = Reapply::default();
        records.sale(&SaleRecord { sale: &sale.keys.sale, spec, switch: *switch, at_ms: 0 }, *recorded);
        if !step(ledger, async || ledger.ops.reapply(&sale.keys, recovery, &records).await).await? {
            return Err(Again::Changed);
        }
    }
    let mut pieces = Passes::records_of(&ledger.shared, &ledger.app.queue, &sale.keys.sale);
    let mut brought = 0_usize;
    loop {
        match pieces.recv().await {
            Some(Piece::Records(records)) => {
                let reapply = async || ledger.ops.reapply(&sale.keys, recovery, &records).await;
                if !step(ledger, reapply).await? {
                    return Err(Again::Changed);
                }
                brought += records.len();
            }
            Some(Piece::End) => break,
            Some(Piece::Failed(why)) => return Err(Again::Failed(why)),
            None => return Err(Again::Failed("the log was not read to its end".to_owned())),
        }
    }
    info!(sale = %sale.keys.sale, records = brought, "this gateway's log is brought in");
    Ok(())
}
