//! Several gateways, one ledger: they agree, and one of them at a time delivers an order.

use super::dossier::Dossier;
use super::{Findings, Invariant};
use crate::evidence::{Delivery, FaultKind, FaultSeen, LastLook, TicketId};

/// The invariants of a shared ledger; none for a gateway of its own.
pub(super) fn invariants(dossier: &Dossier<'_>) -> Vec<Invariant> {
    if !dossier.evidence.shared {
        return Vec::new();
    }
    vec![gateways_agree(dossier), one_owner_delivers(dossier)]
}

/// At the end all gateways tell the same of every ticket, and their audits are the same.
fn gateways_agree(dossier: &Dossier<'_>) -> Invariant {
    let mut findings = Findings::default();
    let evidence = dossier.evidence;
    for apart in &evidence.looks_apart {
        let ticket = apart.ticket;
        let first = evidence.last_look.get(&ticket).or_else(|| evidence.not_yet_known.get(&ticket));
        findings.add(|| {
            format!("ticket {ticket}: gateway {} says {:?}, another {first:?}", apart.gateway, apart.said)
        });
    }
    let Ok(first) = &evidence.audit else {
        findings.add(|| "the first gateway has no audit".to_owned());
        return findings.judge("gateways_agree", String::new());
    };
    for (gateway, audit) in &evidence.other_audits {
        match audit {
            Err(error) => findings.add(|| format!("no audit of gateway {gateway}: {error}")),
            Ok(audit) => findings.require(audit == first, || {
                let counts = |a: &tidegate_client::wire::Audit| (a.available, a.held, a.sold, a.returned);
                format!(
                    "audit of gateway {gateway} differs (available, held, sold, returned): {:?}, another {:?}",
                    counts(audit),
                    counts(first)
                )
            }),
        }
    }
    let gateways = 1 + evidence.other_audits.len();
    findings.judge(
        "gateways_agree",
        format!(
            "{gateways} gateways tell the same of {} tickets and in their audits",
            evidence.last_look.len()
        ),
    )
}

/// An order moves on from one gateway to the next when the first is given up, and never back: a gateway that was
/// stopped or killed delivers nothing that another delivers. Back is allowed only when something befell the other, or
/// Redis, in between.
fn one_owner_delivers(dossier: &Dossier<'_>) -> Invariant {
    let mut findings = Findings::default();
    let (mut moved, mut orders) = (0u64, 0u64);
    for (ticket, file) in &dossier.files {
        let mut deliveries = file.deliveries.clone();
        deliveries.sort_by_key(|delivery| delivery.received_us);
        orders += u64::from(!deliveries.is_empty());
        moved += u64::from(deliveries.iter().any(|delivery| delivery.gateway != deliveries[0].gateway));
        let told = dossier.evidence.buyers.tickets.get(ticket);
        let seller = told.filter(|told| told.at_once).map(|told| told.gateway);
        if let Some((other, back)) = went_back(dossier, seller, &deliveries) {
            findings.add(|| describe(*ticket, other, back));
        } else if let Some((late, other)) = kept_after_return(dossier, *ticket, &deliveries) {
            findings.add(|| {
                format!(
                    "ticket {ticket} was delivered by gateway {late} after its return, and by gateway {other} too"
                )
            });
        }
    }
    findings.judge(
        "one_owner_delivers",
        format!(
            "{orders} orders delivered; {moved} by one gateway and then by another, none by the first after that"
        ),
    )
}

/// The first delivery by a gateway that had been given up, with the one before it by another.
fn went_back<'a>(
    dossier: &Dossier<'_>,
    seller: Option<u32>,
    deliveries: &[&'a Delivery],
) -> Option<(&'a Delivery, &'a Delivery)> {
    deliveries.iter().enumerate().find_map(|(index, back)| {
        let before = &deliveries[..index];
        // Asked for after another gateway's was here: not merely two answers on their way at once.
        let other = before
            .iter()
            .rev()
            .find(|other| other.gateway != back.gateway && back.asked_us > other.received_us)?;
        let was_first = seller == Some(back.gateway)
            || before
                .iter()
                .any(|first| first.gateway == back.gateway && first.received_us <= other.received_us);
        let faults = &dossier.evidence.faults;
        let excused =
            faults.iter().any(|fault| befell(fault, other.gateway, other.received_us, back.asked_us));
        (was_first && !excused).then_some((*other, *back))
    })
}

/// A gateway that came back delivered a ticket of the time before, and another gateway did so too, whichever was first:
/// both took it for theirs.
fn kept_after_return(
    dossier: &Dossier<'_>,
    ticket: TicketId,
    deliveries: &[&Delivery],
) -> Option<(u32, u32)> {
    let Some(LastLook::Ticket { won_at_ms, .. }) = dossier.evidence.last_look.get(&ticket) else {
        return None;
    };
    let faults = &dossier.evidence.faults;
    if faults.iter().any(|fault| fault.kind.is_of_redis()) {
        return None;
    }
    faults.iter().find_map(|fault| {
        let (gateway, back_us) = (fault.gateway?, fault.back_us?);
        let after = |delivery: &&&Delivery| delivery.gateway == gateway && delivery.asked_us > back_us;
        let elsewhere =
            |delivery: &&&Delivery| delivery.gateway != gateway && delivery.asked_us > fault.at_us;
        let late = deliveries.iter().find(after).filter(|_| *won_at_ms <= dossier.wall_ms(back_us))?;
        let other = deliveries.iter().find(elsewhere)?;
        let excused = faults.iter().any(|fault| befell(fault, other.gateway, other.asked_us, late.asked_us));
        (!excused).then_some((late.gateway, other.gateway))
    })
}

fn befell(fault: &FaultSeen, gateway: u32, from_us: u64, until_us: u64) -> bool {
    let concerns =
        fault.kind.is_of_redis() || (fault.kind != FaultKind::KillWorker && fault.gateway == Some(gateway));
    // Until the takeover, which comes some time after.
    concerns && fault.at_us <= until_us && fault.back_us.is_none_or(|back_us| back_us >= from_us)
}

fn describe(ticket: TicketId, other: &Delivery, back: &Delivery) -> String {
    format!(
        "ticket {ticket}, first held by gateway {}, was delivered by gateway {}, and {} ms later by {} after all",
        back.gateway,
        other.gateway,
        (back.received_us - other.received_us) / 1_000,
        back.gateway
    )
}
