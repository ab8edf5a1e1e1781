//! How the gateway started again and ended, when this program started it.

use super::dossier::Dossier;
use super::{Findings, Invariant};
use crate::evidence::{ExitSeen, FaultKind};

/// A SIGTERM is answered with exit code 0, within its bound.
pub(super) fn gateway_stops_cleanly(dossier: &Dossier<'_>) -> Option<Invariant> {
    let mut findings = Findings::default();
    if let ExitSeen::Unclean(how) = dossier.evidence.exit.as_ref()? {
        findings.add(|| how.clone());
    }
    Some(findings.judge("gateway_stops_cleanly", "exit code 0 after SIGTERM".to_owned()))
}

/// What was killed, a gateway or Redis, comes up again on what it left behind.
pub(super) fn gateway_restarts(dossier: &Dossier<'_>) -> Option<Invariant> {
    let wanted = &dossier.evidence.faults_wanted;
    if wanted.iter().all(|fault| fault.kind == FaultKind::KillWorker) {
        return None;
    }
    let mut findings = Findings::default();
    if let Some(why) = &dossier.evidence.restart_failed {
        findings.add(|| why.clone());
    }
    let faults = dossier.evidence.faults.len();
    Some(findings.judge("gateway_restarts", format!("ready again after {faults} of {faults} faults")))
}
