//! The order rows, in SQLite: what the shop would act on.
//!
//! A row is an order only when it is `confirmed` or `paid`. Each change names the states it may come from, so a
//! redelivery, a late `created` answer and a release event may come in any order. One statement each: no lock is
//! held across anything that waits.

use crate::evidence::{OrderRow, RowState, TicketId};
use parking_lot::Mutex;
use rusqlite::{Connection, params};
use std::path::Path;

const SCHEMA: &str = "
    CREATE TABLE orders (
        ticket   TEXT PRIMARY KEY,
        buyer    INTEGER,
        quantity INTEGER NOT NULL,
        state    TEXT NOT NULL CHECK (state IN ('pending', 'confirmed', 'paid', 'closed'))
    ) WITHOUT ROWID;";

/// The file, and the first thing that went wrong with it.
pub(crate) struct Database {
    inner: Mutex<Inner>,
}

struct Inner {
    connection: Connection,
    first_error: Option<rusqlite::Error>,
}

impl Database {
    /// Creates the file; one from an earlier run at the same path must be gone.
    pub(crate) fn create(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        // This database only has to outlive this process; the gateway is what is killed here.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self { inner: Mutex::new(Inner { connection, first_error: None }) })
    }

    /// A row that is no order yet; a redelivery finds it there.
    pub(super) fn insert_pending(&self, ticket: TicketId, buyer: Option<u32>, quantity: u32) -> bool {
        self.change(
            "INSERT INTO orders VALUES (?1, ?2, ?3, 'pending') ON CONFLICT (ticket) DO NOTHING",
            params![ticket.as_str(), buyer, quantity],
        )
    }

    /// Rows that nobody has reported yet, or not to the end.
    pub(super) fn pending(&self) -> Vec<OrderRow> {
        let pending = |inner: &Inner| read(&inner.connection, "WHERE state = 'pending'");
        let mut inner = self.inner.lock();
        pending(&inner).unwrap_or_else(|error| {
            inner.first_error.get_or_insert(error);
            Vec::new()
        })
    }

    /// True for the call that made the row an order.
    pub(super) fn confirm(&self, ticket: TicketId) -> bool {
        self.change(
            "UPDATE orders SET state = 'confirmed' WHERE ticket = ?1 AND state = 'pending'",
            params![ticket.as_str()],
        )
    }

    /// Money was accepted: that stands, whatever else the row went through.
    pub(super) fn pay(&self, ticket: TicketId) -> bool {
        self.change("UPDATE orders SET state = 'paid' WHERE ticket = ?1", params![ticket.as_str()])
    }

    /// The ticket was released.
    pub(super) fn close(&self, ticket: TicketId) -> bool {
        self.change(
            "UPDATE orders SET state = 'closed' WHERE ticket = ?1 AND state IN ('pending', 'confirmed')",
            params![ticket.as_str()],
        )
    }

    fn change(&self, sql: &str, params: impl rusqlite::Params) -> bool {
        let mut inner = self.inner.lock();
        let changed =
            inner.connection.prepare_cached(sql).and_then(|mut statement| statement.execute(params));
        match changed {
            Ok(rows) => rows > 0,
            Err(error) => {
                inner.first_error.get_or_insert(error);
                false
            }
        }
    }

    /// All rows; an error of any earlier change comes out here, since the rows then prove nothing.
    pub(crate) fn rows(&self) -> rusqlite::Result<Vec<OrderRow>> {
        let mut inner = self.inner.lock();
        if let Some(error) = inner.first_error.take() {
            return Err(error);
        }
        read(&inner.connection, "")
    }
}

fn read(connection: &Connection, condition: &str) -> rusqlite::Result<Vec<OrderRow>> {
    let mut statement =
        connection.prepare(&format!("SELECT ticket, buyer, quantity, state FROM orders {condition}"))?;
    let rows = statement.query_map([], |row| {
        let text: String = row.get(0)?;
        let invalid = |column, text: String| {
            rusqlite::Error::InvalidColumnType(column, text, rusqlite::types::Type::Text)
        };
        let state: String = row.get(3)?;
        let state = match state.as_str() {
            "pending" => RowState::Pending,
            "confirmed" => RowState::Confirmed,
            "paid" => RowState::Paid,
            "closed" => RowState::Closed,
            _ => return Err(invalid(3, state)),
        };
        let ticket = TicketId::parse(&text).ok_or_else(|| invalid(0, text))?;
        Ok(OrderRow { ticket, buyer: row.get(1)?, quantity: row.get(2)?, state })
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> TicketId {
        TicketId::parse("01K00000000000000000000001").unwrap()
    }

    fn database(dir: &tempfile::TempDir) -> Database {
        Database::create(&dir.path().join("orders.sqlite")).unwrap()
    }

    #[test]
    fn a_redelivered_order_is_one_row_confirmed_once() {
        let dir = tempfile::tempdir().unwrap();
        let database = database(&dir);
        for first in [true, false] {
            assert_eq!(database.insert_pending(ticket(), Some(3), 1), first);
            assert_eq!(database.confirm(ticket()), first);
        }
        let rows = database.rows().unwrap();
        assert_eq!((rows.len(), rows[0].state, rows[0].buyer), (1, RowState::Confirmed, Some(3)));
    }

    #[test]
    fn only_rows_nobody_reported_are_pending() {
        let dir = tempfile::tempdir().unwrap();
        let database = database(&dir);
        database.insert_pending(ticket(), Some(3), 1);
        assert_eq!(database.pending().len(), 1);
        database.confirm(ticket());
        assert!(database.pending().is_empty());
    }

    #[test]
    fn a_closed_row_is_not_confirmed_and_a_paid_one_not_closed() {
        let dir = tempfile::tempdir().unwrap();
        let database = database(&dir);
        database.insert_pending(ticket(), None, 1);
        assert!(database.close(ticket()));
        assert!(!database.confirm(ticket()));
        assert!(database.pay(ticket()));
        assert!(!database.close(ticket()));
        assert_eq!(database.rows().unwrap()[0].state, RowState::Paid);
    }

    #[test]
    fn an_error_of_a_change_comes_out_with_the_rows() {
        let dir = tempfile::tempdir().unwrap();
        let database = database(&dir);
        database.inner.lock().connection.execute_batch("ALTER TABLE orders RENAME TO lost").unwrap();
        assert!(!database.insert_pending(ticket(), None, 1));
        assert!(database.rows().is_err());
    }
}
