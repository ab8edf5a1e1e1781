//! `GET /v1/sales/{sale}/audit` and `GET /v1/audit`.

use crate::http::{Answer, Refusal, answer};
use crate::ledger::LedgerError;
use crate::pipeline::to_wire;
use crate::state::Core;
use http::StatusCode;
use std::time::Duration;
use tidegate_client::wire;
use tidegate_stock::Audit;

/// Pause asked for where a sale is paused.
const PAUSED_RETRY: Duration = Duration::from_secs(1);

pub(in crate::api) async fn audit_sale(core: &Core, sale: &str) -> Result<Answer, Refusal> {
    let audit = core.audit(sale).await?.ok_or(Refusal::SaleNotFound)?;
    Ok(answer::json(status(audit.holds), &audit_object(&audit)))
}

pub(in crate::api) async fn audit_all(core: &Core) -> Result<Answer, Refusal> {
    let mut names: Vec<_> = match core.app.stock.shared() {
        // Those too that are paused and that no log has told of yet.
        Some(shared) => shared.sales().iter().map(|sale| sale.keys.sale.clone()).collect(),
        None => core.sales().await?.into_iter().map(|view| view.sale).collect(),
    };
    names.sort();
    if names.is_empty()
        && let Some(why) = core.app.stock.shared().and_then(|shared| shared.unready())
    {
        return Err(Refusal::LedgerUnavailable(why.into()));
    }
    let (mut sales, mut paused) = (Vec::with_capacity(names.len()), Vec::new());
    for name in names {
        match core.audit(&name).await {
            // One that waits must not hide what the others would tell.
            Err(LedgerError::Paused) => paused.push(name.to_string()),
            audit => sales.extend(audit?.map(|audit| audit_object(&audit))),
        }
    }
    let holds = sales.iter().all(|audit| audit.holds);
    let all = paused.is_empty();
    let report = wire::AuditReport { holds: holds && all, sales, paused };
    if holds && !all {
        // Nobody shall take it for a good audit, nor for a bad one.
        let answer = answer::json(StatusCode::SERVICE_UNAVAILABLE, &report);
        return Ok(answer::with_retry_after(answer, PAUSED_RETRY));
    }
    Ok(answer::json(status(holds), &report))
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
