//! Order rows in SQLite: the store behind [`crate::OrderWorker`], and what a verdict reads afterwards.
//!
//! ```text
//! schema.rs      the table, opening a connection
//! rows.rs        each step as one statement
//! writer.rs      one thread, many steps per transaction
//! db.rs          the handle, `OrderStore` over it
//! ```
//!
//! One process may open a file several times, and several processes one file: SQLite's lock puts their
//! transactions in an order, and every step is one conditional statement.

mod db;
mod rows;
mod schema;
mod writer;

pub use db::{DbError, DbOptions, OrderDb};
pub use rows::{OrderCountsByState, OrderRecord};
pub use schema::Synchronous;

#[cfg(test)]
mod tests;
