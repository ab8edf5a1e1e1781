//! Money: what was accepted is sold, and nothing else is.

use super::dossier::Dossier;
use super::{Findings, Invariant};
use crate::evidence::RowState;
use hashbrown::HashMap;
use tidegate_client::wire::TicketStatus;

/// Payments accepted, units sold by the audit, rows paid in the database and paid tickets are the same.
pub(super) fn paid_is_paid(dossier: &Dossier<'_>) -> Invariant {
    let mut findings = Findings::default();
    let evidence = dossier.evidence;
    let mut accepted: HashMap<_, u64> = HashMap::new();
    for payment in evidence.workers.payments.iter().filter(|payment| payment.accepted) {
        accepted.insert(payment.ticket, payment.quantity.into());
    }
    let units: u64 = accepted.values().sum();
    for ticket in accepted.keys() {
        let status = dossier.final_status(ticket);
        findings.require(status == Some(TicketStatus::Paid), || {
            format!(
                "payment of ticket {ticket} was accepted, the ticket is {}",
                status.map_or("unknown", |s| s.as_str())
            )
        });
    }
    let rows = evidence.rows.iter().filter(|row| row.state == RowState::Paid);
    let in_database: u64 = rows.map(|row| u64::from(row.quantity)).sum();
    findings.require(in_database == units, || {
        format!("payments of {units} units accepted, {in_database} units paid in the database")
    });
    if let Ok(audit) = &evidence.audit {
        findings.require(audit.sold == units, || {
            format!("payments of {units} units accepted, audit: {} sold", audit.sold)
        });
    }
    findings.require(evidence.workers.payments_unknown == 0, || {
        format!("{} payments had no answer in spite of all retries", evidence.workers.payments_unknown)
    });
    let refunds = evidence.workers.payments.iter().filter(|payment| !payment.accepted).count();
    findings.judge("paid_is_paid", format!("{units} units paid, sold and in the database; {refunds} refunds"))
}
