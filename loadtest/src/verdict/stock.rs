//! Stock: never more sold than there is, never less to be had than there should be.

use super::dossier::{Dossier, File, peak};
use super::{Findings, Invariant};
use tidegate_client::wire::TicketStatus;

/// Orders that workers may treat as real never exceed the stock: at the end, at every instant, and in the audit.
pub(super) fn no_oversell(dossier: &Dossier<'_>) -> Invariant {
    let mut findings = Findings::default();
    let stock = dossier.stock();
    let rows = dossier.evidence.rows.iter().filter(|row| row.state.is_order());
    let rows = rows.filter(|row| !dossier.release_untold(&row.ticket));
    let in_database: u64 = rows.map(|row| u64::from(row.quantity)).sum();
    findings.require(in_database <= stock, || {
        format!("{in_database} units confirmed or paid in the database, {stock} put on sale")
    });
    // From the instant a worker knew of `created` until the ticket's release: inside the true interval, so that
    // an overlap is one.
    let dated = dossier.files.iter().filter(|(ticket, _)| !dossier.release_untold(ticket));
    let confirmed = dated.filter_map(|(ticket, file)| {
        let from_ms = dossier.wall_ms(file.created_us?);
        Some((from_ms, file.released_not_before_ms(), dossier.quantity(ticket)))
    });
    let confirmed_peak = peak(confirmed);
    findings.require(confirmed_peak <= stock, || {
        format!("{confirmed_peak} units confirmed and not yet released at one instant, {stock} put on sale")
    });
    let alive = dossier.units_where(|status| !status.is_released());
    findings.require(alive <= stock, || {
        format!("tickets of {alive} units are not released at the end, {stock} put on sale")
    });
    if let Ok(audit) = &dossier.evidence.audit {
        findings.require(audit.held + audit.sold <= stock, || {
            format!("audit: held {} + sold {} exceed {stock}", audit.held, audit.sold)
        });
    }
    findings.judge(
        "no_oversell",
        format!(
            "{in_database} of {stock} units confirmed at the end, at most {confirmed_peak} at one instant"
        ),
    )
}

/// Every unit is accounted for: the audit's identities hold, nothing is held at the end, and the audit's counters
/// agree with what buyers, workers and events say.
pub(super) fn no_leak(dossier: &Dossier<'_>) -> Invariant {
    let mut findings = Findings::default();
    let audit = match &dossier.evidence.audit {
        Ok(audit) => audit,
        Err(error) => {
            findings.add(|| format!("no audit: {error}"));
            return findings.judge("no_leak", String::new());
        }
    };
    for identity in audit.identities.iter().filter(|identity| !identity.holds) {
        findings.add(|| format!("audit: {}: {} ≠ {}", identity.name, identity.left, identity.right));
    }
    findings.require(audit.holds, || "the audit says it does not hold".to_owned());
    findings.require(audit.initial == dossier.evidence.sale.stock, || {
        format!("audit: initial {}, put on sale {}", audit.initial, dossier.evidence.sale.stock)
    });
    let put_on_sale = audit.initial + audit.restocked;
    findings.require(put_on_sale == audit.available + audit.sold, || {
        format!(
            "at the end {put_on_sale} units put on sale ≠ {} available + {} sold ({} held)",
            audit.available, audit.sold, audit.held
        )
    });
    let told = dossier.files.values().filter_map(File::release).map(|event| u64::from(event.quantity));
    let untold = dossier.files.keys().filter(|ticket| dossier.release_untold(ticket));
    let untold: u64 = untold.map(|ticket| dossier.quantity(ticket)).sum();
    let returned = told.sum::<u64>() + untold;
    findings.require(audit.returned == returned, || {
        format!("audit: {} units returned, events tell of {returned}", audit.returned)
    });
    let paid = dossier.units_where(|status| status == TicketStatus::Paid);
    findings.require(audit.sold == paid, || {
        format!("audit: {} units sold, {paid} units of paid tickets", audit.sold)
    });
    let counted: u64 = audit.tickets.values().sum();
    let heard_of = dossier.files.len() as u64;
    findings.require(counted == heard_of, || {
        format!("audit counts {counted} tickets; buyers, workers and events together heard of {heard_of}")
    });
    findings.judge(
        "no_leak",
        format!(
            "{} initial + {} restocked = {} available + {} sold; {returned} returned on the way",
            audit.initial, audit.restocked, audit.available, audit.sold
        ),
    )
}
