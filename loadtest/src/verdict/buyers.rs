//! What each buyer may hold, and what each buyer must hear.

use super::dossier::{Dossier, File, peak};
use super::{Findings, Invariant};
use crate::evidence::{LastLook, TicketId};
use hashbrown::HashMap;
use tidegate_client::wire::ProblemType;

/// No buyer holds more units than the limit: in the database at the end, and in tickets at any instant.
pub(super) fn buyer_limit_kept(dossier: &Dossier<'_>) -> Invariant {
    let mut findings = Findings::default();
    let evidence = dossier.evidence;
    let limit = evidence.sale.per_buyer_limit;
    let mut ordered: HashMap<u32, u64> = HashMap::new();
    for row in evidence.rows.iter().filter(|row| row.state.is_order()) {
        if let Some(buyer) = row.buyer {
            *ordered.entry(buyer).or_default() += u64::from(row.quantity);
        }
    }
    for (buyer, units) in &ordered {
        findings
            .require(*units <= limit, || format!("buyer {buyer} has orders of {units} units, limit {limit}"));
    }
    // From the answer that told of the ticket until its release: inside the true interval.
    let mut held: HashMap<u32, Vec<(u64, Option<u64>, u64)>> = HashMap::new();
    for (ticket, told) in &evidence.buyers.tickets {
        let until = dossier.files.get(ticket).and_then(File::released_not_before_ms);
        let interval = (dossier.wall_ms(told.told_us), until, u64::from(told.quantity));
        held.entry(told.buyer).or_default().push(interval);
    }
    let winners = held.len();
    for (buyer, intervals) in held {
        let most = peak(intervals.into_iter());
        findings.require(most <= limit, || {
            format!("buyer {buyer} held tickets of {most} units at once, limit {limit}")
        });
    }
    findings.judge("buyer_limit_kept", format!("{winners} winners, none above {limit}"))
}

/// The same idempotency key always got the same ticket, and no ticket went to two.
pub(super) fn same_key_same_ticket(dossier: &Dossier<'_>) -> Invariant {
    let mut findings = Findings::default();
    let buyers = &dossier.evidence.buyers;
    for conflict in &buyers.key_conflicts {
        let (first, second) = (conflict.first, conflict.second);
        findings
            .add(|| format!("buyer {} key {}: first {first}, then {second}", conflict.buyer, conflict.key));
    }
    for (buyer, ticket) in &buyers.shared_tickets {
        findings.add(|| format!("ticket {ticket} was told under another key, or to buyer {buyer} too"));
    }
    let repeats = buyers.tickets.values().filter(|told| told.times > 1).count();
    findings.judge("same_key_same_ticket", format!("{repeats} tickets told more than once, always the same"))
}

/// "Not known yet" turns out one way or the other, never both: when the key got another ticket, or was refused, the
/// ticket that it might have got does not exist.
pub(super) fn not_yet_known_settled(dossier: &Dossier<'_>) -> Invariant {
    let mut findings = Findings::default();
    let evidence = dossier.evidence;
    let of_keys: HashMap<(u32, u8), TicketId> =
        evidence.buyers.tickets.iter().map(|(ticket, told)| ((told.buyer, told.key), *ticket)).collect();
    let (mut won, mut lost) = (0u64, 0u64);
    for not_yet in &evidence.buyers.not_yet_known {
        let (buyer, ticket) = (not_yet.buyer, not_yet.ticket);
        let exists = matches!(evidence.not_yet_known.get(&ticket), Some(LastLook::Ticket { .. }));
        *(if exists { &mut won } else { &mut lost }) += 1;
        match of_keys.get(&(buyer, not_yet.key)) {
            Some(got) => findings.require(*got == ticket || !exists, || {
                format!("buyer {buyer}: {ticket} was not known yet, then the key got {got}, and both exist")
            }),
            None => findings.require(!exists || not_yet.refused.is_none(), || {
                let refused = not_yet.refused.map_or("", ProblemType::slug);
                format!("buyer {buyer}: {ticket} was not known yet, then refused as {refused}, and it exists")
            }),
        }
    }
    findings.judge(
        "not_yet_known_settled",
        format!("{} tickets were not known yet: {won} won, {lost} not", won + lost),
    )
}

/// Every buyer heard a definite answer in the end, and every answer was a documented one.
pub(super) fn every_buyer_answered(dossier: &Dossier<'_>) -> Invariant {
    let mut findings = Findings::default();
    let buyers = &dossier.evidence.buyers;
    findings.require(buyers.unresolved == 0, || {
        format!("{} orders had no definite answer in spite of all retries", buyers.unresolved)
    });
    findings.require(buyers.undocumented_count == 0, || {
        let first = buyers.undocumented.first().map_or("", String::as_str);
        format!("{} answers are not as documented, the first: {first}", buyers.undocumented_count)
    });
    findings.judge("every_buyer_answered", "no request without a documented answer in the end".to_owned())
}
