//! Rows of the workers' database, read with SQL of our own when all is over.

use super::TicketId;

/// One order row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OrderRow {
    pub(crate) ticket: TicketId,
    pub(crate) buyer: Option<u32>,
    pub(crate) quantity: u32,
    pub(crate) state: RowState,
}

/// State of a row; only `Confirmed` and `Paid` are orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowState {
    Pending,
    Confirmed,
    Paid,
    Closed,
}

impl RowState {
    /// The row binds the shop.
    pub(crate) fn is_order(self) -> bool {
        matches!(self, Self::Confirmed | Self::Paid)
    }
}
