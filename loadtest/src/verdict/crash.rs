//! A kill proves something only if it comes at a bad moment; this says how bad each one was.

use super::dossier::Dossier;
use super::{Findings, Invariant};
use crate::evidence::{Evidence, KillSeen, LastLook};
use serde::Serialize;

/// The situation at one kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_field_names, reason = "names of the report")]
pub(crate) struct AtKill {
    /// Tickets that a buyer was told of and no worker had created.
    pub(crate) orders_in_flight_at_kill: u64,
    /// Units that nobody held.
    pub(crate) units_left_at_kill: u64,
    /// From the kill until the gateway was ready again.
    pub(crate) down_ms: u64,
}

/// The situation at each kill, from what was known before it and after.
pub(crate) fn at_kills(evidence: &Evidence) -> Vec<AtKill> {
    let dossier = Dossier::new(evidence);
    evidence.kills.iter().map(|kill| at_kill(&dossier, kill)).collect()
}

fn at_kill(dossier: &Dossier<'_>, kill: &KillSeen) -> AtKill {
    let kill_ms = dossier.wall_ms(kill.at_us);
    let in_flight = dossier.evidence.buyers.tickets.iter().filter(|(ticket, told)| {
        let file = dossier.files.get(*ticket);
        let created = file.and_then(|file| file.created_us).is_some_and(|at_us| at_us <= kill.at_us);
        let released = file.and_then(|file| file.release()).is_some_and(|event| event.at_ms <= kill_ms);
        told.told_us <= kill.at_us && !created && !released
    });
    let (mut won, mut released) = (0u64, 0u64);
    for (ticket, look) in &dossier.evidence.last_look {
        let LastLook::Ticket { won_at_ms, quantity, .. } = look else { continue };
        if *won_at_ms <= kill_ms {
            won += u64::from(*quantity);
            let release = dossier.files.get(ticket).and_then(|file| file.release());
            released += release.filter(|event| event.at_ms < kill_ms).map_or(0, |_| u64::from(*quantity));
        }
    }
    AtKill {
        orders_in_flight_at_kill: in_flight.count() as u64,
        units_left_at_kill: (dossier.stock() + released).saturating_sub(won),
        down_ms: (kill.ready_us - kill.at_us) / 1_000,
    }
}

/// The kill came while enough orders were in flight and units were left. Says nothing of the gateway: when this
/// one does not hold, run again.
pub(super) fn crash_conclusive(dossier: &Dossier<'_>) -> Option<Invariant> {
    let in_flight_min = dossier.evidence.kill_wanted?;
    let mut findings = Findings::default();
    let kills: Vec<AtKill> = dossier.evidence.kills.iter().map(|kill| at_kill(dossier, kill)).collect();
    findings.require(!kills.is_empty(), || "not conclusive: no good instant for the kill came".to_owned());
    for kill in &kills {
        findings.require(
            kill.orders_in_flight_at_kill >= in_flight_min && kill.units_left_at_kill > 0,
            || {
                format!(
                    "not conclusive: {} orders in flight, {} units left",
                    kill.orders_in_flight_at_kill, kill.units_left_at_kill
                )
            },
        );
    }
    let texts: Vec<String> = kills
        .iter()
        .map(|kill| {
            format!(
                "{} orders in flight at the kill, {} units left at the kill, ready again after {} ms",
                kill.orders_in_flight_at_kill, kill.units_left_at_kill, kill.down_ms
            )
        })
        .collect();
    Some(findings.judge("crash_conclusive", texts.join("; ")))
}
