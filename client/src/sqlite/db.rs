//! The handle on an order database.

use super::rows::{self, OrderCountsByState, OrderRecord, StoredOrder};
use super::schema::{self, Synchronous};
use super::writer::Writer;
use crate::orders::{OrderRow, OrderStore, Release, RowState};
use crate::wire::{OrderBody, Ticket};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How a file is opened.
#[derive(Debug, Clone, Copy)]
pub struct DbOptions {
    /// When a commit is on disk; at the commit by default.
    pub synchronous: Synchronous,
    /// How long to wait for another process's transaction; 5 s by default.
    pub busy_timeout: Duration,
}

impl Default for DbOptions {
    fn default() -> Self {
        Self { synchronous: Synchronous::Full, busy_timeout: Duration::from_secs(5) }
    }
}

/// Why a step failed. Unless the transaction could not begin, the step may be committed: repeat it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DbError {
    /// The database's error.
    #[error("order database: {0}")]
    Sqlite(Arc<rusqlite::Error>),
    /// The thread could not start.
    #[error("order database: no thread to write it: {0}")]
    Thread(Arc<std::io::Error>),
    /// The writing thread is gone, by a panic that its own message tells.
    #[error("order database: its writing thread has ended; restart the worker")]
    Closed,
}

impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

/// Order rows in one SQLite file (WAL). Clones share one writing thread; many steps share one transaction.
#[derive(Debug, Clone)]
pub struct OrderDb {
    writer: Writer,
}

impl OrderDb {
    /// Opens or creates the file. Blocks on the disk for a moment: call it at start.
    pub fn open(path: impl AsRef<Path>, options: DbOptions) -> Result<Self, DbError> {
        let connection = schema::open(path.as_ref(), options.synchronous, options.busy_timeout)?;
        let writer = Writer::start(connection).map_err(|error| DbError::Thread(Arc::new(error)))?;
        Ok(Self { writer })
    }

    /// Rows by state. Cancel safe: reads only.
    pub async fn counts(&self) -> Result<OrderCountsByState, DbError> {
        self.writer.step(|tx| rows::counts(tx)).await
    }

    /// Up to `max` rows by ticket, those after `after` (empty: from the first). Cancel safe: reads only.
    pub async fn records(&self, after: &str, max: usize) -> Result<Vec<OrderRecord>, DbError> {
        let after = after.to_owned();
        self.writer.step(move |tx| rows::records(tx, &after, max)).await
    }

    /// As [`OrderDb::records`], only rows that are confirmed and not paid.
    pub async fn confirmed(&self, after: &str, max: usize) -> Result<Vec<OrderRow>, DbError> {
        let after = after.to_owned();
        self.writer.step(move |tx| rows::in_state(tx, RowState::Confirmed, &after, max)).await
    }

    /// Every row of a file, without opening it for writing: for a verdict, beside running workers or after
    /// them. Blocks; reads page by page, so that no long transaction holds up the write-ahead log.
    pub fn read_all(path: impl AsRef<Path>) -> Result<Vec<OrderRecord>, DbError> {
        const PAGE: usize = 4096;
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        let mut all: Vec<OrderRecord> = Vec::new();
        loop {
            let after = all.last().map_or("", |record| record.ticket.as_str());
            let page = rows::records(&connection, after, PAGE)?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }
}

impl OrderStore for OrderDb {
    type Error = DbError;

    async fn insert_pending(&self, order: &OrderBody<'_>) -> Result<OrderRow, DbError> {
        let order = StoredOrder {
            ticket: order.ticket.as_ref().to_owned(),
            sale: order.sale.as_ref().to_owned(),
            item: order.item.as_ref().to_owned(),
            buyer: order.buyer.as_ref().to_owned(),
            quantity: order.quantity,
            won_at_ms: order.won_at_ms,
        };
        self.writer.step(move |tx| rows::insert_pending(tx, &order)).await
    }

    async fn confirm(&self, ticket: &Ticket<'_>) -> Result<RowState, DbError> {
        let (id, version, pay_by_ms) = (ticket.ticket.as_ref().to_owned(), ticket.version, ticket.pay_by_ms);
        self.writer.step(move |tx| rows::confirm(tx, &id, version, pay_by_ms)).await
    }

    async fn close(&self, release: &Release<'_>) -> Result<RowState, DbError> {
        let order = StoredOrder {
            ticket: release.ticket.to_owned(),
            sale: release.sale.to_owned(),
            item: String::new(),
            buyer: release.buyer.to_owned(),
            quantity: release.quantity,
            won_at_ms: 0,
        };
        let (version, reason) = (release.version, release.reason.to_owned());
        self.writer.step(move |tx| rows::close(tx, &order, version, &reason)).await
    }

    async fn paid(&self, ticket: &str, payment_id: &str, version: u32) -> Result<Option<RowState>, DbError> {
        let (ticket, payment_id) = (ticket.to_owned(), payment_id.to_owned());
        self.writer.step(move |tx| rows::paid(tx, &ticket, &payment_id, version)).await
    }

    async fn pending(&self, after: &str, max: usize) -> Result<Vec<OrderRow>, DbError> {
        let after = after.to_owned();
        self.writer.step(move |tx| rows::in_state(tx, RowState::Pending, &after, max)).await
    }
}
