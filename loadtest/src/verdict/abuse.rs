//! Abusers take nothing of what is meant for others.

use super::dossier::Dossier;
use super::{Findings, Invariant};

/// Of the requests while there is something to win, abusers send at least this share: else nothing was tried.
const REQUESTS_MIN: f64 = 0.9;
/// What the good buyers may lose of their share of the units.
const GOOD_LOSS_MAX: f64 = 0.05;
/// What those behind the NAT may lose of what they got without abusers. There are few of them: some of it is chance.
const NAT_LOSS_MAX: f64 = 0.15;

/// The good buyers' share of the units stays, and so does that of those who share an address.
pub(super) fn invariants(dossier: &Dossier<'_>) -> Vec<Invariant> {
    let Some(seen) = dossier.evidence.abuse else { return Vec::new() };
    let stock = dossier.evidence.sale.stock;
    let (now, before) = (seen.units, seen.without);
    let share = |units: u64| units as f64 / stock as f64;
    let [good, abusive] = seen.contest;
    let requests = abusive as f64 / (good + abusive).max(1) as f64;
    let mut findings = Findings::default();
    findings.require(requests >= REQUESTS_MIN, || {
        format!(
            "not conclusive: abusers sent {:.1} % of the requests, at least 90 % are wanted",
            requests * 100.0
        )
    });
    findings.require(before.good == stock, || {
        format!("not conclusive: without abusers good buyers won {} of {stock} units", before.good)
    });
    findings.require(share(now.good) >= share(before.good) - GOOD_LOSS_MAX, || {
        format!(
            "good buyers won {:.1} % of the units, {:.1} % without abusers; abusers took {}",
            share(now.good) * 100.0,
            share(before.good) * 100.0,
            now.abusers
        )
    });
    let told = format!(
        "good buyers won {:.1} % of {stock} units, {:.1} % without abusers, who sent {:.1} % of {} requests and won {}",
        share(now.good) * 100.0,
        share(before.good) * 100.0,
        requests * 100.0,
        good + abusive,
        now.abusers
    );
    let mut nat = Findings::default();
    nat.require(before.nat > 0, || "not conclusive: nobody behind the NAT won without abusers".to_owned());
    nat.require(now.nat as f64 >= before.nat as f64 * (1.0 - NAT_LOSS_MAX), || {
        format!("buyers behind the NAT won {} units, {} without abusers", now.nat, before.nat)
    });
    let nat_told = format!("buyers behind the NAT won {} units, {} without abusers", now.nat, before.nat);
    vec![findings.judge("good_buyers_keep_their_share", told), nat.judge("nat_keeps_its_share", nat_told)]
}
