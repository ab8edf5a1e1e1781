//! Gate 9 of an order.

use super::TokenRate;
use super::budget::UnderWay;
use crate::admission::SaleGate;
use crate::http::Refusal;
use crate::state::{App, Live};
use std::time::Duration;

/// Asked of who comes when enough are under way to what is left: they will be answered by then.
const BUDGET_RETRY: Duration = Duration::from_secs(1);

/// A token for an order of this sale, in its turn. What is answered is held until the ledger has answered. Bounded by
/// `max_wait`. Cancel safe.
pub(crate) async fn pass<'s>(app: &App, live: &Live, sale: &'s SaleGate) -> Result<UnderWay<'s>, Refusal> {
    let weight = sale.weight();
    let Some(under_way) = sale.budget.enter(live.config.tokens.tokens_per_unit) else {
        app.tokens.counts.of(weight).over_budget();
        return Err(Refusal::Overloaded(BUDGET_RETRY));
    };
    // A rate that follows the workers says nothing while they wait for orders.
    let idle = matches!(live.config.tokens.rate, TokenRate::Auto { .. }) && app.drain.backlog() == 0;
    if idle && let Some(_used) = app.tokens.pass_idle(weight) {
        return Ok(under_way);
    }
    let token = app.tokens.take(&sale.sale, weight).await.map_err(|refused| {
        if refused.away {
            Refusal::LedgerUnavailable(
                "Redis, which holds the tokens of all gateways, does not answer".into(),
            )
        } else {
            Refusal::Overloaded(refused.retry_after)
        }
    })?;
    // Whoever waited while the last unit went leaves the token to another sale's orders.
    if sale.is_sold_out() {
        token.give_back();
        return Err(Refusal::SoldOut);
    }
    Ok(under_way)
}
