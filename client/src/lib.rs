//! What an order worker depends on: receive, ack, ticket transitions, idempotency helpers.
//!
//! ```text
//! wire/        the types of the HTTP interface, shared with the gateway
//! ```
#![forbid(unsafe_code)]

pub mod wire;
