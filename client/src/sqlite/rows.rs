//! Each step of the protocol as one conditional statement, so that it is atomic by itself and a repeat or a race
//! finds nothing left to do.

use crate::idempotency::sqlite::{Inserted, insert_once};
use crate::orders::{OrderRow, RowState};
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Row, Transaction, params};
use serde::Serialize;

/// A row as it stands, for verdicts and reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRecord {
    /// Ticket.
    pub ticket: String,
    /// Order id told to the ledger.
    pub order_id: String,
    /// Sale; may be empty for a row that only a release left.
    pub sale: String,
    /// Buyer; as `sale`.
    pub buyer: String,
    /// Units.
    pub quantity: u32,
    /// State.
    pub state: RowState,
    /// The ticket's version that the row has followed so far.
    pub version: u32,
    /// To be paid by, Unix ms.
    pub pay_by_ms: Option<u64>,
    /// Payment.
    pub payment_id: Option<String>,
    /// Why it was closed.
    pub reason: Option<String>,
}

/// Rows by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct OrderCountsByState {
    /// Not yet confirmed: no orders.
    pub pending: u64,
    /// Orders, unpaid.
    pub confirmed: u64,
    /// Orders, paid.
    pub paid: u64,
    /// Released: no orders.
    pub closed: u64,
}

/// The fields of a new row, owned, so that they can go to the writer thread.
#[derive(Debug, Clone)]
pub(super) struct StoredOrder {
    /// Ticket.
    pub(super) ticket: String,
    /// Sale.
    pub(super) sale: String,
    /// Item sold.
    pub(super) item: String,
    /// Buyer.
    pub(super) buyer: String,
    /// Units.
    pub(super) quantity: u32,
    /// Reserved at, Unix ms.
    pub(super) won_at_ms: u64,
}

/// The order id follows from the ticket: whoever writes the row, and however often, tells the ledger the same.
pub(super) fn order_id(ticket: &str) -> String {
    format!("order-{ticket}")
}

pub(super) fn insert_pending(tx: &Transaction<'_>, order: &StoredOrder) -> rusqlite::Result<OrderRow> {
    let order_id = order_id(&order.ticket);
    let insert =
        "INSERT INTO orders (ticket, order_id, sale, item, buyer, quantity, status, version, won_at_ms)
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'pending', 1, ?7)";
    let values = params![
        order.ticket,
        order_id,
        order.sale,
        order.item,
        order.buyer,
        order.quantity,
        order.won_at_ms.cast_signed()
    ];
    match insert_once(tx, insert, values)? {
        Inserted::New => Ok(OrderRow { ticket: order.ticket.clone(), order_id, state: RowState::Pending }),
        Inserted::Existing => tx
            .prepare_cached("SELECT ticket, order_id, status FROM orders WHERE ticket = ?1")?
            .query_row([&order.ticket], order_row),
    }
}

pub(super) fn confirm(
    tx: &Transaction<'_>,
    ticket: &str,
    version: u32,
    pay_by_ms: Option<u64>,
) -> rusqlite::Result<RowState> {
    tx.prepare_cached(
        "UPDATE orders SET status = 'confirmed', version = max(version, ?2), pay_by_ms = ?3
         WHERE ticket = ?1 AND status = 'pending'",
    )?
    .execute(params![ticket, version, pay_by_ms.map(u64::cast_signed)])?;
    // A row that was never inserted is a fault of the caller, and "no rows" says so.
    state(tx, ticket)?.ok_or(Error::QueryReturnedNoRows)
}

pub(super) fn close(
    tx: &Transaction<'_>,
    order: &StoredOrder,
    version: u32,
    reason: &str,
) -> rusqlite::Result<RowState> {
    tx.prepare_cached(
        "INSERT INTO orders (ticket, order_id, sale, buyer, quantity, status, version, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, 'closed', ?6, ?7)
         ON CONFLICT (ticket) DO UPDATE
             SET status = 'closed', version = max(version, excluded.version), reason = excluded.reason
             WHERE status IN ('pending', 'confirmed')",
    )?
    .execute(params![
        order.ticket,
        order_id(&order.ticket),
        order.sale,
        order.buyer,
        order.quantity,
        version,
        reason
    ])?;
    state(tx, &order.ticket)?.ok_or(Error::QueryReturnedNoRows)
}

pub(super) fn paid(
    tx: &Transaction<'_>,
    ticket: &str,
    payment_id: &str,
    version: u32,
) -> rusqlite::Result<Option<RowState>> {
    tx.prepare_cached(
        "UPDATE orders SET status = 'paid', version = max(version, ?2), payment_id = ?3
         WHERE ticket = ?1 AND status IN ('pending', 'confirmed')",
    )?
    .execute(params![ticket, version, payment_id])?;
    state(tx, ticket)
}

fn state(connection: &Connection, ticket: &str) -> rusqlite::Result<Option<RowState>> {
    connection
        .prepare_cached("SELECT status FROM orders WHERE ticket = ?1")?
        .query_row([ticket], |row| row_state(row, 0))
        .optional()
}

pub(super) fn in_state(
    connection: &Connection,
    state: RowState,
    after: &str,
    max: usize,
) -> rusqlite::Result<Vec<OrderRow>> {
    connection
        .prepare_cached(
            "SELECT ticket, order_id, status FROM orders
             WHERE status = ?1 AND ticket > ?2 ORDER BY ticket LIMIT ?3",
        )?
        .query_map(params![state.as_str(), after, max as i64], order_row)?
        .collect()
}

pub(super) fn records(
    connection: &Connection,
    after: &str,
    max: usize,
) -> rusqlite::Result<Vec<OrderRecord>> {
    connection
        .prepare_cached(
            "SELECT ticket, order_id, sale, buyer, quantity, status, version, pay_by_ms, payment_id, reason
             FROM orders WHERE ticket > ?1 ORDER BY ticket LIMIT ?2",
        )?
        .query_map(params![after, max as i64], |row| {
            Ok(OrderRecord {
                ticket: row.get(0)?,
                order_id: row.get(1)?,
                sale: row.get(2)?,
                buyer: row.get(3)?,
                quantity: row.get(4)?,
                state: row_state(row, 5)?,
                version: row.get(6)?,
                pay_by_ms: row.get::<_, Option<i64>>(7)?.map(i64::cast_unsigned),
                payment_id: row.get(8)?,
                reason: row.get(9)?,
            })
        })?
        .collect()
}

pub(super) fn counts(connection: &Connection) -> rusqlite::Result<OrderCountsByState> {
    let mut counts = OrderCountsByState::default();
    let mut statement = connection.prepare_cached("SELECT status, count(*) FROM orders GROUP BY status")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let count = row.get::<_, i64>(1)?.cast_unsigned();
        match row_state(row, 0)? {
            RowState::Pending => counts.pending = count,
            RowState::Confirmed => counts.confirmed = count,
            RowState::Paid => counts.paid = count,
            RowState::Closed => counts.closed = count,
        }
    }
    Ok(counts)
}

fn order_row(row: &Row<'_>) -> rusqlite::Result<OrderRow> {
    Ok(OrderRow { ticket: row.get(0)?, order_id: row.get(1)?, state: row_state(row, 2)? })
}

fn row_state(row: &Row<'_>, column: usize) -> rusqlite::Result<RowState> {
    let name = row.get_ref(column)?.as_str()?;
    RowState::from_name(name).ok_or_else(|| {
        Error::FromSqlConversionFailure(
            column,
            Type::Text,
            format!("`{name}` is no state of an order").into(),
        )
    })
}
