//! The gateway: HTTP in front, ledger and queue behind.
//!
//! ```text
//! config/      settings: file, environment, every error at once
//! listener/    sockets and connections; one thread and listener a core
//! http/        bodies, answers, the one table from refusals to HTTP
//! admission/   the gates, one file each
//! api/         routes and handlers; `api/orders.rs` is the request path as one ordered list
//! ledger/      the one door to the ledger, in this process or in Redis
//! machine/     limits of the machine beside what the settings need
//! policy/      policies in Lua
//! proxy/       paths that an upstream answers, behind the same gates
//! cache/       answers of those that are the same for everybody, asked for once
//! pipeline/    ledger → log: journal, durability, settling, timers, snapshots
//! reload/      the configuration read again, taken whole or not at all
//! metrics.rs   figures for Prometheus
//! state.rs     what the parts share
//! gateway.rs   start and shutdown
//! cli/         the commands
//! ```
//!
//! A request goes one way: listener → admission → ledger → log → answer.
#![forbid(unsafe_code)]

pub mod admission;
pub mod api;
pub mod cache;
pub mod cli;
pub mod config;
mod defects;
pub mod gateway;
pub mod http;
pub mod ledger;
pub mod listener;
mod machine;
pub mod metrics;
pub mod outcomes;
pub mod pipeline;
pub mod policy;
pub mod proxy;
pub mod reload;
pub mod state;

pub use gateway::{Gateway, StartError};
