//! What a database must do for the protocol.

use crate::wire::{OrderBody, Ticket, TicketStatus};
use std::fmt;

/// State of an order row. Only `Confirmed` and `Paid` are orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowState {
    /// Written, not yet confirmed by the ledger.
    Pending,
    /// The ledger knows it as created; payable.
    Confirmed,
    /// Paid; final.
    Paid,
    /// The ticket was released; final.
    Closed,
}

impl RowState {
    /// Spelling in databases and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Paid => "paid",
            Self::Closed => "closed",
        }
    }

    /// By its spelling.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Pending, Self::Confirmed, Self::Paid, Self::Closed]
            .into_iter()
            .find(|state| state.as_str() == name)
    }

    /// Whether the row is an order.
    pub fn is_order(self) -> bool {
        matches!(self, Self::Confirmed | Self::Paid)
    }
}

impl fmt::Display for RowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the protocol needs to know of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    /// Ticket, the row's unique key.
    pub ticket: String,
    /// The id told to the ledger; fixed when the row was written.
    pub order_id: String,
    /// State now.
    pub state: RowState,
}

/// The end of a ticket that became no order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release<'a> {
    /// Ticket.
    pub ticket: &'a str,
    /// Sale.
    pub sale: &'a str,
    /// Buyer.
    pub buyer: &'a str,
    /// Units.
    pub quantity: u32,
    /// The ticket's version at its end; 0 when the ledger did not say.
    pub version: u32,
    /// Which end; `None` when the ledger did not say.
    pub status: Option<TicketStatus>,
    /// Why.
    pub reason: &'a str,
}

/// Order rows in a database. Each call is one atomic, durable step: it returns once the step is committed, and
/// repeating it changes nothing. An error means the step may or may not be committed.
///
/// Cancel safety: dropping a call leaves the step done or not done, never half.
pub trait OrderStore: Send + Sync + 'static {
    /// The database's error.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Writes the row as `Pending` unless there is one under the ticket, and answers the row as it then stands.
    fn insert_pending(
        &self,
        order: &OrderBody<'_>,
    ) -> impl Future<Output = Result<OrderRow, Self::Error>> + Send;

    /// Makes a `Pending` row `Confirmed`; leaves every other state alone. Answers the state after.
    fn confirm(&self, ticket: &Ticket<'_>) -> impl Future<Output = Result<RowState, Self::Error>> + Send;

    /// Makes a `Pending` or `Confirmed` row `Closed`. Where there is no row, writes a closed one under the
    /// ticket, so that a later insert finds it. Answers the state after.
    fn close(&self, release: &Release<'_>) -> impl Future<Output = Result<RowState, Self::Error>> + Send;

    /// Makes a `Pending` or `Confirmed` row `Paid`. Answers the state after, `None` without a row.
    fn paid(
        &self,
        ticket: &str,
        payment_id: &str,
        version: u32,
    ) -> impl Future<Output = Result<Option<RowState>, Self::Error>> + Send;

    /// Up to `max` rows that are `Pending`, by ticket, those after `after` (empty: from the first).
    fn pending(
        &self,
        after: &str,
        max: usize,
    ) -> impl Future<Output = Result<Vec<OrderRow>, Self::Error>> + Send;
}
