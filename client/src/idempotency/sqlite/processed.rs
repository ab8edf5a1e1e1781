//! Mark of a processed id: a table of what was done, written in the transaction that does it.

use super::unique_key::{Inserted, insert_once};
use rusqlite::{Connection, Transaction, params};

/// What became of a guarded change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Once<T> {
    /// It ran now, with this result. Not done until the caller commits.
    Ran(T),
    /// It was committed before; it did not run.
    Before,
}

/// Creates the table of marks, `tidegate_processed`, unless it is there.
pub fn create_table(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS tidegate_processed (
             consumer TEXT NOT NULL, id TEXT NOT NULL, at_ms INTEGER NOT NULL,
             PRIMARY KEY (consumer, id)
         ) STRICT, WITHOUT ROWID;
         CREATE INDEX IF NOT EXISTS tidegate_processed_at ON tidegate_processed (at_ms);",
    )
}

/// Runs `change` unless `consumer` has a mark for `id`, and marks it, in one transaction.
///
/// `id` must be the same for every copy of a message and for no other: a ticket with its version, or topic,
/// queue and offset. A message id alone is not enough where a producer repeats a publish without a sequence.
/// When `change` fails, roll the transaction back (dropping it does): the mark goes with it.
pub fn once<T, E: From<rusqlite::Error>>(
    tx: &Transaction<'_>,
    consumer: &str,
    id: &str,
    now_ms: u64,
    change: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<Once<T>, E> {
    let mark = "INSERT INTO tidegate_processed (consumer, id, at_ms) VALUES (?1, ?2, ?3)";
    match insert_once(tx, mark, params![consumer, id, now_ms.cast_signed()])? {
        Inserted::New => change(tx).map(Once::Ran),
        Inserted::Existing => Ok(Once::Before),
    }
}

/// Forgets up to `max` marks older than `before_ms`, and answers how many. A mark must be kept for as long as
/// its message can come again: the topic's retention, or until its offset is settled in the group.
pub fn forget_before(tx: &Transaction<'_>, before_ms: u64, max: u32) -> rusqlite::Result<usize> {
    tx.prepare_cached(
        "DELETE FROM tidegate_processed WHERE (consumer, id) IN
             (SELECT consumer, id FROM tidegate_processed WHERE at_ms < ?1 ORDER BY at_ms LIMIT ?2)",
    )?
    .execute(params![before_ms.cast_signed(), max])
}
