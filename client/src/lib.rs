//! What an order worker depends on: receive, ack, ticket transitions, idempotency helpers.
//!
//! ```text
//! wire/          the types of the HTTP interface, shared with the gateway
//! client/        the API client: pooled connections, retries, bounds
//! fleet/         several gateways: finds them, and turns to another one when one is away
//! producer/      sends: numbered batches, transactions and their checks
//! worker/        runs a handler over a group's messages, from all gateways
//! orders/        the order worker's protocol: pending → created → confirmed, or closed
//! loss/          does delivered + dropped + dead + skipped account for every offset?
//! idempotency/   the three classic ways to survive a message that comes twice
//! sqlite/        order rows in SQLite (feature `sqlite`)
//! ```
//!
//! [`Client`] speaks to one gateway's inner listener, [`Fleet`] knows all gateways. [`Worker`] is for any topic; [`OrderWorker`] is for orders
//! and needs an [`OrderStore`], of which `sqlite::OrderDb` is one.
#![forbid(unsafe_code)]

pub mod client;
pub mod fleet;
pub mod idempotency;
pub mod loss;
pub mod orders;
pub mod producer;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod wire;
pub mod worker;

pub use client::{BuildError, Client, ClientBuilder, ClientError, Refusal, RetryPolicy, Transitioned};
pub use fleet::{Fleet, FleetBuilder, Following, Member};
pub use loss::{LossDetector, LossReport};
pub use orders::{OrderStore, OrderWorker};
pub use producer::{ChecksSummary, Producer, SendError, Sent, TransactionProducer};
pub use worker::{Retry, Worker, WorkerStats, WorkerSummary};
