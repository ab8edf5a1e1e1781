//! Winners: each one's ticket comes to exactly one end, and no order exists that nobody won.

use super::dossier::Dossier;
use super::{Findings, Invariant};
use crate::evidence::{LastLook, TicketId, Told};
use tidegate_client::wire::TicketStatus;

/// Each ticket that a buyer was told of exists, reached exactly one terminal state by every account, and went to
/// a worker or was dropped. A win is one message of topic `orders`: with fewer of them than tickets, somebody's
/// order was never queued, and would have been lost with the process.
pub(super) fn no_lost_winner(dossier: &Dossier<'_>) -> Invariant {
    let mut findings = Findings::default();
    let told = &dossier.evidence.buyers.tickets;
    for (ticket, told) in told {
        if let Some(fault) = fate(dossier, ticket, told) {
            findings.add(|| format!("ticket {ticket} of buyer {}: {fault}", told.buyer));
        }
    }
    if let Some(messages) = dossier.order_messages() {
        let tickets = dossier.files.len() as u64;
        findings.require(messages >= tickets, || {
            format!("{tickets} tickets, but only {messages} messages in topic `orders`: orders never reached the queue")
        });
    }
    findings.judge("no_lost_winner", format!("{} tickets told, each with one end", told.len()))
}

/// What is wrong with the end of a ticket, if anything.
fn fate(dossier: &Dossier<'_>, ticket: &TicketId, told: &Told) -> Option<String> {
    let (status, version) = match dossier.evidence.last_look.get(ticket) {
        Some(LastLook::Ticket { status, version, .. }) => (*status, *version),
        Some(LastLook::NotFound) => return Some("told to the buyer, unknown at the end".to_owned()),
        Some(LastLook::NoAnswer) | None => return Some("its state could not be asked at the end".to_owned()),
    };
    if !status.is_terminal() {
        return Some(format!("still {status} at the end"));
    }
    if let Some(seen) = told.seen.iter().find(|seen| seen.version > version) {
        return Some(format!("version went back from {} to {version}", seen.version));
    }
    if let Some(seen) = told.seen.iter().find(|seen| seen.status.is_terminal() && seen.status != status) {
        return Some(format!("told {} first, {status} at the end", seen.status));
    }
    let file = dossier.files.get(ticket)?;
    let ends: Vec<TicketStatus> =
        file.transitions.iter().map(|event| event.to).filter(|to| to.is_terminal()).collect();
    let may_miss = dossier.events_may_be_lost(ticket);
    if (ends != [status] && !(may_miss && ends.is_empty())) || file.contradiction {
        return Some(format!("{status} at the end, events tell {ends:?}"));
    }
    // The reservation is version 1; every transition adds one.
    let versions: Vec<u32> = file.transitions.iter().map(|event| event.version).collect();
    let complete = versions.iter().copied().eq(2..=version);
    let known = may_miss && versions.iter().all(|seen| (2..=version).contains(seen));
    if !complete && !known {
        return Some(format!("version {version} at the end, events with versions {versions:?}"));
    }
    if file.deliveries.is_empty() && status != TicketStatus::Dropped {
        return Some(format!("{status}, but no worker received it"));
    }
    None
}

/// Every order row belongs to a ticket that the gateway knows, that a worker received and a buyer asked for, and
/// rows of released tickets are closed.
pub(super) fn no_phantom(dossier: &Dossier<'_>) -> Invariant {
    let mut findings = Findings::default();
    let evidence = dossier.evidence;
    let (mut orders, mut untold) = (0u64, 0u64);
    for row in evidence.rows.iter().filter(|row| row.state.is_order()) {
        orders += 1;
        let ticket = row.ticket;
        let asked = row.buyer.is_some_and(|buyer| buyer < evidence.buyers_count);
        findings.require(asked, || format!("order of ticket {ticket}: none of our buyers asked for it"));
        let deliveries = dossier.files.get(&ticket).map_or(&[][..], |file| &file.deliveries);
        findings
            .require(!deliveries.is_empty(), || format!("order of ticket {ticket}: no worker received it"));
        findings.require(deliveries.iter().all(|delivery| delivery.quantity == row.quantity), || {
            format!("order of ticket {ticket}: {} units in the database, delivered with others", row.quantity)
        });
        match dossier.final_status(&ticket) {
            None => {
                findings.add(|| format!("order of ticket {ticket}: the gateway does not know the ticket"));
            }
            Some(_) if dossier.release_untold(&ticket) => untold += 1,
            Some(status) if status.is_released() => {
                findings.add(|| format!("order of ticket {ticket} stands, but the ticket is {status}"));
            }
            Some(_) => {}
        }
        if let Some(told) = evidence.buyers.tickets.get(&ticket) {
            findings.require(Some(told.buyer) == row.buyer, || {
                format!(
                    "ticket {ticket} was told to buyer {}, the order is of buyer {:?}",
                    told.buyer, row.buyer
                )
            });
        }
    }
    for problem in &evidence.workers.unreadable {
        findings.add(|| format!("a worker could not read a message: {problem}"));
    }
    let mut compared = format!("{orders} orders, each of a ticket that a buyer asked for");
    if untold > 0 {
        compared = format!("{compared}; {untold} of them are released, which only the deleted log told");
    }
    findings.judge("no_phantom", compared)
}
