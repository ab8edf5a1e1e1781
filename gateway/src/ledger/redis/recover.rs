//! A sale whose Redis is another one, or has lost it: paused for all, then every member brings its log in, then it goes
//! on in a new generation.
//!
//! The log is read only once nothing of the sale is under way here: a win that Redis granted before the change is in the
//! log by then, and brought in with the rest; one that was not answered was never told to anybody.

use super::core::CoreLedger;
use super::shared::SaleShared;
use crate::pipeline::{SharedRecord, claim_of, decode, decode_shared, topics};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidegate_queue::Message;
use tidegate_stock::Record;
use tidegate_stock::redis::Lineage;
use tidegate_stock::redis::ops::{Reapply, Resumed};
use tracing::{error, info, warn};

/// Records brought in by one call.
const BATCH: usize = 200;
/// Between two looks at who has still to come.
const LOOK: Duration = Duration::from_millis(100);
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
        info!(sale = %sale.keys.sale, "the sale is paused: Redis has changed, or has lost it");
        while !ledger.app.stopping.is_set() {
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

async fn recover(ledger: &Rc<CoreLedger>, sale: &Arc<SaleShared>) -> Result<(), Again> {
    let lineage = ledger.ops.lineage(&sale.keys).await?;
    ledger.ops.name_sale(&sale.keys).await?;
    if !ledger.ops.pause(&sale.keys, &lineage).await? {
        return Ok(());
    }
    while !sale.is_quiet() {
        tokio::time::sleep(LOOK).await;
    }
    // What was granted is in the log by now; it is brought in once it is durable.
    ledger.durable.wait(ledger.shared.last_appended()).await?;
    let members = bring_in(ledger, sale, &lineage).await?;
    let seen = sale.standing().map_or(0, |standing| standing.fence.generation);
    let mut warned = None;
    loop {
        match ledger.ops.resume(&sale.keys, &lineage, true, seen, &members).await? {
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
                if warned.is_none_or(|at: tokio::time::Instant| at.elapsed() >= WARN) {
                    warned = Some(tokio::time::Instant::now());
                    warn!(
                        sale = %sale.keys.sale, missing = missing.join(", "),
                        "the sale stays paused until these gateways have brought in their logs; if one cannot come \
                         back: tidegate sale resume SALE --without-gateway ID"
                    );
                }
            }
        }
        if ledger.app.stopping.is_set() {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Brings in every record of the sale that this gateway's log holds; answers the members that are known here.
async fn bring_in(
    ledger: &Rc<CoreLedger>,
    sale: &Arc<SaleShared>,
    lineage: &Lineage,
) -> Result<Vec<String>, Again> {
    let mut members: BTreeSet<String> = ledger.shared.recorded_members.lock().clone();
    if let Some(fleet) = ledger.shared.fleet() {
        members.extend(fleet.members.iter().cloned());
    }
    let mut records = Reapply::default();
    let queue = &ledger.app.queue;
    let mut brought = 0_usize;
    for message in queue.scan(queue.start()) {
        let message = message?;
        add(&mut records, &message, &sale.keys.sale, &ledger.shared.gateway)?;
        if records.len() >= BATCH {
            brought += records.len();
            send(ledger, sale, lineage, &mut records).await?;
        }
    }
    brought += records.len();
    send(ledger, sale, lineage, &mut records).await?;
    info!(sale = %sale.keys.sale, records = brought, "this gateway's log is brought in");
    Ok(members.into_iter().collect())
}

fn add(records: &mut Reapply, message: &Message, sale: &str, gateway: &str) -> Result<(), Again> {
    let claim = claim_of(message);
    decode(message, |record| match record {
        Record::Order(order) if order.sale == sale => records.order(order, gateway, claim),
        Record::Transition(transition) if transition.sale == sale => records.transition(transition, claim),
        Record::Restock(restock) if restock.sale == sale => records.restock(restock),
        Record::Sale(record) if record.sale == sale => {
            let version = match decode_shared(message) {
                Some(SharedRecord::SaleVersion(version)) => version.max(1),
                _ => 1,
            };
            records.sale(record, version);
        }
        _ => {}
    })?;
    debug_assert!(message.topic != topics::LEDGER || claim == 0);
    Ok(())
}

async fn send(
    ledger: &Rc<CoreLedger>,
    sale: &Arc<SaleShared>,
    lineage: &Lineage,
    records: &mut Reapply,
) -> Result<(), Again> {
    let batch = std::mem::take(records);
    if batch.is_empty() || ledger.ops.reapply(&sale.keys, lineage, &batch).await? {
        return Ok(());
    }
    Err(Again::Changed)
}
