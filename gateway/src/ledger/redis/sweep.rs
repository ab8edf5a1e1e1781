//! What nobody else did: notes that were not cleared, tickets that are overdue, tickets of gateways that are gone.

use super::core::CoreLedger;
use super::shared::SaleShared;
use crate::state::Core;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tidegate_queue::AppendError;
use tidegate_stock::redis::OpError;
use tidegate_stock::redis::ops::Claimed;
use tidegate_stock::{Lsn, Proposal, Transition};
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
/// Passes over a sale's live tickets, for one gateway that is gone, in one sweep; the rest waits for the next.
const PASSES_MAX: usize = 3;
/// A log that has not made durable what it took so long ago is stalled.
const STALLED: Duration = Duration::from_secs(1);

/// Sweeps until the gateway stops.
pub async fn run_sweep(core: Rc<Core>) {
    let Some(ledger) = core.redis.clone() else { return };
    let mut adopted: HashMap<String, Instant> = HashMap::new();
    let mut watch = LogWatch::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            () = core.app.stopping.wait() => return,
        }
        if ledger.shared.is_replaced() {
            return core.app.stopping.wait().await;
        }
        let stalled = watch.is_stalled(
            ledger.shared.last_appended(),
            |lsn| ledger.durable.is_reached(lsn),
            Instant::now(),
        );
        let takes = Takes::of(stalled, ledger.app.queue.takes_new());
        for sale in ledger.shared.sales() {
            if let Err(error) = sweep(&ledger, &sale, &takes).await {
                ledger.refusal(&sale, &error);
            }
        }
        if takes.claims > 0 {
            adopt_the_dead(&ledger, &mut adopted).await;
        }
    }
}

/// Whether the log keeps up with what it has taken.
struct LogWatch {
    mark: Lsn,
    since: Instant,
}

impl LogWatch {
    fn new() -> Self {
        Self { mark: Lsn(0), since: Instant::now() }
    }

    /// `newest` was taken by `now`.
    fn is_stalled(&mut self, newest: Lsn, is_durable: impl Fn(Lsn) -> bool, now: Instant) -> bool {
        if is_durable(self.mark) {
            (self.mark, self.since) = (newest, now);
        }
        !is_durable(self.mark) && now.duration_since(self.since) >= STALLED
    }
}

/// What a sweep may take up, most of each in one call. A note whose record this gateway cannot write down would only go
/// from hand to hand: another gateway has a log that can, or none has, and it stands.
#[derive(Debug, PartialEq, Eq)]
struct Takes {
    claims: usize,
    due: usize,
}

impl Takes {
    fn of(stalled: bool, log: Result<(), AppendError>) -> Self {
        let (claims, due) = match (stalled, log) {
            (false, Ok(())) => (BATCH, BATCH),
            // What live tickets are still owed has its space on a full disk too.
            (false, Err(AppendError::NoSpace)) => (0, BATCH),
            _ => (0, 0),
        };
        Self { claims, due }
    }
}

async fn sweep(ledger: &Rc<CoreLedger>, sale: &Arc<SaleShared>, takes: &Takes) -> Result<(), OpError> {
    for _ in 0..CALLS_MAX {
        let Some((flight, standing)) = sale.enter() else { return Ok(()) };
        let due_before_ms = ledger.app.clock.now_ms().saturating_sub(GRACE_MS);
        let (claims, due) = (takes.claims, takes.due);
        let swept = ledger.ops.sweep(&sale.keys, &standing.fence, due_before_ms, claims, due).await?;
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
                Ok(Adoption { tickets, complete: all }) => {
                    complete &= all;
                    if tickets > 0 {
                        info!(sale = %sale.keys.sale, gateway = seen.gateway, tickets, "tickets of a gateway that is gone are adopted");
                    }
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

/// What became of an adoption.
struct Adoption {
    tickets: usize,
    /// A whole pass found none: what its calls under way have brought since is met later.
    complete: bool,
}

async fn adopt(ledger: &Rc<CoreLedger>, sale: &Arc<SaleShared>, gone: &str) -> Result<Adoption, OpError> {
    let mut tickets = 0;
    for _ in 0..PASSES_MAX {
        let adopted = adopt_once(ledger, sale, gone).await?;
        tickets += adopted;
        if adopted == 0 {
            return Ok(Adoption { tickets, complete: true });
        }
    }
    Ok(Adoption { tickets, complete: false })
}

/// One pass over the live tickets.
async fn adopt_once(ledger: &Rc<CoreLedger>, sale: &Arc<SaleShared>, gone: &str) -> Result<usize, OpError> {
    let (mut cursor, mut tickets) = (0, 0);
    loop {
        let Some((_flight, standing)) = sale.enter() else { return Err(OpError::Paused) };
        let page = ledger.ops.adopt(&sale.keys, &standing.fence, gone, cursor, BATCH).await?;
        tickets += page.claimed.len();
        write_down(ledger, sale, &page.claimed);
        match page.next {
            Some(next) => cursor = next,
            None => return Ok(tickets),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_stalled_while_what_it_took_a_second_ago_is_not_durable() {
        let mut watch = LogWatch::new();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let durable = |upto: u64| move |lsn: Lsn| lsn.0 <= upto;
        assert!(!watch.is_stalled(Lsn(0), durable(0), at(0)), "nothing was taken");
        assert!(!watch.is_stalled(Lsn(10), durable(0), at(500)));
        assert!(!watch.is_stalled(Lsn(20), durable(0), at(1_000)), "half a second is no stall");
        assert!(watch.is_stalled(Lsn(20), durable(9), at(1_500)));
        assert!(watch.is_stalled(Lsn(30), durable(9), at(60_000)));
        assert!(!watch.is_stalled(Lsn(30), durable(10), at(60_500)), "it goes on");
        assert!(!watch.is_stalled(Lsn(30), durable(30), at(90_000)), "long quiet is no stall");
    }

    #[test]
    fn nothing_is_claimed_that_could_not_be_written_down() {
        let all = Takes { claims: BATCH, due: BATCH };
        let none = Takes { claims: 0, due: 0 };
        assert_eq!(Takes::of(false, Ok(())), all);
        assert_eq!(Takes::of(false, Err(AppendError::NoSpace)), Takes { claims: 0, due: BATCH });
        assert_eq!(Takes::of(false, Err(AppendError::Busy)), none);
        assert_eq!(Takes::of(false, Err(AppendError::Poisoned)), none);
        assert_eq!(Takes::of(true, Ok(())), none);
    }
}
