//! The table of orders, and how a connection to it is set up.

use rusqlite::{Connection, Error, ffi};
use std::path::Path;
use std::time::Duration;

/// `PRAGMA user_version` of the schema below.
const VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS orders (
    ticket      TEXT PRIMARY KEY,
    order_id    TEXT NOT NULL,
    sale        TEXT NOT NULL,
    item        TEXT,
    buyer       TEXT NOT NULL,
    quantity    INTEGER NOT NULL,
    status      TEXT NOT NULL CHECK (status IN ('pending', 'confirmed', 'paid', 'closed')),
    version     INTEGER NOT NULL,
    won_at_ms   INTEGER,
    pay_by_ms   INTEGER,
    payment_id  TEXT,
    reason      TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS orders_by_status ON orders (status, ticket);
PRAGMA user_version = 1;
";

/// When a commit is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// At the commit: it survives power loss.
    #[default]
    Full,
    /// At the next checkpoint: it survives the death of the process, not of the machine.
    Normal,
}

/// Opens or creates; refuses a file of a newer schema.
pub(super) fn open(
    path: &Path,
    synchronous: Synchronous,
    busy_timeout: Duration,
) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(busy_timeout)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let level = match synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", level)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        0 => connection.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} COMMIT;"))?,
        VERSION => {}
        newer => {
            let text = format!("{}: schema version {newer}, this program knows {VERSION}", path.display());
            return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_SCHEMA), Some(text)));
        }
    }
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}
