//! Sales as operators see and change them. Every call may be repeated.

use crate::api::sales::state;
use crate::config::{KEYS_HELP, KEYS_MISSING};
use crate::http::{Answer, Refusal, answer, request};
use crate::state::{App, Core};
use http::StatusCode;
use serde::Deserialize;
use std::borrow::Cow;
use tidegate_client::wire::{PutSale, Restock, Sale, SaleList, SaleState};
use tidegate_stock::{SalePut, SaleSpec, SaleSwitch, SaleView};

/// Bytes of a restock id.
const RESTOCK_ID_BYTES_MAX: usize = 128;
/// Longest pay window: a year.
const PAY_WINDOW_MS_MAX: u64 = 365 * 24 * 3_600_000;
/// Bytes of item, title and limit group.
const TEXT_BYTES_MAX: usize = 256;

/// Which way to switch a sale by hand.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) enum Switch {
    Open,
    Close,
}

/// A body without fields: nothing, or an empty object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// `PUT /v1/sales/{sale}`
pub(in crate::api) async fn put_sale(core: &Core, sale: &str, body: &[u8]) -> Result<Answer, Refusal> {
    let spec = spec(request::parse_json(body)?)?;
    if spec.requires_pass && core.app.stock.shared().is_some() && core.live().config.pass.keys.is_empty() {
        let why = format!("`requires_pass` {KEYS_MISSING}: {KEYS_HELP}");
        return Err(Refusal::BadRequest(why.into()));
    }
    let status = match core.put_sale(sale, &spec).await? {
        SalePut::Created => StatusCode::CREATED,
        SalePut::Changed | SalePut::Unchanged => StatusCode::OK,
    };
    tell(core, sale, status).await
}

/// `POST /v1/sales/{sale}/open` and `/close`
pub(in crate::api) async fn switch_sale(
    core: &Core,
    sale: &str,
    switch: Switch,
    body: &[u8],
) -> Result<Answer, Refusal> {
    if !body.is_empty() {
        request::parse_json::<Nothing>(body)?;
    }
    let to = match switch {
        Switch::Open => SaleSwitch::Open,
        Switch::Close => SaleSwitch::Closed,
    };
    if matches!(switch, Switch::Open) {
        not_over(&core.app, sale)?;
    }
    core.switch_sale(sale, to).await?;
    tell(core, sale, StatusCode::OK).await
}

/// An operator who opens a sale whose end has passed would be told "closed": says what to do instead.
fn not_over(app: &App, sale: &str) -> Result<(), Refusal> {
    let closes_at_ms = app.sales.find(sale).and_then(|gate| gate.rules().spec.closes_at_ms);
    match closes_at_ms {
        Some(closes_at_ms) if closes_at_ms <= app.clock.now_ms() => Err(Refusal::BadRequest(
            format!("its `closes_at_ms` {closes_at_ms} has passed: PUT the sale with a later one, or without one, then open it")
                .into(),
        )),
        _ => Ok(()),
    }
}

/// `POST /v1/sales/{sale}/restock`
pub(in crate::api) async fn restock(core: &Core, sale: &str, body: &[u8]) -> Result<Answer, Refusal> {
    let asked: Restock = request::parse_json(body)?;
    if asked.restock_id.is_empty() || asked.restock_id.len() > RESTOCK_ID_BYTES_MAX {
        let why = format!("`restock_id` must have 1 to {RESTOCK_ID_BYTES_MAX} bytes");
        return Err(Refusal::BadRequest(why.into()));
    }
    core.restock(sale, &asked.restock_id, asked.quantity).await?;
    tell(core, sale, StatusCode::OK).await
}

/// `GET /v1/sales/{sale}`
pub(in crate::api) async fn get_sale(core: &Core, sale: &str) -> Result<Answer, Refusal> {
    tell(core, sale, StatusCode::OK).await
}

/// `GET /v1/sales`
pub(in crate::api) async fn list_sales(core: &Core) -> Result<Answer, Refusal> {
    let views = core.sales().await?;
    let mut sales: Vec<Sale<'_>> = views.iter().map(|view| sale_object(&core.app, view)).collect();
    sales.sort_by(|a, b| a.sale.cmp(&b.sale));
    Ok(answer::json(StatusCode::OK, &SaleList { sales }))
}

async fn tell(core: &Core, sale: &str, status: StatusCode) -> Result<Answer, Refusal> {
    let view = core.sale(sale).await?.ok_or(Refusal::SaleNotFound)?;
    Ok(answer::json(status, &sale_object(&core.app, &view)))
}

/// What only the interface asks of a sale; what the ledger needs it checks itself.
fn spec(asked: PutSale) -> Result<SaleSpec, Refusal> {
    let bad = |why: String| Err(Refusal::BadRequest(why.into()));
    let texts = [
        ("item", Some(&asked.item)),
        ("title", asked.title.as_ref()),
        ("limit_group", asked.limit_group.as_ref()),
    ];
    for (field, text) in texts {
        if text.is_some_and(|text| text.is_empty() || text.len() > TEXT_BYTES_MAX) {
            return bad(format!("`{field}` must have 1 to {TEXT_BYTES_MAX} bytes"));
        }
    }
    if asked.pay_window_ms > PAY_WINDOW_MS_MAX {
        return bad(format!("`pay_window_ms` must be at most {PAY_WINDOW_MS_MAX} (a year)"));
    }
    if asked.weight == 0 {
        return bad("`weight` must be at least 1".to_owned());
    }
    Ok(SaleSpec {
        item: asked.item,
        title: asked.title,
        stock: asked.stock,
        per_buyer_limit: asked.per_buyer_limit,
        quantity_max: asked.quantity_max,
        opens_at_ms: asked.opens_at_ms,
        closes_at_ms: asked.closes_at_ms,
        order_deadline_ms: asked.order_deadline_ms,
        pay_window_ms: asked.pay_window_ms,
        weight: asked.weight,
        requires_pass: asked.requires_pass,
        limit_group: asked.limit_group,
        limit_counts_released: asked.limit_counts_released,
    })
}

fn sale_object<'v>(app: &App, view: &'v SaleView) -> Sale<'v> {
    // A sale whose first record is not durable yet has no gate: it is told as buyers meet it, not there.
    let state =
        app.sales.find(&view.sale).map_or(SaleState::Upcoming, |gate| state(&gate, app.clock.now_ms()));
    let SaleView { spec, stock, .. } = view;
    Sale {
        sale: Cow::Borrowed(&view.sale),
        item: Cow::Borrowed(&spec.item),
        title: spec.title.as_deref().map(Cow::Borrowed),
        state,
        per_buyer_limit: spec.per_buyer_limit,
        quantity_max: spec.quantity_max,
        opens_at_ms: spec.opens_at_ms,
        closes_at_ms: spec.closes_at_ms,
        order_deadline_ms: spec.order_deadline_ms,
        pay_window_ms: spec.pay_window_ms,
        weight: spec.weight,
        requires_pass: spec.requires_pass,
        limit_group: spec.limit_group.as_deref().map(Cow::Borrowed),
        limit_counts_released: spec.limit_counts_released,
        initial: stock.initial,
        restocked: stock.restocked,
        available: stock.available,
        held: stock.held,
        sold: stock.sold,
        returned: stock.returned,
    }
}
