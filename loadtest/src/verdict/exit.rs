//! How the gateway started again and ended, when this program started it.

use super::dossier::Dossier;
use super::{Findings, Invariant};
use crate::evidence::ExitSeen;

/// A SIGTERM is answered with exit code 0, within its bound.
pub(super) fn gateway_stops_cleanly(dossier: &Dossier<'_>) -> Option<Invariant> {
    let mut findings = Findings::default();
    if let ExitSeen::Unclean(how) = dossier.evidence.exit.as_ref()? {
        findings.add(|| how.clone());
    }
    Some(findings.judge("gateway_stops_cleanly", "exit code 0 after SIGTERM".to_owned()))
}

/// A gateway that was killed comes up again on what it left behind.
pub(super) fn gateway_restarts(dossier: &Dossier<'_>) -> Option<Invariant> {
    dossier.evidence.kill_wanted?;
    let mut findings = Findings::default();
    if let Some(why) = &dossier.evidence.restart_failed {
        findings.add(|| why.clone());
    }
    let kills = dossier.evidence.kills.len();
    Some(findings.judge("gateway_restarts", format!("ready again after {kills} of {kills} kills")))
}
