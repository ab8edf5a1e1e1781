//! What nobody else did: notes that were not cleared, tickets that are overdue, tickets of gateways that are gone.

use super::core::CoreLedger;
use super::shared::SaleShared;
use crate::state::Core;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tidegate_stock::redis::OpError;
use tidegate_stock::redis::ops::Claimed;
use tidegate_stock::{Proposal, Transition};
use tokio::time::Instant;
use tracing::{info, warn};

/// Between two sweeps.
const SWEEP: Duration = Duration::from_millis(500);
/// Notes, overdue tickets and live tickets looked at in one call.
const BATCH: usize = 256;
/// Calls of one sweep of a sale; the rest waits for the next.
const CALLS_MAX: usize = 64;
/// How far behind its time a ticket must be before the sweep takes it up.
const GRACE_MS: u64 = 2_000;
/// A gateway that stays away is looked at again so often: it may have come, sold and gone in between.
const ADOPT_AGAIN: Duration = Duration::from_mins(1);

/// Sweeps until the gateway stops.
pub async fn run_sweep(core: Rc<Core>) {
    let Some(ledger) = core.redis.clone() else { return };
    let mut adopted: HashMap<String, Instant> = HashMap::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            () = core.app.stopping.wait() => return,
        }
        for sale in ledger.shared.sales() {
            if let Err(error) = sweep(&ledger, &sale).await {
                ledger.refusal(&sale, &error);
            }
        }
        adopt_the_dead(&ledger, &mut adopted).await;
    }
}

async fn sweep(ledger: &Rc<CoreLedger>, sale: &Arc<SaleShared>) -> Result<(), OpError> {
    for _ in 0..CALLS_MAX {
        let Some((flight, standing)) = sale.enter() else { return Ok(()) };
        let due_before_ms = ledger.app.clock.now_ms().saturating_sub(GRACE_MS);
        let swept = ledger.ops.sweep(&sale.keys, &standing.fence, due_before_ms, BATCH).await?;
        if !swept.claimed.is_empty() {
            info!(sale = %sale.keys.sale, notes = swept.claimed.len(), "records that nobody wrote down are claimed");
        }
        write_down(ledger, sale, &swept.claimed);
        drop(flight);
        let full = swept.claimed.len() == BATCH || swept.due.len() == BATCH;
        let proposals = swept.due.into_iter().map(|(ticket, proposal)| {
            ledger.shared.place(ticket, sale);
            match proposal {
                Proposal::Drop => (ticket, Transition::Drop),
                Proposal::Expire => (ticket, Transition::Expire),
            }
        });
        ledger.transitions(proposals.collect()).await;
        if !full {
            break;
        }
    }
    Ok(())
}

fn write_down(ledger: &Rc<CoreLedger>, sale: &Arc<SaleShared>, claimed: &[Claimed]) {
    let batcher = ledger.batcher(sale);
    for claim in claimed {
        // Cleared when it is durable; whoever waits for the ticket hears of it then.
        batcher.record(ledger, &claim.note, claim.ticket.as_deref());
    }
}

/// Tickets of gateways without a heartbeat are this one's, or another's that is quicker.
async fn adopt_the_dead(ledger: &Rc<CoreLedger>, adopted: &mut HashMap<String, Instant>) {
    let Some(fleet) = ledger.shared.fleet() else { return };
    let dead_after = ledger.shared.options.dead_after;
    adopted.retain(|gateway, _| {
        fleet.seen.iter().any(|seen| seen.gateway == *gateway && seen.age >= dead_after)
    });
    for seen in
        fleet.seen.iter().filter(|seen| seen.age >= dead_after && *seen.gateway != *ledger.shared.gateway)
    {
        if adopted.get(&seen.gateway).is_some_and(|at| at.elapsed() < ADOPT_AGAIN) {
            continue;
        }
        let mut complete = true;
        for sale in ledger.shared.sales() {
            match adopt(ledger, &sale, &seen.gateway).await {
                Ok(0) => {}
                Ok(tickets) => {
                    info!(sale = %sale.keys.sale, gateway = seen.gateway, tickets, "tickets of a gateway that is gone are adopted");
                }
                Err(error) => {
                    complete = false;
                    warn!(sale = %sale.keys.sale, gateway = seen.gateway, %error, "tickets of a gateway that is gone are not adopted yet");
                    ledger.refusal(&sale, &error);
                }
            }
        }
        if complete {
            adopted.insert(seen.gateway.clone(), Instant::now());
        }
    }
}

async fn adopt(ledger: &Rc<CoreLedger>, sale: &Arc<SaleShared>, gone: &str) -> Result<usize, OpError> {
    let (mut first, mut tickets) = (0, 0);
    loop {
        let Some((_flight, standing)) = sale.enter() else { return Err(OpError::Paused) };
        let page = ledger.ops.adopt(&sale.keys, &standing.fence, gone, first, BATCH).await?;
        tickets += page.claimed.len();
        write_down(ledger, sale, &page.claimed);
        match page.next {
            Some(next) => first = next,
            None => return Ok(tickets),
        }
    }
}
