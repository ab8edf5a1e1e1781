//! The API client of the inner listener: worker API and admin API over pooled HTTP/1.1 connections.
//!
//! ```text
//! builder.rs     address, token, time-outs, bounds
//! transport.rs   one call: attempts, retries, Retry-After, bounded answers
//! retry.rs       back-off with full jitter
//! worker.rs      receive, ack, publish, ticket transitions, topics
//! admin.rs       sales, audit, figures, dead letters, gateways, health
//! error.rs       what can go wrong
//! ```
//!
//! Repeating: every call may be repeated without a second effect (transitions and acks are idempotent by
//! contract), so each is retried when the gateway is away or busy; `publish` without a producer id and
//! `begin_transaction` are the exceptions and are retried only where no connection came about. A call that fails with
//! [`ClientError::Timeout`] or [`ClientError::Unavailable`] may have taken effect: repeat it to learn.

mod admin;
mod builder;
mod error;
mod retry;
mod transport;
mod worker;

pub use builder::ClientBuilder;
pub(crate) use builder::normal_url;
pub use error::{BuildError, ClientError};
pub use retry::{Backoff, RetryPolicy};
pub use worker::{Refusal, Transitioned};

use std::sync::Arc;

/// A handle on one gateway's inner listener. Clones share their connections.
///
/// Cancel safety: dropping the future of any call closes its connection. The gateway may or may not have
/// carried the call out, as after [`ClientError::Timeout`]; all calls but `publish` may simply be repeated.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<transport::Transport>,
}

impl Client {
    /// For the inner listener at `base_url`, such as `http://127.0.0.1:8081`, with the default bounds.
    pub fn new(base_url: &str) -> Result<Self, BuildError> {
        ClientBuilder::new(base_url).build()
    }

    /// To set token, time-outs and bounds.
    pub fn builder(base_url: &str) -> ClientBuilder {
        ClientBuilder::new(base_url)
    }

    /// The address it was built for, in lower case and without a slash at its end.
    pub fn base_url(&self) -> &str {
        &self.shared.base_url
    }

    /// The bounds on its retries.
    pub fn retry(&self) -> RetryPolicy {
        self.shared.retry
    }

    /// The same gateway over the same connections, with other bounds on retries.
    #[must_use]
    pub fn with_retry(&self, retry: RetryPolicy) -> Self {
        Self { shared: Arc::new(transport::Transport { retry, ..(*self.shared).clone() }) }
    }
}
