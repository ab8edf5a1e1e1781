//! Audit of the ledger: counters against a recount of the tickets. A body of this shape also comes with 409,
//! when an identity does not hold.

use super::TicketStatus;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One checked equation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// What is compared.
    pub name: String,
    /// Left side.
    pub left: i128,
    /// Right side.
    pub right: i128,
    /// Equal.
    pub holds: bool,
}

/// `GET /v1/sales/{sale}/audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Sale.
    pub sale: String,
    /// All identities hold.
    pub holds: bool,
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
    /// Tickets by state.
    pub tickets: BTreeMap<TicketStatus, u64>,
    /// The equations.
    pub identities: Vec<Identity>,
}

/// `GET /v1/audit`: every sale. Comes with 200 when all of it is good, with 409 when an identity does not hold, else
/// with 503 when a sale could not be audited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// Every sale was audited, and holds.
    pub holds: bool,
    /// By sale; without those that are paused.
    pub sales: Vec<Audit>,
    /// Sales that are paused, and cannot be audited before they go on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paused: Vec<String>,
}
