//! Version precondition: the second update finds the version moved on.

use rusqlite::{Params, Transaction};

/// What became of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a stale version means that this update did not happen"]
pub enum Updated {
    /// The row was at the version and has moved on.
    Done,
    /// No row at that version: moved on before, or never there. Nothing was written.
    Stale,
}

/// Why a conditional update failed.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The condition is no precondition of one row. Roll the transaction back.
    #[error("the update changed {0} rows; its WHERE must name one row by key and version")]
    NotOneRow(usize),
    /// The database's error.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Runs one `UPDATE … SET version = version + 1, … WHERE key = ? AND version = ?`.
///
/// More than one row changed is an error: the transaction must then be rolled back by the caller, which
/// dropping it does.
pub fn update_at_version(
    tx: &Transaction<'_>,
    update: &str,
    params: impl Params,
) -> Result<Updated, VersionError> {
    match tx.prepare_cached(update)?.execute(params)? {
        0 => Ok(Updated::Stale),
        1 => Ok(Updated::Done),
        rows => Err(VersionError::NotOneRow(rows)),
    }
}
