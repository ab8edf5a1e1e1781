//! `GET /v1/sales/{sale}/audit` and `GET /v1/audit`.

use crate::http::{Answer, Refusal, answer};
use crate::pipeline::to_wire;
use crate::state::Core;
use http::StatusCode;
use tidegate_client::wire;
use tidegate_stock::Audit;

pub(in crate::api) async fn audit_sale(core: &Core, sale: &str) -> Result<Answer, Refusal> {
    let audit = core.audit(sale).await?.ok_or(Refusal::SaleNotFound)?;
    Ok(answer::json(status(audit.holds), &audit_object(&audit)))
}

pub(in crate::api) async fn audit_all(core: &Core) -> Result<Answer, Refusal> {
    let mut names: Vec<_> = core.sales().await?.into_iter().map(|view| view.sale).collect();
    names.sort();
    let mut sales = Vec::with_capacity(names.len());
    for name in names {
        sales.extend(core.audit(&name).await?.map(|audit| audit_object(&audit)));
    }
    let report = wire::AuditReport { holds: sales.iter().all(|audit| audit.holds), sales };
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
