//! What a buyer sees of a sale.

use crate::admission::SaleGate;
use crate::http::{Answer, Refusal, answer};
use crate::state::Core;
use http::StatusCode;
use std::borrow::Cow;
use tidegate_client::wire::{SaleInfo, SaleState};
use tidegate_stock::Window;

/// `GET /v1/sales/{sale}`
pub(super) fn get(core: &Core, sale: &str) -> Result<Answer, Refusal> {
    let app = &core.app;
    let gate = app.sales.find(sale).ok_or_else(|| super::orders::unknown_sale(app, sale))?;
    let now_ms = app.clock.now_ms();
    let rules = gate.rules();
    let info = SaleInfo {
        sale: Cow::Borrowed(&gate.sale),
        item: Cow::Borrowed(&rules.spec.item),
        title: rules.spec.title.as_deref().map(Cow::Borrowed),
        state: state(&gate, now_ms),
        opens_at_ms: rules.spec.opens_at_ms,
        closes_at_ms: rules.spec.closes_at_ms,
        now_ms,
        per_buyer_limit: rules.spec.per_buyer_limit,
    };
    Ok(answer::json(StatusCode::OK, &info))
}

/// The state that the gates would let a buyer find now.
pub(crate) fn state(gate: &SaleGate, now_ms: u64) -> SaleState {
    if gate.is_paused() {
        return SaleState::Paused;
    }
    match gate.window(|| now_ms) {
        Window::NotOpen { .. } => SaleState::Upcoming,
        Window::Closed => SaleState::Closed,
        Window::Open if gate.is_sold_out() => SaleState::SoldOut,
        Window::Open => SaleState::Open,
    }
}
