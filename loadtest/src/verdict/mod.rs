//! The verdict: each invariant against evidence from sides that do not know of each other. Pure.
//!
//! ```text
//! abuse.rs       good_buyers_keep_their_share, nat_keeps_its_share
//! dossier.rs     evidence by ticket; instants compared with allowances
//! findings.rs    what breaks an invariant, counted, the first few kept
//! stock.rs       no_oversell, no_leak
//! winners.rs     no_lost_winner, no_phantom
//! buyers.rs      buyer_limit_kept, same_key_same_ticket, not_yet_known_settled, every_buyer_answered
//! delivery.rs    no_late_delivery, acked_not_redelivered, no_lost_message
//! payments.rs    paid_is_paid
//! tokens.rs      tokens_bounded
//! overload.rs    admitted_in_time, workers_busy, refused_quickly
//! proxied.rs     upstream_bounded, proxied_all_answered, proxy_conclusive
//! stale.rs       stale_all_dropped, stale_units_resold, stale_buyers_told
//! fleet.rs       gateways_agree, one_owner_delivers
//! faults.rs      crash_conclusive, fault_conclusive
//! exit.rs        gateway_restarts, gateway_stops_cleanly
//! ```

mod abuse;
mod buyers;
mod delivery;
mod dossier;
mod exit;
mod faults;
mod findings;
mod fleet;
mod overload;
mod payments;
mod proxied;
mod stale;
mod stock;
mod tokens;
mod winners;

#[cfg(test)]
mod tests;

pub(crate) use faults::{AtFault, AtKill, at_faults, at_kills};

use crate::evidence::Evidence;
use dossier::Dossier;
use findings::Findings;
use serde::Serialize;

/// One invariant, judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Invariant {
    pub(crate) name: &'static str,
    pub(crate) holds: bool,
    /// What was compared when it holds; what breaks it when not.
    pub(crate) detail: String,
}

/// Judges all invariants that apply to this run.
pub(crate) fn judge(evidence: &Evidence) -> Vec<Invariant> {
    let dossier = Dossier::new(evidence);
    let mut invariants = vec![
        stock::no_oversell(&dossier),
        winners::no_lost_winner(&dossier),
        stock::no_leak(&dossier),
        buyers::buyer_limit_kept(&dossier),
        buyers::same_key_same_ticket(&dossier),
        buyers::not_yet_known_settled(&dossier),
        winners::no_phantom(&dossier),
        delivery::no_late_delivery(&dossier),
        delivery::acked_not_redelivered(&dossier),
        delivery::no_lost_message(&dossier),
        payments::paid_is_paid(&dossier),
        buyers::every_buyer_answered(&dossier),
    ];
    invariants.extend(tokens::tokens_bounded(&dossier));
    invariants.extend(abuse::invariants(&dossier));
    invariants.extend(overload::invariants(&dossier));
    invariants.extend(proxied::invariants(&dossier));
    invariants.extend(stale::invariants(&dossier));
    invariants.extend(fleet::invariants(&dossier));
    invariants.extend(faults::conclusive(&dossier));
    invariants.extend(exit::gateway_restarts(&dossier));
    invariants.extend(exit::gateway_stops_cleanly(&dossier));
    invariants
}
