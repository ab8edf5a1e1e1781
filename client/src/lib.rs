//! What an order worker depends on: receive, ack, ticket transitions, idempotency helpers.
//!
//! ```text
//! wire/        the types of the HTTP interface, shared with the gateway
//! client/      the API client: pooled connections, retries, bounds
//! ```
#![forbid(unsafe_code)]

pub mod client;
pub mod wire;

pub use client::{BuildError, Client, ClientBuilder, ClientError, Refusal, RetryPolicy, Transitioned};
