//! Sale objects, and the requests that create and change a sale.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What a buyer can do at a sale now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaleState {
    /// Opens later.
    Upcoming,
    /// Sells.
    Open,
    /// Sells nothing until units come back.
    SoldOut,
    /// Over.
    Closed,
    /// The ledger is being made whole.
    Paused,
}

/// `GET /v1/sales/{sale}` of the buyer API. Absent times and titles are `null`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleInfo<'a> {
    /// Id.
    pub sale: Cow<'a, str>,
    /// Item sold.
    pub item: Cow<'a, str>,
    /// For people.
    pub title: Option<Cow<'a, str>>,
    /// State at `now_ms`.
    pub state: SaleState,
    /// Opens by itself at, Unix ms.
    pub opens_at_ms: Option<u64>,
    /// Closes by itself at, Unix ms.
    pub closes_at_ms: Option<u64>,
    /// The gateway's clock, Unix ms, to count down against; what `Age` says has passed since.
    pub now_ms: u64,
    /// Units one buyer may hold.
    pub per_buyer_limit: u32,
    /// An order needs a purchase pass. Gateways of before this field did not tell.
    #[serde(default)]
    pub requires_pass: bool,
}

/// `PUT /v1/sales/{sale}`. Fields left out take the defaults of the interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutSale {
    /// Item sold.
    pub item: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Units put on sale; fixed once the sale exists.
    pub stock: u64,
    /// Units one buyer may hold.
    #[serde(default = "one")]
    pub per_buyer_limit: u32,
    /// Units one order may ask for.
    #[serde(default = "one")]
    pub quantity_max: u32,
    /// Opens by itself at, Unix ms; absent: opened by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_at_ms: Option<u64>,
    /// Closes by itself at, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes_at_ms: Option<u64>,
    /// Queued orders are dropped after.
    #[serde(default = "order_deadline_default_ms")]
    pub order_deadline_ms: u64,
    /// Created orders expire after.
    #[serde(default = "pay_window_default_ms")]
    pub pay_window_ms: u64,
    /// Share of the token queue.
    #[serde(default = "one")]
    pub weight: u32,
    /// A pass is needed.
    #[serde(default)]
    pub requires_pass: bool,
    /// Sales of one group share the per-buyer limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_group: Option<String>,
    /// Released units still count against the buyer's limit.
    #[serde(default)]
    pub limit_counts_released: bool,
}

impl PutSale {
    /// A sale of `stock` units of `item` with the defaults of the interface.
    pub fn new(item: impl Into<String>, stock: u64) -> Self {
        Self {
            item: item.into(),
            title: None,
            stock,
            per_buyer_limit: one(),
            quantity_max: one(),
            opens_at_ms: None,
            closes_at_ms: None,
            order_deadline_ms: order_deadline_default_ms(),
            pay_window_ms: pay_window_default_ms(),
            weight: one(),
            requires_pass: false,
            limit_group: None,
            limit_counts_released: false,
        }
    }
}

fn one() -> u32 {
    1
}

fn order_deadline_default_ms() -> u64 {
    30_000
}

fn pay_window_default_ms() -> u64 {
    900_000
}

/// `POST /v1/sales/{sale}/restock`. A repeat of `restock_id` with the same quantity adds nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restock {
    /// The operator's id of this restock.
    pub restock_id: String,
    /// Units added.
    pub quantity: u64,
}

/// A sale as told to operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sale<'a> {
    /// Id.
    pub sale: Cow<'a, str>,
    /// Item sold.
    pub item: Cow<'a, str>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Cow<'a, str>>,
    /// What buyers meet now.
    pub state: SaleState,
    /// Units one buyer may hold.
    pub per_buyer_limit: u32,
    /// Units one order may ask for.
    pub quantity_max: u32,
    /// Opens by itself at, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_at_ms: Option<u64>,
    /// Closes by itself at, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes_at_ms: Option<u64>,
    /// Queued orders are dropped after.
    pub order_deadline_ms: u64,
    /// Created orders expire after.
    pub pay_window_ms: u64,
    /// Share of the token queue.
    pub weight: u32,
    /// A pass is needed.
    pub requires_pass: bool,
    /// Sales of one group share the per-buyer limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_group: Option<Cow<'a, str>>,
    /// Released units still count against the buyer's limit.
    pub limit_counts_released: bool,
    /// Units put on sale at creation.
    pub initial: u64,
    /// Units added since.
    pub restocked: u64,
    /// Units that may be reserved now.
    pub available: u64,
    /// Units reserved or awaiting payment.
    pub held: u64,
    /// Units paid.
    pub sold: u64,
    /// Units that came back, ever.
    pub returned: u64,
}

/// `GET /v1/sales`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SaleList<'a> {
    /// By id.
    pub sales: Vec<Sale<'a>>,
}
