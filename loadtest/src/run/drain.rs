//! After the last buyer: until every ticket is at its end, no unit is held and no payment is under way; then as
//! long again as a lease, so that a message which should not come again has had the time to.

use super::setup::Stand;
use super::{Plan, RunError};
use crate::buyers::look;
use crate::evidence::{BuyersSaw, LastLook, Table, TicketId};
use crate::gateway::Members;
use std::time::Duration;
use tidegate_client::wire::Sale;

const LOOK: Duration = Duration::from_millis(200);
/// A drain that makes progress may take so many times its bound.
const PROGRESS_FACTOR: u32 = 5;
/// On top of a lease.
const LEASE_MARGIN: Duration = Duration::from_millis(500);

pub(super) async fn until_settled(plan: &Plan, stand: &Stand, buyers: &BuyersSaw) -> Result<(), RunError> {
    let idle_bound = Duration::from_millis(plan.scenario.bounds.drain_ms);
    let settling = async {
        // With whether it ended, so that an event of it is awaited.
        let mut settled: Table<bool> = Table::default();
        let mut last = (0, 0);
        let mut progress_at = tokio::time::Instant::now();
        loop {
            let open: Vec<(TicketId, u32)> = known(stand, buyers)
                .into_iter()
                .filter(|(ticket, _)| !settled.contains_key(ticket))
                .collect();
            let mut still_open = 0u64;
            for (ticket, state) in look_at(stand.roster.members(), open).await? {
                match state {
                    LastLook::Ticket { status, .. } if !status.is_terminal() => still_open += 1,
                    // An unknown ticket stays unknown; the verdict says so.
                    LastLook::Ticket { .. } => drop(settled.insert(ticket, true)),
                    LastLook::NotFound => drop(settled.insert(ticket, false)),
                    LastLook::NoAnswer => still_open += 1,
                }
            }
            let held = stand.look_at_sale().await.map_or(u64::MAX, |sale| sale.held);
            if still_open == 0 && held == 0 && stand.crew.payments_done() && events_complete(stand, &settled)
            {
                return Ok::<(), RunError>(());
            }
            let now = (settled.len(), stand.floor.events.lock().len());
            if now != last {
                (last, progress_at) = (now, tokio::time::Instant::now());
            } else if progress_at.elapsed() > idle_bound {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    // Past a bound the verdict finds tickets that are not at their end, and says which.
    if let Ok(outcome) = tokio::time::timeout(idle_bound * PROGRESS_FACTOR, settling).await {
        outcome?;
    }
    tokio::time::sleep(Duration::from_millis(plan.scenario.workers.lease_ms) + LEASE_MARGIN).await;
    Ok(())
}

/// The last event of every settled ticket has been read.
fn events_complete(stand: &Stand, settled: &Table<bool>) -> bool {
    let events = stand.floor.events.lock();
    let ended: hashbrown::HashSet<TicketId> =
        events.iter().filter(|event| event.to.is_terminal()).map(|event| event.ticket).collect();
    settled.iter().all(|(ticket, has_ended)| !has_ended || ended.contains(ticket))
}

/// Every ticket that anyone heard of, with its buyer.
pub(super) fn known(stand: &Stand, buyers: &BuyersSaw) -> Table<u32> {
    let mut known: Table<u32> = buyers.tickets.iter().map(|(ticket, told)| (*ticket, told.buyer)).collect();
    let saw = stand.floor.saw.lock();
    let delivered = saw.deliveries.iter().map(|delivery| (delivery.ticket, delivery.buyer));
    let events = stand.floor.events.lock();
    let told_of = events.iter().map(|event| (event.ticket, event.buyer));
    for not_yet in &buyers.not_yet_known {
        known.entry(not_yet.ticket).or_insert(not_yet.buyer);
    }
    for (ticket, buyer) in delivered.chain(told_of) {
        if let Some(buyer) = buyer {
            known.entry(ticket).or_insert(buyer);
        }
    }
    known
}

impl Stand {
    /// The sale as the first gateway that answers sees it, each asked once.
    pub(super) async fn look_at_sale(&self) -> Option<Sale<'static>> {
        for member in self.roster.members().iter() {
            if let Ok(sale) = member.client.sale(&self.sale).await {
                return sale;
            }
        }
        None
    }
}

/// One look at each ticket, off this runtime's threads.
pub(super) async fn look_at(
    members: Members,
    tickets: Vec<(TicketId, u32)>,
) -> Result<Vec<(TicketId, LastLook)>, RunError> {
    let local = |source| RunError::Local { what: "looking at tickets", source };
    tokio::task::spawn_blocking(move || look(&members, tickets))
        .await
        .map_err(|error| local(std::io::Error::other(error)))?
        .map_err(local)
}
