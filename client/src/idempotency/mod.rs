//! The three classic ways to survive a message that comes twice. Delivery is at least once, so a handler that
//! changes a database needs one of them, in the SAME transaction as the change: either both are committed or
//! neither is, whenever the process dies.
//!
//! | way | when | helper |
//! |---|---|---|
//! | unique key | the message makes a new row, and something in it names the row | `sqlite::insert_once` |
//! | version precondition | the message moves an existing row on, and carries (or implies) its version | `sqlite::update_at_version` |
//! | mark of a processed id | anything else: counters, several rows, outside effects noted in a table | `sqlite::once` |
//!
//! Not a way: looking first and writing then, in two transactions; marking before the change; marking after it.
//!
//! The helpers take an open transaction and neither begin nor commit: the caller puts its own writes beside
//! them and commits once.

#[cfg(feature = "sqlite")]
pub mod sqlite;
