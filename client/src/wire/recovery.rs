//! A sale that is paused until its shared ledger is whole again, and what was sold beyond the stock.

use super::Ticket;
use serde::{Deserialize, Serialize};

/// `GET /v1/sales/{sale}/recovery`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Which sale.
    pub sale: String,
    /// Whether nobody may sell.
    pub paused: bool,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Gateways whose logs are brought in.
    pub brought_in: Vec<String>,
    /// Gateways whose logs are still to come.
    pub missing: Vec<String>,
    /// Units left, by what is brought in so far; what a missing log holds was sold already.
    pub available: u64,
    /// Units of tickets under way, likewise.
    pub held: u64,
    /// Units paid for, likewise.
    pub sold: u64,
}

/// `POST /v1/sales/{sale}/resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// A gateway that cannot come back: what only its log held is given up.
    pub without_gateway: String,
}

/// `GET /v1/sales/{sale}/excess`: units sold beyond the stock, found by a recovery, and tickets that could be released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excess {
    /// Which sale.
    pub sale: String,
    /// Units; 0 when all is well.
    pub excess: u64,
    /// Tickets under way, those due last first; none when all is well.
    pub tickets: Vec<Ticket<'static>>,
}

/// `POST /v1/sales/{sale}/excess`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseExcess {
    /// Tickets to release: queued ones fail, created ones are cancelled.
    pub tickets: Vec<String>,
    /// Told to the buyers and in the events.
    pub reason: String,
}
