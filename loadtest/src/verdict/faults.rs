//! A fault proves something only if it comes at a bad moment; this says how bad each one was.

use super::dossier::Dossier;
use super::{Findings, Invariant};
use crate::evidence::{Evidence, FaultKind, FaultSeen, LastLook};
use serde::Serialize;

/// The situation at one kill of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_field_names, reason = "names of the report")]
pub(crate) struct AtKill {
    /// Tickets that a buyer was told of and no worker had created.
    pub(crate) orders_in_flight_at_kill: u64,
    /// Units that nobody held.
    pub(crate) units_left_at_kill: u64,
    /// From the kill until the gateway was ready again; until the end of the run when it never was.
    pub(crate) down_ms: u64,
}

/// One fault of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AtFault {
    pub(crate) kind: FaultKind,
    /// Number of the gateway it was done to.
    pub(crate) gateway: Option<u32>,
    /// Since the start of the run.
    pub(crate) at_ms: u64,
    /// Over, since the start of the run; null when it never was.
    pub(crate) back_ms: Option<u64>,
    /// Tickets that a buyer was told of and no worker had created: of that gateway, if it was one; rows pending, for a
    /// worker.
    pub(crate) in_flight: u64,
    pub(crate) units_left: u64,
    /// Tickets told while Redis wrote what it then lost; null when it lost nothing.
    pub(crate) won_in_lost_writes: Option<u64>,
}

/// The situation at each fault, from what was known before it and after.
pub(crate) fn at_faults(evidence: &Evidence) -> Vec<AtFault> {
    let dossier = Dossier::new(evidence);
    evidence.faults.iter().map(|fault| at_fault(&dossier, fault)).collect()
}

/// The kills of gateways among them.
pub(crate) fn at_kills(evidence: &Evidence) -> Vec<AtKill> {
    let faults = at_faults(evidence).into_iter();
    faults
        .filter(|fault| matches!(fault.kind, FaultKind::Kill | FaultKind::DeleteGateway))
        .map(|fault| AtKill {
            orders_in_flight_at_kill: fault.in_flight,
            units_left_at_kill: fault.units_left,
            down_ms: fault.back_ms.map_or(0, |back_ms| back_ms - fault.at_ms),
        })
        .collect()
}

fn at_fault(dossier: &Dossier<'_>, fault: &FaultSeen) -> AtFault {
    let at_ms = dossier.wall_ms(fault.at_us);
    let told = &dossier.evidence.buyers.tickets;
    let in_flight = told.iter().filter(|(ticket, told)| {
        let file = dossier.files.get(*ticket);
        let created = file.and_then(|file| file.created_us).is_some_and(|us| us <= fault.at_us);
        let released = file.and_then(|file| file.release()).is_some_and(|event| event.at_ms <= at_ms);
        let concerned = fault.gateway.is_none_or(|gateway| gateway == told.gateway);
        told.told_us <= fault.at_us && concerned && !created && !released
    });
    let in_flight = match fault.kind {
        FaultKind::KillWorker => fault.orphans.len() as u64,
        _ => in_flight.count() as u64,
    };
    let (mut won, mut released) = (0u64, 0u64);
    for (ticket, look) in &dossier.evidence.last_look {
        let LastLook::Ticket { won_at_ms, quantity, .. } = look else { continue };
        if *won_at_ms <= at_ms {
            won += u64::from(*quantity);
            let release = dossier.files.get(ticket).and_then(|file| file.release());
            let back = release.is_some_and(|event| event.at_ms < at_ms) || dossier.release_untold(ticket);
            released += if back { u64::from(*quantity) } else { 0 };
        }
    }
    let in_lost =
        |from_us: u64| told.values().filter(|t| (from_us..=fault.at_us).contains(&t.told_us)).count();
    AtFault {
        kind: fault.kind,
        gateway: fault.gateway,
        at_ms: fault.at_us / 1_000,
        back_ms: fault.back_us.map(|back_us| back_us / 1_000),
        in_flight,
        units_left: (dossier.stock() + released).saturating_sub(won),
        won_in_lost_writes: fault.lost_from_us.map(|from_us| in_lost(from_us) as u64),
    }
}

/// Each fault came while enough orders were in flight and units were left. Says nothing of the gateway: when this one
/// does not hold, run again. The kill of a gateway that comes back has a name of its own.
pub(super) fn conclusive(dossier: &Dossier<'_>) -> Vec<Invariant> {
    let is_kill = |kind| kind == FaultKind::Kill;
    let of = |name, wanted: &dyn Fn(FaultKind) -> bool| {
        let mut findings = Findings::default();
        let mut texts = Vec::new();
        let asked = dossier.evidence.faults_wanted.iter().filter(|fault| wanted(fault.kind));
        for fault in asked {
            let came = dossier.evidence.faults.iter().find(|seen| seen.kind == fault.kind);
            let Some(came) = came.map(|came| at_fault(dossier, came)) else {
                findings.add(|| format!("not conclusive: no good instant for {} came", fault.kind.name()));
                continue;
            };
            let text = describe(&came);
            findings.require(came.in_flight >= fault.in_flight_min && came.units_left > 0, || {
                format!("not conclusive: {text}")
            });
            let in_lost = came.won_in_lost_writes;
            // A power loss may find everything synced; a replica that was cut off lacks something.
            findings.require(came.kind != FaultKind::Failover || in_lost.is_some_and(|won| won > 0), || {
                format!("not conclusive: the promoted replica lacked no win; {text}")
            });
            texts.push(text);
        }
        let any = dossier.evidence.faults_wanted.iter().any(|fault| wanted(fault.kind));
        any.then(|| findings.judge(name, texts.join("; ")))
    };
    let kills = of("crash_conclusive", &is_kill);
    let others = of("fault_conclusive", &|kind| !is_kill(kind));
    kills.into_iter().chain(others).collect()
}

fn describe(fault: &AtFault) -> String {
    let what = match fault.kind {
        FaultKind::Kill => "kill",
        kind => kind.name(),
    };
    let in_flight = match fault.kind {
        FaultKind::KillWorker => "rows left pending",
        _ => "orders in flight",
    };
    let back = match fault.back_ms {
        Some(back_ms) => format!("over after {} ms", back_ms - fault.at_ms),
        None => "for good".to_owned(),
    };
    let lost = match fault.won_in_lost_writes {
        Some(won) => format!(", {won} wins in the writes that Redis lost"),
        None => String::new(),
    };
    format!(
        "{} {in_flight} at the {what}, {} units left at the {what}{lost}, {back}",
        fault.in_flight, fault.units_left
    )
}
