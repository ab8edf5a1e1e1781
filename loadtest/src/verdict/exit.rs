//! How the gateway ended, when this program started it.

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
