//! `GET /v1/sales/{sale}/audit` and `GET /v1/audit`. A recount holds the sale's lock for a few ms per 100,000
//! tickets, so it runs beside the cores.

use crate::http::{Answer, Refusal, answer};
use crate::pipeline::to_wire;
use crate::state::Core;
use http::StatusCode;
use tidegate_client::wire;
use tidegate_stock::Audit;

pub(in crate::api) async fn audit_sale(core: &Core, sale: &str) -> Result<Answer, Refusal> {
    let (app, name) = (core.app.clone(), sale.to_owned());
    let recount = tokio::task::spawn_blocking(move || app.ledger.audit(&name));
    let audit = recount.await.ok().flatten().ok_or(Refusal::SaleNotFound)?;
    core.told(audit.lsn).await.map_err(|_| Refusal::Unknown { ticket: None })?;
    Ok(answer::json(status(audit.holds), &audit_object(&audit)))
}

pub(in crate::api) async fn audit_all(core: &Core) -> Result<Answer, Refusal> {
    let app = core.app.clone();
    let recount = tokio::task::spawn_blocking(move || {
        let mut sales: Vec<_> = app.ledger.sales().into_iter().map(|view| view.sale).collect();
        sales.sort();
        sales.iter().filter_map(|sale| app.ledger.audit(sale)).collect::<Vec<_>>()
    });
    let audits = recount.await.map_err(|_| Refusal::QueueBusy("the audit was interrupted"))?;
    let newest = audits.iter().map(|audit| audit.lsn).max().unwrap_or_default();
    core.told(newest).await.map_err(|_| Refusal::Unknown { ticket: None })?;
    let report = wire::AuditReport {
        holds: audits.iter().all(|audit| audit.holds),
        sales: audits.iter().map(audit_object).collect(),
    };
    Ok(answer::json(status(report.holds), &report))
}

fn status(holds: bool) -> StatusCode {
    if holds { StatusCode::OK } else { StatusCode::CONFLICT }
}

/// The audit as it travels.
pub(crate) fn audit_object(audit: &Audit) -> wire::Audit {
    let identity = |identity: &tidegate_stock::Identity| wire::Identity {
        name: identity.name.clone(),
        left: identity.left,
        right: identity.right,
        holds: identity.holds,
    };
    wire::Audit {
        sale: audit.sale.to_string(),
        holds: audit.holds,
        initial: audit.stock.initial,
        restocked: audit.stock.restocked,
        available: audit.stock.available,
        held: audit.stock.held,
        sold: audit.stock.sold,
        returned: audit.stock.returned,
        tickets: audit.tickets.iter().map(|(status, count)| (to_wire(*status), *count)).collect(),
        identities: audit.identities.iter().map(identity).collect(),
    }
}
