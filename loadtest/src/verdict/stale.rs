//! Workers that stood still for longer than the order deadline.

use super::dossier::Dossier;
use super::{Findings, Invariant};
use crate::evidence::{LastLook, StopSeen, TicketId};
use tidegate_client::wire::TicketStatus;

/// An order whose deadline fell this close to the resumption may have gone either way.
const EDGE_MS: u64 = 250;

/// The invariants of a scenario that stops its workers; none for others.
pub(super) fn invariants(dossier: &Dossier<'_>) -> Vec<Invariant> {
    if !dossier.evidence.stop_wanted {
        return Vec::new();
    }
    let Some(stop) = dossier.evidence.stop else {
        let mut findings = Findings::default();
        findings.add(|| "not conclusive: the workers were never stopped".to_owned());
        return vec![findings.judge("stale_all_dropped", String::new())];
    };
    let stale = stale_tickets(dossier, stop);
    vec![all_dropped(dossier, &stale), units_resold(dossier), buyers_told(dossier)]
}

/// Tickets that no worker had received when the workers stopped, and whose deadline passed before they came back.
fn stale_tickets(dossier: &Dossier<'_>, stop: StopSeen) -> Vec<TicketId> {
    let stopped_ms = dossier.wall_ms(stop.stopped_us) + EDGE_MS;
    let resumed_ms = dossier.wall_ms(stop.resumed_us).saturating_sub(EDGE_MS);
    let deadline_ms = dossier.evidence.sale.order_deadline_ms;
    let looks = dossier.evidence.last_look.iter();
    looks
        .filter_map(|(ticket, look)| match look {
            LastLook::Ticket { won_at_ms, .. } => {
                let in_between = (stopped_ms..=resumed_ms).contains(&(won_at_ms + deadline_ms));
                let deliveries = dossier.files.get(ticket).map_or(&[][..], |file| &file.deliveries);
                let in_hand = deliveries.iter().any(|delivery| delivery.received_us <= stop.stopped_us);
                (in_between && !in_hand).then_some(*ticket)
            }
            LastLook::NotFound | LastLook::NoAnswer => None,
        })
        .collect()
}

/// Every order that waited past its deadline was dropped, and no worker ever got it.
fn all_dropped(dossier: &Dossier<'_>, stale: &[TicketId]) -> Invariant {
    let mut findings = Findings::default();
    findings.require(!stale.is_empty(), || "not conclusive: no order waited past its deadline".to_owned());
    for ticket in stale {
        let status = dossier.final_status(ticket);
        findings.require(status == Some(TicketStatus::Dropped), || {
            format!(
                "ticket {ticket} waited past its deadline and is {}",
                status.map_or("unknown", |s| s.as_str())
            )
        });
        let deliveries = dossier.files.get(ticket).map_or(0, |file| file.deliveries.len());
        findings.require(deliveries == 0, || {
            format!("ticket {ticket} waited past its deadline and was delivered")
        });
    }
    findings
        .judge("stale_all_dropped", format!("{} orders waited past their deadline, all dropped", stale.len()))
}

/// What was dropped was sold again, as far as buyers came.
fn units_resold(dossier: &Dossier<'_>) -> Invariant {
    let mut findings = Findings::default();
    let drops = dossier.files.iter().filter_map(|(ticket, file)| {
        let release = file.release().filter(|event| event.to == TicketStatus::Dropped)?;
        Some((release.at_ms, dossier.quantity(ticket)))
    });
    let (mut first_ms, mut dropped) = (u64::MAX, 0u64);
    for (at_ms, quantity) in drops {
        first_ms = first_ms.min(at_ms);
        dropped += quantity;
    }
    let wins_after = dossier.evidence.last_look.iter().filter_map(|(ticket, look)| match look {
        LastLook::Ticket { won_at_ms, .. } if *won_at_ms >= first_ms => Some(dossier.quantity(ticket)),
        _ => None,
    });
    let resold: u64 = wins_after.sum();
    let left = dossier.evidence.audit.as_ref().map_or(0, |audit| audit.available);
    findings.require(dropped > 0, || "not conclusive: nothing was dropped".to_owned());
    findings.require(resold > 0 && resold + left >= dropped, || {
        format!("{dropped} units dropped, {resold} won after the first drop, {left} left at the end")
    });
    findings
        .judge("stale_units_resold", format!("{dropped} units dropped, {resold} won after the first drop"))
}

/// Every buyer of a dropped order can see that it was dropped, and those who followed it saw it.
fn buyers_told(dossier: &Dossier<'_>) -> Invariant {
    let mut findings = Findings::default();
    let (mut told, mut followed) = (0u64, 0u64);
    for (ticket, buyer) in &dossier.evidence.buyers.tickets {
        let dropped = dossier.files.get(ticket).and_then(|file| file.release());
        if dropped.is_none_or(|event| event.to != TicketStatus::Dropped) {
            continue;
        }
        told += 1;
        followed += u64::from(buyer.seen.iter().any(|seen| seen.status == TicketStatus::Dropped));
        let status = dossier.final_status(ticket);
        findings.require(status == Some(TicketStatus::Dropped), || {
            format!(
                "ticket {ticket} was dropped, its buyer sees {}",
                status.map_or("nothing", |s| s.as_str())
            )
        });
    }
    findings.require(told > 0, || "not conclusive: no buyer of a dropped order".to_owned());
    findings
        .require(told == 0 || followed > 0, || "no buyer who followed a ticket saw it dropped".to_owned());
    findings.judge(
        "stale_buyers_told",
        format!("{told} buyers see `dropped`, {followed} by following their ticket"),
    )
}
