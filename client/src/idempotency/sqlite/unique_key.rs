//! Unique key: the second insert finds the first one's row.

use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_UNIQUE};
use rusqlite::{Error, Params, Transaction};

/// What became of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "whether the row is new decides what else is to be done"]
pub enum Inserted {
    /// The row is new.
    New,
    /// A row with that unique key was there; nothing was written.
    Existing,
}

/// Runs one `INSERT` whose table has a unique key over what identifies the message.
///
/// Only a violated unique or primary key means [`Inserted::Existing`]; other constraints (`NOT NULL`, `CHECK`)
/// stay errors, which `INSERT OR IGNORE` would swallow. A failed statement undoes itself and leaves the
/// transaction usable.
pub fn insert_once(tx: &Transaction<'_>, insert: &str, params: impl Params) -> rusqlite::Result<Inserted> {
    match tx.prepare_cached(insert)?.execute(params) {
        Ok(_rows) => Ok(Inserted::New),
        Err(Error::SqliteFailure(failure, _)) if is_unique_key(failure.extended_code) => {
            Ok(Inserted::Existing)
        }
        Err(error) => Err(error),
    }
}

fn is_unique_key(extended_code: i32) -> bool {
    matches!(extended_code, SQLITE_CONSTRAINT_UNIQUE | SQLITE_CONSTRAINT_PRIMARYKEY | SQLITE_CONSTRAINT_ROWID)
}
